//! Records of a trace as they lie in the ring, as a buffer of Python's. It never copies one.

#![allow(unsafe_code)] // the buffer protocol hands out a raw pointer

use std::ffi::{c_int, c_void};

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::hook::Batch as CoreBatch;

/// Records in one piece, as a buffer. Their room in the ring is free again when nobody holds it any more.
#[pyclass(frozen, module = "belljar")]
pub struct Batch(pub(super) CoreBatch);

#[pymethods]
impl Batch {
    /// # Safety
    /// Called by the interpreter with a buffer to fill.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let words = slf.get().0.words();
        let length =
            isize::try_from(size_of_val(words)).map_err(|_| PyBufferError::new_err("more than 2**63 bytes"))?;
        let start = words.as_ptr().cast::<c_void>().cast_mut();
        // SAFETY: the interpreter passes a buffer to fill. The words stay where they are as long as the batch, to which
        // the buffer holds a reference, and nobody writes them meanwhile (the ring's promise); it is read-only.
        let result = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, 1, flags) };
        if result == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
