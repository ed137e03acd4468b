//! Each loader by itself, given files that are not of its format too; the last byte chooses.
#![no_main]

use belljar::addr::GuestPhys;
use belljar::boot::elf::Elf;
use belljar::boot::image::Options;
use belljar::boot::{bzimage, linux, multiboot, plain, pvh};
use belljar::memory::Memory;
use belljar::x86::Sregs;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|image: &[u8]| {
    let Some(which) = image.last() else { return };
    let options = Options { cmdline: "quiet".into(), initrd: None, cpus: 1, tables: which & 8 != 0 };
    let (memory, reset) = (Memory::default(), Sregs::default());
    memory.add(GuestPhys(0), 4 << 20, false, |_, _| Ok(())).expect("whole pages");
    let elf = |load: &dyn Fn(&Elf)| Elf::parse(image).map(|elf| load(&elf)).unwrap_or(());
    match which % 5 {
        0 => drop(bzimage::load(&memory, image, &options, &reset)),
        1 => drop(multiboot::load(&memory, image, &options, &reset)),
        2 => elf(&|elf| drop(linux::load(&memory, elf, &options, &reset))),
        3 => elf(&|elf| drop(plain::load(&memory, elf, &options, &reset))),
        _ => elf(&|elf| {
            let entry = elf.pvh.unwrap_or(GuestPhys(0x10_0000));
            drop(pvh::load(&memory, elf, entry, &options, &reset));
        }),
    }
});
