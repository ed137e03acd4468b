//! Guest-physical memory as the finder of kernels reads it: pieces, strings, words, and one pass over all of it.
//! It never reads past the stretches that it was given, and gives way between two pieces.

use std::ops::ControlFlow;

use memchr::memmem::Finder;

use crate::addr::GuestPhys;
use crate::error::Result;
use crate::source::ReadMemory;

/// Bytes per piece of a pass.
const PIECE: u64 = 1 << 20;

/// What long work calls now and then; its error ends the work.
pub type Poll<'a> = &'a dyn Fn() -> Result<()>;

/// Memory, and which parts of it there are.
pub struct Image<'a, M> {
    memory: &'a M,
    /// First address and end of each part, in ascending order; they do not touch.
    stretches: &'a [(u64, u64)],
    poll: Poll<'a>,
}

impl<'a, M: ReadMemory> Image<'a, M> {
    /// All `stretches` of `memory`.
    pub fn new(memory: &'a M, stretches: &'a [(u64, u64)], poll: Poll<'a>) -> Self {
        Self { memory, stretches, poll }
    }

    /// May the work go on?
    pub fn poll(&self) -> Result<()> {
        (self.poll)()
    }

    /// The part that `at` lies in.
    pub fn stretch(&self, at: u64) -> Option<(u64, u64)> {
        self.stretches.iter().copied().find(|(first, end)| (*first..*end).contains(&at))
    }

    /// The bytes from `first` up to `end`, as far as one part has them.
    pub fn bytes(&self, first: u64, end: u64) -> Option<Vec<u8>> {
        let (_, last) = self.stretch(first)?;
        let mut bytes = vec![0; usize::try_from(end.min(last).checked_sub(first)?).ok()?];
        self.memory.read(GuestPhys(first), &mut bytes).ok()?;
        Some(bytes)
    }

    /// Exactly `len` bytes from `at` on.
    pub fn exactly(&self, at: u64, len: u64) -> Option<Vec<u8>> {
        let bytes = self.bytes(at, at.checked_add(len)?)?;
        (u64::try_from(bytes.len()) == Ok(len)).then_some(bytes)
    }

    /// The word at `at`.
    pub fn word(&self, at: u64) -> Option<u64> {
        self.memory.read_u64(GuestPhys(at)).ok()
    }

    /// Does `text` lie at `at`?
    pub fn has(&self, at: u64, text: &[u8]) -> bool {
        u64::try_from(text.len()).ok().and_then(|len| self.exactly(at, len)).is_some_and(|bytes| bytes == text)
    }

    /// The text from `at` on up to the first zero byte, of at most `most` bytes; without one, all of them.
    pub fn text(&self, at: u64, most: u64) -> Option<String> {
        let mut bytes = self.bytes(at, at.checked_add(most)?)?;
        bytes.truncate(memchr::memchr(0, &bytes).unwrap_or(bytes.len()));
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Tells `found` each place of `needle` from `first` up to `end`, in ascending order, until it breaks.
    pub fn search<T>(
        &self,
        needle: &[u8],
        (first, end): (u64, u64),
        mut found: impl FnMut(u64) -> ControlFlow<T>,
    ) -> Result<Option<T>> {
        let finder = Finder::new(needle);
        let keep = u64::try_from(needle.len()).map_or(0, |len| len.saturating_sub(1));
        for (from, to) in self.stretches {
            let (mut at, to) = ((*from).max(first), (*to).min(end));
            while at < to {
                self.poll()?;
                let piece = self.bytes(at, to.min(at + PIECE + keep)).unwrap_or_default();
                for place in finder.find_iter(&piece).filter_map(|place| u64::try_from(place).ok()) {
                    if let ControlFlow::Break(value) = found(at + place) {
                        return Ok(Some(value));
                    }
                }
                at += PIECE;
            }
        }
        Ok(None)
    }
}

/// The 16 bits at `at` of `bytes`.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

/// The 32 bits at `at` of `bytes`.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// The 64 bits at `at` of `bytes`.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}
