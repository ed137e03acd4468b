//! Python functions as hooks: registering them, and the handles of those that are. They never call one (callback.rs).

use std::sync::{Arc, Mutex, PoisonError, Weak};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyRange, PyTuple};
use pyo3::{PyTraverseError, intern};

use crate::addr::Span;
use crate::exit::{ExitKind as Kind, Reply};
use crate::hook::{Callback, Expression as Filter, Hook, Subject, Use, Wanted};
use crate::machine::{Machine, time_of};

use super::address::Fitting;
use super::callback::{Always, PythonCallback};
use super::exit::{Home, class_name};
use super::native::NativeHandler;
use super::vm::VM;

/// What a handler may return beside data: stop the machine, or skip the default behaviour.
#[pyclass(frozen, eq, hash, module = "belljar", rename_all = "SCREAMING_SNAKE_CASE")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Do the default, then have run() return this exit.
    Stop,
    /// Do not do the default: drop a write, read all ones, go on after a halt.
    Skip,
    /// Refuse an access to an MSR: the guest gets #GP, as of a register that is not there.
    Deny,
}

impl Action {
    /// Its name in Python.
    fn name(self) -> &'static str {
        match self {
            Self::Stop => "STOP",
            Self::Skip => "SKIP",
            Self::Deny => "DENY",
        }
    }

    /// What it comes to where it is not asked about one exit.
    pub(super) fn reply(self) -> Reply {
        match self {
            Self::Stop => Reply::Stop,
            Self::Skip => Reply::Skip,
            Self::Deny => Reply::Deny,
        }
    }
}

#[pymethods]
impl Action {
    /// Pickles as the attribute of its class.
    #[pyo3(signature = () -> "tuple[object, ...]")]
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let (py, name) = (slf.py(), slf.get().name());
        (py.import("builtins")?.getattr("getattr")?, (py.get_type::<Self>(), name)).into_pyobject(py)
    }
}

/// A Python function, owned by the machine's hook and listed by the VM for the garbage collector.
pub struct Function(pub Py<PyAny>);

/// A registered handler. Use it as a decorator, as a context manager, or keep it to remove the handler later.
#[pyclass(frozen, weakref, module = "belljar")]
pub struct Handle {
    vm: Py<VM>,
    pub(super) subject: Subject,
    pub(super) wanted: Wanted,
    pub(super) when: Option<Filter>,
    armed: Mutex<Option<Armed>>,
}

struct Armed {
    hook: Weak<Hook>,
    use_of: Arc<Use>,
    function: Py<PyAny>,
}

impl Handle {
    /// A handle that waits for its function.
    pub fn new(vm: Py<VM>, subject: Subject, wanted: Wanted, when: Option<Filter>) -> Self {
        Self { vm, subject, wanted, when, armed: Mutex::new(None) }
    }

    /// The VM that it is of.
    pub(super) fn vm(&self) -> &Py<VM> {
        &self.vm
    }

    /// Another handle of a hook that is registered.
    pub fn of(vm: &Bound<'_, VM>, hook: &Arc<Hook>, function: &Arc<Function>) -> Self {
        let function = function.0.clone_ref(vm.py());
        let armed = Armed { hook: Arc::downgrade(hook), use_of: hook.counter(), function };
        let (subject, wanted, when) = (hook.subject, hook.wanted, hook.when.clone());
        Self { vm: vm.clone().unbind(), subject, wanted, when, armed: Mutex::new(Some(armed)) }
    }

    /// Another handle of the handler that a breakpoint or watchpoint has.
    pub(super) fn of_point(vm: &Bound<'_, VM>, id: u32) -> Option<Self> {
        vm.get().functions.of_point(id).map(|(hook, function)| Self::of(vm, &hook, &function))
    }

