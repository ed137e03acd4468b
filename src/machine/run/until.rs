//! Whether a run has come to where it was to go. It never answers an exit.

use crate::error::Result;
use crate::exit::Exit;
use crate::hook::{Scope, Until};

use super::{Next, Run};

impl Run<'_> {
    /// Is `exit`, which has been answered, what the run was to come to?
    pub(super) fn wait_for(&mut self, exit: Exit) -> Result<Next> {
        if !self.session.awaits(exit.kind()) {
            return Ok(Next::Go);
        }
        Ok(if self.holds(Some(&exit))? { Next::Stop(exit) } else { Next::Go })
    }

    /// Is the run where it was to come to? What looks at the guest sees it after the instruction of `exit`; somebody
    /// foreign is asked with the vCPU put back.
    pub(super) fn holds(&mut self, exit: Option<&Exit>) -> Result<bool> {
        let Some(until) = self.session.condition() else { return Ok(exit.is_some()) };
        let is_of_the_exit = matches!(until, Until::Expression(expression) if !expression.looks_at_guest());
        if exit.is_some() && !is_of_the_exit {
            self.complete()?;
        }
        let id = self.slot.id;
        match until {
            Until::Expression(expression) => {
                let Self { lease, machine, .. } = self;
                let mut registers = || lease.cpu().vcpu.regs().ok();
                Ok(expression.holds(&mut Scope { exit, vcpu: id, registers: &mut registers, memory: &*machine.memory }))
            }
            Until::Foreign(condition) => {
                self.counters.native(&mut self.watch);
                let holds = self.lease.lend(|| condition.holds(exit, id));
                self.counters.handlers(&mut self.watch);
                holds
            }
        }
    }
}
