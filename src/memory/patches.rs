//! Bytes that the host has put into guest memory for itself and hides from whoever reads through it: breakpoints.
//! It never knows what they are for.

use vm_memory::{Bytes, GuestAddress};

use crate::addr::GuestPhys;
use crate::error::Result;

use super::{Memory, State, size};

/// One byte that is not what it seems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Patch {
    /// What the guest is to meet.
    byte: u8,
    /// What everybody else is to see.
    original: u8,
    /// It is taken back for a moment.
    is_lifted: bool,
}

impl State {
    /// Puts back into `bytes`, which were read at `at`, what patches hide. A byte that the guest has overwritten is its own.
    pub(super) fn hide(&self, at: u64, bytes: &mut [u8]) {
        if self.patches.is_empty() || bytes.is_empty() {
            return;
        }
        for (place, patch) in self.patches.range(at..=at.saturating_add(size(bytes.len() - 1))) {
            let byte = usize::try_from(place - at).ok().and_then(|n| bytes.get_mut(n));
            if let Some(byte) = byte.filter(|byte| **byte == patch.byte) {
                *byte = patch.original;
            }
        }
    }

    /// Is there a patch among the `len` bytes at `at`?
    pub(super) fn is_patched(&self, at: u64, len: usize) -> bool {
        !self.patches.is_empty()
            && len > 0
            && self.patches.range(at..=at.saturating_add(size(len - 1))).next().is_some()
    }

    /// `bytes`, which are to be written at `at`, with the patches kept in them; what they hide is changed instead.
    pub(super) fn keep_patches(&mut self, at: u64, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let last = at.saturating_add(size(bytes.len()).saturating_sub(1));
        for (place, patch) in self.patches.range_mut(at..=last) {
            if let Some(byte) = usize::try_from(place - at).ok().and_then(|n| bytes.get_mut(n)) {
                patch.original = *byte;
                *byte = if patch.is_lifted { *byte } else { patch.byte };
            }
        }
        bytes
    }

    fn byte(&self, at: GuestPhys) -> Option<u8> {
        let mut byte = [0];
        self.map.read_slice(&mut byte, GuestAddress(at.0)).ok()?;
        Some(byte[0])
    }

    fn put(&self, at: GuestPhys, byte: u8) -> Result<()> {
        self.map.write_slice(&[byte], GuestAddress(at.0)).map_err(|_| self.unbacked(at, 1))
    }
}

impl Memory {
    /// Has the guest meet `byte` at `at`, where everybody else goes on seeing what is there now. One that the guest has
    /// overwritten is put over that.
    pub fn patch(&self, at: GuestPhys, byte: u8) -> Result<()> {
        let mut state = self.change()?;
        let now = state.byte(at).ok_or_else(|| state.unbacked(at, 1))?;
        let before = state.patches.get(&at.0).copied().unwrap_or_default();
        if before.is_lifted {
            return Ok(());
        }
        let original = if state.is_patched(at.0, 1) && now == before.byte { before.original } else { now };
        state.put(at, byte)?;
        state.patches.insert(at.0, Patch { byte, original, is_lifted: false });
        Ok(())
    }

    /// Takes a patch back, unless the guest has overwritten it. Does nothing where none is.
    pub fn unpatch(&self, at: GuestPhys) -> Result<()> {
        let mut state = self.change()?;
        match state.patches.remove(&at.0) {
            Some(patch) if state.byte(at) == Some(patch.byte) => state.put(at, patch.original),
            _ => Ok(()),
        }
    }

    /// Takes a patch back for a moment: nobody may run the guest who is to meet it.
    pub fn lift(&self, at: GuestPhys) -> Result<()> {
        let mut state = self.change()?;
        let now = state.byte(at);
        let Some(patch) = state.patches.get_mut(&at.0).filter(|patch| now == Some(patch.byte)) else { return Ok(()) };
        patch.is_lifted = true;
        let original = patch.original;
        state.put(at, original)
    }

    /// Puts back what was lifted, if the patch is still wanted and the guest has not overwritten what was there.
    pub fn lower(&self, at: GuestPhys) -> Result<()> {
        let mut state = self.change()?;
        let now = state.byte(at);
        let Some(patch) = state.patches.get_mut(&at.0).filter(|patch| patch.is_lifted) else { return Ok(()) };
        patch.is_lifted = false;
        let Patch { byte, original, .. } = *patch;
        if now == Some(original) { state.put(at, byte) } else { Ok(()) }
    }

    /// Does the guest meet a patch at `at`? Not where it has overwritten it.
    pub fn is_patched(&self, at: GuestPhys) -> bool {
        let state = self.state();
        state.patches.get(&at.0).is_some_and(|patch| state.byte(at) == Some(patch.byte))
    }

