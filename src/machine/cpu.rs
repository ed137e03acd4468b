//! The place of one vCPU in a machine: who may touch it now. The vCPU itself is lent out while it runs, and put back
//! while a handler is asked, so that no lock is ever held across the guest or foreign code.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::boot::bare::{Place, Shim};
use crate::error::{Error, Result};
use crate::kvm::{Kick, Queue, Vcpu};

use super::interrupts::Injections;
use super::park::Holds;
use super::repair::Repair;
use super::stats::Counters;

/// A vCPU and what the machine keeps beside it.
#[derive(Debug)]
pub struct Cpu {
    /// The vCPU.
    pub vcpu: Vcpu,
    /// Where the exception handlers of a `user` guest are.
    pub shim: Option<Shim>,
    /// What is repaired where KVM cannot go on.
    pub repair: Repair,
    /// What debugging needs to know of it.
    pub debug: CpuDebug,
    /// The instruction at this address is known to be watched, and is executed next.
    pub(super) passed: Option<u64>,
    /// How often the trapped pages had changed when an instruction failed for no reason that was left.
    pub(super) trap_changes: u64,
}

/// What debugging keeps of one vCPU, from one run to the next.
#[derive(Debug, Default)]
pub struct CpuDebug {
    /// The linear address of an instruction that was reported and has not been executed: it is stepped over.
    pub resume: Option<u64>,
    /// A step over it ended in an exception of the guest's: where it was, and RSP. Coming back is no new hit.
    pub returning: Option<(u64, u64)>,
    /// What KVM was told last: its flags, and DR0 to DR7.
    pub told: (u32, [u64; 8]),
    /// KVM has been told to step since it last reported one.
    pub is_stepping: bool,
    /// The trap flag is ours.
    pub owns_trap_flag: bool,
}

#[derive(Debug)]
struct State {
    cpu: Option<Box<Cpu>>,
    runner: Option<Runner>,
    /// A thread is on its way to run it.
    promised: bool,
    /// The thread that runs it waits, and anybody may touch it.
    parked: bool,
    closed: bool,
    /// It has been given something to run.
    ready: bool,
    /// Where in guest memory the tables are that the host built for it.
    tables: Option<Place>,
}

/// The thread that runs a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Runner(std::thread::ThreadId);

impl Runner {
    fn this_thread() -> Self {
        Self(std::thread::current().id())
    }
}

/// One vCPU's place.
#[derive(Debug)]
pub struct Slot {
    /// The number of the vCPU.
    pub id: u32,
    /// Gets it out of the guest.
    pub kick: Arc<Kick>,
    /// The writes that KVM queues: the VM's, whichever vCPU's this is. Everybody takes the first vCPU's.
    pub queue: Arc<Queue>,
    /// Who has it wait.
    pub(super) holds: Holds,
    /// What is to be injected into it.
    pub injections: Injections,
    /// What it has done.
    pub counters: Counters,
    /// How often it has been taken for a run and put back: odd while the guest may be running.
    turns: AtomicU64,
    state: Mutex<State>,
    back: Condvar,
}

