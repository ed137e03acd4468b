//! Instructions of any bytes: disassembled, and repaired as on a KVM that cannot emulate them.
#![no_main]

mod bytes;

use belljar::machine::repair::fuzz;
use belljar::x86::{Regs, disassemble};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut bytes = Bytes(input);
    let mode = bytes.u8();
    let code = bytes.take(15);
    let tables = [bytes.u64(), bytes.u64()];
    let cr4 = bytes.u64();
    let mut words = [0; Regs::COUNT];
    words.iter_mut().for_each(|word| *word = bytes.u64());
    for bits in [16, 32, 64] {
        let listed = disassemble(code, words[0], bits, 4).expect("a width that there is");
        assert!(listed.len() <= 4);
    }
    fuzz::instruction(code, words, mode, tables, cr4);
});
