//! The writes that KVM has queued, handed out before the exit that comes after them. They never answer it.

use crate::error::Result;
use crate::kvm::Entered;
use crate::machine::Machine;

use super::{Next, Run};

impl Run<'_> {
    /// Answers one return of `KVM_RUN`, after the writes that KVM has queued before.
    pub(super) fn answer_in_order(&mut self, entered: Entered) -> Result<Next> {
        if !self.machine.zones.are_some() {
            return self.answer(entered);
        }
        let handed = self.hand_out_writes();
        self.has_failed |= handed.is_err(); // the exit is answered as if there were no handlers
        let next = self.answer(entered);
        handed.and(next)
    }

    /// Empties the ring of queued writes, and hands them to whoever is to have them, the vCPU being put back meanwhile.
    #[cold]
    fn hand_out_writes(&mut self) -> Result<()> {
        let zones = self.machine.empty_ring();
        if zones.is_empty() {
            return Ok(());
        }
        let Self { lease, watch, .. } = self;
        watch.handler(|| lease.lend(|| Machine::hand_out(&zones)))
    }
}
