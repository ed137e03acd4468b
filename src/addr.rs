//! Addresses and ranges of them, with checked arithmetic. They never touch memory and never wrap around.

use std::fmt;

use crate::error::{Error, Result};

/// Bytes in a page of the architecture.
pub const PAGE: u64 = 0x1000;

/// A guest-physical address (gpa): what a slot of RAM or a device answers to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestPhys(pub u64);

/// A guest-virtual address (gva): what the guest's page tables translate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestVirt(pub u64);

impl fmt::LowerHex for GuestPhys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl fmt::LowerHex for GuestVirt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl GuestPhys {
    /// The address `by` bytes further on, or `BeyondPhysical`.
    pub fn plus(self, by: u64) -> Result<Self> {
        self.0.checked_add(by).map(Self).ok_or(Error::BeyondPhysical { at: self.0, len: by, bits: 64 })
    }

    /// Is this the first byte of a page?
    pub fn is_page_aligned(self) -> bool {
        self.0.is_multiple_of(PAGE)
    }
}

/// A non-empty range of numbers (addresses, ports, MSRs), both ends included, so that the last one can be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first number of the range.
    pub first: u64,
    /// The last number of the range.
    pub last: u64,
}

impl Span {
    /// `len` numbers from `first` on, the last at most `limit`.
    pub fn new(first: u64, len: u64, limit: u64) -> Result<Self> {
        let last = len.checked_sub(1).and_then(|l| first.checked_add(l)).filter(|last| *last <= limit);
        last.map(|last| Self { first, last })
            .ok_or_else(|| Error::Invalid(format!("{first:#x} + {len:#x} is empty or ends beyond {limit:#x}")))
    }

    /// Is `number` in the range?
    pub fn contains(self, number: u64) -> bool {
        (self.first..=self.last).contains(&number)
    }

    /// Have the two ranges a number in common?
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// The start of the page that `address` is in.
pub fn page_floor(address: u64) -> u64 {
    address & !(PAGE - 1)
}

/// `len` rounded up to whole pages, or `None` past the end of the address space.
pub fn page_ceil(len: u64) -> Option<u64> {
    len.checked_next_multiple_of(PAGE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers as they come, and those around the ends of pages and of the address space.
    fn near_the_ends() -> impl Strategy<Value = u64> {
        let near = (prop::sample::select(vec![0, PAGE, 1 << 52, 1 << 63, u64::MAX]), 0u64..0x1002);
        prop_oneof![any::<u64>(), near.prop_map(|(end, by)| end.wrapping_add(by).wrapping_sub(PAGE))]
    }

    proptest! {
        #[test]
        fn a_span_holds_exactly_its_numbers(first: u64, len in 1u64..1000, probe: u64) {
            if let Ok(span) = Span::new(first, len, u64::MAX) {
                let inside = probe >= first && probe - first < len;
                prop_assert_eq!(span.contains(probe), inside);
            } else {
                prop_assert!(first.checked_add(len - 1).is_none());
            }
        }

        #[test]
        fn spans_overlap_when_they_share_a_number(a in 0u64..64, n in 1u64..32, b in 0u64..64, m in 1u64..32) {
            let (x, y) = (Span::new(a, n, 1000).expect("small"), Span::new(b, m, 1000).expect("small"));
            let shared = (0u64..128).any(|i| x.contains(i) && y.contains(i));
            prop_assert_eq!(x.overlaps(y), shared);
        }

        #[test]
        fn an_address_moves_on_or_says_that_it_cannot(at in near_the_ends(), by in near_the_ends()) {
            match GuestPhys(at).plus(by) {
                Ok(sum) => prop_assert!(sum.0 - by == at && sum.0 >= at),
                Err(Error::BeyondPhysical { at: from, len, .. }) => {
                    prop_assert!((from, len) == (at, by) && u128::from(at) + u128::from(by) > u128::from(u64::MAX));
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
        }

        #[test]
        fn a_span_is_refused_exactly_where_it_is_empty_or_ends_beyond(
            first in near_the_ends(), len in near_the_ends(), limit in near_the_ends(),
        ) {
            let last = (u128::from(first) + u128::from(len)).checked_sub(1).filter(|_| len > 0);
            let fits = last.is_some_and(|last| last <= u128::from(limit));
            let span = Span::new(first, len, limit);
            prop_assert_eq!(span.is_ok(), fits);
            if let Ok(span) = span {
                prop_assert_eq!((span.first, span.last - span.first), (first, len - 1));
                prop_assert!(span.contains(first) && span.contains(span.last) && span.overlaps(span));
                prop_assert_eq!(span.contains(span.last.wrapping_add(1)), span.first == 0 && span.last == u64::MAX);
            }
        }

        #[test]
        fn pages_round_outwards(at in near_the_ends()) {
            prop_assert!(page_floor(at) <= at && at - page_floor(at) < PAGE);
            prop_assert!(GuestPhys(page_floor(at)).is_page_aligned());
            prop_assert_eq!(GuestPhys(at).is_page_aligned(), page_floor(at) == at);
            prop_assert_eq!(page_ceil(at).is_none(), at > page_floor(u64::MAX));
            if let Some(up) = page_ceil(at) {
                prop_assert!(up >= at && up - at < PAGE && up.is_multiple_of(PAGE));
            }
        }
    }

    #[test]
    fn an_empty_span_is_refused() {
        assert!(Span::new(5, 0, 100).is_err());
        assert!(Span::new(99, 2, 99).is_err());
    }
}
