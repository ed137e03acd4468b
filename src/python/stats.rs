//! Statistics for Python, as plain values that `belljar.stats` arranges. They never look at a vCPU's registers.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::exit::ExitKind;
use crate::machine::Stats;

use super::typed::{Profile, Stats as PyStats};
use super::vcpu::Vcpu;
use super::vm::VM;

/// `belljar.stats.Stats` of these.
fn arranged<'py>(py: Python<'py>, all: &[Stats]) -> PyResult<PyStats<'py>> {
    let exits = PyDict::new(py);
    for kind in ExitKind::ALL {
        let count: u64 = all.iter().map(|s| s.exits[kind.index()]).sum();
        if count > 0 {
            exits.set_item(super::exit::class_name(*kind), count)?;
        }
    }
    let seconds = |of: fn(&Stats) -> std::time::Duration| all.iter().map(|s| of(s).as_secs_f64()).sum::<f64>();
    let repairs: u64 = all.iter().map(|s| s.repairs).sum();
    let [guest, native, handlers] = [seconds(|s| s.guest), seconds(|s| s.native), seconds(|s| s.handlers)];
    PyStats::of(py, "__call__", (exits, guest, native, handlers, repairs))
}

#[pymethods]
impl VM {
    /// What the vCPUs have done since the VM was made: exits by class, seconds in the guest, in belljar and in handlers.
    ///
    /// A value of this moment, also while the guest runs; the difference of two says what happened in between.
    #[getter]
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<PyStats<'py>> {
        let all: Vec<_> = self.machine().cpus.iter().map(|slot| slot.counters.read()).collect();
        arranged(py, &all)
    }
}

#[pymethods]
impl VM {
    /// Where the time went since the VM was made: its stats, and calls and seconds of each handler. A value of this moment;
    /// `vm.profile() - before` is what happened since `before`.
    fn profile<'py>(slf: &Bound<'py, Self>) -> PyResult<Profile<'py>> {
        Profile::of(slf.py(), "of", (slf,))
    }
}

#[pymethods]
impl Vcpu {
    /// What this vCPU has done: as VM.stats.
    #[getter]
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<PyStats<'py>> {
        let slot = self.vm().get().machine().cpu(self.number())?;
        arranged(py, &[slot.counters.read()])
    }
}
