//! Long work on virtual memory: fill, compare. It lets other threads run, and Ctrl-C ends it.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::Result as CoreResult;
use crate::memory::Poll;
use crate::python::address::{Count, Spot};
use crate::python::memory::{Bytes, Other, number, pattern, seldom};
use crate::python::running::detached;

use super::VirtualMemory;

/// Bytes at a time.
const PIECE: usize = 1 << 16;

impl VirtualMemory {
    /// Writes `bytes` again and again, over `size` bytes from `at` on; nothing if not all of it is mapped.
    fn fill_with(&self, at: u64, size: u64, bytes: &[u8], poll: Poll<'_>) -> CoreResult<()> {
        self.check(at, size, poll)?;
        let piece = bytes.repeat((PIECE / bytes.len()).max(1));
        let mut done = 0;
        while done < size {
            let len = usize::try_from(size - done).unwrap_or(usize::MAX).min(piece.len());
            self.put(at.wrapping_add(done), &piece[..len])?;
            done += u64::try_from(len).unwrap_or(u64::MAX);
            poll()?;
        }
        Ok(())
    }

    /// Where the memory at `at` differs from what `other` has, which is asked for pieces of it by distance.
    fn differs(
        &self,
        at: u64,
        size: u64,
        poll: Poll<'_>,
        mut other: impl FnMut(u64, &mut [u8]) -> CoreResult<()>,
    ) -> CoreResult<Option<u64>> {
        self.check(at, size, poll)?;
        let (mut ours, mut theirs, mut done) = (vec![0; PIECE], vec![0; PIECE], 0);
        while done < size {
            let len = usize::try_from(size - done).unwrap_or(usize::MAX).min(PIECE);
            self.fill_from(at.wrapping_add(done), &mut ours[..len])?;
            other(done, &mut theirs[..len])?;
            if let Some(found) = ours[..len].iter().zip(&theirs[..len]).position(|(a, b)| a != b) {
                return Ok(Some(done + u64::try_from(found).unwrap_or(u64::MAX)));
            }
            done += u64::try_from(len).unwrap_or(u64::MAX);
            poll()?;
        }
        Ok(None)
    }
}

#[pymethods]
impl VirtualMemory {
    /// Fills `size` bytes from `at` on with `value`: a byte (0 to 255; by default 0), or bytes that are
    /// repeated.
    #[pyo3(signature = (at, size, value = None))]
    fn fill(&self, py: Python<'_>, at: Spot<'_>, size: Count, value: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let bytes = value.map_or_else(|| Ok(vec![0]), pattern)?;
        if bytes.is_empty() {
            return Err(PyValueError::new_err("a pattern to fill with has at least one byte"));
        }
        self.writable()?;
        let at = self.place(at)?.0.0;
        detached(py, || self.fill_with(at, number(size), &bytes, &seldom()))
    }

    /// Where the memory at `at` first differs from `other`, in bytes from `at`, or None if it is the same.
    ///
    /// `other` is bytes, or the address of other memory of this address space (then `size` is needed).
    #[pyo3(signature = (at, other, size = None) -> "int | None")]
    fn compare(
        &self,
        py: Python<'_>,
        at: Spot<'_>,
        other: &Bound<'_, PyAny>,
        size: Option<Count>,
    ) -> PyResult<Option<u64>> {
        let (at, other) = (self.place(at)?.0.0, Other::of(other, size)?);
        detached(py, || match &other {
            Other::Bytes(bytes) => self.differs(at, number(Count(bytes.len())), &seldom(), |from, into| {
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                into.copy_from_slice(&bytes[from..from + into.len()]);
                Ok(())
            }),
            Other::Memory(other, size) => self
                .differs(at, number(*size), &seldom(), |from, into| self.fill_from(other.0.0.wrapping_add(from), into)),
        })
    }
}
