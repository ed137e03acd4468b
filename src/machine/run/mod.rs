//! The way of one exit, on the thread that runs the vCPU. It never holds a lock while the guest or a handler runs.
//!
//! ```text
//! KVM_RUN -> exit -> repair (where this KVM needs it)
//!                 -> traces: a record (of a read, once it is answered)
//!                 -> hooks, newest first: value, skip, stop, or no opinion
//!                 -> bus -> native device, or all ones
//!         <- answer in the run page <-
//! ```

mod access;
mod ahead;
mod around;
mod coalesced;
mod consult;
mod debug;
mod door;
mod handlers;
mod held;
mod interrupt;
mod msr;
mod pace;
mod port;
mod repair;
mod settle;
mod slice;
mod steal;
mod step;
mod step_control;
mod step_made;
mod trace;
mod trap;
mod turn;
mod until;

use std::sync::Arc;
use std::time::Duration;

use crate::bus::Devices;
use crate::error::Result;
use crate::exit::{Exit, Interruption, Reply};
use crate::hook::Tables;
use crate::kvm::{Entered, RunGuard, TICK, Vcpu};
use crate::x86::Regs;

use super::Machine;
use super::cpu::{Cpu, Lease, Slot};
use super::session::Session;
use super::stats::Stopwatch;
use debug::Debugger;
use pace::Pace;
use slice::Slice;

/// Called now and then on a foreground run, to look for signals; its error ends the run.
pub type Poll<'a> = &'a (dyn Fn() -> Result<()> + std::marker::Sync);

/// What becomes of a run after an exit.
#[derive(Debug)]
enum Next {
    /// Enter the guest again.
    Go,
    /// Hand this exit out.
    Stop(Exit),
}

/// What an access asks of the run, the most urgent last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// Nothing.
    Go,
    /// To hand it out.
    Stop,
    /// To hand out the reset that it caused.
    Reset,
}

/// One vCPU being run.
pub(super) struct Run<'a> {
    /// Before the lease: the next run of the vCPU has a watch of its own.
    watch: Stopwatch<'a>,
    /// Before the lease: signals must find no vCPU here once it is given back.
    guard: RunGuard<'a>,
    lease: Lease<'a>,
    machine: &'a Machine,
    slot: &'a Slot,
    session: &'a Session,
    poll: Option<Poll<'a>>,
    pace: Pace,
    tables: Arc<Tables>,
    generation: Option<u64>,
    ports: Arc<Devices>,
    mmio: Arc<Devices>,
    /// A trace has perhaps no room for what this vCPU may do next.
    may_be_full: bool,
    /// An access has been answered that completes on the next entry.
    pending: bool,
    /// The registers before an instruction at which handlers set some, and as they want them after it.
    rewritten: Option<(Regs, Regs)>,
    /// That instruction is being completed.
    is_settling: bool,
    /// Something failed: what is left of the instruction is done without asking handlers.
    has_failed: bool,
    debug: Debugger,
    slice: Slice,
    /// What came while an instruction was completed, and is to end the run.
    ended: Option<Exit>,
    /// Accesses to what is watched, of an instruction that is not complete yet.
    hits: Vec<trap::Hit>,
}

/// Most entries that one instruction may take to complete: a string of the longest prefix-laden kind.
const MOST_COMPLETIONS: usize = 4096;

impl<'a> Run<'a> {
    /// Runs `slot` until the session ends, and leaves the reason there.
    pub(super) fn drive(machine: &'a Machine, slot: &'a Slot, session: &'a Session, poll: Option<Poll<'a>>) {
        match Self::begin(machine, slot, session, poll).and_then(Self::until_the_end) {
            Ok(Exit::Timeout) => session.is_over(),
            outcome => session.end(outcome.map(|exit| (slot.id, exit))),
        }
    }

    fn begin(machine: &'a Machine, slot: &'a Slot, session: &'a Session, poll: Option<Poll<'a>>) -> Result<Self> {
        let mut lease = slot.lease()?;
        lease.cpu().vcpu.begin_run();
        let first = session.time_left().map_or(TICK, |left| left.min(TICK)).max(Duration::from_nanos(1));
        let timed = poll.is_some() || session.time_left().is_some();
        let guard = RunGuard::begin(&slot.kick, timed.then_some(first))?;
        let (ports, mmio) = (machine.ports.devices(), machine.mmio.devices());
        let tables = Arc::default();
        let (generation, rewritten) = (None, None);
        Ok(Self {
            machine,
            slot,
            lease,
            session,
            guard,
            poll,
            pace: Pace::default(),
            watch: Stopwatch::start(&slot.counters),
            tables,
            generation,
            ports,
            mmio,
            may_be_full: true,
            pending: false,
            rewritten,
            is_settling: false,
            has_failed: false,
            debug: Debugger::new(session.steps()),
            slice: Slice::begin(0),
            ended: None,
            hits: Vec::new(),
        })
    }

