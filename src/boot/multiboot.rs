//! Multiboot 1 (specification 0.6.96): finds the header, loads by its addresses or as ELF, hands over the info.
//! It never sets a video mode: a kernel that asks for one is told that there is none.

use crate::addr::{GuestPhys, GuestVirt};
use crate::boot::e820;
use crate::boot::elf::{self, Elf, Segment};
use crate::boot::handover::{self, Placed};
use crate::boot::image::{Loaded, Options};
use crate::boot::layout::{BOOT_PARAMS, COMMAND_LINE, COMMAND_LINE_MAX, EBDA, GDT, HIGH_RAM, HOLE_END};
use crate::boot::room::{Room, size};
use crate::error::Result;
use crate::memory::Memory;
use crate::x86::{Gpr, Sregs};

const HEADER_MAGIC: u32 = 0x1bad_b002;
const LOADED_MAGIC: u64 = 0x2bad_b002;
/// The header lies wholly in this much of the file, on 4 bytes.
const SEARCH: usize = 0x2000;
/// Requirements that are met: modules on pages, memory information; and a video mode, which is not given.
const KNOWN: u32 = 0b111;
/// The half of the flags that a boot loader must understand.
const REQUIRED: u32 = 0xffff;
/// The header has addresses.
const ADDRESSES: u32 = 1 << 16;

/// What is valid in the info structure.
mod valid {
    pub const MEMORY: u32 = 1;
    pub const COMMAND_LINE: u32 = 1 << 2;
    pub const MODULES: u32 = 1 << 3;
    pub const MEMORY_MAP: u32 = 1 << 6;
    pub const LOADER_NAME: u32 = 1 << 9;
}

const INFO_LEN: usize = 116;
/// The info's tables, behind the GDT in its page.
const MODULES: GuestPhys = GuestPhys(GDT.0 + 0x80);
const LOADER_NAME: GuestPhys = GuestPhys(GDT.0 + 0xa0);
const MEMORY_MAP: GuestPhys = GuestPhys(GDT.0 + 0x100);
const NAME: &[u8; 8] = b"belljar\0";
const MODULE_LEN: u64 = 16;
/// The most lines of the memory map, as for Linux.
const MAP_MAX: usize = 128;

/// A header in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its offset in the file.
    pub at: usize,
    /// Its flags.
    pub flags: u32,
}

/// The first header whose checksum is right.
pub fn find(image: &[u8]) -> Option<Header> {
    (0..=SEARCH - 12).step_by(4).find_map(|at| {
        let (magic, flags, checksum) = (word(image, at)?, word(image, at + 4)?, word(image, at + 8)?);
        let sum = magic.wrapping_add(flags).wrapping_add(checksum);
        (magic == HEADER_MAGIC && sum == 0).then_some(Header { at, flags })
    })
}

/// Loads `image` and begins at its entry with the info in EBX.
pub fn load(memory: &Memory, image: &[u8], options: &Options, reset: &Sregs) -> Result<Loaded> {
    let mut room = Room::new(memory, "Multiboot");
    let header = find(image).ok_or_else(|| room.wrong("no header in the first 8 KiB"))?;
    if header.flags & REQUIRED & !KNOWN != 0 {
        return Err(room.wrong(format!("it requires what is not here (flags {:#x})", header.flags)));
    }
    let (segments, entry) = match header.flags & ADDRESSES {
        0 => Elf::parse(image).and_then(|elf| elf.entry().map(|entry| (elf.segments, entry)))?,
        _ => addressed(&room, image, header).map(|(segment, entry)| (vec![segment], entry))?,
    };
    handover::hardware_tables(&mut room, options)?;
    room.claim(BOOT_PARAMS, size(INFO_LEN), "the Multiboot info")?;
    room.claim(MODULES, MODULE_LEN, "the module list")?;
    room.put(LOADER_NAME, NAME, "the boot loader's name")?;
    let mut start = handover::enter_flat(&mut room, entry, reset)?;
    handover::command_line(&mut room, &options.cmdline, COMMAND_LINE_MAX)?;
    let map_len = put_map(&mut room)?;
    let end = elf::place(&mut room, &segments)?;
    let initrd = handover::initrd(&mut room, options, HOLE_END)?;
    put_info(&room, initrd, map_len)?;
    start.regs[Gpr::Rax] = LOADED_MAGIC;
    start.regs[Gpr::Rbx] = BOOT_PARAMS.0;
    Ok(Loaded { start, format: room.format(), entry, end })
}

