//! gdb's breakpoints and watchpoints, planted among those of others. It never decides how one is planted.

use gdbstub::target::TargetResult;
use gdbstub::target::ext::breakpoints::{
    Breakpoints, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint, SwBreakpointOps, WatchKind,
};

use crate::error::Result;

use super::grip::{Stop, Why};
use super::target::Guest;

impl Guest {
    /// Readies vCPU `id` for what it is to do.
    pub(super) fn prepare(&self, id: u32) -> Result<()> {
        let _ = (self.plan.of(id), id);
        Ok(())
    }

    /// Is a stop that has not been told still one?
    pub(super) fn is_still(&self, stop: &Stop) -> bool {
        !matches!(stop.why, Why::Software(_) | Why::Hardware(_))
    }
}

impl Breakpoints for Guest {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Guest {
    fn add_sw_breakpoint(&mut self, _: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(false)
    }

    fn remove_sw_breakpoint(&mut self, _: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(false)
    }
}

impl HwBreakpoint for Guest {
    fn add_hw_breakpoint(&mut self, _: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(false)
    }

    fn remove_hw_breakpoint(&mut self, _: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(false)
    }
}

impl HwWatchpoint for Guest {
    fn add_hw_watchpoint(&mut self, _: u64, _: u64, _: WatchKind) -> TargetResult<bool, Self> {
        Ok(false)
    }

    fn remove_hw_watchpoint(&mut self, _: u64, _: u64, _: WatchKind) -> TargetResult<bool, Self> {
        Ok(false)
    }
}
