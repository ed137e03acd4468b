//! Kernels in guest memory of any content: a made-up one that the input damages, or the input itself.
#![no_main]

mod bytes;

use belljar::inspect::linux::sample::{Layout, Ram, Sample};
use belljar::inspect::linux::{entries, find};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut bytes = Bytes(input);
    let kind = bytes.u8();
    let Some(layout) = Layout::ALL.get(usize::from(kind % 8)) else { return plain(bytes.0) };
    let sample = Sample { absolute: kind & 8 != 0, levels: 4 + (kind >> 4 & 1), at: 0, ..Sample::new(*layout, 1100) };
    let mut ram = sample.ram();
    while !bytes.is_empty() {
        // The tables lie between 0x1000 and 0x10000; the banner, the page tables and what it tells tools further up.
        let place = u64::from(bytes.u8()) | u64::from(bytes.u8()) << 8;
        let size = usize::from(bytes.u8() % 16);
        let base = if size == 15 { 0x11_0000 } else { 0 };
        ram.put(base + place, bytes.take(size));
    }
    look(&ram, sample.cr3());
});

/// Memory that is the input, once as it is and once as what a kernel tells tools.
fn plain(input: &[u8]) {
    let mut memory = input.to_vec();
    memory.resize(input.len().next_multiple_of(0x1000), 0);
    look(&Ram(memory), 0);
    let text = String::from_utf8_lossy(input);
    assert!(entries(&text).count() <= text.lines().count());
}

fn look(ram: &Ram, cr3: u64) {
    if let Ok(kernel) = find(ram, &ram.stretches(), &[cr3], &|| Ok(())) {
        let symbols = &kernel.symbols;
        assert_eq!(symbols.iter().count(), symbols.names());
        for symbol in symbols.all() {
            assert!(symbols.get(symbol.name).is_some());
            assert!(symbols.at(symbol.address).is_none_or(|at| at.address == symbol.address));
        }
        let _ = kernel.slide();
        assert!(kernel.release().len() <= kernel.banner.len());
    }
}