/// The one segment of a header with addresses ("a.out kludge"), and the entry.
fn addressed<'a>(room: &Room, image: &'a [u8], header: Header) -> Result<(Segment<'a>, GuestPhys)> {
    let field = |n: usize| word(image, header.at + 12 + n * 4).map(u64::from);
    let fields = (|| Some([field(0)?, field(1)?, field(2)?, field(3)?, field(4)?]))();
    let fields = fields.ok_or_else(|| room.wrong("cut short: the file ends in the header"))?;
    let [header_at, at, load_end, bss_end, entry] = fields;
    let wrong =
        || room.wrong(format!("its addresses (header, load, load end, bss end, entry) contradict: {fields:#x?}"));
    let before = header_at.checked_sub(at).and_then(|by| usize::try_from(by).ok()).ok_or_else(wrong)?;
    let from = header.at.checked_sub(before).ok_or_else(wrong)?;
    let rest = image.get(from..).ok_or_else(wrong)?;
    let filled = if load_end == 0 { size(rest.len()) } else { load_end.checked_sub(at).ok_or_else(wrong)? };
    let data = usize::try_from(filled).ok().and_then(|n| rest.get(..n));
    let data =
        data.ok_or_else(|| room.wrong(format!("cut short: {filled:#x} bytes to load, {:#x} there", rest.len())))?;
    let len = if bss_end == 0 { filled } else { bss_end.checked_sub(at).filter(|n| *n >= filled).ok_or_else(wrong)? };
    if entry.checked_sub(at).is_none_or(|by| by >= len) {
        return Err(wrong());
    }
    Ok((Segment { at: GuestPhys(at), virt: GuestVirt(at), data, len }, GuestPhys(entry)))
}

/// Writes the memory map; its length in bytes.
fn put_map(room: &mut Room) -> Result<u32> {
    let map = e820::map(room.memory());
    if map.len() > MAP_MAX {
        return Err(room.wrong(format!("{} ranges of memory; at most {MAP_MAX}", map.len())));
    }
    let mut bytes = Vec::new();
    for e in map {
        bytes.extend(20u32.to_le_bytes()); // of the rest of this line
        bytes.extend(e.at.0.to_le_bytes());
        bytes.extend(e.len.to_le_bytes());
        bytes.extend(e.kind.to_le_bytes());
    }
    room.put(MEMORY_MAP, &bytes, "the memory map")?;
    Ok(low(size(bytes.len())))
}

/// Writes the info structure and the one module.
fn put_info(room: &Room, initrd: Placed, map_len: u32) -> Result<()> {
    let mut flags = valid::MEMORY | valid::COMMAND_LINE | valid::MEMORY_MAP | valid::LOADER_NAME;
    if initrd.len != 0 {
        flags |= valid::MODULES;
        let empty = LOADER_NAME.0 + size(NAME.len()) - 1; // the module's command line: the name's final zero
        room.memory().write(MODULES, &words(&[initrd.at.0, initrd.at.0 + initrd.len, empty, 0]))?;
    }
    let kib = |from: GuestPhys, to: GuestPhys| low(to.0.saturating_sub(from.0) / 1024);
    let mut info = [0u32; INFO_LEN / 4];
    info[0] = flags;
    info[1] = kib(GuestPhys(0), room.low_end().min(EBDA));
    info[2] = kib(HIGH_RAM, room.low_end());
    info[4] = low(COMMAND_LINE.0);
    info[5] = u32::from(initrd.len != 0);
    info[6] = low(MODULES.0);
    info[11] = map_len;
    info[12] = low(MEMORY_MAP.0);
    info[16] = low(LOADER_NAME.0);
    room.memory().write(BOOT_PARAMS, &info.map(u32::to_le_bytes).concat())
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| low(*value).to_le_bytes()).collect()
}

