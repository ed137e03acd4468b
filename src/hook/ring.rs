//! A ring of fixed-size records between one vCPU's thread, which fills it, and whoever reads it, without a copy.
//! It never waits by itself, and never overwrites a record that somebody still looks at.
//!
//! ```text
//!            tail                next              head
//!   free ...  | lent as batches   | waiting         |  ... free
//! ```
//!
//! All three only grow; a record's slot is its number modulo the number of slots. The words are atomics, so that nothing
//! here can be a data race; the order is made by `head` and `tail` alone:
//!
//! - the producer writes the words of slot `head`, then stores `head + 1` (Release). A reader that loads `head` (Acquire)
//!   therefore sees the words of every record below it.
//! - a slot is handed out once, under the lock of the cursor, and `tail` passes it (Release) only when the batches up to
//!   it have been dropped. The producer loads `tail` (Acquire) before it writes, so every use of a batch happens before
//!   the words are written again: a batch can be shown to foreign code as plain memory.
//! - `wake_at` is compared by the producer without a fence: a reader that sleeps in the very moment of the last event may
//!   sleep on. Who sleeps therefore looks again now and then (see `Trace::wait`).

#![allow(unsafe_code)] // zeroed words come from the allocator as `u64`, so that a large ring costs nothing until used

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};

/// The most memory of one ring, in 64-bit words: a gibibyte.
const MOST_WORDS: u64 = 1 << 27;

/// What one side writes and the other only reads, in a cache line of its own.
#[repr(align(64))]
#[derive(Debug, Default)]
struct Line(AtomicU64);

/// What has been handed out.
#[derive(Debug, Default)]
struct Cursor {
    /// The first record that nobody has been given.
    next: u64,
    /// What has been given and not been freed, in order: its first record, one past its last, and whether it is back.
    lent: VecDeque<(u64, u64, bool)>,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the ring.
    Kept,
    /// It is in the ring, and somebody waits for this one.
    Awaited,
    /// There was no room.
    Full,
}

/// The ring of one vCPU.
#[derive(Debug)]
pub struct Ring {
    words: Box<[AtomicU64]>,
    /// Words per record.
    width: usize,
    /// The number of slots, a power of two, less one.
    mask: u64,
    /// From so many records on it counts as full; there may be room for more.
    limit: u64,
    head: Line,
    tail: Line,
    dropped: AtomicU64,
    wake_at: AtomicU64,
    cursor: Mutex<Cursor>,
    freed: Condvar,
}

impl Ring {
    /// An empty ring of records of `width` words, full from `limit` records on, with room for at least `spare` more.
    pub fn new(width: usize, limit: u64, spare: u64) -> Result<Arc<Self>> {
        let slots = limit.max(1).checked_add(spare).and_then(u64::checked_next_power_of_two);
        let words = u64::try_from(width).ok().and_then(|width| slots?.checked_mul(width));
        let (Some(slots), Some(count)) = (slots, words.filter(|words| *words <= MOST_WORDS)) else {
            return Err(Error::Invalid(format!(
                "a ring of {limit} records of {} bytes; all of one vCPU's take 1 GiB at most",
                width.saturating_mul(8)
            )));
        };
        Ok(Arc::new(Self {
            words: zeroed(usize::try_from(count).unwrap_or(0)),
            width,
            mask: slots - 1,
            limit: limit.max(1),
            head: Line::default(),
            tail: Line::default(),
            dropped: AtomicU64::new(0),
            wake_at: AtomicU64::new(u64::MAX),
            cursor: Mutex::default(),
            freed: Condvar::new(),
        }))
    }

