//! What is done where KVM could not go on: its report, and the instruction in its place. It never asks a handler.

use crate::error::Result;
use crate::exit::InternalError;
use crate::x86::Gpr;

use super::{Cpu, Run};

impl Run<'_> {
    pub(super) fn describe(&mut self, suberror: u32, data: Vec<u64>, instruction: Vec<u8>) -> Result<InternalError> {
        let vcpu = self.vcpu();
        let (rip, bits) = (vcpu.regs()?[Gpr::Rip], vcpu.sregs()?.code_bits());
        Ok(InternalError { suberror, data, instruction, rip, bits })
    }

    pub(super) fn repair(&mut self, error: &InternalError) -> Result<bool> {
        if error.suberror != InternalError::EMULATION {
            return Ok(false);
        }
        let Cpu { vcpu, repair, .. } = self.lease.cpu();
        repair.instruction(vcpu, &self.machine.memory, error)
    }
}
