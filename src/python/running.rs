//! Running a machine from Python: the run, start, pause and stop of `VM`. They never hold the interpreter while waiting.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple, PyType};

use crate::error::Result as CoreResult;
use crate::exit::{Exit, Interruption, Kinds};
use crate::hook::{Condition, Until};
use crate::machine::{Limits, Work};

use super::address::Fitting;
use super::error::foreign;
use super::exit::{Home, kinds_of, of_vm, to_python};
use super::expression::Expression;
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

/// Lends a thread of a machine's one thread state of the interpreter's for its whole life: each handler that it calls
/// takes it up again, instead of making one and taking it down, and finds what threading.local kept.
pub fn around(work: Work<'_>) {
    OF_A_MACHINE.set(true);
    Python::attach(|py| py.detach(work));
}

thread_local! {
    static OF_A_MACHINE: Cell<bool> = const { Cell::new(false) };
}

/// Is this a thread of a machine's? It waits for no other one: that may be waiting for it.
pub fn is_of_a_machine() -> bool {
    OF_A_MACHINE.get()
}

/// Seconds, as Python gives them.
pub fn seconds(name: &str, value: Option<f64>) -> PyResult<Option<Duration>> {
    let wrong = || PyValueError::new_err(format!("{name} is a number of seconds from 0 on, or None"));
    value.filter(|v| *v != f64::INFINITY).map(|v| Duration::try_from_secs_f64(v).map_err(|_| wrong())).transpose()
}

/// When a run is to end, as Python says it.
pub fn limits(
    vm: &Bound<'_, VM>,
    timeout: Option<f64>,
    exits: Option<Fitting<u64>>,
    until: Option<&Bound<'_, PyAny>>,
) -> PyResult<Limits> {
    let limits = Limits { timeout: seconds("timeout", timeout)?, exits: exits.map(|n| n.0), ..Limits::default() };
    let Some(until) = until else { return Ok(limits) };
    if until.is_instance_of::<PyType>() || until.is_instance_of::<PyTuple>() {
        return Ok(Limits { until: kinds_of(until)?, ..limits });
    }
    if let Ok(expression) = until.cast::<Expression>() {
        let condition = Some(Until::Expression(expression.get().0.clone()));
        return Ok(Limits { until: Kinds::ALL, condition, ..limits });
    }
    if !until.is_callable() {
        return Err(PyTypeError::new_err(format!(
            "until is a class of exits such as bj.Hlt, a tuple of them, an expression, or a function of an exit, not {}",
            until.repr()?
        )));
    }
    let condition = Until::Foreign(Arc::new(PythonCondition(until.clone().unbind(), Home::of(vm)?)));
    Ok(Limits { until: Kinds::ALL, condition: Some(condition), ..limits })
}

/// A Python function that says whether a run is where it was to come to.
struct PythonCondition(Py<PyAny>, Home);

impl Condition for PythonCondition {
    fn holds(&self, exit: Option<&Exit>, vcpu: u32) -> CoreResult<bool> {
        Python::attach(|py| {
            let exit = exit.map(|exit| to_python(py, exit, vcpu, Some(&self.1))).transpose()?;
            self.0.bind(py).call1((exit,))?.is_truthy()
        })
        .map_err(foreign)
    }
}

#[pymethods]
impl VM {
    /// Runs the guest on this thread until something stops it, and returns that exit.
    ///
    /// `timeout` is in seconds (then a Timeout comes back); `max_exits` counts exits, and the last one comes back after
    /// it has been answered. `until` is a class of exits, or a tuple of them, one of which ends the run after it has been
    /// answered; or an expression such as `bj.reg.rax == 5`, computed natively at each answered exit, or a function, asked with it, and both without one (None)
    /// some 25 times a second: the run ends when it holds. What a handler raises comes out here, and so does KeyboardInterrupt; the VM stays usable.
    #[pyo3(signature = (timeout = None, max_exits = None, *, until: "type[Exit] | tuple[type[Exit], ...] | Expression | Callable[[Exit | None], object] | None" = None) -> "Exit")]
    fn run(
        slf: &Bound<'_, Self>,
        py: Python<'_>,
        timeout: Option<f64>,
        max_exits: Option<Fitting<u64>>,
        until: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let (limits, machine) = (limits(slf, timeout, max_exits, until)?, slf.get().machine());
        let (vcpu, exit) = detached(py, || machine.run(limits, &poll))?;
        of_vm(slf, &exit, vcpu)
    }

