//! Linux kernels packed as bzImage: checks the setup header against the file, loads the kernel proper.
//! It never runs the 16-bit or 32-bit setup code: the kernel is entered at its 64-bit entry.

use std::io::Cursor;

use linux_loader::bootparam::setup_header;
use linux_loader::loader::{BzImage, KernelLoader};
use vm_memory::{ByteValued, GuestAddress};

use crate::addr::GuestPhys;
use crate::boot::image::{Loaded, Options};
use crate::boot::layout::HIGH_RAM;
use crate::boot::linux::{self, Kernel};
use crate::boot::room::{Room, size};
use crate::error::Result;
use crate::memory::Memory;
use crate::x86::Sregs;

/// Where "HdrS" is.
pub const MAGIC_AT: usize = 0x202;
const HEADER_AT: usize = 0x1f1;
/// The byte that says how far beyond [`MAGIC_AT`] the header goes.
const LENGTH_AT: usize = 0x201;
/// Where a header of protocol 2.12 ends at least.
const HEADER_END: usize = 0x268;
/// The first protocol with a 64-bit entry.
const VERSION: u16 = 0x020c;
const LOADED_HIGH: u8 = 1;
const XLF_KERNEL_64: u16 = 1;
const SECTOR: usize = 512;
/// The 64-bit entry, counted from where the kernel is loaded.
const ENTRY: u64 = 0x200;

/// Loads a bzImage and begins at its 64-bit entry.
pub fn load(memory: &Memory, image: &[u8], options: &Options, reset: &Sregs) -> Result<Loaded> {
    let room = Room::new(memory, "bzImage");
    let header = header(&room, image)?;
    let packed = packed_size(&room, &header, image)?;
    let cmdline_max = usize::try_from(header.cmdline_size).unwrap_or(usize::MAX).saturating_add(1);
    let mut room = linux::prepare(room, options, cmdline_max)?;
    let at = GuestPhys(header.code32_start.into());
    if at < HIGH_RAM {
        return Err(room.wrong(format!("it loads at {at:#x}, below {HIGH_RAM:#x}")));
    }
    let (first, end) = extent(&room, &header, packed)?;
    room.claim(first, end.0 - first.0, "the kernel")?;
    let read =
        |map: &_| BzImage::load(map, Some(GuestAddress(at.0)), &mut Cursor::new(image), Some(GuestAddress(HIGH_RAM.0)));
    memory.with_map(read).map_err(|e| room.wrong(e.to_string()))?;
    let initrd_limit = u64::from(header.initrd_addr_max) + 1;
    linux::enter(room, Kernel { entry: at.plus(ENTRY)?, end, header, initrd_limit }, options, reset)
}

/// The setup header, as far as the file says that it goes.
fn header(room: &Room, image: &[u8]) -> Result<setup_header> {
    let cut_short = || room.wrong(format!("cut short: {:#x} bytes end in its header", image.len()));
    let end = MAGIC_AT + usize::from(*image.get(LENGTH_AT).ok_or_else(cut_short)?);
    let bytes = image.get(HEADER_AT..end).ok_or_else(cut_short)?;
    let mut header = setup_header::default();
    header.as_mut_slice().iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    let (magic, version, xloadflags) = (header.header, header.version, header.xloadflags);
    if magic != linux::HEADER_MAGIC {
        return Err(room.wrong("no HdrS at 0x202"));
    }
    if version < VERSION || end < HEADER_END {
        let (major, minor) = (version >> 8, version & 0xff);
        return Err(room.wrong(format!("boot protocol {major}.{minor:02}; 2.12 is the first with a 64-bit entry")));
    }
    if header.loadflags & LOADED_HIGH == 0 {
        return Err(room.wrong("a zImage, which loads below 1 MiB"));
    }
    if xloadflags & XLF_KERNEL_64 == 0 {
        return Err(room.wrong(format!("no 64-bit entry (xloadflags {xloadflags:#x}): a 32-bit kernel")));
    }
    Ok(header)
}

/// The size of the kernel proper, which follows the setup sectors.
fn packed_size(room: &Room, header: &setup_header, image: &[u8]) -> Result<u64> {
    let sectors = if header.setup_sects == 0 { 4 } else { usize::from(header.setup_sects) };
    let setup = (sectors + 1) * SECTOR;
    let here = image.len().checked_sub(setup).map_or(0, size);
    let paragraphs = u64::from(header.syssize);
    // Old build tools round the count of paragraphs up and do not fill the last one.
    if here <= ENTRY || here + 15 < paragraphs * 16 {
        let (len, wants) = (image.len(), size(setup) + paragraphs * 16);
        return Err(room.wrong(format!("cut short: {len:#x} bytes of {wants:#x}")));
    }
    Ok(here)
}

