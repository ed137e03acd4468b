//! The PVH boot protocol (xen/include/public/arch-x86/hvm/start_info.h): start info in EBX, flat 32-bit mode.
//! It never asks what the guest is: any ELF file with the note is entered like this.

use linux_loader::start_info::{XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use vm_memory::ByteValued;

use crate::addr::GuestPhys;
use crate::boot::e820;
use crate::boot::elf::Elf;
use crate::boot::handover;
use crate::boot::image::{Loaded, Options};
use crate::boot::layout::{BOOT_PARAMS, COMMAND_LINE, COMMAND_LINE_MAX, GDT, HOLE_END};
use crate::boot::room::{Room, size};
use crate::error::Result;
use crate::memory::Memory;
use crate::x86::{Gpr, Sregs, cr0};

/// Start info's tables, behind the GDT in its page.
const MODULES: GuestPhys = GuestPhys(GDT.0 + 0x80);
const MEMORY_MAP: GuestPhys = GuestPhys(GDT.0 + 0x100);
/// The most lines of the memory map, as for Linux.
const MAP_MAX: usize = 128;
/// The limit of a bare 32-bit task-state segment, which the protocol asks for.
const TSS_LIMIT: u32 = 0x67;

/// Loads `elf` and begins at the 32-bit `entry` of its note.
pub fn load(memory: &Memory, elf: &Elf, entry: GuestPhys, options: &Options, reset: &Sregs) -> Result<Loaded> {
    let mut room = Room::new(memory, "PVH");
    if !elf.holds(entry) {
        return Err(room.wrong(format!("its entry {entry:#x} is in no segment")));
    }
    let rsdp_paddr = handover::hardware_tables(&mut room, options)?;
    room.claim(BOOT_PARAMS, size(size_of::<hvm_start_info>()), "the start info")?;
    let mut start = handover::enter_flat(&mut room, entry, reset)?;
    handover::command_line(&mut room, &options.cmdline, COMMAND_LINE_MAX)?;
    let memmap_entries = put_map(&mut room)?;
    room.claim(MODULES, size(size_of::<hvm_modlist_entry>()), "the module list")?;
    let end = elf.place(&mut room)?;
    let info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: 1,
        cmdline_paddr: COMMAND_LINE.0,
        memmap_paddr: MEMORY_MAP.0,
        memmap_entries,
        rsdp_paddr,
        ..module(&mut room, options)?
    };
    memory.write(BOOT_PARAMS, info.as_slice())?;
    start.regs[Gpr::Rbx] = BOOT_PARAMS.0;
    start.sregs.cr0 = cr0::PE | cr0::ET;
    start.sregs.tr.limit = TSS_LIMIT;
    Ok(Loaded { start, format: room.format(), entry, end })
}

/// Writes the memory map; how many lines it has.
fn put_map(room: &mut Room) -> Result<u32> {
    let map = e820::map(room.memory());
    let count = u32::try_from(map.len()).ok().filter(|_| map.len() <= MAP_MAX);
    let count = count.ok_or_else(|| room.wrong(format!("{} ranges of memory; at most {MAP_MAX}", map.len())))?;
    let line = |e: &e820::Entry| hvm_memmap_table_entry { addr: e.at.0, size: e.len, type_: e.kind, reserved: 0 };
    let bytes: Vec<u8> = map.iter().flat_map(|e| line(e).as_slice().to_vec()).collect();
    room.put(MEMORY_MAP, &bytes, "the memory map")?;
    Ok(count)
}

/// Writes the initrd as the only module; the fields of start info that say so.
fn module(room: &mut Room, options: &Options) -> Result<hvm_start_info> {
    let initrd = handover::initrd(room, options, HOLE_END)?;
    if initrd.len == 0 {
        return Ok(hvm_start_info::default());
    }
    let entry = hvm_modlist_entry { paddr: initrd.at.0, size: initrd.len, ..hvm_modlist_entry::default() };
    room.memory().write(MODULES, entry.as_slice())?;
    Ok(hvm_start_info { nr_modules: 1, modlist_paddr: MODULES.0, ..hvm_start_info::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::samples::{self, memory, read_u32};
    use crate::error::Error;
    use crate::source::ReadMemory;

    fn boot(memory: &Memory, entry: u64, options: &Options) -> Result<Loaded> {
        let image = samples::pvh();
        load(memory, &Elf::parse(&image)?, GuestPhys(entry), options, &Sregs::default())
    }

    #[test]
    fn start_info_is_in_ebx_and_the_mode_is_flat() {
        let memory = memory(0x80_0000);
        let options = Options { cmdline: "quiet".into(), initrd: Some(vec![7; 0x1800]), ..Options::default() };
        let loaded = boot(&memory, 0x10_0010, &options).unwrap();
        assert_eq!((loaded.format, loaded.entry, loaded.end), ("PVH", GuestPhys(0x10_0010), GuestPhys(0x10_1000)));
        let (regs, sregs) = (loaded.start.regs, loaded.start.sregs);
        assert_eq!((regs[Gpr::Rip], regs[Gpr::Rbx]), (0x10_0010, 0x7000));
        assert_eq!((sregs.cr0, sregs.cr4, sregs.code_bits(), sregs.tr.limit), (0x11, 0, 32, 0x67));
        assert_eq!((read_u32(&memory, BOOT_PARAMS), read_u32(&memory, GuestPhys(0x700c))), (0x336e_c578, 1));
        let word = |at: u64| memory.read_u64(GuestPhys(at)).unwrap();
        assert_eq!((word(0x7010), word(0x7018), word(0x7028)), (0x8080, 0x2_0000, 0x8100));
        assert_eq!((word(0x8080), word(0x8088)), (0x7f_e000, 0x1800));
        assert_eq!(read_u32(&memory, GuestPhys(0x7030)), 3);
        assert_eq!((word(0x8100), word(0x8108), read_u32(&memory, GuestPhys(0x8110))), (0, 0x9_fc00, 1));
        assert_eq!((word(0x8130), word(0x8138)), (0x10_0000, 0x70_0000));
    }

    #[test]
    fn without_an_initrd_there_is_no_module() {
        let memory = memory(0x80_0000);
        boot(&memory, 0x10_0010, &Options::default()).unwrap();
        assert_eq!(read_u32(&memory, GuestPhys(0x700c)), 0);
    }

    #[test]
    fn an_entry_in_no_segment_is_refused() {
        for entry in [0, 0x10_1000, u64::MAX] {
            assert!(matches!(boot(&memory(0x80_0000), entry, &Options::default()), Err(Error::Image { .. })));
        }
    }
}
