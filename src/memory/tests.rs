//! Memory against a plain model of it: a set of pages. No kernel is asked.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::addr::PAGE;

/// What is done to memory: pages, so that cases are small.
#[derive(Clone, Debug)]
enum Step {
    Add { page: u64, pages: u64, rom: bool },
    Remove { page: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u64..24, 1u64..6, any::<bool>()).prop_map(|(page, pages, rom)| Step::Add { page, pages, rom }),
        (0u64..28).prop_map(|page| Step::Remove { page }),
    ]
}

fn at(page: u64) -> GuestPhys {
    GuestPhys(page * PAGE)
}

/// First page, to how many pages and whether ROM.
type Model = BTreeMap<u64, (u64, bool)>;

fn page_is(model: &Model, page: u64) -> Option<bool> {
    model.iter().find(|(first, (pages, _))| (**first..**first + pages).contains(&page)).map(|(_, (_, rom))| *rom)
}

fn apply(memory: &Memory, model: &mut Model, slots: &mut BTreeMap<u32, u64>, step: &Step) {
    match *step {
        Step::Add { page, pages, rom } => {
            let free = (page..page + pages).all(|p| page_is(model, p).is_none());
            let mut slot = None;
            let added = memory.add(at(page), pages * PAGE, rom, |_, number| {
                slot = Some(number);
                Ok(())
            });
            assert_eq!(added.is_ok(), free, "{step:?} in {model:?}");
            assert_eq!(slot.is_some(), free, "the kernel is asked for what can be");
            if let Some(slot) = slot {
                assert_eq!(slots.insert(slot, page), None, "a slot has one region");
                model.insert(page, (pages, rom));
            }
        }
        Step::Remove { page } => {
            let removed = memory.remove(at(page), |info| {
                assert_eq!(slots.remove(&info.slot), Some(page));
                Ok(())
            });
            assert_eq!(removed.is_ok(), model.remove(&page).is_some(), "{step:?} in {model:?}");
        }
    }
}

