//! ELF core files: program headers and notes, of QEMU's dump-guest-memory, of Linux' /proc/vmcore, and our own.
//! It never reads the memory in them.

use super::{Note, ReadAt, Saved, Segment, number};
use crate::error::{Error, Result};

const FORMAT: &str = "ELF core";
/// More program headers than this are refused. QEMU writes one for each stretch that page tables map in one piece.
const MOST_HEADERS: u64 = 1 << 16;
/// More bytes of notes than this are refused: 4096 vCPUs need less.
const MOST_NOTES: u64 = 64 << 20;
/// More notes than this are refused.
const MOST_COUNT: usize = 1 << 16;
/// `e_phnum` where the number is in `sh_info` of section 0 (elf(5), PN_XNUM).
const IN_SECTION: u64 = 0xffff;

const ET_CORE: u64 = 4;
const PT_LOAD: u64 = 1;
const PT_NOTE: u64 = 4;
const PF_W: u64 = 2;
const PF_R: u64 = 4;

fn wrong(reason: String) -> Error {
    Error::Image { format: FORMAT, reason }
}

/// Where the fields are, which depends on the class.
struct Class {
    /// Bytes of an address.
    word: usize,
    header: usize,
    phoff: usize,
    shoff: usize,
    phentsize: usize,
    /// Bytes of a program header, and where its flags, offset, virtual and physical address, and sizes are.
    entry: usize,
    flags: usize,
    places: [usize; 5],
    /// Where `sh_info` is in a section header, and how long that is.
    info: usize,
    section: usize,
}

const CLASS64: Class = Class {
    word: 8,
    header: 64,
    phoff: 32,
    shoff: 40,
    phentsize: 54,
    entry: 56,
    flags: 4,
    places: [8, 16, 24, 32, 40],
    info: 44,
    section: 64,
};
const CLASS32: Class = Class {
    word: 4,
    header: 52,
    phoff: 28,
    shoff: 32,
    phentsize: 42,
    entry: 32,
    flags: 24,
    places: [4, 8, 12, 16, 20],
    info: 28,
    section: 40,
};

struct ProgramHeader {
    kind: u64,
    flags: u64,
    offset: u64,
    virt: u64,
    phys: u64,
    filled: u64,
    len: u64,
}

impl ProgramHeader {
    fn parse(class: &Class, bytes: &[u8]) -> Self {
        let [offset, virt, phys, filled, len] = class.places.map(|at| number(bytes, at, class.word));
        let (kind, flags) = (number(bytes, 0, 4), number(bytes, class.flags, 4));
        Self { kind, flags, offset, virt, phys, filled, len }
    }
}

/// Reads the headers and the notes.
pub fn read(file: &(impl ReadAt + ?Sized)) -> Result<Saved> {
    let (class, header) = class_of(file)?;
    let field = |at, size| number(&header, at, size);
    if field(16, 2) != ET_CORE {
        return Err(wrong(format!("file type {}, not a core file: is it a program?", field(16, 2))));
    }
    let (first, each) = (field(class.phoff, class.word), field(class.phentsize, 2));
    if each != u64::try_from(class.entry).unwrap_or(0) {
        return Err(wrong(format!("program headers of {each} bytes, not {}", class.entry)));
    }
    let mut count = field(class.phentsize + 2, 2);
    if count == IN_SECTION {
        let at = field(class.shoff, class.word);
        let section = bytes(file, at, class.section, "section header 0")?;
        count = number(&section, class.info, 4);
    }
    if count > MOST_HEADERS {
        return Err(wrong(format!("{count} program headers; at most {MOST_HEADERS} are read")));
    }
    let table = bytes(file, first, class.entry * usize::try_from(count).unwrap_or(0), "the program headers")?;
    let (mut saved, mut room) = (Saved { format: FORMAT, ..Saved::default() }, MOST_NOTES);
    for (index, entry) in table.chunks_exact(class.entry).enumerate() {
        let header = ProgramHeader::parse(class, entry);
        match header.kind {
            PT_LOAD => saved.segments.push(segment(&header, index, file.len())?),
            PT_NOTE => notes(file, &header, &mut room, &mut saved.notes)?,
            _ => {}
        }
    }
    Ok(saved)
}

