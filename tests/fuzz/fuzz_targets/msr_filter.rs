//! Filters of any MSRs, held against the spans that they are made of.
#![no_main]

mod bytes;

use belljar::addr::Span;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut bytes = Bytes(&input[..input.len().min(48)]);
    let mut spans = Vec::new();
    while !bytes.is_empty() {
        let word = bytes.u64();
        let len = (word & 0x3fff) >> (word >> 16 & 0xf); // short ones more often
        spans.extend(Span::new(word >> 32, len, u64::from(u32::MAX)));
    }
    let _ = belljar::kvm::fuzz::msr_filter(&spans);
});
