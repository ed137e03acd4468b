//! What a handler is for, as Python reads it off a `Handle`; and the handlers of a VM. They never call a handler.

use pyo3::prelude::*;
use pyo3::types::PyRange;

use crate::addr::Span;
use crate::hook::{Subject, Wanted};

use super::exit::class_name;
use super::expression::Expression;
use super::hook::Handle;
use super::vm::VM;

#[pymethods]
impl Handle {
    /// What the handler is for: "port", "mmio", "msr", "breakpoint", "watchpoint", or the class of exits as a word, such as "Hlt"; "Exit" is every class.
    #[getter]
    fn subject(&self) -> String {
        match self.subject {
            Subject::Port(_) => "port".into(),
            Subject::Mmio(_) => "mmio".into(),
            Subject::Msr(_) => "msr".into(),
            Subject::Kind(kind) => class_name(kind).into(),
            Subject::Point(id) => self.vm().get().points.known(id).map_or("point", |known| known.name()).into(),
            Subject::Any => "Exit".into(),
        }
    }

    /// The ports, addresses or MSR numbers that it is for; None for a handler of whole classes.
    #[getter]
    fn range<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyRange>>> {
        match self.subject {
            Subject::Port(span) | Subject::Mmio(span) | Subject::Msr(span) => Ok(Some(range(py, span)?)),
            Subject::Point(id) => self.vm().get().points.known(id).map(|known| range(py, known.span())).transpose(),
            Subject::Kind(_) | Subject::Any => Ok(None),
        }
    }

    /// "r", "w" or "rw", seen from the guest.
    #[getter]
    fn access(&self) -> &'static str {
        match self.wanted {
            Wanted { reads: true, writes: false, .. } => "r",
            Wanted { reads: false, writes: true, .. } => "w",
            _ => "rw",
        }
    }

    /// Its filter: it is called for exits at which this holds. None where it is called for all.
    #[getter]
    fn when(&self) -> Option<Expression> {
        self.when.clone().map(Expression)
    }

    /// The function that is called; None for a handle that waits for one.
    #[getter(function)]
    fn called(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.function(py)
    }
}

/// `span` as a Python range. Its end may be 2**64, which no machine integer holds.
pub(super) fn range(py: Python<'_>, span: Span) -> PyResult<Bound<'_, PyRange>> {
    let made = py.get_type::<PyRange>().call1((span.first, u128::from(span.last) + 1))?;
    Ok(made.cast_into::<PyRange>()?)
}

#[pymethods]
impl VM {
    /// The handlers that are registered, oldest first: handles, as `on_port` and the others return them.
    #[getter]
    fn handlers(slf: &Bound<'_, Self>) -> PyResult<Vec<Py<Handle>>> {
        let hooks = slf.get().functions.hooks();
        hooks.iter().map(|(hook, function)| Py::new(slf.py(), Handle::of(slf, hook, function))).collect()
    }
}
