//! Builds page tables for the guest. It never changes tables that a guest has made.

use crate::addr::{GuestPhys, PAGE};
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::source::ReadMemory;
use crate::x86::pte;

/// 2 MiB: what one directory entry maps.
const LARGE_PAGE: u64 = 0x20_0000;

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
        (0..top.div_ceil(LARGE_PAGE)).map(|n| n * LARGE_PAGE).try_for_each(|at| self.map_large(at, flags))
    }

    fn map_large(&mut self, at: u64, flags: u64) -> Result<()> {
        let directory = self.table_for(at, 2, flags)?;
        self.set(directory, at >> 21 & 511, at | pte::LARGE | pte::PRESENT | pte::WRITE | pte::ACCESSED | pte::DIRTY | flags)
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