    fn cursor(&self) -> MutexGuard<'_, Cursor> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self, first: u64, end: u64) -> &[AtomicU64] {
        let place = |number: u64| usize::try_from(number).unwrap_or(0) * self.width;
        let from = place(first & self.mask);
        &self.words[from..from + place(end - first)]
    }

    /// Adds a record, which `fill` writes; it is given the words, and the record's number, in which those that were lost
    /// count. Only for the vCPU's own thread.
    #[inline]
    pub fn push(&self, fill: impl FnOnce(&[AtomicU64], u64)) -> Pushed {
        let head = self.head.0.load(Ordering::Relaxed);
        if head - self.tail.0.load(Ordering::Acquire) > self.mask {
            return Pushed::Full;
        }
        fill(self.slots(head, head + 1), self.sequence());
        self.head.0.store(head + 1, Ordering::Release);
        let wake_at = self.wake_at.load(Ordering::Relaxed);
        let is_awaited = head + 1 >= wake_at
            && self.wake_at.compare_exchange(wake_at, u64::MAX, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_awaited { Pushed::Awaited } else { Pushed::Kept }
    }

    /// The number of the next record: how many there were, with those that were lost.
    pub fn sequence(&self) -> u64 {
        self.head.0.load(Ordering::Relaxed) + self.dropped.load(Ordering::Relaxed)
    }

    /// Counts a record that was lost, or put elsewhere. Only for the vCPU's own thread.
    pub fn count_dropped(&self) {
        self.dropped.store(self.dropped.load(Ordering::Relaxed) + 1, Ordering::Relaxed); // one thread writes
    }

    /// How many records there was no room for.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// How many records have been put in.
    pub fn recorded(&self) -> u64 {
        self.head.0.load(Ordering::Acquire)
    }

    /// How many records nobody has been given yet.
    pub fn waiting(&self) -> u64 {
        let next = self.cursor().next;
        self.recorded() - next
    }

    /// Are there as many records, with those that are lent, as it is meant to hold?
    #[inline]
    pub fn is_full(&self) -> bool {
        self.recorded().saturating_sub(self.tail.0.load(Ordering::Acquire)) >= self.limit
    }

    /// Waits until it is not full; false at the end of `patience`.
    pub fn wait_for_room(&self, patience: Duration) -> bool {
        let waited = self.freed.wait_timeout_while(self.cursor(), patience, |_| self.is_full());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        !self.is_full()
    }

    /// Has `push` say so when another `more` records wait than have been handed out.
    pub fn wake_after(&self, more: u64) {
        self.wake_at.store(self.cursor().next.saturating_add(more), Ordering::Relaxed);
    }

    /// Hands out what waits, as far as it lies in one piece, and at most `most` records.
    pub fn take(self: &Arc<Self>, most: u64) -> Option<Batch> {
        let mut cursor = self.cursor();
        let first = cursor.next;
        let piece = self.mask + 1 - (first & self.mask);
        let end = first + most.min(self.recorded() - first).min(piece);
        (first < end).then(|| {
            cursor.next = end;
            cursor.lent.push_back((first, end, false));
            Batch { ring: Arc::clone(self), first, end }
        })
    }

    /// A word of the first record that waits: what several rings are merged by.
    pub fn peek(&self, column: usize) -> Option<u64> {
        let next = self.cursor().next;
        (next < self.recorded()).then(|| self.word(next, column))
    }

    /// How many of the records that wait have at most `bound` in a column that never shrinks.
    pub fn up_to(&self, column: usize, bound: u64) -> u64 {
        let cursor = self.cursor();
        let (mut low, mut high) = (cursor.next, self.recorded());
        while low < high {
            let middle = low.midpoint(high);
            if self.word(middle, column) <= bound { low = middle + 1 } else { high = middle }
        }
        low - cursor.next
    }

    fn word(&self, number: u64, column: usize) -> u64 {
        self.slots(number, number + 1)[column].load(Ordering::Relaxed)
    }

    fn give_back(&self, first: u64) {
        let mut cursor = self.cursor();
        if let Ok(at) = cursor.lent.binary_search_by_key(&first, |lent| lent.0) {
            cursor.lent[at].2 = true;
        }
        while let Some((_, end, true)) = cursor.lent.front().copied() {
            cursor.lent.pop_front();
            self.tail.0.store(end, Ordering::Release);
        }
        drop(cursor);
        self.freed.notify_all();
    }
}

fn zeroed(count: usize) -> Box<[AtomicU64]> {
    let words: *mut [u64] = Box::into_raw(vec![0_u64; count].into_boxed_slice());
    let words = std::ptr::slice_from_raw_parts_mut(words.cast::<AtomicU64>(), count);
    // SAFETY: from Box::into_raw just above; AtomicU64 has the size and the bits of u64, and its alignment on x86-64.
    unsafe { Box::from_raw(words) }
}

const _: () = assert!(align_of::<AtomicU64>() == align_of::<u64>());

/// Records in one piece, whose slots are free again when it is dropped.
#[derive(Debug)]
pub struct Batch {
    ring: Arc<Ring>,
    first: u64,
    end: u64,
}

