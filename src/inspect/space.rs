//! Virtual memory: bytes by linear address, across page borders, over any memory that can be read. It never writes, and a
//! page that it has found once stays found for as long as the value lives.

use std::cell::RefCell;

use crate::addr::{GuestPhys, GuestVirt, PAGE};
use crate::error::{Error, Result};
use crate::source::ReadMemory;
use crate::x86::{self, PageFault, Space, Walk};

use super::walks::Walks;

/// Asked between two pieces of long work; its error ends it.
pub type Poll<'a> = &'a (dyn Fn() -> Result<()> + Sync);

/// Pages between two looks at whether to go on.
const SELDOM: u64 = 4096;

/// Values between two looks at whether to go on.
const BATCH: usize = 4096;

/// Bytes of the longest instruction (Intel SDM vol. 2, 2.3.11).
const LONGEST: usize = 15;

/// More code than anybody reads in one listing.
const MOST_CODE: usize = 1 << 20;

/// The memory that one address space shows.
#[derive(Debug)]
pub struct VirtualMemory<'a, M: ReadMemory + ?Sized> {
    memory: &'a M,
    space: Space,
    walks: RefCell<Walks>,
}

/// An entry of `size` bytes (4 or 8) at `at`, as page walks read it.
pub fn read_entry<M: ReadMemory + ?Sized>(memory: &M, at: GuestPhys, size: u64) -> Option<u64> {
    let mut word = [0; 8];
    let bytes = word.get_mut(..usize::try_from(size).ok()?)?;
    memory.read(at, bytes).ok()?;
    Some(u64::from_le_bytes(word))
}

impl<'a, M: ReadMemory + ?Sized> VirtualMemory<'a, M> {
    /// What `space` shows of `memory`.
    pub fn new(memory: &'a M, space: Space) -> Self {
        Self::with_walks(memory, space, Walks::default())
    }

    /// The same, with the results of earlier walks in this space that are known to be right still.
    pub fn with_walks(memory: &'a M, space: Space, walks: Walks) -> Self {
        Self { memory, space, walks: RefCell::new(walks) }
    }

    /// The results of all walks.
    pub fn into_walks(self) -> Walks {
        self.walks.into_inner()
    }