    /// What is registered, unless it has been removed.
    pub(super) fn hook(&self) -> Option<Arc<Hook>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|a| a.hook.upgrade())
    }

    /// The function that it calls.
    pub fn function(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|a| a.function.clone_ref(py))
    }

    fn set_armed(&self, armed: Option<Armed>) {
        let old = std::mem::replace(&mut *self.armed.lock().unwrap_or_else(PoisonError::into_inner), armed);
        drop(old); // outside the lock: it may be the last reference to a function
    }

    /// Registers `function`.
    pub fn arm(&self, py: Python<'_>, function: &Bound<'_, PyAny>) -> PyResult<()> {
        let (hook, owned) = self.hook_of(function)?;
        let armed = Armed { hook: Arc::downgrade(&hook), use_of: hook.counter(), function: owned.0.clone_ref(py) };
        let vm = self.vm.get();
        let machine = Arc::clone(vm.machine());
        // First, since a vCPU may call the function at once, and the function this handle.
        self.set_armed(Some(armed));
        vm.functions.keep(&hook, owned);
        let added = py.detach(|| machine.add_hook(Arc::clone(&hook)));
        if added.is_err() {
            vm.functions.forget(&hook);
            self.set_armed(None);
        }
        Ok(added?)
    }

    /// May every exit of the subject come to `action`?
    fn suits(&self, action: Action) -> PyResult<()> {
        let has_msrs = matches!(self.subject, Subject::Msr(_) | Subject::Kind(Kind::MsrRead | Kind::MsrWrite));
        if action == Action::Deny && !has_msrs {
            return Err(PyTypeError::new_err(
                "bj.DENY refuses accesses to MSRs alone (vm.on_msr): bj.SKIP drops a write, and has a read get all ones",
            ));
        }
        Ok(())
    }

    /// The hook that asks `function`, and its owner.
    fn hook_of(&self, function: &Bound<'_, PyAny>) -> PyResult<(Arc<Hook>, Arc<Function>)> {
        let (subject, wanted, when) = (self.subject, self.wanted, self.when.clone());
        let home = Home::of(self.vm.bind(function.py()))?;
        if let Some(native) = NativeHandler::of(function)? {
            let owned = Arc::new(Function(native.clone().into_any().unbind()));
            let fallback: Box<dyn Callback> = Box::new(PythonCallback::new(&owned, home));
            let fallback = native.get().fallback.is_some().then_some(fallback);
            let native = native.get().to_core(Arc::clone(&owned))?;
            return Ok((Hook::native(subject, wanted, when, native, fallback), owned));
        }
        if let Ok(action) = function.cast_exact::<Action>() {
            self.suits(*action.get())?;
            let owned = Arc::new(Function(function.clone().unbind()));
            return Ok((Hook::new(subject, wanted, when, Box::new(Always(*action.get()))), owned));
        }
        if !function.is_callable() {
            return Err(PyTypeError::new_err(format!("a handler is a function of one exit, not {}", function.repr()?)));
        }
        let owned = Arc::new(Function(function.clone().unbind()));
        Ok((Hook::new(subject, wanted, when, Box::new(PythonCallback::new(&owned, home))), owned))
    }
}

#[pymethods]
impl Handle {
    /// As a decorator, registers the function; afterwards, calls it.
    #[pyo3(signature = (*args: "object", **kwargs: "object"))]
    fn __call__(
        slf: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        if let Some(function) = slf.get().function(py) {
            return function.call(py, args, kwargs);
        }
        slf.get().arm(py, &args.get_item(0)?)?;
        Ok(slf.clone().into_any().unbind())
    }

    /// Removes the handler, before the next exit. Does nothing if it has been removed.
    pub(super) fn remove(&self, py: Python<'_>) -> PyResult<()> {
        let Some(hook) = self.hook() else { return Ok(()) };
        let machine: Arc<Machine> = Arc::clone(self.vm.get().machine());
        self.vm.get().functions.forget(&hook);
        py.detach(|| machine.remove_hook(&hook))?;
        Ok(())
    }

    /// How often the handler has been called; kept when it has been removed.
    #[getter]
    fn hits(&self) -> u64 {
        let armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed.as_ref().map_or(0, |a| a.use_of.hits())
    }