fn class_of(file: &(impl ReadAt + ?Sized)) -> Result<(&'static Class, Vec<u8>)> {
    let ident = bytes(file, 0, 20, "the header")?;
    let (class, machine) = match ident[4] {
        2 => (&CLASS64, 62),
        1 => (&CLASS32, 3),
        other => return Err(wrong(format!("class {other}, neither 32 nor 64 bits"))),
    };
    if ident[5] != 1 || number(&ident, 18, 2) != machine {
        return Err(wrong(format!("machine {} is not x86 (3 in 32 bits, 62 in 64)", number(&ident, 18, 2))));
    }
    Ok((class, bytes(file, 0, class.header, "the header")?))
}

/// `len` bytes at `offset`, of which the file is known to have that many before room is made for them.
fn bytes(file: &(impl ReadAt + ?Sized), offset: u64, len: usize, what: &str) -> Result<Vec<u8>> {
    let short = || wrong(format!("{what} at {offset:#x} + {len:#x} is beyond the end of the file, {:#x}", file.len()));
    let end = offset.checked_add(u64::try_from(len).unwrap_or(u64::MAX)).filter(|end| *end <= file.len());
    end.ok_or_else(short)?;
    let mut bytes = vec![0; len];
    if file.read_at(offset, &mut bytes)? { Ok(bytes) } else { Err(short()) }
}

fn segment(header: &ProgramHeader, index: usize, file: u64) -> Result<Segment> {
    let ProgramHeader { offset, virt, phys: at, filled, len, .. } = *header;
    if filled > len {
        return Err(wrong(format!("segment {index} has {filled:#x} bytes in the file and only {len:#x} in memory")));
    }
    if offset.checked_add(filled).is_none_or(|end| end > file) {
        return Err(wrong(format!(
            "segment {index} lies at {offset:#x} + {filled:#x}, beyond the end of the file, {file:#x}: is the dump cut short?"
        )));
    }
    if at.checked_add(len).is_none_or(|end| end > 1 << 52) {
        return Err(wrong(format!("segment {index} is memory at {at:#x} + {len:#x}, beyond 52 bits")));
    }
    let rom = header.flags & (PF_R | PF_W) == PF_R;
    Ok(Segment { at, virt, len, offset, filled, rom })
}

fn notes(file: &(impl ReadAt + ?Sized), header: &ProgramHeader, room: &mut u64, into: &mut Vec<Note>) -> Result<()> {
    let size = header.filled;
    *room = room.checked_sub(size).ok_or_else(|| wrong(format!("more than {MOST_NOTES:#x} bytes of notes")))?;
    let data = bytes(file, header.offset, usize::try_from(size).unwrap_or(usize::MAX), "the notes")?;
    let mut at = 0;
    while let Some(head) = data.get(at..at + 12) {
        let (name_len, len) = (number(head, 0, 4), number(head, 4, 4));
        let kind = u32::try_from(number(head, 8, 4)).unwrap_or(0);
        if name_len == 0 && len == 0 && kind == 0 {
            break; // room that was kept for more
        }
        let here = || header.offset + u64::try_from(at).unwrap_or(0);
        let long = || wrong(format!("the note at {:#x} of the file is longer than the rest of them", here()));
        let (name, after) = part(&data, at + 12, name_len).ok_or_else(long)?;
        let (body, next) = part(&data, after, len).ok_or_else(long)?;
        if into.len() == MOST_COUNT {
            return Err(wrong(format!("more than {MOST_COUNT} notes")));
        }
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        into.push(Note { name: String::from_utf8_lossy(name).into(), kind, data: body.to_vec() });
        at = next;
    }
    Ok(())
}

/// `len` bytes from `at` on, and where what follows them begins: at a multiple of 4.
fn part(data: &[u8], at: usize, len: u64) -> Option<(&[u8], usize)> {
    let end = at.checked_add(usize::try_from(len).ok()?)?;
    Some((data.get(at..end)?, end.checked_next_multiple_of(4)?))
}
