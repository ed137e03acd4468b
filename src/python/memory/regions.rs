//! Regions of guest memory from Python: adding, removing, listing, and what they are made from. It never touches bytes.

#![allow(unsafe_code)] // a file descriptor is a number until it is duplicated

use std::fs::{File, OpenOptions};
use std::os::fd::{BorrowedFd, RawFd};
use std::path::PathBuf;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyInt;

use crate::addr::page_ceil;
use crate::memory::{FileMap, Pages, RegionInfo, Source};
use crate::python::address::Address;
use crate::python::running::detached;
use crate::python::size::{bytes_of, human};

use super::{Memory, copied, os_error};

/// One region of memory: `start`, `end` (one past the last address) and `size` in bytes, `kind` "RAM" or "ROM".
///
/// `file`, `offset` and `shared` say which file it shows; `huge` is "transparent", "2M" or "1G" where huge pages were asked
/// for.
#[pyclass(frozen, eq, get_all, module = "belljar")]
#[derive(Clone, PartialEq, Eq)]
pub struct Region {
    start: u64,
    end: u64,
    size: u64,
    kind: &'static str,
    file: Option<String>,
    offset: u64,
    shared: bool,
    huge: Option<&'static str>,
}

impl Region {
    /// What the core says of a region.
    pub fn new(info: RegionInfo) -> Self {
        let (kind, huge) = (info.what(), info.pages.name());
        let (start, end) = (info.at.0, info.end().0);
        let (file, offset, shared) = info.file.map_or((None, 0, false), |f| (Some(f.name), f.offset, f.shared));
        Self { start, end, size: info.len, kind, file, offset, shared, huge }
    }

    /// "RAM" or "ROM".
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// What it is made from, in words.
    pub fn made_from(&self) -> Vec<String> {
        let offset = if self.offset == 0 { String::new() } else { format!(" from {:#x}", self.offset) };
        let shared = if self.shared { ", shared" } else { "" };
        let file = self.file.as_ref().map(|name| format!("{name}{offset}{shared}"));
        let huge = self.huge.map(|huge| format!("huge pages ({huge})"));
        file.into_iter().chain(huge).collect()
    }
}

#[pymethods]
impl Region {
    fn __repr__(&self) -> String {
        let words = [vec![human(self.size)], self.made_from()].concat().join(", ");
        format!("<Region {} {:#x}..{:#x}, {words}>", self.kind, self.start, self.end)
    }
}

/// The size of the host's pages: the word for `huge`.
pub struct Huge(pub Pages);

impl<'a, 'py> FromPyObject<'a, 'py> for Huge {
    type Error = PyErr;

    #[cfg(feature = "stubs")]
    const INPUT_TYPE: pyo3::inspect::PyStaticExpr = <Bound<'py, PyAny> as FromPyObject<'a, 'py>>::INPUT_TYPE;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let wrong = || {
            PyValueError::new_err(
                "huge is None, True (pages of 2 MiB where the host finds some), or \"2M\" or \"1G\" (reserved ones)",
            )
        };
        if value.is_none() {
            return Ok(Self(Pages::Host));
        }
        if let Ok(yes) = value.extract::<bool>() {
            return Ok(Self(if yes { Pages::Transparent } else { Pages::Host }));
        }
        match value.extract::<String>().map_err(|_| wrong())?.to_ascii_uppercase().as_str() {
            "2M" => Ok(Self(Pages::Huge2M)),
            "1G" => Ok(Self(Pages::Huge1G)),
            _ => Err(wrong()),
        }
    }
}

