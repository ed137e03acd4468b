//! The class `VCPU`: one vCPU's state for Python, live. It never caches a value.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use crate::error::{Error, Result as CoreResult};
use crate::machine::{Machine, Slot};
use crate::x86::{self, Gpr, MOST_CR8, Sregs, disassemble};

use super::address::{Count, Fitting, Spot};
use super::decode::{listing, names};
use super::exit::of_vm;
use super::msrs::Msrs;
use super::regs::Registers;
use super::running::{detached, limits, poll};
use super::segment::Segment;
use super::typed::DescriptorTable;
use super::virtual_memory::VirtualMemory;
use super::vm::VM;

/// One vCPU. Its state may be read and written while the VM is stopped, and in handlers of its own exits.
#[pyclass(frozen, name = "VCPU", module = "belljar")]
pub struct Vcpu {
    vm: Py<VM>,
    id: u32,
}

impl Vcpu {
    pub(super) fn new(vm: Py<VM>, id: u32) -> Self {
        Self { vm, id }
    }

    pub(super) fn vm(&self) -> &Py<VM> {
        &self.vm
    }

    pub(super) fn machine(&self) -> &Machine {
        self.vm.get().machine()
    }

    pub(super) fn number(&self) -> u32 {
        self.id
    }

    pub(super) fn slot(&self) -> CoreResult<&Slot> {
        self.machine().cpu(self.id)
    }

    pub(super) fn sregs(&self) -> CoreResult<Sregs> {
        self.slot()?.with(|cpu| cpu.vcpu.sregs())
    }

    pub(super) fn change(&self, how: impl FnOnce(&mut Sregs)) -> PyResult<()> {
        let slot = self.slot()?;
        slot.set_ready();
        Ok(slot.with(|cpu| {
            let mut sregs = cpu.vcpu.sregs()?;
            how(&mut sregs);
            if sregs.cr8 > MOST_CR8 {
                return Err(Error::Invalid(format!("CR8 is 0 to {MOST_CR8}, not {:#x}", sregs.cr8)));
            }
            cpu.vcpu.set_sregs(&sregs);
            Ok(())
        })?)
    }
}

fn table(py: Python<'_>, table: x86::DescriptorTable) -> PyResult<DescriptorTable<'_>> {
    DescriptorTable::of(py, "_make", ((table.base, table.limit),))
}

macro_rules! control_registers {
    ($($get:ident $set:ident $doc:literal;)+) => {
        #[pymethods]
        impl Vcpu {
            $(
                #[doc = $doc]
                #[getter]
                fn $get(&self) -> PyResult<u64> {
                    Ok(self.sregs()?.$get)
                }

                #[setter]
                fn $set(&self, value: Fitting<u64>) -> PyResult<()> {
                    self.change(|s| s.$get = value.0)
                }
            )+
        }
    };
}

control_registers! {
    cr2 set_cr2 "CR2: the linear address of the last page fault.";
    cr3 set_cr3 "CR3: guest-physical address of the root page table.";
    apic_base set_apic_base "The APIC base MSR.";
}

macro_rules! segments {
    ($($get:ident $set:ident $doc:literal;)+) => {
        #[pymethods]
        impl Vcpu {
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
impl Vcpu {
    /// The vCPU's number, from 0 on.
    #[getter]
    fn id(&self) -> u32 {
        self.id
    }

    /// The general registers, RIP and RFLAGS, live.
    #[getter]
    fn regs(&self, py: Python<'_>) -> Registers {
        Registers::new(self.vm.clone_ref(py), self.id)
    }

    /// Model-specific registers by name or number: `cpu.msr["LSTAR"]`, `cpu.msr[0x10]`.
    #[getter]
    fn msr(&self, py: Python<'_>) -> Msrs {
        Msrs::new(self.vm.clone_ref(py), self.id)
    }

    /// GDTR: its base and limit.
    #[getter]
    fn gdt<'py>(&self, py: Python<'py>) -> PyResult<DescriptorTable<'py>> {
        table(py, self.sregs()?.gdt)
    }

    #[setter]
    fn set_gdt(&self, value: (Fitting<u64>, Fitting<u16>)) -> PyResult<()> {
        self.change(|s| (s.gdt.base, s.gdt.limit) = (value.0.0, value.1.0))
    }

    /// IDTR: its base and limit.
    #[getter]
    fn idt<'py>(&self, py: Python<'py>) -> PyResult<DescriptorTable<'py>> {
        table(py, self.sregs()?.idt)
    }

    #[setter]
    fn set_idt(&self, value: (Fitting<u64>, Fitting<u16>)) -> PyResult<()> {
        self.change(|s| (s.idt.base, s.idt.limit) = (value.0.0, value.1.0))
    }

    /// The privilege level, 0 to 3.
    #[getter]
    fn cpl(&self) -> PyResult<u8> {
        Ok(self.sregs()?.cpl())
    }

    /// The next `count` instructions at the instruction pointer, as far as they are mapped, with the names in vm.symbols, or those
    /// of the Linux kernel once vm.linux has been asked for.
    ///
    /// With `at`, a virtual address or a symbol ("do_exit+0x10"), those that lie there, as virtual.disasm(at, count) gives.
    #[pyo3(signature = (count = Count(1), *, at = None) -> "list[Instruction]", text_signature = "($self, count=1, *, at=None)")]
    fn disasm<'py>(&self, py: Python<'py>, count: Count, at: Option<Spot<'py>>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(at) = at {
            return VirtualMemory::following(self.vm.clone_ref(py), self.id).disasm(py, at, count, None, None);
        }
        let count = count.0;
        let (rip, found) = py.detach(|| -> CoreResult<_> {
            let rip = self.slot()?.with(|cpu| cpu.vcpu.regs())?[Gpr::Rip];
            let (code, bits) = self.vm.get().machine().code_at(self.id, rip, count.saturating_mul(15).min(1 << 16))?;
            Ok((rip, disassemble(&code, rip, bits, count)?))
        })?;
        let symbols = names(self.vm.bind(py))?;
        listing(py, found, Some(rip), Some(&symbols))
    }

    /// Runs this vCPU alone, on this thread: as VM.run.
    #[pyo3(signature = (timeout = None, max_exits = None, *, until: "type[Exit] | tuple[type[Exit], ...] | Expression | Callable[[Exit | None], object] | None" = None) -> "Exit")]
    fn run(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        max_exits: Option<Fitting<u64>>,
        until: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let limits = limits(self.vm.bind(py), timeout, max_exits, until)?;
        let (vcpu, exit) = detached(py, || self.vm.get().machine().run_these(&[self.id], limits, &poll))?;
        of_vm(self.vm.bind(py), &exit, vcpu)
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
            Err(Error::Running { .. }) => format!("<VCPU {}, running>", self.id),
            Err(error) => format!("<VCPU {}: {error}>", self.id),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.vm)
    }
}
