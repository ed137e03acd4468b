//! Searching guest memory: a match may lie across pieces and across regions that touch, never across a hole. It holds one
//! piece and the matches, gives way between two pieces, and copies only where a match may be, if the memory can tell.

use std::ops::ControlFlow;

use crate::addr::GuestPhys;
use crate::error::{Error, Result};
use crate::source::ReadMemory;

use super::needle::Needle;
use super::{Memory, Poll, size};

/// Most bytes per piece: the copy and what is searched in it fit into the second-level cache together.
const PIECE: usize = 64 << 10;

/// Bytes of a piece where matches may be far apart.
const SMALL: usize = 4 << 10;

/// Bytes passed over between two looks at whether to go on.
const STRIDE: u64 = 1 << 20;

/// More matches than this are an error where no limit is given: nobody meant them, and memory would run out.
const MOST_FOUND: usize = 1 << 22;

/// A match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Address of its first byte.
    pub at: GuestPhys,
    /// Which pattern it is.
    pub which: usize,
}

/// Where to look, and how much to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Where {
    /// First address.
    pub first: GuestPhys,
    /// One past the last address.
    pub end: GuestPhys,
    /// Matches begin at multiples of this.
    pub align: u64,
    /// Stop after this many.
    pub limit: Option<usize>,
}

impl Memory {
    /// All matches in the order of their addresses. What is removed meanwhile is passed over.
    pub fn search(&self, needle: &Needle, place: Where, poll: Poll<'_>) -> Result<Vec<Found>> {
        search(self, &self.stretches(place.first, place.end), needle, place, poll)
    }
}

/// The matches in `stretches` of any `memory`, which do not touch: addresses are whatever that memory takes them for.
pub fn search(
    memory: &impl ReadMemory,
    stretches: &[(u64, u64)],
    needle: &Needle,
    place: Where,
    poll: Poll<'_>,
) -> Result<Vec<Found>> {
    if place.align == 0 {
        return Err(Error::Invalid("align is at least 1".into()));
    }
    let mut found = Vec::new();
    for (first, end) in stretches {
        match search_stretch(memory, (*first, *end), needle, place, poll, &mut found) {
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(Ok(())) => break,
            ControlFlow::Break(Err(error)) => return Err(error),
        }
    }
    found.sort_unstable(); // patterns of different lengths are found in the order of their ends
    Ok(found)
}

fn search_stretch(
    memory: &impl ReadMemory,
    (first, end): (u64, u64),
    needle: &Needle,
    place: Where,
    poll: Poll<'_>,
    found: &mut Vec<Found>,
) -> ControlFlow<Result<()>> {
    let beyond = size(needle.longest() - 1); // of a match that begins with the last byte of a piece
    let mut piece = size(SMALL);
    let mut bytes: Vec<u8> = Vec::new();
    let mut at = first;
    while at < end {
        if found.len() >= place.limit.unwrap_or(usize::MAX) {
            return ControlFlow::Break(Ok(()));
        }
        if let Err(error) = poll() {
            return ControlFlow::Break(Err(error));
        }
        let begin = needle.pattern().map_or(at, |pattern| {
            let stride = at.saturating_add(beyond).saturating_add(STRIDE);
            memory.pass_over(GuestPhys(at), GuestPhys(end.min(stride)), pattern).0
        });
        piece = if begin - at > 16 * piece { size(SMALL) } else { (2 * piece).min(size(PIECE).max(beyond)) };
        let past = end.min(begin.saturating_add(piece));
        bytes.resize(usize::try_from(end.min(past.saturating_add(beyond)) - begin).unwrap_or(0), 0);
        if memory.read(GuestPhys(begin), &mut bytes).is_err() {
            bytes.clear(); // removed meanwhile: a hole
        }
        needle.each(&bytes, |from, _, which| {
            let at = begin + size(from);
            if at < past && at.is_multiple_of(place.align) {
                keep_match(found, at, which, place)
            } else {
                ControlFlow::Continue(())
            }
        })?;
        at = past;
    }
    ControlFlow::Continue(())
}

