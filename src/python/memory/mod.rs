//! The class `Memory`: guest-physical memory for Python. Copies by default; views through the buffer protocol.
//! It never holds memory itself: each method asks the machine's.

mod bulk;
mod gather;
pub mod hexdump;
mod regions;
mod search;
mod typed;
mod window;

use std::path::PathBuf;

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PySlice};

use crate::addr::GuestPhys;
use crate::machine::Machine;
use crate::memory::SharedMemory;
use crate::source::ReadMemory;

use super::address::{Address, Count, Fitting};
use super::vm::VM;

pub(super) use bulk::seldom;
pub use regions::{Huge, Region};

/// The guest's physical memory. Addresses are guest-physical bytes; integers are little-endian.
///
/// Reading or writing where no RAM or ROM is raises GuestMemoryError. Works while the guest runs, too.
#[pyclass(frozen, module = "belljar")]
pub struct Memory {
    of: Of,
}

/// Whose memory it is.
pub enum Of {
    /// A machine's.
    Machine(Py<VM>),
    /// Nobody's any more: that of a dump, or of a test. It cannot be changed.
    Saved(SharedMemory),
}

impl Of {
    /// The memory itself.
    pub fn core(&self) -> &crate::memory::Memory {
        match self {
            Self::Machine(vm) => &vm.get().machine().memory,
            Self::Saved(memory) => memory,
        }
    }

    /// The same, once more.
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Machine(vm) => Self::Machine(vm.clone_ref(py)),
            Self::Saved(memory) => Self::Saved(SharedMemory::clone(memory)),
        }
    }

    /// The machine, for what changes it.
    pub fn machine(&self) -> PyResult<&Machine> {
        match self {
            Self::Machine(vm) => Ok(vm.get().machine()),
            Self::Saved(_) => Err(PyTypeError::new_err("saved memory cannot be changed: it is what it was")),
        }
    }

    /// For the garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Machine(vm) => visit.call(vm),
            Self::Saved(_) => Ok(()),
        }
    }
}

impl Memory {
    pub(super) fn new(of: Of) -> Self {
        Self { of }
    }

    pub(super) fn core(&self) -> &crate::memory::Memory {
        self.of.core()
    }

    /// The memory, to be written.
    fn changing(&self) -> PyResult<&crate::memory::Memory> {
        Ok(&self.of.machine()?.memory)
    }

    /// Is there memory? Asked before Python makes room for its bytes, or raises MemoryError.
    fn check(&self, at: Address, size: usize) -> PyResult<()> {
        Ok(self.core().check(at.0, u64::try_from(size).unwrap_or(u64::MAX))?)
    }

    fn bytes<'py>(&self, py: Python<'py>, at: Address, size: usize) -> PyResult<Bound<'py, PyBytes>> {
        self.check(at, size)?;
        PyBytes::new_with(py, size, |into| Ok(py.detach(|| self.core().read(at.0, into))?))
    }
}

/// Bytes of a bytes-like object.
pub fn copied(data: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(bytes) = data.cast::<PyBytes>() {
        return Ok(bytes.as_bytes().to_vec());
    }
    let view = PyMemoryView::from(data).map_err(|_| {
        let got = data.get_type().name().map(|n| n.to_string()).unwrap_or_default();
        PyTypeError::new_err(format!(
            "bytes, or something with the buffer protocol (bytearray, numpy array), not {got}"
        ))
    })?;
    view.call_method0("tobytes")?.extract()
}

/// Bytes of a bytes-like object, or of the file that a path names.
pub fn file_or_bytes(source: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    match source.extract::<PathBuf>() {
        Ok(path) if !source.is_instance_of::<PyBytes>() => {
            source.py().detach(|| std::fs::read(&path)).map_err(|e| os_error(&e, path))
        }
        _ => copied(source),
    }
}

#[pymethods]
impl Memory {
    /// `size` bytes from `at` on, as a copy.
    fn read<'py>(&self, py: Python<'py>, at: Address, size: Count) -> PyResult<Bound<'py, PyBytes>> {
        self.bytes(py, at, size.0)
    }

    /// Writes `data` (bytes, or anything with the buffer protocol: a numpy array, a ctypes object) at `at`. ROM can be written from here, too.
    fn write(&self, py: Python<'_>, at: Address, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let (memory, bytes) = (self.changing()?, copied(data)?);
        Ok(py.detach(|| memory.write(at.0, &bytes))?)
    }

    /// Writes a file (its path), or bytes, at `at`; returns how many bytes that were.
    fn load(&self, py: Python<'_>, source: &Bound<'_, PyAny>, at: Address) -> PyResult<usize> {
        let (memory, bytes) = (self.changing()?, file_or_bytes(source)?);
        py.detach(|| memory.write(at.0, &bytes))?;
        Ok(bytes.len())
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match index.cast::<PySlice>() {
            Ok(slice) => {
                let (at, size) = slice_range(slice)?;
                Ok(self.bytes(py, at, size)?.into_any())
            }
            Err(_) => Ok(self.bytes(py, index.extract()?, 1)?.as_bytes()[0].into_pyobject(py)?.into_any()),
        }
    }

    fn __setitem__(&self, py: Python<'_>, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let memory = self.changing()?;
        let Ok(slice) = index.cast::<PySlice>() else {
            let (at, byte): (Address, Fitting<u8>) = (index.extract()?, value.extract()?);
            return Ok(memory.write(at.0, &[byte.0])?);
        };
        let (at, size) = slice_range(slice)?;
        let bytes = copied(value)?;
        if bytes.len() != size {
            return Err(PyValueError::new_err(format!("{} bytes do not fill a slice of {size}", bytes.len())));
        }
        Ok(py.detach(|| memory.write(at.0, &bytes))?)
    }

    fn __repr__(&self) -> String {
        let Ok(regions) = self.core().list() else { return "<Memory of a closed VM>".into() };
        let words = regions.into_iter().map(|r| format!(" {:#x}..{:#x} {}", r.at, r.end(), r.what()));
        format!("<Memory{}>", words.collect::<String>())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.of.traverse(&visit)
    }
}

/// The OSError of an operation on a file.
pub(super) fn os_error(error: &std::io::Error, path: PathBuf) -> PyErr {
    let (errno, text) = (error.raw_os_error().unwrap_or(0), error.to_string());
    let words = text.split(" (os error").next().unwrap_or(&text).to_owned();
    pyo3::exceptions::PyOSError::new_err((errno, words, path.into_os_string()))
}

/// Start and length of `[start:stop]`, whose ends must be given.
fn slice_range(slice: &Bound<'_, PySlice>) -> PyResult<(Address, usize)> {
    let part = |name: &str| slice.getattr(name);
    if !part("step")?.is_none() || part("stop")?.is_none() {
        return Err(PyIndexError::new_err("a slice of guest memory is [start:stop], without a step"));
    }
    let start: Address = if part("start")?.is_none() { Address(GuestPhys(0)) } else { part("start")?.extract()? };
    let stop: Address = part("stop")?.extract()?;
    Ok((start, usize::try_from(stop.0.0.saturating_sub(start.0.0)).unwrap_or(usize::MAX)))
}
