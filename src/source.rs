//! The two traits that looking at a guest needs: reading its memory, and its registers.
//! They never write, and never say whether the guest is live, saved or made up.

use crate::addr::GuestPhys;
use crate::error::Result;
use crate::x86::{Regs, Sregs};

/// Bytes to look for, some bits of which may be left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// What each byte is under its mask.
    pub cells: Vec<(u8, u8)>,
    /// Where in it two bytes are that are given whole, and rare as bytes go; one twice where there is no other.
    pub rare: [usize; 2],
}

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

    /// The `width` bytes at each of `addresses`, one after the other in `into`.
    fn read_each(&self, addresses: &[u64], width: usize, into: &mut [u8]) -> Result<()> {
        let mut places = addresses.iter().zip(into.chunks_exact_mut(width.max(1)));
        places.try_for_each(|(at, value)| self.read(GuestPhys(*at), value))
    }

    /// An address up to which, from `from` on, `pattern` nowhere begins that ends before `end`; `from` where nothing is known.
    fn pass_over(&self, from: GuestPhys, _end: GuestPhys, _pattern: &Pattern) -> GuestPhys {
        from
    }
}

/// Something whose vCPUs can be looked at.
pub trait ReadRegs {
    /// How many vCPUs there are; their numbers begin at 0.
    fn vcpus(&self) -> u32;

    /// The general registers of vCPU `id`, or why they cannot be read: it runs, or there is none.
    fn regs(&self, id: u32) -> Result<Regs>;

    /// Its segments, descriptor tables and control registers.
    fn sregs(&self, id: u32) -> Result<Sregs>;
}
