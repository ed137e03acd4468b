//! Watchpoints: `vm.watch`, `vm.on_watch` and the class `Watchpoint`. They never decide what is a hit.

use std::sync::Arc;

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::addr::{GuestPhys, Span};
use crate::debug::{Place, Wish};
use crate::hook::{Subject, Wanted};
use crate::machine::{Accesses, Machine, TrapKind};

use super::address::Fitting;
use super::breakpoint::resolved;
use super::expression::{Expression, filter};
use super::hook::Handle;
use super::points::Known;
use super::vm::VM;
use super::watched::{Planted, Sought};

/// A watched range of guest memory. Keep it to remove the watch later, or use it as a context manager.
#[pyclass(frozen, weakref, module = "belljar")]
pub struct Watchpoint {
    facts: Facts,
    /// Who is asked about its hits; waits for its function where there is none.
    handle: Py<Handle>,
}

/// What a VM remembers of a watchpoint, whether or not Python still has its handle.
#[derive(Clone)]
pub struct Facts {
    planted: Planted,
    accesses: Accesses,
    when: Option<crate::hook::Expression>,
    address: u64,
    symbol: Option<String>,
    len: u64,
    is_virtual: bool,
    cr3: Option<u64>,
    once: bool,
    /// A hit ends the run if no hook says otherwise.
    stops: bool,
}

impl Facts {
    fn id(&self) -> u32 {
        match &self.planted {
            Planted::Trap(watch) => watch.id,
            Planted::Register(point) => point.id,
        }
    }

    /// Has it not been removed?
    pub fn is_there(&self, machine: &Machine) -> bool {
        match &self.planted {
            Planted::Trap(watch) => machine.is_watched(watch),
            Planted::Register(point) => !point.is_removed(),
        }
    }

    /// What is watched.
    pub fn span(&self) -> Span {
        Span { first: self.address, last: self.address.saturating_add(self.len.saturating_sub(1)) }
    }

    /// The watchpoint, with the handler that it has.
    pub fn handle(&self, vm: &Bound<'_, VM>) -> PyResult<Watchpoint> {
        let waiting = || Handle::new(vm.clone().unbind(), Subject::Point(self.id()), Wanted::ALL, None);
        let handle = Handle::of_point(vm, self.id()).unwrap_or_else(waiting);
        Ok(Watchpoint { facts: self.clone(), handle: Py::new(vm.py(), handle)? })
    }
}

impl Watchpoint {
    fn machine(&self) -> &Arc<Machine> {
        self.handle.get().vm().get().machine()
    }

    /// The number of its hits, for traces.
    pub fn id(&self) -> u32 {
        self.facts.id()
    }

    fn is_there(&self) -> bool {
        self.facts.is_there(self.machine())
    }
}

/// What `access` names, seen from the guest.
fn accesses(access: &str) -> PyResult<Accesses> {
    let of = |reads, writes, executes| Ok(Accesses { reads, writes, executes });
    match access {
        "r" => of(true, false, false),
        "w" => of(false, true, false),
        "rw" => of(true, true, false),
        "x" => of(false, false, true),
        "rwx" => of(true, true, true),
        _ => Err(PyValueError::new_err(format!(
            "access is \"r\", \"w\", \"rw\", \"x\" or \"rwx\", seen from the guest, not {access:?}"
        ))),
    }
}

struct Request<'a, 'py> {
    address: &'a Bound<'py, PyAny>,
    size: u64,
    handler: Option<&'a Bound<'py, PyAny>>,
    access: &'a str,
    is_virtual: bool,
    when: Option<&'a Bound<'py, PyAny>>,
    cr3: Option<u64>,
    once: bool,
    hw: Option<bool>,
    /// A hit without an opinion of a handler's ends the run.
    stops: bool,
}

fn watch(vm: &Bound<'_, VM>, request: Request<'_, '_>) -> PyResult<Watchpoint> {
    let Request { size: len, handler, is_virtual, stops, cr3, once, .. } = request;
    let (accesses, when) = (accesses(request.access)?, filter(request.when)?);
    let (address, symbol) = resolved(vm, request.address)?;
    let is_virtual = is_virtual || symbol.is_some();
    if cr3.is_some() && !is_virtual {
        return Err(PyValueError::new_err("cr3 says how a linear address translates: give virtual=True, too"));
    }
    let (py, machine) = (vm.py(), vm.get().machine());
    let id = machine.points().number();
    let wish = Wish {
        id: Some(id),
        cr3: cr3.map(|at| at & !0xfff),
        when: when.clone(),
        once,
        stops,
        ..Wish::at(if is_virtual { Place::Linear(address) } else { Place::Physical(GuestPhys(address)) })
    };
    let wanted = Sought { wish, accesses, len, cr3, hw: request.hw };
    let handle = Bound::new(py, Handle::new(vm.clone().unbind(), Subject::Point(id), Wanted::ALL, None))?;
    if let Some(function) = handler {
        handle.get().arm(py, function)?; // before the first hit
    }
    match py.detach(|| wanted.plant(machine)) {
        Ok(planted) => {
            let facts = Facts { planted, accesses, when, address, symbol, len, is_virtual, cr3, once, stops };
            vm.get().points.remember(machine, id, Known::Watchpoint(facts.clone()));
            Ok(Watchpoint { facts, handle: handle.unbind() })
        }
        Err(error) => {
            handle.get().remove(py)?;
            Err(error.into())
        }
    }
}

