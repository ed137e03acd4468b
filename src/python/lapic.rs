//! The class `Lapic`: one vCPU's local APIC in the kernel, live. It never caches a register.

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFrozenSet};

use crate::x86::lapic;

use super::address::Fitting;
use super::typed::NumberSet;
use super::vcpu::Vcpu;

/// The registers of the local APIC (Intel SDM vol. 3, table 11-1), by name, or by offset: `lapic.tpr`, `lapic[0x80]`.
///
/// Reading is one ioctl; writing is two, and sets the register as it is stored: it has no effects of a guest's write.
#[pyclass(frozen, module = "belljar")]
pub struct Lapic {
    cpu: Py<Vcpu>,
}

impl Lapic {
    pub(super) fn new(cpu: Py<Vcpu>) -> Self {
        Self { cpu }
    }

    fn read_page(&self) -> PyResult<Vec<u8>> {
        Ok(self.cpu.get().slot()?.with(|cpu| cpu.vcpu.lapic())?)
    }

    fn read(&self, offset: usize) -> PyResult<u32> {
        lapic::read(&self.read_page()?, offset).ok_or_else(|| no_register(offset))
    }

    fn write(&self, offset: usize, value: u32) -> PyResult<()> {
        if lapic::is_read_only(offset) {
            let name = lapic::REGISTERS.iter().rfind(|(_, at)| *at <= offset).map_or("", |(name, _)| name);
            return Err(PyValueError::new_err(format!(
                "{name} (at {offset:#x}) is read-only: the local APIC keeps it itself; `lapic.page` sets all registers as they are"
            )));
        }
        let written = self.cpu.get().slot()?.with(|cpu| {
            let mut page = cpu.vcpu.lapic()?;
            if lapic::write(&mut page, offset, value) { cpu.vcpu.set_lapic(&page).map(|()| true) } else { Ok(false) }
        })?;
        if written { Ok(()) } else { Err(no_register(offset)) }
    }

    fn vectors<'py>(&self, py: Python<'py>, offset: usize) -> PyResult<NumberSet<'py>> {
        Ok(NumberSet(PyFrozenSet::new(py, lapic::vectors(&self.read_page()?, offset))?.into_any()))
    }
}

fn no_register(offset: usize) -> PyErr {
    PyKeyError::new_err(format!(
        "no register of the local APIC is at {offset:#x}: they are sixteen bytes apart, below 0x400"
    ))
}

/// The offset that a name or a number stands for.
fn offset(which: &Bound<'_, PyAny>) -> PyResult<usize> {
    let Ok(name) = which.extract::<String>() else { return which.extract() };
    lapic::offset(&name).ok_or_else(|| {
        let known: Vec<_> = lapic::REGISTERS.iter().map(|(name, _)| *name).collect();
        PyKeyError::new_err(format!("no register of the local APIC is named {name:?}; there are {}", known.join(", ")))
    })
}

macro_rules! lapic_registers {
    ($($get:ident $set:ident $at:literal $doc:literal;)+) => {
        #[pymethods]
        impl Lapic {
            $(
                #[doc = $doc]
                #[getter]
                fn $get(&self) -> PyResult<u32> {
                    self.read($at)
                }

                #[setter]
                fn $set(&self, value: Fitting<u32>) -> PyResult<()> {
                    self.write($at, value.0)
                }
            )+
        }
    };
}

