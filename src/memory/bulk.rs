//! Work on long stretches of guest memory: filling, copying, comparing, strings, looking past holes. It copies piece by
//! piece, holds no more than a piece, and gives way between two of them.

use crate::addr::{GuestPhys, PAGE, page_floor};
use crate::error::{Error, Result};
use crate::source::ReadMemory;

use super::{Memory, size};

/// Asked between two pieces; its error ends the work.
pub type Poll<'a> = &'a (dyn Fn() -> Result<()> + Sync);

/// Bytes per piece: they stay in the processor's cache, and a signal is seen soon.
const PIECE: usize = 256 << 10;

/// How many of `left` bytes the next piece has, if it has at most `most`.
fn piece(left: u64, most: usize) -> usize {
    usize::try_from(left).map_or(most, |left| left.min(most))
}

impl Memory {
    /// Zeroes `len` bytes from `at` on.
    pub fn zero(&self, at: GuestPhys, len: u64) -> Result<()> {
        self.fill(at, len, &[0], &|| Ok(()))
    }

    /// Repeats `pattern` over the `len` bytes from `at` on; its last repetition may be cut short.
    pub fn fill(&self, at: GuestPhys, len: u64, pattern: &[u8], poll: Poll<'_>) -> Result<()> {
        self.check(at, len)?;
        if pattern.is_empty() {
            return Err(Error::Invalid("a pattern to fill memory with has at least one byte".into()));
        }
        let wanted = piece(len, PIECE);
        let bytes = pattern.repeat(wanted.div_ceil(pattern.len()).max(1));
        let mut done = 0;
        while done < len {
            let n = piece(len - done, bytes.len());
            self.write(at.plus(done)?, &bytes[..n])?;
            done += size(n);
            poll()?;
        }
        Ok(())
    }

    /// Copies `len` bytes to `to` from `from`. The two may overlap.
    pub fn copy(&self, to: GuestPhys, from: GuestPhys, len: u64, poll: Poll<'_>) -> Result<()> {
        self.check(from, len)?;
        self.check(to, len)?;
        let mut bytes = vec![0; piece(len, PIECE)];
        let mut done = 0;
        while done < len {
            let n = piece(len - done, PIECE);
            let at = if to > from { len - done - size(n) } else { done };
            self.read(from.plus(at)?, &mut bytes[..n])?;
            self.write(to.plus(at)?, &bytes[..n])?;
            done += size(n);
            poll()?;
        }
        Ok(())
    }

    /// Where the `len` bytes at `a` first differ from those at `b`.
    pub fn compare(&self, a: GuestPhys, b: GuestPhys, len: u64, poll: Poll<'_>) -> Result<Option<u64>> {
        self.check(a, len)?;
        self.check(b, len)?;
        let mut other = vec![0; piece(len, PIECE)];
        self.differ(a, len, poll, |done, n| {
            self.read(b.plus(done)?, &mut other[..n])?;
            Ok(other[..n].to_vec())
        })
    }

    /// Where the bytes at `at` first differ from `bytes`.
    pub fn compare_with(&self, at: GuestPhys, bytes: &[u8], poll: Poll<'_>) -> Result<Option<u64>> {
        let len = size(bytes.len());
        self.check(at, len)?;
        self.differ(at, len, poll, |done, n| {
            let from = usize::try_from(done).map_err(|_| Error::Invalid("more bytes than there are".into()))?;
            Ok(bytes[from..from + n].to_vec())
        })
    }

    fn differ(
        &self,
        at: GuestPhys,
        len: u64,
        poll: Poll<'_>,
        mut other: impl FnMut(u64, usize) -> Result<Vec<u8>>,
    ) -> Result<Option<u64>> {
        let mut bytes = vec![0; piece(len, PIECE)];
        let mut done = 0;
        while done < len {
            let n = piece(len - done, PIECE);
            self.read(at.plus(done)?, &mut bytes[..n])?;
            let other = other(done, n)?;
            if bytes[..n] != other[..] {
                let first = bytes.iter().zip(&other).position(|(a, b)| a != b);
                return Ok(first.map(|first| done + size(first)));
            }
            done += size(n);
            poll()?;
        }
        Ok(None)
    }

    /// The bytes from `at` on up to a zero byte, which is not among them, or `most` bytes if none of them is zero.
    pub fn c_string(&self, at: GuestPhys, most: usize) -> Result<Vec<u8>> {
        let mut string = Vec::new();
        while string.len() < most {
            let here = at.plus(size(string.len()))?;
            let to_page_end = page_floor(here.0) + (PAGE - 1) - here.0 + 1;
            let bytes = self.read_vec(here, piece(to_page_end, most - string.len()))?;
            if let Some(end) = memchr::memchr(0, &bytes) {
                string.extend_from_slice(&bytes[..end]);
                break;
            }
            string.extend_from_slice(&bytes);
        }
        Ok(string)
    }

    /// Fills `into` from `at` on, with `None` where no memory is.
    pub fn read_present(&self, at: GuestPhys, into: &mut [Option<u8>]) {
        let mut done = 0;
        while done < into.len() {
            let Some(here) = at.0.checked_add(size(done)) else { return into[done..].fill(None) };
            let n = piece(PAGE - (here - page_floor(here)), into.len() - done);
            let bytes = self.read_vec(GuestPhys(here), n).ok();
            for (i, cell) in into[done..done + n].iter_mut().enumerate() {
                *cell = bytes.as_ref().and_then(|bytes| bytes.get(i)).copied();
            }
            done += n;
        }
    }
}
