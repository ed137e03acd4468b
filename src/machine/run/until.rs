//! Whether a run has come to where it was to go. It never answers an exit.

use crate::error::Result;
use crate::exit::Exit;

use super::{Next, Run};

impl Run<'_> {
    /// Is `exit`, which has been answered, what the run was to come to?
    pub(super) fn wait_for(&mut self, exit: Exit) -> Result<Next> {
        if !self.session.awaits(exit.kind()) {
            return Ok(Next::Go);
        }
        Ok(if self.holds(Some(&exit))? { Next::Stop(exit) } else { Next::Go })
    }

    /// An exit that came while an instruction was completed: the run ends by it once that is done, if it is to stop.
    pub(super) fn ends_later(&mut self, exit: Exit, stop: bool) {
        if stop {
            self.ended.get_or_insert(exit);
        }
    }

    /// Is the run where it was to come to? The vCPU is put back while the condition is asked.
    pub(super) fn holds(&mut self, exit: Option<&Exit>) -> Result<bool> {
        let Some(condition) = self.session.condition() else { return Ok(exit.is_some()) };
        if exit.is_some() {
            self.complete()?;
        }
        let id = self.slot.id;
        let Self { lease, watch, .. } = self;
        watch.handler(|| lease.lend(|| condition.holds(exit, id)))
    }
}
