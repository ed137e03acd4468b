//! Accesses to MSRs that came to user space: a hook's answer, or what the vCPU itself would do.
//! They never reach a device.

use crate::error::Result;
use crate::exit::{Exit, MsrReason, Reply};
use crate::x86::msr;

use super::{Cpu, Run};

impl Run<'_> {
    pub(super) fn msr_read(&mut self, exit: Exit, index: u32, reason: MsrReason) -> Result<(Exit, bool)> {
        self.pending = true;
        let answered = self.consult(&exit).and_then(|reply| Ok((self.msr_data(&reply, index, reason)?, reply)));
        if let Ok((data, _)) = &answered {
            self.record_answer(&exit, false, *data);
        }
        // What a handler that fails leaves unanswered reads as 0.
        self.vcpu().answer_msr(answered.as_ref().map_or(Some(0), |(data, _)| *data));
        let (_, reply) = self.settle_after(&exit, answered)?;
        Ok((exit, reply == Reply::Stop))
    }

    /// What a read gets by `reply`; a #GP where there is nothing.
    fn msr_data(&mut self, reply: &Reply, index: u32, reason: MsrReason) -> Result<Option<u64>> {
        match reply {
            Reply::Value(value) => Ok(Some(*value)),
            Reply::Skip | Reply::Bytes(_) => Ok(Some(0)),
            Reply::Default | Reply::Stop if reason == MsrReason::Filter => self.vcpu().msr(index),
            Reply::Default | Reply::Stop | Reply::Deny => Ok(None),
        }
    }

    pub(super) fn msr_write(&mut self, exit: Exit, index: u32, data: u64, reason: MsrReason) -> Result<(Exit, bool)> {
        self.pending = true;
        let answered = self.consult(&exit).and_then(|reply| Ok((self.msr_taken(&reply, index, data, reason)?, reply)));
        // A write that a handler fails at is dropped.
        let is_taken = answered.as_ref().map_or(true, |(is_taken, _)| *is_taken);
        self.vcpu().answer_msr(is_taken.then_some(data));
        let (_, reply) = self.settle_after(&exit, answered)?;
        Ok((exit, reply == Reply::Stop))
    }

    /// Does what a write comes to by `reply`; false for a #GP.
    fn msr_taken(&mut self, reply: &Reply, index: u32, data: u64, reason: MsrReason) -> Result<bool> {
        match reply {
            Reply::Skip | Reply::Bytes(_) => Ok(true),
            Reply::Deny => Ok(false),
            Reply::Value(other) => self.write_msr(index, *other),
            Reply::Default | Reply::Stop => Ok(reason == MsrReason::Filter && self.write_msr(index, data)?),
        }
    }

    fn write_msr(&mut self, index: u32, data: u64) -> Result<bool> {
        let Cpu { vcpu, repair, .. } = self.lease.cpu();
        if index == msr::LSTAR && repair.wants_lstar() {
            return repair.lstar_written(vcpu, &self.machine.memory, data);
        }
        vcpu.set_msr(index, data)
    }
}
