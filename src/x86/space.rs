//! What decides how linear addresses translate: the paging mode, the root, and the bits of control registers that page
//! walks ask. It never reads a table.

use super::pte;
use super::regs::{Paging, Sregs};
use super::{cr0, cr4, efer};

/// Width of physical addresses where nobody says otherwise: the most that there is (Intel SDM vol. 3, 4.1.4).
pub const PHYSICAL_BITS: u32 = 52;

/// An address space: everything that a page walk needs, in one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Space {
    /// The paging mode.
    pub paging: Paging,
    /// CR3.
    pub cr3: u64,
    /// CR0.WP: ring 0 heeds read-only pages.
    pub wp: bool,
    /// CR4.PSE: 32-bit tables have 4 MiB pages.
    pub pse: bool,
    /// CR4.SMEP: ring 0 executes no page of ring 3.
    pub smep: bool,
    /// CR4.SMAP: ring 0 touches no page of ring 3, unless RFLAGS.AC is set.
    pub smap: bool,
    /// CR4.PKE or CR4.PKS: pages have protection keys.
    pub keys: bool,
    /// EFER.NXE: bit 63 of an entry forbids execution; otherwise it is reserved.
    pub nxe: bool,
    /// MAXPHYADDR: bits of an entry from there up to 51 are reserved.
    pub physical_bits: u32,
}

impl Space {
    /// The address space that a vCPU with these registers is in.
    pub fn of(sregs: &Sregs) -> Self {
        let in_cr4 = |bits: u64| sregs.cr4 & bits != 0;
        Self {
            paging: sregs.paging(),
            cr3: sregs.cr3,
            wp: sregs.cr0 & cr0::WP != 0,
            pse: in_cr4(cr4::PSE),
            smep: in_cr4(cr4::SMEP),
            smap: in_cr4(cr4::SMAP),
            keys: in_cr4(cr4::PKE | cr4::PKS) && sregs.efer & efer::LMA != 0,
            nxe: sregs.efer & efer::NXE != 0,
            physical_bits: PHYSICAL_BITS,
        }
    }

    /// The same with another root: the address space of another process.
    #[must_use]
    pub fn with_cr3(self, cr3: u64) -> Self {
        Self { cr3, ..self }
    }

    /// The same on a processor with physical addresses of `bits` (MAXPHYADDR).
    #[must_use]
    pub fn with_physical_bits(self, bits: u32) -> Self {
        Self { physical_bits: bits.clamp(32, PHYSICAL_BITS), ..self }
    }

    /// Where the root table lies, without the flags and the PCID that share CR3 with it.
    pub fn root(&self) -> u64 {
        self.cr3
            & match self.paging {
                Paging::Off => 0,
                Paging::Bits32 => 0xffff_f000,
                Paging::Pae => 0xffff_ffe0,
                Paging::Level4 | Paging::Level5 => pte::ADDRESS,
            }
    }

    /// How many levels of tables there are.
    pub fn levels(&self) -> u8 {
        match self.paging {
            Paging::Off => 0,
            Paging::Bits32 => 2,
            Paging::Pae => 3,
            Paging::Level4 => 4,
            Paging::Level5 => 5,
        }
    }

    /// Bits of a linear address.
    pub fn linear_bits(&self) -> u32 {
        match self.paging {
            Paging::Off | Paging::Bits32 | Paging::Pae => 32,
            Paging::Level4 => 48,
            Paging::Level5 => 57,
        }
    }

    /// The address as the processor writes it whose low bits are `linear`: sign-extended in 64-bit modes.
    pub fn canonical(&self, linear: u64) -> u64 {
        let unused = 64 - self.linear_bits();
        if unused == 32 {
            return linear & 0xffff_ffff;
        }
        #[allow(clippy::as_conversions)] // reinterpreting the sign bit is the point
        let extended = (linear << unused).cast_signed() >> unused;
        extended.cast_unsigned()
    }

    /// Bytes of a table entry.
    pub fn entry_size(&self) -> u64 {
        if self.paging == Paging::Bits32 { 4 } else { 8 }
    }

    /// Bits of the index into each table.
    pub fn index_bits(&self) -> u32 {
        if self.paging == Paging::Bits32 { 10 } else { 9 }
    }

    /// How many entries a table of `level` has.
    pub fn entries_at(&self, level: u8) -> u64 {
        if self.paging == Paging::Pae && level == 3 { 4 } else { 1 << self.index_bits() }
    }

    /// Where in a linear address the index of `level` begins: also the binary logarithm of what one entry spans.
    pub fn shift(&self, level: u8) -> u32 {
        12 + u32::from(level.saturating_sub(1)) * self.index_bits()
    }
}
