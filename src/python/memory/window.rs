//! Views of guest memory: a range of it for the buffer protocol. They never outlive the mapping that they show.

#![allow(unsafe_code)] // the buffer protocol hands out a raw pointer

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use pyo3::exceptions::PyBufferError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;
use pyo3::{PyTraverseError, ffi};

use crate::addr::GuestPhys;
use crate::memory::Export;
use crate::python::address::Address;

use super::{Memory, Of};

/// What exports a view: a range of guest memory for the buffer protocol.
#[pyclass(frozen, module = "belljar")]
struct Window {
    of: Of,
    at: GuestPhys,
    size: u64,
    writable: bool,
}

/// What one exported buffer needs until it is released.
struct Shown {
    length: isize,
    stride: isize,
    #[expect(dead_code, reason = "held for its drop")]
    export: Export,
}

const UNSIGNED_BYTES: &CStr = c"B";

#[pymethods]
impl Memory {
    /// A live memoryview of `size` bytes from `at` on (by default to the end of the region): no copy, both see changes.
    ///
    /// The VM cannot be closed, nor the region removed, while it, or an array made of it, is alive.
    /// `np.asarray(memory.view())` is free.
    #[pyo3(
        signature = (at = Address(GuestPhys(0)), size = None, *, writable = false),
        text_signature = "($self, at=0, size=None, *, writable=False)"
    )]
    fn view<'py>(
        slf: &Bound<'py, Self>,
        at: Address,
        size: Option<u64>,
        writable: bool,
    ) -> PyResult<Bound<'py, PyMemoryView>> {
        let (this, at) = (slf.get(), at.0);
        if writable {
            this.of.machine()?;
        }
        let rest = || this.core().region_at(at).map_or(1, |r| r.end().0 - at.0);
        let window = Window { of: this.of.clone_ref(slf.py()), at, size: size.unwrap_or_else(rest), writable };
        PyMemoryView::from(Bound::new(slf.py(), window)?.as_any())
    }
}

#[pymethods]
impl Window {
    /// # Safety
    /// Called by the interpreter with a buffer to fill.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE && !this.writable {
            return Err(PyBufferError::new_err("this view is read-only: ask for view(writable=True)"));
        }
        let length =
            isize::try_from(this.size).map_err(|_| PyBufferError::new_err("a view of more than 2**63 bytes"))?;
        let export = this.of.core().export(this.at, this.size, this.writable)?;
        let host = export.host_address();
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
        let shown = Box::into_raw(Box::new(Shown { length, stride: 1, export }));
        // SAFETY: `shown` was just made; it is freed in __releasebuffer__.
        view.shape = unsafe { &raw mut (*shown).length };
        // SAFETY: as above.
        view.strides = unsafe { &raw mut (*shown).stride };
        view.suboffsets = ptr::null_mut();
        view.internal = shown.cast::<c_void>();
        view.obj = slf.into_any().into_ptr();
        Ok(())
    }

    /// # Safety
    /// Called by the interpreter with a buffer that `__getbuffer__` filled.
    #[allow(clippy::unused_self)] // the protocol's signature
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: filled by us, so `internal` is the box made there.
        let shown = unsafe { (*view).internal }.cast::<Shown>();
        // SAFETY: made by Box::into_raw in __getbuffer__, and released once.
        drop(unsafe { Box::from_raw(shown) });
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.of.traverse(&visit)
    }
}
