//! How a debugged vCPU enters the guest: past the breakpoint at which it was stopped, and one instruction at a time where
//! that is wanted. It never says what a hit means.

use iced_x86::{FlowControl, Instruction, Mnemonic};

use crate::error::{Error, Result};
use crate::exit::{Executed, Exit};
use crate::hook::Subject;
use crate::kvm::{Entered, Irqchip, TICK};
use crate::machine::debug::STEP;
use crate::machine::repair::{emulate, instruction_at, locate};
use crate::machine::stepping::is_of_flow;
use crate::x86::{Gpr, Regs, Sregs};

use super::debug::linear;
use super::{Next, Run};

// KVM_GUESTDBG_* (Linux, Documentation/virt/kvm/api.rst, KVM_SET_GUEST_DEBUG).
const ENABLE: u32 = 1;
pub(super) const SINGLE_STEP: u32 = 2;
const SOFTWARE: u32 = 1 << 16;
const HARDWARE: u32 = 1 << 17;
const INJECT_BREAKPOINT: u32 = 1 << 19;

pub(super) const TRAP_FLAG: u64 = 1 << 8;

/// How a run goes on after its preparation.
pub(super) enum Prepared {
    /// Into the guest.
    Enter,
    /// It has been there: this is what came out.
    Entered(Entered),
    /// It has been answered.
    Done(Next),
}

/// An instruction that is about to be executed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Decoded {
    from: u64,
    size: u8,
    repeats: bool,
    is_halt: bool,
}