    /// Is a patch wanted at `at`, whether it is lifted, overwritten or there?
    pub fn has_patch(&self, at: GuestPhys) -> bool {
        self.state().patches.contains_key(&at.0)
    }

    /// The byte that the guest meets at `at`: the patch, where one is.
    pub fn raw_byte(&self, at: GuestPhys) -> Option<u8> {
        self.state().byte(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Source;

    fn memory() -> Memory {
        let memory = Memory::default();
        memory.add_from(GuestPhys(0), 0x2000, false, &Source::default(), |_, _| Ok(())).unwrap();
        memory.write(GuestPhys(0x10), &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        memory
    }

    #[test]
    fn a_patch_is_met_by_the_guest_and_seen_by_nobody_else() {
        let memory = memory();
        memory.patch(GuestPhys(0x12), 0xcc).unwrap();
        assert_eq!(memory.read_vec(GuestPhys(0x10), 8).unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
        let mut word = [0; 8];
        memory.gather(&[0x10], 8, &mut word, &|| Ok(())).unwrap();
        assert_eq!(word, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(memory.raw_byte(GuestPhys(0x12)), Some(0xcc));
        memory.unpatch(GuestPhys(0x12)).unwrap();
        assert_eq!(memory.raw_byte(GuestPhys(0x12)), Some(3));
    }

    #[test]
    fn what_the_host_writes_over_a_patch_is_what_is_hidden() {
        let memory = memory();
        memory.patch(GuestPhys(0x12), 0xcc).unwrap();
        memory.write(GuestPhys(0x11), &[9, 9, 9]).unwrap();
        assert_eq!(memory.raw_byte(GuestPhys(0x12)), Some(0xcc));
        assert_eq!(memory.read_vec(GuestPhys(0x10), 5).unwrap(), [1, 9, 9, 9, 5]);
        memory.unpatch(GuestPhys(0x12)).unwrap();
        assert_eq!(memory.read_vec(GuestPhys(0x10), 5).unwrap(), [1, 9, 9, 9, 5]);
    }

    #[test]
    fn what_the_guest_writes_over_a_patch_is_its_own() {
        let memory = memory();
        memory.patch(GuestPhys(0x12), 0xcc).unwrap();
        memory.state().put(GuestPhys(0x12), 0x55).unwrap();
        assert_eq!(memory.read_vec(GuestPhys(0x12), 1).unwrap(), [0x55]);
        assert!(!memory.is_patched(GuestPhys(0x12)));
        memory.unpatch(GuestPhys(0x12)).unwrap();
        assert_eq!(memory.raw_byte(GuestPhys(0x12)), Some(0x55));
    }

    #[test]
    fn a_patch_that_the_guest_has_overwritten_is_put_over_that() {
        let memory = memory();
        memory.patch(GuestPhys(0x12), 0xcc).unwrap();
        memory.state().put(GuestPhys(0x12), 0x55).unwrap();
        memory.patch(GuestPhys(0x12), 0xcc).unwrap();
        assert_eq!(memory.read_vec(GuestPhys(0x12), 1).unwrap(), [0x55]);
        assert_eq!(memory.raw_byte(GuestPhys(0x12)), Some(0xcc));
        memory.unpatch(GuestPhys(0x12)).unwrap();
        assert_eq!(memory.raw_byte(GuestPhys(0x12)), Some(0x55));
    }

    #[test]
    fn a_patch_that_is_lifted_stays_so_when_it_is_wanted_once_more() {
        let memory = memory();
        memory.patch(GuestPhys(0x12), 0xcc).unwrap();
        memory.lift(GuestPhys(0x12)).unwrap();
        memory.patch(GuestPhys(0x12), 0xcc).unwrap();
        assert_eq!(memory.raw_byte(GuestPhys(0x12)), Some(3));
        memory.lower(GuestPhys(0x12)).unwrap();
        assert_eq!(memory.raw_byte(GuestPhys(0x12)), Some(0xcc));
    }

    #[test]
    fn a_patch_is_lifted_and_lowered_again() {
        let memory = memory();
        memory.patch(GuestPhys(0x12), 0xcc).unwrap();
        memory.lift(GuestPhys(0x12)).unwrap();
        assert_eq!(memory.raw_byte(GuestPhys(0x12)), Some(3));
        memory.lower(GuestPhys(0x12)).unwrap();
        assert_eq!(memory.raw_byte(GuestPhys(0x12)), Some(0xcc));
        memory.unpatch(GuestPhys(0x12)).unwrap();
        memory.lower(GuestPhys(0x12)).unwrap();
        assert_eq!(memory.raw_byte(GuestPhys(0x12)), Some(3));
    }
}
