//! Values in guest memory: integers, strings, structures, arrays. They are copies, and never say where pointers in them
//! lead.

use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyString, PyTuple};

use crate::python::address::{Address, Count, Fitting};
use crate::source::ReadMemory;

use super::{Memory, copied};

macro_rules! integers {
    ($($read:ident $write:ident $type:ty, $doc_read:literal, $doc_write:literal;)+) => {
        #[pymethods]
        impl Memory {
            $(
                #[doc = $doc_read]
                fn $read(&self, at: Address) -> PyResult<$type> {
                    Ok(<$type>::from_le_bytes(self.read_fixed(at)?))
                }

                #[doc = $doc_write]
                fn $write(&self, at: Address, value: Fitting<$type>) -> PyResult<()> {
                    Ok(self.changing()?.write(at.0, &value.0.to_le_bytes())?)
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
    /// The C string at `at`: the bytes up to a zero byte, or `most` bytes if none of them is zero (as strnlen counts).
    ///
    /// With an `encoding` whose only zero byte is the end ("utf-8", "latin-1") it is decoded to str; `errors` is as for
    /// bytes.decode. GuestMemoryError if memory ends before the zero and before `most`.
    #[pyo3(signature = (at, most = 4096, encoding = None, errors = "strict") -> "bytes | str")]
    fn read_cstring<'py>(
        &self,
        py: Python<'py>,
        at: Address,
        most: usize,
        encoding: Option<&str>,
        errors: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let bytes = PyBytes::new(py, &py.detach(|| self.core().c_string(at.0, most))?);
        match encoding {
            None => Ok(bytes.into_any()),
            Some(encoding) => bytes.call_method1("decode", (encoding, errors)),
        }
    }

    /// Writes `text` (bytes, or str encoded as `encoding`) and a zero byte at `at`; returns how many bytes that were.
    #[pyo3(signature = (at, text, encoding = "utf-8"))]
    fn write_cstring(&self, at: Address, text: &Bound<'_, PyAny>, encoding: &str) -> PyResult<usize> {
        let mut bytes = match text.cast::<PyString>() {
            Ok(text) => copied(&text.call_method1("encode", (encoding,))?)?,
            Err(_) => copied(text)?,
        };
        bytes.push(0);
        self.changing()?.write(at.0, &bytes)?;
        Ok(bytes.len())
    }

    /// The values at `at` that `format` of the struct module describes: `read_struct(0x1000, "<QI8s")`.
    ///
    /// Begin the format with "<": without it there is padding between members, as a C compiler puts it.
    #[pyo3(signature = (at, format) -> "tuple[Any, ...]")]
    fn read_struct<'py>(&self, py: Python<'py>, at: Address, format: &str) -> PyResult<Bound<'py, PyTuple>> {
        let layout = py.import("struct")?.getattr("Struct")?.call1((format,))?;
        let bytes = self.bytes(py, at, layout.getattr("size")?.extract()?)?;
        Ok(layout.call_method1("unpack", (bytes,))?.cast_into()?)
    }

    /// Writes `values` at `at`, laid out by `format` of the struct module; returns how many bytes that were.
    #[pyo3(signature = (at, format, *values: "object"))]
    fn write_struct(&self, at: Address, format: &str, values: &Bound<'_, PyTuple>) -> PyResult<usize> {
        let layout = values.py().import("struct")?.getattr("Struct")?.call1((format,))?;
        let bytes = copied(&layout.call_method("pack", values, None)?)?;
        self.changing()?.write(at.0, &bytes)?;
        Ok(bytes.len())
    }

    /// The ctypes object at `at`, as a copy: `read_ctypes(0x1000, Header)` for a Structure, Union, array or plain type.
    ///
    /// What `write_ctypes` writes back. A pointer in it is the guest's: never follow it with ctypes, which would
    /// look in this process.
    fn read_ctypes<'py>(&self, py: Python<'py>, at: Address, kind: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let size = size_of_ctypes(kind)?;
        kind.call_method1("from_buffer_copy", (self.bytes(py, at, size)?,))
    }

    /// Writes a ctypes object (a Structure, for example) at `at`; returns how many bytes that were.
    fn write_ctypes(&self, at: Address, value: &Bound<'_, PyAny>) -> PyResult<usize> {
        size_of_ctypes(value)?;
        let bytes = copied(value)?;
        self.changing()?.write(at.0, &bytes)?;
        Ok(bytes.len())
    }

    /// `count` items from `at` on as a numpy array of its own: `read_array(0x1000, 512, "<u8")` for 64-bit words.
    ///
    /// `dtype` is numpy's, structured ones too; bytes by default. `write` puts an array back; `view` makes no copy.
    #[pyo3(signature = (at, count, dtype = None))]
    fn read_array<'py>(
        &self,
        py: Python<'py>,
        at: Address,
        count: Count,
        dtype: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let numpy = py.import("numpy")?;
        let bytes = PyString::new(py, "u1").into_any();
        let dtype = numpy.getattr("dtype")?.call1((dtype.unwrap_or(&bytes),))?;
        let size = count.0.checked_mul(dtype.getattr("itemsize")?.extract()?);
        let size = size.ok_or_else(|| PyOverflowError::new_err("an array of more than 2**64 bytes"))?;
        if size == 0 {
            return numpy.call_method1("empty", (count.0, dtype)); // which frombuffer refuses
        }
        self.check(at, size)?;
        let bytes = PyByteArray::new_with(py, size, |into| Ok(py.detach(|| self.core().read(at.0, into))?))?;
        numpy.call_method1("frombuffer", (bytes, dtype))
    }
}

impl Memory {
    fn read_fixed<const N: usize>(&self, at: Address) -> PyResult<[u8; N]> {
        let mut bytes = [0; N];
        self.core().read(at.0, &mut bytes)?;
        Ok(bytes)
    }
}

fn size_of_ctypes(object: &Bound<'_, PyAny>) -> PyResult<usize> {
    let size = object.py().import("ctypes")?.call_method1("sizeof", (object,)).map_err(|_| {
        let shown = object.repr().map(|r| r.to_string()).unwrap_or_default();
        PyTypeError::new_err(format!("a ctypes type or object, such as a Structure, not {shown}"))
    })?;
    size.extract()
}
