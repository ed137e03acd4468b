//! Guests in files: ELF core files, LiME files. What lies where in them, and what they say of the vCPUs.
//! It never maps a file, and believes none: sizes, places and counts are checked before anything is made of them.

#![cfg_attr(test, allow(clippy::unwrap_used))] // the build without tests is still held to it

pub mod elf;
pub mod lime;
pub mod notes;
pub mod pieces;
pub mod write;

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};

/// A file of some length that can be read anywhere.
pub trait ReadAt {
    /// Its length in bytes.
    fn len(&self) -> u64;

    /// Is there nothing in it?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `into` from `offset` on; false where the file has fewer bytes.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<bool>;
}

/// A file, with the length that it had when it was opened.
#[derive(Debug)]
pub struct Opened<'a> {
    /// The file.
    pub file: &'a File,
    /// Its length.
    pub len: u64,
}

impl ReadAt for Opened<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<bool> {
        match self.file.read_exact_at(into, offset) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(Error::Host { what: "read of a dump", errno: e.raw_os_error().unwrap_or(0) }),
        }
    }
}

impl ReadAt for [u8] {
    fn len(&self) -> u64 {
        u64::try_from(self.len()).unwrap_or(u64::MAX)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<bool> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = from.checked_add(into.len()).and_then(|end| self.get(from..end));
        Ok(bytes.map(|bytes| into.copy_from_slice(bytes)).is_some())
    }
}

/// Memory that a file says it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Guest-physical address of its first byte.
    pub at: u64,
    /// Where the guest sees it, if the file knows.
    pub virt: u64,
    /// How many bytes it has in memory: those that the file does not have are zero.
    pub len: u64,
    /// Where the file has it.
    pub offset: u64,
    /// How many bytes the file has of it.
    pub filled: u64,
    /// The guest could not write it.
    pub rom: bool,
}

/// A note in an ELF file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// Who defined it.
    pub name: String,
    /// Which of theirs it is.
    pub kind: u32,
    /// What it says.
    pub data: Vec<u8>,
}

/// What a file has.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// What kind of file it is.
    pub format: &'static str,
    /// Memory, as the file lists it.
    pub segments: Vec<Segment>,
    /// All notes, in their order.
    pub notes: Vec<Note>,
}

/// Reads what the file has, going by its first bytes; `None` for a file that nothing gives away.
pub fn read(file: &(impl ReadAt + ?Sized)) -> Result<Option<Saved>> {
    let mut magic = [0; 8];
    let known = usize::try_from(file.len().min(8)).unwrap_or(8);
    file.read_at(0, &mut magic[..known])?;
    match &magic {
        [0x7f, b'E', b'L', b'F', ..] => elf::read(file).map(Some),
        [b'E', b'M', b'i', b'L', ..] => lime::read(file).map(Some),
        b"KDUMP   " | b"DISKDUMP" | b"makedump" => Err(Error::Image {
            format: "kdump",
            reason:
                "this is a compressed dump, or a flattened one, which only makedumpfile and crash read: have it made \
                     as ELF (makedumpfile -E, dump-guest-memory without -z)"
                    .into(),
        }),
        _ => Ok(None),
    }
}

/// The little-endian number at `at` of `bytes`, whose length the caller has seen to.
fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    bytes.iter().skip(at).take(size).rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}
