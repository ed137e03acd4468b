//! One run of a machine, from its beginning to its first reason to stop. It never touches a vCPU.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
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
    /// The vCPU by which it ended, and with what: nothing for an error. Not handed out with the outcome.
    reason: Option<(u32, Option<Exit>)>,
    /// Exits, after the first, that would have ended it too.
    others: Vec<(u32, Exit)>,
    running: usize,
}

impl State {
    /// Keeps an exit that would have ended the run too, if it says more than that the run was to end.
    fn add(&mut self, (vcpu, exit): (u32, Exit)) {
        if !matches!(exit, Exit::Timeout | Exit::Interrupted(_)) {
            self.others.push((vcpu, exit));
        }
    }
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
    /// After so many instructions.
    pub steps: Option<u64>,
    /// Before a call or a return, where steps are counted.
    pub to_flow: bool,
}

/// What the vCPUs of one run share.
pub struct Session {
    stopping: AtomicBool,
    /// Only a pause has been asked for: nobody minds whether it is before this instruction or some later one.
    pausing: AtomicBool,
    /// Exits left, where they are limited.
    exits: Option<AtomicU64>,
    /// One vCPU alone counts them.
    alone: bool,
    deadline: Option<Instant>,
    until: Kinds,
    condition: Option<Until>,
    steps: Option<(u64, bool)>,
    /// The thread that waits for the run to end, where it is one.
    caller: Option<ThreadId>,
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
    pub(super) fn new(vcpus: &[u32], limits: Limits, caller: Option<ThreadId>) -> Self {
        Self {
            stopping: AtomicBool::new(false),
            pausing: AtomicBool::new(false),
            exits: limits.exits.map(AtomicU64::new),
            alone: vcpus.len() == 1,
            deadline: limits.timeout.and_then(|t| Instant::now().checked_add(t)),
            until: limits.until,
            condition: limits.condition,
            steps: limits.steps.map(|steps| (steps, limits.to_flow)),
            caller,
            first: vcpus.first().copied().unwrap_or(0),
            state: Mutex::new(State { running: vcpus.len(), ..State::default() }),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks all vCPUs to stop; kick them afterwards.
    pub fn interrupt(&self, why: Interruption) {
        self.pausing.store(why == Interruption::Pause && !self.is_stopping(), Ordering::SeqCst);
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
        if !matches!(outcome, Ok((_, Exit::Interrupted(_)))) {
            self.pausing.store(false, Ordering::SeqCst);
        }
        state.reason.get_or_insert_with(|| match &outcome {
            Ok((vcpu, exit)) => (*vcpu, Some(exit.clone())),
            Err(_) => (self.first, None),
        });
        match (state.outcome.take(), outcome) {
            (None, outcome) => state.outcome = Some(outcome),
            (Some(Ok(first)), Err(error)) => {
                state.outcome = Some(Err(error));
                state.add(first);
            }
            (Some(first), Ok(other)) => {
                state.outcome = Some(first);
                state.add(other);
            }
            (Some(first), Err(error)) => {
                state.outcome = Some(first);
                state.later.push(error);
            }
        }
        drop(state);
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Another exit of vCPU `id` that would have ended the run.
    pub(super) fn also(&self, id: u32, exit: Exit) {
        self.state().add((id, exit));
    }

    /// The exits that would have ended the run too, once.
    pub(super) fn take_others(&self) -> Vec<(u32, Exit)> {
        std::mem::take(&mut self.state().others)
    }

    /// Is the run over?
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Is it over because somebody asked for a pause, and for no other reason?
    pub(super) fn is_pausing(&self) -> bool {
        self.pausing.load(Ordering::SeqCst)
    }

    /// May an exit of this kind be what the run is to come to?
    pub(super) fn awaits(&self, kind: ExitKind) -> bool {
        self.until.contains(kind)
    }

    /// The thread that waits for the run to end, and so does nothing else.
    pub(super) fn caller(&self) -> Option<ThreadId> {
        self.caller
    }

    /// How many instructions it is to have, where they are counted; and whether a call or a return ends it too.
    pub(super) fn steps(&self) -> Option<(u64, bool)> {
        self.steps
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

    /// Why it ended: the vCPU, and its exit unless it was an error. Once, and nothing while it is on.
    pub(super) fn take_reason(&self) -> Option<(u32, Option<Exit>)> {
        let mut state = self.state();
        if state.running == 0 { state.reason.take() } else { None }
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
