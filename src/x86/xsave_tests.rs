//! What the XSAVE area says of its registers. It never needs a processor.

use proptest::prelude::*;

use super::*;

/// A processor with AVX-512 and protection keys, as Intel's server parts lay it out.
fn layout() -> Layout {
    let leaves = [(2, 256, 576), (5, 64, 1088), (6, 512, 1152), (7, 1024, 1664), (9, 8, 2688), (11, 16, 0)];
    Layout::new(leaves.map(|(number, size, offset)| (number, size, offset, u32::from(number == 11))))
}

fn registers() -> Vec<Register> {
    let fixed = [Fcw, Fsw, Ftw, Fop, Fip, Fdp, Mxcsr, Pkru];
    let masks = (0..8).flat_map(|n| [St(n), Mask(n)]);
    let vectors = (0..32).flat_map(|n| [Xmm(n), Ymm(n), Zmm(n)]);
    fixed.into_iter().chain(masks).chain(vectors).collect()
}

#[test]
fn supervisor_components_are_left_out() {
    assert!(layout().components.iter().all(|c| c.number != 11));
}

#[test]
fn a_processor_without_avx_has_sixteen_xmm_registers_and_no_ymm() {
    let old = Layout::default();
    assert_eq!((old.count(Xmm), old.count(Ymm), old.count(Zmm), old.count(Mask), old.count(St)), (16, 0, 0, 0, 8));
    assert_eq!((layout().count(Xmm), layout().count(Ymm), layout().count(Zmm), layout().count(Mask)), (32, 32, 32, 8));
    assert!(!old.set(&mut [0; 576], Ymm(0), &[0; 32]));
}

#[test]
fn what_the_header_calls_initial_reads_as_initial_whatever_the_bytes_say() {
    let mut area = vec![0xff; 4096];
    area[XSTATE_BV..HEADER_END].fill(0);
    let get = |register| layout().get(&area, register).expect("it is there");
    assert_eq!(get(Fcw), 0x037f_u16.to_le_bytes());
    assert_eq!(get(Mxcsr), 0x1f80_u32.to_le_bytes());
    assert_eq!(get(Zmm(3)), [0; 64]);
}

#[test]
fn a_register_that_is_set_brings_its_component_into_use_and_leaves_its_neighbours_initial() {
    let mut area = vec![0xff; 4096];
    area[XSTATE_BV..HEADER_END].fill(0);
    assert!(layout().set(&mut area, Ymm(1), &[7; 32]));
    assert_eq!(in_use(&area), 0b110);
    assert_eq!(layout().get(&area, Ymm(1)), Some(vec![7; 32]));
    assert_eq!(layout().get(&area, Ymm(0)), Some(vec![0; 32]));
    assert_eq!(layout().get(&area, Mxcsr), Some(vec![0x80, 0x1f, 0, 0]));
}

#[test]
fn an_area_that_is_too_short_has_no_registers() {
    assert_eq!(layout().get(&[0; 600], Zmm(20)), None);
    assert_eq!(layout().get(&[], Fcw), None);
    assert!(!layout().set(&mut [0; 100], Xmm(0), &[0; 16]));
}

proptest! {
    #[test]
    fn a_register_keeps_what_it_is_given_and_no_other_changes(
        which in 0..registers().len(), area in proptest::collection::vec(any::<u8>(), 2696), seed in any::<u8>(),
    ) {
        let (layout, mut area, which) = (layout(), area, registers()[which]);
        let before = layout.values(&area);
        let width = layout.width(which).expect("it is there");
        let value: Vec<u8> = (0..width).map(|n| seed.wrapping_add(u8::try_from(n).expect("small"))).collect();
        prop_assert!(layout.set(&mut area, which, &value));
        prop_assert_eq!(layout.get(&area, which), Some(value));
        let differ = before.iter().zip(layout.values(&area)).filter(|(a, b)| **a != *b).count();
        prop_assert!(differ <= 3, "{} values differ", differ); // the parts of one ZMM register
    }

    #[test]
    fn no_area_and_no_layout_panics(
        area in proptest::collection::vec(any::<u8>(), 0..1200),
        leaves in proptest::collection::vec(any::<(u32, u32, u32, u32)>(), 0..8), number in 0_u32..70,
    ) {
        let leaves = leaves.into_iter().map(|(_, size, offset, ecx)| (number, size, offset, ecx));
        let layout = Layout::new(leaves);
        let mut area = area;
        layout.values(&area);
        for register in registers() {
            if let Some(width) = layout.width(register) {
                layout.set(&mut area, register, &vec![1; width]);
            }
        }
    }
}
