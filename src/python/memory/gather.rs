//! Values from many addresses as one numpy array. It never decides where memory is.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyString};

use crate::python::address::{Address, Count};
use crate::python::running::detached;
use crate::python::virtual_memory::VirtualMemory;

use super::Memory;
use super::bulk::seldom;
use super::bytes::Bytes;

/// Addresses in the order of C, and the shape that they came in.
struct Addresses {
    list: Vec<u64>,
    shape: Vec<usize>,
}

/// Takes an array of 64-bit integers as it is, and anything else one by one.
fn places(of: &Bound<'_, PyAny>) -> PyResult<Addresses> {
    if let Ok(buffer) = PyBuffer::<u64>::get(of) {
        return Ok(Addresses { list: buffer.to_vec(of.py())?, shape: buffer.shape().to_vec() });
    }
    if let Ok(buffer) = PyBuffer::<i64>::get(of) {
        let list = buffer.to_vec(of.py())?.into_iter().map(u64::try_from).collect::<Result<_, _>>();
        let list = list.map_err(|_| PyOverflowError::new_err("an address is an integer from 0 to 2**64 - 1"))?;
        return Ok(Addresses { list, shape: buffer.shape().to_vec() });
    }
    let list = of.try_iter()?.map(|at| Ok(at?.extract::<Address>()?.0.0)).collect::<PyResult<Vec<_>>>()?;
    Ok(Addresses { shape: vec![list.len()], list })
}

/// So many zero bytes, if the process can have them.
fn zeroes(count: usize, each: usize) -> PyResult<Vec<u8>> {
    let size = count.checked_mul(each).ok_or_else(|| PyOverflowError::new_err("an array of more than 2**64 bytes"))?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| PyMemoryError::new_err(format!("no memory for {size:#x} bytes")))?;
    bytes.resize(size, 0);
    Ok(bytes)
}

macro_rules! read_many {
    ($($class:ident)+) => {$(
        #[pymethods]
        impl $class {
            /// The values at many `addresses`, which need no order, as a numpy array of its own and of their shape.
            ///
            /// `addresses` is an array of 64-bit integers (the fast way), or any iterable of integers. `dtype` is numpy's, by
            /// default "<u8", a 64-bit word: `read_many(base + 8 * np.arange(512))`; or a number of bytes, for so many of them in
            /// one more dimension. An address without memory is a
            /// GuestMemoryError. Other threads run meanwhile, the guest too: each value is read once, but not all at one moment.
            #[pyo3(signature = (addresses, dtype = None))]
            fn read_many<'py>(
                &self,
                py: Python<'py>,
                addresses: &Bound<'py, PyAny>,
                dtype: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let (numpy, wanted) = (py.import("numpy")?, places(addresses)?);
                let word = PyString::new(py, "<u8").into_any();
                let dtype = match dtype.map(|dtype| dtype.extract::<Count>()) {
                    Some(Ok(size)) => numpy.getattr("dtype")?.call1((("u1", (size.0,)),))?,
                    _ => numpy.getattr("dtype")?.call1((dtype.unwrap_or(&word),))?,
                };
                if dtype.getattr("hasobject")?.is_truthy()? {
                    return Err(PyTypeError::new_err(
                        "guest memory holds no Python objects: a dtype of numbers, bytes or both",
                    ));
                }
                let width = dtype.getattr("itemsize")?.extract()?;
                let mut bytes = zeroes(wanted.list.len(), width)?;
                detached(py, || self.gather(&wanted.list, width, &mut bytes, &seldom()))?;
                if bytes.is_empty() {
                    return numpy.call_method1("zeros", (wanted.shape, dtype)); // which frombuffer refuses
                }
                let array = numpy.call_method1("frombuffer", (PyByteArray::new(py, &bytes), dtype))?;
                if wanted.shape.len() == 1 { Ok(array) } else { array.call_method1("reshape", (wanted.shape,)) }
            }
        }
    )+};
}

read_many! { Memory VirtualMemory }
