//! Instructions for Python. They never refer to a machine.

use std::fmt::Write as _;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::x86::{Instruction as Core, disassemble};

use super::vm::VM;

/// One decoded instruction: where it is, its bytes, and its text in Intel syntax.
///
/// Where symbols are known, `symbol` names the place that it is at, and `target_symbol` the one that it refers to.
#[pyclass(frozen, eq, module = "belljar")]
#[derive(PartialEq, Eq)]
pub struct Instruction {
    core: Core,
    symbol: Option<String>,
    target_symbol: Option<String>,
}

#[pymethods]
impl Instruction {
    /// Where it is.
    #[getter]
    fn address(&self) -> u64 {
        self.core.address
    }

    /// Its bytes.
    #[getter]
    fn bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.core.bytes)
    }

    /// Its text.
    #[getter]
    fn text(&self) -> &str {
        &self.core.text
    }

    /// The address that it refers to: where a call or a jump goes, or the memory that is reached relative to RIP.
    #[getter]
    fn target(&self) -> Option<u64> {
        self.core.target
    }

    /// Where it is, as "name" or "name+0x12".
    #[getter]
    fn symbol(&self) -> Option<&str> {
        self.symbol.as_deref()
    }

    /// What `target` is, as "name" or "name+0x12".
    #[getter]
    fn target_symbol(&self) -> Option<&str> {
        self.target_symbol.as_deref()
    }

    fn __len__(&self) -> usize {
        self.core.bytes.len()
    }

    fn __str__(&self) -> &str {
        &self.core.text
    }

    fn __repr__(&self) -> String {
        let mut bytes = String::new();
        for byte in &self.core.bytes {
            let _ = write!(bytes, "{byte:02x}");
        }
        let target = self.target_symbol.as_ref().map(|name| format!(" <{name}>")).unwrap_or_default();
        format!("<{:#x}: {bytes}  {}{target}>", self.core.address, self.core.text)
    }
}

/// What names places in the listings of a guest.
pub fn names<'py>(guest: &Bound<'py, VM>) -> PyResult<Bound<'py, PyAny>> {
    guest.py().import("belljar.listing")?.getattr("names")?.call1((guest,))
}

/// Decodes `code` as instructions of `bits` (16, 32 or 64) that lie at `at`, at most `count` of them.
///
/// Bytes that are no instruction become "(bad)", one byte each. Prints one instruction a line, with the names that
/// `symbols` (such as vm.symbols) has for places and targets.
#[pyfunction]
#[pyo3(signature = (code, at = 0, bits = 64, count = None, *, symbols = None) -> "list[Instruction]")]
pub fn disasm<'py>(
    code: &Bound<'py, PyAny>,
    at: u64,
    bits: u32,
    count: Option<usize>,
    symbols: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let bytes = super::memory::copied(code)?;
    listing(code.py(), disassemble(&bytes, at, bits, count.unwrap_or(usize::MAX))?, None, symbols)
}

/// The instructions as Python's `Listing`, in which the one at `here` is marked; `symbols` has a `lookup(address)` as
/// `Symbols` has, and names what it knows.
pub fn listing<'py>(
    py: Python<'py>,
    found: Vec<Core>,
    here: Option<u64>,
    symbols: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let named = |core: Core| -> PyResult<Instruction> {
        let symbol = name(symbols, Some(core.address))?;
        let target_symbol = name(symbols, core.target)?;
        Ok(Instruction { core, symbol, target_symbol })
    };
    let instructions = found.into_iter().map(named).collect::<PyResult<Vec<_>>>()?;
    py.import("belljar.listing")?.getattr("Listing")?.call1((instructions, here))
}

/// What `symbols` say of `address`.
fn name(symbols: Option<&Bound<'_, PyAny>>, address: Option<u64>) -> PyResult<Option<String>> {
    let (Some(symbols), Some(address)) = (symbols, address) else { return Ok(None) };
    let found: Option<(String, u64)> = symbols.call_method1("lookup", (address,))?.extract()?;
    Ok(found.map(|(name, offset)| if offset == 0 { name } else { format!("{name}+{offset:#x}") }))
}
