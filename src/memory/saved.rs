//! Memory that is made in one go and belongs to no machine: that of a dump, or of a test. It never tells KVM of it.

use std::sync::{Arc, RwLock};

use vm_memory::GuestMemoryMmap;

use super::{Backing, Held, Memory, RegionInfo, Source, State};
use crate::addr::GuestPhys;
use crate::error::{Error, Result};

/// A region to be made.
#[derive(Debug)]
pub struct Part {
    /// First address.
    pub at: GuestPhys,
    /// Length in bytes.
    pub len: u64,
    /// ROM.
    pub rom: bool,
    /// What it is made from.
    pub source: Source,
}

impl Memory {
    /// Memory of these regions, which are in the order of their addresses and overlap nowhere.
    pub fn saved(parts: &[Part]) -> Result<Self> {
        let (mut regions, mut backings) = (Vec::<Held>::new(), Vec::new());
        for part in parts {
            let slot = u32::try_from(regions.len()).unwrap_or(u32::MAX);
            let before: Vec<_> = regions.last().map(|held| &held.info).into_iter().collect();
            let mut info = RegionInfo::new(part.at, part.len, part.rom, slot, &before)?;
            info.file = part.source.file.as_ref().map(|(_, map)| map.clone());
            backings.push(Backing::map(&info, &part.source)?.into_region());
            regions.push(Held { info, views: Arc::default() });
        }
        let map = if backings.is_empty() {
            GuestMemoryMmap::default()
        } else {
            GuestMemoryMmap::from_arc_regions(backings).map_err(|e| Error::Invalid(e.to_string()))?
        };
        Ok(Self { state: RwLock::new(State { map, regions, ..State::default() }), ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::ReadMemory;

    fn part(at: u64, len: u64) -> Part {
        Part { at: GuestPhys(at), len, rom: false, source: Source::default() }
    }

    #[test]
    fn saved_memory_is_read_across_its_regions_and_not_beyond() {
        let memory = Memory::saved(&[part(0x1000, 0x1000), part(0x2000, 0x1000)]).unwrap();
        memory.write(GuestPhys(0x1ffe), b"over").unwrap();
        assert_eq!(memory.read_vec(GuestPhys(0x1ffe), 4).unwrap(), b"over");
        assert!(memory.read(GuestPhys(0x2ffe), &mut [0; 4]).is_err());
        assert!(Memory::saved(&[]).unwrap().regions().is_empty());
    }

    #[test]
    fn regions_out_of_order_are_refused() {
        assert!(Memory::saved(&[part(0x2000, 0x1000), part(0x1000, 0x2000)]).is_err());
        assert!(Memory::saved(&[part(0x2000, 0x1000), part(0x1000, 0x1000)]).is_err());
    }
}
