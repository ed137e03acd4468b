//! How a debugged vCPU enters the guest: past the breakpoint at which it was stopped, and one instruction at a time where
//! that is wanted. It never says what a hit means.

use iced_x86::{FlowControl, Instruction, Mnemonic};

use crate::addr::GuestPhys;
use crate::error::Result;
use crate::exit::Exit;
use crate::hook::Subject;
use crate::kvm::{Entered, TICK};
use crate::machine::repair::{emulate, instruction_at, locate};
use crate::x86::{Gpr, Regs, Sregs};

use super::debug::linear;
use super::step_control::{ALONE, HARDWARE, StepEnd, TRAP_FLAG};
use super::turn::Prepared;
use super::{Next, Run};

impl Run<'_> {
    /// Takes over changes of the points.
    pub(super) fn look_up_points(&mut self) {
        let generation = self.machine.points.generation();
        if self.debug.generation != generation {
            self.debug.generation = generation;
            self.debug.plan = self.machine.points.outline();
        }
        self.debug.is_on = self.debug.steps() || !self.debug.plan.is_empty || self.lease.cpu().debug.owns_trap_flag;
    }

    /// Does a hook or a trace want to see each step?
    pub(super) fn look_up_steps(&mut self) {
        let wants = |subject| subject == Subject::Kind(crate::exit::ExitKind::Step);
        let traced = self.tables.traces().is_some_and(|traces| traces.all().iter().any(|hook| wants(hook.subject)));
        self.debug.is_traced = traced || self.tables.all().iter().any(|hook| wants(hook.subject));
        self.debug.is_on |= self.debug.is_traced;
        self.debug.door.may_wait = true;
    }

    /// Before an entry: plants what can be planted by now, tells KVM what is wanted, and gets past the breakpoint at which
    /// the vCPU was stopped.
    pub(super) fn prepare(&mut self) -> Result<Prepared> {
        self.look_up_points();
        self.debug.passing = None;
        let has_passed = std::mem::take(&mut self.debug.has_passed);
        self.look_after_steal_time(self.debug.steps())?;
        if std::mem::take(&mut self.debug.has_stepped) {
            return self.after_step().map(Prepared::Done);
        }
        if self.debug.plan.has_waiting || self.debug.plan.wants_gate {
            let has_shim = self.lease.cpu().shim.is_some();
            let sregs = self.vcpu().sregs()?;
            self.machine.settle(self.slot.id, &sregs, has_shim)?;
            self.look_up_points();
            self.guard.tick_in(self.session.time_left().map_or(TICK, |left| left.min(TICK)))?;
        }
        if std::mem::take(&mut self.debug.is_first) {
            // A step from where a breakpoint is begins behind it.
            let (regs, sregs) = self.registers()?;
            self.lease.cpu().debug.resume = Some(linear(&regs, &sregs));
        }
        if self.debug.steps() {
            if self.is_done_unreported()? {
                return self.after_step().map(Prepared::Done);
            }
            self.look_at_next()?;
            if self.halts_here()? {
                return self.after_halt().map(Prepared::Done);
            }
        }
        if let Some(at) = self.lease.cpu().debug.resume.take() {
            let (regs, sregs) = self.registers()?;
            if linear(&regs, &sregs) == at {
                return self.pass(at, &regs, &sregs);
            }
        }
        if has_passed
            && !self.debug.steps()
            && let Some(next) = self.go_ahead()?
        {
            return Ok(Prepared::Done(next));
        }
        self.enter_or_step()
    }

    fn enter_or_step(&mut self) -> Result<Prepared> {
        let steps = self.debug.steps();
        if steps && let Some(next) = self.step_here()? {
            return Ok(Prepared::Done(next));
        }
        if steps && let Some(prepared) = self.let_in()? {
            return Ok(prepared);
        }
        self.tell_control(steps)?;
        Ok(Prepared::Enter)
    }

    /// A step that is made here: of an instruction behind which an interpreted ring 0 does not stop.
    fn step_here(&mut self) -> Result<Option<Next>> {
        let (regs, sregs) = self.registers()?;
        self.debug.from = regs[Gpr::Rip];
        self.debug.before = Some((regs, sregs));
        if self.machine.quirks.ring0_is_native || sregs.cpl() != 0 || self.vcpu().is_interrupted() {
            return Ok(None);
        }
        let is_one = |found: &Instruction| {
            use Mnemonic as M;
            matches!(found.mnemonic(), M::Endbr64 | M::Endbr32 | M::Lfence | M::Mfence | M::Sfence)
        };
        if instruction_at(&regs, &sregs, &self.machine.memory).as_ref().is_none_or(|found| !is_one(found)) {
            return Ok(None);
        }
        let Some(after) = emulate(&regs, &sregs, &self.machine.memory, self.is_alone()) else { return Ok(None) };
        self.vcpu().set_regs(&after);
        self.after_step().map(Some)
    }

    /// After an access of a step has been answered: completes its instruction, which ends the step.
    pub(super) fn complete_step(&mut self) -> Result<()> {
        self.complete()?;
        let rip = self.vcpu().regs()?[Gpr::Rip];
        self.debug.has_stepped |= rip != self.debug.from;
        Ok(())
    }

    /// Gets past the breakpoint at `at`, if there is one: by executing its instruction here, or by a step of this vCPU alone.
    fn pass(&mut self, at: u64, regs: &Regs, sregs: &Sregs) -> Result<Prepared> {
        let steps = self.debug.steps();
        let place = locate(sregs, &self.machine.memory, at).map(|(place, _)| place);
        let planted = place.filter(|place| self.machine.memory.has_patch(*place));
        let has_register =
            self.debug.plan.slots.iter().flatten().any(|slot| slot.linear == at && slot.point.wish.watch.is_none());
        if planted.is_none() && !has_register {
            return self.enter_or_step();
        }
        let data = self.debug.plan.data_registers(self.slot.id);
        let is_interrupted = self.vcpu().is_interrupted();
        if is_interrupted && let Some(prepared) = if steps { self.let_in()? } else { Some(self.entering()?) } {
            // It comes before the instruction, which is neither executed nor stepped over until the guest is back.
            self.lease.cpu().debug.returning = Some((at, regs[Gpr::Rsp]));
            return Ok(prepared);
        }
        if !is_interrupted && self.execute_here(regs, sregs, data.is_some()) {
            return Ok(if steps { Prepared::Done(self.after_step()?) } else { self.entering()? });
        }
        if !is_interrupted && self.waits_inside(regs, sregs) {
            let halted = self.halt_here(*regs)?;
            return Ok(Prepared::Done(if steps { self.after_step()? } else { halted }));
        }
        self.debug.touched = if data.is_some() { self.touched(regs, sregs) } else { 0 };
        if let Some((control, registers)) = self.guarded(data, regs, sregs)? {
            self.tell(control, registers)?;
        } else if self.can_step(sregs) {
            self.tell(if data.is_some() { ALONE | HARDWARE } else { ALONE }, data.unwrap_or_default())?;
        } else {
            self.set_trap_flag(regs, sregs)?;
            self.tell(0, [0; 8])?;
        }
        self.debug.passing = Some(at);
        self.debug.before = None; // `passed` knows them
        if let Some(entered) = self.enter_past(planted)? {
            return self.passed(at, &(*regs, *sregs), entered, is_interrupted);
        }
        self.lease.cpu().debug.resume = Some(at);
        Ok(Prepared::Entered(Entered::Interrupted))
    }

    /// Enters the guest with the byte at `planted` taken back, while no other vCPU is there; without one, as ever. None if
    /// somebody changes the shape of memory just now.
    fn enter_past(&mut self, planted: Option<GuestPhys>) -> Result<Option<Entered>> {
        let (machine, id) = (self.machine, self.slot.id);
        let alone = planted.and_then(|_| machine.world.alone(&machine.cpus));
        if alone.is_none() && !machine.world.enter(id) {
            return Ok(None);
        }
        let lifted = planted.map_or(Ok(()), |place| machine.memory.lift(place));
        let entered = lifted.and_then(|()| self.lease.cpu().vcpu.enter());
        let lowered = planted.map_or(Ok(()), |place| machine.memory.lower(place));
        if alone.is_none() {
            machine.world.leave(id);
        }
        lowered.and(entered).map(Some)
    }

    fn entering(&mut self) -> Result<Prepared> {
        self.tell_control(false)?;
        Ok(Prepared::Enter)
    }

    /// After a step past the breakpoint at `at`, before which the registers were `before`. Where it is interrupted, it ends in
    /// the guest's handler.
    fn passed(&mut self, at: u64, from: &(Regs, Sregs), entered: Entered, is_interrupted: bool) -> Result<Prepared> {
        let before = &from.0;
        let is_step = matches!(entered, Entered::Exit(Exit::Debug { .. }));
        let end = self.debug.guards.end_of(&entered);
        let has_faulted = end == StepEnd::AtHandler;
        if is_step {
            self.hide_step(from, end)?;
        }
        let (regs, sregs) = self.registers()?;
        let now = linear(&regs, &sregs);
        let executed = instruction_at(before, &sregs, &self.machine.memory);
        let straight = executed.filter(|instruction| instruction.flow_control() == FlowControl::Next);
        if straight.is_none_or(|straight| straight.op0_register().is_dr()) {
            self.debug.ahead.forget_debug_registers();
        }
        let is_over = is_step && now != at && !is_interrupted && !has_faulted;
        let is_trapped = before[Gpr::Rflags] & TRAP_FLAG != 0 && !self.lease.cpu().debug.owns_trap_flag;
        if is_over && is_trapped && straight.is_none_or(|straight| straight.next_ip() == regs[Gpr::Rip]) {
            self.give_trap_back(executed.is_none_or(|executed| has_flags(&executed)))?;
        }
        let debug = &mut self.lease.cpu().debug;
        match straight {
            // Nothing has been executed, or one round of a string.
            _ if now == at && matches!(entered, Entered::Interrupted) => debug.resume = Some(at),
            Some(_) if now == at && is_step => debug.resume = Some(at),
            _ if (is_interrupted || has_faulted) && is_step => debug.returning = Some((at, before[Gpr::Rsp])),
            Some(straight) if is_step && straight.next_ip() != regs[Gpr::Rip] => {
                debug.returning = Some((at, before[Gpr::Rsp]));
            }
            _ => {}
        }
        Ok(Prepared::Entered(entered))
    }
}

/// Does it load the flags, the trap flag among them?
fn has_flags(instruction: &Instruction) -> bool {
    use Mnemonic::{Iret, Iretd, Iretq, Popf, Popfd, Popfq, Syscall, Sysret, Sysretq};
    matches!(instruction.mnemonic(), Popf | Popfd | Popfq | Iret | Iretd | Iretq | Syscall | Sysret | Sysretq)
}