fn keep_match(found: &mut Vec<Found>, at: u64, which: usize, place: Where) -> ControlFlow<Result<()>> {
    match place.limit {
        Some(limit) if found.len() >= limit => return ControlFlow::Break(Ok(())),
        None if found.len() >= MOST_FOUND => {
            return ControlFlow::Break(Err(Error::Invalid(format!(
                "more than {MOST_FOUND} matches: give a limit, a longer pattern or a narrower range"
            ))));
        }
        _ => found.push(Found { at: GuestPhys(at), which }),
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Memory with holes: each address has a byte or none.
    struct Sparse(Vec<Option<u8>>);

    impl ReadMemory for Sparse {
        fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<()> {
            for (i, byte) in into.iter_mut().enumerate() {
                let cell = usize::try_from(at.0).ok().and_then(|at| self.0.get(at + i)).copied().flatten();
                *byte = cell.ok_or(Error::Unbacked { at: at.0, len: 1, near: None })?;
            }
            Ok(())
        }
    }

    impl Sparse {
        fn stretches(&self) -> Vec<(u64, u64)> {
            let mut stretches: Vec<(u64, u64)> = Vec::new();
            for (at, _) in (0_u64..).zip(&self.0).filter(|(_, cell)| cell.is_some()) {
                match stretches.last_mut() {
                    Some((_, end)) if *end == at => *end += 1,
                    _ => stretches.push((at, at + 1)),
                }
            }
            stretches
        }

        fn naive(&self, patterns: &[Vec<u8>], align: usize) -> Vec<Found> {
            let at = |i: usize| GuestPhys(size(i));
            let matches = |i: usize, p: &[u8]| (0..p.len()).all(|j| self.0.get(i + j) == Some(&Some(p[j])));
            let all = (0..self.0.len()).step_by(align).flat_map(|i| (0..patterns.len()).map(move |which| (i, which)));
            let found = all.filter(|(i, which)| matches(*i, &patterns[*which]));
            found.map(|(i, which)| Found { at: at(i), which }).collect()
        }
    }

    const EVERYWHERE: Where = Where { first: GuestPhys(0), end: GuestPhys(u64::MAX), align: 1, limit: None };

    fn look(memory: &Sparse, needle: &Needle, place: Where) -> Result<Vec<Found>> {
        search(memory, &memory.stretches(), needle, place, &|| Ok(()))
    }

    /// Memory whose interesting part lies across the border between two pieces.
    fn around_a_border(cells: &[Option<u8>]) -> Sparse {
        let mut all = vec![Some(9); PIECE - cells.len() / 2];
        all.extend_from_slice(cells);
        Sparse(all)
    }

    fn patterns() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(0u8..2, 1..6), 1..5)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_match_is_found_once_and_none_across_a_hole(
            cells in prop::collection::vec(prop::option::weighted(0.9, 0u8..2), 1..120),
            patterns in patterns(),
            align in 1usize..4,
        ) {
            let memory = around_a_border(&cells);
            let place = Where { align: size(align), ..EVERYWHERE };
            let many = look(&memory, &Needle::many(&patterns).unwrap(), place).unwrap();
            prop_assert_eq!(&many, &memory.naive(&patterns, align));
            let one = look(&memory, &Needle::exact(&patterns[0]).unwrap(), place).unwrap();
            prop_assert_eq!(one, memory.naive(&patterns[..1], align));
        }

        #[test]
        fn open_digits_match_anything(bytes in prop::collection::vec(any::<u8>(), 3..40), at in 0usize..40) {
            let at = at % (bytes.len() - 2);
            let memory = Sparse(bytes.iter().copied().map(Some).collect());
            let text = format!("{:02x} ?? {:x}?", bytes[at], bytes[at + 2] >> 4);
            let found = look(&memory, &Needle::parse(&text).unwrap(), EVERYWHERE).unwrap();
            let fits = |w: &[u8]| w[0] == bytes[at] && w[2] >> 4 == bytes[at + 2] >> 4;
            let expected: Vec<_> = bytes.windows(3).enumerate().filter(|(_, w)| fits(w)).map(|(i, _)| size(i)).collect();
            prop_assert_eq!(found.iter().map(|f| f.at.0).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_pattern_longer_than_a_piece_is_found() {
        let pattern: Vec<u8> = (0..PIECE * 2 + 5).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let mut cells = vec![Some(0xff); 3 * PIECE / 2];
        cells.extend(pattern.iter().copied().map(Some));
        let found = look(&Sparse(cells), &Needle::exact(&pattern).unwrap(), EVERYWHERE).unwrap();
        assert_eq!(found, [Found { at: GuestPhys(size(3 * PIECE / 2)), which: 0 }]);
    }

    #[test]
    fn a_limit_ends_the_search_and_a_poll_can() {
        let memory = Sparse(vec![Some(0); 100]);
        let needle = Needle::exact(&[0]).unwrap();
        for limit in [0, 1, 99, 100, 101] {
            let found = look(&memory, &needle, Where { limit: Some(limit), ..EVERYWHERE }).unwrap();
            assert_eq!(found.len(), limit.min(100));
        }
        let stopped = search(&memory, &[(0, 100)], &needle, EVERYWHERE, &|| Err(Error::Closed));
        assert!(matches!(stopped, Err(Error::Closed)));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in ["", "  ", "4", "48 8", "zz", "??", "4? ?8", "hello", "+4"] {
            assert!(Needle::parse(text).is_err(), "{text:?}");
        }
        assert!(Needle::exact(&[]).is_err());
        assert!(Needle::many(&[]).is_err());
        assert!(Needle::many(&[vec![1], vec![]]).is_err());
        assert!(Needle::parse("488b ?? C3 ?").is_ok());
        let memory = Sparse(vec![Some(0)]);
        assert!(look(&memory, &Needle::exact(&[0]).unwrap(), Where { align: 0, ..EVERYWHERE }).is_err());
    }
}
