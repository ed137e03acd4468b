//! The classes `VCPU`, `Registers` and `Msrs`: one vCPU's state for Python, live. They never cache a value.

use pyo3::exceptions::{PyAttributeError, PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::error::Result as CoreResult;
use crate::machine::{Cpu, Slot};
use crate::x86::{DescriptorTable, Gpr, Regs, Segment as CoreSegment, Sregs, disassemble, msr};

use super::decode::Instruction;
use super::exit::{msr_number, to_python};
use super::vm::{VM, poll, seconds};

/// One vCPU. Its state may be read and written while the VM is stopped, and in handlers of its own exits.
#[pyclass(frozen, name = "VCPU", module = "belljar")]
pub struct VCPU {
    vm: Py<VM>,
    id: u32,
}

impl VCPU {
    pub(super) fn new(vm: Py<VM>, id: u32) -> Self {
        Self { vm, id }
    }

    fn slot(&self) -> CoreResult<&Slot> {
        self.vm.get().machine().cpu(self.id)
    }

    fn sregs(&self) -> CoreResult<Sregs> {
        self.slot()?.with(|cpu| cpu.vcpu.sregs())
    }

    fn change(&self, how: impl FnOnce(&mut Sregs)) -> PyResult<()> {
        let slot = self.slot()?;
        slot.set_ready();
        Ok(slot.with(|cpu| {
            let mut sregs = cpu.vcpu.sregs()?;
            how(&mut sregs);
            cpu.vcpu.set_sregs(&sregs);
            Ok(())
        })?)
    }
}

macro_rules! control_registers {
    ($($get:ident $set:ident $doc:literal;)+) => {
        #[pymethods]
        impl VCPU {
            $(
                #[doc = $doc]
                #[getter]
                fn $get(&self) -> PyResult<u64> {
                    Ok(self.sregs()?.$get)
                }

                #[setter]
                fn $set(&self, value: u64) -> PyResult<()> {
                    self.change(|s| s.$get = value)
                }
            )+
        }
    };
}

control_registers! {
    cr0 set_cr0 "CR0: protection, paging, write protect (Intel SDM vol. 3, 2.5).";
    cr2 set_cr2 "CR2: the linear address of the last page fault.";
    cr3 set_cr3 "CR3: guest-physical address of the root page table.";
    cr4 set_cr4 "CR4: extensions (Intel SDM vol. 3, 2.5).";
    cr8 set_cr8 "CR8: task priority, 0 to 15.";
    efer set_efer "EFER: long mode, NX, SYSCALL (AMD APM vol. 2, 3.1.7).";
    apic_base set_apic_base "The APIC base MSR.";
}

macro_rules! segments {
    ($($get:ident $set:ident $doc:literal;)+) => {
        #[pymethods]
        impl VCPU {
            $(
                #[doc = $doc]
                #[getter]
                fn $get(&self) -> PyResult<Segment> {
                    Ok(Segment(self.sregs()?.$get))
                }

                #[setter]
                fn $set(&self, value: &Bound<'_, Segment>) -> PyResult<()> {
                    let segment = value.get().0;
                    self.change(|s| s.$get = segment)
                }
            )+
        }
    };
}

segments! {
    cs set_cs "The code segment, hidden part included.";
    ds set_ds "The data segment DS.";
    es set_es "The data segment ES.";
    fs set_fs "The data segment FS.";
    gs set_gs "The data segment GS.";
    ss set_ss "The stack segment; its dpl is the privilege level.";
    tr set_tr "The task register.";
    ldt set_ldt "The local descriptor table register.";
}

#[pymethods]
impl VCPU {
    /// The vCPU's number, from 0 on.
    #[getter]
    fn id(&self) -> u32 {
        self.id
    }

    /// The general registers, RIP and RFLAGS, live.
    #[getter]
    fn regs(&self, py: Python<'_>) -> Registers {
        Registers { vm: self.vm.clone_ref(py), id: self.id }
    }

    /// Model-specific registers by name or number: `cpu.msr["LSTAR"]`, `cpu.msr[0x10]`.
    #[getter]
    fn msr(&self, py: Python<'_>) -> Msrs {
        Msrs { vm: self.vm.clone_ref(py), id: self.id }
    }

    /// GDTR as (base, limit).
    #[getter]
    fn gdt(&self) -> PyResult<(u64, u16)> {
        let table = self.sregs()?.gdt;
        Ok((table.base, table.limit))
    }

    #[setter]
    fn set_gdt(&self, value: (u64, u16)) -> PyResult<()> {
        self.change(|s| s.gdt = DescriptorTable { base: value.0, limit: value.1, ..s.gdt })
    }

    /// IDTR as (base, limit).
    #[getter]
    fn idt(&self) -> PyResult<(u64, u16)> {
        let table = self.sregs()?.idt;
        Ok((table.base, table.limit))
    }

    #[setter]
    fn set_idt(&self, value: (u64, u16)) -> PyResult<()> {
        self.change(|s| s.idt = DescriptorTable { base: value.0, limit: value.1, ..s.idt })
    }

    /// The privilege level, 0 to 3.
    #[getter]
    fn cpl(&self) -> PyResult<u8> {
        Ok(self.sregs()?.cpl())
    }

    /// The next `count` instructions at the instruction pointer, as far as they are mapped.
    #[pyo3(signature = (count = 1))]
    fn disasm(&self, py: Python<'_>, count: usize) -> PyResult<Vec<Instruction>> {
        let found = py.detach(|| {
            let rip = self.slot()?.with(|cpu| cpu.vcpu.regs())?[Gpr::Rip];
            let (code, bits) = self.vm.get().machine().code_at(self.id, rip, count.saturating_mul(15).min(1 << 16))?;
            disassemble(&code, rip, bits, count)
        })?;
        Ok(found.into_iter().map(Instruction).collect())
    }

    /// Runs this vCPU alone, on this thread: as VM.run.
    #[pyo3(signature = (timeout = None, max_exits = None))]
    fn run(&self, py: Python<'_>, timeout: Option<f64>, max_exits: Option<u64>) -> PyResult<Py<PyAny>> {
        let timeout = seconds("timeout", timeout)?;
        let (vcpu, exit) = py.detach(|| self.vm.get().machine().run_these(&[self.id], timeout, max_exits, &poll))?;
        to_python(py, &exit, vcpu)
    }

    /// How many ioctls were spent on registers since the vCPU was made. In handlers that is one at the first look
    /// of all: from then on registers go through the area that KVM synchronises (KVM_CAP_SYNC_REGS).
    #[getter]
    fn register_ioctls(&self) -> PyResult<u64> {
        Ok(self.slot()?.with(|cpu| Ok(cpu.vcpu.register_ioctls()))?)
    }

    fn __repr__(&self) -> String {
        match self.slot().and_then(|s| s.with(|cpu| Ok((cpu.vcpu.regs()?, cpu.vcpu.sregs()?)))) {
            Ok((regs, sregs)) => {
                let width = sregs.code_bits();
                format!("<VCPU {} at {:#x}, {width} bits, ring {}>", self.id, regs[Gpr::Rip], sregs.cpl())
            }
            Err(error) => format!("<VCPU {}: {error}>", self.id),
        }
    }
}

/// The general registers, RIP and RFLAGS of one vCPU, live: reading asks the vCPU, writing sets it.
#[pyclass(frozen, module = "belljar")]
pub struct Registers {
    vm: Py<VM>,
    id: u32,
}

impl Registers {
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
    fn names(py: Python<'_>) -> PyResult<Py<PyTuple>> {
        Ok(PyTuple::new(py, Regs::NAMES)?.unbind())
    }

    /// All 18 values at once, in the order of NAMES.
    fn read<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let regs = self.with(|cpu| cpu.vcpu.regs())?;
        PyTuple::new(py, regs.words)
    }

    /// Sets all 18 values at once, in the order of NAMES.
    fn write(&self, values: [u64; Regs::COUNT]) -> PyResult<()> {
        self.change(|regs| regs.words = values)
    }

    /// All values by name, as a copy.
    fn as_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (regs, dict) = (self.with(|cpu| cpu.vcpu.regs())?, PyDict::new(py));
        for (name, value) in Regs::NAMES.iter().zip(regs.words) {
            dict.set_item(name, value)?;
        }
        Ok(dict)
    }

    /// Sets some registers by name: `regs.update(rax=1, rip=0x1000)`.
    #[pyo3(signature = (**values))]
    fn update(&self, values: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let Some(values) = values else { return Ok(()) };
        let mut new = Vec::new();
        for (name, value) in values.iter() {
            let name: String = name.extract()?;
            let at = Regs::NAMES.iter().position(|n| *n == name);
            let at = at.ok_or_else(|| PyAttributeError::new_err(format!("there is no register {name}")))?;
            new.push((at, value.extract()?));
        }
        self.change(|regs| new.iter().for_each(|(at, value)| regs.words[*at] = *value))
    }

    fn __repr__(&self) -> String {
        let Ok(regs) = self.with(|cpu| cpu.vcpu.regs()) else { return "<Registers of a running or closed VM>".into() };
        let cells: Vec<_> = Regs::NAMES.iter().zip(regs.words).map(|(n, v)| format!("{n:>6} {v:016x}")).collect();
        cells.chunks(3).map(|row| row.join("  ")).collect::<Vec<_>>().join("\n")
    }
}

