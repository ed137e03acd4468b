//! Tests of the finder as a whole, on made-up kernels of every layout. They never need a machine.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

use proptest::prelude::*;

use super::sample::{BANNER, INFO, Layout, Ram, Sample};
use super::*;

fn look(ram: &Ram, cr3s: &[u64]) -> Result<Kernel> {
    find(ram, &ram.stretches(), cr3s, &|| Ok(()))
}

/// Does `kernel` say what `sample` is?
fn check(kernel: &Kernel, sample: &Sample) {
    let place = Place { text: sample.text, at: sample.at, cr3: sample.cr3(), levels: sample.levels };
    assert_eq!(kernel.place, place, "{sample:?}");
    assert_eq!((kernel.banner.as_str(), kernel.release()), (BANNER.trim_end(), "6.66.0-made-up"));
    assert_eq!(kernel.vmcoreinfo, INFO);
    let found: Vec<_> = kernel.symbols.all().map(|s| (format!("{}{}", s.kind, s.name), s.address)).collect();
    let expected: Vec<_> = sample.symbols.iter().map(|(name, at)| (name.clone(), sample.text + at)).collect();
    assert_eq!(found, expected);
    assert_eq!((kernel.symbols.lost(), kernel.symbols.end()), (0, sample.symbols.last().unwrap().1 + sample.text));
}

#[test]
fn a_kernel_of_every_layout_is_found_with_all_its_symbols() {
    for layout in Layout::ALL {
        for (absolute, levels) in [(false, 4), (true, 5)] {
            let moved = 0x0340_0000;
            let text = 0xffff_ffff_8100_0000 + moved;
            let sample = Sample { absolute, levels, text, at: 6 << 20, ..Sample::new(layout, 2000) };
            for cr3s in [vec![], vec![sample.cr3()], vec![sample.cr3() | 0x1abc], vec![7, u64::MAX]] {
                check(&look(&sample.ram(), &cr3s).unwrap(), &sample);
            }
        }
    }
}

#[test]
fn names_of_more_than_127_tokens_are_read() {
    let mut sample = Sample::new(Layout::Late, 1500);
    sample.symbols[700].0 = format!("t{}", "x".repeat(400));
    check(&look(&sample.ram(), &[]).unwrap(), &sample);
}

#[test]
fn a_symbol_is_found_by_name_by_address_and_by_pattern() {
    let mut sample = Sample::new(Layout::Early, 1500);
    sample.symbols[30].0 = "tf_2".into();
    sample.symbols[40].0 = "Tf_2".into();
    let text = sample.text;
    let kernel = look(&sample.ram(), &[]).unwrap();
    let symbols = &kernel.symbols;
    assert_eq!(symbols.get("f_2").map(|s| (s.kind, s.address)), Some(('T', text + sample.symbols[40].1)));
    assert_eq!(symbols.find("f_2").count(), 3);
    assert_eq!(symbols.iter().count(), symbols.names());
    assert_eq!(symbols.names(), symbols.len() - 2);
    let at = |address| symbols.at(address).map(|s| s.name);
    let (first, last) = (text + sample.symbols[1].1, text + sample.symbols.last().unwrap().1);
    assert_eq!([text, first - 1, first].map(at), [Some("_text"), Some("_text"), Some("sys_0")]);
    assert_eq!([0, text - 1, last, u64::MAX].map(at), [None; 4]);
    assert_eq!(symbols.size(first), 8);
    assert!(symbols.get("no such").is_none());
}

#[test]
fn a_kernel_that_its_own_page_tables_do_not_map_is_none() {
    let sample = Sample::new(Layout::Late, 1500);
    let mut ram = sample.ram();
    ram.put(sample.cr3(), &[0; 4096]);
    let error = look(&ram, &[]).unwrap_err();
    assert!(matches!(&error, Error::Kernel { at, .. } if *at > sample.at), "{error}");
    assert!(matches!(look(&Ram(vec![0; 1 << 20]), &[]), Err(Error::Kernel { at: 0, .. })));
}

#[test]
fn a_kernel_without_symbols_is_found_by_what_it_tells_tools_or_by_page_tables() {
    let sample = Sample::new(Layout::Late, 1500);
    let mut ram = sample.ram();
    ram.put(sample.at + 0x1000, &vec![0; 0x8_0000]);
    let (stext, pages) = (sample.text, sample.text + sample.cr3() - sample.at);
    let base = (sample.at + 0xffff_ffff_8000_0000).wrapping_sub(sample.text).cast_signed();
    let kernel = look(&ram, &[sample.cr3()]).unwrap();
    assert_eq!((kernel.place.text, kernel.place.at, kernel.banner.as_str()), (stext, sample.at, BANNER.trim_end()));
    assert!(kernel.symbols.is_empty() && kernel.symbols.get("x").is_none() && kernel.symbols.at(stext).is_none());
    assert!(look(&ram, &[]).is_err());
    let info = format!(
        "OSRELEASE=1\nSYMBOL(_stext)={stext:x}\nSYMBOL(swapper_pg_dir)={pages:x}\nNUMBER(phys_base)={base}\nKERNELOFFSET=1000000\n"
    );
    ram.put(0x10_0000, info.as_bytes());
    let kernel = look(&ram, &[]).unwrap();
    assert_eq!((kernel.place.text, kernel.place.cr3, kernel.slide()), (stext, sample.cr3(), 0x100_0000));
    assert_eq!(kernel.vmcoreinfo, info);
}

