//! Enters an ELF file that speaks no boot protocol: 64-bit mode for ELF64, flat protected mode for ELF32.
//! It never hands anything over: such a guest knows its machine.

use crate::addr::{GuestPhys, PAGE};
use crate::boot::elf::Elf;
use crate::boot::image::{Loaded, Options};
use crate::boot::layout::{GDT, HOLE_END, HOLE_START};
use crate::boot::paging::PageTables;
use crate::boot::room::Room;
use crate::boot::{handover, start::Start};
use crate::error::Result;
use crate::memory::Memory;
use crate::x86::Sregs;

/// The first stack, until the guest has its own.
const STACK: u64 = 4 * PAGE;
/// RAM above is left to the guest's own page tables.
const MAX_IDENTITY: u64 = 1 << 39;
const HOST: &str = "the first stack, GDT and page tables";

/// Loads `elf` and begins at its entry.
pub fn load(memory: &Memory, elf: &Elf, options: &Options, reset: &Sregs) -> Result<Loaded> {
    let mut room = Room::new(memory, elf.format);
    if !options.cmdline.is_empty() || options.initrd.is_some() {
        return Err(room.wrong("it speaks no boot protocol (PVH, Multiboot) by which to get a command line or initrd"));
    }
    let entry = elf.entry()?;
    let end = elf.place(&mut room)?;
    let top = if elf.long { identity_top(memory) } else { 0 };
    let tables = if elf.long { PageTables::pages_for(top, 0) * PAGE } else { 0 };
    // The places of `layout`, or, if the file or the end of RAM is in the way, the highest free ones.
    let (low, len) = (GuestPhys(GDT.0 - STACK), STACK + PAGE + tables);
    let host = match room.claim(low, len, HOST) {
        Ok(()) => low,
        Err(_) => room.highest(GuestPhys(PAGE), HOLE_START, len, HOST)?,
    };
    let start = enter(&room, elf.long, entry, host, top, reset)?;
    Ok(Loaded { start, format: elf.format, entry, end })
}

/// The registers, with stack, GDT and tables from `host` on.
fn enter(room: &Room, long: bool, entry: GuestPhys, host: GuestPhys, top: u64, reset: &Sregs) -> Result<Start> {
    let gdt = host.plus(STACK)?;
    handover::write_gdt(room.memory(), gdt, long)?;
    if !long {
        return Ok(Start::protected(reset, entry, gdt, gdt));
    }
    let at = gdt.plus(PAGE)?;
    let mut tables = PageTables::new(room.memory(), at, at.plus(PageTables::pages_for(top, 0) * PAGE)?)?;
    tables.identity(top, 0)?;
    Ok(Start::long(reset, entry, gdt, tables.root(), gdt))
}

/// Where the identity map ends: at least 4 GiB, and all RAM.
fn identity_top(memory: &Memory) -> u64 {
    let ram_end = memory.regions().last().map_or(0, |r| r.end().0);
    ram_end.clamp(HOLE_END, MAX_IDENTITY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::GuestVirt;
    use crate::boot::samples::{self, Load, elf32, elf64, memory};
    use crate::source::ReadMemory;
    use crate::x86::{Gpr, cr0, efer, pte, translate};

    fn load_at(memory: &Memory, phys: u64, long: bool) -> Result<Loaded> {
        let loads = [Load { virt: phys, phys, bytes: vec![0xf4], memsz: 0x1000 }];
        let image = if long { elf64(phys, &loads, None) } else { elf32(phys, &loads, None) };
        load(memory, &Elf::parse(&image)?, &Options::default(), &Sregs::default())
    }

    #[test]
    fn elf64_begins_in_long_mode_with_four_gib_mapped() {
        let memory = memory(0x20_0000);
        let Loaded { start, entry, format, .. } = load_at(&memory, 0x10_0000, true).unwrap();
        assert_eq!((format, entry), ("ELF64", GuestPhys(0x10_0000)));
        assert_eq!((start.regs[Gpr::Rip], start.sregs.cr3), (0x10_0000, 0x9000));
        assert_ne!(start.sregs.efer & efer::LMA, 0);
        let pml4 = memory.read_u64(GuestPhys(0x9000)).unwrap() & pte::ADDRESS;
        let last = memory.read_u64(GuestPhys(pml4 + 3 * 8)).unwrap() & pte::ADDRESS;
        assert_eq!(memory.read_u64(GuestPhys(last + 511 * 8)).unwrap() & pte::ADDRESS, 0xffe0_0000);
        assert_eq!(memory.read_u64(GuestPhys(pml4 + 4 * 8)).unwrap(), 0);
    }

    #[test]
    fn ram_above_four_gib_is_mapped_too() {
        let memory = memory(0x20_0000);
        memory.add(GuestPhys(1 << 32), 1 << 30, false, |_, _| Ok(())).unwrap();
        let start = load_at(&memory, 0x10_0000, true).unwrap().start;
        let high = (1 << 32) + 0x1234;
        let found = translate(&start.sregs, GuestVirt(high), |at, _| memory.read_u64(at).ok());
        assert_eq!(found, Ok(GuestPhys(high)));
    }

    #[test]
    fn elf32_begins_in_flat_protected_mode() {
        let memory = memory(0x20_0000);
        let start = load_at(&memory, 0x10_0000, false).unwrap().start;
        assert_eq!((start.sregs.cr0 & cr0::PG, start.sregs.code_bits(), start.sregs.gdt.base), (0, 32, 0x8000));
    }

    #[test]
    fn a_file_in_the_way_moves_the_tables_to_the_end_of_ram() {
        let memory = memory(0x20_0000);
        let start = load_at(&memory, 0x8000, true).unwrap().start;
        assert_eq!(start.sregs.cr3, 0x20_0000 - 6 * PAGE);
        assert_eq!(memory.read_vec(GuestPhys(0x8000), 1).unwrap(), [0xf4]);
        assert!(load_at(&samples::memory(0xa000), 0x8000, true).is_err());
    }

    #[test]
    fn nothing_can_be_handed_over() {
        let options = Options { cmdline: "quiet".into(), ..Options::default() };
        let image = elf64(0x10_0000, &[Load { virt: 0, phys: 0x10_0000, bytes: vec![1], memsz: 1 }], None);
        assert!(load(&memory(0x20_0000), &Elf::parse(&image).unwrap(), &options, &Sregs::default()).is_err());
    }
}
