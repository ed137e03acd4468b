//! Exits as Python values: frozen, typed, comparable, ready for `match`. They never keep a machine: a hit knows its VM
//! while others do.

mod access;
mod event;
mod from;
mod hit;
mod reads;

use pyo3::PyClass;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::{PyTuple, PyWeakrefMethods, PyWeakrefReference};

use crate::exit::{self as core, Exit as Core, ExitKind, Interruption as CoreInterruption, Kinds, MsrReason};
use crate::x86::msr;

use super::internal_error::InternalError;
use super::points::Known;
use super::vm::VM;

pub use access::*;
pub use event::*;
pub use from::from_python;
pub use reads::Reads;

/// Why a vCPU came out of the guest: the base of all exits.
#[pyclass(frozen, subclass, module = "belljar")]
pub struct Exit {
    /// The vCPU that made the exit, from 0 on.
    #[pyo3(get)]
    pub(super) vcpu: u32,
    /// Of a hit: where its point is.
    home: Option<Home>,
}

/// The VM that an exit is of, as long as somebody else keeps it.
pub struct Home(Py<PyWeakrefReference>);

impl Home {
    /// That VM.
    pub fn of(vm: &Bound<'_, VM>) -> PyResult<Self> {
        PyWeakrefReference::new(vm.as_any()).map(|vm| Self(vm.unbind()))
    }

    fn vm<'py>(&self, py: Python<'py>) -> Option<Bound<'py, VM>> {
        self.0.bind(py).upgrade_as::<VM>().ok().flatten()
    }
}

impl Exit {
    /// An exit that refers to no machine.
    pub(super) fn of(vcpu: u32) -> Self {
        Self { vcpu, home: None }
    }

    /// The point of a hit, and its VM.
    fn point<'py>(&self, py: Python<'py>, id: u32) -> Option<(Bound<'py, VM>, Known)> {
        let vm = self.home.as_ref()?.vm(py)?;
        let known = vm.get().points.known(id)?;
        Some((vm, known))
    }
}

/// How a field is shown.
trait Show {
    fn show(&self, name: &str) -> String;
}

macro_rules! show_number {
    ($($type:ty),+) => {$(
        impl Show for $type {
            fn show(&self, name: &str) -> String {
                match name {
                    "size" | "vector" | "kind" | "suberror" | "exception" | "cpu" | "id" => format!("{self}"),
                    _ => format!("{self:#x}"),
                }
            }
        }
    )+};
}

show_number!(u8, u16, u32, u64);

impl Show for String {
    fn show(&self, _: &str) -> String {
        format!("'{self}'")
    }
}

impl Show for Option<u32> {
    fn show(&self, name: &str) -> String {
        self.map_or_else(|| "None".into(), |v| v.show(name))
    }
}

impl Show for Option<u64> {
    fn show(&self, name: &str) -> String {
        self.map_or_else(|| "None".into(), |v| v.show(name))
    }
}

impl Show for Vec<u8> {
    fn show(&self, _: &str) -> String {
        format!("b'{}'", self.escape_ascii())
    }
}

impl Show for bool {
    fn show(&self, _: &str) -> String {
        if *self { "True".into() } else { "False".into() }
    }
}

impl Show for [u64; 6] {
    fn show(&self, name: &str) -> String {
        self.to_vec().show(name)
    }
}

impl Show for Vec<u64> {
    fn show(&self, _: &str) -> String {
        format!("[{}]", self.iter().map(|w| format!("{w:#x}")).collect::<Vec<_>>().join(", "))
    }
}

/// Are both of this class, of the same vCPU, and equal in all fields?
pub(super) fn same<T>(exit: &Bound<'_, T>, other: &Bound<'_, PyAny>) -> bool
where
    T: PyClass<BaseType = Exit, Frozen = True> + PartialEq + Sync,
{
    other
        .cast_exact::<T>()
        .is_ok_and(|other| exit.get() == other.get() && exit.as_super().get().vcpu == other.as_super().get().vcpu)
}