fn agree(memory: &Memory, model: &Model) {
    let regions: Vec<_> = memory.regions().iter().map(|r| (r.at.0 / PAGE, (r.len / PAGE, r.rom))).collect();
    assert_eq!(regions, model.clone().into_iter().collect::<Vec<_>>());
    for page in 0..32 {
        let there = page_is(model, page);
        assert_eq!(memory.region_at(at(page)).map(|r| r.rom), there);
        assert_eq!(memory.read_vec(at(page), 1).is_ok(), there.is_some());
        let ram_end = (page..64).find(|p| page_is(model, *p) != Some(false)).unwrap();
        assert_eq!(memory.contiguous_end(at(page)), at(ram_end));
        let end = (page..64).find(|p| page_is(model, *p).is_none()).unwrap();
        assert!(memory.check(at(page), (end - page) * PAGE + 1).is_err());
        assert!(memory.check(at(page), (end - page) * PAGE).is_ok());
        let stretch = memory.stretches(at(page), at(32)).first().copied();
        assert_eq!(stretch.filter(|(first, _)| *first == at(page).0), there.map(|_| (at(page).0, at(end).0)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn regions_come_and_go_as_in_a_set_of_pages(steps in prop::collection::vec(step(), 0..24)) {
        let (memory, mut model, mut slots) = (Memory::default(), Model::new(), BTreeMap::new());
        for step in &steps {
            apply(&memory, &mut model, &mut slots, step);
            agree(&memory, &model);
        }
    }

    #[test]
    fn copies_may_overlap(from in 0u64..0x7000, to in 0u64..0x7000, len in 0u64..0x1000) {
        let memory = two_pages_and_more();
        let before = memory.read_vec(GuestPhys(0), 0x8000).unwrap();
        memory.copy(GuestPhys(to), GuestPhys(from), len, &|| Ok(())).unwrap();
        let [to, from, len] = [to, from, len].map(|n| usize::try_from(n).unwrap());
        let mut model = before;
        model.copy_within(from..from + len, to);
        prop_assert_eq!(memory.read_vec(GuestPhys(0), 0x8000).unwrap(), model);
    }
}

/// 16 MiB in two regions that touch, with different bytes in the first pages.
fn two_pages_and_more() -> Memory {
    let memory = ram(0, 0x4000);
    memory.add(GuestPhys(0x4000), (16 << 20) - 0x4000, false, |_, _| Ok(())).unwrap();
    let bytes: Vec<_> = (0..0x8000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    memory.write(GuestPhys(0), &bytes).unwrap();
    memory
}

fn ram(at: u64, len: u64) -> Memory {
    let memory = Memory::default();
    memory.add(GuestPhys(at), len, false, |_, _| Ok(())).unwrap();
    memory
}

#[test]
fn long_copies_may_overlap_either_way() {
    let memory = two_pages_and_more();
    let words = |at| memory.read_vec(GuestPhys(at), 0x8000).unwrap();
    let start = words(0);
    memory.fill(GuestPhys(0x8000), (4 << 20) - 0x8000, b"pattern", &|| Ok(())).unwrap();
    let whole = memory.read_vec(GuestPhys(0), 4 << 20).unwrap();
    memory.copy(GuestPhys(0x1234), GuestPhys(0), 4 << 20, &|| Ok(())).unwrap();
    assert!(memory.read_vec(GuestPhys(0x1234), 4 << 20).unwrap() == whole);
    memory.copy(GuestPhys(0), GuestPhys(0x1234), 4 << 20, &|| Ok(())).unwrap();
    assert!(memory.read_vec(GuestPhys(0), 4 << 20).unwrap() == whole);
    assert_eq!(words(0), start);
}

#[test]
fn the_first_difference_is_found_in_any_piece() {
    let memory = ram(0, 4 << 20);
    let compare = || memory.compare(GuestPhys(0), GuestPhys(2 << 20), 2 << 20, &|| Ok(())).unwrap();
    assert_eq!(compare(), None);
    for at in [(2 << 20) - 1, 0x4_0000, 0x3_ffff, 0] {
        memory.write(GuestPhys((2 << 20) + at), &[1]).unwrap();
        assert_eq!(compare(), Some(at));
    }
    assert_eq!(memory.compare_with(GuestPhys(2 << 20), &[1, 0, 1], &|| Ok(())).unwrap(), Some(2));
}

#[test]
fn nothing_is_changed_where_not_all_of_it_is_memory() {
    let memory = ram(0, 0x2000);
    assert!(memory.fill(GuestPhys(0x1000), 0x1001, &[7], &|| Ok(())).is_err());
    assert!(memory.copy(GuestPhys(0x1001), GuestPhys(0), 0x1000, &|| Ok(())).is_err());
    assert!(memory.fill(GuestPhys(0), 1, &[], &|| Ok(())).is_err());
    assert_eq!(memory.read_vec(GuestPhys(0), 0x2000).unwrap(), vec![0; 0x2000]);
}

#[test]
fn a_string_ends_at_its_zero_or_where_nothing_more_is_asked() {
    let memory = ram(0x1000, 0x2000);
    memory.fill(GuestPhys(0x1000), 0x2000, b"x", &|| Ok(())).unwrap();
    memory.write(GuestPhys(0x2ffe), b"y\0").unwrap();
    assert_eq!(memory.c_string(GuestPhys(0x2ffd), 4096).unwrap(), b"xy");
    assert_eq!(memory.c_string(GuestPhys(0x1000), 0x1800).unwrap(), vec![b'x'; 0x1800]);
    assert_eq!(memory.c_string(GuestPhys(0x1000), 0).unwrap(), b"");
    memory.write(GuestPhys(0x2fff), b"z").unwrap();
    assert!(memory.c_string(GuestPhys(0x2ffd), 4096).is_err());
    assert_eq!(memory.c_string(GuestPhys(0x2ffd), 3).unwrap(), b"xyz");
}

#[test]
fn holes_are_seen_as_none() {
    let memory = ram(0x1000, 0x1000);
    let mut cells = [Some(9); 0x1004];
    memory.read_present(GuestPhys(0xffe), &mut cells);
    assert_eq!((cells[1], cells[2], cells[0x1001], cells[0x1002]), (None, Some(0), Some(0), None));
    memory.read_present(GuestPhys(u64::MAX - 1), &mut cells[..4]);
    assert_eq!(cells[..4], [None; 4]);
}

#[test]
fn an_error_names_the_memory_that_is_nearest() {
    let memory = ram(0x1000, 0x1000);
    memory.add(GuestPhys(0x2000), 0x1000, false, |_, _| Ok(())).unwrap();
    memory.add(GuestPhys(0x9000), 0x1000, true, |_, _| Ok(())).unwrap();
    let words = |at, len| memory.unbacked(GuestPhys(at), len).to_string();
    assert_eq!(words(0, 4), "no memory at 0x0 (0x4 bytes asked): RAM begins at 0x1000");
    assert_eq!(words(0x1ff8, 0x2000), "no memory at 0x1ff8 (0x2000 bytes asked): RAM ends at 0x3000");
    assert_eq!(words(0x3000, 1), "no memory at 0x3000 (0x1 bytes asked): RAM ends at 0x3000");
    assert_eq!(words(0x8fff, 1), "no memory at 0x8fff (0x1 bytes asked): ROM begins at 0x9000");
    assert_eq!(words(1 << 40, 1), "no memory at 0x10000000000 (0x1 bytes asked): ROM ends at 0xa000");
    assert_eq!(Memory::default().unbacked(GuestPhys(0), 1).to_string(), "no memory at 0x0 (0x1 bytes asked)");
}

#[test]
fn a_region_that_is_seen_directly_stays() {
    let memory = ram(0, 0x1000);
    memory.add(GuestPhys(0x1000), 0x1000, false, |_, _| Ok(())).unwrap();
    let export = memory.export(GuestPhys(0x10), 8, false).unwrap();
    assert!(matches!(memory.remove(GuestPhys(0), |_| Ok(())), Err(Error::ViewsLive(1))));
    assert!(memory.remove(GuestPhys(0x1000), |_| Ok(())).is_ok(), "its neighbour may go");
    assert!(matches!(memory.close(), Err(Error::ViewsLive(1))));
    drop(export);
    assert!(memory.remove(GuestPhys(0), |_| Err(Error::Closed)).is_err());
    assert_eq!(memory.regions().len(), 1, "the kernel has kept it, and so has the map");
    assert!(memory.remove(GuestPhys(0), |_| Ok(())).is_ok());
}
