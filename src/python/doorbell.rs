//! Doorbells from Python: the method of `VM`, and the class. They never hold the interpreter while waiting.

use std::sync::Arc;

use pyo3::PyTraverseError;
use pyo3::exceptions::PyValueError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use crate::addr::GuestPhys;
use crate::kvm::Target;
use crate::machine::Doorbell as Core;

use super::running::{detached, poll, seconds};
use super::typed::{Count, Counts};
use super::vm::VM;

/// A place whose writes KVM counts, without an exit: `vm.doorbell(port=0x80)`.
///
/// It can be waited for by wait() from any thread, by `await bell` and `async for count in bell`, and by select or epoll
/// (fileno()). A context manager that removes it.
#[pyclass(frozen, weakref, module = "belljar")]
pub struct Doorbell {
    vm: Py<VM>,
    core: Arc<Core>,
}

#[pymethods]
impl Doorbell {
    /// The eventfd, readable when the bell has rung; it is closed when the last reference to this object is gone.
    ///
    /// Reading eight bytes from it (os.eventfd_read) is read().
    fn fileno(&self) -> i32 {
        self.core.descriptor()
    }

    /// How often it has rung since it was last read; 0 if it has not. Does not wait.
    fn read(&self) -> u64 {
        self.core.take()
    }

    /// Waits until it has rung, and returns how often since it was last read; 0 after `timeout` seconds.
    ///
    /// ValueError once it has been removed, or its VM closed, and every ring has been read. Several threads may wait: each
    /// ring is counted by one of them.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<u64> {
        let patience = seconds("timeout", timeout)?;
        detached(py, || self.core.wait(patience, &poll))
    }

    /// The port, or None for an address.
    #[getter]
    fn port(&self) -> Option<u16> {
        if let Target::Port(port) = self.core.target { Some(port) } else { None }
    }

    /// The guest-physical address, or None for a port.
    #[getter]
    fn gpa(&self) -> Option<u64> {
        if let Target::Memory(at) = self.core.target { Some(at.0) } else { None }
    }

    /// Has it been removed, or its VM closed?
    #[getter]
    fn removed(&self) -> bool {
        self.core.is_removed()
    }

    /// Has these writes exit again. Who waits is woken. Does nothing if it has been removed.
    pub fn remove(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.vm.get().machine().remove_doorbell(&self.core))?)
    }

    /// Waits as wait() does, while the event loop runs on.
    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Count<'py>> {
        let waiting = slf.py().import("belljar.waiting")?.getattr("rung")?.call1((slf,))?;
        waiting.call_method0("__await__").map(Count)
    }

    /// Yields counts of 1 and more as they come, until the doorbell is removed or its VM closed.
    fn __aiter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Counts<'py>> {
        slf.py().import("belljar.waiting")?.getattr("rings")?.call1((slf,)).map(Counts)
    }

    fn __repr__(&self) -> String {
        let place = match self.core.target {
            Target::Port(port) => format!("port {port:#x}"),
            Target::Memory(at) => format!("{at:#x}"),
        };
        format!("<Doorbell at {place}{}>", if self.core.is_removed() { ", removed" } else { "" })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.vm)
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        let _ = self.vm.get().machine().remove_doorbell(&self.core); // of a VM that goes as well, nothing is left to do
    }
}

#[pymethods]
impl VM {
    /// Has KVM count the guest's writes to a port, or to a guest-physical address `gpa` without memory: no exit, no
    /// handler (KVM_IOEVENTFD). Returns a Doorbell; keep it, since one that is gone is removed.
    ///
    /// `size` is the width of a write in bytes, 0 or None for any; `value` has only writes of it ring (by default of any
    /// width that holds it), so that several doorbells share a place. What is written is not kept. Handlers and devices at
    /// the place see such writes no more; they still see reads and writes that do not ring. ValueError where another
    /// doorbell is rung by the same writes; RangeError for RAM.
    #[pyo3(signature = (port = None, gpa = None, *, size = None, value = None))]
    fn doorbell(
        slf: &Bound<'_, Self>,
        port: Option<u16>,
        gpa: Option<u64>,
        size: Option<u8>,
        value: Option<u64>,
    ) -> PyResult<Doorbell> {
        let target = match (port, gpa) {
            (Some(port), None) => Target::Port(port),
            (None, Some(gpa)) => Target::Memory(GuestPhys(gpa)),
            _ => return Err(PyValueError::new_err("a doorbell is at a port or at an address: give port= or gpa=")),
        };
        let machine = slf.get().machine();
        let core = slf.py().detach(|| machine.add_doorbell(target, size.unwrap_or(0), value))?;
        Ok(Doorbell { vm: slf.clone().unbind(), core })
    }
}
