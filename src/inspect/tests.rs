//! Address spaces over made-up memory: reads across borders, mappings against walks of every page, hostile tables.

use proptest::prelude::*;

use super::*;
use crate::addr::{GuestPhys, GuestVirt};
use crate::error::{Error, Result};
use crate::source::ReadMemory;
use crate::x86::regs::Paging;
use crate::x86::{Space, Sregs, cr0, cr4, efer};

/// Memory from address 0 on.
struct Flat(Vec<u8>);

impl ReadMemory for Flat {
    fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<()> {
        let from = usize::try_from(at.0).unwrap();
        let bytes = from.checked_add(into.len()).and_then(|end| self.0.get(from..end));
        let unbacked = Error::Unbacked { at: at.0, len: 1, near: None };
        into.copy_from_slice(bytes.ok_or(unbacked)?);
        Ok(())
    }
}

impl Flat {
    fn with(pages: usize, words: &[(usize, u64)]) -> Self {
        let mut bytes = vec![0; pages << 12];
        for (at, word) in words {
            bytes[*at..*at + 8].copy_from_slice(&word.to_le_bytes());
        }
        Self(bytes)
    }
}

fn long(cr3: u64) -> Space {
    let (cr0, cr4, efer) = (cr0::PE | cr0::PG, cr4::PAE, efer::LME | efer::LMA | efer::NXE);
    Space::of(&Sregs { cr0, cr3, cr4, efer, ..Sregs::default() })
}

const GO_ON: Poll<'static> = &|| Ok(());

/// Two pages side by side that lie the other way round, and one that leads out of memory.
fn swapped() -> Flat {
    let tables = [(0x1000, 0x2007), (0x2000, 0x3007), (0x3000, 0x4007)];
    let pages = [(0x4008, 0x6007), (0x4010, 0x5007), (0x4020, 0xffff_f007)];
    let mut memory = Flat::with(8, &[tables.as_slice(), &pages].concat());
    memory.0[0x6ffc..0x7000].copy_from_slice(b"over");
    memory.0[0x5000..0x5008].copy_from_slice(b"lapping\0");
    memory.0[0x5ffe..0x6000].copy_from_slice(b"zz");
    memory
}

#[test]
fn values_and_strings_go_across_page_borders() {
    let memory = swapped();
    let space = VirtualMemory::new(&memory, long(0x1000));
    assert_eq!(space.read_cstring(GuestVirt(0x1ffc), 100).unwrap(), b"overlapping");
    assert_eq!(space.read_cstring(GuestVirt(0x1ffc), 6).unwrap(), b"overla");
    assert_eq!(space.read_u64(GuestVirt(0x1ffc)).unwrap(), u64::from_le_bytes(*b"overlapp"));
    assert_eq!(space.pieces(GuestVirt(0x1ffc), 8).unwrap(), [(GuestPhys(0x6ffc), 4), (GuestPhys(0x5000), 4)]);
    let mut both = [0; 16];
    space.gather(&[0x1ffc, 0x2000], 8, &mut both, GO_ON).unwrap();
    assert_eq!(&both, b"overlapplapping\0");
}

#[test]
fn what_is_not_mapped_is_told_by_its_own_address() {
    let memory = swapped();
    let space = VirtualMemory::new(&memory, long(0x1000));
    let at = |error: Error| match error {
        Error::Unmapped { at, len, .. } => (at, len),
        other => panic!("{other}"),
    };
    assert_eq!(at(space.read(GuestVirt(0x2ff0), &mut [0; 32]).unwrap_err()), (0x3000, 16));
    assert_eq!(at(space.read_cstring(GuestVirt(0x2ffe), 100).unwrap_err()).0, 0x3000);
    assert_eq!(at(space.read_u8(GuestVirt(0x4123)).unwrap_err()).0, 0x4123);
    assert_eq!(at(space.read_u8(GuestVirt(1 << 47)).unwrap_err()).0, 1 << 47);
    assert_eq!(at(space.gather(&[0x1000, 0x3008], 8, &mut [0; 16], GO_ON).unwrap_err()).0, 0x3008);
    assert_eq!(at(space.read(GuestVirt(u64::MAX), &mut [0; 2]).unwrap_err()).0, u64::MAX);
    assert!(space.check(GuestVirt(0x1000), 0x2000, GO_ON).is_ok());
    assert!(space.check(GuestVirt(0x1000), u64::MAX, GO_ON).is_err());
    let mut cells = [Some(9); 4];
    space.read_present(GuestVirt(0x2ffe), &mut cells);
    assert_eq!(cells, [Some(b'z'), Some(b'z'), None, None]);
}

