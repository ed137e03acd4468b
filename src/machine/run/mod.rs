//! The way of one exit, on the thread that runs the vCPU. It never holds a lock while the guest or a handler runs.
//!
//! ```text
//! KVM_RUN -> exit -> repair (where this KVM needs it)
//!                 -> hooks, newest first: value, skip, stop, or no opinion
//!                 -> bus -> native device, or all ones
//!         <- answer in the run page <-
//! ```

mod msr;

use std::sync::Arc;
use std::time::Duration;

use crate::bus::{Devices, Effect, all_ones};
use crate::error::Result;
use crate::exit::{Exit, InternalError, Reply};
use crate::hook::Tables;
use crate::kvm::{Access, Direction, Entered, RunGuard, TICK, Vcpu};
use crate::x86::{Gpr, Regs};

use super::Machine;
use super::cpu::{Cpu, Lease, Slot};
use super::merge::merged;
use super::session::Session;

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
    /// Before the lease: signals must find no vCPU here once it is given back.
    guard: RunGuard<'a>,
    lease: Lease<'a>,
    machine: &'a Machine,
    session: &'a Session,
    poll: Option<Poll<'a>>,
    tables: Arc<Tables>,
    generation: Option<u64>,
    ports: Arc<Devices>,
    mmio: Arc<Devices>,
    /// An access has been answered that completes on the next entry.
    pending: bool,
    /// The registers before an instruction at which handlers set some, and as they want them after it.
    rewritten: Option<(Regs, Regs)>,
    /// That instruction is being completed.
    is_settling: bool,
    /// Something failed: what is left of the instruction is done without asking handlers.
    has_failed: bool,
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
            lease,
            session,
            guard,
            poll,
            tables,
            generation,
            ports,
            mmio,
            pending: false,
            rewritten,
            is_settling: false,
            has_failed: false,
        })
    }

    fn vcpu(&mut self) -> &mut Vcpu {
        &mut self.lease.cpu().vcpu
    }

    fn until_the_end(mut self) -> Result<Exit> {
        let result = self.turn_until_stop();
        self.has_failed |= result.is_err();
        let completed = self.complete();
        self.vcpu().end_run();
        result.and_then(|exit| completed.map(|()| exit))
    }

    fn turn_until_stop(&mut self) -> Result<Exit> {
        loop {
            if self.session.is_stopping() {
                return Ok(Exit::Interrupted(crate::exit::Interruption::Stop));
            }
            self.look_up_hooks();
            self.pending = false;
            let entered = self.vcpu().enter()?;
            if let Next::Stop(exit) = self.answer(entered)? {
                return Ok(exit);
            }
        }
    }

    /// Takes over changes of the hooks.
    fn look_up_hooks(&mut self) {
        let generation = self.machine.hooks.generation();
        if self.generation != Some(generation) {
            self.generation = Some(generation);
            self.tables = self.machine.hooks.tables();
        }
    }

    /// Answers one return of `KVM_RUN`.
    fn answer(&mut self, entered: Entered) -> Result<Next> {
        let (exit, stop) = match entered {
            Entered::Interrupted => return self.interrupted(),
            Entered::Eoi(_) => return Ok(Next::Go),
            Entered::Port(access) => match self.lease.cpu().ring3_exception(access.port, &self.machine.memory)? {
                Some(exception) => self.decide(Exit::Exception(Box::new(exception)))?,
                None => return self.port_access(&access),
            },
            Entered::Exit(exit) => self.exit(exit)?,
            Entered::InternalError { suberror, data, instruction } => {
                let error = self.describe(suberror, data, instruction)?;
                if self.repair(&error)? {
                    return Ok(Next::Go);
                }
                self.decide(Exit::InternalError(Box::new(error)))?
            }
        };
        Ok(if stop || self.session.count() { Next::Stop(exit) } else { Next::Go })
    }

    /// A kick, a tick or a signal: looks for the reason.
    fn interrupted(&mut self) -> Result<Next> {
        self.vcpu().acknowledge_kick();
        if let Some(poll) = self.poll {
            self.lease.lend(poll)?;
        }
        match self.session.time_left() {
            Some(Duration::ZERO) => return Ok(Next::Stop(Exit::Timeout)),
            Some(left) if left < TICK => self.guard.tick_in(left)?,
            _ => {}
        }
        Ok(Next::Go)
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
            let answered = match self.vcpu().complete() {
                Ok(Entered::Port(access)) => self.port(&access).map(drop), // the rest of a string
                Ok(Entered::Exit(exit)) => self.exit(exit).map(drop),
                Ok(Entered::Interrupted | Entered::Eoi(_) | Entered::InternalError { .. }) => break,
                Err(error) => Err(error),
            };
            self.has_failed |= answered.is_err();
            result = result.and(answered);
        }
        result
    }

    /// Asks the hooks that want `exit`, the vCPU being put back meanwhile.
    fn consult(&mut self, exit: &Exit) -> Result<Reply> {
        let Self { lease, tables, rewritten, has_failed, .. } = self;
        let Some(chain) = tables.find(exit).filter(|_| !*has_failed) else { return Ok(Reply::Default) };
        let vcpu = &mut lease.cpu().vcpu;
        let id = vcpu.id();
        if let Some((before, wanted)) = rewritten {
            // Another access of an instruction at which registers were set already.
            let regs = merged(exit, before, &vcpu.regs()?, wanted);
            vcpu.set_regs(&regs);
        }
        lease.lend(|| {
            for hook in chain.iter() {
                match hook.ask(exit, id)? {
                    Reply::Default => {}
                    reply => return Ok(reply),
                }
            }
            Ok(Reply::Default)
        })
    }

    /// Answers a port access. An exit to hand out is made only where one is: moving one about costs more than the rest.
    fn port_access(&mut self, access: &Access) -> Result<Next> {
        Ok(match self.port(access)? {
            Verdict::Go if !self.session.count() => Next::Go,
            Verdict::Go | Verdict::Stop => Next::Stop(self.element(access, access.count.saturating_sub(1))),
            Verdict::Reset => Next::Stop(Exit::Reset),
        })
    }

    /// Answers a port access, element by element.
    fn port(&mut self, access: &Access) -> Result<Verdict> {
        self.pending = true;
        if access.direction == Direction::In {
            // What a handler that fails leaves unanswered reads as an empty bus does.
            (1..access.count).for_each(|index| self.vcpu().answer_port(access, index, u32::MAX));
        }
        let answered = (0..access.count).try_fold(Verdict::Go, |verdict, index| {
            let exit = self.element(access, index);
            Ok(verdict.max(match access.direction {
                Direction::Out => self.write(&exit)?,
                Direction::In => self.answer_read(&exit, |vcpu, data| {
                    vcpu.answer_port(access, index, u32::try_from(data & 0xffff_ffff).unwrap_or(0));
                })?,
            }))
        });
        if access.direction == Direction::Out && !self.is_settling {
            return answered;
        }
        let exit = self.element(access, 0);
        self.settle_after(&exit, answered)
    }

    /// Element `index` of a port access, as an exit.
    fn element(&mut self, access: &Access, index: u32) -> Exit {
        let (port, size) = (access.port, access.size);
        match access.direction {
            Direction::Out => Exit::PortOut { port, size, data: self.vcpu().port_data(access, index) },
            Direction::In => Exit::PortIn { port, size },
        }
    }

    /// Answers any other exit. Hands it back, and whether to stop.
    fn exit(&mut self, exit: Exit) -> Result<(Exit, bool)> {
        match exit {
            Exit::MmioRead { .. } => {
                self.pending = true;
                let answered = self.answer_read(&exit, Vcpu::answer_mmio);
                let verdict = self.settle_after(&exit, answered)?;
                Ok((exit, verdict != Verdict::Go))
            }
            Exit::MmioWrite { .. } => {
                self.pending = true;
                let mut written = self.write(&exit);
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
            other => self.decide(other),
        }
    }

    /// An exit that stops the machine unless a hook skips it.
    fn decide(&mut self, exit: Exit) -> Result<(Exit, bool)> {
        let stop = self.consult(&exit)? != Reply::Skip;
        Ok((exit, stop))
    }

    /// The data for a read: a hook's, a device's, or all ones.
    fn read(&mut self, exit: &Exit) -> Result<(u64, Verdict)> {
        let reply = self.consult(exit)?;
        let (devices, at, size) = match *exit {
            Exit::PortIn { port, size } => (&self.ports, u64::from(port), size),
            Exit::MmioRead { at, size } => (&self.mmio, at.0, size),
            _ => return Ok((0, Verdict::Go)),
        };
        let ones = all_ones(size);
        Ok(match reply {
            Reply::Value(value) => (value & ones, Verdict::Go),
            Reply::Skip => (ones, Verdict::Go),
            Reply::Default => (devices.read(at, size).unwrap_or(ones), Verdict::Go),
            Reply::Stop => (devices.read(at, size).unwrap_or(ones), Verdict::Stop),
        })
    }

    /// Brings a write to its device, unless a hook keeps it.
    fn write(&mut self, exit: &Exit) -> Result<Verdict> {
        let reply = self.consult(exit)?;
        let (devices, at, size, data) = match *exit {
            Exit::PortOut { port, size, data } => (&self.ports, u64::from(port), size, u64::from(data)),
            Exit::MmioWrite { at, size, data } => (&self.mmio, at.0, size, data),
            _ => return Ok(Verdict::Go),
        };
        let effect = match reply {
            Reply::Skip | Reply::Value(_) => None,
            Reply::Default | Reply::Stop => devices.write(at, size, data),
        };
        Ok(match effect {
            Some(Effect::Reset) if self.consult(&Exit::Reset)? != Reply::Skip => Verdict::Reset,
            _ if reply == Reply::Stop => Verdict::Stop,
            _ => Verdict::Go,
        })
    }

    /// Gives a read its data: all ones where a handler failed.
    fn answer_read(&mut self, exit: &Exit, answer: impl FnOnce(&mut Vcpu, u64)) -> Result<Verdict> {
        let read = self.read(exit);
        let data = read.as_ref().map_or(u64::MAX, |(data, _)| *data);
        answer(self.vcpu(), data);
        read.map(|(_, verdict)| verdict)
    }

    /// Settles an access whose answer may have failed: then no handler is asked any more, and that error comes out.
    fn settle_after<T>(&mut self, exit: &Exit, answered: Result<T>) -> Result<T> {
        self.has_failed |= answered.is_err();
        let settled = self.settle(exit);
        answered.and_then(|answer| settled.map(|()| answer))
    }

    /// After an access has been answered: a handler that set registers means the state after the instruction. Then the
    /// instruction completes first, since KVM's emulator would overwrite RIP, and drops the data of a read whose
    /// registers were set. Accesses that come on the way are part of it; it never calls itself.
    fn settle(&mut self, exit: &Exit) -> Result<()> {
        if let Some((now, wanted)) = self.vcpu().take_rewritten() {
            let before = self.rewritten.map_or(now, |(before, _)| before);
            self.rewritten = Some((before, wanted));
        }
        if self.rewritten.is_none() || self.is_settling {
            return Ok(());
        }
        self.is_settling = true;
        let completed = self.complete();
        self.is_settling = false;
        let Some((before, wanted)) = self.rewritten.take() else { return completed };
        completed?;
        let vcpu = self.vcpu();
        let regs = merged(exit, &before, &vcpu.regs()?, &wanted);
        vcpu.set_regs(&regs);
        Ok(())
    }

    fn describe(&mut self, suberror: u32, data: Vec<u64>, instruction: Vec<u8>) -> Result<InternalError> {
        let vcpu = self.vcpu();
        let (rip, bits) = (vcpu.regs()?[Gpr::Rip], vcpu.sregs()?.code_bits());
        Ok(InternalError { suberror, data, instruction, rip, bits })
    }

    fn repair(&mut self, error: &InternalError) -> Result<bool> {
        if error.suberror != InternalError::EMULATION {
            return Ok(false);
        }
        let Cpu { vcpu, repair, .. } = self.lease.cpu();
        repair.instruction(vcpu, &self.machine.memory, error)
    }
}
