//! What more than one boot protocol hands over: GDT, command line, initrd, tables of the hardware.
//! It never writes a protocol's own structure.

use crate::addr::GuestPhys;
use crate::boot::image::Options;
use crate::boot::room::{Room, size};
use crate::boot::start::{GDT_LIMIT, Start, flat_gdt};
use crate::boot::{acpi, layout, mptable};
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::x86::Sregs;

/// An initrd in memory; its length is 0 if there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// First address.
    pub at: GuestPhys,
    /// Length in bytes.
    pub len: u64,
}

/// Writes the GDT for a first instruction in 64-bit mode, or in 32-bit protected mode.
pub fn write_gdt(memory: &Memory, at: GuestPhys, long: bool) -> Result<()> {
    let bytes: Vec<u8> = flat_gdt(long).iter().flat_map(|entry| entry.to_le_bytes()).collect();
    memory.write(at, &bytes)
}

/// Takes the place of the GDT and writes it.
pub fn gdt(room: &mut Room, long: bool) -> Result<()> {
    room.claim(layout::GDT, u64::from(GDT_LIMIT) + 1, "the GDT")?;
    write_gdt(room.memory(), layout::GDT, long)
}

/// Writes the command line with its final zero; `max` counts that zero.
pub fn command_line(room: &mut Room, cmdline: &str, max: usize) -> Result<()> {
    let max = max.min(layout::COMMAND_LINE_MAX);
    if cmdline.len() >= max {
        let (len, most) = (cmdline.len(), max.saturating_sub(1));
        return Err(Error::Invalid(format!("a command line of {len} bytes; this kernel takes at most {most}")));
    }
    if cmdline.contains('\0') {
        return Err(Error::Invalid("a command line with a zero byte in it".into()));
    }
    let bytes: Vec<u8> = cmdline.bytes().chain([0]).collect();
    room.put(layout::COMMAND_LINE, &bytes, "the command line")
}

/// Writes the initrd as high in low RAM as it can be, ending at `limit` or before.
pub fn initrd(room: &mut Room, options: &Options, limit: u64) -> Result<Placed> {
    let Some(bytes) = options.initrd.as_ref().filter(|bytes| !bytes.is_empty()) else {
        return Ok(Placed::default());
    };
    let len = size(bytes.len());
    let at = room.highest(layout::HIGH_RAM, limit, len, "the initrd")?;
    room.memory().write(at, bytes)?;
    Ok(Placed { at, len })
}

/// Writes the MP table and the ACPI tables if they are asked for; says where the ACPI root pointer is, else 0.
pub fn hardware_tables(room: &mut Room, options: &Options) -> Result<u64> {
    if !options.tables {
        return Ok(0);
    }
    room.put(layout::MP_POINTER, &mptable::pointer(), "the MP pointer")?;
    room.put(layout::EBDA, &mptable::table(options.cpus)?, "the MP table")?;
    room.put(layout::ACPI, &acpi::tables(layout::ACPI, options.cpus)?, "the ACPI tables")?;
    Ok(layout::ACPI.0)
}

/// Writes a GDT and begins at `entry` in flat 32-bit protected mode.
pub fn enter_flat(room: &mut Room, entry: GuestPhys, reset: &Sregs) -> Result<Start> {
    if entry.0 >= layout::HOLE_END {
        return Err(room.wrong(format!("the 32-bit entry {entry:#x} is beyond 4 GiB")));
    }
    gdt(room, false)?;
    Ok(Start::protected(reset, entry, layout::BOOT_PARAMS, layout::GDT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::samples::memory;

    #[test]
    fn a_command_line_keeps_room_for_its_zero() {
        let memory = memory(0x20_0000);
        assert!(command_line(&mut Room::new(&memory, "vmlinux"), "quiet", 6).is_ok());
        assert_eq!(memory.read_vec(layout::COMMAND_LINE, 6).unwrap(), b"quiet\0");
        assert!(command_line(&mut Room::new(&memory, "vmlinux"), "quiet", 5).is_err());
        assert!(command_line(&mut Room::new(&memory, "vmlinux"), "", 0).is_err());
        assert!(command_line(&mut Room::new(&memory, "vmlinux"), "a\0b", 2048).is_err());
        assert!(command_line(&mut Room::new(&memory, "vmlinux"), &"a".repeat(0x1_0000), usize::MAX).is_err());
    }

    #[test]
    fn an_initrd_is_at_the_end_of_ram_or_below_its_limit() {
        let memory = memory(0x40_0000);
        let options = Options { initrd: Some(vec![7; 0x1001]), ..Options::default() };
        let placed = initrd(&mut Room::new(&memory, "vmlinux"), &options, u64::MAX).unwrap();
        assert_eq!(placed, Placed { at: GuestPhys(0x3f_e000), len: 0x1001 });
        assert_eq!(memory.read_vec(placed.at, 0x1001).unwrap(), [7; 0x1001]);
        let placed = initrd(&mut Room::new(&memory, "vmlinux"), &options, 0x20_0000).unwrap();
        assert_eq!(placed.at, GuestPhys(0x1f_e000));
        assert!(initrd(&mut Room::new(&memory, "vmlinux"), &options, 0x10_1000).is_err());
        let none = Options { initrd: Some(vec![]), ..Options::default() };
        assert_eq!(initrd(&mut Room::new(&memory, "vmlinux"), &none, u64::MAX).unwrap(), Placed::default());
    }
}