    fn vcpu(&mut self) -> &mut Vcpu {
        &mut self.lease.cpu().vcpu
    }

    fn until_the_end(mut self) -> Result<Exit> {
        let result = self.turn_until_stop();
        self.has_failed |= result.is_err();
        let completed = self.complete().and_then(|()| self.last_hits());
        if let Some(exit) = self.ended.take().filter(|_| result.is_ok()) {
            self.session.also(self.slot.id, exit);
        }
        let ended = self.end_debugging();
        self.vcpu().end_run();
        let completed = completed.and(ended);
        result.and_then(|exit| completed.map(|()| exit))
    }

    fn turn_until_stop(&mut self) -> Result<Exit> {
        self.look_for_stepper();
        loop {
            if self.session.is_stopping() && !(self.session.is_pausing() && self.has_time_left()?) {
                return Ok(Exit::Interrupted(Interruption::Stop));
            }
            if self.slot.holds.are_on() && !self.has_time_left()? {
                match self.wait_until_released()? {
                    Some(exit) => return Ok(exit),
                    None => continue,
                }
            }
            self.look_up_hooks();
            if let Some(exit) = self.make_room()? {
                return Ok(exit);
            }
            if self.slot.injections.are_waiting() {
                self.inject()?;
            }
            self.pending = false;
            let next = self.turn()?;
            let next = if self.hits.is_empty() { next } else { self.hand_out_hits(next)? };
            if let Next::Stop(exit) = next {
                return Ok(exit);
            }
            if self.ended.is_some()
                && let Some(exit) = self.ended.take()
            {
                return Ok(exit); // the look alone: most turns end nothing, and taking writes
            }
        }
    }

    /// Takes over changes of the hooks.
    #[inline]
    fn look_up_hooks(&mut self) {
        let generation = self.machine.hooks.generation();
        if self.generation != Some(generation) {
            self.take_hooks(generation);
        }
    }

    #[cold]
    fn take_hooks(&mut self, generation: u64) {
        self.generation = Some(generation);
        self.tables = self.machine.hooks.tables();
        self.may_be_full = true;
        self.look_up_steps();
    }

    /// Answers one return of `KVM_RUN`.
    #[inline]
    fn answer(&mut self, entered: Entered) -> Result<Next> {
        match &entered {
            Entered::Port(access) if !self.lease.cpu().may_report(access.port) => self.port_access(access),
            _ => self.answer_other(entered),
        }
    }

    /// One that is no access to a port of the guest's, or may be none.
    fn answer_other(&mut self, entered: Entered) -> Result<Next> {
        let (exit, stop) = match entered {
            Entered::Interrupted => return self.interrupted(),
            Entered::Port(access) => match self.lease.cpu().ring3_exception(access.port, &self.machine.memory)? {
                Some(exception) => {
                    if self.debug.is_on
                        && let Some(next) = self.shim_exit(&exception)?
                    {
                        return Ok(next);
                    }
                    self.decide(Exit::Exception(Box::new(exception)))?
                }
                None => return self.port_access(&access),
            },
            Entered::Exit(exit) if self.trapped(&exit)? => return Ok(Next::Go),
            Entered::Exit(exit) => self.exit(exit)?,
            Entered::InternalError { suberror, data, instruction } => {
                let error = self.describe(suberror, data, instruction)?;
                if let Some(next) = self.around_traps(&error)? {
                    return Ok(next);
                }
                if self.repair(&error)? {
                    self.slot.counters.repaired();
                    return self.after_step();
                }
                self.decide(Exit::InternalError(Box::new(error)))?
            }
        };
        self.finish(exit, stop)
    }

    /// Counts an exit that has been answered. `stop`: it ends the run.
    fn finish(&mut self, exit: Exit, stop: bool) -> Result<Next> {
        self.slot.counters.count(exit.kind());
        if self.session.count() || stop { Ok(Next::Stop(exit)) } else { self.wait_for(exit) }
    }

