//! A machine that lies in a file: its memory mapped or copied from there, and the states of its vCPUs.
//! It never writes to the file, and never makes a machine of it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::addr::{GuestPhys, PAGE};
use crate::error::{Error, Result};
use crate::inspect::saved::pieces::{Chunk, Piece, pieces};
use crate::inspect::saved::{self, Note, Opened, Segment};
use crate::memory::{FileMap, Memory, Part, Source};

use super::Poll;

/// What a file has of a machine.
#[derive(Debug)]
pub struct Guest {
    /// What kind of file it is.
    pub format: &'static str,
    /// Its memory. What is written to it stays here.
    pub memory: Memory,
    /// The memory, as the file lists it.
    pub segments: Vec<Segment>,
    /// All notes.
    pub notes: Vec<Note>,
}

/// Where the memory of a raw file goes: address, length, ROM. It begins at byte 0 of the file for address 0.
pub type Places = [(u64, u64, bool)];

/// Opens `file`, which the user calls `name`. `raw` says where its memory goes if it is nothing but memory.
pub fn open(file: File, name: &str, raw: Option<&Places>, poll: Poll<'_>) -> Result<Guest> {
    let about = |e: std::io::Error| Error::Host { what: "fstat of a dump", errno: e.raw_os_error().unwrap_or(0) };
    let metadata = file.metadata().map_err(about)?;
    if !metadata.file_type().is_file() {
        return Err(Error::Image { format: "dump", reason: format!("{name} is no file: copy it into one first") });
    }
    let opened = Opened { file: &file, len: metadata.len() };
    let found = match raw {
        Some(places) => raw_segments(opened.len, places)?,
        None => saved::read(&opened)?.ok_or_else(|| unknown(name))?,
    };
    let shape = pieces(found.segments.clone(), found.format, opened.len)?;
    let file = Arc::new(file);
    let memory = Memory::saved(&shape.iter().map(|piece| part(piece, &file, name)).collect::<Vec<_>>())?;
    for chunk in shape.iter().flat_map(|piece| &piece.chunks) {
        copy(&file, chunk, &memory)?;
        poll()?;
    }
    Ok(Guest { format: found.format, memory, segments: found.segments, notes: found.notes })
}

fn unknown(name: &str) -> Error {
    let reason = format!(
        "{name} is neither an ELF core nor a LiME file; for one that is memory and nothing else, say format=\"raw\""
    );
    Error::Image { format: "dump", reason }
}

fn raw_segments(len: u64, places: &Places) -> Result<saved::Saved> {
    let whole = [(0, len.next_multiple_of(PAGE), false)];
    let places = if places.is_empty() { &whole } else { places };
    let segment = |(at, size, rom): &(u64, u64, bool)| -> Result<Segment> {
        let end = at.checked_add(*size).filter(|end| *end <= len.next_multiple_of(PAGE));
        end.ok_or_else(|| Error::Image {
            format: "raw",
            reason: format!("memory at {at:#x} + {size:#x} is beyond the end of the file, {len:#x}"),
        })?;
        let filled = (*size).min(len.saturating_sub(*at));
        Ok(Segment { at: *at, virt: 0, len: *size, offset: *at, filled, rom: *rom })
    };
    let segments = places.iter().map(segment).collect::<Result<_>>()?;
    Ok(saved::Saved { format: "raw", segments, notes: Vec::new() })
}

fn part(piece: &Piece, file: &Arc<File>, name: &str) -> Part {
    let map = |offset| (Arc::clone(file), FileMap { name: name.to_owned(), offset, shared: false });
    let source = Source { file: piece.mapped.map(map), ..Source::default() };
    Part { at: GuestPhys(piece.at), len: piece.len, rom: piece.rom, source }
}

/// Copies what could not be mapped.
fn copy(file: &File, chunk: &Chunk, memory: &Memory) -> Result<()> {
    let (mut done, mut bytes) = (0, vec![0; 1 << 20]);
    while done < chunk.len {
        let len = usize::try_from(chunk.len - done).map_or(bytes.len(), |left| left.min(bytes.len()));
        let read = file.read_exact_at(&mut bytes[..len], chunk.offset + done);
        read.map_err(|e| Error::Host { what: "read of a dump", errno: e.raw_os_error().unwrap_or(libc::EIO) })?;
        memory.write(GuestPhys(chunk.at).plus(done)?, &bytes[..len])?;
        done += u64::try_from(len).unwrap_or(u64::MAX);
    }
    Ok(())
}
