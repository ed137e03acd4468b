//! Running a machine from Python: the run, start, pause and stop of `VM`. They never hold the interpreter while waiting.

use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::Result as CoreResult;
use crate::exit::Interruption;

use super::error::foreign;
use super::exit::to_python;
use super::vm::VM;

/// Looks for signals, as the core's runs and waits ask now and then.
pub fn poll() -> CoreResult<()> {
    #[allow(clippy::redundant_closure_for_method_calls)] // the method is not general enough in its lifetime
    Python::attach(|py| py.check_signals()).map_err(foreign)
}

/// Asks the core while other Python threads run; what it logged goes to Python's `logging` afterwards.
pub fn detached<T: Send>(py: Python<'_>, work: impl Send + FnOnce() -> CoreResult<T>) -> PyResult<T> {
    let result = py.detach(work);
    if let Err(error) = super::log::hand_over(py) {
        error.write_unraisable(py, None);
    }
    Ok(result?)
}

/// Seconds, as Python gives them.
pub fn seconds(name: &str, value: Option<f64>) -> PyResult<Option<Duration>> {
    let wrong = || PyValueError::new_err(format!("{name} is a number of seconds from 0 on, or None"));
    value.filter(|v| *v != f64::INFINITY).map(|v| Duration::try_from_secs_f64(v).map_err(|_| wrong())).transpose()
}

#[pymethods]
impl VM {
    /// Runs the guest on this thread until something stops it, and returns that exit.
    ///
    /// `timeout` is in seconds (then a Timeout comes back); `max_exits` counts exits, and the last one comes back after
    /// it has been answered. What a handler raises comes out here, and so does KeyboardInterrupt; the VM stays usable.
    #[pyo3(signature = (timeout = None, max_exits = None) -> "Exit")]
    fn run(&self, py: Python<'_>, timeout: Option<f64>, max_exits: Option<u64>) -> PyResult<Py<PyAny>> {
        let timeout = seconds("timeout", timeout)?;
        let (vcpu, exit) = detached(py, || self.machine().run(timeout, max_exits, &poll))?;
        to_python(py, &exit, vcpu)
    }

    /// Runs the guest on threads of its own, one per vCPU, and returns at once: join() waits, stop() ends it.
    ///
    /// Raises what a handler raised in the last such run, if nobody has asked for it.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || self.machine().start())
    }

    /// Holds a guest that start() set going, between two instructions. In a handler, it asks and does not wait.
    fn pause(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || self.machine().halt(Interruption::Pause, &poll))?;
        Ok(())
    }

    /// Goes on after pause().
    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || self.machine().resume())
    }

    /// Ends a run, in the background or on another thread, and returns the exit that ended it (None if it was not
    /// running in the background).
    #[pyo3(signature = () -> "Exit | None")]
    fn stop(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let outcome = detached(py, || self.machine().halt(Interruption::Stop, &poll))?;
        outcome.map(|(vcpu, exit)| to_python(py, &exit, vcpu)).transpose()
    }

    /// Waits until the guest that start() set going stops by itself, and returns the exit that stopped it.
    ///
    /// Raises TimeoutError after `timeout` seconds, and what a handler raised.
    #[pyo3(signature = (timeout = None) -> "Exit")]
    fn join(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let patience = seconds("timeout", timeout)?;
        match detached(py, || self.machine().join(patience, &poll))? {
            Some((vcpu, exit)) => to_python(py, &exit, vcpu),
            None => Err(pyo3::exceptions::PyTimeoutError::new_err("the guest still runs")),
        }
    }

    /// Gets the guest out of a run, from any thread: that run returns Interrupted. Does nothing if none is on.
    fn kick(&self) {
        self.machine().interrupt(Interruption::Kick);
    }
}
