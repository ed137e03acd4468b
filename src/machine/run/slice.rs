//! The time that a vCPU is left alone after it was set going: who pauses or holds it sooner waits for that, so that a guest which
//! is stopped and resumed again and again still gets on. It never puts off an end of the run that somebody waits for.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::kvm::Irqchip;
use crate::x86::Regs;

use super::Run;

/// Who has been in the guest for so long has had its time: by far most pauses come later.
const LONG: Duration = Duration::from_millis(20);

/// How long it is left alone at first when somebody wants it to wait, and up to what it is doubled while it does not get on: a
/// processor gets it into the guest in microseconds, an emulated one that is busy elsewhere in milliseconds.
const FIRST: Duration = Duration::from_millis(1);
const LAST: Duration = Duration::from_millis(16);

/// `KVM_MP_STATE_RUNNABLE`.
const RUNNABLE: u32 = 0;
/// `KVM_MP_STATE_UNINITIALIZED`, `KVM_MP_STATE_INIT_RECEIVED`.
const UNINITIALIZED: u32 = 1;
const INIT_RECEIVED: u32 = 2;

/// Whether a vCPU has had its time.
#[derive(Debug)]
pub(super) struct Slice {
    begun: Instant,
    is_over: bool,
    /// Entries of the guest when it began, and those since then that a kick ended.
    entries: u64,
    idle: u64,
    /// Where it was when somebody wanted it to wait, and when it comes out to be looked at again.
    asked: Option<(Box<Regs>, Instant, Duration)>,
}

impl Slice {
    /// It is set going now, after so many entries.
    pub(super) fn begin(entries: u64) -> Self {
        Self { begun: Instant::now(), is_over: false, entries, idle: 0, asked: None }
    }

    /// An entry was ended by a kick.
    pub(super) fn was_idle(&mut self) {
        self.idle += 1;
    }

    /// It has got on, or is told to wait by its own doing.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }
}

impl Run<'_> {
    /// The vCPU is set going again.
    pub(super) fn begin_slice(&mut self) {
        self.slice = Slice::begin(self.watch.entries());
    }

    /// Is it to go on for a little, though somebody wants it to wait? It comes out by itself then.
    #[cold]
    pub(super) fn has_time_left(&mut self) -> Result<bool> {
        let left = if self.slice.is_over { None } else { self.time_left_in_slice()? };
        match left {
            Some(left) => {
                self.vcpu().acknowledge_kick();
                self.guard.come_out_in(left)?;
            }
            None => self.slice.end(),
        }
        Ok(left.is_some())
    }

    fn time_left_in_slice(&mut self) -> Result<Option<Duration>> {
        let entries = self.watch.entries() - self.slice.entries;
        let has_exited = entries > self.slice.idle;
        let (now, is_long) = (Instant::now(), entries > 0 && self.slice.begun.elapsed() >= LONG);
        let asked = self.slice.asked.take();
        if has_exited || asked.is_none() && is_long || self.is_halted_inside()? {
            return Ok(None);
        }
        let (from, until, time) = match asked {
            None => (Box::new(self.vcpu().regs()?), now + FIRST, FIRST),
            Some((from, until, time)) if now < until => (from, until, time),
            Some((from, _, time)) if time < LAST && *from == self.vcpu().regs()? => (from, now + time * 2, time * 2),
            Some(_) => return Ok(None),
        };
        self.slice.asked = Some((from, until, time));
        Ok(Some(until - now))
    }

    /// Does KVM have it wait to be started? To ask makes a start that was sent happen, without an instruction after it.
    pub(super) fn is_to_be_started(&mut self) -> Result<bool> {
        Ok(self.machine.irqchip != Irqchip::None && matches!(self.vcpu().mp_state()?, UNINITIALIZED | INIT_RECEIVED))
    }

    /// Does KVM have it wait, for an interrupt or to be started?
    pub(super) fn is_halted_inside(&mut self) -> Result<bool> {
        Ok(self.machine.irqchip != Irqchip::None && self.vcpu().mp_state()? != RUNNABLE)
    }
}