#[test]
fn kept_walks_are_used_until_they_are_cleared() {
    let mut memory = swapped();
    let space = VirtualMemory::new(&memory, long(0x1000));
    let before = space.read_u8(GuestVirt(0x2000)).unwrap();
    let mut walks = space.into_walks();
    memory.0[0x4010..0x4018].copy_from_slice(&0x7007_u64.to_le_bytes());
    assert_eq!((before, walks.get(GuestVirt(0x2123))), (b'l', Some(GuestPhys(0x5123))));
    let stale = VirtualMemory::with_walks(&memory, long(0x1000), walks.clone());
    assert_eq!(stale.read_u8(GuestVirt(0x2000)).unwrap(), b'l');
    walks.clear();
    let fresh = VirtualMemory::with_walks(&memory, long(0x1000), walks);
    assert_eq!(fresh.read_u8(GuestVirt(0x2000)).unwrap(), 0);
}

#[test]
fn the_table_of_walks_stays_small_however_many_there_are() {
    let mut walks = Walks::default();
    for page in 0..200_000 {
        walks.put(GuestVirt(page << 12), GuestPhys(page << 13), 0x1000);
    }
    assert_eq!(walks.get(GuestVirt(199_999 << 12 | 5)), Some(GuestPhys(199_999 << 13 | 5)));
    assert!(walks.footprint() <= 1 << 20, "{}", walks.footprint());
}

#[test]
fn neighbours_that_are_alike_are_one_range() {
    let memory = swapped();
    let space = VirtualMemory::new(&memory, long(0x1000));
    let found = space.mappings(Tour::default(), GO_ON).unwrap();
    let short: Vec<_> = found.ranges.iter().map(|m| (m.start, m.last, m.gpa.0, m.contiguous)).collect();
    assert_eq!(short, [(0x1000, 0x2fff, 0x6000, false), (0x4000, 0x4fff, 0xffff_f000, true)]);
    let apart = space.mappings(Tour { physical: true, ..Tour::default() }, GO_ON).unwrap();
    assert_eq!(apart.ranges.len(), 3);
    let part = space.mappings(Tour { first: 0x2000, last: 0x3fff, ..Tour::default() }, GO_ON).unwrap();
    assert_eq!(part.ranges.iter().map(|m| (m.start, m.last)).collect::<Vec<_>>(), [(0x2000, 0x2fff)]);
    assert_eq!(space.stretches(0, u64::MAX, &[(0, 0x8000)], GO_ON).unwrap(), [(0x1000, 0x3000)]);
    assert_eq!(space.stretches(0x1800, 0x2800, &[(0, 0x8000)], GO_ON).unwrap(), [(0x1800, 0x2800)]);
    let holes = [(0, 0x5800), (0x6800, 0x7000)];
    assert_eq!(space.stretches(0, u64::MAX, &holes, GO_ON).unwrap(), [(0x1800, 0x2800)]);
}

#[test]
fn a_table_that_points_at_itself_from_every_entry_is_one_range() {
    let words: Vec<_> = (0..512).map(|i| (0x1000 + 8 * i, 0x1007)).collect();
    let memory = Flat::with(2, &words);
    let found = VirtualMemory::new(&memory, long(0x1000)).mappings(Tour::default(), GO_ON).unwrap();
    let short: Vec<_> = found.ranges.iter().map(|m| (m.start, m.last)).collect();
    assert_eq!((short.as_slice(), found.cut), (&[(0, (1 << 47) - 1), (0xffff_8000_0000_0000, u64::MAX)][..], None));
}