impl Batch {
    /// All words of its records, which nobody writes as long as it lives.
    pub fn words(&self) -> &[AtomicU64] {
        self.ring.slots(self.first, self.end)
    }

    /// How many records it holds.
    pub fn count(&self) -> u64 {
        self.end - self.first
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.ring.give_back(self.first);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn push(ring: &Ring, value: u64) -> Pushed {
        ring.push(|words, _| words.iter().for_each(|word| word.store(value, Ordering::Relaxed)))
    }

    fn values(batch: &Batch, width: usize) -> Vec<u64> {
        batch.words().iter().step_by(width).map(|word| word.load(Ordering::Relaxed)).collect()
    }

    proptest! {
        /// Against a queue: what is pushed comes out in order, and nothing lent is written before it is given back.
        #[test]
        fn a_ring_is_a_queue_that_never_writes_what_is_lent(
            steps in prop::collection::vec((0u8..4, 1u64..9), 0..200), limit in 1u64..20, width in 1usize..4,
        ) {
            let ring = Ring::new(width, limit, 0).expect("small");
            let slots = limit.next_power_of_two();
            let (mut pushed, mut taken, mut freed) = (0, 0, 0);
            let mut lent: VecDeque<(Batch, Vec<u64>)> = VecDeque::new();
            for (what, n) in steps {
                match what {
                    0 | 1 => for _ in 0..n {
                        let expected = if pushed - freed < slots { Pushed::Kept } else { Pushed::Full };
                        prop_assert_eq!(push(&ring, pushed), expected);
                        pushed += u64::from(expected == Pushed::Kept);
                    },
                    2 => if let Some(batch) = ring.take(n) {
                        prop_assert!(batch.count() <= n);
                        let expected: Vec<_> = (taken..taken + batch.count()).collect();
                        prop_assert_eq!(values(&batch, width), expected.clone());
                        taken += batch.count();
                        lent.push_back((batch, expected));
                    } else {
                        prop_assert_eq!(taken, pushed);
                    },
                    _ => if let Some((batch, _)) = lent.pop_front() {
                        freed += batch.count();
                    },
                }
                prop_assert_eq!(ring.waiting(), pushed - taken);
                prop_assert_eq!(ring.is_full(), pushed - freed >= limit);
                for (batch, expected) in &lent {
                    prop_assert_eq!(&values(batch, width), expected);
                }
            }
        }
    }

    #[test]
    fn a_million_records_pass_between_two_threads_in_order_and_whole() {
        const COUNT: u64 = 1_000_000;
        let ring = Ring::new(4, 1000, 0).expect("small");
        let producer = {
            let ring = Arc::clone(&ring);
            std::thread::spawn(move || {
                for n in 0..COUNT {
                    while ring.is_full() {
                        ring.wait_for_room(Duration::from_millis(50));
                    }
                    assert_ne!(push(&ring, n), Pushed::Full);
                }
            })
        };
        let mut expected = 0;
        while expected < COUNT {
            let Some(batch) = ring.take(300) else {
                std::thread::yield_now();
                continue;
            };
            for record in batch.words().chunks(4) {
                assert!(record.iter().all(|word| word.load(Ordering::Relaxed) == expected));
                expected += 1;
            }
        }
        producer.join().expect("no panic");
        assert_eq!((ring.dropped(), ring.waiting()), (0, 0));
    }

    #[test]
    fn batches_that_come_back_in_any_order_free_their_slots_in_order() {
        let ring = Ring::new(1, 4, 0).expect("small");
        (0..4).for_each(|n| assert_eq!(push(&ring, n), Pushed::Kept));
        let (first, second) = (ring.take(2).expect("two"), ring.take(2).expect("two"));
        drop(second);
        assert_eq!(push(&ring, 4), Pushed::Full);
        drop(first);
        assert_eq!(push(&ring, 4), Pushed::Kept);
        assert!(!ring.is_full());
    }

    #[test]
    fn a_reader_is_woken_once_by_the_record_that_it_waits_for() {
        let ring = Ring::new(1, 8, 0).expect("small");
        ring.wake_after(2);
        assert_eq!([0, 1, 2].map(|n| push(&ring, n)), [Pushed::Kept, Pushed::Awaited, Pushed::Kept]);
    }

    #[test]
    fn a_ring_of_more_than_a_gibibyte_is_refused() {
        assert!(Ring::new(8, 1 << 40, 0).is_err());
        assert!(Ring::new(8, u64::MAX, 1).is_err());
    }
}