impl Run<'_> {
    /// One entry of the guest, and what comes of it.
    pub(super) fn turn(&mut self) -> Result<Next> {
        let is_debugged = self.is_debugged();
        let prepared = if is_debugged { self.prepare()? } else { Prepared::Enter };
        self.watch.entering();
        let entered = match prepared {
            Prepared::Enter => self.enter_guest(),
            Prepared::Entered(entered) => Ok(entered),
            Prepared::Done(next) => return Ok(next),
        };
        self.watch.left();
        let entered = entered?;
        if is_debugged && let Some(next) = self.debug_exit(&entered)? {
            return Ok(next);
        }
        let next = self.answer_in_order(entered)?;
        if self.pending && self.debug.steps() && matches!(next, Next::Go) {
            self.complete_step()?;
        }
        Ok(next)
    }

    /// Is there anything to prepare before an entry, or to look at after one?
    pub(super) fn is_debugged(&self) -> bool {
        self.debug.is_on || self.debug.generation != self.machine.points.generation()
    }

    /// Enters the guest, unless another vCPU is to be alone there.
    pub(super) fn enter_guest(&mut self) -> Result<Entered> {
        let (world, id) = (&self.machine.world, self.slot.id);
        if !world.enter(id) {
            return Ok(Entered::Interrupted);
        }
        let entered = self.lease.cpu().vcpu.enter();
        world.leave(id);
        entered
    }

    /// Completes an access inside KVM, unless another vCPU is to be alone: it looks at memory, as the guest does.
    pub(super) fn complete_inside(&mut self) -> Result<Entered> {
        let (world, id) = (&self.machine.world, self.slot.id);
        while !world.enter(id) {}
        let entered = self.lease.cpu().vcpu.complete();
        world.leave(id);
        entered
    }

    /// Takes over changes of the points.
    pub(super) fn look_up_points(&mut self) {
        let generation = self.machine.points.generation();
        if self.debug.generation != generation {
            self.debug.generation = generation;
            self.debug.plan = self.machine.points.plan();
        }
        self.debug.is_on = self.debug.steps() || !self.debug.plan.is_empty() || self.lease.cpu().debug.owns_trap_flag;
    }

    /// Does a hook or a trace want to see each step?
    pub(super) fn look_up_steps(&mut self) {
        let wants = |subject| subject == Subject::Kind(crate::exit::ExitKind::Step);
        let traced = self.tables.traces().is_some_and(|traces| traces.all().iter().any(|hook| wants(hook.subject)));
        self.debug.is_traced = traced || self.tables.all().iter().any(|hook| wants(hook.subject));
        self.debug.is_on |= self.debug.is_traced;
    }

    /// Before an entry: plants what can be planted by now, tells KVM what is wanted, and gets past the breakpoint at which
    /// the vCPU was stopped.
    #[cold]
    pub(super) fn prepare(&mut self) -> Result<Prepared> {
        self.look_up_points();
        if std::mem::take(&mut self.debug.has_stepped) {
            return self.after_step().map(Prepared::Done);
        }
        if self.debug.plan.pending().next().is_some() || self.debug.plan.wants_gate() {
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
        self.enter_or_step()
    }

    fn enter_or_step(&mut self) -> Result<Prepared> {
        let steps = self.debug.steps();
        if steps && let Some(next) = self.step_here()? {
            return Ok(Prepared::Done(next));
        }
        self.tell_control(steps)?;
        Ok(Prepared::Enter)
    }

    /// A step that is made here: of an instruction behind which an interpreted ring 0 does not stop.
    fn step_here(&mut self) -> Result<Option<Next>> {
        let (regs, sregs) = self.registers()?;
        self.debug.from = regs[Gpr::Rip];
        if self.machine.quirks.ring0_is_native || sregs.cpl() != 0 {
            return Ok(None);
        }
        let is_one = |found: &Instruction| matches!(found.mnemonic(), Mnemonic::Endbr64 | Mnemonic::Endbr32);
        if instruction_at(&regs, &sregs, &self.machine.memory).as_ref().is_none_or(|found| !is_one(found)) {
            return Ok(None);
        }
        let Some(after) = emulate(&regs, &sregs, &self.machine.memory) else { return Ok(None) };
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

    /// Tells KVM what is to be debugged, if it has been told otherwise.
    fn tell_control(&mut self, steps: bool) -> Result<()> {
        let quirks = &self.machine.quirks;
        let registers = self.debug.plan.registers(self.slot.id);
        let reports = quirks.int3_exits_in_ring0 || quirks.int3_exits_in_ring3;
        let mut control = if registers.is_some() { HARDWARE } else { 0 };
        if reports && self.debug.plan.wants_int3() {
            control |= SOFTWARE;
        }
        if steps {
            let (regs, sregs) = self.registers()?;
            if self.can_step(&sregs) {
                control |= SINGLE_STEP;
            } else {
                self.set_trap_flag(&regs, &sregs)?;
            }
        }
        self.tell(control, registers.unwrap_or_default())
    }

    pub(super) fn tell(&mut self, control: u32, registers: [u64; 8]) -> Result<()> {
        let control = if control == 0 { 0 } else { control | ENABLE };
        let cpu = self.lease.cpu();
        if cpu.debug.told != (control, registers) {
            cpu.vcpu.set_guest_debug(control, registers)?;
            cpu.debug.told = (control, registers);
        }
        Ok(())
    }

    /// Does KVM step in the ring at hand?
    pub(super) fn can_step(&self, sregs: &Sregs) -> bool {
        let quirks = &self.machine.quirks;
        if sregs.cpl() == 3 { quirks.single_step_in_ring3 } else { quirks.single_step_in_ring0 }
    }

    /// Has the guest's own #DB tell of the end of the step, which is caught on its way.
    pub(super) fn set_trap_flag(&mut self, regs: &Regs, sregs: &Sregs) -> Result<()> {
        let is_caught =
            sregs.cpl() == 3 && (self.lease.cpu().shim.is_some() || self.machine.plant_gate(STEP, sregs)?);
        if !is_caught {
            return Err(Error::NoMechanism {
                what: "this KVM does not step here",
                instead: "run to a breakpoint instead (cpu.run_until)",
            });
        }
        self.look_up_points();
        let mut regs = *regs;
        let owns = self.lease.cpu().debug.owns_trap_flag;
        if regs[Gpr::Rflags] & TRAP_FLAG == 0 {
            if owns {
                self.note_stray()?;
            }
            regs[Gpr::Rflags] |= TRAP_FLAG;
            let cpu = self.lease.cpu();
            cpu.debug.owns_trap_flag = true;
            cpu.vcpu.set_regs(&regs);
        } else if !owns {
            self.adopt_stray()?;
        }
        Ok(())
    }

    /// A trap flag of ours is not in the registers any more: an interrupt or a system call has taken it into the frame that it
    /// pushed, and it comes back with that.
    fn note_stray(&mut self) -> Result<()> {
        if self.lease.cpu().shim.is_none() {
            self.machine.points.change(|plan| {
                plan.strays += 1;
                Ok(())
            })?;
            self.look_up_points();
        }
        Ok(())
    }

    /// Is a trap flag that nobody has set here one of ours, come back? Then it is ours again.
    pub(super) fn adopt_stray(&mut self) -> Result<bool> {
        self.look_up_points();
        if self.debug.plan.strays == 0 {
            return Ok(false);
        }
        self.machine.points.change(|plan| {
            plan.strays = plan.strays.saturating_sub(1);
            Ok(())
        })?;
        self.lease.cpu().debug.owns_trap_flag = true;
        self.look_up_points();
        Ok(true)
    }

    /// Takes the trap flag away again that a step has set.
    pub(super) fn clear_trap_flag(&mut self) -> Result<()> {
        let cpu = self.lease.cpu();
        if std::mem::take(&mut cpu.debug.owns_trap_flag) {
            let mut regs = cpu.vcpu.regs()?;
            if regs[Gpr::Rflags] & TRAP_FLAG == 0 {
                return self.note_stray();
            }
            regs[Gpr::Rflags] &= !TRAP_FLAG;
            cpu.vcpu.set_regs(&regs);
        }
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
        if let Some(after) = emulate(regs, sregs, &self.machine.memory) {
            self.vcpu().set_regs(&after);
            return Ok(if steps { Prepared::Done(self.after_step()?) } else { self.entering()? });
        }
        if self.can_step(sregs) {
            self.tell(SINGLE_STEP, [0; 8])?;
        } else {
            self.set_trap_flag(regs, sregs)?;
            self.tell(0, [0; 8])?;
        }
        let entered = {
            let machine = self.machine;
            let _alone = planted.and_then(|_| machine.world.alone(&machine.cpus));
            planted.map_or(Ok(()), |place| machine.memory.lift(place))?;
            let entered = self.lease.cpu().vcpu.enter();
            planted.map_or(Ok(()), |place| machine.memory.lower(place))?;
            entered?
        };
        self.passed(at, regs, entered)
    }

    fn entering(&mut self) -> Result<Prepared> {
        self.tell_control(false)?;
        Ok(Prepared::Enter)
    }

    /// After a step past the breakpoint at `at`, before which the registers were `before`.
    fn passed(&mut self, at: u64, before: &Regs, entered: Entered) -> Result<Prepared> {
        let (regs, sregs) = self.registers()?;
        let now = linear(&regs, &sregs);
        let is_step = matches!(entered, Entered::Exit(Exit::Debug { .. }));
        let straight = instruction_at(before, &sregs, &self.machine.memory)
            .filter(|instruction| instruction.flow_control() == FlowControl::Next);
        let debug = &mut self.lease.cpu().debug;
        match straight {
            // Nothing has been executed, or one round of a string.
            _ if now == at && matches!(entered, Entered::Interrupted) => debug.resume = Some(at),
            Some(_) if now == at && is_step => debug.resume = Some(at),
            Some(straight) if is_step && straight.next_ip() != regs[Gpr::Rip] => {
                debug.returning = Some((at, before[Gpr::Rsp]));
            }
            _ => {}
        }
        Ok(Prepared::Entered(entered))
    }

    /// One instruction has been executed: a step, if anybody wanted one.
    pub(super) fn after_step(&mut self) -> Result<Next> {
        self.clear_trap_flag()?;
        if !self.debug.steps() {
            return Ok(Next::Go);
        }
        let exit = self.step_made()?;
        if let Exit::Step { at, .. } = exit {
            self.tell_stepper(at);
        }
        if self.debug.is_traced
            && let Next::Stop(exit) = self.hit(exit.clone(), false)?
        {
            return Ok(Next::Stop(exit));
        }
        let (regs, sregs) = self.registers()?;
        let is_there = self.debug.to_flow
            && instruction_at(&regs, &sregs, &self.machine.memory).is_some_and(|found| is_of_flow(&found));
        match &mut self.debug.left {
            Some(_) if is_there => Ok(Next::Stop(exit)),
            Some(left) => {
                *left = left.saturating_sub(1);
                Ok(if *left == 0 { Next::Stop(exit) } else { Next::Go })
            }
            None => Ok(Next::Go),
        }
    }

    /// Has an instruction been completed of which KVM did not say so (an access that was answered)?
    fn is_done_unreported(&mut self) -> Result<bool> {
        let resumes = self.lease.cpu().debug.resume.is_some(); // a handler of a breakpoint may have gone elsewhere
        let Some(next) = self.debug.next.filter(|_| !resumes) else { return Ok(false) };
        let (regs, sregs) = self.registers()?;
        Ok(linear(&regs, &sregs) != next.from)
    }

    /// Decodes what is to be executed, while it is there to be read.
    fn look_at_next(&mut self) -> Result<()> {
        let (regs, sregs) = self.registers()?;
        let instruction = instruction_at(&regs, &sregs, &self.machine.memory);
        self.debug.next = Some(Decoded {
            from: linear(&regs, &sregs),
            size: instruction.and_then(|one| u8::try_from(one.len()).ok()).unwrap_or(0),
            repeats: instruction.is_some_and(|one| one.has_rep_prefix() || one.has_repne_prefix()),
            is_halt: instruction.is_some_and(|one| one.mnemonic() == Mnemonic::Hlt),
        });
        Ok(())
    }

    /// Is the next instruction a halt that ends here? It is executed then: a KVM that emulates it reports the step instead,
    /// and the halt one instruction later.
    fn halts_here(&mut self) -> Result<bool> {
        let Some(next) = self.debug.next.filter(|next| next.is_halt && self.machine.irqchip == Irqchip::None) else {
            return Ok(false);
        };
        let (mut regs, sregs) = self.registers()?;
        let place = locate(&sregs, &self.machine.memory, next.from).map(|(place, _)| place);
        let is_planted = place.is_some_and(|place| self.machine.memory.is_patched(place));
        let debug = &mut self.lease.cpu().debug;
        if sregs.cpl() != 0 || is_planted && debug.resume != Some(next.from) {
            return Ok(false);
        }
        debug.resume = None;
        regs[Gpr::Rip] = regs[Gpr::Rip].wrapping_add(next.size.into());
        self.vcpu().set_regs(&regs);
        Ok(true)
    }

    /// The step that has been made.
    fn step_made(&mut self) -> Result<Exit> {
        let (regs, sregs) = self.registers()?;
        let at = linear(&regs, &sregs);
        let Decoded { from, size, repeats, .. } = self.debug.next.take().unwrap_or_default();
        let taken = at != from.wrapping_add(size.into()) && !(repeats && at == from);
        Ok(Exit::Step { at, executed: Executed { from, size, taken } })
    }

    /// A step that is a halt: both are seen, and the halt decides.
    pub(super) fn after_halt(&mut self) -> Result<Next> {
        let step = self.step_made()?;
        if self.debug.is_traced
            && let Next::Stop(exit) = self.hit(step, false)?
        {
            self.session.also(self.slot.id, exit);
        }
        if let Some(left) = &mut self.debug.left {
            *left = left.saturating_sub(1);
        }
        self.answer(Entered::Exit(Exit::Hlt))
    }

    /// An int3 of the guest's own, which KVM has reported: the guest gets its #BP.
    pub(super) fn give_breakpoint_back(&mut self) -> Result<Next> {
        let cpu = self.lease.cpu();
        let (control, registers) = cpu.debug.told;
        cpu.vcpu.set_guest_debug(control | ENABLE | INJECT_BREAKPOINT, registers)?;
        cpu.debug.told.0 = control;
        Ok(Next::Go)
    }

    /// The run is over: nobody is to meet a trap flag of ours, or a KVM that steps.
    pub(super) fn end_debugging(&mut self) -> Result<()> {
        let told = self.lease.cpu().debug.told;
        self.clear_trap_flag()?;
        if told.0 & SINGLE_STEP != 0 { self.tell(told.0 & !(SINGLE_STEP | ENABLE), told.1) } else { Ok(()) }
    }
}
