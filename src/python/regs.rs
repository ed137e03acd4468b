//! The classes `Registers` and `Msrs`: one vCPU's registers for Python, live. They never cache a value.

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::error::Result as CoreResult;
use crate::machine::Cpu;
use crate::x86::{Gpr, Regs, msr};

use super::exit::msr_number;
use super::vm::VM;

/// The general registers, RIP and RFLAGS of one vCPU, live: reading asks the vCPU, writing sets it.
#[pyclass(frozen, module = "belljar")]
pub struct Registers {
    vm: Py<VM>,
    id: u32,
}

impl Registers {
    pub(super) fn new(vm: Py<VM>, id: u32) -> Self {
        Self { vm, id }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Cpu) -> CoreResult<T>) -> CoreResult<T> {
        self.vm.get().machine().cpu(self.id)?.with(work)
    }

    fn get(&self, which: Gpr) -> PyResult<u64> {
        Ok(self.with(|cpu| Ok(cpu.vcpu.regs()?[which]))?)
    }

    fn set(&self, which: Gpr, value: u64) -> PyResult<()> {
        self.change(|regs| regs[which] = value)
    }

    fn change(&self, how: impl FnOnce(&mut Regs)) -> PyResult<()> {
        self.vm.get().machine().cpu(self.id)?.set_ready();
        Ok(self.with(|cpu| {
            let mut regs = cpu.vcpu.regs()?;
            how(&mut regs);
            cpu.vcpu.set_regs(&regs);
            Ok(())
        })?)
    }
}

macro_rules! general_registers {
    ($($get:ident $set:ident $which:ident;)+) => {
        #[pymethods]
        impl Registers {
            $(
                #[doc = concat!("The 64 bits of ", stringify!($which), ".")]
                #[getter]
                fn $get(&self) -> PyResult<u64> {
                    self.get(Gpr::$which)
                }

                #[setter]
                fn $set(&self, value: u64) -> PyResult<()> {
                    self.set(Gpr::$which, value)
                }
            )+
        }
    };
}

general_registers! {
    rax set_rax Rax; rbx set_rbx Rbx; rcx set_rcx Rcx; rdx set_rdx Rdx;
    rsi set_rsi Rsi; rdi set_rdi Rdi; rsp set_rsp Rsp; rbp set_rbp Rbp;
    r8 set_r8 R8; r9 set_r9 R9; r10 set_r10 R10; r11 set_r11 R11;
    r12 set_r12 R12; r13 set_r13 R13; r14 set_r14 R14; r15 set_r15 R15;
    rip set_rip Rip; rflags set_rflags Rflags;
}

#[pymethods]
impl Registers {
    /// The names, in the order of read() and write().
    #[classattr]
    #[pyo3(name = "NAMES")]
    fn names() -> Vec<&'static str> {
        Regs::NAMES.to_vec()
    }

    fn __getitem__(&self, name: &str) -> PyResult<u64> {
        let at = position(name)?;
        Ok(self.with(|cpu| Ok(cpu.vcpu.regs()?.words[at]))?)
    }

    fn __setitem__(&self, name: &str, value: u64) -> PyResult<()> {
        let at = position(name)?;
        self.change(|regs| regs.words[at] = value)
    }

    /// All 18 values at once, in the order of NAMES.
    #[pyo3(signature = () -> "tuple[int, ...]")]
    fn read<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let regs = self.with(|cpu| cpu.vcpu.regs())?;
        PyTuple::new(py, regs.words)
    }

    /// Sets all 18 values at once, in the order of NAMES.
    fn write(&self, values: [u64; Regs::COUNT]) -> PyResult<()> {
        self.change(|regs| regs.words = values)
    }

    /// All values by name, as a copy.
    #[pyo3(signature = () -> "dict[str, int]")]
    fn as_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (regs, dict) = (self.with(|cpu| cpu.vcpu.regs())?, PyDict::new(py));
        for (name, value) in Regs::NAMES.iter().zip(regs.words) {
            dict.set_item(name, value)?;
        }
        Ok(dict)
    }

    /// Sets some registers by name: `regs.update(rax=1, rip=0x1000)`.
    #[pyo3(signature = (**values: "int"))]
    fn update(&self, values: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let Some(values) = values else { return Ok(()) };
        let mut new = Vec::new();
        for (name, value) in values.iter() {
            let name: String = name.extract()?;
            new.push((position(&name)?, value.extract()?));
        }
        self.change(|regs| new.iter().for_each(|(at, value)| regs.words[*at] = *value))
    }

    fn __repr__(&self) -> String {
        let Ok(regs) = self.with(|cpu| cpu.vcpu.regs()) else { return "<Registers of a running or closed VM>".into() };
        let cells: Vec<_> = Regs::NAMES.iter().zip(regs.words).map(|(n, v)| format!("{n:>6} {v:016x}")).collect();
        cells.chunks(3).map(|row| row.join("  ")).collect::<Vec<_>>().join("\n")
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.vm)
    }
}

/// Where a register is in the order of NAMES. KeyError for a name that is none.
fn position(name: &str) -> PyResult<usize> {
    let at = Regs::NAMES.iter().position(|n| *n == name);
    at.ok_or_else(|| {
        PyKeyError::new_err(format!("no register is named {name:?}; there are {}", Regs::NAMES.join(", ")))
    })
}

/// The model-specific registers of one vCPU, by name or number. KeyError for one that it does not have.
#[pyclass(frozen, module = "belljar")]
pub struct Msrs {
    vm: Py<VM>,
    id: u32,
}

impl Msrs {
    pub(super) fn new(vm: Py<VM>, id: u32) -> Self {
        Self { vm, id }
    }
}

#[pymethods]
impl Msrs {
    fn __getitem__(&self, which: &Bound<'_, PyAny>) -> PyResult<u64> {
        let index = msr_number(which)?;
        let value = self.vm.get().machine().read_msr(self.id, index)?;
        value.ok_or_else(|| PyKeyError::new_err(format!("this vCPU has no MSR {index:#x}")))
    }

    fn __setitem__(&self, which: &Bound<'_, PyAny>, value: u64) -> PyResult<()> {
        let index = msr_number(which)?;
        let slot = self.vm.get().machine().cpu(self.id)?;
        if slot.with(|cpu| cpu.vcpu.set_msr(index, value))? {
            return Ok(());
        }
        let name = msr::name(index).unwrap_or("an unnamed one");
        Err(PyValueError::new_err(format!("this vCPU refuses {value:#x} for MSR {index:#x} ({name})")))
    }

    /// The names that belljar knows, with their numbers.
    #[staticmethod]
    #[pyo3(signature = () -> "dict[str, int]")]
    fn names(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let dict = PyDict::new(py);
        msr::NAMES.iter().try_for_each(|(name, number)| dict.set_item(name, number))?;
        Ok(dict)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.vm)
    }
}
