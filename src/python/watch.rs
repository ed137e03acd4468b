//! Watchpoints: `vm.watch`, `vm.on_watch` and the class `Watchpoint`. They never decide what is a hit.

use std::sync::Arc;

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::addr::GuestPhys;
use crate::debug::{Place, Wish};
use crate::hook::{Subject, Wanted};
use crate::machine::{Accesses, Machine, TrapKind};

use super::address::Fitting;
use super::breakpoint::resolved;
use super::expression::{Expression, filter};
use super::hook::Handle;
use super::vm::VM;
use super::watched::{Planted, Sought};

/// A watched range of guest memory. Keep it to remove the watch later, or use it as a context manager.
#[pyclass(frozen, weakref, module = "belljar")]
pub struct Watchpoint {
    planted: Planted,
    accesses: Accesses,
    when: Option<crate::hook::Expression>,
    address: u64,
    len: u64,
    is_virtual: bool,
    /// Who is asked about its hits; waits for its function where there is none.
    handle: Py<Handle>,
    /// A hit ends the run if no hook says otherwise.
    stops: bool,
}

impl Watchpoint {
    fn machine(&self) -> &Arc<Machine> {
        self.handle.get().vm().get().machine()
    }

    /// The number of its hits, for traces.
    pub fn id(&self) -> u32 {
        match &self.planted {
            Planted::Trap(watch) => watch.id,
            Planted::Register(point) => point.id,
        }
    }

    fn is_there(&self) -> bool {
        match &self.planted {
            Planted::Trap(watch) => self.machine().is_watched(watch),
            Planted::Register(point) => !point.is_removed(),
        }
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

/// The number that `address` is, or the value of the symbol of that name.
fn address_of(vm: &Bound<'_, VM>, address: &Bound<'_, PyAny>, is_virtual: bool) -> PyResult<u64> {
    if !address.is_instance_of::<PyString>() {
        return address.extract::<Fitting<u64>>().map(|at| at.0);
    }
    let name: String = address.extract()?;
    if !is_virtual {
        return Err(PyTypeError::new_err(format!("symbols are linear addresses: watch {name:?} with virtual=True")));
    }
    resolved(vm, address).map(|(at, _)| at)
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
    let Request { size: len, handler, is_virtual, stops, cr3, .. } = request;
    let (accesses, when) = (accesses(request.access)?, filter(request.when)?);
    if cr3.is_some() && !is_virtual {
        return Err(PyValueError::new_err("cr3 says how a linear address translates: give virtual=True, too"));
    }
    let address = address_of(vm, request.address, is_virtual)?;
    let (py, machine) = (vm.py(), vm.get().machine());
    let id = machine.points().number();
    let wish = Wish {
        id: Some(id),
        cr3: cr3.map(|at| at & !0xfff),
        when: when.clone(),
        once: request.once,
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
            Ok(Watchpoint { planted, accesses, when, address, len, is_virtual, handle: handle.unbind(), stops })
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
    /// guest-physical; with `virtual=True` it is linear, or a symbol's name, translated once, as vCPU 0 (in a handler: its
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
        if this.stops {
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
    fn remove(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| match &self.planted {
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
        self.address
    }

    /// How many bytes are watched.
    #[getter]
    fn size(&self) -> u64 {
        self.len
    }

    /// Is the address a linear one?
    #[getter]
    fn r#virtual(&self) -> bool {
        self.is_virtual
    }

    /// "r", "w", "rw", "x" or "rwx", seen from the guest.
    #[getter]
    fn access(&self) -> String {
        let Accesses { reads, writes, executes } = self.accesses;
        [(reads, 'r'), (writes, 'w'), (executes, 'x')].iter().filter(|(is, _)| *is).map(|(_, letter)| letter).collect()
    }

    /// How accesses are noticed: "debug register", "memory trap (read-only page)" or "memory trap (hole)".
    #[getter]
    fn mechanism(&self) -> &'static str {
        match &self.planted {
            Planted::Register(_) => "debug register",
            Planted::Trap(watch) if watch.kind() == TrapKind::ReadOnly => "memory trap (read-only page)",
            Planted::Trap(_) => "memory trap (hole)",
        }
    }

    /// Its filter, or None.
    #[getter]
    fn when(&self) -> Option<Expression> {
        self.when.clone().map(Expression)
    }

    /// How often it was hit; kept when it has been removed.
    #[getter]
    fn hits(&self) -> u64 {
        match &self.planted {
            Planted::Trap(watch) => watch.hits(),
            Planted::Register(point) => point.hits(),
        }
    }

    /// Are there hits? Settable; what is switched off keeps its pages trapped, and so slow.
    #[getter]
    fn enabled(&self) -> bool {
        match &self.planted {
            Planted::Trap(watch) => watch.is_enabled(),
            Planted::Register(point) => !point.is_removed() && self.machine().is_enabled(point),
        }
    }

    #[setter]
    fn set_enabled(&self, py: Python<'_>, yes: bool) -> PyResult<()> {
        if !self.is_there() {
            return Err(PyValueError::new_err("this watchpoint has been removed: make a new one by vm.watch()"));
        }
        match &self.planted {
            Planted::Trap(watch) => watch.enable(yes),
            Planted::Register(point) => py.detach(|| self.machine().enable_point(point, yes))?,
        }
        Ok(())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception: "object"))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.remove(py)
    }

    fn __repr__(&self) -> String {
        let state = match (self.is_there(), self.enabled()) {
            (false, _) => ", removed",
            (true, false) => ", disabled",
            (true, true) => "",
        };
        let kind = if self.is_virtual { " virtual" } else { "" };
        let (id, access, hits) = (self.id(), self.access(), self.hits());
        let end = u128::from(self.address) + u128::from(self.len);
        format!(
            "<Watchpoint {id}{kind} {:#x}..{end:#x} {access}, {}, {hits} hits{state}>",
            self.address,
            self.mechanism()
        )
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.handle)
    }
}
