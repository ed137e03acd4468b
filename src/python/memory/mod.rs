//! The class `Memory`: guest-physical memory for Python. Copies by default; views through the buffer protocol.
//! It never holds memory itself: each method asks the machine's.

mod bulk;
mod bytes;
mod gather;
pub mod hexdump;
mod regions;
mod search;
mod slices;
mod typed;
mod window;

use std::path::PathBuf;

use pyo3::PyTraverseError;
use pyo3::exceptions::PyTypeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};

use crate::addr::GuestPhys;
use crate::error::Result as CoreResult;
use crate::machine::Machine;
use crate::memory::{Found, Needle, Poll, SharedMemory, Where};
use crate::source::ReadMemory;

use super::address::Address;
use super::vm::VM;

pub use bulk::{Other, number, pattern, seldom};
pub use bytes::Bytes;
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

    /// A moment since which nobody can have changed the memory, while it stays the same; `None` if somebody may do so at
    /// any time.
    pub fn quiet_since(&self) -> Option<u64> {
        match self {
            Self::Machine(vm) => vm.get().machine().quiet_since(),
            Self::Saved(memory) => memory.quiet_since(),
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

    /// The memory itself.
    pub fn core(&self) -> &crate::memory::Memory {
        self.of.core()
    }

    /// Whose it is.
    pub(super) fn of(&self) -> &Of {
        &self.of
    }

    /// The address itself: names are of virtual addresses.
    #[allow(clippy::unnecessary_wraps, clippy::unused_self)] // as VirtualMemory's, which looks names up
    fn place(&self, at: Address) -> PyResult<Address> {
        Ok(at)
    }

    /// The memory, to be written.
    fn changing(&self) -> PyResult<&crate::memory::Memory> {
        Ok(&self.of.machine()?.memory)
    }
}

impl Bytes for Memory {
    fn check(&self, at: u64, len: u64, _poll: Poll<'_>) -> CoreResult<()> {
        self.core().check(GuestPhys(at), len)
    }

    fn fill_from(&self, at: u64, into: &mut [u8]) -> CoreResult<()> {
        self.core().read(GuestPhys(at), into)
    }

    fn fill_present(&self, at: u64, into: &mut [Option<u8>]) -> CoreResult<()> {
        self.core().check_open()?;
        self.core().read_present(GuestPhys(at), into);
        Ok(())
    }

    fn writable(&self) -> PyResult<()> {
        self.changing().map(drop)
    }

    fn put(&self, at: u64, bytes: &[u8]) -> CoreResult<()> {
        self.core().write(GuestPhys(at), bytes)
    }

    fn c_string(&self, at: u64, most: usize) -> CoreResult<Vec<u8>> {
        self.core().c_string(GuestPhys(at), most)
    }

    fn gather(&self, addresses: &[u64], width: usize, into: &mut [u8], poll: Poll<'_>) -> CoreResult<()> {
        self.core().gather(addresses, width, into, poll)
    }

    fn find(&self, needle: &Needle, place: Where, poll: Poll<'_>) -> CoreResult<Vec<Found>> {
        self.core().check_open()?;
        self.core().search(needle, place, poll)
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
    /// Writes a file (its path), or bytes, at `at`; returns how many bytes that were.
    fn load(&self, py: Python<'_>, source: &Bound<'_, PyAny>, at: Address) -> PyResult<usize> {
        let bytes = file_or_bytes(source)?;
        self.write_bytes(py, at, &bytes)?;
        Ok(bytes.len())
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
