//! Many small values from all over guest memory at once. It looks a region up only where an address is not in the one
//! before, and never knows what the values mean.

#![allow(unsafe_code)] // aligned words are read by one volatile load each, without what a copy of any length asks first

use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress,
};

use crate::addr::GuestPhys;
use crate::error::{Error, Result};

use super::bulk::Poll;
use super::{Memory, size};

/// Bytes of a word.
const WORD: usize = size_of::<u64>();

/// Values between two looks at whether to go on.
const BATCH: usize = 4096;

impl Memory {
    /// The `width` bytes at each of `addresses`, one after the other in `into`.
    pub fn gather(&self, addresses: &[u64], width: usize, into: &mut [u8], poll: Poll<'_>) -> Result<()> {
        if width == 0 {
            return Ok(());
        }
        for (addresses, into) in addresses.chunks(BATCH).zip(into.chunks_mut(BATCH.saturating_mul(width))) {
            self.gather_some(addresses, width, into)?;
            poll()?;
        }
        Ok(())
    }

    /// The same, without a pause.
    pub(super) fn gather_some(&self, addresses: &[u64], width: usize, into: &mut [u8]) -> Result<()> {
        let state = self.state();
        if state.closed {
            return Err(Error::Closed);
        }
        let simple = width == WORD && state.patches.is_empty();
        let done = if simple { aligned_words(&state.map, addresses, into) } else { 0 };
        let mut last: Option<&GuestRegionMmap<()>> = None;
        for (&at, value) in addresses[done..].iter().zip(into[done * width..].chunks_exact_mut(width)) {
            if !last.is_some_and(|region| read_of(region, at, value)) {
                last = state.map.find_region(GuestAddress(at));
                let found = last.is_some_and(|region| read_of(region, at, value));
                if !found && !in_several(&state.map, at, value) {
                    return Err(state.unbacked(GuestPhys(at), width));
                }
            }
            state.hide(at, value);
        }
        Ok(())
    }
}

/// Fills `into` with the words at `addresses`, up to the first that is not aligned, or in no region: says how many.
fn aligned_words(map: &GuestMemoryMmap<()>, addresses: &[u64], into: &mut [u8]) -> usize {
    let (values, _) = into.as_chunks_mut::<WORD>();
    let mut done = 0;
    while let Some(region) = addresses.get(done).and_then(|at| map.find_region(GuestAddress(*at))) {
        let here = words_of(region, &addresses[done..], &mut values[done..]);
        if here == 0 {
            break;
        }
        done += here;
    }
    done
}

/// The same, up to the first that is not in `region`.
fn words_of(region: &GuestRegionMmap<()>, addresses: &[u64], values: &mut [[u8; WORD]]) -> usize {
    let (base, last) = (region.start_addr().0, region.len() - size(WORD));
    for (n, (at, value)) in addresses.iter().zip(&mut *values).enumerate() {
        let offset = at.wrapping_sub(base);
        match usize::try_from(offset) {
            Ok(place) if offset <= last && place.is_multiple_of(WORD) => *value = word_at(region, place).to_ne_bytes(),
            _ => return n,
        }
    }
    addresses.len().min(values.len())
}

/// Fills `value` from `at` on, if all of it is in `region`.
fn read_of(region: &GuestRegionMmap<()>, at: u64, value: &mut [u8]) -> bool {
    let Some(offset) = at.checked_sub(region.start_addr().0) else { return false };
    if region.len().checked_sub(offset).is_none_or(|left| left < size(value.len())) {
        return false;
    }
    match (<&mut [u8; WORD]>::try_from(&mut *value), usize::try_from(offset)) {
        (Ok(word), Ok(offset)) if offset.is_multiple_of(WORD) => {
            *word = word_at(region, offset).to_ne_bytes();
            true
        }
        _ => region.read_slice(value, MemoryRegionAddress(offset)).is_ok(),
    }
}

/// The word at `offset`, a multiple of its size, all of which is in `region`.
#[inline]
#[allow(clippy::cast_ptr_alignment)] // a mapping begins with a page, and the offset is a multiple
fn word_at(region: &GuestRegionMmap<()>, offset: usize) -> u64 {
    debug_assert!(offset.is_multiple_of(WORD) && offset + WORD <= region.size());
    // SAFETY: the caller has checked that the word is in the mapping, which `region` keeps.
    let place = unsafe { region.as_ptr().add(offset) };
    // SAFETY: mapped and aligned (see above); volatile, since the guest may write it meanwhile.
    unsafe { place.cast::<u64>().read_volatile() }
}

/// Fills `value` from `at` on, out of regions that touch.
fn in_several(map: &impl GuestMemoryBackend, at: u64, value: &mut [u8]) -> bool {
    map.read_slice(value, GuestAddress(at)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        let memory = Memory::default();
        for (at, rom) in [(0, false), (0x1000, true), (0x8000, false)] {
            memory.add(GuestPhys(at), 0x1000, rom, |_, _| Ok(())).unwrap();
        }
        for at in [0, 0x1000, 0x8ff8] {
            memory.write(GuestPhys(at), &(at + 1).to_le_bytes()).unwrap();
        }
        memory
    }

    fn words(memory: &Memory, addresses: &[u64]) -> Result<Vec<u64>> {
        let mut bytes = vec![0; addresses.len() * 8];
        memory.gather(addresses, 8, &mut bytes, &|| Ok(()))?;
        Ok(bytes.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap())).collect())
    }

    #[test]
    fn values_come_in_the_order_of_their_addresses() {
        assert_eq!(words(&memory(), &[0x8ff8, 0, 0x1000, 0]).unwrap(), [0x8ff9, 1, 0x1001, 1]);
    }

    #[test]
    fn words_at_odd_addresses_and_values_of_other_widths_are_the_same_bytes() {
        let memory = memory();
        memory.write(GuestPhys(0x100), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]).unwrap();
        assert_eq!(words(&memory, &[0x100, 0x103]).unwrap(), [0x0807_0605_0403_0201, 0x0b0a_0908_0706_0504]);
        let mut bytes = [0; 6];
        memory.gather(&[0x100, 0x108], 3, &mut bytes, &|| Ok(())).unwrap();
        assert_eq!(bytes, [1, 2, 3, 9, 10, 11]);
    }

    #[test]
    fn a_value_may_lie_in_two_regions_that_touch() {
        assert_eq!(words(&memory(), &[0xffc]).unwrap(), [0x1001 << 32]);
    }

    #[test]
    fn the_first_address_without_memory_is_named() {
        let error = words(&memory(), &[0, 0x8ff9, u64::MAX]).unwrap_err();
        assert!(matches!(error, Error::Unbacked { at: 0x8ff9, len: 8, .. }), "{error}");
    }

    #[test]
    fn more_than_a_batch_asks_in_between_whether_to_go_on() {
        let (places, mut values) = (vec![0; 10_000], vec![0; 10_000]);
        let error = memory().gather(&places, 1, &mut values, &|| Err(Error::Closed)).unwrap_err();
        assert!(matches!(error, Error::Closed));
        assert_eq!(words(&memory(), &places).unwrap(), vec![1; 10_000]);
    }
}
