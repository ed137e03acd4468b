//! One region of RAM or ROM: where it may be, and what it is. It never touches the memory behind it.

use crate::addr::{GuestPhys, PAGE};
use crate::error::{Error, Result};

use super::backing::{FileMap, Pages};

/// Guest-physical addresses are at most this wide (Intel SDM vol. 3, 4.1.4: MAXPHYADDR is at most 52).
const PHYSICAL_BITS: u32 = 52;

/// KVM takes memory slots of up to this many pages (Linux, `KVM_MEM_MAX_NR_PAGES`).
const MOST_PAGES: u64 = (1 << 31) - 1;

/// Where a region is and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionInfo {
    /// First address.
    pub at: GuestPhys,
    /// Length in bytes.
    pub len: u64,
    /// Guest writes do not reach it, but exit.
    pub rom: bool,
    /// The memory slot of KVM's that it has.
    pub slot: u32,
    /// The host's pages under it.
    pub pages: Pages,
    /// The file that it shows, if it shows one.
    pub file: Option<FileMap>,
}

impl RegionInfo {
    /// A region that is made of whole pages, can be addressed and overlaps none of `others`.
    pub fn new(at: GuestPhys, len: u64, rom: bool, slot: u32, others: &[&Self]) -> Result<Self> {
        if len == 0 {
            return Err(Error::Invalid("a region of memory has at least one page, 0x1000 bytes".into()));
        }
        if !at.is_page_aligned() || !len.is_multiple_of(PAGE) {
            return Err(Error::Unaligned { at: at.0, len });
        }
        if at.0.checked_add(len).is_none_or(|end| end > 1 << PHYSICAL_BITS) {
            return Err(Error::BeyondPhysical { at: at.0, len, bits: PHYSICAL_BITS });
        }
        if len / PAGE > MOST_PAGES {
            return Err(Error::Invalid(format!(
                "{len:#x} bytes of memory; one region has at most {:#x}",
                MOST_PAGES * PAGE
            )));
        }
        let info = Self { at, len, rom, slot, pages: Pages::Host, file: None };
        match others.iter().find(|o| o.at < info.end() && at < o.end()) {
            Some(other) => Err(Error::Overlap { at: at.0, len, with: other.at.0, what: other.what() }),
            None => Ok(info),
        }
    }

    /// One past the last address.
    pub fn end(&self) -> GuestPhys {
        GuestPhys(self.at.0 + self.len)
    }

    /// Is `at` in it?
    pub fn contains(&self, at: GuestPhys) -> bool {
        self.at <= at && at < self.end()
    }

    /// What to call it.
    pub fn what(&self) -> &'static str {
        if self.rom { "ROM" } else { "RAM" }
    }
}
