//! Interrupts from Python: lines, messages, events, and what is injected into a vCPU. They never wait for the guest.

use pyo3::PyTraverseError;
use pyo3::exceptions::PyValueError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use crate::kvm::MsiMessage;
use crate::machine::InterruptEvent;

use super::address::Fitting;
use super::vcpu::Vcpu;
use super::vm::VM;

/// An interrupt line (GSI) of a VM with interrupt controllers. From any thread, also while the guest runs.
#[pyclass(frozen, module = "belljar")]
pub struct IrqLine {
    vm: Py<VM>,
    line: u8,
}

impl IrqLine {
    fn set(&self, py: Python<'_>, high: bool) -> PyResult<()> {
        Ok(py.detach(|| self.vm.get().machine().set_line(self.line, high))?)
    }
}

#[pymethods]
impl IrqLine {
    /// The number of the line, 0 to 23.
    #[getter]
    fn line(&self) -> u8 {
        self.line
    }

    /// Is the line high? Setting it is raise_() or lower().
    #[getter]
    fn level(&self) -> PyResult<bool> {
        Ok(self.vm.get().machine().line(self.line)?)
    }

    #[setter]
    fn set_level(&self, py: Python<'_>, high: bool) -> PyResult<()> {
        self.set(py, high)
    }

    /// Makes the line high, and leaves it so.
    fn raise_(&self, py: Python<'_>) -> PyResult<()> {
        self.set(py, true)
    }

    /// Makes the line low.
    fn lower(&self, py: Python<'_>) -> PyResult<()> {
        self.set(py, false)
    }

    /// Makes the line high and low again: one interrupt, where the guest has programmed the line as edge-triggered.
    fn pulse(&self, py: Python<'_>) -> PyResult<()> {
        self.set(py, true)?;
        self.set(py, false)
    }

    /// An event whose every write is a pulse of the line, made by KVM itself (irqfd). Keep it: an event that is gone pulls
    /// nothing.
    ///
    /// For a line that the guest has programmed as edge-triggered; on a masked pin it is lost. ValueError once the VM is closed.
    fn eventfd(&self, py: Python<'_>) -> PyResult<IrqEvent> {
        let event = py.detach(|| self.vm.get().machine().line_event(self.line))?;
        Ok(IrqEvent { vm: self.vm.clone_ref(py), event })
    }

    fn __repr__(&self) -> String {
        let level = match self.vm.get().machine().line(self.line) {
            Ok(true) => "high",
            Ok(false) => "low",
            Err(_) => "gone",
        };
        format!("<IrqLine {}, {level}>", self.line)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.vm)
    }
}

#[pymethods]
impl VM {
    /// Interrupt line `line` (0 to 23): ISA numbers, which reach the I/O APIC's pin and, with irqchip="full", the PIC.
    ///
    /// ValueError for a VM without interrupt controllers.
    fn irq(slf: &Bound<'_, Self>, line: Fitting<u8>) -> PyResult<IrqLine> {
        let line = line.0;
        slf.get().machine().check_line(line)?;
        Ok(IrqLine { vm: slf.clone().unbind(), line })
    }

    /// Sends a message-signalled interrupt (Intel SDM vol. 3, 11.11); returns whether a vCPU took it.
    ///
    /// `address` is 0xfee00000 with the destination in bits 12 to 19, `data` has the vector in its low byte. ValueError for a
    /// VM without interrupt controllers.
    fn msi(&self, py: Python<'_>, address: Fitting<u64>, data: Fitting<u32>) -> PyResult<bool> {
        let (address, data) = (address.0, data.0);
        Ok(py.detach(|| self.machine().signal(MsiMessage { address, data }))?)
    }

    /// An event whose every write sends that message, made by KVM itself. Keep it: an event that is gone sends nothing.
    fn msi_eventfd(slf: &Bound<'_, Self>, address: u64, data: u32) -> PyResult<IrqEvent> {
        let machine = slf.get().machine();
        let event = slf.py().detach(|| machine.message_event(MsiMessage { address, data }))?;
        Ok(IrqEvent { vm: slf.clone().unbind(), event })
    }
}

/// An event that interrupts the guest without entering belljar: `vm.irq(5).eventfd()`, `vm.msi_eventfd(address, data)`.
///
/// Whoever writes an integer of eight bytes to fileno() interrupts: any thread, and any process that has got the descriptor
/// (os.eventfd_write, a device of another program). A context manager that removes it.
#[pyclass(frozen, weakref, module = "belljar")]
pub struct IrqEvent {
    vm: Py<VM>,
    event: InterruptEvent,
}

#[pymethods]
impl IrqEvent {
    /// The eventfd; it is closed when the last reference to this object is gone.
    fn fileno(&self) -> i32 {
        self.event.descriptor()
    }

    /// Interrupts the guest. ValueError once the event has been removed.
    fn trigger(&self) -> PyResult<()> {
        Ok(self.event.trigger()?)
    }

    /// Disconnects the event from the VM. Does nothing if that has been done.
    pub fn remove(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.vm.get().machine().remove_event(&self.event))?)
    }

    /// Has it been removed?
    #[getter]
    fn removed(&self) -> bool {
        self.event.is_removed()
    }

    fn __repr__(&self) -> String {
        format!("<IrqEvent{}>", if self.event.is_removed() { ", removed" } else { "" })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.vm)
    }
}

impl Drop for IrqEvent {
    fn drop(&mut self) {
        let _ = self.vm.get().machine().remove_event(&self.event); // of a VM that goes as well, nothing is left to do
    }
}

#[pymethods]
impl Vcpu {
    /// Interrupts the vCPU with `vector` as soon as it takes interrupts, which belljar waits for. From any thread.
    ///
    /// A VM without interrupt controllers gets it whatever its vector (it ends a HLT); else it goes through the local
    /// APIC, which delivers vectors from 16 on. False if that does not take it: it is switched off (bit 8 of
    /// `cpu.lapic.svr`) until the guest switches it on.
    fn inject_interrupt(&self, py: Python<'_>, vector: Fitting<u8>) -> PyResult<bool> {
        Ok(py.detach(|| self.vm().get().machine().inject_interrupt(self.number(), vector.0))?)
    }

    /// Sends the vCPU a non-maskable interrupt. From any thread; `cpu.events` shows it on its way.
    fn inject_nmi(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.vm().get().machine().inject_nmi(self.number()))?)
    }

    /// Has the vCPU take exception `vector` (0 to 31) before its next instruction, while it is stopped or in its handlers.
    ///
    /// `error_code` is for the vectors that have one (0 if none is given), `cr2` for page faults (vector 14). ValueError for
    /// what such an exception does not have, and while another one is on its way.
    #[pyo3(signature = (vector, error_code = None, *, cr2 = None))]
    fn inject_exception(
        &self,
        vector: Fitting<u8>,
        error_code: Option<Fitting<u32>>,
        cr2: Option<Fitting<u64>>,
    ) -> PyResult<()> {
        let (error_code, cr2) = (error_code.map(|code| code.0), cr2.map(|at| at.0));
        Ok(self.vm().get().machine().inject_exception(self.number(), vector.0, error_code, cr2)?)
    }

    /// The vectors that inject_interrupt() has queued and the guest has not been able to take, the next one first.
    #[getter]
    fn waiting_interrupts(&self) -> PyResult<Vec<u16>> {
        let slot = self.vm().get().machine().cpu(self.number()).map_err(|e| PyValueError::new_err(e.to_string()))?;
        Ok(slot.injections.list().0.into_iter().map(u16::from).collect())
    }
}
