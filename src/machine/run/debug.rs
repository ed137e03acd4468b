//! Breakpoints, watchpoints and steps on the thread that runs the vCPU: from what KVM reports to a hit that hooks see,
//! and on from there. It never decides where anything is planted.

use crate::error::Result;
use crate::exit::{Exit, Reply};

use super::{Next, Run};

impl Run<'_> {
    /// Asks the hooks about a hit, and counts it as an exit. `stops`: it ends the run unless a hook says that it is to go
    /// on (one that was made with a handler does not: its handler's None goes on).
    pub(super) fn hit(&mut self, exit: Exit, stops: bool) -> Result<Next> {
        let stop = match self.consult(&exit)? {
            Reply::Stop => true,
            Reply::Skip => false,
            Reply::Default | Reply::Value(_) | Reply::Bytes(_) => stops,
        };
        self.finish(exit, stop)
    }
}
