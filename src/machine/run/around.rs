//! Instructions on trapped pages that KVM cannot do (a fetch from a hole, AVX, x87): the pages are shown again for the one
//! instruction, with all other vCPUs held. It never lets an access to what is watched pass unseen.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use iced_x86::Mnemonic;

use crate::addr::{GuestPhys, PAGE, Span, page_floor};
use crate::error::Result;
use crate::exit::{Exit, InternalError};
use crate::kvm::{Entered, Irqchip, TICK};
use crate::machine::repair::{emulate, instruction_at, locate};
use crate::machine::trap::{Access, Operands, Table, Watch};
use crate::source::ReadMemory;
use crate::x86::{Gpr, Regs, Sregs};

use super::step_control::{ALONE, StepEnd};
use super::trap::Hit;
use super::{Next, Run};

/// How often a step that was interrupted is tried again at once.
const MOST_TRIES: usize = 16;
/// The most time that one takes, with everybody else held.
const PATIENCE: Duration = Duration::from_millis(2);

/// Watched bytes that an instruction touches: in pieces of at most eight.
struct Before {
    watch: Arc<Watch>,
    span: Span,
    own: u64,
    write: bool,
    value: u64,
}

impl Run<'_> {
    /// KVM could not do an instruction. If that may be because of a trapped page, does it here; none where it is not.
    pub(super) fn around_traps(&mut self, error: &InternalError) -> Result<Option<Next>> {
        if !self.machine.traps.are_used() || error.suberror != InternalError::EMULATION {
            return Ok(None);
        }
        let changes = self.machine.traps.changes();
        let table = self.machine.traps.table();
        let vcpu = &mut self.lease.cpu().vcpu;
        let (regs, sregs) = (vcpu.regs()?, vcpu.sregs()?);
        let operands = Operands::of(&regs, &sregs, &*self.machine.memory);
        let pages = trapped(&table, &operands);
        if pages.is_empty() && operands.is_all {
            // What failed may have been trapped until just now: it is tried again, once for each change.
            let known = std::mem::replace(&mut self.lease.cpu().trap_changes, changes);
            return Ok((known != changes).then_some(Next::Go));
        }
        if self.is_executed(&table, &operands, regs[Gpr::Rip]) {
            return Ok(Some(Next::Go)); // once the hits have been handed out, the instruction fails again
        }
        let before = self.look(&table, &operands);
        if self.repair(error)? {
            self.slot.counters.repaired();
            self.executed(before, regs[Gpr::Rip]);
            return self.after_step().map(Some);
        }
        if let Some(after) = emulate(&regs, &sregs, &self.machine.memory, self.is_alone()) {
            self.vcpu().set_regs(&after);
            self.executed(before, regs[Gpr::Rip]);
            return self.after_step().map(Some);
        }
        if operands.is_hlt && self.machine.irqchip() != Irqchip::None {
            return self.halt_here(regs).map(Some);
        }
        let entered = self.step_over(operands.is_all.then_some(&pages), &regs, &sregs)?;
        if matches!(entered, Entered::Interrupted) && is_at(&regs, &self.vcpu().regs()?) {
            self.clear_trap_flag()?;
            return self.answer(entered).map(Some); // nothing has been executed
        }
        if self.debug.guards.end_of(&entered) != StepEnd::AtHandler {
            self.executed(before, regs[Gpr::Rip]);
        }
        match self.debug_exit(&entered)? {
            Some(next) => Ok(Some(next)),
            None => self.stepped(entered).map(Some),
        }
    }

    /// Executes the instruction at which the vCPU is here, if it is a plain one, and tells of what it touches that is watched.
    /// Not where debug registers watch data (`has_data`) and it touches any: only the processor tells of that.
    pub(super) fn execute_here(&mut self, regs: &Regs, sregs: &Sregs, has_data: bool) -> bool {
        let (world, id) = (&self.machine.world, self.slot.id);
        while !world.enter(id) {} // somebody changes what is watched just now
        let executed = self.executed_inside(regs, sregs, has_data);
        world.leave(id);
        let Some((after, before)) = executed else { return false };
        self.vcpu().set_regs(&after);
        if !before.is_empty() {
            self.executed(before, regs[Gpr::Rip]);
        }
        true
    }

    /// The registers after such an instruction, and what it touches that is watched, as it was before.
    fn executed_inside(&self, regs: &Regs, sregs: &Sregs, has_data: bool) -> Option<(Regs, Vec<Before>)> {
        let mut before = Vec::new();
        if has_data || self.machine.traps.are_used() {
            let operands = Operands::of(regs, sregs, &*self.machine.memory);
            if has_data && (!operands.is_all || !operands.data.is_empty()) {
                return None;
            }
            before = self.look(&self.machine.traps.table(), &operands);
        }
        emulate(regs, sregs, &self.machine.memory, self.is_alone()).map(|after| (after, before))
    }

    /// Is there no other vCPU to come between a read and a write?
    pub(super) fn is_alone(&self) -> bool {
        self.machine.cpus.len() == 1
    }

    /// The debug registers that watch what the instruction at hand touches, as bits of DR6.
    pub(super) fn touched(&self, regs: &Regs, sregs: &Sregs) -> u64 {
        let operands = Operands::of(regs, sregs, &*self.machine.memory);
        let slots = self.debug.plan.slots.iter().enumerate();
        let watched = slots.filter_map(|(n, slot)| {
            let slot = slot.as_ref()?;
            let watch = slot.point.wish.watch?;
            let (at, _) = locate(sregs, &self.machine.memory, slot.linear)?;
            Some((n, Span { first: at.0, last: at.0 + u64::from(watch.size.max(1)) - 1 }, watch.reads))
        });
        let hit = watched.filter(|(_, span, reads)| {
            operands.data.iter().any(|touched| {
                (touched.writes || *reads && touched.reads)
                    && touched.at.0 <= span.last
                    && span.first < touched.at.0 + touched.len
            })
        });
        hit.fold(0, |bits, (n, ..)| bits | 1 << n)
    }

    /// What came out of a step, if it is no debugger's.
    fn stepped(&mut self, entered: Entered) -> Result<Next> {
        match entered {
            Entered::InternalError { suberror, data, instruction } => {
                let error = self.describe(suberror, data, instruction)?;
                let (exit, stop) = self.decide(Exit::InternalError(Box::new(error)))?;
                self.finish(exit, stop)
            }
            other => self.answer(other),
        }
    }

    /// Notes hits of watches on the instruction itself, unless it has been told of already.
    fn is_executed(&mut self, table: &Table, operands: &Operands, rip: u64) -> bool {
        if self.lease.cpu().passed == Some(rip) {
            return false;
        }
        let Some((at, _)) = operands.code.first() else { return false };
        let len: u64 = operands.code.iter().map(|(_, len)| len).sum();
        let touched = table.touched(*at, 1, Access::Execute);
        for (watch, span, own) in &touched {
            let span = Span { first: span.first, last: span.first + (len - 1).min(7) };
            let mut hit = Hit::new(Arc::clone(watch), span, *own, false);
            hit.watched.before = self.value(span);
            (hit.watched.after, hit.watched.rip) = (hit.watched.before, rip);
            self.hits.push(hit);
        }
        self.lease.cpu().passed = Some(rip);
        !touched.is_empty()
    }

    fn value(&self, span: Span) -> u64 {
        let len = usize::try_from(span.last - span.first + 1).unwrap_or(8).min(8);
        let mut word = [0; 8];
        let _ = self.machine.memory.read(GuestPhys(span.first), &mut word[..len]); // what has been removed is zero
        u64::from_le_bytes(word)
    }

    /// What is watched of what the instruction touches, as it is now.
    fn look(&self, table: &Table, operands: &Operands) -> Vec<Before> {
        let mut before = Vec::new();
        for touched in &operands.data {
            let kinds = [(touched.reads, Access::Read), (touched.writes, Access::Write)];
            for (_, access) in kinds.into_iter().filter(|(is, _)| *is) {
                for (watch, span, own) in table.touched(touched.at, touched.len, access) {
                    before.extend(self.pieces(&watch, span, own, access == Access::Write));
                }
            }
        }
        before
    }

    fn pieces(&self, watch: &Arc<Watch>, span: Span, own: u64, write: bool) -> Vec<Before> {
        let starts = (span.first..=span.last).step_by(8);
        let piece = |first: u64| {
            let span = Span { first, last: span.last.min(first + 7) };
            let own = own.wrapping_add(first - span.first);
            Before { watch: Arc::clone(watch), span, own, write, value: self.value(span) }
        };
        starts.map(piece).collect()
    }

    /// The instruction has been executed: notes its hits.
    fn executed(&mut self, before: Vec<Before>, rip: u64) {
        self.lease.cpu().passed = None;
        for Before { watch, span, own, write, value } in before {
            let mut hit = Hit::new(watch, span, own, write);
            (hit.watched.before, hit.watched.after, hit.watched.rip) = (value, self.value(span), rip);
            self.hits.push(hit);
        }
    }

    /// Is it a halt that KVM itself would wait in, with everybody else held?
    pub(super) fn waits_inside(&self, regs: &Regs, sregs: &Sregs) -> bool {
        let found = || instruction_at(regs, sregs, &self.machine.memory);
        let is_halt = || found().is_some_and(|found| found.mnemonic() == Mnemonic::Hlt);
        self.machine.irqchip() != Irqchip::None && sregs.cpl() == 0 && is_halt()
    }

    /// HLT, which would wait inside KVM for an interrupt that a held vCPU may have to send.
    pub(super) fn halt_here(&mut self, mut regs: Regs) -> Result<Next> {
        self.lease.cpu().passed = None;
        regs[Gpr::Rip] = regs[Gpr::Rip].wrapping_add(1);
        self.vcpu().set_regs(&regs);
        self.vcpu().flush()?;
        self.debug.door.may_wait = true;
        self.vcpu().halt()?;
        Ok(Next::Go)
    }

    /// Executes one instruction with `pages` (all where there are none) as if they were not trapped.
    fn step_over(&mut self, pages: Option<&BTreeSet<u64>>, regs: &Regs, sregs: &Sregs) -> Result<Entered> {
        let machine = self.machine;
        let told = self.lease.cpu().debug.told;
        let data = self.debug.plan.data_registers(self.slot.id);
        if let Some((control, registers)) = self.guarded(data, regs, sregs)? {
            self.debug.before = Some((*regs, *sregs));
            self.tell(told.0 | control, registers)?;
        } else if self.can_step(sregs) {
            self.tell(told.0 | ALONE, told.1)?;
        } else {
            self.set_trap_flag(regs, sregs)?;
            self.debug.is_on = true; // to take the trap for what it is
        }
        let held = machine.world.hold(&machine.cpus);
        machine.lift_traps(pages, true)?;
        let entered = self.step_once(regs);
        machine.lift_traps(pages, false)?;
        drop(held);
        self.tell(told.0, told.1)?;
        self.guard.tick_in(self.session.time_left().map_or(TICK, |left| left.min(TICK)))?;
        entered
    }

    /// One instruction; nobody waits for longer than a few moments, whatever it is.
    fn step_once(&mut self, regs: &Regs) -> Result<Entered> {
        let mut entered = Ok(Entered::Interrupted);
        for _ in 0..MOST_TRIES {
            self.guard.tick_in(PATIENCE)?;
            entered = self.vcpu().enter();
            // By the trap flag, the step is over when the guest's handler of it is caught.
            let is_on_its_way = self.lease.cpu().debug.owns_trap_flag || is_at(regs, &self.vcpu().regs()?);
            if !matches!(entered, Ok(Entered::Interrupted)) || !is_on_its_way {
                break;
            }
            self.vcpu().acknowledge_kick();
        }
        entered
    }
}

/// Has nothing been executed between these two? A step may have set the trap flag.
fn is_at(before: &Regs, after: &Regs) -> bool {
    let mut same = *after;
    same[Gpr::Rflags] = before[Gpr::Rflags];
    same == *before
}

/// The trapped pages that an instruction touches.
fn trapped(table: &Table, operands: &Operands) -> BTreeSet<u64> {
    let code = operands.code.iter().map(|(at, len)| (*at, *len));
    let data = operands.data.iter().map(|touched| (touched.at, touched.len));
    let ends = code.chain(data).flat_map(|(at, len)| [at.0, at.0 + (len - 1).min(PAGE)]);
    ends.map(page_floor).filter(|page| table.kind_at(GuestPhys(*page)).is_some()).collect()
}
