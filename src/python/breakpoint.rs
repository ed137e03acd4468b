//! Breakpoints as Python sees them: handles, and the methods of `VM` that make them. They never plant anything themselves.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::addr::{GuestPhys, Span};
use crate::debug::{Mechanism, Place, Point, Wish};
use crate::hook::{Subject, Wanted};

use super::address::{Address, Fitting};
use super::expression::{Expression, filter};
use super::hook::Handle;
use super::points::Known;
use super::vm::VM;

/// A breakpoint: what `vm.breakpoint()` returns. Use it as a context manager, or keep it to remove it later.
#[pyclass(frozen, weakref, module = "belljar")]
pub struct Breakpoint {
    vm: Py<VM>,
    wish: Wish,
    /// As it was named.
    symbol: Option<String>,
    state: Mutex<State>,
}

/// What a VM remembers of a breakpoint, whether or not Python still has its handle.
#[derive(Clone)]
pub struct Facts {
    point: Arc<Point>,
    symbol: Option<String>,
}

impl Facts {
    /// Has it not been removed?
    pub fn is_there(&self) -> bool {
        !self.point.is_removed()
    }

    /// The address.
    pub fn span(&self) -> Span {
        let at = address_of(&self.point.wish);
        Span { first: at, last: at }
    }

    /// The breakpoint, with the handler that it has.
    pub fn handle(&self, vm: &Bound<'_, VM>) -> PyResult<Breakpoint> {
        let handle = Handle::of_point(vm, self.point.id).map(|handle| Py::new(vm.py(), handle)).transpose()?;
        let state = State { point: Some(Arc::clone(&self.point)), handle, is_removed: false };
        let (wish, symbol) = (self.point.wish.clone(), self.symbol.clone());
        Ok(Breakpoint { vm: vm.clone().unbind(), wish, symbol, state: Mutex::new(state) })
    }
}

fn address_of(wish: &Wish) -> u64 {
    match wish.place {
        Place::Linear(at) => at,
        Place::Physical(at) => at.0,
    }
}

/// The point and its handler, once there is one.
#[derive(Default)]
struct State {
    point: Option<Arc<Point>>,
    handle: Option<Py<Handle>>,
    is_removed: bool,
}

impl Breakpoint {
    fn point(&self) -> Option<Arc<Point>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).point.clone()
    }

    fn handle(&self, py: Python<'_>) -> Option<Py<Handle>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).handle.as_ref().map(|handle| handle.clone_ref(py))
    }

    fn planted(&self) -> PyResult<Arc<Point>> {
        self.point().ok_or_else(|| {
            PyValueError::new_err(
                "this breakpoint waits for its function: use it as a decorator (@vm.on_breakpoint(...))",
            )
        })
    }

    /// Plants it, with `function` answering its hits.
    fn plant(slf: &Bound<'_, Self>, function: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let machine = Arc::clone(this.vm.get().machine());
        let wish = Wish { stops: function.is_none(), ..this.wish.clone() };
        // First switched off: the guest must not come to it before its handler is there.
        let id = machine.points().number();
        let handle = function.map(|function| -> PyResult<_> {
            let handle = Handle::new(this.vm.clone_ref(py), Subject::Point(id), Wanted::ALL, None);
            handle.arm(py, function)?;
            Py::new(py, handle)
        });
        let handle = handle.transpose()?;
        let planted = py.detach(|| machine.add_point(Wish { id: Some(id), ..wish }));
        if let (Err(_), Some(handle)) = (&planted, &handle) {
            handle.get().remove(py)?;
        }
        let mut state = this.state.lock().unwrap_or_else(PoisonError::into_inner);
        let point = planted?;
        let facts = Facts { point: Arc::clone(&point), symbol: this.symbol.clone() };
        (state.point, state.handle) = (Some(point), handle);
        drop(state);
        this.vm.get().points.remember(this.vm.get().machine(), id, Known::Breakpoint(facts));
        Ok(())
    }
}

#[pymethods]
impl Breakpoint {
    /// Its number, which its hits have as `id`.
    #[getter]
    fn id(&self) -> PyResult<u32> {
        Ok(self.planted()?.id)
    }

    /// The address: linear, or guest-physical with physical=True.
    #[getter]
    fn address(&self) -> u64 {
        address_of(&self.wish)
    }

    /// The symbol that it was named by, or None.
    #[getter]
    fn symbol(&self) -> Option<&str> {
        self.symbol.as_deref()
    }

