//! Page walks of every paging mode over memory of any content.
#![no_main]

mod bytes;

use belljar::addr::{GuestPhys, GuestVirt};
use belljar::x86::{Sregs, translate};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut bytes = Bytes(input);
    let (cr0, cr4, efer, cr3) = (bytes.u64(), bytes.u64(), bytes.u64(), bytes.u64());
    let (at, memory) = (GuestVirt(bytes.u64()), bytes.0);
    let sregs = Sregs { cr0, cr4, efer, cr3, ..Sregs::default() };
    let word = |at: GuestPhys, size: u64| {
        let from = usize::try_from(at.0).ok()?.checked_rem(memory.len())?; // the input, again and again
        let bytes = memory.get(from..from + usize::try_from(size).ok()?)?;
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        Some(u64::from_le_bytes(word))
    };
    if let Ok(found) = translate(&sregs, at, word) {
        assert!(found.0 < 1 << 52, "{found:#x} is no physical address");
    }
});
