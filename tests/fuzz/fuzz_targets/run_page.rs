//! What KVM leaves in the run page, however hostile: decoded, answered, read back.
#![no_main]

libfuzzer_sys::fuzz_target!(|page: &[u8]| belljar::kvm::fuzz::run_page(page));
