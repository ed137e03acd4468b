//! The results of page walks, kept by page. It never knows whether they are still right: whoever keeps one for longer than
//! a moment does.

use crate::addr::{GuestPhys, GuestVirt, PAGE};

/// How many places there are: at first, and at most. All powers of two.
const FEWEST: usize = 16;
const MOST: usize = 1 << 15;

/// No page has this number.
const NONE: u64 = u64::MAX;

/// Pages of this size and larger ones are kept by parts of this size.
const LARGE: u64 = 2 << 20;

/// The pages that addresses were found in.
#[derive(Clone, Debug, Default)]
pub struct Walks {
    small: Places<PAGE>,
    large: Places<LARGE>,
}

impl Walks {
    /// What `at` was translated to.
    #[inline]
    pub fn get(&self, at: GuestVirt) -> Option<GuestPhys> {
        self.large.get(at).or_else(|| self.small.get(at))
    }

    /// Keeps that `at` translates to `to`, which is in a page of `size` bytes.
    pub fn put(&mut self, at: GuestVirt, to: GuestPhys, size: u64) {
        if size >= LARGE { self.large.put(at, to) } else { self.small.put(at, to) }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many bytes of memory it holds.
    pub fn footprint(&self) -> usize {
        self.small.footprint() + self.large.footprint()
    }
}

/// Pages of one size: each has one place, where the next one that belongs there replaces it.
#[derive(Clone, Debug, Default)]
struct Places<const SIZE: u64> {
    /// Number of the linear page, and address of the physical one.
    places: Vec<(u64, u64)>,
    /// Pages put in since the table has grown.
    news: usize,
}

impl<const SIZE: u64> Places<SIZE> {
    #[inline]
    fn get(&self, at: GuestVirt) -> Option<GuestPhys> {
        let number = at.0 / SIZE;
        let (kept, page) = *self.places.get(self.place(number))?;
        (kept == number).then_some(GuestPhys(page | (at.0 % SIZE)))
    }

    fn put(&mut self, at: GuestVirt, to: GuestPhys) {
        if self.news >= self.places.len() && self.places.len() < MOST {
            self.grow();
        }
        let number = at.0 / SIZE;
        let place = self.place(number);
        self.news += 1;
        self.places[place] = (number, to.0 - to.0 % SIZE);
    }

    fn footprint(&self) -> usize {
        self.places.capacity() * size_of::<(u64, u64)>()
    }

    fn grow(&mut self) {
        let len = (self.places.len() * 8).clamp(FEWEST, MOST);
        let old = std::mem::replace(&mut self.places, vec![(NONE, 0); len]);
        self.news = 0;
        for (number, page) in old.into_iter().filter(|(number, _)| *number != NONE) {
            let place = self.place(number);
            self.places[place] = (number, page);
        }
    }

    #[allow(clippy::as_conversions, clippy::cast_possible_truncation)] // only the low bits count
    fn place(&self, number: u64) -> usize {
        (number as usize) & self.places.len().wrapping_sub(1)
    }
}
