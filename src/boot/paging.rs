//! Builds page tables for the guest. It never changes tables that a guest has made.

use crate::addr::{GuestPhys, PAGE};
use crate::error::{Error, Result};
use crate::memory::{Memory, RegionInfo};
use crate::source::ReadMemory;
use crate::x86::pte;

use super::layout::HOLE_END;

/// 2 MiB: what one directory entry maps.
const LARGE_PAGE: u64 = 0x20_0000;
/// 1 GiB: what one directory maps.
const GIB: u64 = 1 << 30;
/// One past the last address that the lower half of four levels of tables can name.
const REACH: u64 = 1 << 47;

/// Four-level tables that grow page by page from a given place.
#[derive(Debug)]
pub struct PageTables<'a> {
    memory: &'a Memory,
    root: GuestPhys,
    next: GuestPhys,
    end: GuestPhys,
}

impl<'a> PageTables<'a> {
    /// Empty tables, to be built in `at..end`.
    pub fn new(memory: &'a Memory, at: GuestPhys, end: GuestPhys) -> Result<Self> {
        let mut tables = Self { memory, root: at, next: at, end };
        tables.root = tables.fresh_page()?;
        Ok(tables)
    }

    /// The physical address of the root: CR3.
    pub fn root(&self) -> GuestPhys {
        self.root
    }

    /// One past the last page used.
    pub fn used(&self) -> GuestPhys {
        self.next
    }

    /// The ranges that an identity map for these regions has: the first 4 GiB, devices included, and every GiB beyond
    /// with memory in it, as far as four levels of tables reach.
    pub fn ranges(regions: &[RegionInfo]) -> Vec<(u64, u64)> {
        let far = regions.iter().filter(|r| r.end().0 > HOLE_END && r.at.0 < REACH);
        let mut ranges = vec![(0, HOLE_END)];
        for region in far {
            let last = ranges.last_mut().expect("the first 4 GiB");
            let (at, end) = (region.at.0 & !(GIB - 1), region.end().0.next_multiple_of(GIB).min(REACH));
            if at <= last.1 { last.1 = last.1.max(end) } else { ranges.push((at, end)) }
        }
        ranges
    }

    /// How many pages of tables identity maps of these `ranges` take.
    pub fn pages_for_ranges(ranges: &[(u64, u64)]) -> u64 {
        let directories: u64 = ranges.iter().map(|(at, end)| (end - at) / GIB).sum();
        let mut above: Vec<_> = ranges.iter().flat_map(|(at, end)| at >> 39..=(end - 1) >> 39).collect();
        above.dedup();
        1 + directories + u64::try_from(above.len()).unwrap_or(u64::MAX)
    }

    /// How many pages of tables an identity map of `0..top` takes, with `split` large pages made of small ones.
    pub fn pages_for(top: u64, split: u64) -> u64 {
        1 + top.div_ceil(1 << 39) + top.div_ceil(1 << 30) + split
    }

    fn fresh_page(&mut self) -> Result<GuestPhys> {
        let page = self.next;
        self.next = page.plus(PAGE)?;
        if self.next > self.end {
            return Err(Error::Invalid(format!("no room for page tables at {page:#x}")));
        }
        self.memory.zero(page, PAGE)?;
        Ok(page)
    }

    /// Maps `0..top` to itself: large pages, writable and executable, with `flags` added.
    pub fn identity(&mut self, top: u64, flags: u64) -> Result<()> {
        self.identity_range((0, top), flags)
    }

    /// Maps the range to itself, from one 2 MiB boundary on.
    pub fn identity_range(&mut self, (at, end): (u64, u64), flags: u64) -> Result<()> {
        (at / LARGE_PAGE..end.div_ceil(LARGE_PAGE)).try_for_each(|n| self.map_large(n * LARGE_PAGE, flags))
    }

    fn map_large(&mut self, at: u64, flags: u64) -> Result<()> {
        let directory = self.table_for(at, 2, flags)?;
        self.set(
            directory,
            at >> 21 & 511,
            at | pte::LARGE | pte::PRESENT | pte::WRITE | pte::ACCESSED | pte::DIRTY | flags,
        )
    }

    /// Changes the 4 KiB pages of `at..end`, which are mapped already: exactly `flags` beside present.
    pub fn protect(&mut self, at: GuestPhys, end: GuestPhys, flags: u64) -> Result<()> {
        let mut page = at.0;
        while page < end.0 {
            let table = self.small_pages(page)?;
            self.set(table, page >> 12 & 511, page | pte::PRESENT | pte::ACCESSED | pte::DIRTY | flags)?;
            page += PAGE;
        }
        Ok(())
    }

    /// The last table for `at`, after splitting its large page if it is one.
    fn small_pages(&mut self, at: u64) -> Result<GuestPhys> {
        let directory = self.table_for(at, 2, pte::USER)?;
        let slot = directory.plus((at >> 21 & 511) * 8)?;
        let entry = self.memory.read_u64(slot)?;
        if entry & pte::LARGE == 0 && entry & pte::PRESENT != 0 {
            return Ok(GuestPhys(entry & pte::ADDRESS));
        }
        let table = self.fresh_page()?;
        let flags = entry & (pte::WRITE | pte::USER);
        for n in 0..512 {
            let page = (at & !(LARGE_PAGE - 1)) + n * PAGE;
            self.set(table, n, page | pte::PRESENT | pte::ACCESSED | pte::DIRTY | flags)?;
        }
        self.memory.write(slot, &(table.0 | pte::PRESENT | pte::WRITE | pte::USER | pte::ACCESSED).to_le_bytes())?;
        Ok(table)
    }

    /// The table of `level` (2 is the directory) that `at` goes through, made if it is not there.
    fn table_for(&mut self, at: u64, level: u32, flags: u64) -> Result<GuestPhys> {
        let mut table = self.root;
        for above in (level + 1..=4).rev() {
            let slot = table.plus((at >> (12 + (above - 1) * 9) & 511) * 8)?;
            let entry = self.memory.read_u64(slot)?;
            table = if entry & pte::PRESENT != 0 {
                GuestPhys(entry & pte::ADDRESS)
            } else {
                let fresh = self.fresh_page()?;
                let entry = fresh.0 | pte::PRESENT | pte::WRITE | pte::ACCESSED | flags & pte::USER;
                self.memory.write(slot, &entry.to_le_bytes())?;
                fresh
            };
        }
        Ok(table)
    }

    fn set(&self, table: GuestPhys, index: u64, entry: u64) -> Result<()> {
        self.memory.write(table.plus(index * 8)?, &entry.to_le_bytes())
    }
}
