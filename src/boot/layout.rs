//! Where things lie in a guest's memory. It never writes them.
//!
//! ```text
//! bare guests (vm.load)                      Linux, PVH and Multiboot guests
//!   0x0000_0000  interrupt vectors, free       0x0000_0000  MP floating pointer (16 bytes)
//!   0x0000_1000  code (CODE), unless `at`      0x0000_7000  boot parameters or start info
//!                stack below the tables        0x0000_8000  GDT, and start info's tables
//!   end of RAM   tables of the host's:         0x0000_9000  page tables (identity, 4 GiB)
//!                GDT, IDT, TSS, page tables    0x0002_0000  command line (up to 64 KiB)
//!                                              0x0009_fc00  MP table
//!                                              0x000e_0000  ACPI tables
//!                                              0x0010_0000  kernel
//!                                              end of RAM   initrd
//!                                              0xd000_0000  hole for devices, up to 4 GiB
//! ```

use crate::addr::GuestPhys;

/// Where bare code goes unless the user says otherwise.
pub const CODE: GuestPhys = GuestPhys(0x1000);

/// RAM below 4 GiB ends here at most; devices live above, up to 4 GiB.
pub const HOLE_START: u64 = 0xd000_0000;
/// RAM goes on here.
pub const HOLE_END: u64 = 0x1_0000_0000;

/// The MP floating pointer: the first place where a kernel looks.
pub const MP_POINTER: GuestPhys = GuestPhys(0);
/// Boot parameters ("zero page") or the PVH start info.
pub const BOOT_PARAMS: GuestPhys = GuestPhys(0x7000);
/// The GDT of a kernel's first instructions.
pub const GDT: GuestPhys = GuestPhys(0x8000);
/// Page tables of a kernel's first instructions.
pub const PAGE_TABLES: GuestPhys = GuestPhys(0x9000);
/// The command line.
pub const COMMAND_LINE: GuestPhys = GuestPhys(0x2_0000);
/// Its longest form, with the final zero.
pub const COMMAND_LINE_MAX: usize = 0x1_0000;
/// The extended BIOS data area: RAM for the guest ends here below 1 MiB, and the MP table is in it.
pub const EBDA: GuestPhys = GuestPhys(0x9_fc00);
/// The ACPI tables, where a kernel looks for their root pointer.
pub const ACPI: GuestPhys = GuestPhys(0xe_0000);
/// Where usable RAM goes on, and a kernel lies.
pub const HIGH_RAM: GuestPhys = GuestPhys(0x10_0000);

/// Splits `memory` bytes of RAM around the hole for devices.
pub fn ram_ranges(memory: u64) -> Vec<(GuestPhys, u64)> {
    if memory <= HOLE_START {
        vec![(GuestPhys(0), memory)]
    } else {
        vec![(GuestPhys(0), HOLE_START), (GuestPhys(HOLE_END), memory - HOLE_START)]
    }
}
