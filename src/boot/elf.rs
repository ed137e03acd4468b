//! ELF files of 32 and 64 bits: what goes where in memory, the entry, the PVH note.
//! It never says in which mode the entry is reached.
//!
//! The `object` crate reads them and not linux-loader, which has no ELF32 and whose sums over notes can overflow.

use object::elf::{EM_386, EM_X86_64, ET_DYN, ET_EXEC, FileHeader32, FileHeader64, Machine, PT_INTERP, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

use crate::addr::{GuestPhys, GuestVirt};
use crate::boot::room::{Room, size};
use crate::error::{Error, Result};

/// More program headers than this are refused: kernels have fewer than ten, and checks take their square.
const MAX_HEADERS: usize = 128;
/// The note whose value is the 32-bit entry (xen/include/public/elfnote.h, `XEN_ELFNOTE_PHYS32_ENTRY`).
const PHYS32_ENTRY: u32 = 18;

/// Bytes of a file that go to one place in memory.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    /// Where they go.
    pub at: GuestPhys,
    /// Where the guest will see them once it has page tables.
    pub virt: GuestVirt,
    /// The bytes.
    pub data: &'a [u8],
    /// How long the segment is in memory: what `data` does not fill is zero.
    pub len: u64,
}

/// A file that has been read.
#[derive(Clone, Debug)]
pub struct Elf<'a> {
    /// `ELF32` or `ELF64`.
    pub format: &'static str,
    /// Is it 64-bit code?
    pub long: bool,
    /// The entry that a PVH note names.
    pub pvh: Option<GuestPhys>,
    /// What to load, in the order of the file.
    pub segments: Vec<Segment<'a>>,
    entry: u64,
}

impl<'a> Elf<'a> {
    /// Reads a little-endian i386 or x86-64 executable.
    pub fn parse(image: &'a [u8]) -> Result<Self> {
        match image.get(4) {
            Some(2) => Self::read::<FileHeader64<object::LittleEndian>>(image, "ELF64", EM_X86_64),
            _ => Self::read::<FileHeader32<object::LittleEndian>>(image, "ELF32", EM_386),
        }
    }

    fn read<H: FileHeader>(image: &'a [u8], format: &'static str, machine: Machine) -> Result<Self> {
        let wrong = |reason: String| Error::Image { format, reason };
        let header = H::parse(image).map_err(|e| wrong(e.to_string()))?;
        let endian = header.endian().map_err(|e| wrong(e.to_string()))?;
        if header.e_machine(endian) != machine {
            return Err(wrong(format!("machine type {}, not {}", header.e_machine(endian).0, machine.0)));
        }
        if ![ET_EXEC, ET_DYN].contains(&header.e_type(endian)) {
            return Err(wrong(format!("file type {}, not an executable", header.e_type(endian).0)));
        }
        let headers = header.program_headers(endian, image).map_err(|e| wrong(e.to_string()))?;
        if headers.len() > MAX_HEADERS {
            return Err(wrong(format!("{} program headers; at most {MAX_HEADERS} are read", headers.len())));
        }
        if headers.iter().any(|h| h.p_type(endian) == PT_INTERP) {
            return Err(wrong("dynamically linked: it asks for an interpreter".into()));
        }
        let loads = headers.iter().filter(|h| h.p_type(endian) == PT_LOAD && h.p_memsz(endian).into() != 0);
        let segments: Vec<_> = loads.map(|h| segment(h, endian, image).map_err(wrong)).collect::<Result<_>>()?;
        if segments.is_empty() {
            return Err(wrong("no loadable segment".into()));
        }
        let pvh = headers.iter().find_map(|h| pvh_entry(h, endian, image));
        Ok(Self { format, long: header.is_class_64(), pvh, segments, entry: header.e_entry(endian).into() })
    }

    /// The physical address of the entry, which files give as a physical or as a virtual one.
    pub fn entry(&self) -> Result<GuestPhys> {
        if self.holds(GuestPhys(self.entry)) {
            return Ok(GuestPhys(self.entry));
        }
        let physical = |s: &Segment| s.at.plus(offset(self.entry, s.virt.0, s.len)?).ok();
        self.segments.iter().find_map(physical).ok_or_else(|| Error::Image {
            format: self.format,
            reason: format!("its entry {:#x} is in no segment", self.entry),
        })
    }

