//! Page walks against a second walker, written differently, and hand-made tables of every mode.

use std::collections::HashMap;

use proptest::prelude::*;

use super::access::{Access, Denied};
use super::regs::Paging;
use super::space::{PHYSICAL_BITS, Space};
use super::walk::{Page, PageFault, Walk, walk};
use crate::addr::{GuestPhys, GuestVirt};

const P: u64 = 1;
const W: u64 = 2;
const U: u64 = 4;
const PS: u64 = 0x80;
const NX: u64 = 1 << 63;

fn space(paging: Paging, cr3: u64) -> Space {
    Space {
        paging,
        cr3,
        wp: true,
        pse: true,
        smep: false,
        smap: false,
        keys: false,
        nxe: true,
        physical_bits: PHYSICAL_BITS,
    }
}

fn go(space: &Space, at: u64, entries: &[(u64, u64)]) -> Walk {
    let entries: HashMap<_, _> = entries.iter().copied().collect();
    walk(space, GuestVirt(at), |at, _| Some(entries.get(&at.0).copied().unwrap_or(0)))
}

fn page(walk: &Walk) -> Page {
    walk.result.expect("it translates")
}

#[test]
fn five_levels_are_walked_and_every_entry_is_told() {
    let five = space(Paging::Level5, 0x1000 | 0xfff); // flags and a PCID share CR3
    let entries = [(0x1ff8, 0x2007), (0x2000, 0x3007), (0x3008, 0x4007), (0x4010, 0x5007), (0x5018, 0x7067)];
    let at = 0xffff_0000_4040_3abc;
    let found = go(&five, at, &entries);
    assert_eq!(page(&found).gpa, GuestPhys(0x7abc));
    assert_eq!((page(&found).size, page(&found).accessed, page(&found).dirty), (0x1000, true, true));
    let told: Vec<_> = found.entries().iter().map(|e| (e.level, e.at.0, e.value)).collect();
    assert_eq!(
        told,
        [(5, 0x1ff8, 0x2007), (4, 0x2000, 0x3007), (3, 0x3008, 0x4007), (2, 0x4010, 0x5007), (1, 0x5018, 0x7067)]
    );
    assert_eq!(go(&five, 0x0100_0000_0000_0000, &entries).result, Err(PageFault::NotCanonical));
}

#[test]
fn pages_of_1_gib_and_2_mib_keep_the_address_in_them() {
    let four = space(Paging::Level4, 0x1000);
    let entries = [(0x1000, 0x2003), (0x2008, 0x8000_0083), (0x2000, 0x3003), (0x3008, 0x0060_0083)];
    let large = page(&go(&four, 0x4123_4567, &entries));
    assert_eq!((large.gpa, large.size), (GuestPhys(0x8123_4567), 1 << 30));
    let middle = page(&go(&four, 0x0021_2345, &entries));
    assert_eq!((middle.gpa, middle.size), (GuestPhys(0x0061_2345), 1 << 21));
}

#[test]
fn pae_has_a_root_of_four_entries_that_allow_and_forbid_nothing() {
    let pae = space(Paging::Pae, 0x1020);
    let entries = [(0x1038, 0x2001), (0x2000, 0x3007), (0x3008, 0x9007), (0x2008, NX | 0x0080_0000 | PS | P | W)];
    let small = page(&go(&pae, 0xc000_1abc, &entries));
    assert_eq!((small.gpa, small.writable, small.user, small.executable), (GuestPhys(0x9abc), true, true, true));
    let large = page(&go(&pae, 0xc020_0010, &entries));
    assert_eq!((large.gpa, large.size, large.executable, large.user), (GuestPhys(0x0080_0010), 1 << 21, false, false));
    for bad in [0x2003, 0x2005, 0x2021, 0x2081, 0x2101, NX | 0x2001] {
        let fault = go(&pae, 0xc000_0000, &[(0x1038, bad)]).result;
        assert!(matches!(fault, Err(PageFault::Reserved { level: 3, .. })), "{bad:#x}: {fault:?}");
    }
}

