//! The first pass of a search: where a pattern may begin. It looks at guest memory in place, and never copies anything; what
//! it says is no match yet, since the guest may write meanwhile.

#![allow(unsafe_code)] // vectors and bytes of guest memory are read by volatile loads from its mapping

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_cmpeq_epi8, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8,
};

use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestRegionMmap};

use crate::addr::GuestPhys;
use crate::source::Pattern;

use super::{Memory, size};

/// Bytes of a vector.
#[cfg(target_arch = "x86_64")]
const VECTOR: usize = size_of::<__m256i>();

/// Places that are looked at in one go.
#[cfg(target_arch = "x86_64")]
const BLOCK: usize = 2 * VECTOR;

impl Memory {
    /// The first address from `from` on at which `pattern` may begin and end before `end`, or the first that has not been
    /// looked at.
    pub(super) fn first_maybe(&self, from: GuestPhys, end: GuestPhys, pattern: &Pattern) -> GuestPhys {
        let state = self.state();
        let Some(region) = state.map.find_region(GuestAddress(from.0)) else { return from };
        let base = region.start_addr().0;
        let end = end.0.min(base.saturating_add(region.len()));
        // What a patch hides is not what lies there.
        let end = state.patches.range(from.0..end.max(from.0)).next().map_or(end, |(at, _)| *at);
        let past = (end + 1).checked_sub(size(pattern.cells.len())).filter(|past| *past > from.0);
        let offset = |at: u64| usize::try_from(at - base).ok();
        let Some((first, past)) = past.and_then(|past| offset(from.0).zip(offset(past))) else { return from };
        GuestPhys(base + size(first_in(region, first, past, pattern)))
    }
}

/// The first offset in `first..past` at which `pattern` is, or the first that has not been looked at. What begins before
/// `past` ends in `region`.
fn first_in(region: &GuestRegionMmap<()>, first: usize, past: usize, pattern: &Pattern) -> usize {
    debug_assert!(first < past && past - 1 + pattern.cells.len() <= region.size());
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, and all that is looked at lies in the mapping, as the caller says.
        return unsafe { first_by_vectors(region.as_ptr(), first, past, pattern) };
    }
    first
}

/// A vector that may lie anywhere.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Unaligned(__m256i);

/// As `first_in`. Both of the pattern's rare bytes are looked for at 64 places at once, and its other bytes where they are.
///
/// # Safety
/// What begins at offsets from `place` before `past` and is as long as the pattern is mapped.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn first_by_vectors(place: *const u8, first: usize, past: usize, pattern: &Pattern) -> usize {
    let wanted = pattern.rare.map(|at| _mm256_set1_epi8(pattern.cells[at].0.cast_signed()));
    let mut at = first;
    while at + BLOCK <= past {
        let both = |n: usize| {
            let [one, other] = pattern.rare.map(|rare| {
                // SAFETY: a vector of places before `past`, each with a whole pattern behind it.
                let there = unsafe { place.add(at + n + rare) };
                // SAFETY: as above; volatile, since the guest may write it meanwhile.
                unsafe { there.cast::<Unaligned>().read_volatile() }.0
            });
            _mm256_and_si256(_mm256_cmpeq_epi8(one, wanted[0]), _mm256_cmpeq_epi8(other, wanted[1]))
        };
        let (low, high) = (both(0), both(VECTOR));
        if _mm256_movemask_epi8(_mm256_or_si256(low, high)) != 0 {
            let bits = |half| u64::from(_mm256_movemask_epi8(half).cast_unsigned());
            let mut places = bits(low) | bits(high) << VECTOR;
            while places != 0 {
                let begin = at + usize::try_from(places.trailing_zeros()).unwrap_or(0);
                // SAFETY: it begins before `past`.
                let there = unsafe { place.add(begin) };
                // SAFETY: as above.
                if unsafe { is_at(there, pattern) } {
                    return begin;
                }
                places &= places - 1;
            }
        }
        at += BLOCK;
    }
    at
}

/// Does `pattern` lie at `place`?
///
/// # Safety
/// So many bytes are mapped there.
#[cfg(target_arch = "x86_64")]
unsafe fn is_at(place: *const u8, pattern: &Pattern) -> bool {
    pattern.cells.iter().enumerate().all(|(n, (value, mask))| {
        // SAFETY: the caller says so.
        let cell = unsafe { place.add(n) };
        // SAFETY: as above; volatile, since the guest may write it meanwhile.
        let byte = unsafe { cell.read_volatile() };
        byte & mask == *value
    })
}

#[cfg(test)]
mod tests {
    use crate::memory::{Needle, Source, Where};

    use super::*;

    fn memory(len: u64) -> Memory {
        let memory = Memory::default();
        for at in [0, len, 4 * len] {
            memory.add_from(GuestPhys(at), len, false, &Source::default(), |_, _| Ok(())).unwrap();
        }
        memory
    }

    fn found(memory: &Memory, text: &str) -> Vec<u64> {
        let everywhere = Where { first: GuestPhys(0), end: GuestPhys(u64::MAX), align: 1, limit: None };
        let found = memory.search(&Needle::parse(text).unwrap(), everywhere, &|| Ok(())).unwrap();
        found.into_iter().map(|found| found.at.0).collect()
    }

    #[test]
    fn a_pattern_is_found_at_every_place_of_a_region_and_across_two_that_touch() {
        let memory = memory(0x4000);
        let pattern = [0x48, 0x8b, 5, 0x77, 0x0f];
        for at in (0..140).chain(0x3f80..0x4080).chain(0x7f80..0x7ffc).chain([0x10000, 0x13ffb]) {
            memory.write(GuestPhys(at), &pattern).unwrap();
            assert_eq!(found(&memory, "48 8b 05 ?? 0f"), [at], "{at:#x}");
            memory.write(GuestPhys(at), &[0; 5]).unwrap();
        }
        assert!(found(&memory, "48 8b 05 ?? 0f").is_empty());
    }

    #[test]
    fn matches_far_apart_and_close_together_are_all_found() {
        let memory = memory(0x40_0000);
        let places: Vec<u64> = (0..38).map(|n| n * n * n * 120 + 7).chain(0x60_0000..0x60_0100).collect();
        for at in &places {
            memory.write(GuestPhys(*at), &[0xee]).unwrap();
        }
        assert_eq!(found(&memory, "ee"), places);
    }

    #[test]
    fn what_a_patch_hides_is_found_and_what_it_shows_the_guest_is_not() {
        let memory = memory(0x10_0000);
        memory.write(GuestPhys(0x5_4321), &[0x48, 0x90, 0xc3]).unwrap();
        memory.patch(GuestPhys(0x5_4322), 0xcc).unwrap();
        assert_eq!(found(&memory, "48 90 c3"), [0x5_4321]);
        assert!(found(&memory, "48 cc c3").is_empty());
        memory.write(GuestPhys(0x7_0000), &[0x48, 0x90, 0xc3]).unwrap();
        assert_eq!(found(&memory, "48 90 c3"), [0x5_4321, 0x7_0000]);
    }
}