impl Slot {
    pub(super) fn new(id: u32, kick: Arc<Kick>, cpu: Cpu) -> Self {
        let queue = Arc::clone(cpu.vcpu.queue());
        let state = State {
            cpu: Some(Box::new(cpu)),
            runner: None,
            promised: false,
            parked: false,
            closed: false,
            ready: false,
            tables: None,
        };
        let (injections, counters, holds) = (Injections::default(), Counters::default(), Holds::default());
        let (turns, state) = (AtomicU64::new(0), Mutex::new(state));
        Self { id, kick, queue, holds, injections, counters, turns, state, back: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the vCPU while it is stopped or held, or inside a handler on the thread that runs it.
    pub fn with<T>(&self, work: impl FnOnce(&mut Cpu) -> Result<T>) -> Result<T> {
        let key = self.key();
        let mut lent = Lent { key, cpu: take_lent(key) };
        if let Some(cpu) = lent.cpu.as_deref_mut() {
            return work(cpu);
        }
        let mut state = self.state();
        if state.closed {
            return Err(Error::Closed);
        }
        let is_free = state.parked || !state.promised && state.runner.is_none();
        match state.cpu.as_deref_mut().filter(|_| is_free) {
            Some(cpu) => work(cpu),
            None => Err(Error::Running { vcpu: self.id }),
        }
    }

    /// Is this thread inside a handler of this vCPU?
    pub fn is_in_handler(&self) -> bool {
        self.state().runner == Some(Runner::this_thread())
    }

    /// Is it in no run, or held in one?
    pub(super) fn is_at_rest(&self) -> bool {
        let state = self.state();
        state.parked && self.holds.keep() || !state.promised && state.runner.is_none()
    }

    /// Has it been given something to run?
    pub fn is_ready(&self) -> bool {
        self.state().ready
    }

    /// From now on, it has something to run.
    pub fn set_ready(&self) {
        self.state().ready = true;
    }

    /// Where in guest memory the tables are that the host built for it.
    pub(super) fn tables(&self) -> Option<Place> {
        self.state().tables
    }

    /// It has been given something to run, with `tables`.
    pub(super) fn loaded(&self, tables: Option<Place>) {
        let mut state = self.state();
        (state.ready, state.tables) = (true, tables);
    }

    /// A thread is on its way to run it (or is not, after all): until it comes, nobody may touch the vCPU.
    pub(super) fn promise(&self, yes: bool) {
        self.state().promised = yes;
    }

    /// A number that grows whenever the vCPU is taken for a run or put back; `None` while it is taken, except inside its
    /// handlers.
    pub(super) fn at_rest_since(&self) -> Option<u64> {
        Some(self.turns.load(Ordering::SeqCst)).filter(|turns| turns.is_multiple_of(2))
    }

    /// Its place, which is no other one's as long as it is leased.
    fn key(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Only for who takes it or has it: one thread at a time, each after the other's last word under the lock. So nothing is
    /// lost without a locked instruction. Whoever reads the number a moment too early is as wrong as one who read it before.
    fn turn(&self) {
        self.turns.store(self.turns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    /// Takes the vCPU for a run on this thread.
    pub(super) fn lease(&self) -> Result<Lease<'_>> {
        let mut state = self.state();
        state.promised = false;
        match (state.closed, state.runner) {
            (true, _) => Err(Error::Closed),
            (_, Some(runner)) if runner == Runner::this_thread() => Err(Error::InHandler { what: "run" }),
            (_, Some(_)) => Err(Error::Running { vcpu: self.id }),
            (_, None) => {
                let cpu = state.cpu.take().ok_or(Error::Closed)?;
                state.runner = Some(Runner::this_thread());
                self.turn();
                Ok(Lease { slot: self, cpu: Some(cpu) })
            }
        }
    }

    /// Drops the vCPU, once nobody runs it; false if somebody still does after `patience`.
    pub(super) fn close(&self, patience: Duration) -> bool {
        let state = self.state();
        let waited = self.back.wait_timeout_while(state, patience, |s| s.runner.is_some());
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.runner.is_some() {
            return false;
        }
        state.closed = true;
        let cpu = state.cpu.take();
        drop(state);
        drop(cpu);
        true
    }
}

/// A vCPU that this thread runs; put back when dropped.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    slot: &'a Slot,
    cpu: Option<Box<Cpu>>,
}

impl Lease<'_> {
    /// The vCPU.
    pub(super) fn cpu(&mut self) -> &mut Cpu {
        self.cpu.as_deref_mut().expect("held except inside `lend`")
    }

    /// Puts the vCPU back while `foreign` code runs, which may work on it from this thread: no other may, so that no lock is
    /// taken for it.
    pub(super) fn lend<T>(&mut self, foreign: impl FnOnce() -> T) -> T {
        let slot = self.slot;
        LENT.with_borrow_mut(|lent| lent.extend(self.cpu.take().map(|cpu| (slot.key(), cpu))));
        slot.turn();
        let _back = Back(self);
        foreign()
    }
}

thread_local! {
    /// The vCPUs that this thread runs, and which it has lent to handlers: the place of each, and itself.
    static LENT: RefCell<Vec<(usize, Box<Cpu>)>> = const { RefCell::new(Vec::new()) };
}

fn take_lent(key: usize) -> Option<Box<Cpu>> {
    LENT.with_borrow_mut(|lent| {
        let at = lent.iter().rposition(|(other, _)| *other == key)?;
        Some(lent.swap_remove(at).1)
    })
}

/// A vCPU that this thread has lent to a handler, while the handler works on it; afterwards it is lent as before.
struct Lent {
    key: usize,
    cpu: Option<Box<Cpu>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        LENT.with_borrow_mut(|lent| lent.extend(self.cpu.take().map(|cpu| (self.key, cpu))));
    }
}

/// Takes the vCPU when the foreign code is done, also by a panic.
struct Back<'a, 'b>(&'a mut Lease<'b>);

impl Drop for Back<'_, '_> {
    fn drop(&mut self) {
        self.0.slot.turn();
        self.0.cpu = take_lent(self.0.slot.key());
    }
}

impl Lease<'_> {
    /// Puts the vCPU back while `wait` waits, during which anybody may work on it.
    pub(super) fn park<T>(&mut self, wait: impl FnOnce() -> T) -> T {
        let mut state = self.slot.state();
        (state.cpu, state.parked) = (self.cpu.take(), true);
        drop(state);
        let result = wait();
        let mut state = self.slot.state();
        (self.cpu, state.parked) = (state.cpu.take(), false);
        drop(state);
        result
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut state = self.slot.state();
        if self.cpu.is_some() {
            state.cpu = self.cpu.take();
            self.slot.turn();
        }
        state.runner = None;
        self.slot.back.notify_all();
    }
}
