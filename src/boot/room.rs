//! Which RAM a guest that is being loaded takes, and what for: each byte once, and only where RAM is.
//! It never reads an image and never changes a byte that nobody claimed.

use crate::addr::{GuestPhys, Span, page_floor};
use crate::boot::layout;
use crate::error::{Error, Result};
use crate::memory::Memory;

/// The RAM of one guest while an image is put into it.
#[derive(Debug)]
pub struct Room<'a> {
    memory: &'a Memory,
    format: &'static str,
    taken: Vec<(Span, &'static str)>,
}

impl<'a> Room<'a> {
    /// All of `memory`, for an image of `format`; nothing is taken yet.
    pub fn new(memory: &'a Memory, format: &'static str) -> Self {
        Self { memory, format, taken: Vec::new() }
    }

    /// The memory itself.
    pub fn memory(&self) -> &'a Memory {
        self.memory
    }

    /// The format of the image that is being loaded.
    pub fn format(&self) -> &'static str {
        self.format
    }

    /// The error for an image that is not what its loader reads.
    pub fn wrong(&self, reason: impl Into<String>) -> Error {
        Error::Image { format: self.format, reason: reason.into() }
    }

    /// Takes `len` bytes of RAM at `at`, or says which bytes are missing or what is in the way.
    pub fn claim(&mut self, at: GuestPhys, len: u64, what: &'static str) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        let end = self.memory.contiguous_end(at);
        let last = end.0.checked_sub(1).filter(|_| end > at);
        let span = last.and_then(|last| Span::new(at.0, len, last).ok()).ok_or_else(|| {
            self.wrong(format!("{what} needs {len:#x} bytes at {at:#x}; RAM ends at {:#x}", self.ram_end(at)))
        })?;
        if let Some((other, with)) = self.in_the_way(span) {
            return Err(Error::Overlap { at: at.0, len, with: other.first, what: with });
        }
        self.taken.push((span, what));
        Ok(())
    }

    /// Takes the RAM for `bytes` at `at` and writes them there.
    pub fn put(&mut self, at: GuestPhys, bytes: &[u8], what: &'static str) -> Result<()> {
        self.claim(at, size(bytes.len()), what)?;
        self.memory.write(at, bytes)
    }

    /// Takes the highest free `len` bytes of low RAM that begin on a page in `floor..` and end at `limit` or before.
    pub fn highest(&mut self, floor: GuestPhys, limit: u64, len: u64, what: &'static str) -> Result<GuestPhys> {
        let mut limit = limit.min(self.low_end().0);
        loop {
            let at = limit.checked_sub(len).map(page_floor).filter(|at| *at >= floor.0);
            let at = at.ok_or_else(|| {
                self.wrong(format!("no room for {what}, {len:#x} bytes, in RAM that ends at {:#x}", self.low_end()))
            })?;
            match self.in_the_way(Span::new(at, len, u64::MAX)?) {
                Some((other, _)) => limit = other.first,
                None => return self.claim(GuestPhys(at), len, what).map(|()| GuestPhys(at)),
            }
        }
    }

    /// One past the last byte of the RAM that begins at 0 and ends below the hole for devices.
    pub fn low_end(&self) -> GuestPhys {
        self.memory.contiguous_end(GuestPhys(0)).min(GuestPhys(layout::HOLE_START))
    }

    /// Where the RAM around `at` ends, or the last RAM below it.
    fn ram_end(&self, at: GuestPhys) -> GuestPhys {
        let regions = self.memory.regions();
        let below = regions.iter().rfind(|r| !r.rom && r.at <= at);
        below.map_or(GuestPhys(0), |r| self.memory.contiguous_end(r.at))
    }

    fn in_the_way(&self, span: Span) -> Option<(Span, &'static str)> {
        self.taken.iter().find(|(other, _)| other.overlaps(span)).copied()
    }
}

/// A length as a guest counts it; usize is 64 bits wide wherever KVM runs.
pub fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::samples::memory;

    #[test]
    fn a_claim_outside_ram_says_both_numbers() {
        let memory = memory(0x10_0000);
        let mut room = Room::new(&memory, "ELF64");
        let error = room.claim(GuestPhys(0xf_f000), 0x2000, "the kernel").unwrap_err().to_string();
        assert_eq!(error, "ELF64: the kernel needs 0x2000 bytes at 0xff000; RAM ends at 0x100000");
        let error = room.claim(GuestPhys(u64::MAX), u64::MAX, "the kernel").unwrap_err().to_string();
        assert!(error.ends_with("RAM ends at 0x100000"), "{error}");
    }

    #[test]
    fn no_byte_is_taken_twice() {
        let memory = memory(0x10_0000);
        let mut room = Room::new(&memory, "ELF64");
        room.claim(GuestPhys(0x1000), 0x1000, "the GDT").unwrap();
        room.claim(GuestPhys(0x2000), 0x1000, "the kernel").unwrap();
        let error = room.claim(GuestPhys(0x1fff), 1, "the initrd").unwrap_err();
        assert!(matches!(error, Error::Overlap { at: 0x1fff, len: 1, with: 0x1000, what: "the GDT" }));
    }

    #[test]
    fn the_highest_free_place_is_below_what_is_in_the_way() {
        let memory = memory(0x10_0000);
        let mut room = Room::new(&memory, "ELF64");
        room.claim(GuestPhys(0xf_e800), 0x100, "the kernel").unwrap();
        assert_eq!(room.highest(GuestPhys(0), u64::MAX, 0x1000, "a").unwrap(), GuestPhys(0xf_f000));
        assert_eq!(room.highest(GuestPhys(0), u64::MAX, 0x1000, "b").unwrap(), GuestPhys(0xf_d000));
        assert!(room.highest(GuestPhys(0xf_d000), u64::MAX, 0x1000, "c").is_err());
        assert!(room.highest(GuestPhys(0), u64::MAX, 0x20_0000, "d").is_err());
    }

    #[test]
    fn rom_is_no_room() {
        let memory = memory(0x1000);
        memory.add(GuestPhys(0x1000), 0x1000, true, |_, _| Ok(())).unwrap();
        assert!(Room::new(&memory, "ELF64").claim(GuestPhys(0x1000), 1, "the kernel").is_err());
    }
}
