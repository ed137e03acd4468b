//! Steal time while a guest is stepped. KVM writes it anew with each entry, so that a guest which reads it one instruction at a
//! time finds it changed, and tries again, for ever. It never keeps what the guest has set up itself meanwhile.

use crate::error::Result;

use super::Run;

/// `MSR_KVM_STEAL_TIME`, and the bit that has KVM write (Linux, Documentation/virt/kvm/x86/msr.rst).
const STEAL_TIME: u32 = 0x4b56_4d03;
const ENABLED: u64 = 1;

impl Run<'_> {
    /// Has KVM write no steal time while each instruction is stepped, and again when that is over.
    pub(super) fn look_after_steal_time(&mut self, steps: bool) -> Result<()> {
        match (steps, self.debug.steal) {
            (true, None) => {
                let set = self.vcpu().msr(STEAL_TIME)?.unwrap_or(0);
                self.debug.steal = Some(set);
                self.set_steal_time(set, set & !ENABLED)
            }
            (false, Some(set)) => {
                self.debug.steal = None;
                self.set_steal_time(set & !ENABLED, set)
            }
            _ => Ok(()),
        }
    }

    fn set_steal_time(&mut self, from: u64, to: u64) -> Result<()> {
        if from != to && self.vcpu().msr(STEAL_TIME)? == Some(from) {
            self.vcpu().set_msr(STEAL_TIME, to)?;
        }
        Ok(())
    }
}