#[test]
fn pages_of_4_mib_reach_above_4_gib_by_pse_36_and_need_cr4_pse() {
    let old = space(Paging::Bits32, 0x1000);
    let entries = [(0x1004, 0x0080_0000 | 0x3 << 13 | PS | P | W), (0x80_0000 | 0x6000, 0x9007)];
    let large = page(&go(&old, 0x0040_0010, &entries));
    assert_eq!((large.gpa, large.size), (GuestPhys(0x3_0080_0010), 1 << 22));
    let without = Space { pse: false, ..old };
    assert_eq!(page(&go(&without, 0x0040_0010, &entries)).gpa, GuestPhys(0x9010));
    let bit_21 = [(0x1004, 0x0080_0000 | 1 << 21 | PS | P)];
    assert_eq!(go(&old, 0x0040_0000, &bit_21).result, Err(PageFault::Reserved { level: 2, bits: 1 << 21 }));
    let narrow = old.with_physical_bits(32);
    assert!(matches!(go(&narrow, 0x0040_0000, &entries).result, Err(PageFault::Reserved { level: 2, bits: 0x6000 })));
}

#[test]
fn reserved_bits_end_a_walk_at_their_level() {
    let four = space(Paging::Level4, 0x1000);
    let cases = [
        (vec![(0x1000, 0x2003 | PS)], four, 4, PS),
        (vec![(0x1000, 0x2003), (0x2000, 0x4000_0083 | 1 << 13)], four, 3, 1 << 13),
        (vec![(0x1000, 0x2003), (0x2000, 0x3003), (0x3000, 0x20_0083 | 1 << 20)], four, 2, 1 << 20),
        (vec![(0x1000, NX | 0x2003)], Space { nxe: false, ..four }, 4, NX),
        (vec![(0x1000, 0x2003 | 1 << 46)], four.with_physical_bits(46), 4, 1 << 46),
    ];
    for (entries, space, level, bits) in cases {
        assert_eq!(go(&space, 0, &entries).result, Err(PageFault::Reserved { level, bits }), "{entries:x?}");
    }
}

#[test]
fn tables_that_point_at_themselves_end_at_the_last_level() {
    for paging in [Paging::Level4, Paging::Level5] {
        let own = walk(&space(paging, 0x1000), GuestVirt(0), |_, _| Some(0x1003));
        assert_eq!((page(&own).gpa, own.entries().len()), (GuestPhys(0x1000), usize::from(space(paging, 0).levels())));
    }
}

#[test]
fn protection_keys_are_told_where_they_are_on() {
    let four = space(Paging::Level4, 0x1000);
    let entries = [(0x1000, 0x2007), (0x2000, 0x3007), (0x3000, 0x4007), (0x4000, 0x5007 | 9 << 59)];
    assert_eq!(page(&go(&four, 0, &entries)).key, None);
    assert_eq!(page(&go(&Space { keys: true, ..four }, 0, &entries)).key, Some(9));
}

/// The rights of a page, and what an access to it gives (Intel SDM vol. 3, 4.6.1).
#[test]
fn rights_are_those_of_the_manual() {
    let four = space(Paging::Level4, 0);
    let (smap, smep) = (Space { smap: true, ..four }, Space { smep: true, ..four });
    let lenient = Space { wp: false, ..four };
    let page = |rights: &str| Page {
        gpa: GuestPhys(0),
        size: 0x1000,
        writable: rights.contains('w'),
        user: rights.contains('u'),
        executable: rights.contains('x'),
        global: false,
        accessed: false,
        dirty: false,
        key: None,
    };
    let by = |ring3: bool, how: char| Access { user: ring3, write: how == 'w', execute: how == 'x', ac: how == 'A' };
    let cases = [
        (four, "", by(true, 'r'), Err(Denied::Supervisor)),
        (four, "u", by(true, 'r'), Ok(())),
        (four, "u", by(true, 'w'), Err(Denied::ReadOnly)),
        (lenient, "u", by(true, 'w'), Err(Denied::ReadOnly)),
        (four, "", by(false, 'w'), Err(Denied::ReadOnly)),
        (lenient, "", by(false, 'w'), Ok(())),
        (four, "uw", by(true, 'x'), Err(Denied::NoExecute)),
        (four, "ux", by(false, 'x'), Ok(())),
        (smep, "ux", by(false, 'x'), Err(Denied::Smep)),
        (smep, "ux", by(true, 'x'), Ok(())),
        (smap, "uw", by(false, 'w'), Err(Denied::Smap)),
        (smap, "uw", by(false, 'A'), Ok(())),
        (smap, "uw", by(true, 'w'), Ok(())),
        (smap, "ux", by(false, 'x'), Ok(())),
    ];
    for (space, rights, access, expected) in cases {
        assert_eq!(access.check(&space, &page(rights)), expected, "{rights} {access:?}");
    }
}

