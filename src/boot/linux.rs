//! The Linux boot protocol (Documentation/arch/x86/boot.rst): boot parameters, and the 64-bit entry of a vmlinux.
//! It never unpacks a kernel.

use linux_loader::bootparam::{E820_MAX_ENTRIES_ZEROPAGE, boot_e820_entry, boot_params, setup_header};
use vm_memory::ByteValued;

use crate::addr::{GuestPhys, PAGE};
use crate::boot::elf::Elf;
use crate::boot::handover::{self, Placed};
use crate::boot::image::{Loaded, Options};
use crate::boot::layout::{BOOT_PARAMS, COMMAND_LINE, GDT, HOLE_END, PAGE_TABLES};
use crate::boot::paging::PageTables;
use crate::boot::room::Room;
use crate::boot::{e820, start::Start};
use crate::error::Result;
use crate::memory::Memory;
use crate::x86::{Gpr, Sregs};

/// "HdrS".
pub const HEADER_MAGIC: u32 = 0x5372_6448;
/// What a boot sector ends with.
const BOOT_FLAG: u16 = 0xaa55;
/// A boot loader without a number of its own.
const UNKNOWN_LOADER: u8 = 0xff;
/// x86 kernels copy this much of the command line, its zero included (`COMMAND_LINE_SIZE`).
const COMMAND_LINE_SIZE: u16 = 2048;

/// A kernel in memory, ready to be entered at its 64-bit entry.
#[derive(Debug)]
pub struct Kernel {
    /// Its first instruction.
    pub entry: GuestPhys,
    /// One past the last byte that it uses before it looks at the memory map.
    pub end: GuestPhys,
    /// The setup header, as the kernel's file gives it.
    pub header: setup_header,
    /// One past the last address that its initrd may have.
    pub initrd_limit: u64,
}

/// Loads a vmlinux and begins at its physical entry.
pub fn load(memory: &Memory, elf: &Elf, options: &Options, reset: &Sregs) -> Result<Loaded> {
    let mut room = prepare(Room::new(memory, "vmlinux"), options, COMMAND_LINE_SIZE.into())?;
    let entry = elf.entry()?;
    let end = elf.place(&mut room)?;
    let header = setup_header {
        boot_flag: BOOT_FLAG,
        header: HEADER_MAGIC,
        version: 0x020f,
        kernel_alignment: 0x100_0000,
        cmdline_size: u32::from(COMMAND_LINE_SIZE) - 1,
        ..setup_header::default()
    };
    enter(room, Kernel { entry, end, header, initrd_limit: HOLE_END }, options, reset)
}

/// Takes the places of `layout` and writes all but the boot parameters; `cmdline_max` counts the final zero.
pub fn prepare<'a>(mut room: Room<'a>, options: &Options, cmdline_max: usize) -> Result<Room<'a>> {
    handover::hardware_tables(&mut room, options)?;
    room.claim(BOOT_PARAMS, PAGE, "the boot parameters")?;
    handover::gdt(&mut room, true)?;
    room.claim(PAGE_TABLES, COMMAND_LINE.0 - PAGE_TABLES.0, "the page tables")?;
    handover::command_line(&mut room, &options.cmdline, cmdline_max)?;
    Ok(room)
}

/// Writes initrd, boot parameters and page tables, and says where the vCPU begins.
pub fn enter(mut room: Room, kernel: Kernel, options: &Options, reset: &Sregs) -> Result<Loaded> {
    if kernel.end.0 > HOLE_END {
        return Err(room.wrong(format!("it ends at {:#x}, beyond the 4 GiB that are mapped", kernel.end)));
    }
    let initrd = handover::initrd(&mut room, options, kernel.initrd_limit)?;
    let params = parameters(&room, kernel.header, initrd)?;
    room.memory().write(BOOT_PARAMS, params.as_slice())?;
    let mut tables = PageTables::new(room.memory(), PAGE_TABLES, COMMAND_LINE)?;
    tables.identity(HOLE_END, 0)?;
    let mut start = Start::long(reset, kernel.entry, BOOT_PARAMS, tables.root(), GDT);
    start.regs[Gpr::Rsi] = BOOT_PARAMS.0;
    Ok(Loaded { start, format: room.format(), entry: kernel.entry, end: kernel.end })
}