#[pymethods]
impl VM {
    /// Watches `size` bytes of guest memory from `address` on: the guest's accesses to them are WatchpointHits.
    ///
    /// `access` is "w" (writes), "r", "rw", "x" (instructions in the range) or "rwx", seen from the guest. `address` is
    /// guest-physical; with `virtual=True` it is linear, and so is a symbol ("name", "name+0x10"); it is translated once, as vCPU 0 (in a handler: its
    /// vCPU) does, or through the tables at `cr3`; what is watched is the memory found there, however it is reached.
    /// `handler(exit)` is asked about each hit, after the access; None goes on, bj.STOP ends the run. Without a handler a hit
    /// ends the run. `when` is an expression: accesses at which it does not hold are no hits. With `once` the first hit is the last.
    /// `hw=False` never takes a debug register, `hw=True` nothing else. Any number, any size, while the VM runs, too.
    /// Raises GuestMemoryError where there is no memory.
    #[pyo3(signature = (
        address: "int | str", size = Fitting(8), handler: "Callable[[WatchpointHit], object] | NativeHandler | None" = None, *,
        access: "typing.Literal['r', 'w', 'rw', 'x', 'rwx']" = "w", r#virtual = false, when: "Expression | None" = None,
        cr3 = None, once = false, hw = None
    ), text_signature = "($self, address, size=8, handler=None, *, access='w', virtual=False, when=None, cr3=None, once=False, hw=None)")]
    #[allow(clippy::too_many_arguments)] // keyword arguments
    fn watch(
        slf: &Bound<'_, Self>,
        address: &Bound<'_, PyAny>,
        size: Fitting<u64>,
        handler: Option<&Bound<'_, PyAny>>,
        access: &str,
        r#virtual: bool,
        when: Option<&Bound<'_, PyAny>>,
        cr3: Option<Fitting<u64>>,
        once: bool,
        hw: Option<bool>,
    ) -> PyResult<Watchpoint> {
        let (cr3, size) = (cr3.map(|at| at.0), size.0);
        let stops = handler.is_none();
        watch(slf, Request { address, size, handler, access, is_virtual: r#virtual, when, cr3, once, hw, stops })
    }

    /// As watch, for use as a decorator: the watch begins at once, and the function that it decorates is its handler.
    ///
    /// Until it has one, a hit goes on.
    #[pyo3(signature = (
        address: "int | str", size = Fitting(8), *, access: "typing.Literal['r', 'w', 'rw', 'x', 'rwx']" = "w", r#virtual = false,
        when: "Expression | None" = None, cr3 = None, once = false, hw = None
    ), text_signature = "($self, address, size=8, *, access='w', virtual=False, when=None, cr3=None, once=False, hw=None)")]
    #[allow(clippy::too_many_arguments)] // keyword arguments
    fn on_watch(
        slf: &Bound<'_, Self>,
        address: &Bound<'_, PyAny>,
        size: Fitting<u64>,
        access: &str,
        r#virtual: bool,
        when: Option<&Bound<'_, PyAny>>,
        cr3: Option<Fitting<u64>>,
        once: bool,
        hw: Option<bool>,
    ) -> PyResult<Watchpoint> {
        let (cr3, size, handler) = (cr3.map(|at| at.0), size.0, None);
        watch(slf, Request { address, size, handler, access, is_virtual: r#virtual, when, cr3, once, hw, stops: false })
    }
}

#[pymethods]
impl Watchpoint {
    /// As a decorator, makes the function its handler; afterwards, calls it.
    #[pyo3(signature = (*args: "object", **kwargs: "object"))]
    fn __call__(
        slf: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        if let Some(function) = this.handle.get().function(py) {
            return function.call(py, args, kwargs);
        }
        if this.facts.stops {
            return Err(PyTypeError::new_err(
                "this watchpoint ends the run: give vm.watch() the function, or decorate it with @vm.on_watch(...)",
            ));
        }
        this.handle.get().arm(py, &args.get_item(0)?)?;
        Ok(slf.clone().into_any().unbind())
    }

    /// Watches no more, from the next entry into the guest on; does nothing if it has been removed.
    ///
    /// With the last watchpoint of a page, accesses to it are as fast as before.
    pub(super) fn remove(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| match &self.facts.planted {
            Planted::Trap(watch) => self.machine().remove_watch(watch),
            Planted::Register(point) => self.machine().remove_point(point),
        })?;
        self.handle.get().remove(py)
    }

    /// Its number, which its hits carry.
    #[getter(id)]
    fn number(&self) -> u32 {
        self.id()
    }

    /// The first address watched, as it was given.
    #[getter]
    fn address(&self) -> u64 {
        self.facts.address
    }

    /// How many bytes are watched.
    #[getter]
    fn size(&self) -> u64 {
        self.facts.len
    }

    /// Is the address a linear one?
    #[getter]
    fn r#virtual(&self) -> bool {
        self.facts.is_virtual
    }

    /// "r", "w", "rw", "x" or "rwx", seen from the guest.
    #[getter]
    fn access(&self) -> String {
        let Accesses { reads, writes, executes } = self.facts.accesses;
        [(reads, 'r'), (writes, 'w'), (executes, 'x')].iter().filter(|(is, _)| *is).map(|(_, letter)| letter).collect()
    }

    /// How accesses are noticed: "debug register", "memory trap (read-only page)" or "memory trap (hole)".
    #[getter]
    fn mechanism(&self) -> &'static str {
        match &self.facts.planted {
            Planted::Register(_) => "debug register",
            Planted::Trap(watch) if watch.kind() == TrapKind::ReadOnly => "memory trap (read-only page)",
            Planted::Trap(_) => "memory trap (hole)",
        }
    }

    /// Its filter, or None.
    #[getter]
    fn when(&self) -> Option<Expression> {
        self.facts.when.clone().map(Expression)
    }

    /// The symbol that it was named by, or None.
    #[getter]
    fn symbol(&self) -> Option<&str> {
        self.facts.symbol.as_deref()
    }

    /// The tables that its linear address was translated by, as they were given, or None.
    #[getter]
    fn cr3(&self) -> Option<u64> {
        self.facts.cr3
    }

    /// Is it removed at its first hit?
    #[getter]
    fn once(&self) -> bool {
        self.facts.once
    }

    /// The function that is called at a hit, or None.
    #[getter]
    fn function(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.handle.get().function(py)
    }

    /// Seconds spent in the function so far.
    #[getter]
    fn seconds(&self) -> f64 {
        self.handle.get().seconds()
    }

    /// How often it was hit; kept when it has been removed.
    #[getter]
    fn hits(&self) -> u64 {
        match &self.facts.planted {
            Planted::Trap(watch) => watch.hits(),
            Planted::Register(point) => point.hits(),
        }
    }

    /// Are there hits? Settable; what is switched off keeps its pages trapped, and so slow.
    #[getter]
    fn enabled(&self) -> bool {
        match &self.facts.planted {
            Planted::Trap(watch) => watch.is_enabled(),
            Planted::Register(point) => !point.is_removed() && self.machine().is_enabled(point),
        }
    }

    #[setter]
    fn set_enabled(&self, py: Python<'_>, yes: bool) -> PyResult<()> {
        if !self.is_there() {
            return Err(PyValueError::new_err("this watchpoint has been removed: make a new one by vm.watch()"));
        }
        match &self.facts.planted {
            Planted::Trap(watch) => watch.enable(yes),
            Planted::Register(point) => py.detach(|| self.machine().enable_point(point, yes))?,
        }
        Ok(())
    }

    /// Are both the same watchpoint? A hit and vm.watchpoints make handles of their own.
    fn __eq__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> bool {
        let Ok(other) = other.cast_exact::<Self>() else { return false };
        let id = |this: &Self| (this.handle.get().vm().as_ptr(), this.id());
        id(slf.get()) == id(other.get())
    }

    fn __hash__(&self) -> u64 {
        u64::from(self.id())
    }

    fn __repr__(&self) -> String {
        let state = match (self.is_there(), self.enabled()) {
            (false, _) => "removed",
            (true, false) => "disabled",
            (true, true) => self.mechanism(),
        };
        let name = self.facts.symbol.as_ref().map(|name| format!("{name}, ")).unwrap_or_default();
        let kind = if self.facts.is_virtual && name.is_empty() { "virtual " } else { "" };
        let (id, access, hits) = (self.id(), self.access(), self.hits());
        let end = u128::from(self.facts.address) + u128::from(self.facts.len);
        format!("<Watchpoint {id} at {name}{kind}{:#x}..{end:#x} {access}: {state}, {hits} hits>", self.facts.address)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.handle)
    }
}
