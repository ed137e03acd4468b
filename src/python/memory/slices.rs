//! Plain bytes of guest memory: read, write, and the brackets. They are copies.

use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PySlice};

use crate::addr::GuestPhys;
use crate::python::address::{Address, Count, Fitting, Spot};
use crate::python::virtual_memory::VirtualMemory;

use super::bytes::Bytes;
use super::{Memory, copied};

macro_rules! plain_bytes {
    ($($class:ident: $at:ty;)+) => {$(
        #[pymethods]
        impl $class {
            /// `size` bytes from `at` on, as a copy.
            fn read<'py>(&self, py: Python<'py>, at: $at, size: Count) -> PyResult<Bound<'py, PyBytes>> {
                self.bytes(py, self.place(at)?, size.0)
            }

            /// Writes `data` (bytes, or anything with the buffer protocol: a numpy array, a ctypes object) at `at`. ROM can be written from here, too.
            fn write(&self, py: Python<'_>, at: $at, data: &Bound<'_, PyAny>) -> PyResult<()> {
                self.write_bytes(py, self.place(at)?, &copied(data)?)
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
                self.writable()?;
                let Ok(slice) = index.cast::<PySlice>() else {
                    let (at, byte): (Address, Fitting<u8>) = (index.extract()?, value.extract()?);
                    return Ok(self.put(at.0.0, &[byte.0])?);
                };
                let (at, size) = slice_range(slice)?;
                let bytes = copied(value)?;
                if bytes.len() != size {
                    return Err(PyValueError::new_err(format!("{} bytes do not fill a slice of {size}", bytes.len())));
                }
                self.write_bytes(py, at, &bytes)
            }
        }
    )+};
}

plain_bytes! { Memory: Address; VirtualMemory: Spot<'_>; }

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
