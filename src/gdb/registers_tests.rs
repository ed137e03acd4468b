//! Properties of the table of registers, and of writing one. They never ask a vCPU.

use super::*;

fn nothing(_: &Sregs, _: u16) -> Option<Segment> {
    None
}

fn file() -> File {
    File { xsave: vec![0; 4096], ..File::default() }
}

#[test]
fn every_register_is_as_long_as_its_row_says_and_can_be_written() {
    let layout = Layout::new([(2, 256, 576, 0)]);
    let mut file = file();
    for row in table(true) {
        let bytes = file.get(&layout, row.reg).expect("this processor has all");
        assert_eq!(bytes.len(), row.size(), "{}", row.name);
        let mut other = bytes.clone();
        other[0] ^= 1;
        if matches!(row.reg, Reg::Control(Control::Ftag)) {
            other[0] = 0xfc;
        }
        assert!(file.set(&layout, row.reg, &other, nothing), "{}", row.name);
        assert_eq!(file.get(&layout, row.reg), Some(other), "{}", row.name);
    }
}

#[test]
fn names_are_unique_and_features_in_one_piece() {
    let rows = table(true);
    let mut names: Vec<_> = rows.iter().map(|r| r.name.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), rows.len());
    let mut features: Vec<_> = rows.iter().map(|r| r.feature).collect();
    features.dedup();
    assert_eq!(features, [CORE, SSE, SEGMENTS, SYSTEM_FEATURE, AVX]);
}

#[test]
fn writing_what_is_there_changes_nothing() {
    let layout = Layout::default();
    let mut file = file();
    for row in table(false) {
        let bytes = file.get(&layout, row.reg).expect("every processor has it");
        assert!(file.set(&layout, row.reg, &bytes, nothing));
    }
    assert_eq!(file.changed, Changed::default());
}

#[test]
fn a_selector_of_protected_mode_needs_its_descriptor() {
    let layout = Layout::default();
    let mut file = file();
    file.sregs.cr0 = cr0::PE;
    assert!(!file.set(&layout, Reg::Selector(2), &[0x10, 0, 0, 0], nothing));
    let flat = |_: &Sregs, selector| Some(Segment::flat(selector, 3, 0));
    assert!(file.set(&layout, Reg::Selector(2), &[0x10, 0, 0, 0], flat));
    assert_eq!((file.sregs.ds.selector, file.sregs.ds.limit), (0x10, 0xffff_ffff));
}

#[test]
fn tags_come_back() {
    for abridged in 0..=255 {
        assert_eq!(abridged_tags(full_tags(abridged)), abridged);
    }
}