/// The range that the kernel uses before it looks at the memory map: itself, and where it unpacks.
fn extent(room: &Room, header: &setup_header, packed: u64) -> Result<(GuestPhys, GuestPhys)> {
    let (at, preferred) = (u64::from(header.code32_start), header.pref_address);
    let unpacked = match header.relocatable_kernel {
        0 => Some(preferred),
        _ => at.max(preferred).checked_next_multiple_of(u64::from(header.kernel_alignment).max(1)),
    };
    let end = unpacked.and_then(|to| to.checked_add(header.init_size.into()));
    let (unpacked, end) = unpacked
        .zip(end)
        .ok_or_else(|| room.wrong(format!("it unpacks beyond the address space (preferred address {preferred:#x})")))?;
    Ok((GuestPhys(at.min(unpacked)), GuestPhys(end.max(at + packed))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::samples::{self, memory, read_u32};
    use crate::error::Error;
    use crate::x86::Gpr;

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut image = samples::bzimage();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        image
    }

    fn boot(image: &[u8]) -> Result<Loaded> {
        load(&memory(0x80_0000), image, &Options::default(), &Sregs::default())
    }

    fn reason(image: &[u8]) -> String {
        boot(image).expect_err("a bad file").to_string()
    }

    #[test]
    fn a_bzimage_begins_at_its_64_bit_entry() {
        let memory = memory(0x80_0000);
        let options = Options { cmdline: "quiet".into(), initrd: Some(vec![7; 0x1000]), ..Options::default() };
        let loaded = load(&memory, &samples::bzimage(), &options, &Sregs::default()).unwrap();
        assert_eq!((loaded.format, loaded.entry, loaded.end), ("bzImage", GuestPhys(0x10_0200), GuestPhys(0x30_0000)));
        assert_eq!((loaded.start.regs[Gpr::Rip], loaded.start.regs[Gpr::Rsi]), (0x10_0200, 0x7000));
        assert_eq!(memory.read_vec(GuestPhys(0x10_0200), 4).unwrap(), [0x90; 4]);
        let word = |at: u64| read_u32(&memory, GuestPhys(0x7000 + at));
        assert_eq!((word(0x214), word(0x228), word(0x260)), (0x10_0000, 0x2_0000, 0x10_0000));
        assert_eq!((word(0x218), word(0x21c)), (0x5f_f000, 0x1000), "below initrd_addr_max");
    }

    #[test]
    fn a_file_cut_short_is_refused_at_every_length() {
        let image = samples::bzimage();
        for len in 0..image.len() - 15 {
            assert!(matches!(boot(&image[..len]), Err(Error::Image { .. })), "{len} bytes");
        }
    }

    #[test]
    fn kernels_without_a_64_bit_entry_are_refused() {
        assert_eq!(reason(&with(0x202, b"HdrT")), "bzImage: no HdrS at 0x202");
        assert!(reason(&with(0x206, &[0x0b, 2])).contains("boot protocol 2.11;"));
        assert!(reason(&with(0x211, &[0])).contains("zImage"));
        assert!(reason(&with(0x236, &[0, 0])).contains("no 64-bit entry (xloadflags 0x0)"));
        assert!(reason(&with(0x201, &[0x10])).contains("2.12 is the first"), "a header that ends early");
    }

    #[test]
    fn a_kernel_that_unpacks_outside_ram_is_refused() {
        assert!(reason(&with(0x260, &0x1000_0000u32.to_le_bytes())).contains("RAM ends at 0x800000"));
        assert!(reason(&with(0x258, &u64::MAX.to_le_bytes())).contains("beyond the address space"));
        assert!(reason(&with(0x214, &0xf_0000u32.to_le_bytes())).contains("below 0x100000"));
        assert!(reason(&with(0x214, &u32::MAX.to_le_bytes())).contains("RAM ends"));
    }

    #[test]
    fn a_kernel_that_cannot_be_moved_unpacks_at_its_preferred_address() {
        assert_eq!(boot(&with(0x234, &[0])).unwrap().end, GuestPhys(0x30_0000));
        let mut low = with(0x234, &[0]);
        low[0x258..0x260].fill(0);
        assert!(matches!(boot(&low), Err(Error::Overlap { at: 0, .. })));
    }

    #[test]
    fn the_command_line_is_as_long_as_the_kernel_allows() {
        let options = |n| Options { cmdline: "a".repeat(n), ..Options::default() };
        let image = with(0x238, &16u32.to_le_bytes());
        assert!(load(&memory(0x80_0000), &image, &options(16), &Sregs::default()).is_ok());
        assert!(load(&memory(0x80_0000), &image, &options(17), &Sregs::default()).is_err());
    }
}