    /// The exits that had been answered when the last run ended, and would have ended it too: those of other vCPUs at the
    /// same moment, and the rest of an instruction with several accesses. run() returns one of them, which is not here.
    #[getter]
    fn other_exits(slf: &Bound<'_, Self>) -> PyResult<Vec<Py<PyAny>>> {
        slf.get().machine().other_exits().iter().map(|(vcpu, exit)| of_vm(slf, exit, *vcpu)).collect()
    }

    /// Runs the guest on this thread, exit by exit: `for exit in vm.exits(): ...`, the guest being stopped in the body.
    ///
    /// Yields each exit of the classes `kinds` (by default all) after it has been answered, and at last the one that ended
    /// the run: one that is none of these, or by default one after which the machine does not go on by itself (Hlt,
    /// Shutdown, Timeout ...). Who wants to answer uses a handler. `timeout` is in seconds, for the whole iteration.
    #[pyo3(signature = (*kinds: "type[Exit]", timeout = None) -> "Iterator[Exit]")]
    fn exits<'py>(
        slf: &Bound<'py, Self>,
        kinds: &Bound<'py, PyTuple>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if kinds.iter().any(|kind| kind.is_instance_of::<PyTuple>() || kind.is_instance_of::<PyList>()) {
            return Err(PyTypeError::new_err(
                "give them one by one: vm.exits(bj.PortOut, bj.Hlt), or vm.exits(*kinds)",
            ));
        }
        kinds_of(kinds)?;
        seconds("timeout", timeout)?;
        slf.py().import("belljar.running")?.getattr("exits")?.call1((slf, kinds, timeout))
    }

    /// Runs the guest on a thread of its own: `exit = await vm.run_async(timeout=1)`, otherwise as run().
    ///
    /// Handlers and `until` are called on that thread. Cancelling the task stops the guest, between two instructions.
    #[pyo3(signature = (timeout = None, max_exits = None, *, until: "type[Exit] | tuple[type[Exit], ...] | Expression | Callable[[Exit | None], object] | None" = None) -> "Coroutine[object, object, Exit]")]
    fn run_async<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<f64>,
        max_exits: Option<Fitting<u64>>,
        until: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        limits(slf, timeout, max_exits, until)?;
        slf.py().import("belljar.running")?.getattr("run_async")?.call1((slf, timeout, max_exits.map(|n| n.0), until))
    }

    /// Runs the guest on threads of its own, one per vCPU, and returns at once: join() waits, stop() ends it.
    ///
    /// Raises what a handler raised in the last such run, if nobody has asked for it.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        self.in_background.store(true, Ordering::Relaxed);
        detached(py, || self.machine().start())
    }

    /// Holds a guest that start() set going, between two instructions. In a handler, it asks and does not wait.
    ///
    /// A vCPU that was set going less than a millisecond ago and has not come out of the guest yet gets that time first: a
    /// guest that is resumed and paused in a tight loop gets on.
    fn pause(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || self.machine().halt(Interruption::Pause, &poll))?;
        Ok(())
    }

    /// Goes on in the background after pause(), run(), or a run that ended by itself.
    ///
    /// ValueError in another state: start() begins.
    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || self.machine().resume())
    }

    /// Ends a run, in the background or on another thread, and returns the exit that ended it (None if it was not
    /// running in the background).
    #[pyo3(signature = () -> "Exit | None")]
    fn stop(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        let machine = slf.get().machine();
        let outcome = detached(slf.py(), || machine.halt(Interruption::Stop, &poll))?;
        outcome.map(|(vcpu, exit)| of_vm(slf, &exit, vcpu)).transpose()
    }

    /// Waits until the guest that start() set going stops by itself, and returns the exit that stopped it.
    ///
    /// Raises TimeoutError after `timeout` seconds, and what a handler raised.
    #[pyo3(signature = (timeout = None) -> "Exit")]
    fn join(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let (patience, machine) = (seconds("timeout", timeout)?, slf.get().machine());
        match detached(slf.py(), || machine.join(patience, &poll))? {
            Some((vcpu, exit)) => of_vm(slf, &exit, vcpu),
            None => Err(pyo3::exceptions::PyTimeoutError::new_err("the guest still runs")),
        }
    }

    /// Gets the guest out of a run, from any thread: that run returns Interrupted. Does nothing if none is on.
    fn kick(&self) {
        self.machine().interrupt(Interruption::Kick);
    }
}
