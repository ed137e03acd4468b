//! Kernel images as `VM.boot` takes them: the format is found, the image loaded, with an initrd and tables and without.
#![no_main]

use belljar::addr::GuestPhys;
use belljar::boot::image::{self, Options};
use belljar::memory::Memory;
use belljar::x86::Sregs;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let full = Options { cmdline: "quiet".into(), initrd: Some(vec![7; 0x1800]), cpus: 2, tables: true };
    for options in [full, Options::default()] {
        let memory = Memory::default();
        memory.add(GuestPhys(0), 4 << 20, false, |_, _| Ok(())).expect("whole pages");
        if let Ok(loaded) = image::load(&memory, bytes, &options, &Sregs::default()) {
            assert!(memory.region_at(loaded.entry).is_some(), "the entry is in memory: {loaded:?}");
            assert!(memory.region_at(GuestPhys(loaded.end.0 - 1)).is_some(), "and so is the end: {loaded:?}");
        }
    }
});
