//! Whether a run has come to where it was to go. It never answers an exit.

use crate::error::Result;
use crate::exit::Exit;
use crate::hook::{Scope, Until};

use crate::machine::look::{InHand, Seen};

use super::{Next, Run};

impl Run<'_> {
    /// Is `exit`, which has been answered, what the run was to come to?
    pub(super) fn wait_for(&mut self, exit: Exit) -> Result<Next> {
        if !self.session.awaits(exit.kind()) {
            return Ok(Next::Go);
        }
        Ok(if self.holds(Some(&exit))? { Next::Stop(exit) } else { Next::Go })
    }

    /// An exit that was answered while an instruction was completed: if it is to end the run, it does once that is done.
    pub(super) fn ends_later(&mut self, exit: Exit, stop: bool) -> Result<()> {
        self.slot.counters.count(exit.kind());
        let is_last = self.session.count();
        if stop || is_last || self.session.awaits(exit.kind()) && self.ask(Some(&exit))? {
            match self.ended {
                None => self.ended = Some(exit),
                Some(_) => self.session.also(self.slot.id, exit),
            }
        }
        Ok(())
    }

    /// Is the run where it was to come to? What looks at the guest sees it after the instruction of `exit`; somebody
    /// foreign is asked with the vCPU put back.
    pub(super) fn holds(&mut self, exit: Option<&Exit>) -> Result<bool> {
        let Some(until) = self.session.condition() else { return Ok(exit.is_some()) };
        let is_of_the_exit = matches!(until, Until::Expression(expression) if !expression.looks_at_guest());
        if exit.is_some() && !is_of_the_exit {
            self.complete()?;
        }
        self.ask(exit)
    }

    fn ask(&mut self, exit: Option<&Exit>) -> Result<bool> {
        let Some(until) = self.session.condition() else { return Ok(exit.is_some()) };
        let id = self.slot.id;
        match until {
            Until::Expression(expression) => {
                let Self { lease, machine, .. } = self;
                let registers = &mut InHand { vcpu: &mut lease.cpu().vcpu, seen: &mut Seen::default() };
                let memory = &*machine.memory;
                Ok(expression.holds(&mut Scope { exit, answer: None, vcpu: id, registers, memory }))
            }
            Until::Foreign(condition) => {
                let Self { lease, watch, .. } = self;
                watch.handler(|| lease.lend(|| condition.holds(exit, id)))
            }
        }
    }
}
