//! The class `Memory`: guest-physical memory for Python. Copies by default; views through the buffer protocol.

#![allow(unsafe_code)] // the buffer protocol hands out a raw pointer

use std::ffi::{CStr, c_int, c_void};
use std::path::PathBuf;
use std::ptr;

use pyo3::exceptions::{PyBufferError, PyIndexError, PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PySlice};
use pyo3::{PyTraverseError, ffi};

use crate::addr::GuestPhys;
use crate::source::ReadMemory;

use super::size::{bytes_of, human};
use super::vm::VM;

/// The guest's physical memory. Addresses are guest-physical bytes; integers are little-endian.
///
/// Reading or writing where no RAM or ROM is raises GuestMemoryError. Works while the guest runs, too.
#[pyclass(frozen, module = "belljar")]
pub struct Memory {
    vm: Py<VM>,
}

/// One region of memory: `start` and `size` in bytes, `kind` "RAM" or "ROM".
#[pyclass(frozen, eq, get_all, module = "belljar")]
#[derive(Clone, PartialEq, Eq)]
pub struct Region {
    start: u64,
    size: u64,
    kind: &'static str,
}

#[pymethods]
impl Region {
    fn __repr__(&self) -> String {
        format!("<Region {} {:#x}..{:#x}, {}>", self.kind, self.start, self.start + self.size, human(self.size))
    }
}

impl Memory {
    pub(super) fn new(vm: Py<VM>) -> Self {
        Self { vm }
    }

    fn core(&self) -> &crate::memory::Memory {
        &self.vm.get().machine().memory
    }

    fn read_array<const N: usize>(&self, at: u64) -> PyResult<[u8; N]> {
        let mut bytes = [0; N];
        self.core().read(GuestPhys(at), &mut bytes)?;
        Ok(bytes)
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
        Ok(path) if !source.is_instance_of::<PyBytes>() => source.py().detach(|| std::fs::read(&path)).map_err(|e| {
            let (errno, text) = (e.raw_os_error().unwrap_or(0), e.to_string());
            let words = text.split(" (os error").next().unwrap_or(&text).to_owned();
            pyo3::exceptions::PyOSError::new_err((errno, words, path.into_os_string()))
        }),
        _ => copied(source),
    }
}

macro_rules! integers {
    ($($read:ident $write:ident $type:ty, $doc_read:literal, $doc_write:literal;)+) => {
        #[pymethods]
        impl Memory {
            $(
                #[doc = $doc_read]
                fn $read(&self, at: u64) -> PyResult<$type> {
                    Ok(<$type>::from_le_bytes(self.read_array(at)?))
                }

                #[doc = $doc_write]
                fn $write(&self, at: u64, value: $type) -> PyResult<()> {
                    Ok(self.core().write(GuestPhys(at), &value.to_le_bytes())?)
                }
            )+
        }
    };
}

integers! {
    read_u8 write_u8 u8, "The byte at `at`.", "Sets the byte at `at`.";
    read_u16 write_u16 u16, "The 16-bit unsigned integer at `at`.", "Sets the 16-bit unsigned integer at `at`.";
    read_u32 write_u32 u32, "The 32-bit unsigned integer at `at`.", "Sets the 32-bit unsigned integer at `at`.";
    read_u64 write_u64 u64, "The 64-bit unsigned integer at `at`.", "Sets the 64-bit unsigned integer at `at`.";
    read_i8 write_i8 i8, "The signed byte at `at`.", "Sets the signed byte at `at`.";
    read_i16 write_i16 i16, "The 16-bit signed integer at `at`.", "Sets the 16-bit signed integer at `at`.";
    read_i32 write_i32 i32, "The 32-bit signed integer at `at`.", "Sets the 32-bit signed integer at `at`.";
    read_i64 write_i64 i64, "The 64-bit signed integer at `at`.", "Sets the 64-bit signed integer at `at`.";
}

