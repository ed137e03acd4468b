//! `with`, for what can be removed: it is removed at the end of the block. It never knows what that means.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::breakpoint::Breakpoint;
use super::coalesced::Zone;
use super::doorbell::Doorbell;
use super::hook::Handle;
use super::interrupts::IrqEvent;
use super::watch::Watchpoint;

macro_rules! scopes {
    ($($class:ident)+) => {$(
        #[pymethods]
        impl $class {
            fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
                slf
            }

            #[pyo3(signature = (*_exception: "object"))]
            fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
                self.remove(py)
            }
        }
    )+};
}

scopes! { Breakpoint Doorbell Handle IrqEvent Watchpoint Zone }
