//! One turn of a vCPU: into the guest, out of it, and what comes of that. It never decides what a debugger prepares.

use crate::error::Result;
use crate::kvm::{Access, Entered, Left};

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
    #[inline]
    pub(super) fn turn(&mut self) -> Result<Next> {
        if self.is_debugged() {
            return self.debugged_turn();
        }
        self.watch.entering();
        let left = self.go();
        self.watch.left();
        if left == Left::Exit
            && let Some(access) = self.single_access()
        {
            return self.single(&access);
        }
        self.other_exit(left)
    }

    #[inline(never)]
    fn other_exit(&mut self, left: Left) -> Result<Next> {
        let entered = self.vcpu().came(left)?;
        self.answer_in_order(entered)
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
        let left = self.go();
        self.vcpu().came(left)
    }

    /// The same; an exit stays in the run page.
    #[inline(always)]
    #[allow(clippy::inline_always)] // the way of each exit: as a call it would be a tenth longer
    fn go(&mut self) -> Left {
        let (world, id) = (&self.machine.world, self.slot.id);
        if !world.enter(id) {
            return Left::Not(libc::EINTR); // as if it had been kicked
        }
        let left = self.lease.cpu().vcpu.go();
        world.leave(id);
        left
    }

    /// The exit in the run page, if it is an access of the guest's own to a port, of one element, and nothing comes before it.
    #[inline]
    fn single_access(&mut self) -> Option<Access> {
        let cpu = self.lease.cpu();
        let access = cpu.vcpu.single_access()?;
        (!cpu.may_report(access.port) && !self.machine.zones.are_some()).then_some(access)
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
