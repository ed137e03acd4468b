//! Accesses to MSRs that came to user space: a hook's answer, or what the vCPU itself would do.
//! They never reach a device.

use crate::error::Result;
use crate::exit::{Exit, MsrReason, Reply};
use crate::x86::msr;

use super::{Cpu, Run};

impl Run<'_> {
    pub(super) fn msr_read(&mut self, exit: Exit, index: u32, reason: MsrReason) -> Result<(Exit, bool)> {
        self.pending = true;
        let reply = self.consult(&exit)?;
        let answer = match reply {
            Reply::Value(value) => Some(value),
            Reply::Skip | Reply::Bytes(_) => Some(0),
            Reply::Default | Reply::Stop if reason == MsrReason::Filter => self.vcpu().msr(index)?,
            Reply::Default | Reply::Stop => None,
        };
        self.record_answer(&exit, false, answer);
        self.vcpu().answer_msr(answer);
        self.settle(&exit)?;
        Ok((exit, reply == Reply::Stop))
    }

    pub(super) fn msr_write(&mut self, exit: Exit, index: u32, data: u64, reason: MsrReason) -> Result<(Exit, bool)> {
        self.pending = true;
        let reply = self.consult(&exit)?;
        let accepted = match reply {
            Reply::Skip | Reply::Bytes(_) => true,
            Reply::Value(other) => self.write_msr(index, other)?,
            Reply::Default | Reply::Stop => reason == MsrReason::Filter && self.write_msr(index, data)?,
        };
        self.vcpu().answer_msr(accepted.then_some(data));
        self.settle(&exit)?;
        Ok((exit, reply == Reply::Stop))
    }

    fn write_msr(&mut self, index: u32, data: u64) -> Result<bool> {
        let Cpu { vcpu, repair, .. } = self.lease.cpu();
        if index == msr::LSTAR && repair.wants_lstar() {
            return repair.lstar_written(vcpu, &self.machine.memory, data);
        }
        vcpu.set_msr(index, data)
    }
}