#[test]
fn error_codes_are_those_that_a_processor_pushes() {
    let four = space(Paging::Level4, 0);
    let plain = Space { nxe: false, ..four };
    let write = Access { write: true, user: true, ..Access::default() };
    let fetch = Access { execute: true, ..Access::default() };
    let missing = Ok(PageFault::NotPresent { level: 1 });
    assert_eq!(write.error_code(&four, missing), Some(0b110));
    assert_eq!(write.error_code(&four, Err(Denied::ReadOnly)), Some(0b111));
    assert_eq!(write.error_code(&four, Ok(PageFault::Reserved { level: 2, bits: 1 })), Some(0b1111));
    assert_eq!(fetch.error_code(&four, Err(Denied::NoExecute)), Some(0b10001));
    assert_eq!(fetch.error_code(&plain, missing), Some(0));
    assert_eq!(fetch.error_code(&plain, Ok(PageFault::NotCanonical)), None);
}

/// A walker of 4-level tables by recursion over slices of the address, that knows nothing of the other one's tables.
fn model(entry: &impl Fn(u64) -> u64, table: u64, at: u64, level: u32, nxe: bool) -> Result<(u64, u64, bool), u32> {
    let value = entry(table + at / 512_u64.pow(level - 1) / 4096 % 512 * 8);
    let span = 4096 * 512_u64.pow(level - 1);
    let is_leaf = level == 1 || level < 4 && value / 128 % 2 == 1;
    let bad_root = level == 4 && value / 128 % 2 == 1;
    let base = value % (1 << 52) / 4096 * 4096;
    let misplaced = is_leaf && level > 1 && base % span / 8192 != 0;
    match value % 2 {
        0 => Err(level),
        _ if bad_root || misplaced || value >> 63 == 1 && !nxe => Err(10 + level),
        _ if is_leaf => Ok((base / span * span + at % span, span, value / 2 % 2 == 1)),
        _ => model(entry, base, at, level - 1, nxe).map(|(gpa, size, w)| (gpa, size, w && value / 2 % 2 == 1)),
    }
}

/// An entry of few bits, so that tables meet: where it points, and its flags.
fn entries() -> impl Strategy<Value = Vec<u64>> {
    let flags = prop::sample::select(vec![0, P, P | W, P | W | U, P | PS, P | W | PS, NX | P | W, P | W | 0x2000]);
    prop::collection::vec((0u64..4, flags).prop_map(|(table, flags)| table << 12 | flags), 8)
}

proptest! {
    #[test]
    fn the_walker_and_a_second_one_agree(pool in entries(), at in 0u64..1 << 47, nxe: bool) {
        let entry = |at: u64| pool[usize::try_from((at >> 3 ^ at >> 12) % 8).expect("below 8")];
        let four = Space { nxe, ..space(Paging::Level4, 0) };
        let found = walk(&four, GuestVirt(at), |at, size| (size == 8).then(|| entry(at.0)));
        match (found.result, model(&entry, 0, at, 4, nxe)) {
            (Ok(page), Ok((gpa, size, writable))) => {
                prop_assert_eq!((page.gpa.0, page.size, page.writable), (gpa, size, writable));
            }
            (Err(PageFault::NotPresent { level }), Err(at)) => prop_assert_eq!(u32::from(level), at),
            (Err(PageFault::Reserved { level, .. }), Err(at)) => prop_assert_eq!(u32::from(level) + 10, at),
            (one, other) => prop_assert!(false, "{one:?} and {other:?}"),
        }
    }

    #[test]
    fn no_tables_of_any_mode_make_a_walk_long_or_lead_beyond_52_bits(
        mode in 0usize..5, cr3: u64, at: u64, seed: u64, bits in 30u32..60, pse: bool,
    ) {
        let modes = [Paging::Off, Paging::Bits32, Paging::Pae, Paging::Level4, Paging::Level5];
        let any = Space { pse, ..space(modes[mode], cr3).with_physical_bits(bits) };
        let found = walk(&any, GuestVirt(at), |at, size| {
            let value = (at.0 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | P;
            Some(if size == 4 { value & 0xffff_ffff } else { value })
        });
        prop_assert!(found.entries().len() <= usize::from(any.levels()));
        prop_assert!(found.result.is_err() || found.result.is_ok_and(|page| page.gpa.0 < 1 << 52));
    }
}