    /// How hits are noticed: "int3" (a planted byte at which KVM exits), "hardware" (a debug register), "in" (a planted port
    /// read, ring 0), "gate" (a planted int3 whose #BP is caught at the guest's own handler), "shim" (the same in a guest of
    /// mode="user"); "pending" while its page is not mapped, or the guest has not run since.
    #[getter]
    fn mechanism(&self) -> &'static str {
        self.point().map_or(Mechanism::Pending, |point| point.mechanism()).name()
    }

    /// Is it not planted yet, its page not being mapped? It is tried again at every exit, and some 25 times a second.
    #[getter]
    fn pending(&self) -> bool {
        self.point().is_some_and(|point| point.mechanism() == Mechanism::Pending && !point.is_removed())
    }

    /// How often it was hit, its filters holding; kept when it has been removed.
    #[getter]
    fn hits(&self) -> u64 {
        self.point().map_or(0, |point| point.hits())
    }

    /// Is it planted (or pending)? Setting it takes the byte away, or puts it back.
    #[getter]
    fn enabled(&self) -> bool {
        self.point().is_some_and(|point| !point.is_removed() && self.vm.get().machine().is_enabled(&point))
    }

    #[setter]
    fn set_enabled(&self, py: Python<'_>, yes: bool) -> PyResult<()> {
        let point = self.planted()?;
        if point.is_removed() {
            return Err(PyValueError::new_err("this breakpoint has been removed: make a new one"));
        }
        let machine = Arc::clone(self.vm.get().machine());
        Ok(py.detach(|| machine.enable_point(&point, yes))?)
    }

    /// Takes it away: it is not hit any more. Does nothing if it has been removed.
    pub(super) fn remove(&self, py: Python<'_>) -> PyResult<()> {
        let (point, handle) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.is_removed = true;
            (state.point.clone(), state.handle.take())
        };
        if let Some(point) = point {
            let machine = Arc::clone(self.vm.get().machine());
            py.detach(|| machine.remove_point(&point))?;
        }
        handle.map_or(Ok(()), |handle| handle.get().remove(py))
    }

    /// As a decorator, plants it with the function as its handler; afterwards, calls that.
    #[pyo3(signature = (*args: "object", **kwargs: "object"))]
    fn __call__(
        slf: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        if let Some(function) = slf.get().handle(py).and_then(|handle| handle.get().function(py)) {
            return function.call(py, args, kwargs);
        }
        if slf.get().point().is_some() {
            return Err(PyTypeError::new_err("this breakpoint has no handler to call"));
        }
        Self::plant(slf, Some(&args.get_item(0)?))?;
        Ok(slf.clone().into_any().unbind())
    }

    /// Are both the same breakpoint? A hit and vm.breakpoints make handles of their own.
    fn __eq__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> bool {
        let Ok(other) = other.cast_exact::<Self>() else { return false };
        let id = |this: &Self| this.point().map(|point| (this.vm.as_ptr(), point.id));
        slf.is(other) || id(slf.get()).is_some_and(|mine| id(other.get()) == Some(mine))
    }

    fn __hash__(&self) -> u64 {
        self.address() ^ u64::try_from(self.vm.as_ptr().addr()).unwrap_or(0)
    }

    fn __repr__(&self) -> String {
        let name = self.symbol.as_ref().map(|name| format!("{name}, ")).unwrap_or_default();
        let state = match self.point() {
            None => "call it with a function".into(),
            Some(point) if point.is_removed() => format!("removed, {} hits", point.hits()),
            Some(point) if !self.enabled() => format!("disabled, {} hits", point.hits()),
            Some(point) => format!("{}, {} hits", point.mechanism().name(), point.hits()),
        };
        let id = self.point().map(|point| format!("{} ", point.id)).unwrap_or_default();
        let physical = if self.physical() { "guest-physical " } else { "" };
        format!("<Breakpoint {id}at {name}{physical}{:#x}: {state}>", self.address())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.vm)?;
        if let Ok(state) = self.state.try_lock() {
            visit.call(&state.handle)?;
        }
        Ok(())
    }
}

/// Where `place` is: a number, or a name that belljar.breakpoint looks up.
pub fn resolved(vm: &Bound<'_, VM>, place: &Bound<'_, PyAny>) -> PyResult<(u64, Option<String>)> {
    if !place.is_instance_of::<PyString>() {
        return Ok((place.extract::<Address>()?.0.0, None));
    }
    let module = vm.py().import("belljar.breakpoint")?;
    let at: u64 = module.getattr("resolve")?.call1((vm, place))?.extract()?;
    Ok((at, Some(place.extract()?)))
}

/// Where `symbols` alone, such as those of a dump, say that `name` is.
pub fn resolved_in(symbols: Option<&Py<PyAny>>, name: &Bound<'_, PyAny>) -> PyResult<u64> {
    let module = name.py().import("belljar.breakpoint")?;
    module.getattr("resolve_in")?.call1((symbols.into_iter().collect::<Vec<_>>(), name))?.extract()
}

