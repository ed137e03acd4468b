//! The MSR filter that KVM takes: few ranges of bitmaps, made from any spans. It never decides who answers.

use std::collections::BTreeSet;

use kvm_ioctls::{MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VmFd};

use crate::addr::Span;
use crate::error::{Error, Result};

/// KVM takes bitmaps of up to 0x600 bytes.
const MOST_PER_RANGE: u32 = 0x600 * 8;
/// ...and up to 16 of them.
const MOST_RANGES: usize = 16;

/// MSRs of one direction that are sent to user space, as one bitmap: a clear bit denies.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) base: u32,
    pub(super) count: u32,
    pub(super) bitmap: Vec<u8>,
}

/// Has KVM send the accesses in `watched` (span, reads, writes) to user space.
pub(super) fn install(vm: &VmFd, watched: &[(Span, bool, bool)]) -> Result<()> {
    let reads = ranges(watched.iter().filter(|w| w.1).map(|w| w.0))?;
    let writes = ranges(watched.iter().filter(|w| w.2).map(|w| w.0))?;
    let tag = |flags| move |r| (flags, r);
    let all: Vec<_> = reads
        .iter()
        .map(tag(MsrFilterRangeFlags::READ))
        .chain(writes.iter().map(tag(MsrFilterRangeFlags::WRITE)))
        .collect();
    if all.len() > MOST_RANGES {
        return Err(Error::Invalid(format!("the watched MSRs lie in {} groups; KVM filters {MOST_RANGES}", all.len())));
    }
    let filter: Vec<_> = all
        .iter()
        .map(|(flags, r)| MsrFilterRange { flags: *flags, base: r.base, msr_count: r.count, bitmap: &r.bitmap })
        .collect();
    vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &filter).map_err(Error::host("KVM_X86_SET_MSR_FILTER"))
}

/// The fewest bitmaps that deny exactly the MSRs in `spans`.
pub(super) fn ranges(spans: impl Iterator<Item = Span>) -> Result<Vec<Range>> {
    let mut numbers = BTreeSet::new();
    for span in spans {
        let first = u32::try_from(span.first).map_err(|_| Error::Invalid("an MSR number has 32 bits".into()))?;
        let last = u32::try_from(span.last).map_err(|_| Error::Invalid("an MSR number has 32 bits".into()))?;
        if last - first >= MOST_PER_RANGE {
            return Err(Error::Invalid(format!("KVM filters at most {MOST_PER_RANGE:#x} MSRs in a row")));
        }
        numbers.extend(first..=last);
    }
    let mut found: Vec<Range> = Vec::new();
    for number in numbers {
        match found.last_mut().filter(|r| number - r.base < MOST_PER_RANGE) {
            Some(range) => range.deny(number),
            None => found.push(Range::of(number)),
        }
    }
    Ok(found)
}

impl Range {
    fn of(number: u32) -> Self {
        let mut range = Self { base: number, count: 0, bitmap: Vec::new() };
        range.deny(number);
        range
    }

    /// Extends the range to `number` (allowing what lies between) and denies it.
    fn deny(&mut self, number: u32) {
        let bit = number - self.base;
        self.count = bit + 1;
        let byte = usize::try_from(bit / 8).unwrap_or(0);
        self.bitmap.resize((byte + 1).max(self.bitmap.len()), 0xff);
        self.bitmap[byte] &= !(1 << (bit % 8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_numbers_share_a_bitmap_and_far_ones_do_not() {
        let spans = [(0xc000_0082, 1), (0xc000_0080, 1), (0x10, 2)];
        let found = ranges(spans.iter().map(|(at, n)| Span::new(*at, *n, u64::MAX).expect("small"))).expect("few");
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], Range { base: 0x10, count: 2, bitmap: vec![0b1111_1100] });
        assert_eq!(found[1], Range { base: 0xc000_0080, count: 3, bitmap: vec![0b1111_1010] });
    }

    #[test]
    fn too_long_a_span_is_refused() {
        assert!(ranges([Span::new(0, 0x4000, u64::MAX).expect("span")].into_iter()).is_err());
    }
}