/// The model-specific registers of one vCPU, by name or number. KeyError for one that it does not have.
#[pyclass(frozen, module = "belljar")]
pub struct Msrs {
    vm: Py<VM>,
    id: u32,
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
    fn names(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let dict = PyDict::new(py);
        msr::NAMES.iter().try_for_each(|(name, number)| dict.set_item(name, number))?;
        Ok(dict)
    }
}

/// A segment register with its hidden part (Intel SDM vol. 3, 3.4.5).
#[pyclass(frozen, eq, module = "belljar")]
#[derive(Clone, PartialEq, Eq)]
pub struct Segment(CoreSegment);

#[pymethods]
impl Segment {
    #[new]
    #[pyo3(signature = (*, base = 0, limit = 0, selector = 0, r#type = 0, present = true, dpl = 0, db = false, s = true, l = false, g = false, avl = false, unusable = false))]
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)] // the fields of the register
    fn new(
        base: u64,
        limit: u32,
        selector: u16,
        r#type: u8,
        present: bool,
        dpl: u8,
        db: bool,
        s: bool,
        l: bool,
        g: bool,
        avl: bool,
        unusable: bool,
    ) -> Self {
        let bit = u8::from;
        Self(CoreSegment {
            base,
            limit,
            selector,
            kind: r#type,
            present: bit(present),
            dpl,
            db: bit(db),
            s: bit(s),
            l: bit(l),
            g: bit(g),
            avl: bit(avl),
            unusable: bit(unusable),
            padding: 0,
        })
    }

    /// Linear address of the first byte.
    #[getter]
    fn base(&self) -> u64 {
        self.0.base
    }

    /// The last byte's offset.
    #[getter]
    fn limit(&self) -> u32 {
        self.0.limit
    }

    /// The visible part.
    #[getter]
    fn selector(&self) -> u16 {
        self.0.selector
    }

    /// The descriptor type, 0 to 15.
    #[getter]
    fn r#type(&self) -> u8 {
        self.0.kind
    }

    /// Descriptor privilege level.
    #[getter]
    fn dpl(&self) -> u8 {
        self.0.dpl
    }

    /// 64-bit code.
    #[getter]
    fn l(&self) -> bool {
        self.0.l == 1
    }

    /// 32-bit default operand.
    #[getter]
    fn db(&self) -> bool {
        self.0.db == 1
    }

    /// Present.
    #[getter]
    fn present(&self) -> bool {
        self.0.present == 1
    }

    fn __repr__(&self) -> String {
        let CoreSegment { base, limit, selector, kind, dpl, .. } = self.0;
        format!("Segment(base={base:#x}, limit={limit:#x}, selector={selector:#x}, type={kind:#x}, dpl={dpl})")
    }
}
