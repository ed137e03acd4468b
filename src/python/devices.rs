//! Devices written in Python: the `attach` side of `VM`, and the way past a handler to what is behind it.
//! It never knows what a device is: `belljar.attachment` does.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::addr::GuestPhys;
use crate::exit::{Exit, Reply};

use super::exit::{MmioRead, MmioWrite, PortIn, PortOut};
use super::hook::{Action, Handle};
use super::typed::Devices;
use super::vm::VM;

#[pymethods]
impl VM {
    /// Connects a bj.Device: from the next exit on, it answers the ports and addresses that it declares.
    ///
    /// `ports`, `mmio` and `irq` replace what the device declares, `at` moves its one range. `mode` is "instead" (of
    /// whatever is there), "before" (None from the device passes the access on) or "beside" (it only observes). It is
    /// reset first unless `reset` is False. Returns the device. Raises ValueError if it is attached already, RangeError
    /// where RAM or another Python device is in the way.
    #[pyo3(signature = (
        device,
        *,
        ports: "int | range | dict[str, int | range] | None" = None,
        mmio: "int | range | dict[str, int | range] | None" = None,
        at: "int | None" = None,
        irq: "int | None" = None,
        mode: "str | None" = None,
        reset = true
    ))]
    #[allow(clippy::too_many_arguments)] // keyword arguments
    fn attach<'py>(
        slf: &Bound<'py, Self>,
        device: &Bound<'py, PyAny>,
        ports: Option<&Bound<'py, PyAny>>,
        mmio: Option<&Bound<'py, PyAny>>,
        at: Option<&Bound<'py, PyAny>>,
        irq: Option<&Bound<'py, PyAny>>,
        mode: Option<&Bound<'py, PyAny>>,
        reset: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let options = PyDict::new(py);
        for (name, value) in [("ports", ports), ("mmio", mmio), ("at", at), ("irq", irq), ("mode", mode)] {
            options.set_item(name, value)?;
        }
        options.set_item("reset", reset)?;
        let attach = py.import("belljar.attachment")?.getattr("attach")?;
        attach.call((slf, &slf.get().devices, device), Some(&options))
    }

    /// Disconnects a device: from the next exit on, what was behind it answers. ValueError if it is not attached here.
    fn detach(slf: &Bound<'_, Self>, device: &Bound<'_, PyAny>) -> PyResult<()> {
        let detach = slf.py().import("belljar.attachment")?.getattr("detach")?;
        detach.call1((slf, &slf.get().devices, device)).map(drop)
    }

    /// The devices that attach() has connected, oldest first.
    #[getter]
    fn devices<'py>(&self, py: Python<'py>) -> Devices<'py> {
        Devices(self.devices.bind(py).to_tuple().into_any())
    }
}

#[pymethods]
impl Handle {
    /// Has `exit` answered as if this handler and those asked before it were not there, while the guest waits.
    ///
    /// For handlers of ports and memory. The result is what the handler may return in turn: an integer for a read,
    /// bj.SKIP for a write that has been done, bj.STOP where a handler behind stops the run (nothing is read or written
    /// then until the handler returns it). Raises ValueError if the handler has been removed.
    #[pyo3(signature = (exit: "PortIn | PortOut | MmioRead | MmioWrite") -> "int | Action")]
    fn pass_on(&self, py: Python<'_>, exit: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let (exit, vcpu) = access(exit)?;
        let hook = self.hook().ok_or_else(|| PyValueError::new_err("this handler has been removed"))?;
        let machine = self.vm().get().machine();
        match py.detach(|| machine.pass_on(&exit, vcpu, &hook))? {
            Reply::Value(value) => Ok(value.into_pyobject(py)?.into_any().unbind()),
            Reply::Stop => Ok(Py::new(py, Action::Stop)?.into_any()),
            Reply::Skip | Reply::Deny | Reply::Bytes(_) | Reply::Default => Ok(Py::new(py, Action::Skip)?.into_any()),
        }
    }
}

/// The access that a Python exit is, and its vCPU.
fn access(exit: &Bound<'_, PyAny>) -> PyResult<(Exit, u32)> {
    let vcpu = exit.cast::<super::exit::Exit>().map_or(0, |exit| exit.get().vcpu);
    let exit = if let Ok(exit) = exit.cast_exact::<PortIn>() {
        let exit = exit.get();
        Exit::PortIn { port: exit.port, size: exit.size }
    } else if let Ok(exit) = exit.cast_exact::<PortOut>() {
        let exit = exit.get();
        Exit::PortOut { port: exit.port, size: exit.size, data: exit.data }
    } else if let Ok(exit) = exit.cast_exact::<MmioRead>() {
        let exit = exit.get();
        Exit::MmioRead { at: GuestPhys(exit.address), size: exit.size }
    } else if let Ok(exit) = exit.cast_exact::<MmioWrite>() {
        let exit = exit.get();
        Exit::MmioWrite { at: GuestPhys(exit.address), size: exit.size, data: exit.data }
    } else {
        let shown = exit.repr()?;
        return Err(PyTypeError::new_err(format!("only accesses to ports and memory can be passed on, not {shown}")));
    };
    Ok((exit, vcpu))
}
