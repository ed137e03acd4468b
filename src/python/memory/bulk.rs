//! Long work on guest memory: fill, copy, compare. It lets other threads run, and Ctrl-C ends it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::Result as CoreResult;
use crate::python::address::{Address, Count};
use crate::python::running::{detached, poll};

use super::{Memory, copied};

/// Looks for signals, but only every so often: the interpreter may be busy elsewhere.
pub fn seldom() -> impl Fn() -> CoreResult<()> + Sync {
    let last = Mutex::new(Instant::now());
    move || {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() < Duration::from_millis(50) {
            return Ok(());
        }
        *last = Instant::now();
        drop(last);
        poll()
    }
}

/// A byte as an integer, or several as bytes.
pub fn pattern(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    match value.extract::<i128>() {
        Ok(byte) => {
            Ok(vec![u8::try_from(byte).map_err(|_| PyValueError::new_err(format!("a byte is 0 to 255, not {byte}")))?])
        }
        Err(_) => copied(value),
    }
}

pub fn number(size: Count) -> u64 {
    u64::try_from(size.0).unwrap_or(u64::MAX)
}

/// What memory is compared with.
pub enum Other {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many bytes of memory at an address.
    Memory(Address, Count),
}

impl Other {
    /// The first `size` bytes of `other`, or of the memory whose address it is.
    pub fn of(other: &Bound<'_, PyAny>, size: Option<Count>) -> PyResult<Self> {
        if other.hasattr("__index__")? {
            let other = other.extract()?;
            let size = size.ok_or_else(|| PyValueError::new_err("compare(at, address, size): how many bytes?"))?;
            return Ok(Self::Memory(other, size));
        }
        let mut bytes = copied(other)?;
        let (there, size) = (bytes.len(), size.map_or(bytes.len(), |size| size.0));
        if size > there {
            return Err(PyValueError::new_err(format!("{size} bytes are to be compared with {there}")));
        }
        bytes.truncate(size);
        Ok(Self::Bytes(bytes))
    }
}

#[pymethods]
impl Memory {
    /// Fills `size` bytes from `at` on with `value`: a byte (0 to 255; by default 0), or bytes that are
    /// repeated.
    #[pyo3(signature = (at, size, value = None))]
    fn fill(&self, py: Python<'_>, at: Address, size: Count, value: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let pattern = value.map_or_else(|| Ok(vec![0]), pattern)?;
        let memory = self.changing()?;
        detached(py, || memory.fill(at.0, number(size), &pattern, &seldom()))
    }

    /// Copies `size` bytes to `at` from `source`. The two may overlap.
    fn copy(&self, py: Python<'_>, at: Address, source: Address, size: Count) -> PyResult<()> {
        let memory = self.changing()?;
        detached(py, || memory.copy(at.0, source.0, number(size), &seldom()))
    }

    /// Where the memory at `at` first differs from `other`, in bytes from `at`, or None if it is the same.
    ///
    /// `other` is bytes, or the address of other memory (then `size` is needed).
    #[pyo3(signature = (at, other, size = None) -> "int | None")]
    fn compare(
        &self,
        py: Python<'_>,
        at: Address,
        other: &Bound<'_, PyAny>,
        size: Option<Count>,
    ) -> PyResult<Option<u64>> {
        let (memory, other) = (self.core(), Other::of(other, size)?);
        detached(py, || match &other {
            Other::Bytes(bytes) => memory.compare_with(at.0, bytes, &seldom()),
            Other::Memory(other, size) => memory.compare(at.0, other.0, number(*size), &seldom()),
        })
    }
}