#[pymethods]
impl Memory {
    /// `size` bytes from `at` on, as a copy.
    fn read<'py>(&self, py: Python<'py>, at: u64, size: usize) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = py.detach(|| self.core().read_vec(GuestPhys(at), size))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Writes `data` (bytes, or anything with the buffer protocol) at `at`. ROM can be written from here, too.
    fn write(&self, py: Python<'_>, at: u64, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = copied(data)?;
        Ok(py.detach(|| self.core().write(GuestPhys(at), &bytes))?)
    }

    /// Writes a file (its path), or bytes, at `at`; returns how many bytes that were.
    fn load(&self, py: Python<'_>, source: &Bound<'_, PyAny>, at: u64) -> PyResult<usize> {
        let bytes = file_or_bytes(source)?;
        py.detach(|| self.core().write(GuestPhys(at), &bytes))?;
        Ok(bytes.len())
    }

    /// A live memoryview of `size` bytes from `at` on (by default to the end of the region): no copy, both see changes.
    ///
    /// The VM cannot be closed while it, or an array made of it, is alive. `np.asarray(memory.view())` is free.
    #[pyo3(signature = (at = 0, size = None, *, writable = false))]
    fn view<'py>(
        slf: &Bound<'py, Self>,
        at: u64,
        size: Option<u64>,
        writable: bool,
    ) -> PyResult<Bound<'py, PyMemoryView>> {
        let this = slf.get();
        let rest = || this.vm.get().machine().memory.region_at(GuestPhys(at)).map_or(1, |r| r.end().0 - at);
        let window = Window { vm: this.vm.clone_ref(slf.py()), at, size: size.unwrap_or_else(rest), writable };
        PyMemoryView::from(Bound::new(slf.py(), window)?.as_any())
    }

    /// Adds RAM (or ROM, which the guest cannot write) of `size` bytes at `at`, both multiples of 0x1000.
    ///
    /// `data` is written at its beginning. Overlaps and addresses past 2**52 raise RangeError.
    #[pyo3(signature = (at, size, *, rom = false, data = None))]
    fn add(
        &self,
        py: Python<'_>,
        at: u64,
        size: &Bound<'_, PyAny>,
        rom: bool,
        data: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Region> {
        let (size, data) = (bytes_of(size)?, data.map(copied).transpose()?.unwrap_or_default());
        if u64::try_from(data.len()).unwrap_or(u64::MAX) > size {
            return Err(PyValueError::new_err(format!(
                "{} bytes of data do not fit {size:#x} bytes of memory",
                data.len()
            )));
        }
        let region = py.detach(|| {
            let region = self.vm.get().machine().add_memory(GuestPhys(at), size, rom)?;
            self.core().write(GuestPhys(at), &data).map(|()| region)
        })?;
        Ok(Region { start: region.at.0, size: region.len, kind: region.what() })
    }

    /// The regions of RAM and ROM, in the order of their addresses.
    #[getter]
    fn regions(&self) -> Vec<Region> {
        let regions = self.core().regions();
        regions.into_iter().map(|r| Region { start: r.at.0, size: r.len, kind: r.what() }).collect()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match index.cast::<PySlice>() {
            Ok(slice) => {
                let (at, size) = slice_range(slice)?;
                Ok(self.read(py, at, size)?.into_any())
            }
            Err(_) => Ok(self.read_u8(index.extract()?)?.into_pyobject(py)?.into_any()),
        }
    }

    fn __setitem__(&self, py: Python<'_>, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(slice) = index.cast::<PySlice>() else { return self.write_u8(index.extract()?, value.extract()?) };
        let (at, size) = slice_range(slice)?;
        let bytes = copied(value)?;
        if bytes.len() != size {
            return Err(PyValueError::new_err(format!("{} bytes do not fill a slice of {size}", bytes.len())));
        }
        Ok(py.detach(|| self.core().write(GuestPhys(at), &bytes))?)
    }

    fn __repr__(&self) -> String {
        let regions: Vec<_> = self.regions().iter().map(Region::__repr__).collect();
        format!("<Memory {}>", regions.join(" "))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.vm)
    }
}

/// Start and length of `[start:stop]`, whose ends must be given.
fn slice_range(slice: &Bound<'_, PySlice>) -> PyResult<(u64, usize)> {
    let part = |name: &str| slice.getattr(name);
    if !part("step")?.is_none() || part("stop")?.is_none() {
        return Err(PyIndexError::new_err("a slice of guest memory is [start:stop], without a step"));
    }
    let start: u64 = if part("start")?.is_none() { 0 } else { part("start")?.extract()? };
    let stop: u64 = part("stop")?.extract()?;
    Ok((start, usize::try_from(stop.saturating_sub(start)).unwrap_or(usize::MAX)))
}

/// What exports a view: a range of guest memory for the buffer protocol.
#[pyclass(frozen, module = "belljar")]
struct Window {
    vm: Py<VM>,
    at: u64,
    size: u64,
    writable: bool,
}

const UNSIGNED_BYTES: &CStr = c"B";

#[pymethods]
impl Window {
    /// # Safety
    /// Called by the interpreter with a buffer to fill.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE && !this.writable {
            return Err(PyBufferError::new_err("this view is read-only: ask for view(writable=True)"));
        }
        let memory = &this.vm.get().machine().memory;
        let length =
            isize::try_from(this.size).map_err(|_| PyBufferError::new_err("a view of more than 2**63 bytes"))?;
        let host = memory.export(GuestPhys(this.at), this.size)?;
        let filled = Box::new((length, 1_isize));
        // SAFETY: the interpreter passes a buffer to fill; ours to write until we return.
        let view = unsafe { &mut *view };
        view.buf = host.cast::<c_void>();
        view.len = length;
        view.readonly = c_int::from(!this.writable);
        view.itemsize = 1;
        view.format = if flags & ffi::PyBUF_FORMAT == ffi::PyBUF_FORMAT {
            UNSIGNED_BYTES.as_ptr().cast_mut()
        } else {
            ptr::null_mut()
        };
        view.ndim = 1;
        let numbers = Box::into_raw(filled);
        // SAFETY: `numbers` was just made; it is freed in __releasebuffer__.
        view.shape = unsafe { &raw mut (*numbers).0 };
        // SAFETY: as above.
        view.strides = unsafe { &raw mut (*numbers).1 };
        view.suboffsets = ptr::null_mut();
        view.internal = numbers.cast::<c_void>();
        view.obj = slf.into_any().into_ptr();
        Ok(())
    }

    /// # Safety
    /// Called by the interpreter with a buffer that `__getbuffer__` filled.
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: filled by us, so `internal` is the box made there.
        let numbers = unsafe { (*view).internal }.cast::<(isize, isize)>();
        // SAFETY: made by Box::into_raw in __getbuffer__, and released once.
        drop(unsafe { Box::from_raw(numbers) });
        self.vm.get().machine().memory.unexport();
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.vm)
    }
}
