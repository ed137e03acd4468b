//! The class `Console`: the far end of a VM's serial line. It never runs the guest.

use std::time::{Duration, Instant};

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyTimeoutError, PyTypeError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::machine::SerialLine;

use super::running::{poll, seconds};
use super::vm::VM;

/// The far end of a serial line: reads what the guest prints, and types.
#[pyclass(frozen, module = "belljar")]
pub struct Console {
    vm: Py<VM>,
}

/// How long a wait goes on before it looks for signals.
const SLICE: Duration = Duration::from_millis(40);

/// What is said where it is no use to wait any longer.
const STOPPED: &str =
    ": the guest does not run (vm.join() says how its run in the background ended, vm.start() goes on)";

impl Console {
    pub(super) fn new(vm: Py<VM>) -> Self {
        Self { vm }
    }

    fn line(&self) -> Option<&SerialLine> {
        self.vm.get().machine().serial.as_ref()
    }

    /// Output of at least one byte, or none at the deadline or when the guest has stopped.
    fn wait(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<Vec<u8>> {
        loop {
            let left = deadline.map_or(SLICE, |d| d.saturating_duration_since(Instant::now()).min(SLICE));
            let running = self.vm.get().machine().is_background();
            let bytes = py.detach(|| self.line().map(|l| l.console.read(left)).unwrap_or_default());
            if !bytes.is_empty() || left < SLICE || !running {
                return Ok(bytes);
            }
            poll().map_err(PyErr::from)?;
        }
    }
}

fn bytes_or_text(data: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(text) = data.cast::<PyString>() {
        return Ok(text.to_str()?.as_bytes().to_vec());
    }
    match data.cast::<PyBytes>() {
        Ok(bytes) => Ok(bytes.as_bytes().to_vec()),
        Err(_) => Err(PyTypeError::new_err("text or bytes")),
    }
}

#[pymethods]
impl Console {
    /// What the guest has printed since the last read; waits up to `timeout` seconds for something to come.
    #[pyo3(signature = (timeout = 0.0))]
    fn read<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        let deadline = seconds("timeout", timeout)?.map(|t| Instant::now() + t.min(Duration::from_secs(1 << 30)));
        Ok(PyBytes::new(py, &self.wait(py, deadline)?))
    }

    /// What the guest prints up to and including `text`, as text. Later output stays for the next read.
    ///
    /// Raises TimeoutError, with the end of what came, after `timeout` seconds or when the guest has stopped.
    #[pyo3(signature = (text: "str | bytes", timeout = 10.0))]
    fn read_until(&self, py: Python<'_>, text: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<String> {
        let wanted = bytes_or_text(text)?;
        let deadline = seconds("timeout", timeout)?.map(|t| Instant::now() + t.min(Duration::from_secs(1 << 30)));
        let mut seen = Vec::new();
        loop {
            let from = seen.len().saturating_sub(wanted.len());
            let more = self.wait(py, deadline)?;
            let over = more.is_empty();
            seen.extend(more);
            if let Some(at) = memchr::memmem::find(&seen[from..], &wanted) {
                let rest = seen.split_off(from + at + wanted.len());
                if let Some(line) = self.line() {
                    line.console.unread(&rest);
                }
                return Ok(String::from_utf8_lossy(&seen).into_owned());
            }
            if over {
                let tail = String::from_utf8_lossy(&seen[seen.len().saturating_sub(400)..]).into_owned();
                let stopped = if self.vm.get().machine().is_background() { "" } else { STOPPED };
                let why = format!("{text} did not come{stopped}; the console ends with {tail:?}");
                return Err(PyTimeoutError::new_err(why));
            }
        }
    }

    /// Types `data` (text or bytes) into the guest; returns how many bytes there was room for.
    #[pyo3(signature = (data: "str | bytes"))]
    fn send(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        let bytes = bytes_or_text(data)?;
        Ok(py.detach(|| self.line().map_or(0, |line| line.send(&bytes))))
    }

    /// Has the guest asked to be interrupted when input comes? Linux does once a program reads the console; what is sent
    /// earlier may be lost, as on a real serial line.
    #[getter]
    fn listening(&self, py: Python<'_>) -> bool {
        py.detach(|| self.line().is_some_and(SerialLine::is_listening))
    }

    /// How many bytes of output were dropped because nobody read them (the newest MiB is kept).
    #[getter]
    fn dropped(&self) -> u64 {
        self.line().map_or(0, |l| l.console.dropped())
    }

    fn __repr__(&self) -> String {
        let waiting = self.line().map_or(0, |l| l.console.waiting());
        format!("<Console of a serial port, {waiting} byte{} waiting>", if waiting == 1 { "" } else { "s" })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.vm)
    }
}