lapic_registers! {
    id set_id 0x20 "The APIC id, in the top byte (all 32 bits in x2APIC mode).";
    version set_version 0x30 "The version, and the number of LVT entries.";
    tpr set_tpr 0x80 "Task priority: interrupts at or below it wait.";
    ppr set_ppr 0xa0 "Processor priority: the higher of the task's and the interrupt's in service.";
    ldr set_ldr 0xd0 "Logical destination.";
    dfr set_dfr 0xe0 "Destination format.";
    svr set_svr 0xf0 "Spurious vector; bit 8 enables the APIC.";
    esr set_esr 0x280 "Error status.";
    icr_low set_icr_low 0x300 "The last inter-processor interrupt: vector, delivery mode.";
    icr_high set_icr_high 0x310 "The last inter-processor interrupt: destination.";
    lvt_timer set_lvt_timer 0x320 "The timer's vector and mode; bit 16 masks it.";
    lvt_thermal set_lvt_thermal 0x330 "The thermal sensor's entry.";
    lvt_pmc set_lvt_pmc 0x340 "The performance counters' entry.";
    lvt_lint0 set_lvt_lint0 0x350 "LINT0: the PIC, if it is wired as PCs do.";
    lvt_lint1 set_lvt_lint1 0x360 "LINT1: NMI, if it is wired as PCs do.";
    lvt_error set_lvt_error 0x370 "The error interrupt's entry.";
    timer_initial set_timer_initial 0x380 "What the timer counts down from; 0 stops it.";
    timer_current set_timer_current 0x390 "What the timer has counted down to.";
    timer_divide set_timer_divide 0x3e0 "The timer's divider, encoded.";
}

#[pymethods]
impl Lapic {
    /// The vectors in service.
    #[getter]
    #[pyo3(name = "isr")]
    fn in_service<'py>(&self, py: Python<'py>) -> PyResult<NumberSet<'py>> {
        self.vectors(py, 0x100)
    }

    /// The vectors that were raised by a level.
    #[getter]
    #[pyo3(name = "tmr")]
    fn by_level<'py>(&self, py: Python<'py>) -> PyResult<NumberSet<'py>> {
        self.vectors(py, 0x180)
    }

    /// The vectors that were requested and wait.
    #[getter]
    #[pyo3(name = "irr")]
    fn requested<'py>(&self, py: Python<'py>) -> PyResult<NumberSet<'py>> {
        self.vectors(py, 0x200)
    }

    /// The 1024 bytes that hold the registers, as a copy; setting takes as many.
    #[getter]
    fn page<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.read_page()?))
    }

    #[setter]
    fn set_page(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let page = super::memory::copied(value)?;
        if page.len() != lapic::SIZE {
            return Err(PyValueError::new_err(format!("the page has {} bytes, not {}", lapic::SIZE, page.len())));
        }
        Ok(self.cpu.get().slot()?.with(|cpu| cpu.vcpu.set_lapic(&page))?)
    }

    /// All registers by name, as a copy; `isr`, `tmr` and `irr` as sets of vectors.
    #[pyo3(signature = () -> "dict[str, int | frozenset[int]]")]
    fn as_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (page, dict) = (self.read_page()?, PyDict::new(py));
        for (name, at) in lapic::REGISTERS {
            match lapic::read(&page, *at) {
                Some(value) if !lapic::is_bitmap(*at) => dict.set_item(name, value)?,
                _ => dict.set_item(name, PyFrozenSet::new(py, lapic::vectors(&page, *at))?)?,
            }
        }
        Ok(dict)
    }

    fn __getitem__(&self, which: &Bound<'_, PyAny>) -> PyResult<u32> {
        self.read(offset(which)?)
    }

    fn __setitem__(&self, which: &Bound<'_, PyAny>, value: Fitting<u32>) -> PyResult<()> {
        self.write(offset(which)?, value.0)
    }

    fn __repr__(&self) -> String {
        let Ok(page) = self.read_page() else { return "<Lapic of a running or closed VM>".into() };
        let value = |at: usize| {
            if lapic::is_bitmap(at) {
                format!("{:?}", lapic::vectors(&page, at))
            } else {
                format!("{:08x}", lapic::read(&page, at).unwrap_or(0))
            }
        };
        let line = |&(name, at): &(&str, usize)| format!("{name:>13} {}", value(at));
        lapic::REGISTERS.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.cpu)
    }
}
