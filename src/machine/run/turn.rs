//! One turn of a vCPU: into the guest, out of it, and what comes of that. It never decides what a debugger prepares.

use crate::error::Result;
use crate::kvm::Entered;

use super::{Next, Run};

/// How a run goes on after its preparation.
pub(super) enum Prepared {
    /// Into the guest.
    Enter,
    /// It has been there: this is what came out.
    Entered(Entered),
    /// It has been answered.
    Done(Next),
}

impl Run<'_> {
    /// One entry of the guest, and what comes of it.
    pub(super) fn turn(&mut self) -> Result<Next> {
        if self.is_debugged() {
            return self.debugged_turn();
        }
        self.watch.entering();
        let entered = self.enter_guest();
        self.watch.left();
        self.answer_in_order(entered?)
    }

    /// The same, where something is to be prepared before, or to be looked at after.
    #[cold]
    fn debugged_turn(&mut self) -> Result<Next> {
        let prepared = self.prepare()?;
        self.watch.entering();
        let entered = match prepared {
            Prepared::Enter => self.enter_guest(),
            Prepared::Entered(entered) => Ok(entered),
            Prepared::Done(next) => return Ok(next),
        };
        self.watch.left();
        let entered = entered?;
        if let Some(next) = self.debug_exit(&entered)? {
            return Ok(next);
        }
        let next = self.answer_in_order(entered)?;
        if self.pending && self.debug.steps() && matches!(next, Next::Go) {
            self.complete_step()?;
        }
        Ok(next)
    }

    /// Is there anything to prepare before an entry, or to look at after one?
    pub(super) fn is_debugged(&self) -> bool {
        self.debug.is_on || self.debug.generation != self.machine.points.generation()
    }

    /// Enters the guest, unless another vCPU is to be alone there.
    pub(super) fn enter_guest(&mut self) -> Result<Entered> {
        let (world, id) = (&self.machine.world, self.slot.id);
        if !world.enter(id) {
            return Ok(Entered::Interrupted);
        }
        let entered = self.lease.cpu().vcpu.enter();
        world.leave(id);
        entered
    }

    /// Completes an access inside KVM, unless another vCPU is to be alone: it looks at memory, as the guest does.
    pub(super) fn complete_inside(&mut self) -> Result<Entered> {
        let (world, id) = (&self.machine.world, self.slot.id);
        while !world.enter(id) {}
        let entered = self.lease.cpu().vcpu.complete();
        world.leave(id);
        entered
    }
}
