//! Interrupts between steps: a step takes none, so that none takes its trap flag along into a frame. What waits is let in by an
//! entry without the flag, as far as the first instruction of its handler. It never delivers anything itself.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::exit::Exit;
use crate::kvm::{Entered, Events, Irqchip};
use crate::x86::{Gpr, Regs, Sregs, lapic, rflags};

use super::Run;
use super::debug::linear;
use super::handlers::{PAGE_FAULT, PROTECTION, stop_at};
use super::step_control::{BLOCK_INTERRUPTS, HARDWARE};
use super::turn::Prepared;

/// How long an interrupt waits at least while each instruction is stepped, and for how many of them.
const PATIENCE: (Duration, u64) = (Duration::from_micros(200), 16);

/// How long a vCPU sleeps between two looks whether another one has started it.
const NAP: Duration = Duration::from_millis(1);

const NMI: u8 = 2;

/// When interrupts come in.
#[derive(Debug, Default)]
pub(super) struct Door {
    /// How many steps have been made.
    steps: u64,
    /// When it was last looked for interrupts, and how many steps had been made.
    looked: Option<(Instant, u64)>,
    /// How many had been when the last one came in.
    came: Option<u64>,
    /// As many are made before the next one comes.
    next: u64,
    /// The vCPU may be waiting inside KVM.
    pub(super) may_wait: bool,
    /// It is open, at this linear address.
    open: Option<u64>,
}

impl Door {
    /// A step has been made; a halt, if `is_halt`.
    pub(super) fn stepped(&mut self, is_halt: bool) {
        self.steps += 1;
        self.may_wait |= is_halt;
    }

    /// Is it time to look for interrupts?
    fn is_due(&self) -> bool {
        self.looked.is_none_or(|(last, steps)| self.steps - steps >= PATIENCE.1 && last.elapsed() >= PATIENCE.0)
    }

    /// May the next interrupt come? What they interrupt gets as many steps as their handlers take: a timer is much faster than
    /// a guest that is stepped.
    fn is_their_turn(&mut self) -> bool {
        if let Some(came) = self.came.take() {
            self.next = self.steps + (self.steps - came);
        }
        self.steps >= self.next
    }

    /// The vCPU waits inside KVM: what wakes it is let in at once.
    fn is_waited_at(&mut self) {
        *self = Self { steps: self.steps, may_wait: true, ..Self::default() };
    }
}

impl Run<'_> {
    /// Before a step: lets an interrupt in that waits, or has the vCPU wait for one.
    pub(super) fn let_in(&mut self) -> Result<Option<Prepared>> {
        if !(self.vcpu().is_interrupted() || self.debug.door.is_due() || self.debug.door.may_wait)
            || !self.has_guards()?
        {
            return Ok(None);
        }
        let (regs, sregs) = self.registers()?;
        let events = self.vcpu().events()?;
        let mut vectors: Vec<u8> = events.on_their_way().collect();
        if vectors.is_empty() {
            if regs[Gpr::Rflags] & rflags::RF != 0 {
                return Ok(None); // a debug register would not stop it where it is
            }
            if self.debug.door.may_wait
                && let Some(prepared) = self.wait(&regs, &sregs)?
            {
                return Ok(Some(prepared));
            }
            self.debug.door.looked = Some((Instant::now(), self.debug.door.steps));
            vectors = if self.is_counted() { Vec::new() } else { self.waiting(&regs, &events)? };
        }
        if vectors.is_empty() {
            return Ok(None);
        }
        vectors.extend([PAGE_FAULT, PROTECTION]); // of the delivery
        self.open(HARDWARE, &vectors, &regs, &sregs).map(Some)
    }

    /// Has a vCPU wait that KVM does not have running: for an interrupt, or to be started.
    fn wait(&mut self, regs: &Regs, sregs: &Sregs) -> Result<Option<Prepared>> {
        if self.is_to_be_started()? {
            std::thread::sleep(NAP);
            return Ok(Some(Prepared::Entered(Entered::Interrupted)));
        }
        if !self.is_counted() && self.is_halted_inside()? {
            self.debug.door.is_waited_at();
            return self.open(HARDWARE | BLOCK_INTERRUPTS, &[], regs, sregs).map(Some);
        }
        self.debug.door.may_wait = false;
        Ok(None)
    }

    /// Are so many steps wanted, and no more? They take only what is on its way already.
    pub(super) fn is_counted(&self) -> bool {
        self.debug.left.is_some() || self.debug.is_stepped
    }

    /// An entry that ends at once, or at a handler of one of `vectors`.
    fn open(&mut self, control: u32, vectors: &[u8], regs: &Regs, sregs: &Sregs) -> Result<Prepared> {
        let at = linear(regs, sregs);
        let mut registers = [0; 8];
        stop_at(&mut registers, 0, at);
        let registers = self.with_guards(registers, vectors, regs, sregs);
        self.debug.guards.0 = Some(0xf); // no point's
        self.lease.cpu().debug.is_stepping = false;
        self.tell(control, registers)?;
        self.debug.door.open = Some(at);
        self.debug.ahead.forget_debug_registers();
        Ok(Prepared::Enter)
    }

    /// Has the entry let in what waited, or nothing? None if it was not for that.
    pub(super) fn has_come_in(&mut self, entered: &Entered) -> Option<bool> {
        let door = &mut self.debug.door;
        let at = door.open.take()?;
        let has_come = matches!(entered, Entered::Exit(Exit::Debug { exception: 1, pc, .. }) if *pc != at);
        if has_come {
            door.came = Some(door.steps);
        } else if matches!(entered, Entered::Interrupted) {
            door.looked = None; // it may be on its way now
        }
        Some(has_come)
    }

    /// The vectors of what waits to be let in.
    fn waiting(&mut self, regs: &Regs, events: &Events) -> Result<Vec<u8>> {
        let mut vectors: Vec<u8> = events.has_nmi().then_some(NMI).into_iter().collect();
        if regs[Gpr::Rflags] & rflags::IF == 0 || events.is_in_shadow() || !self.debug.door.is_their_turn() {
            return Ok(vectors);
        }
        if self.machine.irqchip != Irqchip::None {
            const IRR: usize = 0x200;
            vectors.extend(lapic::vectors(&self.vcpu().lapic()?, IRR).into_iter().max());
        }
        if self.machine.irqchip == Irqchip::Full {
            vectors.extend(self.machine.vm()?.waiting_at_pic()?);
        }
        Ok(vectors)
    }
}