    /// A kick, a tick or a signal: looks for the reason.
    fn interrupted(&mut self) -> Result<Next> {
        let is_signalled = !self.vcpu().acknowledge_kick(); // by one that is none of ours
        self.slice.was_idle();
        if let Some(poll) = self.poll.filter(|_| is_signalled || self.pace.is_due()) {
            let lease = &mut self.lease;
            self.pace.look(|| lease.lend(poll))?;
        }
        match self.session.time_left() {
            Some(Duration::ZERO) => return Ok(Next::Stop(Exit::Timeout)),
            Some(left) if left < TICK => self.guard.tick_in(left)?,
            _ => {}
        }
        let reached = self.poll.is_some() && self.session.condition().is_some() && self.holds(None)?;
        Ok(if reached { Next::Stop(Exit::Interrupted(Interruption::Until)) } else { Next::Go })
    }

    /// Completes the last access, so that what others see and change is the state after it; also if a handler fails on
    /// the way.
    fn complete(&mut self) -> Result<()> {
        let mut result = Ok(());
        for _ in 0..MOST_COMPLETIONS {
            if !self.pending {
                break;
            }
            self.pending = false;
            let answered = match self.complete_inside() {
                Ok(Entered::Port(access)) => self.rest_of_string(&access),
                Ok(Entered::Exit(Exit::Debug { exception: 1, .. })) if self.debug.steps() => {
                    self.debug.has_stepped = true;
                    Ok(())
                }
                Ok(Entered::Exit(exit)) => self.exit_on_the_way(exit),
                Ok(Entered::Interrupted | Entered::InternalError { .. }) => break,
                Err(error) => Err(error),
            };
            self.has_failed |= answered.is_err();
            result = result.and(answered);
        }
        result
    }

    /// Answers any other exit. Hands it back, and whether to stop.
    fn exit(&mut self, exit: Exit) -> Result<(Exit, bool)> {
        match exit {
            Exit::MmioRead { .. } => {
                self.pending = true;
                let answered = self.answer_read(&exit, false, Vcpu::answer_mmio);
                let verdict = self.settle_after(&exit, answered)?;
                Ok((exit, verdict != Verdict::Go))
            }
            Exit::MmioWrite { .. } => {
                self.pending = true;
                let mut written = self.write(&exit, false);
                if self.is_settling {
                    written = self.settle_after(&exit, written);
                }
                Ok(match written? {
                    Verdict::Reset => (Exit::Reset, true),
                    verdict => (exit, verdict != Verdict::Go),
                })
            }
            Exit::MsrRead { index, reason } => self.msr_read(exit, index, reason),
            Exit::MsrWrite { index, data, reason } => self.msr_write(exit, index, data, reason),
            Exit::Hypercall(_) => self.hypercall(exit),
            Exit::Hlt => self.halted(),
            Exit::IoapicEoi { vector } => {
                self.machine.end_of_interrupt(vector);
                self.note(exit)
            }
            // What is reported and asks for nothing.
            Exit::InterruptWindow | Exit::TprLowered { .. } | Exit::TprAccess { .. } | Exit::BusLock => self.note(exit),
            other => self.decide(other),
        }
    }

    /// An exit that stops the machine unless a hook skips it.
    fn decide(&mut self, exit: Exit) -> Result<(Exit, bool)> {
        let stop = self.consult(&exit)? != Reply::Skip;
        Ok((exit, stop))
    }

    /// An exit that the machine goes on after unless a hook stops it.
    fn note(&mut self, exit: Exit) -> Result<(Exit, bool)> {
        let stop = self.consult(&exit)? == Reply::Stop;
        Ok((exit, stop))
    }

    /// A hypercall: a hook's answer, or that there is none of that number (`-KVM_ENOSYS`).
    fn hypercall(&mut self, exit: Exit) -> Result<(Exit, bool)> {
        const NOT_IMPLEMENTED: i64 = -1000;
        self.pending = true;
        let reply = self.consult(&exit);
        let result = if let Ok(Reply::Value(value)) = reply { value } else { NOT_IMPLEMENTED.cast_unsigned() };
        self.vcpu().answer_hypercall(result);
        let reply = self.settle_after(&exit, reply)?;
        Ok((exit, reply == Reply::Stop))
    }
}