#[pymethods]
impl Memory {
    /// Adds RAM, or with rom=True ROM, of `size` bytes at `at`, both multiples of 0x1000.
    ///
    /// The guest's writes to ROM change nothing, and come to vm.on_mmio(..., access="w"); Python may write to it.
    /// `data` is written at its beginning, and gives the size if there is no other. Overlaps with memory or a native
    /// device, and addresses past 2**52, raise RangeError.
    ///
    /// `file` (a path, a descriptor, or something with fileno()) is mapped, from `offset` on, instead of zeroes; the size is
    /// then by default what is left of the file, rounded up to pages. Writes stay in the VM, or with shared=True reach the
    /// file and whoever else maps it (os.memfd_create shares memory between processes). Do not make a mapped file
    /// shorter: touching what is gone kills this process (SIGBUS).
    ///
    /// huge=True asks the host for pages of 2 MiB where it finds some; "2M" and "1G" take reserved ones, or raise
    /// HostError.
    #[pyo3(
        signature = (
            at, size = None, *, rom = false, data = None, file = None, offset = 0, shared = false, huge = Huge(Pages::Host)
        ),
        text_signature = "($self, at, size=None, *, rom=False, data=None, file=None, offset=0, shared=False, huge=None)"
    )]
    #[allow(clippy::too_many_arguments)] // keyword arguments
    fn add(
        &self,
        py: Python<'_>,
        at: Address,
        size: Option<&Bound<'_, PyAny>>,
        rom: bool,
        data: Option<&Bound<'_, PyAny>>,
        file: Option<&Bound<'_, PyAny>>,
        offset: u64,
        shared: bool,
        huge: Huge,
    ) -> PyResult<Region> {
        let file = file.map(|file| opened(file, offset, shared)).transpose()?;
        let data = data.map(copied).transpose()?;
        let size = size.map(bytes_of).transpose()?;
        let size = fitting(size, data.as_deref(), file.is_some())?;
        let is_plain = file.is_none() && (shared || offset != 0);
        if is_plain || file.is_some() && huge.0 != Pages::Host {
            return Err(PyValueError::new_err("offset and shared are for a file; huge is for memory without one"));
        }
        let source = Source { pages: huge.0, file: file.map(|(file, map)| (file.into(), map)) };
        let machine = self.of.machine()?;
        let region = detached(py, || {
            let region = machine.add_memory(at.0, size, rom, &source)?;
            machine.memory.write(at.0, data.as_deref().unwrap_or_default()).map(|()| region)
        })?;
        Ok(Region::new(region))
    }

    /// Removes the region that begins at `at`, and returns what it was. Its contents are gone, unless a file has them.
    ///
    /// The guest's accesses then come to vm.on_mmio. RunningError while the VM runs (pause() it), BufferError while a
    /// view of the region is live.
    fn remove(&self, py: Python<'_>, at: Address) -> PyResult<Region> {
        let machine = self.of.machine()?;
        let removed = detached(py, || machine.remove_memory(at.0))?;
        Ok(Region::new(removed))
    }

    /// The regions of RAM and ROM, in the order of their addresses.
    #[getter]
    fn regions(&self) -> PyResult<Vec<Region>> {
        Ok(self.core().list()?.into_iter().map(Region::new).collect())
    }
}

/// The size of a region that is given, or that its data has.
fn fitting(size: Option<u64>, data: Option<&[u8]>, has_file: bool) -> PyResult<Option<u64>> {
    let Some(data) = data else { return Ok(size) };
    if has_file {
        return Err(PyValueError::new_err("data or a file, not both: write() changes what a file shows"));
    }
    let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
    match size {
        Some(size) if bytes > size => {
            Err(PyValueError::new_err(format!("{bytes} bytes of data do not fit {size:#x} bytes of memory")))
        }
        Some(size) => Ok(Some(size)),
        None => Ok(page_ceil(bytes)),
    }
}

/// A file of our own from a path, a descriptor, or an object that has one.
fn opened(file: &Bound<'_, PyAny>, offset: u64, shared: bool) -> PyResult<(File, FileMap)> {
    let with_name = |file: File, name: String| (file, FileMap { name, offset, shared });
    if let Ok(path) = file.extract::<PathBuf>() {
        let name = path.display().to_string();
        let opened = file.py().detach(|| OpenOptions::new().read(true).write(shared).open(&path));
        return opened.map(|file| with_name(file, name)).map_err(|e| os_error(&e, path));
    }
    let number = if file.is_instance_of::<PyInt>() { Ok(file.clone()) } else { file.call_method0("fileno") };
    let number = number
        .and_then(|n| n.extract::<RawFd>())
        .ok()
        .filter(|n| *n >= 0)
        .ok_or_else(|| PyTypeError::new_err("file is a path, a file descriptor, or something with fileno()"))?;
    // SAFETY: only borrowed to be duplicated at once; a number that is no descriptor makes dup fail.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let owned = borrowed.try_clone_to_owned().map_err(|e| os_error(&e, format!("fd {number}").into()))?;
    Ok(with_name(File::from(owned), format!("fd {number}")))
}
