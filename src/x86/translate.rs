//! Linear to physical addresses, for whom the way does not matter. It never checks permissions.

use super::regs::Sregs;
use super::space::Space;
use super::walk::{PageFault, walk};
use crate::addr::{GuestPhys, GuestVirt};

/// Translates `at` under `sregs`; `word` reads a page-table entry of 4 or 8 bytes.
pub fn translate(
    sregs: &Sregs,
    at: GuestVirt,
    word: impl FnMut(GuestPhys, u64) -> Option<u64>,
) -> Result<GuestPhys, PageFault> {
    walk(&Space::of(sregs), at, word).result.map(|page| page.gpa)
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
        let sregs = Sregs { cr3: 0x1000, cr0: cr0::PE | cr0::PG, cr4: cr4::PSE, ..Sregs::default() };
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
