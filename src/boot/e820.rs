//! The map of RAM that a guest is told, in the words of BIOS call E820, which Linux, PVH and Multiboot all use.
//! It never lays out a protocol's own table.

use crate::addr::GuestPhys;
use crate::boot::layout::{EBDA, HIGH_RAM};
use crate::memory::Memory;

/// RAM that the guest may use.
pub const RAM: u32 = 1;
/// Addresses that it leaves alone.
pub const RESERVED: u32 = 2;

/// One line of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// First address.
    pub at: GuestPhys,
    /// Length in bytes.
    pub len: u64,
    /// [`RAM`] or [`RESERVED`].
    pub kind: u32,
}

/// The map of `memory`: what lies from the EBDA to 1 MiB is reserved, and so is ROM.
pub fn map(memory: &Memory) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for region in memory.regions() {
        for (from, to, kind) in [(0, EBDA.0, RAM), (EBDA.0, HIGH_RAM.0, RESERVED), (HIGH_RAM.0, u64::MAX, RAM)] {
            let (first, end) = (region.at.0.max(from), region.end().0.min(to));
            if first < end {
                let kind = if region.rom { RESERVED } else { kind };
                append(&mut entries, Entry { at: GuestPhys(first), len: end - first, kind });
            }
        }
    }
    entries
}

/// Adds `entry`, to the last one if it goes on with the same.
fn append(entries: &mut Vec<Entry>, entry: Entry) {
    match entries.last_mut() {
        Some(last) if last.kind == entry.kind && last.at.0 + last.len == entry.at.0 => last.len += entry.len,
        _ => entries.push(entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::samples::memory;

    fn entry(at: u64, len: u64, kind: u32) -> Entry {
        Entry { at: GuestPhys(at), len, kind }
    }

    #[test]
    fn the_bios_area_is_reserved() {
        let low = [entry(0, 0x9_fc00, RAM), entry(0x9_fc00, 0x6_0400, RESERVED)];
        assert_eq!(map(&memory(0x20_0000)), [low[0], low[1], entry(0x10_0000, 0x10_0000, RAM)]);
        assert_eq!(map(&memory(0x10_0000)), low);
        assert_eq!(map(&memory(0x1000)), [entry(0, 0x1000, RAM)]);
    }

    #[test]
    fn neighbours_become_one_and_rom_is_reserved() {
        let memory = memory(0x20_0000);
        memory.add(GuestPhys(0x20_0000), 0x1000, false, |_, _| Ok(())).unwrap();
        memory.add(GuestPhys(0x20_1000), 0x1000, true, |_, _| Ok(())).unwrap();
        memory.add(GuestPhys(0x1_0000_0000), 0x1000, false, |_, _| Ok(())).unwrap();
        let high = [entry(0x10_0000, 0x10_1000, RAM), entry(0x20_1000, 0x1000, RESERVED), entry(1 << 32, 0x1000, RAM)];
        assert_eq!(map(&memory)[2..], high);
    }
}
