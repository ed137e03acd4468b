//! Exits from their Python values, as far as expressions look at them. It never makes a value of Python's.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::addr::GuestPhys;
use crate::exit as core;

use super::{
    BreakpointHit, Core, Debug, Exit, FailEntry, GuestException, HyperV, Hypercall, InternalError, IoapicEoi,
    MemoryFault, MmioRead, MmioWrite, MsrRead, MsrReason, MsrWrite, Notify, PortIn, PortOut, PortStringIn,
    PortStringOut, Stepped, SystemEvent, TprAccess, TprLowered, UnknownExit, WatchpointHit, Xen,
};

/// The exit that a Python value stands for, and its vCPU. Exits without a number of their own are all the same here.
pub fn from_python(value: &Bound<'_, PyAny>) -> PyResult<(Core, u32)> {
    let base = value.cast::<Exit>().map_err(|_| {
        let got = value.get_type();
        PyTypeError::new_err(format!("exit is an exit such as bj.PortIn(0x10, 1), not of {got}"))
    })?;
    Ok((access(value).or_else(|| event(value)).unwrap_or(Core::Hlt), base.get().vcpu))
}

/// Returns what the first class that `value` is of makes of it.
macro_rules! first {
    ($value:ident; $($class:ident($name:ident) => $exit:expr,)+) => {{
        $(if let Ok($name) = $value.cast_exact::<$class>() {
            let $name = $name.get();
            return Some($exit);
        })+
        None
    }};
}

fn access(value: &Bound<'_, PyAny>) -> Option<Core> {
    let reason = MsrReason::Filter; // a word, which no expression looks at
    first!(value;
        PortIn(e) => Core::PortIn { port: e.port, size: e.size },
        PortOut(e) => Core::PortOut { port: e.port, size: e.size, data: e.data },
        PortStringIn(e) => Core::PortStringIn { port: e.port, size: e.size, count: e.count },
        PortStringOut(e) => Core::PortStringOut(core::PortString { port: e.port, size: e.size, data: e.data.clone() }.into()),
        MmioRead(e) => Core::MmioRead { at: GuestPhys(e.address), size: e.size },
        MmioWrite(e) => Core::MmioWrite { at: GuestPhys(e.address), size: e.size, data: e.data },
        MsrRead(e) => Core::MsrRead { index: e.index, reason },
        MsrWrite(e) => Core::MsrWrite { index: e.index, data: e.data, reason },
    )
}

fn event(value: &Bound<'_, PyAny>) -> Option<Core> {
    let call = |kind, data: &[u64]| Box::new(core::Paravirtual { kind, data: data.to_vec() });
    first!(value;
        Debug(e) => Core::Debug { exception: e.exception, pc: e.pc, dr6: e.dr6, dr7: e.dr7 },
        GuestException(e) => Core::Exception(
            core::Exception { vector: e.vector, error_code: e.error_code, rip: e.rip, cr2: e.cr2 }.into()
        ),
        InternalError(e) => Core::InternalError(e.to_core().into()),
        FailEntry(e) => Core::FailEntry { reason: e.reason, cpu: e.cpu },
        MemoryFault(e) => Core::MemoryFault { flags: e.flags, at: GuestPhys(e.address), size: e.length },
        SystemEvent(e) => Core::SystemEvent { kind: e.kind, data: e.data.clone() },
        Hypercall(e) => Core::Hypercall(
            core::Hypercall { number: e.number, args: e.args, long_mode: e.long_mode }.into()
        ),
        TprLowered(e) => Core::TprLowered { tpr: e.tpr },
        TprAccess(e) => Core::TprAccess { rip: e.rip, is_write: e.is_write },
        IoapicEoi(e) => Core::IoapicEoi { vector: e.vector },
        Notify(e) => Core::Notify { flags: e.flags },
        HyperV(e) => Core::HyperV(call(e.kind, &e.data)),
        Xen(e) => Core::Xen(call(e.kind, &e.data)),
        BreakpointHit(e) => Core::Breakpoint { id: e.id, at: e.address },
        WatchpointHit(e) => Core::Watchpoint(e.to_core().into()),
        Stepped(e) => Core::Step { at: e.address },
        UnknownExit(e) => Core::Unknown(core::Unknown { reason: e.reason, data: e.data.clone() }.into()),
    )
}