#[pymethods]
impl VM {
    /// Has the run end, or `handler(hit)` called, whenever a vCPU is about to execute the instruction at `where`.
    ///
    /// `where` is a linear address or a symbol ("name", "name+0x10"). The handler sees a BreakpointHit with RIP at the
    /// instruction, and may change registers and memory; None goes on, bj.STOP ends the run. Without a handler, a hit ends
    /// the run: the next run goes on behind it. `when` is an expression and `cr3` an address space, both compared natively;
    /// `vcpu` is a vCPU's number; `once` removes it at its first hit. `hw=True` takes one of the four debug registers,
    /// `hw=False` none; by default whatever this KVM has in that ring is used, and `.mechanism` says which. With `physical=True` the
    /// address is guest-physical, however the guest maps it. Raises HostError where this KVM has no way.
    #[pyo3(signature = (
        r#where: "int | str", handler: "Callable[[BreakpointHit], object] | NativeHandler | None" = None, *,
        when: "Expression | None" = None, cr3: "int | None" = None, hw: "bool | None" = None, once = false,
        vcpu: "int | None" = None, physical = false
    ) -> "Breakpoint")]
    #[allow(clippy::too_many_arguments)] // keyword arguments
    fn breakpoint<'py>(
        slf: &Bound<'py, Self>,
        r#where: &Bound<'py, PyAny>,
        handler: Option<&Bound<'py, PyAny>>,
        when: Option<&Bound<'py, PyAny>>,
        cr3: Option<Fitting<u64>>,
        hw: Option<bool>,
        once: bool,
        vcpu: Option<Fitting<u32>>,
        physical: bool,
    ) -> PyResult<Bound<'py, Breakpoint>> {
        let made = make(slf, r#where, when, (cr3, vcpu), hw, once, physical)?;
        Breakpoint::plant(&made, handler)?;
        Ok(made)
    }

    /// As breakpoint(), as a decorator: `@vm.on_breakpoint("do_exit")`. It is planted once it has its function.
    #[pyo3(signature = (
        r#where: "int | str", *, when: "Expression | None" = None, cr3: "int | None" = None, hw: "bool | None" = None,
        once = false, vcpu: "int | None" = None, physical = false
    ) -> "Breakpoint")]
    #[allow(clippy::too_many_arguments)] // keyword arguments
    fn on_breakpoint<'py>(
        slf: &Bound<'py, Self>,
        r#where: &Bound<'py, PyAny>,
        when: Option<&Bound<'py, PyAny>>,
        cr3: Option<Fitting<u64>>,
        hw: Option<bool>,
        once: bool,
        vcpu: Option<Fitting<u32>>,
        physical: bool,
    ) -> PyResult<Bound<'py, Breakpoint>> {
        make(slf, r#where, when, (cr3, vcpu), hw, once, physical)
    }
}

fn make<'py>(
    vm: &Bound<'py, VM>,
    place: &Bound<'py, PyAny>,
    when: Option<&Bound<'py, PyAny>>,
    (cr3, vcpu): (Option<Fitting<u64>>, Option<Fitting<u32>>),
    hardware: Option<bool>,
    once: bool,
    physical: bool,
) -> PyResult<Bound<'py, Breakpoint>> {
    let (at, symbol) = resolved(vm, place)?;
    let place = if physical { Place::Physical(GuestPhys(at)) } else { Place::Linear(at) };
    let (cr3, vcpu, when) = (cr3.map(|n| n.0), vcpu.map(|n| n.0), filter(when)?);
    let wish = Wish { cr3, vcpu, when, hardware, once, ..Wish::at(place) };
    Bound::new(vm.py(), Breakpoint { vm: vm.clone().unbind(), wish, symbol, state: Mutex::default() })
}

#[pymethods]
impl Breakpoint {
    /// Its filter, or None.
    #[getter]
    fn when(&self) -> Option<Expression> {
        self.wish.when.clone().map(Expression)
    }

    /// The address space that it is for (CR3 without its low 12 bits), or None.
    #[getter]
    fn cr3(&self) -> Option<u64> {
        self.wish.cr3
    }

    /// The number of the vCPU that it is for, or None.
    #[getter]
    fn vcpu(&self) -> Option<u32> {
        self.wish.vcpu
    }

    /// Is it removed at its first hit?
    #[getter]
    fn once(&self) -> bool {
        self.wish.once
    }

    /// Is the address guest-physical?
    #[getter]
    fn physical(&self) -> bool {
        matches!(self.wish.place, Place::Physical(_))
    }

    /// The function that is called at a hit, or None where a hit ends the run.
    #[getter]
    fn function(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.handle(py).and_then(|handle| handle.get().function(py))
    }

    /// Seconds spent in the function so far.
    #[getter]
    fn seconds(&self, py: Python<'_>) -> f64 {
        self.handle(py).map_or(0.0, |handle| handle.get().seconds())
    }
}