/// A value as Multiboot's 32 bits hold it; all that it is used for lies below 4 GiB.
fn low(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn word(image: &[u8], at: usize) -> Option<u32> {
    image.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::samples::{self, memory, read_u32};
    use crate::error::Error;
    use crate::source::ReadMemory;

    fn boot(image: &[u8]) -> Result<Loaded> {
        load(&memory(0x80_0000), image, &Options::default(), &Sregs::default())
    }

    #[test]
    fn a_kernel_finds_the_magic_and_the_info() {
        let memory = memory(0x80_0000);
        let options = Options { cmdline: "quiet".into(), initrd: Some(vec![7; 0x1800]), ..Options::default() };
        let loaded = load(&memory, &samples::multiboot(), &options, &Sregs::default()).unwrap();
        assert_eq!(
            (loaded.format, loaded.entry, loaded.end),
            ("Multiboot", GuestPhys(0x10_000c), GuestPhys(0x10_1000))
        );
        let regs = loaded.start.regs;
        assert_eq!((regs[Gpr::Rax], regs[Gpr::Rbx], loaded.start.sregs.code_bits()), (0x2bad_b002, 0x7000, 32));
        let word = |at: u64| read_u32(&memory, GuestPhys(at));
        assert_eq!((word(0x7000), word(0x7004), word(0x7008)), (0x24d, 639, 0x1c00));
        assert_eq!((word(0x7010), word(0x7014), word(0x7018)), (0x2_0000, 1, 0x8080));
        assert_eq!([word(0x8080), word(0x8084), word(0x808c)], [0x7f_e000, 0x7f_f800, 0]);
        assert_eq!(memory.read_vec(GuestPhys(word(0x8088).into()), 1).unwrap(), [0]);
        assert_eq!((word(0x702c), word(0x7030), word(0x7040)), (72, 0x8100, 0x80a0));
        assert_eq!(memory.read_vec(GuestPhys(0x80a0), 8).unwrap(), NAME);
        assert_eq!((word(0x8100), memory.read_u64(GuestPhys(0x810c)).unwrap(), word(0x8114)), (20, 0x9_fc00, 1));
    }

    #[test]
    fn the_addresses_of_the_header_say_what_to_load() {
        let memory = memory(0x80_0000);
        memory.write(GuestPhys(0x10_0000), &[0xff; 0x3000]).unwrap();
        let loaded = load(&memory, &samples::multiboot_addressed(), &Options::default(), &Sregs::default()).unwrap();
        assert_eq!((loaded.entry, loaded.end), (GuestPhys(0x10_0020), GuestPhys(0x10_2000)));
        let bytes = memory.read_vec(GuestPhys(0x10_0000), 0x2001).unwrap();
        assert_eq!((&bytes[..4], &bytes[0x20..0x24]), (&[0x02, 0xb0, 0xad, 0x1b][..], &[0xf4; 4][..]));
        assert_eq!((bytes[0x24..0x2000].iter().any(|b| *b != 0), bytes[0x2000]), (false, 0xff));
    }

    #[test]
    fn the_header_is_on_four_bytes_in_the_first_eight_kib() {
        let header = &samples::multiboot_addressed()[8..20];
        let at = |n: usize| [&vec![0; n], header].concat();
        assert_eq!(find(&at(0x1ff4)), Some(Header { at: 0x1ff4, flags: 0x1_0003 }));
        assert_eq!((find(&at(0x1ff8)), find(&at(2)), find(&[])), (None, None, None));
        let mut wrong = at(0);
        wrong[8] ^= 1;
        assert_eq!(find(&wrong), None);
    }

    #[test]
    fn a_requirement_that_is_not_known_is_refused() {
        for bit in 3..16 {
            let error = boot(&samples::multiboot_flags(1 << bit)).unwrap_err().to_string();
            assert!(error.contains("it requires"), "{error}");
        }
        assert!(boot(&samples::multiboot_flags(0b111)).is_ok());
    }

    #[test]
    fn contradicting_addresses_are_refused() {
        let good = samples::multiboot_addressed();
        assert!(boot(&good).is_ok());
        let bad: [(usize, &[u32]); 5] = [
            (0, &[1, 0x10_0009, u32::MAX]),           // header: before what is loaded, before the file
            (1, &[1, 0x10_0001, u32::MAX]),           // load: before the file, behind the header
            (2, &[1, 0xf_ffff, 0x10_0100, u32::MAX]), // load end: before load, behind the file
            (3, &[1, 0x10_0023, u32::MAX]),           // bss end: before load end, behind RAM
            (4, &[0, 0xf_ffff, 0x10_2000, u32::MAX]), // entry: outside
        ];
        for (field, value) in bad.iter().flat_map(|(field, values)| values.iter().map(move |v| (*field, *v))) {
            let mut image = good.clone();
            image[20 + field * 4..][..4].copy_from_slice(&value.to_le_bytes());
            assert!(matches!(boot(&image), Err(Error::Image { .. })), "{field} {value:#x}");
        }
        for len in 8..good.len() {
            assert!(boot(&good[..len]).is_err(), "{len} bytes");
        }
    }
}
