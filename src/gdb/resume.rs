//! Going on as gdb says: which vCPUs continue, which take a step, which stay where they are. It never waits for them.

use gdbstub::common::{Signal, Tid};
use gdbstub::target::ext::base::multithread::{
    MultiThreadRangeStepping, MultiThreadRangeSteppingOps, MultiThreadResume, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::machine::Phase;

use super::grip::{Stop, Why};
use super::target::{Guest, vcpu_of};

/// What one vCPU is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// What all others do.
    #[default]
    AsOthers,
    /// Go on.
    Continue,
    /// Execute one instruction.
    Step,
    /// Execute instructions for as long as it is in this range.
    StepWithin(u64, u64),
}

/// What all of them are to do.
#[derive(Clone, Debug)]
pub struct Plan {
    actions: Vec<Action>,
    /// Those without an action of their own stay where they are.
    others_stay: bool,
    /// Where nobody runs the machine, gdb does.
    starts: bool,
}

impl Plan {
    /// For so many vCPUs.
    pub fn new(vcpus: usize, starts: bool) -> Self {
        Self { actions: vec![Action::AsOthers; vcpus], others_stay: false, starts }
    }

    fn set(&mut self, thread: Tid, action: Action) -> Result<()> {
        let place = usize::try_from(vcpu_of(thread)).ok().and_then(|at| self.actions.get_mut(at));
        *place.ok_or_else(|| Error::Invalid(format!("gdb's thread {thread} is no vCPU")))? = action;
        Ok(())
    }

    /// What vCPU `id` is to do.
    pub fn of(&self, id: u32) -> Action {
        usize::try_from(id).ok().and_then(|at| self.actions.get(at).copied()).unwrap_or_default()
    }

    /// Does vCPU `id` go on at all?
    pub fn moves(&self, id: u32) -> bool {
        self.of(id) != Action::AsOthers || !self.others_stay
    }
}

impl Guest {
    /// Sets the machine going in the background where nobody runs it, if that is gdb's to do.
    fn start(&self) -> Result<()> {
        if !self.plan.starts || !matches!(self.machine.phase(), Phase::Stopped | Phase::Paused) {
            return Ok(());
        }
        match self.machine.start() {
            Err(Error::Running { .. }) => Ok(()), // somebody was faster
            result => result,
        }
    }
}

impl Guest {
    /// If a run in the background has come to its end, and not because somebody asked for that: the vCPU by which it
    /// did, and a signal that gdb takes for the reason.
    pub(super) fn run_over(&self) -> Option<(u32, Signal)> {
        let (vcpu, exit) = self.machine.take_end()?;
        let signal = match exit {
            Some(Exit::Interrupted(_) | Exit::Timeout) => return None,
            Some(Exit::Hlt) => Signal::SIGSTOP,
            Some(Exit::Shutdown) => Signal::SIGSEGV,
            Some(Exit::InternalError(_)) => Signal::SIGILL,
            Some(_) => Signal::SIGTRAP,
            None => Signal::SIGABRT,
        };
        Some((vcpu, signal))
    }
}

impl MultiThreadResume for Guest {
    fn resume(&mut self) -> Result<()> {
        let ids: Vec<u32> = self.machine.cpus.iter().map(|slot| slot.id).collect();
        let moving: Vec<u32> = ids.into_iter().filter(|id| self.plan.moves(*id)).collect();
        if self.grip.has_stop(|stop| moving.contains(&stop.vcpu) && self.is_still(stop)) {
            self.grip.wake(); // one that stopped together with the last one is told first
            return Ok(());
        }
        for id in &moving {
            self.prepare(*id)?;
        }
        for id in &moving {
            self.grip.release(&self.machine, *id);
        }
        if let Err(error) = self.start() {
            log::warn!("gdb cannot have the guest go on: {error}");
            error.unheard(); // what a handler raised in the run before, and nobody has asked for
            let vcpu = moving.first().copied().unwrap_or(0);
            self.grip.stopped(&self.machine, Stop { vcpu, why: Why::Over(Signal::SIGABRT) });
        }
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<()> {
        self.plan.actions.fill(Action::AsOthers);
        self.plan.others_stay = false;
        Ok(())
    }

    fn set_resume_action_continue(&mut self, tid: Tid, _: Option<Signal>) -> Result<()> {
        self.plan.set(tid, Action::Continue)
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_range_step(&mut self) -> Option<MultiThreadRangeSteppingOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for Guest {
    fn set_resume_action_step(&mut self, tid: Tid, _: Option<Signal>) -> Result<()> {
        self.plan.set(tid, Action::Step)
    }
}

impl MultiThreadRangeStepping for Guest {
    fn set_resume_action_range_step(&mut self, tid: Tid, start: u64, end: u64) -> Result<()> {
        self.plan.set(tid, Action::StepWithin(start, end))
    }
}

impl MultiThreadSchedulerLocking for Guest {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<()> {
        self.plan.others_stay = true;
        Ok(())
    }
}
