//! The class `Registers`: one vCPU's general registers for Python, live. It never caches a value.

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyKeyError, PyOverflowError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::error::Result as CoreResult;
use crate::machine::Cpu;
use crate::x86::{Gpr, Part, Regs};

use super::address::Fitting;
use super::typed::Names;
use super::vm::VM;

/// The general registers, RIP and RFLAGS of one vCPU, live: reading asks the vCPU, writing sets it.
///
/// Also a mapping: `regs["al"]`, `dict(regs)`, `regs.update(kept)`.
#[pyclass(frozen, mapping, module = "belljar")]
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

    pub(super) fn part(&self, name: &str) -> PyResult<u64> {
        let part = part(name)?;
        Ok(part.of(self.with(|cpu| Ok(cpu.vcpu.regs()?.words[part.at]))?))
    }

    pub(super) fn set_part(&self, name: &str, value: u64) -> PyResult<()> {
        let (part, value) = fitting(name, value)?;
        self.change(|regs| put(regs, part, value))
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
    ($($get:ident $set:ident $which:ident $name:literal;)+) => {
        #[pymethods]
        impl Registers {
            $(
                #[doc = concat!($name, ", 64 bits.")]
                #[getter]
                fn $get(&self) -> PyResult<u64> {
                    self.get(Gpr::$which)
                }

                #[setter]
                fn $set(&self, value: Fitting<u64>) -> PyResult<()> {
                    self.set(Gpr::$which, value.0)
                }
            )+
        }
    };
}

general_registers! {
    rax set_rax Rax "RAX";
    rbx set_rbx Rbx "RBX";
    rcx set_rcx Rcx "RCX";
    rdx set_rdx Rdx "RDX";
    rsi set_rsi Rsi "RSI";
    rdi set_rdi Rdi "RDI";
    rsp set_rsp Rsp "RSP";
    rbp set_rbp Rbp "RBP";
    r8 set_r8 R8 "R8";
    r9 set_r9 R9 "R9";
    r10 set_r10 R10 "R10";
    r11 set_r11 R11 "R11";
    r12 set_r12 R12 "R12";
    r13 set_r13 R13 "R13";
    r14 set_r14 R14 "R14";
    r15 set_r15 R15 "R15";
    rip set_rip Rip "RIP";
    rflags set_rflags Rflags "RFLAGS";
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
        self.part(name)
    }

    fn __setitem__(&self, name: &str, value: Fitting<u64>) -> PyResult<()> {
        self.set_part(name, value.0)
    }

    #[allow(clippy::unused_self)] // a method of Python's
    fn __contains__(&self, name: &str) -> bool {
        Part::named(name).is_some()
    }

    #[allow(clippy::unused_self)] // a method of Python's
    fn __len__(&self) -> usize {
        Regs::COUNT
    }

    #[allow(clippy::unused_self)] // a method of Python's
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Names<'py>> {
        Ok(Names(PyList::new(py, Regs::NAMES)?.try_iter()?.into_any()))
    }

    /// The names, as NAMES has them.
    #[allow(clippy::unused_self)] // a method of Python's
    fn keys(&self) -> Vec<&'static str> {
        Regs::NAMES.to_vec()
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

    /// What has changed since the vCPU was last run: name -> (before, now). It includes what Python has set since.
    ///
    /// None where that is not known: it has not run, or nobody looked at its registers before it did. From the first
    /// call on they are kept.
    #[pyo3(signature = () -> "dict[str, tuple[int, int]] | None")]
    fn changed<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let (before, now) = self.with(|cpu| {
            cpu.vcpu.keep_regs_at_begin();
            Ok((cpu.vcpu.regs_at_begin(), cpu.vcpu.regs()?))
        })?;
        let Some(before) = before else { return Ok(None) };
        let dict = PyDict::new(py);
        for (name, (old, new)) in Regs::NAMES.iter().zip(before.words.into_iter().zip(now.words)) {
            if old != new {
                dict.set_item(name, (old, new))?;
            }
        }
        Ok(Some(dict))
    }

    /// Sets some registers by name: `regs.update(rax=1, rip=0x1000)`, or those of a mapping such as `as_dict()` returns.
    #[pyo3(signature = (kept: "dict[str, int] | None" = None, /, **values: "int"))]
    fn update(
        &self,
        py: Python<'_>,
        kept: Option<&Bound<'_, PyAny>>,
        values: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let all = PyDict::new(py);
        if let Some(kept) = kept {
            all.call_method1("update", (kept,))?;
        }
        if let Some(values) = values {
            all.update(values.as_mapping())?;
        }
        let mut new = Vec::new();
        for (name, value) in all.iter() {
            let (name, value): (String, Fitting<u64>) = (name.extract()?, value.extract()?);
            new.push(fitting(&name, value.0)?);
        }
        self.change(|regs| new.iter().for_each(|(part, value)| put(regs, *part, *value)))
    }

    fn __repr__(&self) -> String {
        let Ok((before, now)) = self.with(|cpu| Ok((cpu.vcpu.regs_at_begin(), cpu.vcpu.regs()?))) else {
            return "<Registers of a running or closed VM>".into();
        };
        let mark = |at: usize| if before.is_some_and(|b| b.words[at] != now.words[at]) { '*' } else { ' ' };
        let cell = |(at, name): (usize, &&str)| format!("{name:>6}{}{:016x}", mark(at), now.words[at]);
        let cells: Vec<_> = Regs::NAMES.iter().enumerate().map(cell).collect();
        cells.chunks(3).map(|row| row.join("  ")).collect::<Vec<_>>().join("\n")
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.vm)
    }
}

/// The register, or part of one, of that name. KeyError for a name that is none.
fn part(name: &str) -> PyResult<Part> {
    Part::named(name).ok_or_else(|| {
        PyKeyError::new_err(format!(
            "no register is named {name:?}; there are {}, and their parts (eax, ax, al, ah, r8d, ...)",
            Regs::NAMES.join(", ")
        ))
    })
}

/// A part and a value that fits into it. OverflowError for one that does not.
fn fitting(name: &str, value: u64) -> PyResult<(Part, u64)> {
    let part = part(name)?;
    if value > part.most() {
        return Err(PyOverflowError::new_err(format!("{value:#x} is more than the {} bits of {name}", part.bits)));
    }
    Ok((part, value))
}

fn put(regs: &mut Regs, part: Part, value: u64) {
    regs.words[part.at] = part.merged(regs.words[part.at], value);
}
