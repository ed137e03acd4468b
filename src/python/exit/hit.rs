//! From a hit to its breakpoint or watchpoint. It never keeps either, nor their VM.

use pyo3::prelude::*;

use crate::python::breakpoint::Breakpoint;
use crate::python::points::Known;
use crate::python::watch::Watchpoint;

use super::{BreakpointHit, Stepped, WatchpointHit};

#[pymethods]
impl BreakpointHit {
    /// The same as `address`: linear, and so RIP but in code whose segment has a base.
    #[getter]
    fn rip(&self) -> u64 {
        self.address
    }

    /// The breakpoint, as vm.breakpoint() has returned it: `hit.breakpoint.remove()`.
    ///
    /// None of a hit that was pickled or made by hand, where the VM is gone, and of a breakpoint that a trace or gdb has planted.
    #[getter]
    fn breakpoint(slf: &Bound<'_, Self>) -> PyResult<Option<Breakpoint>> {
        match slf.as_super().get().point(slf.py(), slf.get().id) {
            Some((vm, Known::Breakpoint(facts))) => facts.handle(&vm).map(Some),
            _ => Ok(None),
        }
    }
}

#[pymethods]
impl WatchpointHit {
    /// The watchpoint, as vm.watch() has returned it: `hit.watchpoint.remove()`.
    ///
    /// None of a hit that was pickled or made by hand, where the VM is gone, and of a watchpoint that gdb has planted.
    #[getter]
    fn watchpoint(slf: &Bound<'_, Self>) -> PyResult<Option<Watchpoint>> {
        match slf.as_super().get().point(slf.py(), slf.get().id) {
            Some((vm, Known::Watchpoint(facts))) => facts.handle(&vm).map(Some),
            _ => Ok(None),
        }
    }
}

#[pymethods]
impl Stepped {
    /// The same as `address`: linear, and so RIP but in code whose segment has a base.
    #[getter]
    fn rip(&self) -> u64 {
        self.address
    }
}
