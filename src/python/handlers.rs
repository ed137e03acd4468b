//! Who answers exits in Python: the `on_*` methods of `VM`. They never call a handler.

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::hook::{Subject, Wanted};

use super::address::Fitting;
use super::exit::{kind_of, msr_number};
use super::expression::filter;
use super::hook::{Handle, span, wanted};
use super::vm::VM;

fn hook(
    vm: &Bound<'_, VM>,
    subject: Subject,
    wanted: Wanted,
    when: Option<&Bound<'_, PyAny>>,
    function: Option<&Bound<'_, PyAny>>,
) -> PyResult<Py<Handle>> {
    let handle = Handle::new(vm.clone().unbind(), subject, wanted, filter(when)?);
    if let Some(function) = function {
        handle.arm(vm.py(), function)?;
    }
    Py::new(vm.py(), handle)
}

#[pymethods]
impl VM {
    /// Has `handler(exit)` answer accesses to ports: a port, or a range of them, or a first one and a `size`.
    ///
    /// `access` is "r", "w" or "rw", seen from the guest. The guest waits. Returns a Handle, which is a decorator if no
    /// handler is given. For a read, an integer is what the guest gets; None answers as without the handler, bj.SKIP drops
    /// a write, bj.STOP ends the run with this exit. String instructions come element by element; with `strings=True`,
    /// whole, as PortStringIn (answered by bytes) and PortStringOut. `when` is a filter, an expression such as `bj.reg.rax == 5`: an
    /// exit at which it does not hold goes on as if there were no handler, without Python being called.
    #[pyo3(signature = (port: "int | range", handler = None, *, size = None, access = "rw", strings = false, when: "Expression | None" = None))]
    #[allow(clippy::too_many_arguments)] // keyword arguments
    fn on_port(
        slf: &Bound<'_, Self>,
        port: &Bound<'_, PyAny>,
        handler: Option<&Bound<'_, PyAny>>,
        size: Option<Fitting<u64>>,
        access: &str,
        strings: bool,
        when: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Handle>> {
        let subject = Subject::Port(span(port, size, u64::from(u16::MAX))?);
        hook(slf, subject, Wanted { strings, ..wanted(access)? }, when, handler)
    }

    /// Has `handler(exit)` answer accesses to guest-physical addresses that no RAM backs, and with access="w" to ROM.
    ///
    /// Otherwise as on_port.
    #[pyo3(signature = (address: "int | range", handler = None, *, size = None, access = "rw", when: "Expression | None" = None))]
    fn on_mmio(
        slf: &Bound<'_, Self>,
        address: &Bound<'_, PyAny>,
        handler: Option<&Bound<'_, PyAny>>,
        size: Option<Fitting<u64>>,
        access: &str,
        when: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Handle>> {
        let subject = Subject::Mmio(span(address, size, u64::MAX)?);
        hook(slf, subject, wanted(access)?, when, handler)
    }

    /// Has `handler(exit)` answer accesses to model-specific registers: a name such as "LSTAR", a number, or a range.
    ///
    /// For a write, None lets it happen, bj.SKIP drops it, and an integer is written instead. bj.DENY refuses an access:
    /// the guest gets #GP, as of a register that is not there. Where the answer is always the same action, it may be the
    /// handler itself, and no Python runs: `vm.on_msr("LSTAR", bj.DENY, access="w")`.
    #[pyo3(signature = (msr: "str | int | range", handler = None, *, size = None, access = "rw", when: "Expression | None" = None))]
    fn on_msr(
        slf: &Bound<'_, Self>,
        msr: &Bound<'_, PyAny>,
        handler: Option<&Bound<'_, PyAny>>,
        size: Option<Fitting<u64>>,
        access: &str,
        when: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Handle>> {
        let named =
            if msr.is_instance_of::<PyString>() { Some(msr_number(msr)?.into_pyobject(slf.py())?) } else { None };
        let span = span(named.as_ref().map_or(msr, |n| n.as_any()), size, u64::from(u32::MAX))?;
        hook(slf, Subject::Msr(span), wanted(access)?, when, handler)
    }

    /// Has `handler(exit)` see all exits of one class, such as bj.Hlt; bj.Exit (the default) is every class.
    ///
    /// None keeps the default behaviour, bj.SKIP goes on where the machine would have stopped; `when` is as for on_port.
    #[pyo3(signature = (kind: "type[Exit] | None" = None, handler = None, *, when: "Expression | None" = None))]
    fn on_exit(
        slf: &Bound<'_, Self>,
        kind: Option<&Bound<'_, PyAny>>,
        handler: Option<&Bound<'_, PyAny>>,
        when: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Handle>> {
        let subject = kind.map_or(Ok(None), kind_of)?.map_or(Subject::Any, Subject::Kind);
        hook(slf, subject, Wanted::ALL, when, handler)
    }
}
