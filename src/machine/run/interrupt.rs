//! Interrupts that wait to be injected, and what a halt means then. It never decides which interrupts there are.

use crate::error::Result;
use crate::exit::{Exit, Reply};

use super::Run;

impl Run<'_> {
    /// Injects what waits and can be taken now; for the rest, has KVM say when the guest can take it.
    pub(super) fn inject(&mut self) -> Result<()> {
        let injections = &self.slot.injections;
        let vcpu = &mut self.lease.cpu().vcpu;
        if injections.take_nmi() {
            vcpu.nmi()?;
        }
        if injections.has_interrupts() && vcpu.takes_interrupts() {
            injections.next_interrupt().map_or(Ok(()), |vector| vcpu.interrupt(vector))?;
        }
        vcpu.request_interrupt_window(injections.has_interrupts());
        Ok(())
    }

    /// HLT without a local APIC in the kernel: it ends at once if an interrupt waits that the guest takes.
    pub(super) fn halted(&mut self) -> Result<(Exit, bool)> {
        let reply = self.consult(&Exit::Hlt)?;
        let wakes =
            self.slot.injections.has_nmi() || self.slot.injections.has_interrupts() && self.vcpu().takes_interrupts();
        Ok((Exit::Hlt, reply == Reply::Stop || reply != Reply::Skip && !wakes))
    }
}
