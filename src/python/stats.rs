//! Statistics for Python, as plain values that `belljar.stats` arranges. They never look at a vCPU's registers.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::exit::ExitKind;
use crate::machine::Stats;

use super::vcpu::Vcpu;
use super::vm::VM;

/// `belljar.stats.Stats` of these.
fn arranged(py: Python<'_>, all: &[Stats]) -> PyResult<Py<PyAny>> {
    let exits = PyDict::new(py);
    for kind in ExitKind::ALL {
        let count: u64 = all.iter().map(|s| s.exits[kind.index()]).sum();
        if count > 0 {
            exits.set_item(super::exit::class_name(*kind), count)?;
        }
    }
    let seconds = |of: fn(&Stats) -> std::time::Duration| all.iter().map(|s| of(s).as_secs_f64()).sum::<f64>();
    let repairs: u64 = all.iter().map(|s| s.repairs).sum();
    let class = py.import("belljar.stats")?.getattr("Stats")?;
    let times = (seconds(|s| s.guest), seconds(|s| s.native), seconds(|s| s.handlers));
    Ok(class.call1((exits, times.0, times.1, times.2, repairs))?.unbind())
}

#[pymethods]
impl VM {
    /// What the vCPUs have done since the VM was made: exits by class, seconds in the guest, in belljar and in handlers.
    ///
    /// A value of this moment, also while the guest runs; the difference of two says what happened in between.
    #[getter]
    fn stats(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let all: Vec<_> = self.machine().cpus.iter().map(|slot| slot.counters.read()).collect();
        arranged(py, &all)
    }
}

#[pymethods]
impl Vcpu {
    /// What this vCPU has done: as VM.stats.
    #[getter]
    fn stats(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let slot = self.vm().get().machine().cpu(self.number())?;
        arranged(py, &[slot.counters.read()])
    }
}
