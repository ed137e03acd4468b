//! Instructions for Python. They never refer to a machine.

use std::fmt::Write as _;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::x86::{Instruction as Core, disassemble};

/// One decoded instruction: where it is, its bytes, and its text in Intel syntax.
#[pyclass(frozen, eq, module = "belljar")]
#[derive(PartialEq, Eq)]
pub struct Instruction(pub Core);

#[pymethods]
impl Instruction {
    /// Where it is.
    #[getter]
    fn address(&self) -> u64 {
        self.0.address
    }

    /// Its bytes.
    #[getter]
    fn bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.bytes)
    }

    /// Its text.
    #[getter]
    fn text(&self) -> &str {
        &self.0.text
    }

    fn __len__(&self) -> usize {
        self.0.bytes.len()
    }

    fn __str__(&self) -> &str {
        &self.0.text
    }

    fn __repr__(&self) -> String {
        let mut bytes = String::new();
        for byte in &self.0.bytes {
            let _ = write!(bytes, "{byte:02x}");
        }
        format!("<{:#x}: {bytes}  {}>", self.0.address, self.0.text)
    }
}

/// Decodes `code` as instructions of `bits` (16, 32 or 64) that lie at `at`, at most `count` of them.
///
/// Bytes that are no instruction become "(bad)", one byte each. Prints one instruction a line.
#[pyfunction]
#[pyo3(signature = (code, at = 0, bits = 64, count = None) -> "list[Instruction]")]
pub fn disasm<'py>(code: &Bound<'py, PyAny>, at: u64, bits: u32, count: Option<usize>) -> PyResult<Bound<'py, PyAny>> {
    let bytes = super::memory::copied(code)?;
    listing(code.py(), disassemble(&bytes, at, bits, count.unwrap_or(usize::MAX))?, None)
}

/// The instructions as Python's `Listing`, in which the one at `here` is marked.
pub fn listing(py: Python<'_>, found: Vec<Core>, here: Option<u64>) -> PyResult<Bound<'_, PyAny>> {
    let instructions: Vec<_> = found.into_iter().map(Instruction).collect();
    py.import("belljar.listing")?.getattr("Listing")?.call1((instructions, here))
}
