//! Registers of named bits: CR0, CR4, EFER, RFLAGS, DR6, DR7, XCR0, and the debug addresses beside them.
//! It never knows which bit is which: `belljar.bits` does.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::x86::{DebugRegs, Gpr, valid};

use super::address::Fitting;
use super::typed::{CR0, CR4, DR6, DR7, EFER, RFLAGS, XCR0};
use super::vcpu::Vcpu;

impl Vcpu {
    fn debug(&self, at: usize) -> PyResult<u64> {
        Ok(self.slot()?.with(|cpu| Ok(cpu.vcpu.debug_regs()?.words[at]))?)
    }

    fn set_debug(&self, at: usize, value: u64) -> PyResult<()> {
        Ok(self.slot()?.with(|cpu| {
            let mut regs: DebugRegs = cpu.vcpu.debug_regs()?;
            regs.words[at] = value;
            cpu.vcpu.set_debug_regs(&regs)
        })?)
    }
}

#[pymethods]
impl Vcpu {
    /// CR0: protection, paging, write protect, by name (Intel SDM vol. 3, 2.5): `cpu.cr0.wp = False`.
    #[getter]
    fn cr0<'py>(slf: &Bound<'py, Self>) -> PyResult<CR0<'py>> {
        CR0::of(slf.py(), "_of", (slf.get().sregs()?.cr0, slf))
    }

    #[setter]
    fn set_cr0(&self, value: Fitting<u64>) -> PyResult<()> {
        valid::cr0(value.0)?;
        self.change(|s| s.cr0 = value.0)
    }

    /// CR4: extensions, by name (Intel SDM vol. 3, 2.5).
    #[getter]
    fn cr4<'py>(slf: &Bound<'py, Self>) -> PyResult<CR4<'py>> {
        CR4::of(slf.py(), "_of", (slf.get().sregs()?.cr4, slf))
    }

    #[setter]
    fn set_cr4(&self, value: Fitting<u64>) -> PyResult<()> {
        valid::cr4(value.0)?;
        self.change(|s| s.cr4 = value.0)
    }

    /// EFER: long mode, NX, SYSCALL, by name (AMD APM vol. 2, 3.1.7).
    #[getter]
    fn efer<'py>(slf: &Bound<'py, Self>) -> PyResult<EFER<'py>> {
        EFER::of(slf.py(), "_of", (slf.get().sregs()?.efer, slf))
    }

    #[setter]
    fn set_efer(&self, value: Fitting<u64>) -> PyResult<()> {
        valid::efer(value.0)?;
        self.change(|s| s.efer = value.0)
    }

    /// RFLAGS by name: `cpu.rflags.zf`. The plain integer is `cpu.regs.rflags`.
    #[getter]
    fn rflags<'py>(slf: &Bound<'py, Self>) -> PyResult<RFLAGS<'py>> {
        let regs = slf.get().slot()?.with(|cpu| cpu.vcpu.regs())?;
        RFLAGS::of(slf.py(), "_of", (regs[Gpr::Rflags], slf))
    }

    #[setter]
    fn set_rflags(&self, value: Fitting<u64>) -> PyResult<()> {
        let slot = self.slot()?;
        slot.set_ready();
        Ok(slot.with(|cpu| {
            let mut regs = cpu.vcpu.regs()?;
            regs[Gpr::Rflags] = value.0;
            cpu.vcpu.set_regs(&regs);
            Ok(())
        })?)
    }

    /// DR6: what the last debug exception was for, by name (Intel SDM vol. 3, 18.2.3).
    #[getter]
    fn dr6<'py>(slf: &Bound<'py, Self>) -> PyResult<DR6<'py>> {
        DR6::of(slf.py(), "_of", (slf.get().debug(4)?, slf))
    }

    #[setter]
    fn set_dr6(&self, value: Fitting<u64>) -> PyResult<()> {
        self.set_debug(4, value.0)
    }

    /// CR8: task priority, 0 to 15. ValueError for another value.
    #[getter]
    fn cr8(&self) -> PyResult<u64> {
        Ok(self.sregs()?.cr8)
    }

    #[setter]
    fn set_cr8(&self, value: Fitting<u64>) -> PyResult<()> {
        let value = value.0;
        if value > 15 {
            return Err(PyValueError::new_err(format!("CR8 is 0 to 15, not {value}"))); // KVM_RUN would fail
        }
        self.change(|sregs| sregs.cr8 = value)
    }

    /// DR7: which of the guest's own breakpoints are on, by name (Intel SDM vol. 3, 18.2.4): `cpu.dr7.l0 = True`.
    #[getter]
    fn dr7<'py>(slf: &Bound<'py, Self>) -> PyResult<DR7<'py>> {
        DR7::of(slf.py(), "_of", (slf.get().debug(5)?, slf))
    }

    #[setter]
    fn set_dr7(&self, value: Fitting<u64>) -> PyResult<()> {
        self.set_debug(5, value.0)
    }

    /// XCR0: the state components that XSAVE handles, by name (Intel SDM vol. 1, 13.3): `cpu.xcr0.avx`.
    #[getter]
    fn xcr0<'py>(slf: &Bound<'py, Self>) -> PyResult<XCR0<'py>> {
        let value = slf.get().slot()?.with(|cpu| cpu.vcpu.xcr0())?;
        XCR0::of(slf.py(), "_of", (value, slf))
    }

    #[setter]
    fn set_xcr0(&self, value: Fitting<u64>) -> PyResult<()> {
        valid::xcr0(value.0)?;
        Ok(self.slot()?.with(|cpu| cpu.vcpu.set_xcr0(value.0))?)
    }
}

macro_rules! debug_addresses {
    ($($get:ident $set:ident $at:literal;)+) => {
        #[pymethods]
        impl Vcpu {
            $(
                #[doc = concat!("DR", $at, ": the linear address of the guest's own breakpoint ", $at, ".")]
                #[getter]
                fn $get(&self) -> PyResult<u64> {
                    self.debug($at)
                }

                #[setter]
                fn $set(&self, value: Fitting<u64>) -> PyResult<()> {
                    self.set_debug($at, value.0)
                }
            )+
        }
    };
}

debug_addresses! { dr0 set_dr0 0; dr1 set_dr1 1; dr2 set_dr2 2; dr3 set_dr3 3; }