macro_rules! exit_class {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $field_doc:literal])* $field:ident: $type:ty,)* }) => {
        $(#[doc = $doc])+
        #[pyclass(frozen, extends = Exit, module = "belljar")]
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name {
            $($(#[doc = $field_doc])* #[pyo3(get)] pub(in crate::python) $field: $type,)*
        }

        exit_class!(@match_args $name $($field)*);

        #[pymethods]
        impl $name {
            #[new]
            #[pyo3(signature = ($($field,)* vcpu = 0))]
            #[allow(clippy::too_many_arguments)] // as many as the exit has fields
            fn new($($field: $type,)* vcpu: u32) -> PyClassInitializer<Self> {
                PyClassInitializer::from(Exit::of(vcpu)).add_subclass(Self { $($field,)* })
            }

            fn __repr__(slf: &Bound<'_, Self>) -> String {
                #[allow(unused_variables)]
                let this = slf.get();
                #[allow(unused_mut)]
                let mut text = String::from(concat!(stringify!($name), "("));
                $(let _ = write!(text, "{}={}, ", stringify!($field), this.$field.show(stringify!($field)));)*
                let _ = write!(text, "vcpu={})", slf.as_super().get().vcpu);
                text
            }

            fn __eq__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> bool {
                same(slf, other)
            }

            fn __hash__(slf: &Bound<'_, Self>) -> PyResult<isize> {
                slf.repr()?.hash()
            }

            /// Pickles as the class and its arguments.
            #[pyo3(signature = () -> "tuple[type, tuple[object, ...]]")]
            fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, Bound<'py, PyTuple>)> {
                let (py, vcpu) = (slf.py(), slf.as_super().get().vcpu);
                #[allow(unused_variables)]
                let this = slf.get();
                let arguments = [$(this.$field.clone().into_py_any(py)?,)* vcpu.into_py_any(py)?];
                Ok((slf.get_type(), PyTuple::new(py, arguments)?))
            }
        }
    };
    // Nothing for a class without fields: an empty tuple would become None on the way to Python.
    (@match_args $name:ident) => {};
    (@match_args $name:ident $($field:ident)+) => {
        #[pymethods]
        impl $name {
            #[classattr]
            fn __match_args__() -> ($(exit_class!(@str $field),)+) {
                ($(stringify!($field),)+)
            }
        }
    };
    (@str $field:ident) => { &'static str };
}

use exit_class;

/// The Python value of an exit of `vm`.
pub fn of_vm(vm: &Bound<'_, VM>, exit: &Core, vcpu: u32) -> PyResult<Py<PyAny>> {
    let is_hit = matches!(exit, Core::Breakpoint { .. } | Core::Watchpoint(_));
    let home = is_hit.then(|| Home::of(vm)).transpose()?;
    to_python(vm.py(), exit, vcpu, home.as_ref())
}

/// The Python value of an exit. A hit remembers where its point is.
pub fn to_python(py: Python<'_>, exit: &Core, vcpu: u32, home: Option<&Home>) -> PyResult<Py<PyAny>> {
    let is_hit = matches!(exit, Core::Breakpoint { .. } | Core::Watchpoint(_));
    let base = Exit { vcpu, home: home.filter(|_| is_hit).map(|home| Home(home.0.clone_ref(py))) };
    macro_rules! value {
        ($class:ident { $($fields:tt)* }) => {
            Py::new(py, ($class { $($fields)* }, base)).map(Py::into_any)
        };
    }
    match exit {
        Core::PortIn { port, size } => value!(PortIn { port: *port, size: *size }),
        Core::PortOut { port, size, data } => value!(PortOut { port: *port, size: *size, data: *data }),
        Core::PortStringIn { port, size, count } => value!(PortStringIn { port: *port, size: *size, count: *count }),
        Core::PortStringOut(string) => {
            let (size, data) = (string.size, string.data.clone());
            value!(PortStringOut { port: string.port, size, count: string.count(), data })
        }
        Core::MmioRead { at, size } => value!(MmioRead { address: at.0, size: *size }),
        Core::MmioWrite { at, size, data } => value!(MmioWrite { address: at.0, size: *size, data: *data }),
        Core::MsrRead { index, reason } => value!(MsrRead { index: *index, reason: reason_name(*reason).into() }),
        Core::MsrWrite { index, data, reason } => {
            value!(MsrWrite { index: *index, data: *data, reason: reason_name(*reason).into() })
        }
        Core::Hlt => value!(Hlt {}),
        Core::Shutdown => value!(Shutdown {}),
        Core::Reset => value!(Reset {}),
        Core::Debug { exception, pc, dr6, dr7 } => {
            value!(Debug { exception: *exception, pc: *pc, dr6: *dr6, dr7: *dr7 })
        }
        Core::Exception(e) => {
            value!(GuestException { vector: e.vector, error_code: e.error_code, rip: e.rip, cr2: e.cr2 })
        }
        Core::InternalError(e) => Py::new(py, (InternalError::from(&**e), base)).map(Py::into_any),
        Core::FailEntry { reason, cpu } => value!(FailEntry { reason: *reason, cpu: *cpu }),
        Core::MemoryFault { flags, at, size } => value!(MemoryFault { flags: *flags, address: at.0, length: *size }),
        Core::SystemEvent { kind, data } => value!(SystemEvent { kind: *kind, data: data.clone() }),
        Core::Timeout => value!(Timeout {}),
        Core::Breakpoint { id, at } => value!(BreakpointHit { id: *id, address: *at }),
        Core::Watchpoint(w) => {
            let core::Watched { id, at: address, gpa, size, write, before, after, rip } = **w;
            value!(WatchpointHit { id, address, gpa, size, write, before, after, rip })
        }
        Core::Step { at, .. } => value!(Stepped { address: *at }),
        Core::Interrupted(by) => value!(Interrupted { by: interruption_name(*by).into() }),
        Core::Hypercall(call) => {
            value!(Hypercall { number: call.number, args: call.args, long_mode: call.long_mode })
        }
        Core::InterruptWindow => value!(InterruptWindow {}),
        Core::TprLowered { tpr } => value!(TprLowered { tpr: *tpr }),
        Core::TprAccess { rip, is_write } => value!(TprAccess { rip: *rip, is_write: *is_write }),
        Core::IoapicEoi { vector } => value!(IoapicEoi { vector: *vector }),
        Core::DirtyRingFull => value!(DirtyRingFull {}),
        Core::ApResetHold => value!(ApResetHold {}),
        Core::BusLock => value!(BusLock {}),
        Core::Notify { flags } => value!(Notify { flags: *flags }),
        Core::HyperV(call) => value!(HyperV { kind: call.kind, data: call.data.clone() }),
        Core::Xen(call) => value!(Xen { kind: call.kind, data: call.data.clone() }),
        Core::Unknown(exit) => value!(UnknownExit { reason: exit.reason, data: exit.data.clone() }),
    }
}

fn reason_name(reason: MsrReason) -> &'static str {
    match reason {
        MsrReason::Filter => "filter",
        MsrReason::Unknown => "unknown",
        MsrReason::Invalid => "invalid",
    }
}

fn interruption_name(by: CoreInterruption) -> &'static str {
    match by {
        CoreInterruption::Kick => "kick",
        CoreInterruption::Pause => "pause",
        CoreInterruption::Stop => "stop",
        CoreInterruption::Close => "close",
        CoreInterruption::Until => "until",
        CoreInterruption::Trace => "trace",
    }
}