    /// The address space.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The physical memory under it.
    pub fn memory(&self) -> &'a M {
        self.memory
    }

    /// Walks to `at`, whatever was kept.
    pub fn walk(&self, at: GuestVirt) -> Walk {
        x86::walk(&self.space, at, |at, size| read_entry(self.memory, at, size))
    }

    /// Where `at` lies, or why nowhere.
    #[inline]
    pub fn find(&self, at: GuestVirt) -> Result<GuestPhys, PageFault> {
        if let Some(found) = self.walks.borrow().get(at) {
            return Ok(found);
        }
        let found = self.walk(at).result?;
        self.walks.borrow_mut().put(at, found.gpa, found.size);
        Ok(found.gpa)
    }

    /// Where `at` lies, or `Unmapped`.
    pub fn translate(&self, at: GuestVirt) -> Result<GuestPhys> {
        self.find(at).map_err(|fault| unmapped(at.0, 1, fault.to_string()))
    }

    /// Fills `into` from `at` on.
    pub fn read(&self, at: GuestVirt, into: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < into.len() {
            let (here, n) = next(at, done, into.len())?;
            let physical = self.find(here).map_err(|fault| unmapped(here.0, into.len() - done, fault.to_string()))?;
            let read = self.memory.read(physical, &mut into[done..done + n]);
            read.map_err(|error| elsewhere(error, here.0, n, physical))?;
            done += n;
        }
        Ok(())
    }

    /// The `len` bytes from `at` on. Checks that they exist before it allocates.
    pub fn read_vec(&self, at: GuestVirt, len: usize) -> Result<Vec<u8>> {
        self.check(at, size(len), &|| Ok(()))?;
        let mut bytes = vec![0; len];
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }

    /// The byte at `at`.
    pub fn read_u8(&self, at: GuestVirt) -> Result<u8> {
        self.fixed(at).map(u8::from_le_bytes)
    }

    /// The 16-bit little-endian word at `at`.
    pub fn read_u16(&self, at: GuestVirt) -> Result<u16> {
        self.fixed(at).map(u16::from_le_bytes)
    }

    /// The 32-bit little-endian word at `at`.
    pub fn read_u32(&self, at: GuestVirt) -> Result<u32> {
        self.fixed(at).map(u32::from_le_bytes)
    }

    /// The 64-bit little-endian word at `at`.
    pub fn read_u64(&self, at: GuestVirt) -> Result<u64> {
        self.fixed(at).map(u64::from_le_bytes)
    }

    /// The `N` bytes at `at`.
    pub fn fixed<const N: usize>(&self, at: GuestVirt) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }

    /// The bytes from `at` on up to a zero byte, which is not among them, or `most` bytes if none of them is zero.
    pub fn read_cstring(&self, at: GuestVirt, most: usize) -> Result<Vec<u8>> {
        let mut string = Vec::new();
        while string.len() < most {
            let (here, n) = next(at, string.len(), most)?;
            let old = string.len();
            string.resize(old + n, 0);
            self.read(here, &mut string[old..])?;
            if let Some(end) = memchr::memchr(0, &string[old..]) {
                string.truncate(old + end);
                break;
            }
        }
        Ok(string)
    }

    /// Enough bytes for `count` instructions from `at` on, or fewer where what is mapped ends before.
    pub fn code(&self, at: GuestVirt, count: usize) -> Vec<u8> {
        let most = count.saturating_mul(LONGEST).min(MOST_CODE);
        let mut code = Vec::new();
        while code.len() < most {
            let Ok((here, n)) = next(at, code.len(), most) else { break };
            let old = code.len();
            code.resize(old + n, 0);
            if self.read(here, &mut code[old..]).is_err() {
                code.truncate(old);
                break;
            }
        }
        code
    }

    /// Is there memory at all of the `len` bytes from `at` on?
    pub fn check(&self, at: GuestVirt, len: u64, poll: Poll<'_>) -> Result<()> {
        let whole = usize::try_from(len).unwrap_or(usize::MAX);
        let (mut done, mut pages) = (0, 0);
        while done < whole {
            let (here, n) = next(at, done, whole)?;
            self.find(here).map_err(|fault| unmapped(here.0, whole - done, fault.to_string()))?;
            done += n;
            pages += 1;
            if pages % SELDOM == 0 {
                poll()?;
            }
        }
        Ok(())
    }

    /// The stretches of physical memory that the `len` bytes from `at` on are made of, in order.
    pub fn pieces(&self, at: GuestVirt, len: usize) -> Result<Vec<(GuestPhys, usize)>> {
        let mut pieces: Vec<(GuestPhys, usize)> = Vec::new();
        let mut done = 0;
        while done < len {
            let (here, n) = next(at, done, len)?;
            let physical = self.find(here).map_err(|fault| unmapped(here.0, len - done, fault.to_string()))?;
            match pieces.last_mut() {
                Some((start, size_before)) if start.0 + size(*size_before) == physical.0 => *size_before += n,
                _ => pieces.push((physical, n)),
            }
            done += n;
        }
        Ok(pieces)
    }

    /// The `width` bytes at each of `addresses`, one after the other in `into`.
    pub fn gather(&self, addresses: &[u64], width: usize, into: &mut [u8], poll: Poll<'_>) -> Result<()> {
        if width == 0 {
            return Ok(());
        }
        let mut found = Vec::with_capacity(addresses.len().min(BATCH));
        for (addresses, into) in addresses.chunks(BATCH).zip(into.chunks_mut(BATCH.saturating_mul(width))) {
            self.gather_some(addresses, width, into, &mut found)?;
            poll()?;
        }
        Ok(())
    }

    fn gather_some(&self, addresses: &[u64], width: usize, into: &mut [u8], found: &mut Vec<u64>) -> Result<()> {
        found.clear();
        let whole = PAGE.saturating_sub(size(width)); // up to there in a page, all of a value is in it
        loop {
            let walks = self.walks.borrow();
            let rest = addresses[found.len()..].iter();
            let known = |at: &u64| walks.get(GuestVirt(*at)).filter(|_| at % PAGE <= whole);
            found.extend(rest.map_while(known).map(|physical| physical.0));
            drop(walks);
            let Some(at) = addresses.get(found.len()) else { break };
            match self.find(GuestVirt(*at)) {
                Ok(physical) if at % PAGE <= whole => found.push(physical.0),
                _ => break,
            }
        }
        let (simple, rest) = into.split_at_mut(found.len() * width);
        if found.len() < addresses.len() || self.memory.read_each(found, width, simple).is_err() {
            // Values across borders, and the error of the first that is nowhere.
            let all = simple.chunks_exact_mut(width).chain(rest.chunks_exact_mut(width));
            return addresses.iter().zip(all).try_for_each(|(at, value)| self.read(GuestVirt(*at), value));
        }
        Ok(())
    }

    /// Fills `into` from `at` on, with `None` where nothing is mapped or no memory is.
    pub fn read_present(&self, at: GuestVirt, into: &mut [Option<u8>]) {
        let mut done = 0;
        while done < into.len() {
            let Ok((here, n)) = next(at, done, into.len()) else { return into[done..].fill(None) };
            let mut bytes = vec![0; n];
            let found = self.read(here, &mut bytes).is_ok();
            into[done..done + n].iter_mut().zip(bytes).for_each(|(cell, byte)| *cell = found.then_some(byte));
            done += n;
        }
    }
}

/// The address `done` bytes on, and how many of the bytes up to `whole` lie in its page.
fn next(at: GuestVirt, done: usize, whole: usize) -> Result<(GuestVirt, usize)> {
    let here =
        at.0.checked_add(size(done))
            .ok_or_else(|| unmapped(at.0, whole, "the range goes beyond the end of the address space".into()))?;
    let in_page = usize::try_from(PAGE - here % PAGE).unwrap_or(usize::MAX);
    Ok((GuestVirt(here), in_page.min(whole - done)))
}

fn unmapped(at: u64, len: usize, why: String) -> Error {
    Error::Unmapped { at, len: size(len), why }
}

/// The physical memory's error, told by linear address.
fn elsewhere(error: Error, at: u64, len: usize, physical: GuestPhys) -> Error {
    match error {
        Error::Unbacked { .. } => unmapped(at, len, format!("it is mapped to {physical:#x}, where no memory is")),
        other => other,
    }
}

/// A length as a guest counts it.
fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
