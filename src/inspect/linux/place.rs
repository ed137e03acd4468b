//! Where a kernel lies: its first byte as guests see it and in physical memory, and page tables that map it.
//! It never believes a place that the kernel's own page tables do not name.

use crate::addr::GuestVirt;
use crate::source::ReadMemory;
use crate::x86::{Sregs, cr0, cr4, efer, translate};

use super::image::Image;
use super::symbols::KernelSymbols;
use super::tables::{KERNEL, LARGEST};

/// Where the kernel's image is mapped: `phys_base` counts from here (Linux, `__START_KERNEL_map`).
pub const KERNEL_MAP: u64 = KERNEL.start;
/// Kernels begin at multiples of this, in both kinds of addresses (CONFIG_PHYSICAL_ALIGN is at least 2 MiB).
const STEP: u64 = 2 << 20;
/// The symbols of the top page table: since 4.13, and before.
const TOP: [&str; 2] = ["init_top_pgt", "init_level4_pgt"];
/// With page-table isolation, a process's own tables lie behind those that it has in the kernel.
const USER_TABLES: u64 = 0x1000;

/// Where a kernel lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Guest-virtual address of `_text`.
    pub text: u64,
    /// Guest-physical address of `_text`.
    pub at: u64,
    /// A CR3 under which all of the kernel is mapped.
    pub cr3: u64,
    /// Levels of its page tables, 4 or 5.
    pub levels: u8,
}

impl Place {
    /// The place of a kernel whose symbols have the addresses that the guest sees, and some of which is at `near`.
    pub fn of_virtual<M: ReadMemory>(
        image: &Image<'_, M>,
        symbols: &KernelSymbols,
        near: u64,
        cr3s: &[u64],
    ) -> Option<Self> {
        let text = symbols.get("_text").or_else(|| symbols.get("_stext"))?.address;
        let top = TOP.iter().find_map(|name| symbols.get(name)).map(|s| s.address.wrapping_sub(text));
        let highest = near.checked_sub(text % STEP)? / STEP * STEP + text % STEP;
        let places = (0..LARGEST / STEP).map_while(|n| highest.checked_sub(n * STEP));
        let banner = symbols.get("linux_banner").map(|s| s.address.wrapping_sub(text));
        let sound = |at: &u64| banner.is_none_or(|offset| image.has(at.wrapping_add(offset), b"Linux version "));
        match top {
            Some(top) => places
                .filter(sound)
                .find_map(|at| levels(image, at.wrapping_add(top), text, at).map(|l| (at, at.wrapping_add(top), l))),
            None => from_registers(image, cr3s, text).filter(|(at, ..)| sound(at)),
        }
        .map(|(at, cr3, levels)| Self { text, at, cr3, levels })
    }

    /// The place of a kernel whose symbols have physical addresses.
    pub fn of_physical<M: ReadMemory>(image: &Image<'_, M>, symbols: &KernelSymbols) -> Option<Self> {
        let at = symbols.get("_text").or_else(|| symbols.get("_stext"))?.address;
        let cr3 = TOP.iter().find_map(|name| symbols.get(name))?.address;
        let mut texts = KERNEL.step_by(usize::try_from(STEP).ok()?).map(|text| text + at % STEP);
        texts.find_map(|text| levels(image, cr3, text, at).map(|levels| Self { text, at, cr3, levels }))
    }

    /// The guest-physical address of something in the kernel's image.
    pub fn physical(&self, address: u64) -> u64 {
        address.wrapping_sub(self.text).wrapping_add(self.at)
    }

    /// How many bytes from its first one on are mapped as one piece, in steps of 2 MiB.
    pub fn mapped<M: ReadMemory>(&self, image: &Image<'_, M>) -> u64 {
        let there = |n: &u64| self.translate(image, self.text + n * STEP) == Some(self.at.wrapping_add(n * STEP));
        let most = (KERNEL.end.saturating_sub(self.text) / STEP).min(LARGEST / STEP);
        (0..most).take_while(there).count().try_into().map_or(0, |steps: u64| steps * STEP)
    }

    /// What `address` is under the kernel's own page tables.
    pub fn translate<M: ReadMemory>(&self, image: &Image<'_, M>, address: u64) -> Option<u64> {
        walk(image, self.cr3, self.levels, address)
    }
}

/// The part of physical memory that a kernel is mapped from under one of `cr3s`.
pub fn mapped<M: ReadMemory>(image: &Image<'_, M>, cr3s: &[u64]) -> Option<(u64, u64)> {
    let place = text_under(image, cr3s)?;
    Some((place.at, place.at.saturating_add(place.mapped(image))))
}

/// Where a kernel's image begins to be mapped under one of `cr3s`.
pub fn text_under<M: ReadMemory>(image: &Image<'_, M>, cr3s: &[u64]) -> Option<Place> {
    let step = usize::try_from(STEP).ok()?;
    tables(cr3s).find_map(|(cr3, levels)| {
        let place = |text| walk(image, cr3, levels, text).map(|at| Place { text, at, cr3, levels });
        KERNEL.step_by(step).find_map(place)
    })
}

/// Where `text` is, and under which tables, if `cr3s` say.
fn from_registers<M: ReadMemory>(image: &Image<'_, M>, cr3s: &[u64], text: u64) -> Option<(u64, u64, u8)> {
    tables(cr3s).find_map(|(cr3, levels)| walk(image, cr3, levels, text).map(|at| (at, cr3, levels)))
}

/// All that these may be: a kernel's own tables or a process's, of 4 levels or 5.
fn tables(cr3s: &[u64]) -> impl Iterator<Item = (u64, u8)> {
    let own = |cr3: &u64| [cr3 & !0xfff & !USER_TABLES, cr3 & !0xfff];
    cr3s.iter().flat_map(own).flat_map(|cr3| [(cr3, 4), (cr3, 5)])
}

/// How many levels the tables at `cr3` have, if they map `text` to `at`.
pub fn levels<M: ReadMemory>(image: &Image<'_, M>, cr3: u64, text: u64, at: u64) -> Option<u8> {
    [4, 5].into_iter().find(|levels| walk(image, cr3, *levels, text) == Some(at))
}

fn walk<M: ReadMemory>(image: &Image<'_, M>, cr3: u64, levels: u8, address: u64) -> Option<u64> {
    let la57 = if levels == 5 { cr4::LA57 } else { 0 };
    let long = efer::LME | efer::LMA | efer::NXE; // or an entry that forbids execution were a damaged one
    let sregs = Sregs { cr3, cr0: cr0::PE | cr0::PG, cr4: cr4::PAE | la57, efer: long, ..Sregs::default() };
    translate(&sregs, GuestVirt(address), |at, _| image.word(at.0)).ok().map(|at| at.0)
}
