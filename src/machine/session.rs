//! One run of a machine, from its beginning to its first reason to stop. It never touches a vCPU.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::exit::{Exit, ExitKind, Interruption, Kinds};
use crate::hook::Until;

/// The exit by which a run ended, and the vCPU that made it.
pub type Outcome = Result<(u32, Exit)>;

#[derive(Debug, Default)]
struct State {
    outcome: Option<Outcome>,
    /// What other vCPUs failed with, after the first: at most one error each.
    later: Vec<Error>,
    running: usize,
}

/// When a run is to end.
#[derive(Clone, Default)]
pub struct Limits {
    /// The most time that it takes.
    pub timeout: Option<Duration>,
    /// After so many exits.
    pub exits: Option<u64>,
    /// After an exit of one of these kinds; with a condition, if that holds.
    pub until: Kinds,
    /// Asked after each of them, and every now and then.
    pub condition: Option<Until>,
}

/// What the vCPUs of one run share.
pub struct Session {
    stopping: AtomicBool,
    /// Exits left, where they are limited.
    exits: Option<AtomicU64>,
    /// One vCPU alone counts them.
    alone: bool,
    deadline: Option<Instant>,
    until: Kinds,
    condition: Option<Until>,
    /// The vCPU that stands for the whole run, in exits that no single one made.
    first: u32,
    state: Mutex<State>,
    changed: Condvar,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("stopping", &self.stopping).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Session {
    /// A run of `vcpus`, with its limits.
    pub(super) fn new(vcpus: &[u32], limits: Limits) -> Self {
        Self {
            stopping: AtomicBool::new(false),
            exits: limits.exits.map(AtomicU64::new),
            alone: vcpus.len() == 1,
            deadline: limits.timeout.and_then(|t| Instant::now().checked_add(t)),
            until: limits.until,
            condition: limits.condition,
            first: vcpus.first().copied().unwrap_or(0),
            state: Mutex::new(State { outcome: None, later: Vec::new(), running: vcpus.len() }),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks all vCPUs to stop; kick them afterwards.
    pub fn interrupt(&self, why: Interruption) {
        self.end(Ok((self.first, Exit::Interrupted(why))));
    }

    /// The time is over.
    pub(super) fn is_over(&self) {
        self.end(Ok((self.first, Exit::Timeout)));
    }

    /// Keeps the first outcome, or the first error and all that follow: what a handler raises while the run ends is not
    /// lost. Has the others stop.
    pub(super) fn end(&self, outcome: Outcome) {
        let mut state = self.state();
        let is_kept = match &state.outcome {
            None => true,
            Some(before) => before.is_ok() && outcome.is_err(),
        };
        if is_kept {
            state.outcome = Some(outcome); // in the place of an exit, which holds nothing foreign
        } else if let Err(error) = outcome {
            state.later.push(error);
        }
        drop(state);
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Is the run over?
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// May an exit of this kind be what the run is to come to?
    pub(super) fn awaits(&self, kind: ExitKind) -> bool {
        self.until.contains(kind)
    }

    /// What says whether it is.
    pub(super) fn condition(&self) -> Option<&Until> {
        self.condition.as_ref()
    }

    /// Counts one exit; true if it was the last one allowed.
    pub(super) fn count(&self) -> bool {
        let Some(exits) = &self.exits else { return false };
        if !self.alone {
            return exits.fetch_sub(1, Ordering::Relaxed) <= 1;
        }
        let left = exits.load(Ordering::Relaxed); // no bus lock where nobody else counts
        exits.store(left.wrapping_sub(1), Ordering::Relaxed);
        left <= 1
    }

    /// Time left, where it is limited.
    pub(super) fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|d| d.saturating_duration_since(Instant::now()))
    }

    /// One vCPU has stopped.
    pub(super) fn leave(&self) {
        self.state().running -= 1;
        self.changed.notify_all();
    }

    /// Do vCPUs still run?
    pub fn is_running(&self) -> bool {
        self.state().running > 0
    }

    /// Waits until all vCPUs have stopped; false at the end of `patience`.
    pub fn wait(&self, patience: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.state(), patience, |s| s.running > 0);
        waited.unwrap_or_else(PoisonError::into_inner).0.running == 0
    }

    /// The errors by which the run ended, the first one first, if nobody has asked for them.
    pub(super) fn take_failures(&self) -> Vec<Error> {
        let mut state = self.state();
        let first = state.outcome.take_if(|outcome| outcome.is_err()).and_then(Result::err);
        first.into_iter().chain(std::mem::take(&mut state.later)).collect()
    }

    /// Why the run ended, once; afterwards only that it has. Errors beside the first go back to their owners: hold no lock.
    pub(super) fn take_outcome(&self) -> Outcome {
        let mut state = self.state();
        let (outcome, later) = (state.outcome.take(), std::mem::take(&mut state.later));
        drop(state);
        later.into_iter().for_each(Error::unheard);
        outcome.unwrap_or(Ok((self.first, Exit::Interrupted(Interruption::Stop))))
    }
}