    /// Is `at` in one of the segments?
    pub fn holds(&self, at: GuestPhys) -> bool {
        self.segments.iter().any(|s| offset(at.0, s.at.0, s.len).is_some())
    }

    /// Puts all segments into memory; one past their last byte.
    pub fn place(&self, room: &mut Room) -> Result<GuestPhys> {
        place(room, &self.segments)
    }
}

/// Puts `segments` into memory, after checking all of them; one past their last byte.
pub fn place(room: &mut Room, segments: &[Segment]) -> Result<GuestPhys> {
    for s in segments {
        room.claim(s.at, s.len, "the kernel")?;
    }
    let mut end = GuestPhys(0);
    for s in segments {
        let filled = size(s.data.len());
        room.memory().write(s.at, s.data)?;
        room.memory().zero(s.at.plus(filled)?, s.len.saturating_sub(filled))?;
        end = end.max(s.at.plus(s.len)?);
    }
    Ok(end)
}

/// How far `address` is behind `first`, if that is less than `len`.
fn offset(address: u64, first: u64, len: u64) -> Option<u64> {
    address.checked_sub(first).filter(|by| *by < len)
}

fn segment<'a, P: ProgramHeader>(header: &P, endian: P::Endian, image: &'a [u8]) -> Result<Segment<'a>, String> {
    let (from, filled) = header.file_range(endian);
    let len = header.p_memsz(endian).into();
    if filled > len {
        return Err(format!("a segment of {len:#x} bytes has {filled:#x} bytes in the file"));
    }
    let data = header.data(endian, image).map_err(|()| {
        format!("cut short: a segment has {filled:#x} bytes at {from:#x} of a file of {:#x}", image.len())
    })?;
    let (at, virt) = (header.p_paddr(endian).into(), header.p_vaddr(endian).into());
    Ok(Segment { at: GuestPhys(at), virt: GuestVirt(virt), data, len })
}

