//! The trait that looking at a guest needs: reading its memory.
//! It never writes, and never says whether the guest is live, saved or made up.

use crate::addr::GuestPhys;
use crate::error::Result;

/// Something that guest-physical memory can be read from.
pub trait ReadMemory {
    /// Fills `into` from `at` on, or says `Unbacked`.
    fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<()>;

    /// The little-endian word at `at`.
    fn read_u64(&self, at: GuestPhys) -> Result<u64> {
        let mut word = [0; 8];
        self.read(at, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }
}
