//! Writing a guest into a file: an ELF core file, or its memory as it lies. Pages of zeroes become holes.
//! It never opens the file, nor says what becomes of one that could not be finished.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{Note, Segment};
use crate::addr::{GuestPhys, PAGE};
use crate::error::{Error, Result};
use crate::source::ReadMemory;

/// Bytes that are read and written at a time.
const PIECE: usize = 1 << 20;
/// A stretch of zeroes of this length is not written.
const HOLE: usize = 4096;

/// Memory that is told apart: what lies at a guest-physical address is known by another one to who debugs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alias {
    /// Where it is.
    pub at: u64,
    /// Its length.
    pub len: u64,
    /// The address at which it is known.
    pub virt: u64,
}

/// `regions` (address, length, ROM), cut where the borders of `alias` are.
pub fn cut(regions: &[(u64, u64, bool)], alias: Option<Alias>) -> Vec<(u64, u64, bool)> {
    let borders = alias.map_or([0, 0], |alias| [alias.at, alias.at.saturating_add(alias.len)]);
    let mut parts = regions.to_vec();
    for border in borders {
        let inside = |(at, len, _): &(u64, u64, bool)| *at < border && border - at < *len;
        if let Some(index) = parts.iter().position(inside) {
            let (at, len, rom) = parts[index];
            parts.splice(index..=index, [(at, border - at, rom), (border, len - (border - at), rom)]);
        }
    }
    parts
}

/// An ELF core file for memory at `regions` (address, length, ROM): its bytes up to the first of memory, and where what
/// lies in it. `virt` is where the guest sees a guest-physical address.
pub fn elf(regions: &[(u64, u64, bool)], notes: &[Note], virt: impl Fn(u64) -> u64) -> (Vec<u8>, Vec<Segment>) {
    let notes: Vec<u8> = notes.iter().flat_map(note).collect();
    let count = size(regions.len()) + 1;
    let many = count >= 0xffff; // then the number is in section 0 (elf(5), PN_XNUM)
    let sections = if many { 64 } else { 0 };
    let notes_at = 64 + sections + 56 * count;
    let mut offset = (notes_at + size(notes.len())).next_multiple_of(PAGE);
    let mut head = file_header(count, many);
    put_header(&mut head, (4, 0), notes_at, [0, 0], size(notes.len()), 4);
    let mut segments = Vec::new();
    for (at, len, rom) in regions.iter().copied() {
        let flags = if rom { 5 } else { 7 };
        put_header(&mut head, (1, flags), offset, [virt(at), at], len, PAGE);
        segments.push(Segment { at, virt: virt(at), len, offset, filled: len, rom });
        offset += len;
    }
    head.extend(notes);
    (head, segments)
}

fn file_header(count: u64, many: bool) -> Vec<u8> {
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(16, 0);
    let half = |n: u64| u16::try_from(n.min(0xffff)).unwrap_or(0xffff).to_le_bytes();
    head.extend([half(4), half(62)].concat()); // a core file, of x86-64
    head.extend(1_u32.to_le_bytes());
    let sections_at = if many { 64 } else { 0 };
    head.extend([0, if many { 128 } else { 64 }, sections_at].iter().flat_map(|w: &u64| w.to_le_bytes()));
    head.extend(0_u32.to_le_bytes());
    let sections = u64::from(many);
    head.extend([64, 56, count, 64 * sections, sections, 0].map(half).concat());
    if many {
        let mut section = vec![0; 64];
        section[44..48].copy_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
        head.extend(section);
    }
    head
}

fn put_header(head: &mut Vec<u8>, (kind, flags): (u32, u32), offset: u64, at: [u64; 2], len: u64, align: u64) {
    head.extend([kind, flags].iter().flat_map(|word| word.to_le_bytes()));
    head.extend([offset, at[0], at[1], len, len, align].iter().flat_map(|word| word.to_le_bytes()));
}