fn parameters(room: &Room, header: setup_header, initrd: Placed) -> Result<boot_params> {
    let narrow = |value: u64| u32::try_from(value).map_err(|_| room.wrong(format!("{value:#x} is beyond 4 GiB")));
    let mut params = boot_params { hdr: header, ..boot_params::default() };
    params.hdr.type_of_loader = UNKNOWN_LOADER;
    params.hdr.cmd_line_ptr = narrow(COMMAND_LINE.0)?;
    params.hdr.ramdisk_image = narrow(initrd.at.0)?;
    params.hdr.ramdisk_size = narrow(initrd.len)?;
    let map = e820::map(room.memory());
    let count = u8::try_from(map.len()).ok().filter(|n| usize::from(*n) <= E820_MAX_ENTRIES_ZEROPAGE);
    params.e820_entries = count.ok_or_else(|| {
        room.wrong(format!("{} ranges of memory; the boot parameters hold {E820_MAX_ENTRIES_ZEROPAGE}", map.len()))
    })?;
    let mut table = params.e820_table;
    for (entry, e) in table.iter_mut().zip(map) {
        *entry = boot_e820_entry { addr: e.at.0, size: e.len, r#type: e.kind };
    }
    params.e820_table = table;
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::samples::{self, memory, read_u32};
    use crate::error::Error;
    use crate::source::ReadMemory;

    fn boot(memory: &Memory, options: &Options) -> Result<Loaded> {
        load(memory, &Elf::parse(&samples::vmlinux())?, options, &Sregs::default())
    }

    #[test]
    fn a_vmlinux_gets_boot_parameters_in_rsi_and_long_mode() {
        let memory = memory(0x80_0000);
        let options = Options { cmdline: "quiet".into(), initrd: Some(vec![7; 0x1800]), ..Options::default() };
        let loaded = boot(&memory, &options).unwrap();
        assert_eq!((loaded.format, loaded.entry, loaded.end), ("vmlinux", GuestPhys(0x20_0000), GuestPhys(0x20_2000)));
        assert_eq!(loaded.start.regs[Gpr::Rsi], 0x7000);
        assert_eq!((loaded.start.sregs.code_bits(), loaded.start.sregs.cr3), (64, 0x9000));
        let word = |at: u64| read_u32(&memory, GuestPhys(0x7000 + at));
        assert_eq!((word(0x202), word(0x210) & 0xff), (HEADER_MAGIC, 0xff));
        assert_eq!((word(0x218), word(0x21c), word(0x228)), (0x7f_e000, 0x1800, 0x2_0000));
        assert_eq!(memory.read_vec(GuestPhys(0x2_0000), 6).unwrap(), b"quiet\0");
        assert_eq!(memory.read_vec(GuestPhys(0x7f_e000), 0x1800).unwrap(), [7; 0x1800]);
    }

    #[test]
    fn the_memory_map_is_that_of_the_regions() {
        let memory = memory(0x80_0000);
        memory.add(GuestPhys(1 << 32), 0x1000, false, |_, _| Ok(())).unwrap();
        boot(&memory, &Options::default()).unwrap();
        assert_eq!(memory.read_vec(GuestPhys(0x71e8), 1).unwrap(), [4]);
        let entry = |n: u64| {
            let at = GuestPhys(0x72d0 + n * 20);
            let len = memory.read_u64(GuestPhys(at.0 + 8)).unwrap();
            (memory.read_u64(at).unwrap(), len, read_u32(&memory, GuestPhys(at.0 + 16)))
        };
        assert_eq!([entry(0), entry(1)], [(0, 0x9_fc00, 1), (0x9_fc00, 0x6_0400, 2)]);
        assert_eq!([entry(2), entry(3)], [(0x10_0000, 0x70_0000, 1), (1 << 32, 0x1000, 1)]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let long = Options { cmdline: "a".repeat(2048), ..Options::default() };
        assert!(matches!(boot(&memory(0x80_0000), &long), Err(Error::Invalid(_))));
        let big = Options { initrd: Some(vec![1; 0x60_0000]), ..Options::default() };
        assert!(matches!(boot(&memory(0x80_0000), &big), Err(Error::Image { .. })));
        assert!(matches!(boot(&memory(0x20_0000), &Options::default()), Err(Error::Image { .. })));
        assert!(matches!(boot(&memory(0x1000), &Options::default()), Err(Error::Image { .. })));
    }

    #[test]
    fn too_many_ranges_of_memory_are_refused() {
        let memory = memory(0x80_0000);
        for n in 0..130 {
            memory.add(GuestPhys((1 << 32) + n * 0x2000), 0x1000, false, |_, _| Ok(())).unwrap();
        }
        assert!(matches!(boot(&memory, &Options::default()), Err(Error::Image { .. })));
    }

    #[test]
    fn a_kernel_on_the_boot_parameters_is_refused() {
        let segment = samples::Load { virt: 0x7800, phys: 0x7800, bytes: b"Linux version ".to_vec(), memsz: 0x10 };
        let image = samples::elf64(0x7800, &[segment], None);
        let elf = Elf::parse(&image).unwrap();
        let error = load(&memory(0x80_0000), &elf, &Options::default(), &Sregs::default());
        assert!(matches!(error, Err(Error::Overlap { at: 0x7800, with: 0x7000, .. })));
    }
}