    /// Seconds spent in the function so far; kept when it has been removed. Native handlers take none that is counted.
    #[getter]
    pub(super) fn seconds(&self) -> f64 {
        let armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed.as_ref().map_or(0.0, |a| time_of(a.use_of.ticks()).as_secs_f64())
    }

    /// Is the handler called? Setting it takes effect before the next exit.
    #[getter]
    fn enabled(&self) -> bool {
        self.hook().is_some_and(|h| h.is_enabled())
    }

    #[setter]
    fn set_enabled(&self, yes: bool) -> PyResult<()> {
        let hook =
            self.hook().ok_or_else(|| PyValueError::new_err("this handler has been removed, or never registered"))?;
        hook.enable(yes);
        Ok(())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let span = |s: Span, one, several| {
            if s.first == s.last {
                return format!("{one} {:#x}", s.first);
            }
            format!("{several} {:#x}..{:#x}", s.first, u128::from(s.last) + 1)
        };
        let what = match self.subject {
            Subject::Port(s) => span(s, "port", "ports"),
            Subject::Mmio(s) => span(s, "address", "addresses"),
            Subject::Msr(s) => span(s, "MSR", "MSRs"),
            Subject::Kind(kind) => class_name(kind).into(),
            Subject::Point(id) => self.vm.get().points.described(id),
            Subject::Any => "every exit".into(),
        };
        let name = match self.function(py) {
            Some(f) => f
                .bind(py)
                .getattr_opt(intern!(py, "__name__"))?
                .map_or_else(|| f.bind(py).repr(), |n| n.str())?
                .to_string(),
            None => "nothing yet".into(),
        };
        let state = match (self.hook(), self.function(py)) {
            (Some(_), _) => format!("{} hits", self.hits()),
            (None, Some(_)) => "removed".into(),
            (None, None) => "call it with a function".into(),
        };
        Ok(format!("<Handle of {what}: {name}, {state}>"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.vm)?;
        if let Ok(armed) = self.armed.try_lock()
            && let Some(armed) = armed.as_ref()
        {
            visit.call(&armed.function)?;
        }
        Ok(())
    }
}

/// Which direction of access `access` names, seen from the guest.
pub fn wanted(access: &str) -> PyResult<Wanted> {
    match access {
        "r" => Ok(Wanted { writes: false, ..Wanted::ALL }),
        "w" => Ok(Wanted { reads: false, ..Wanted::ALL }),
        "rw" => Ok(Wanted::ALL),
        _ => {
            Err(PyValueError::new_err(format!("access is \"r\", \"w\" or \"rw\", seen from the guest, not {access:?}")))
        }
    }
}

fn no_span(at: &Bound<'_, PyAny>) -> PyErr {
    let shown = at.repr().map(|r| r.to_string()).unwrap_or_default();
    if at.cast::<PyRange>().is_ok() || at.hasattr("__index__").unwrap_or(false) {
        return PyValueError::new_err(format!("numbers to answer for are from 0 on, not {shown}"));
    }
    PyTypeError::new_err(format!("what to answer for is a number, or a range of them, not {shown}"))
}

/// The span that `at` (a number or a range) and `size` name, its last number at most `limit`.
pub fn span(at: &Bound<'_, PyAny>, size: Option<Fitting<u64>>, limit: u64) -> PyResult<Span> {
    let range = at.py().import("builtins")?.getattr("range")?;
    let number = |value: Bound<'_, PyAny>| value.extract::<u64>().map_err(|_| no_span(at));
    if !at.is_instance(&range)? {
        return Ok(Span::new(number(at.clone())?, size.map_or(1, |n| n.0), limit)?);
    }
    let (start, stop) = (number(at.getattr("start")?)?, number(at.getattr("stop")?)?);
    if size.is_some() || at.getattr("step")?.extract::<i64>()? != 1 {
        return Err(PyValueError::new_err("give a number and a size, or a range without a step"));
    }
    Ok(Span::new(start, stop.saturating_sub(start), limit)?)
}
