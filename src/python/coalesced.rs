//! Zones of queued writes from Python: the method of `VM`, and the class. They never call a handler under a lock.

use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyRange};
use pyo3::{PyTraverseError, intern};

use crate::error::Result as CoreResult;
use crate::kvm::Write;
use crate::machine::{Reader, Zone as Core};

use super::address::Fitting;
use super::error::foreign;
use super::hook::{Function, span};
use super::vm::VM;

/// A Python function that is handed the writes of a zone.
struct PythonReader(Arc<Function>);

impl Reader for PythonReader {
    fn take(&self, writes: Vec<Write>) -> CoreResult<()> {
        Python::attach(|py| {
            let function = self.0.0.clone_ref(py).into_bound(py);
            function.call1((list(py, &writes)?,)).map(drop)
        })
        .map_err(foreign)
    }
}

/// Writes as (address, size, data).
fn list<'py>(py: Python<'py>, writes: &[Write]) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, writes.iter().map(|write| (write.at, write.size, write.data)))
}

/// Ports or addresses whose writes KVM queues, without an exit for each: `vm.coalesced(port=0x80)`.
///
/// A context manager that removes it.
#[pyclass(frozen, weakref, module = "belljar")]
pub struct Zone {
    vm: Py<VM>,
    core: Arc<Core>,
}

#[pymethods]
impl Zone {
    /// Takes the writes that wait, oldest first: a list of (address, size in bytes, data), as the guest made them.
    ///
    /// From any thread, also while the guest runs, and after remove().
    #[pyo3(signature = () -> "list[tuple[int, int, int]]")]
    fn read<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        list(py, &self.taken(py))
    }

    /// As read(), as a numpy array with the fields address (u8), data (u8) and size (u1).
    #[pyo3(signature = () -> "numpy.typing.NDArray[numpy.void]")]
    fn array<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let mut bytes = Vec::new();
        for Write { at, data, size, .. } in self.taken(py) {
            bytes.extend_from_slice(&at.to_le_bytes());
            bytes.extend_from_slice(&data.to_le_bytes());
            bytes.push(size);
        }
        let numpy = py.import(intern!(py, "numpy"))?;
        let dtype = numpy.getattr("dtype")?.call1((vec![("address", "<u8"), ("data", "<u8"), ("size", "u1")],))?;
        if bytes.is_empty() {
            return numpy.call_method1("empty", (0, dtype)); // which frombuffer refuses
        }
        numpy.call_method1("frombuffer", (PyBytes::new(py, &bytes), dtype))
    }

    /// How many writes were lost because `limit` of them waited and nobody read them.
    #[getter]
    fn lost(&self) -> u64 {
        self.core.counts().1
    }

    /// The ports or guest-physical addresses.
    #[getter]
    fn range<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyRange>> {
        super::subject::range(py, self.core.span)
    }

    /// Has it been removed, or its VM closed?
    #[getter]
    fn removed(&self) -> bool {
        self.core.is_removed()
    }

    /// Has these writes exit again. What was queued before can still be read. Does nothing if it has been removed.
    pub fn remove(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.vm.get().machine().remove_zone(&self.core))?)
    }

    fn __repr__(&self) -> String {
        let kind = if self.core.is_port { "ports" } else { "addresses" };
        let state = if self.core.is_removed() { ", removed" } else { "" };
        format!("<Zone of {kind} {:#x}..{:#x}{state}>", self.core.span.first, self.core.span.last)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.vm)
    }
}

impl Drop for Zone {
    /// What nobody can read is not queued any more; a handler goes on.
    fn drop(&mut self) {
        if !self.core.has_reader() {
            let _ = self.vm.get().machine().remove_zone(&self.core); // of a VM that goes as well, nothing is left to do
        }
    }
}

impl Zone {
    fn taken(&self, py: Python<'_>) -> Vec<Write> {
        py.detach(|| self.vm.get().machine().read_zone(&self.core))
    }
}

#[pymethods]
impl VM {
    /// Has KVM queue the guest's writes to ports, or to addresses without memory (`mmio`), without an exit for each
    /// (KVM_REGISTER_COALESCED_MMIO). Returns a Zone, whose read() takes them; keep it: without a handler, one that is
    /// gone is removed.
    ///
    /// The place is a number, a range, or a first number and a `size`. `handler(writes)` is handed them as read() returns
    /// them, in their order, on the thread of a vCPU: before whatever exit comes next, at the latest when KVM's queue of 169
    /// is full; while it works, another vCPU may go on. What it raises comes out of run(). Without a handler they wait for
    /// read(), up to `limit` of them; later ones are lost. Other handlers and devices at the place see no such write; reads
    /// exit as ever. The write for which the queue has no room is an exit that the zone takes. RangeError where another zone
    /// or RAM is.
    #[pyo3(signature = (port: "int | range | None" = None, mmio: "int | range | None" = None, *, size = None, handler: "Callable[[list[tuple[int, int, int]]], object] | None" = None, limit = 1_048_576))]
    fn coalesced(
        slf: &Bound<'_, Self>,
        port: Option<&Bound<'_, PyAny>>,
        mmio: Option<&Bound<'_, PyAny>>,
        size: Option<Fitting<u64>>,
        handler: Option<&Bound<'_, PyAny>>,
        limit: usize,
    ) -> PyResult<Zone> {
        let (is_port, span) = match (port, mmio) {
            (Some(port), None) => (true, span(port, size, u64::from(u16::MAX))?),
            (None, Some(mmio)) => (false, span(mmio, size, u64::MAX)?),
            _ => return Err(PyValueError::new_err("a zone is of ports or of addresses: give port= or mmio=")),
        };
        if let Some(other) = handler.filter(|h| !h.is_callable()) {
            return Err(PyTypeError::new_err(format!(
                "a handler is a function of a list of writes, not {}",
                other.repr()?
            )));
        }
        let function = handler.map(|h| Arc::new(Function(h.clone().unbind())));
        let reader = function.clone().map(|function| -> Box<dyn Reader> { Box::new(PythonReader(function)) });
        let (py, vm) = (slf.py(), slf.get());
        let core = py.detach(|| vm.machine().add_zone(is_port, span, limit, reader))?;
        if let Some(function) = function {
            vm.keep_reader(&core, function);
        }
        Ok(Zone { vm: slf.clone().unbind(), core })
    }
}
