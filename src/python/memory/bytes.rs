//! What the classes `Memory` and `VirtualMemory` are to their common methods: bytes at addresses. It never says which kind of
//! address that is.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::Result as CoreResult;
use crate::memory::{Found, Needle, Poll, Where};
use crate::python::address::Address;
use crate::python::running::detached;

use super::bulk::seldom;

/// Bytes at addresses, of a guest.
pub trait Bytes: Sync {
    /// Is there memory? Asked before Python makes room for its bytes, or raises MemoryError.
    fn check(&self, at: u64, len: u64, poll: Poll<'_>) -> CoreResult<()>;

    /// Fills `into` from `at` on.
    fn fill_from(&self, at: u64, into: &mut [u8]) -> CoreResult<()>;

    /// Fills `into` from `at` on, with `None` where no memory is.
    fn fill_present(&self, at: u64, into: &mut [Option<u8>]) -> CoreResult<()>;

    /// Refuses where nothing can be written.
    fn writable(&self) -> PyResult<()>;

    /// Writes `bytes` at `at`, all of them or none.
    fn put(&self, at: u64, bytes: &[u8]) -> CoreResult<()>;

    /// The bytes up to a zero byte, `most` at most.
    fn c_string(&self, at: u64, most: usize) -> CoreResult<Vec<u8>>;

    /// The `width` bytes at each of `addresses`, one after the other in `into`.
    fn gather(&self, addresses: &[u64], width: usize, into: &mut [u8], poll: Poll<'_>) -> CoreResult<()>;

    /// All matches, in the order of their addresses.
    fn find(&self, needle: &Needle, place: Where, poll: Poll<'_>) -> CoreResult<Vec<Found>>;

    /// `size` bytes as Python has them.
    fn bytes<'py>(&self, py: Python<'py>, at: Address, size: usize) -> PyResult<Bound<'py, PyBytes>> {
        self.checked(py, at, size)?;
        PyBytes::new_with(py, size, |into| detached(py, || self.fill_from(at.0.0, into)))
    }

    /// Is there memory?
    fn checked(&self, py: Python<'_>, at: Address, size: usize) -> PyResult<()> {
        let len = u64::try_from(size).unwrap_or(u64::MAX);
        if len <= SHORT {
            Ok(self.check(at.0.0, len, &|| Ok(()))?)
        } else {
            detached(py, || self.check(at.0.0, len, &seldom()))
        }
    }

    /// Writes, with other threads running meanwhile.
    fn write_bytes(&self, py: Python<'_>, at: Address, bytes: &[u8]) -> PyResult<()> {
        self.writable()?;
        Ok(py.detach(|| self.put(at.0.0, bytes))?)
    }

    /// `N` bytes, at once.
    fn fixed<const N: usize>(&self, at: Address) -> PyResult<[u8; N]> {
        let mut bytes = [0; N];
        self.fill_from(at.0.0, &mut bytes)?;
        Ok(bytes)
    }
}

/// So little is looked up without letting other threads in.
const SHORT: u64 = 1 << 16;