#[test]
fn damaged_names_are_lost_and_the_others_are_not() {
    let sample = Sample::new(Layout::Early, 3000);
    let mut ram = sample.ram();
    let place = memchr::memmem::find(&ram.0, b"_1300").unwrap();
    ram.0[place + 5] = 9; // the next one's length
    let kernel = look(&ram, &[]).unwrap();
    assert_eq!(kernel.symbols.lost(), 256);
    let damaged = |s: KernelSymbol<'_>| sample.symbols.binary_search_by_key(&(s.address - sample.text), |s| s.1);
    let right = |s: KernelSymbol<'_>| damaged(s).is_ok_and(|n| sample.symbols[n].0[1..] == *s.name);
    assert!(kernel.symbols.all().all(right));
    assert!(kernel.symbols.get("f_100").is_some() && kernel.symbols.get("f_2999").is_some());
}

#[test]
fn names_of_nothing_are_lost() {
    let sample = Sample::new(Layout::Placed, 1500);
    let mut ram = sample.ram();
    // The token of the first symbol's letter becomes one without text, and those after it begin a byte earlier.
    let tokens = memchr::memmem::find(&ram.0, b"T\0U\0").unwrap();
    let index = memchr::memmem::find(&ram.0[tokens..], &[0, 0, 3, 0]).unwrap() + tokens;
    let end = (tokens..index).rev().find(|at| ram.0[*at] != 0).unwrap() + 2;
    ram.0.copy_within(tokens + 1..end, tokens);
    for token in 0x55..256 {
        let start = u16::from_le_bytes([ram.0[index + 2 * token], ram.0[index + 2 * token + 1]]) - 1;
        ram.put(u64::try_from(index + 2 * token).unwrap(), &start.to_le_bytes());
    }
    let place = memchr::memmem::find(&ram.0, b"\x06T_text").unwrap();
    ram.0[place + 2..place + 7].fill(b'T');
    let error = look(&ram, &[]).unwrap_err(); // without _text, nothing says where it lies
    assert!(matches!(error, Error::Kernel { at, .. } if at > sample.at), "{error}");
}

#[test]
fn a_poll_ends_the_search() {
    let ram = Sample::new(Layout::Late, 1500).ram();
    assert!(matches!(find(&ram, &ram.stretches(), &[], &|| Err(Error::Closed)), Err(Error::Closed)));
}

#[test]
fn thousands_of_rows_of_digits_hide_nothing_that_a_vcpu_maps() {
    let sample = Sample { at: 6 << 20, ..Sample::new(Layout::Late, 1500) };
    let mut ram = sample.ram();
    for at in (0..4 << 20).step_by(64) {
        ram.put(at, DIGITS);
    }
    assert!(look(&ram, &[]).is_err());
    check(&look(&ram, &[sample.cr3()]).unwrap(), &sample);
}

fn layouts() -> impl Strategy<Value = Layout> {
    prop::sample::select(Layout::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_kernel_is_found(layout in layouts(), absolute: bool, five: bool, count in 1100_u64..6000, at in 1_u64..4, text in 0_u64..400) {
        let text = 0xffff_ffff_8100_0000 + (text << 21);
        let levels = 4 + u8::from(five);
        let sample = Sample { absolute, levels, text, at: at << 21, ..Sample::new(layout, count) };
        check(&look(&sample.ram(), &[]).unwrap(), &sample);
    }

    #[test]
    fn no_damage_to_a_kernel_panics_or_takes_long(
        layout in layouts(),
        changes in prop::collection::vec((0_u64..0x12_2000, any::<u64>(), 0_usize..9), 1..40),
        cut in prop::option::of(0_usize..(4 << 20)),
        address: u64,
    ) {
        let sample = Sample::new(layout, 1500);
        let mut ram = sample.ram();
        for (at, value, width) in changes {
            // Most of the changes go where the tables are.
            let at = if at % 4 == 0 { at } else { 0x1000 + at % 0x1_0000 };
            ram.put(sample.at + at, &value.to_le_bytes()[..width.min(8)]);
        }
        ram.0.truncate(cut.unwrap_or(usize::MAX));
        if let Ok(kernel) = look(&ram, &[sample.cr3()]) {
            prop_assert_eq!(kernel.symbols.iter().count(), kernel.symbols.names());
            let _ = (kernel.symbols.at(address), kernel.slide(), kernel.release());
        }
    }
}