/// Each kind's class, but for those that no handler sees.
macro_rules! classes {
    ($with:ident) => {
        $with! {
            PortIn => PortIn, PortOut => PortOut, PortStringIn => PortStringIn, PortStringOut => PortStringOut,
            MmioRead => MmioRead, MmioWrite => MmioWrite, MsrRead => MsrRead, MsrWrite => MsrWrite, Hlt => Hlt,
            Shutdown => Shutdown, Reset => Reset, Debug => Debug, GuestException => Exception,
            InternalError => InternalError, FailEntry => FailEntry, MemoryFault => MemoryFault,
            SystemEvent => SystemEvent, Hypercall => Hypercall, InterruptWindow => InterruptWindow,
            TprLowered => TprLowered, TprAccess => TprAccess, IoapicEoi => IoapicEoi, DirtyRingFull => DirtyRingFull,
            ApResetHold => ApResetHold, BusLock => BusLock, Notify => Notify, HyperV => HyperV, Xen => Xen,
            UnknownExit => Unknown, BreakpointHit => Breakpoint, WatchpointHit => Watchpoint, Stepped => Step,
        }
    };
}

/// The name of the class of a kind of exit.
pub fn class_name(kind: ExitKind) -> &'static str {
    macro_rules! name {
        ($($class:ident => $kind:ident,)+) => {
            match kind {
                $(ExitKind::$kind => stringify!($class),)+
                ExitKind::Timeout => "Timeout",
                ExitKind::Interrupted => "Interrupted",
            }
        };
    }
    classes!(name)
}

/// The kind of exit that a class stands for; `None` for the base class, which is all of them.
pub fn kind_of(class: &Bound<'_, PyAny>) -> PyResult<Option<ExitKind>> {
    let py = class.py();
    macro_rules! find {
        ($($class:ident => $kind:ident,)+) => {$(
            if class.is(py.get_type::<$class>()) {
                return Ok(Some(ExitKind::$kind));
            }
        )+};
    }
    classes!(find);
    if class.is(py.get_type::<Exit>()) {
        return Ok(None);
    }
    if class.is(py.get_type::<Timeout>()) || class.is(py.get_type::<Interrupted>()) {
        return Err(PyTypeError::new_err("run() returns Timeout and Interrupted; no handler sees them"));
    }
    let shown = class.repr()?;
    Err(PyTypeError::new_err(format!(
        "a class of exits such as bj.Hlt (as a decorator: @vm.on_exit(bj.Hlt)) is asked for, not {shown}"
    )))
}

/// The kinds that a class, or a tuple of classes, stands for.
pub fn kinds_of(classes: &Bound<'_, PyAny>) -> PyResult<Kinds> {
    let one = |class: &Bound<'_, PyAny>| Ok(kind_of(class)?.map_or(Kinds::ALL, |kind| Kinds::default().with(kind)));
    match classes.cast::<PyTuple>() {
        Ok(several) => several.iter().try_fold(Kinds::default(), |all, class| Ok(all.and(one(&class)?))),
        Err(_) => one(classes),
    }
}

/// Numbers and names of MSRs, as Python gives them.
pub fn msr_number(which: &Bound<'_, PyAny>) -> PyResult<u32> {
    if let Ok(name) = which.extract::<String>() {
        return msr::number(&name).ok_or_else(|| {
            let like = msr::names_like(&name);
            let hint = if like.is_empty() {
                "Msrs.names() lists all, such as LSTAR".into()
            } else {
                format!("do you mean {}?", like.join(", "))
            };
            pyo3::exceptions::PyKeyError::new_err(format!("no MSR is named {name:?}: {hint}"))
        });
    }
    which.extract()
}