fn note(note: &Note) -> Vec<u8> {
    let name = [note.name.as_bytes(), b"\0"].concat();
    let lengths = [name.len(), note.data.len()].map(|len| u32::try_from(len).unwrap_or(u32::MAX));
    let mut bytes: Vec<u8> = [lengths[0], lengths[1], note.kind].iter().flat_map(|word| word.to_le_bytes()).collect();
    for part in [&name, &note.data] {
        bytes.extend(part);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// Writes `head` and the memory at `segments`, and makes the file end where they do. `poll` is asked between two pieces.
pub fn write(
    file: &File,
    head: &[u8],
    segments: &[Segment],
    memory: &dyn ReadMemory,
    poll: &dyn Fn() -> Result<()>,
) -> Result<()> {
    file.write_all_at(head, 0).map_err(failed)?;
    let mut piece = vec![0; PIECE];
    for segment in segments {
        let mut done = 0;
        while done < segment.len {
            let len = usize::try_from(segment.len - done).map_or(PIECE, |left| left.min(PIECE));
            memory.read(GuestPhys(segment.at).plus(done)?, &mut piece[..len])?;
            write_piece(file, &piece[..len], segment.offset + done)?;
            done += size(len);
            poll()?;
        }
    }
    let end = segments.iter().map(|s| s.offset + s.len).max().unwrap_or(0).max(size(head.len()));
    file.set_len(end).map_err(failed)
}

/// Writes what is not zero, in stretches as long as there are.
fn write_piece(file: &File, piece: &[u8], offset: u64) -> Result<()> {
    let (mut from, mut at) = (None, 0);
    while at < piece.len() {
        let end = (at + HOLE).min(piece.len());
        match (is_zero(&piece[at..end]), from) {
            (true, Some(start)) => {
                file.write_all_at(&piece[start..at], offset + size(start)).map_err(failed)?;
                from = None;
            }
            (false, None) => from = Some(at),
            _ => {}
        }
        at = end;
    }
    from.map_or(Ok(()), |start| file.write_all_at(&piece[start..], offset + size(start)).map_err(failed))
}

fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().fold(0, |any, word| any | u64::from_ne_bytes(*word)) == 0 && rest.iter().all(|byte| *byte == 0)
}

/// The system's word on a write that failed.
fn failed(e: std::io::Error) -> Error {
    Error::Host { what: "write of a dump", errno: e.raw_os_error().unwrap_or(libc::EIO) }
}

fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::saved::elf as reader;

    #[test]
    fn what_is_written_is_read_back() {
        let notes = [
            Note { name: "CORE".into(), kind: 1, data: vec![5; 13] },
            Note { name: "VMCOREINFO".into(), kind: 0, data: b"OSRELEASE=6\n".to_vec() },
        ];
        let regions = [(0, 0x2000, false), (0x10_0000, 0x1000, true)];
        let (mut file, segments) = elf(&regions, &notes, |at| at + 0x1_0000_0000);
        file.resize(usize::try_from(segments[1].offset + 0x1000).unwrap(), 0);
        let saved = reader::read(file.as_slice()).unwrap();
        assert_eq!(saved.notes, notes);
        assert_eq!(saved.segments, segments);
    }

    #[test]
    fn a_region_is_cut_where_memory_is_known_by_another_address() {
        let alias = |at, len| Some(Alias { at, len, virt: 0 });
        let regions = [(0x1000, 0x4000, false), (0x10_0000, 0x1000, true)];
        assert_eq!(cut(&regions, None), regions);
        assert_eq!(cut(&regions, alias(0x1000, 0x4000)), regions);
        assert_eq!(cut(&regions, alias(0x8000, u64::MAX)), regions);
        let three = [(0x1000, 0x1000, false), (0x2000, 0x1000, false), (0x3000, 0x2000, false)];
        assert_eq!(cut(&regions, alias(0x2000, 0x1000))[..3], three);
    }

    #[test]
    fn a_machine_of_more_regions_than_a_header_can_count_is_written_too() {
        let regions: Vec<_> = (0..0xffff_u64).map(|n| (n * 0x2000, 0x1000, false)).collect();
        let (mut file, segments) = elf(&regions, &[], |at| at);
        file.resize(usize::try_from(segments.last().unwrap().offset + 0x1000).unwrap(), 0);
        assert_eq!(reader::read(file.as_slice()).unwrap().segments, segments);
    }
}