/// The value of the PVH note, if it is in this segment and makes sense.
fn pvh_entry<P: ProgramHeader>(header: &P, endian: P::Endian, image: &[u8]) -> Option<GuestPhys> {
    let mut notes = header.notes(endian, image).ok()??;
    while let Ok(Some(note)) = notes.next() {
        if note.name() == b"Xen" && note.n_type(endian).0 == PHYS32_ENTRY {
            let value = note.desc();
            let narrow = || value.try_into().ok().map(u32::from_le_bytes).map(u64::from);
            let wide = || value.try_into().ok().map(u64::from_le_bytes);
            return narrow().or_else(wide).map(GuestPhys);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::samples::{Load, elf32, elf64, memory};

    fn load(phys: u64, bytes: &[u8], memsz: u64) -> Load {
        Load { virt: phys, phys, bytes: bytes.to_vec(), memsz }
    }

    fn reason(image: &[u8]) -> String {
        Elf::parse(image).expect_err("a bad file").to_string()
    }

    #[test]
    fn segments_go_to_their_physical_address_and_the_rest_is_zero() {
        let memory = memory(0x30_0000);
        memory.write(GuestPhys(0x10_0000), &[0xff; 0x3000]).unwrap();
        for image in [
            elf64(0x10_0000, &[load(0x10_0000, b"abc", 0x1800), load(0x20_0000, b"z", 1)], None),
            elf32(0x10_0000, &[load(0x10_0000, b"abc", 0x1800), load(0x20_0000, b"z", 1)], None),
        ] {
            let elf = Elf::parse(&image).unwrap();
            let end = elf.place(&mut Room::new(&memory, elf.format)).unwrap();
            assert_eq!((end, elf.entry().unwrap()), (GuestPhys(0x20_0001), GuestPhys(0x10_0000)));
            let mut bytes = memory.read_vec(GuestPhys(0x10_0000), 0x1801).unwrap();
            assert_eq!(bytes.pop(), Some(0xff));
            assert_eq!((&bytes[..3], bytes[3..].iter().any(|b| *b != 0)), (&b"abc"[..], false));
            assert_eq!(memory.read_vec(GuestPhys(0x20_0000), 1).unwrap(), b"z");
        }
    }

    #[test]
    fn a_virtual_entry_becomes_physical() {
        let kernel = Load { virt: 0xffff_ffff_8010_0000, ..load(0x10_0000, b"abc", 0x1000) };
        let image = elf64(0xffff_ffff_8010_0010, std::slice::from_ref(&kernel), None);
        assert_eq!(Elf::parse(&image).unwrap().entry().unwrap(), GuestPhys(0x10_0010));
        let image = elf64(0x10_0010, std::slice::from_ref(&kernel), None);
        assert_eq!(Elf::parse(&image).unwrap().entry().unwrap(), GuestPhys(0x10_0010));
        let image = elf64(0x5000, &[kernel], None);
        let error = Elf::parse(&image).unwrap().entry().unwrap_err().to_string();
        assert_eq!(error, "ELF64: its entry 0x5000 is in no segment");
    }

    #[test]
    fn the_pvh_note_is_found() {
        let loads = [load(0x10_0000, b"abc", 0x1000)];
        for image in [elf64(0x10_0000, &loads, Some(0x10_0123)), elf32(0x10_0000, &loads, Some(0x10_0123))] {
            assert_eq!(Elf::parse(&image).unwrap().pvh, Some(GuestPhys(0x10_0123)));
        }
        assert_eq!(Elf::parse(&elf64(0x10_0000, &loads, None)).unwrap().pvh, None);
    }

    #[test]
    fn a_file_cut_short_is_refused_at_every_length() {
        let image = elf64(0x10_0000, &[load(0x10_0000, b"abc", 0x1000)], None);
        for len in 0..image.len() {
            assert!(matches!(Elf::parse(&image[..len]), Err(Error::Image { .. })), "{len} bytes");
        }
    }

    #[test]
    fn what_is_no_x86_executable_is_refused() {
        let good = elf64(0x10_0000, &[load(0x10_0000, b"abc", 0x1000)], None);
        let with = |at: usize, byte: u8| {
            let mut image = good.clone();
            image[at] = byte;
            image
        };
        assert!(reason(&with(0, 0)).contains("Unsupported"));
        assert!(reason(&with(4, 3)).contains("ELF32"));
        assert!(reason(&with(5, 2)).contains("endian"), "big-endian");
        assert_eq!(reason(&with(16, 1)), "ELF64: file type 1, not an executable");
        assert_eq!(reason(&with(18, 183)), "ELF64: machine type 183, not 62");
        assert_eq!(reason(&with(64, 3)), "ELF64: dynamically linked: it asks for an interpreter");
        assert_eq!(reason(&with(64, 7)), "ELF64: no loadable segment");
        assert!(reason(&with(57, 1)).contains("program header"), "257 headers");
        let twice = elf64(0x10_0000, &vec![load(0x10_0000, b"", 1); 129], None);
        assert_eq!(reason(&twice), "ELF64: 129 program headers; at most 128 are read");
        assert!(reason(&elf64(0, &[load(0, b"abc", 2)], None)).contains("0x3 bytes in the file"));
    }

    #[test]
    fn segments_outside_ram_or_on_each_other_are_refused() {
        let memory = memory(0x20_0000);
        let place = |loads: &[Load]| {
            let image = elf64(0x10_0000, loads, None);
            Elf::parse(&image).unwrap().place(&mut Room::new(&memory, "ELF64")).unwrap_err()
        };
        let error = place(&[load(0x10_0000, b"abc", 0x10_0001)]).to_string();
        assert_eq!(error, "ELF64: the kernel needs 0x100001 bytes at 0x100000; RAM ends at 0x200000");
        for at in [0x20_0000, 1 << 63, u64::MAX] {
            assert!(matches!(place(&[load(at, b"abc", u64::MAX)]), Error::Image { .. }));
        }
        let error = place(&[load(0x10_0000, b"abc", 0x1000), load(0x10_0fff, b"abc", 3)]);
        assert!(matches!(error, Error::Overlap { at: 0x10_0fff, with: 0x10_0000, .. }));
    }
}
