//! All of a vCPU's state at once, and what has no registers: events, MP state, TSC. It never interprets a state.

use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::error::Error;
use crate::kvm::Irqchip;
use crate::x86::{Pending, State as Core, msr};

use super::address::Fitting;
use super::fpu::Fpu;
use super::lapic::Lapic;
use super::typed::{Events, State};
use super::vcpu::Vcpu;
use super::wide::to_int;

/// Names of `KVM_MP_STATE_*`, by number.
const MP_STATES: [&str; 5] = ["runnable", "uninitialized", "init_received", "halted", "sipi_received"];

#[pymethods]
impl Vcpu {
    /// The x87, SSE, AVX and AVX-512 registers, live: `cpu.fpu.xmm[0]`.
    #[getter]
    fn fpu(slf: &Bound<'_, Self>) -> Fpu {
        Fpu::new(slf.clone().unbind())
    }

    /// The local APIC, live. ValueError for a VM whose local APICs are not in the kernel.
    #[getter]
    fn lapic(slf: &Bound<'_, Self>) -> PyResult<Lapic> {
        match slf.get().machine().irqchip() {
            Irqchip::None => Err(PyValueError::new_err(
                "this VM has no local APIC in the kernel: make it with VM(irqchip=\"split\") or VM(irqchip=\"full\")",
            )),
            Irqchip::Split | Irqchip::Full => Ok(Lapic::new(slf.clone().unbind())),
        }
    }

    /// What is on its way into the guest: exception, interrupt, NMI, SMI. A value; assign one to set them all.
    #[getter]
    fn events<'py>(&self, py: Python<'py>) -> PyResult<Events<'py>> {
        let pending = self.slot()?.with(|cpu| cpu.vcpu.pending())?;
        Events::of(py, "_of", (pending.words.to_vec(),))
    }

    #[setter]
    fn set_events(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if !value.hasattr("_words")? {
            let shown = value.repr()?;
            return Err(PyTypeError::new_err(format!("events are set as bj.Events, not {shown}")));
        }
        let words: [u64; Pending::COUNT] = value.call_method0("_words")?.extract()?;
        Ok(self.slot()?.with(|cpu| cpu.vcpu.set_pending(&Pending { words }))?)
    }

    /// "runnable", "uninitialized", "init_received", "halted" or "sipi_received" (KVM_GET_MP_STATE).
    ///
    /// Without an interrupt controller in the kernel it is always "runnable", and no other can be set.
    #[getter]
    fn mp_state(&self) -> PyResult<String> {
        let number = self.slot()?.with(|cpu| cpu.vcpu.mp_state())?;
        let name = usize::try_from(number).ok().and_then(|n| MP_STATES.get(n));
        Ok(name.map_or_else(|| format!("{number}"), |name| (*name).to_string()))
    }

    #[setter]
    fn set_mp_state(&self, value: &str) -> PyResult<()> {
        let number = MP_STATES.iter().position(|name| *name == value).and_then(|n| u32::try_from(n).ok());
        let number = number.ok_or_else(|| {
            PyValueError::new_err(format!("an MP state is one of {}, not {value:?}", MP_STATES.join(", ")))
        })?;
        match self.slot()?.with(|cpu| cpu.vcpu.set_mp_state(number)) {
            Err(Error::Registers { .. }) => Err(PyValueError::new_err(format!(
                "KVM refuses the MP state {value:?} here: all but \"runnable\" need VM(irqchip=\"split\") or \"full\""
            ))),
            other => Ok(other?),
        }
    }

    /// The time-stamp counter as the guest would read it now; it counts on while the vCPU is stopped.
    ///
    /// Setting raises ValueError where KVM leaves it as it was.
    #[getter]
    fn tsc(&self) -> PyResult<u64> {
        let value = self.machine().read_msr(self.number(), msr::TSC)?;
        value.ok_or_else(|| PyValueError::new_err("this KVM does not tell the TSC"))
    }

    #[setter]
    fn set_tsc(&self, value: Fitting<u64>) -> PyResult<()> {
        if self.slot()?.with(|cpu| cpu.vcpu.set_tsc(value.0))? {
            return Ok(());
        }
        Err(PyValueError::new_err("this KVM does not let the TSC be set: the guest sees the host's"))
    }

    /// Ticks of the TSC per millisecond.
    #[getter]
    fn tsc_khz(&self) -> PyResult<u32> {
        Ok(self.slot()?.with(|cpu| cpu.vcpu.tsc_khz())?)
    }

    /// Everything that this vCPU holds, as one value: compare it, print it, pickle it, put it back with restore().
    ///
    /// Inside a handler of a port or memory access it is the state before that access completes.
    fn state<'py>(&self, py: Python<'py>) -> PyResult<State<'py>> {
        let encoded = py.detach(|| self.slot()?.with(|cpu| Ok(cpu.vcpu.state()?.encode())))?;
        State::of(py, "from_bytes", (PyBytes::new(py, &encoded),))
    }

    /// Puts a state back that this vCPU had, or one of another VM of the same kind. Memory stays as it is.
    ///
    /// What counts by itself (the TSC above all) goes on, unless `counters` is true. Returns the names of those MSRs that
    /// KVM would not set; usually none. Raises RegisterError for a state that KVM refuses, which may then be half put back,
    /// ValueError for one of another kind of VM or processor, RunningError inside a handler.
    #[pyo3(signature = (state: "State", *, counters = false))]
    fn restore(&self, py: Python<'_>, state: &Bound<'_, PyAny>, counters: bool) -> PyResult<Vec<String>> {
        if !state.hasattr("diff")? {
            let shown = state.repr()?;
            return Err(PyTypeError::new_err(format!(
                "what is put back is a bj.State, as cpu.state() returned it, not {shown}"
            )));
        }
        let encoded: Vec<u8> = state.call_method0("to_bytes")?.extract()?;
        let state = decoded(&encoded)?;
        let refused = py.detach(|| self.machine().restore(self.number(), &state, counters))?;
        let name = |number: &u32| msr::name(*number).map_or_else(|| format!("{number:#x}"), str::to_string);
        Ok(refused.iter().map(name).collect())
    }
}

pub fn decoded(encoded: &[u8]) -> PyResult<Core> {
    let hint = "these bytes are no state of a vCPU: State.to_bytes() of this version of belljar makes them";
    Core::decode(encoded).ok_or_else(|| PyValueError::new_err(hint))
}

/// The values of an encoded state, by name: what bj.State shows.
#[pyfunction]
#[pyo3(signature = (encoded) -> "dict[str, int]")]
pub fn state_values<'py>(py: Python<'py>, encoded: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, bytes) in decoded(encoded)?.values() {
        if dict.contains(&name)? {
            return Err(PyKeyError::new_err(name));
        }
        dict.set_item(name, to_int(py, &bytes)?)?;
    }
    Ok(dict)
}

/// The names of values that change while a vCPU is stopped.
#[pyfunction]
pub fn volatile_values() -> Vec<String> {
    Core::volatile()
}
