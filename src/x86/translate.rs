//! Linear to physical addresses, by walking the guest's page tables. It never writes accessed or dirty bits.

use super::pte;
use super::regs::{Paging, Sregs};
use crate::addr::{GuestPhys, GuestVirt};

/// Why an address does not translate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageFault {
    /// Bits above the linear address width are not copies of its top bit.
    NotCanonical,
    /// An entry at this level (1 is the last table) is not present.
    NotPresent {
        /// The level.
        level: u8,
    },
    /// A table at this level lies where no memory is.
    Unbacked {
        /// The level.
        level: u8,
    },
}

/// The shape of one paging mode: levels, and index bits and entry size per level.
struct Shape {
    levels: u8,
    index_bits: u32,
    entry: u64,
}

/// Translates `at` under `sregs`; `word` reads a page-table entry of 4 or 8 bytes.
pub fn translate(
    sregs: &Sregs,
    at: GuestVirt,
    mut word: impl FnMut(GuestPhys, u64) -> Option<u64>,
) -> Result<GuestPhys, PageFault> {
    let shape = match sregs.paging() {
        Paging::Off => return Ok(GuestPhys(at.0 & 0xffff_ffff)),
        Paging::Bits32 => Shape { levels: 2, index_bits: 10, entry: 4 },
        Paging::Pae => Shape { levels: 3, index_bits: 9, entry: 8 },
        Paging::Level4 => Shape { levels: 4, index_bits: 9, entry: 8 },
        Paging::Level5 => Shape { levels: 5, index_bits: 9, entry: 8 },
    };
    let address = linear(sregs.paging(), at.0)?;
    let mut table = sregs.cr3 & if sregs.paging() == Paging::Pae { 0xffff_ffe0 } else { pte::ADDRESS };
    for level in (1..=shape.levels).rev() {
        let shift = 12 + u32::from(level - 1) * shape.index_bits;
        let index = address >> shift & ((1 << shape.index_bits) - 1);
        let entry = word(GuestPhys(table + index * shape.entry), shape.entry).ok_or(PageFault::Unbacked { level })?;
        if entry & pte::PRESENT == 0 {
            return Err(PageFault::NotPresent { level });
        }
        if level == 1 || (level <= 3 && entry & pte::LARGE != 0) {
            return Ok(GuestPhys(frame(sregs.paging(), entry, shift) | address & ((1 << shift) - 1)));
        }
        table = entry & if shape.entry == 4 { 0xffff_f000 } else { pte::ADDRESS };
    }
    Err(PageFault::NotPresent { level: 1 })
}

/// The bits of `at` that the mode translates, or `NotCanonical`.
fn linear(paging: Paging, at: u64) -> Result<u64, PageFault> {
    let width = match paging {
        Paging::Level4 => 48,
        Paging::Level5 => 57,
        Paging::Off | Paging::Bits32 | Paging::Pae => return Ok(at & 0xffff_ffff),
    };
    let sign = 64 - width;
    #[allow(clippy::as_conversions)] // reinterpreting the sign bit is the point
    let extended = ((at << sign).cast_signed() >> sign).cast_unsigned();
    if extended == at { Ok(at & ((1 << width) - 1)) } else { Err(PageFault::NotCanonical) }
}

/// The page that an entry names, whose size is `1 << shift` (PSE-36 for 4 MiB pages: SDM vol. 3, table 4-4).
fn frame(paging: Paging, entry: u64, shift: u32) -> u64 {
    let page = if paging == Paging::Bits32 && shift == 22 {
        (entry & 0xffc0_0000) | (entry >> 13 & 0xff) << 32
    } else {
        entry & pte::ADDRESS
    };
    page & !((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::{cr0, cr4, efer};
    use super::*;

    fn long(cr3: u64) -> Sregs {
        Sregs { cr3, cr0: cr0::PE | cr0::PG, cr4: cr4::PAE, efer: efer::LME | efer::LMA, ..Sregs::default() }
    }

    #[test]
    fn four_levels_lead_to_a_small_and_to_a_large_page() {
        let entries = HashMap::from([
            (0x1000 + 8 * 511, 0x2003_u64),
            (0x2000 + 8 * 510, 0x3003),
            (0x3000, 0x4003),
            (0x3008, 0x60_0083),
            (0x4000 + 8 * 5, 0x7003),
        ]);
        let walk = |at| translate(&long(0x1000), GuestVirt(at), |at, _| Some(entries.get(&at.0).copied().unwrap_or(0)));
        assert_eq!(walk(0xffff_ffff_8000_5123), Ok(GuestPhys(0x7123)));
        assert_eq!(walk(0xffff_ffff_8021_2345), Ok(GuestPhys(0x61_2345)));
        assert_eq!(walk(0xffff_ffff_8000_6000), Err(PageFault::NotPresent { level: 1 }));
        assert_eq!(walk(0x0000_8000_0000_0000), Err(PageFault::NotCanonical));
        assert_eq!(walk(0), Err(PageFault::NotPresent { level: 4 }));
    }

    #[test]
    fn thirty_two_bit_tables_translate_too() {
        let sregs = Sregs { cr3: 0x1000, cr0: cr0::PE | cr0::PG, ..Sregs::default() };
        let entries = HashMap::from([(0x1000 + 4 * 768, 0x2003_u64), (0x2000 + 4, 0x9003), (0x1000 + 4, 0x0080_0083)]);
        let walk = |at| translate(&sregs, GuestVirt(at), |at, _| entries.get(&at.0).copied());
        assert_eq!(walk(0xc000_1abc), Ok(GuestPhys(0x9abc)));
        assert_eq!(walk(0x0040_0010), Ok(GuestPhys(0x80_0010)));
        assert_eq!(walk(0xd000_0000), Err(PageFault::Unbacked { level: 2 }));
    }

    #[test]
    fn without_paging_an_address_is_itself() {
        assert_eq!(translate(&Sregs::default(), GuestVirt(0x1234), |_, _| None), Ok(GuestPhys(0x1234)));
    }
}
