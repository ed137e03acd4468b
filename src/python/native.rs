//! C functions as handlers, as Python owns them. `belljar.native` finds their addresses; nothing is called here.

#![allow(unsafe_code)] // whoever makes a native handler in Python vouches for its address

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyFunction, PyTuple};
use pyo3::{PyTraverseError, intern};

use crate::hook::Native;

use super::hook::Function;

/// A C function that answers exits, with all that keeps it alive: what `bj.native()` returns.
#[pyclass(frozen, module = "belljar")]
pub struct NativeHandler {
    /// Where the function is.
    #[pyo3(get)]
    address: usize,
    /// What it gets beside the exit: an address, or 0.
    #[pyo3(get)]
    user_data: usize,
    /// What the two addresses belong to.
    owners: Py<PyTuple>,
    /// Who answers in Python where the function says so.
    #[pyo3(get)]
    pub(super) fallback: Option<Py<PyAny>>,
    /// Does it see the general registers?
    #[pyo3(get)]
    registers: bool,
}

impl NativeHandler {
    /// The handler that `function` is; nothing for one that Python calls.
    pub(super) fn of<'py>(function: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, Self>>> {
        if let Ok(native) = function.cast::<Self>() {
            return Ok(Some(native.clone()));
        }
        if function.is_exact_instance_of::<PyFunction>() {
            return Ok(None);
        }
        let module = function.py().import(intern!(function.py(), "belljar.native"))?;
        Ok(module.getattr("recognised")?.call1((function,))?.extract()?)
    }

    /// For the core, which keeps `owner` for as long as it may call the function.
    pub(super) fn to_core(&self, owner: Arc<Function>) -> PyResult<Native> {
        // SAFETY: whoever made this vouched for the function, and `owner` keeps it.
        let native = unsafe { Native::new(self.address, self.user_data, self.registers, Box::new(owner)) };
        native.ok_or_else(|| PyValueError::new_err("a native handler has an address, not NULL"))
    }
}

#[pymethods]
impl NativeHandler {
    #[new]
    #[pyo3(signature = (address, user_data, owners: "tuple[object, ...]", fallback, registers))]
    fn new(
        address: usize,
        user_data: usize,
        owners: Py<PyTuple>,
        fallback: Option<Py<PyAny>>,
        registers: bool,
    ) -> PyResult<Self> {
        if address == 0 {
            return Err(PyValueError::new_err("a native handler has an address, not NULL"));
        }
        Ok(Self { address, user_data, owners, fallback, registers })
    }

    fn __repr__(&self) -> String {
        format!("<NativeHandler at {:#x}>", self.address)
    }

    // No __clear__: the function may be running, and what owns it has to stay.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.owners)?;
        visit.call(&self.fallback)
    }
}
