//! Stepping from Python: the short runs of `VCPU`. They never hold the interpreter while the guest runs.

use pyo3::prelude::*;

use crate::machine::Goal;

use super::address::Fitting;
use super::breakpoint::resolved;
use super::exit::of_vm;
use super::running::{detached, poll, seconds};
use super::vcpu::Vcpu;

fn go(cpu: &Vcpu, py: Python<'_>, goal: Goal, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
    let timeout = seconds("timeout", timeout)?;
    let machine = cpu.vm().get().machine();
    let (vcpu, exit) = detached(py, || machine.step(cpu.number(), goal, timeout, &poll))?;
    of_vm(cpu.vm().bind(py), &exit, vcpu)
}

#[pymethods]
impl Vcpu {
    /// Executes `n` instructions on this vCPU alone, and returns Stepped, or whatever exit ended the run before.
    ///
    /// A breakpoint at the instruction where it begins is passed; others are hit as ever. On a KVM that does not step in the
    /// ring at hand, the guest's own #DB handler is trapped. Raises HostError where there is no way. `timeout` is in seconds.
    #[pyo3(signature = (n = Fitting(1), *, timeout = None) -> "Exit", text_signature = "($self, n=1, *, timeout=None)")]
    fn step(&self, py: Python<'_>, n: Fitting<u64>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        go(self, py, Goal::Steps(n.0), timeout)
    }

    /// Executes one instruction; a call, or a repeated string instruction, as a whole. Otherwise as step().
    #[pyo3(signature = (*, timeout = None) -> "Exit")]
    fn step_over(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        go(self, py, Goal::Over, timeout)
    }

    /// Runs until the function at hand has returned: calls as a whole, everything else instruction by instruction.
    #[pyo3(signature = (*, timeout = None) -> "Exit")]
    fn step_out(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        go(self, py, Goal::Out, timeout)
    }

    /// Runs this vCPU alone up to `address` (or a symbol), by a breakpoint of its own. Otherwise as step().
    #[pyo3(signature = (address: "int | str", *, timeout = None) -> "Exit")]
    fn run_until(&self, py: Python<'_>, address: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let (at, _) = resolved(self.vm().bind(py), address)?;
        go(self, py, Goal::Until(at), timeout)
    }
}