#[test]
fn hostile_fan_out_is_cut_short_and_says_so() {
    // Every entry but the last leads to the same table, and no two neighbours at the bottom are alike.
    let flags = |i: u64| if i.is_multiple_of(2) { 0x1007 } else { 0x1005 };
    let words: Vec<_> = (0..511_u64).map(|i| (usize::try_from(0x1000 + 8 * i).unwrap(), flags(i))).collect();
    let memory = Flat::with(2, &words);
    let found = VirtualMemory::new(&memory, long(0x1000)).mappings(Tour::default(), GO_ON).unwrap();
    assert!(matches!(found.cut, Some(Cut::Ranges(most)) if most == found.ranges.len()));
    // All alike but for a hole at the end: few ranges under many tables.
    let words: Vec<_> = (0..511).map(|i| (0x1000 + 8 * i, 0x1007)).collect();
    let memory = Flat::with(2, &words);
    let few = Tour { most: 1000, ..Tour::default() };
    let found = VirtualMemory::new(&memory, long(0x1000)).mappings(few, GO_ON).unwrap();
    assert_eq!(found.cut, Some(Cut::Tables(1000)));
    assert!(found.ranges.len() < 1000, "{}", found.ranges.len());
}

#[test]
fn a_tour_can_be_stopped() {
    let words: Vec<_> = (0..511).map(|i| (0x1000 + 8 * i, 0x1007)).collect();
    let memory = Flat::with(2, &words);
    let stopped = VirtualMemory::new(&memory, long(0x1000)).mappings(Tour::default(), &|| Err(Error::Closed));
    assert!(matches!(stopped, Err(Error::Closed)));
}

#[test]
fn without_paging_all_of_4_gib_is_mapped() {
    let memory = Flat::with(1, &[(8, 7)]);
    let space = VirtualMemory::new(&memory, Space::of(&Sregs::default()));
    assert_eq!(space.space().paging, Paging::Off);
    let found = space.mappings(Tour::default(), GO_ON).unwrap();
    assert_eq!(found.ranges.iter().map(|m| (m.start, m.last)).collect::<Vec<_>>(), [(0, 0xffff_ffff)]);
    assert_eq!(space.read_u64(GuestVirt(8)).unwrap(), 7);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Pages at random places, of three sizes: what a tour lists is what a walk finds, page by page.
    #[test]
    fn mappings_are_what_walks_find(
        small in prop::collection::vec((0usize..512, 0u64..16, 0u64..8), 0..40),
        large in prop::collection::vec((1usize..8, 0u64..4, 0u64..8), 0..6),
        physical: bool,
    ) {
        let flags = |bits: u64| 1 | (bits & 3) << 1 | (bits & 4) << 61;
        let mut words = vec![(0x1000, 0x2007), (0x2000, 0x3007), (0x3000, 0x4007)];
        words.extend(small.iter().map(|(slot, page, bits)| (0x4000 + 8 * slot, page << 12 | flags(*bits))));
        words.extend(large.iter().map(|(slot, page, bits)| (0x3000 + 8 * slot, page << 21 | 0x80 | flags(*bits))));
        let memory = Flat::with(8, &words);
        let space = VirtualMemory::new(&memory, long(0x1000));
        let found = space.mappings(Tour { physical, ..Tour::default() }, GO_ON).unwrap();
        prop_assert!(found.cut.is_none() && found.ranges.is_sorted_by_key(|m| m.start));
        for at in (0..16 << 20).step_by(0x1000) {
            let listed = found.ranges.iter().find(|m| (m.start..=m.last).contains(&at));
            let walked = space.walk(GuestVirt(at)).result.ok();
            prop_assert_eq!(listed.is_some(), walked.is_some());
            let (Some(listed), Some(page)) = (listed, walked) else { continue };
            prop_assert_eq!((listed.page_size, listed.rights.writable), (page.size, page.writable));
            prop_assert_eq!((listed.rights.user, listed.rights.executable), (page.user, page.executable));
            if listed.contiguous {
                prop_assert_eq!(listed.gpa.0 + (at - listed.start), page.gpa.0);
            }
        }
        prop_assert!(!physical || found.ranges.iter().all(|m| m.contiguous));
    }
}
