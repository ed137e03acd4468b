//! The types that a kernel carries, forged: parsed, and then asked for everything.
#![no_main]

use belljar::inspect::linux::btf::{Btf, Kind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(btf) = Btf::parse(input, None) else { return };
    let types = u32::try_from(btf.len().min(100)).unwrap_or(0);
    for id in 0..=types + 1 {
        let _ = (btf.size(id), btf.type_name(id), btf.values(id).len(), btf.members(id).len());
        let _ = (btf.at_path(id, "next[1].next"), btf.at_path(id, "name"));
    }
    let named: Vec<_> = btf.named(&[Kind::Struct, Kind::Function]).map(|(name, _)| name.to_owned()).take(100).collect();
    for name in &named {
        assert!(btf.find(name, &[Kind::Struct, Kind::Function]).is_some());
        let _ = btf.function(name).map(|function| function.parameters.len());
    }
});
