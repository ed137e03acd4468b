//! A pause that belongs to a user: vCPUs are held back between two instructions while the run that they are in goes on, for as
//! long as somebody likes. The thread of a held vCPU waits in place, its vCPU put back, to be looked at and changed by anybody.
//! It never ends a run, nor waits until a vCPU is out of the guest: a moment in which none is there is what `world` gives.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Result;

use super::Machine;
use super::cpu::Slot;

/// Who wants to see one vCPU go on instruction by instruction.
pub trait Stepper: Send + Sync {
    /// vCPU `id` has executed one instruction; the next one is at linear address `at`. Is that to be a step, too? Called on
    /// the thread that runs the vCPU; who says no has held it first, if it is not to go on.
    fn stepped(&self, id: u32, at: u64) -> bool;
}

/// How many want one vCPU to wait, and what has been said to it meanwhile.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    holders: u32,
    /// Its thread waits,
    is_parked: bool,
    /// and has been let go since, which counts though somebody has held it again before the thread woke.
    is_let_go: bool,
}

impl Count {
    /// Has it nothing to do but to wait?
    fn waits(self) -> bool {
        self.holders > 0 && !self.is_let_go
    }
}

/// How many want one vCPU to wait. It goes on when nobody does.
#[derive(Default)]
pub struct Holds {
    any: AtomicBool,
    count: Mutex<Count>,
    released: Condvar,
    stepper: Mutex<Option<Arc<dyn Stepper>>>,
}

impl fmt::Debug for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holds").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Holds {
    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self) {
        let mut count = self.count();
        count.holders = count.holders.saturating_add(1);
        self.any.store(true, Ordering::SeqCst);
    }

    fn take_away(&self) {
        let mut count = self.count();
        count.holders = count.holders.saturating_sub(1);
        count.is_let_go |= count.is_parked && count.holders == 0;
        self.any.store(count.holders > 0, Ordering::SeqCst);
        drop(count);
        self.released.notify_all();
    }

    fn stepper(&self) -> MutexGuard<'_, Option<Arc<dyn Stepper>>> {
        self.stepper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is it to go on by single steps?
    pub(super) fn are_steps_wanted(&self) -> bool {
        self.stepper().is_some()
    }

    /// Tells that vCPU `id` has taken a step, with no lock held. Is the next one wanted, too?
    pub(super) fn stepped(&self, id: u32, at: u64) -> bool {
        let stepper = self.stepper().clone();
        let goes_on = stepper.is_some_and(|stepper| stepper.stepped(id, at));
        if !goes_on {
            drop(self.stepper().take());
        }
        goes_on
    }

    /// Is it to wait?
    pub(super) fn are_on(&self) -> bool {
        self.any.load(Ordering::SeqCst)
    }

    /// Waits until it may go on, or for so long; true if it may, be it for a slice of time.
    pub(super) fn wait(&self, patience: Duration) -> bool {
        let waited = self.released.wait_timeout_while(self.count(), patience, |count| count.waits());
        !waited.unwrap_or_else(PoisonError::into_inner).0.waits()
    }

    /// Its thread is about to wait, or has left the place where others may look at the vCPU.
    pub(super) fn set_parked(&self, yes: bool) {
        let mut count = self.count();
        (count.is_parked, count.is_let_go) = (yes, false);
    }

    /// Does its thread have nothing to do but to wait?
    pub(super) fn keep(&self) -> bool {
        self.count().waits()
    }
}

impl Machine {
    /// Has vCPU `id` wait before its next instruction, now or in the next run, until it is released as often. Returns
    /// at once: [`Machine::is_at_rest`] says whether it waits.
    pub fn hold(&self, id: u32) -> Result<()> {
        let slot = self.cpu(id)?;
        slot.holds.add();
        slot.kick.kick();
        Ok(())
    }

    /// Lets vCPU `id` go on, unless somebody else holds it.
    pub fn release(&self, id: u32) -> Result<()> {
        self.cpu(id).map(|slot| slot.holds.take_away())
    }

    /// Has vCPU `id`, which is held or in no run, go on by single steps when it is released or run: `stepper` is told of
    /// each. Without one, it goes on as ever.
    pub fn step_with(&self, id: u32, stepper: Option<Arc<dyn Stepper>>) -> Result<()> {
        let old = std::mem::replace(&mut *self.cpu(id)?.holds.stepper(), stepper);
        drop(old);
        Ok(())
    }

    /// Does no vCPU run, nor the handler of one? Each is held, or in no run.
    pub fn is_at_rest(&self) -> bool {
        self.cpus.iter().all(Slot::is_at_rest)
    }
}
