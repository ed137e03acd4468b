//! Exceptions of a guest in `user` mode: what its ring-0 handlers report, as a value.
//! It never runs the guest; afterwards the vCPU is back in ring 3, where the exception happened.

use crate::addr::{GuestPhys, Span};
use crate::boot::bare::SHIM_PORT;
use crate::error::{Error, Result};
use crate::exit::Exception;
use crate::memory::Memory;
use crate::source::ReadMemory;
use crate::x86::segment::kind;
use crate::x86::{Gpr, Segment, exception};

use super::cpu::Cpu;

/// The port at which those handlers report is not for shortcuts: it would report nothing any more.
pub(super) fn refuse_shim(is_port: bool, span: Span) -> Result<()> {
    let with = u64::from(SHIM_PORT);
    if is_port && span.contains(with) {
        let (at, len) = (span.first, span.last - span.first + 1);
        return Err(Error::Overlap { at, len, with, what: "the port that reports exceptions of mode=\"user\"," });
    }
    Ok(())
}

impl Cpu {
    /// May an access to `port` report an exception?
    pub(super) fn may_report(&self, port: u16) -> bool {
        port == SHIM_PORT && self.shim.is_some()
    }

    /// The exception that an access to `port` reports; `None` if the access was the guest's own.
    pub(super) fn ring3_exception(&mut self, port: u16, memory: &Memory) -> Result<Option<Exception>> {
        if port != SHIM_PORT {
            return Ok(None);
        }
        let Self { vcpu, shim: Some(shim), .. } = self else { return Ok(None) };
        let (mut regs, mut sregs) = (vcpu.regs()?, vcpu.sregs()?);
        let Some(vector) = shim.vector(regs[Gpr::Rip]).filter(|_| sregs.cpl() == 0) else { return Ok(None) };
        let mut frame = regs[Gpr::Rsp];
        let mut pop = || {
            let word = memory.read_u64(GuestPhys(frame));
            frame = frame.wrapping_add(8);
            word
        };
        let error_code = exception::has_error_code(vector).then(&mut pop).transpose()?;
        let error_code = error_code.and_then(|code| u32::try_from(code & 0xffff_ffff).ok());
        let [rip, cs, rflags, rsp, ss] = [pop()?, pop()?, pop()?, pop()?, pop()?];
        (regs[Gpr::Rip], regs[Gpr::Rflags], regs[Gpr::Rsp]) = (rip, rflags, rsp);
        let selector = |word: u64| u16::try_from(word & 0xffff).unwrap_or(0);
        sregs.cs = Segment::long_code(selector(cs), 3);
        sregs.ss = Segment::flat(selector(ss), kind::DATA, 3);
        vcpu.set_regs(&regs);
        vcpu.set_sregs(&sregs);
        Ok(Some(Exception { vector, error_code, rip, cr2: sregs.cr2 }))
    }
}
