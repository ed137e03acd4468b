//! Values in guest memory: integers, strings, structures, arrays. They are copies, and never say where pointers in them
//! lead.

use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyString, PyTuple};

use crate::addr::GuestPhys;
use crate::error::Result as CoreResult;
use crate::python::address::{Address, Count, Fitting, Spot};
use crate::python::running::detached;
use crate::python::virtual_memory::VirtualMemory;

use super::bytes::Bytes;
use super::{Memory, copied};

macro_rules! integers {
    ($class:ident, $at:ty: $($read:ident $write:ident $type:ty, $doc_read:literal, $doc_write:literal;)+) => {
        #[pymethods]
        impl $class {
            $(
                #[doc = $doc_read]
                fn $read(&self, at: $at) -> PyResult<$type> {
                    Ok(<$type>::from_le_bytes(self.fixed(self.place(at)?)?))
                }

                #[doc = $doc_write]
                fn $write(&self, at: $at, value: Fitting<$type>) -> PyResult<()> {
                    self.writable()?;
                    Ok(self.put(self.place(at)?.0.0, &value.0.to_le_bytes())?)
                }
            )+
        }
    };
}

macro_rules! typed_values {
    ($($class:ident: $at:ty;)+) => {$(
        integers! {
            $class, $at:
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
        impl $class {
            /// The C string at `at`: the bytes up to a zero byte, or `most` bytes if none of them is zero (as strnlen counts).
            ///
            /// With an `encoding` whose only zero byte is the end ("utf-8", "latin-1") it is decoded to str; `errors` is as for
            /// bytes.decode. GuestMemoryError if memory ends before the zero and before `most`.
            #[pyo3(signature = (at, most = 4096, encoding = None, errors = "strict") -> "bytes | str")]
            fn read_cstring<'py>(
                &self,
                py: Python<'py>,
                at: $at,
                most: usize,
                encoding: Option<&str>,
                errors: &str,
            ) -> PyResult<Bound<'py, PyAny>> {
                let at = self.place(at)?;
                let bytes = PyBytes::new(py, &detached(py, || self.c_string(at.0.0, most))?);
                match encoding {
                    None => Ok(bytes.into_any()),
                    Some(encoding) => bytes.call_method1("decode", (encoding, errors)),
                }
            }

            /// The UTF-16 string at `at`, little-endian, up to a zero code unit, or `most` code units if none of them is zero.
            ///
            /// `errors` is as for bytes.decode: half a surrogate pair is a UnicodeDecodeError unless it says otherwise.
            /// GuestMemoryError if memory ends before the zero and before `most`.
            #[pyo3(signature = (at, most = 4096, errors = "strict") -> "str")]
            fn read_utf16<'py>(&self, py: Python<'py>, at: $at, most: usize, errors: &str) -> PyResult<Bound<'py, PyAny>> {
                let at = self.place(at)?;
                let units = detached(py, || utf16(at.0.0, most, |at, unit| self.fill_from(at, unit)))?;
                PyBytes::new(py, &units).call_method1("decode", ("utf-16-le", errors))
            }

            /// Writes `text` (bytes, or str encoded as `encoding`) and a zero byte at `at`; returns how many bytes that were.
            #[pyo3(signature = (at, text, encoding = "utf-8"))]
            fn write_cstring(&self, py: Python<'_>, at: $at, text: &Bound<'_, PyAny>, encoding: &str) -> PyResult<usize> {
                let at = self.place(at)?;
                let mut bytes = match text.cast::<PyString>() {
                    Ok(text) => copied(&text.call_method1("encode", (encoding,))?)?,
                    Err(_) => copied(text)?,
                };
                bytes.push(0);
                self.write_bytes(py, at, &bytes)?;
                Ok(bytes.len())
            }

            /// The values at `at` that `format` of the struct module describes: `read_struct(0x1000, "<QI8s")`.
            ///
            /// Begin the format with "<": without it there is padding between members, as a C compiler puts it.
            #[pyo3(signature = (at, format) -> "tuple[Any, ...]")]
            fn read_struct<'py>(&self, py: Python<'py>, at: $at, format: &str) -> PyResult<Bound<'py, PyTuple>> {
                let layout = py.import("struct")?.getattr("Struct")?.call1((format,))?;
                let bytes = self.bytes(py, self.place(at)?, layout.getattr("size")?.extract()?)?;
                Ok(layout.call_method1("unpack", (bytes,))?.cast_into()?)
            }

            /// Writes `values` at `at`, laid out by `format` of the struct module; returns how many bytes that were.
            #[pyo3(signature = (at, format, *values: "object"))]
            fn write_struct(&self, py: Python<'_>, at: $at, format: &str, values: &Bound<'_, PyTuple>) -> PyResult<usize> {
                let layout = py.import("struct")?.getattr("Struct")?.call1((format,))?;
                let bytes = copied(&layout.call_method("pack", values, None)?)?;
                self.write_bytes(py, self.place(at)?, &bytes)?;
                Ok(bytes.len())
            }

            /// The ctypes object at `at`, as a copy: `read_ctypes(0x1000, Header)` for a Structure, Union, array or plain type.
            ///
            /// What `write_ctypes` writes back. A pointer in it is the guest's: never follow it with ctypes, which would
            /// look in this process.
            fn read_ctypes<'py>(&self, py: Python<'py>, at: $at, kind: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                let size = size_of_ctypes(kind)?;
                kind.call_method1("from_buffer_copy", (self.bytes(py, self.place(at)?, size)?,))
            }

            /// Writes a ctypes object (a Structure, for example) at `at`; returns how many bytes that were.
            fn write_ctypes(&self, py: Python<'_>, at: $at, value: &Bound<'_, PyAny>) -> PyResult<usize> {
                size_of_ctypes(value)?;
                let bytes = copied(value)?;
                self.write_bytes(py, self.place(at)?, &bytes)?;
                Ok(bytes.len())
            }

            /// `count` items from `at` on as a numpy array of its own: `read_array(0x1000, 512, "<u8")` for 64-bit words.
            ///
            /// `dtype` is numpy's, structured ones too; bytes by default. `write` puts an array back; `view` makes no copy.
            #[pyo3(signature = (at, count, dtype = None))]
            fn read_array<'py>(
                &self,
                py: Python<'py>,
                at: $at,
                count: Count,
                dtype: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let at = self.place(at)?;
                let numpy = py.import("numpy")?;
                let bytes = PyString::new(py, "u1").into_any();
                let dtype = numpy.getattr("dtype")?.call1((dtype.unwrap_or(&bytes),))?;
                let size = count.0.checked_mul(dtype.getattr("itemsize")?.extract()?);
                let size = size.ok_or_else(|| PyOverflowError::new_err("an array of more than 2**64 bytes"))?;
                if size == 0 {
                    return numpy.call_method1("empty", (count.0, dtype)); // which frombuffer refuses
                }
                self.checked(py, at, size)?;
                let bytes = PyByteArray::new_with(py, size, |into| detached(py, || self.fill_from(at.0.0, into)))?;
                numpy.call_method1("frombuffer", (bytes, dtype))
            }
        }
    )+};
}

typed_values! { Memory: Address; VirtualMemory: Spot<'_>; }

/// The bytes of the code units from `at` on, up to one that is zero.
fn utf16(at: u64, most: usize, read: impl Fn(u64, &mut [u8]) -> CoreResult<()>) -> CoreResult<Vec<u8>> {
    let (mut units, mut here) = (Vec::new(), GuestPhys(at));
    for _ in 0..most {
        let mut unit = [0; 2];
        read(here.0, &mut unit)?;
        if unit == [0; 2] {
            break;
        }
        units.extend_from_slice(&unit);
        here = here.plus(2)?;
    }
    Ok(units)
}

fn size_of_ctypes(object: &Bound<'_, PyAny>) -> PyResult<usize> {
    let size = object.py().import("ctypes")?.call_method1("sizeof", (object,)).map_err(|_| {
        let shown = object.repr().map(|r| r.to_string()).unwrap_or_default();
        PyTypeError::new_err(format!("a ctypes type or object, such as a Structure, not {shown}"))
    })?;
    size.extract()
}
