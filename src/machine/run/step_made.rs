//! A step that has been made: what it executed, who is told, and whether it was the last one.
//! It never enters the guest.

use iced_x86::Mnemonic;

use crate::error::Result;
use crate::exit::{Executed, Exit};
use crate::kvm::{Entered, Irqchip};
use crate::machine::repair::{instruction_at, locate};
use crate::machine::stepping::is_of_flow;
use crate::x86::{Gpr, rflags};

use super::debug::linear;
use super::{Next, Run};

/// An instruction that is about to be executed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Decoded {
    from: u64,
    size: u8,
    repeats: bool,
    is_halt: bool,
}

impl Run<'_> {
    /// One instruction has been executed: a step, if anybody wanted one.
    pub(super) fn after_step(&mut self) -> Result<Next> {
        self.clear_trap_flag()?;
        self.debug.has_passed = self.debug.passing.is_some();
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
    pub(super) fn is_done_unreported(&mut self) -> Result<bool> {
        let resumes = self.lease.cpu().debug.resume.is_some(); // a handler of a breakpoint may have gone elsewhere
        let Some(next) = self.debug.next.filter(|_| !resumes) else { return Ok(false) };
        let (regs, sregs) = self.registers()?;
        Ok(linear(&regs, &sregs) != next.from)
    }

    /// Decodes what is to be executed, while it is there to be read.
    pub(super) fn look_at_next(&mut self) -> Result<()> {
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
    pub(super) fn halts_here(&mut self) -> Result<bool> {
        let Some(next) = self.debug.next.filter(|next| next.is_halt && self.machine.irqchip == Irqchip::None) else {
            return Ok(false);
        };
        let (mut regs, sregs) = self.registers()?;
        let place = locate(&sregs, &self.machine.memory, next.from).map(|(place, _)| place);
        let is_planted = place.is_some_and(|place| self.machine.memory.is_patched(place));
        let cpu = self.lease.cpu();
        let (debug, is_interrupted) = (&mut cpu.debug, cpu.vcpu.is_interrupted());
        if sregs.cpl() != 0 || is_interrupted || is_planted && debug.resume != Some(next.from) {
            return Ok(false);
        }
        debug.resume = None;
        regs[Gpr::Rip] = regs[Gpr::Rip].wrapping_add(next.size.into());
        regs[Gpr::Rflags] &= !rflags::RF;
        self.vcpu().set_regs(&regs);
        let mut events = self.vcpu().events()?;
        if events.is_in_shadow() {
            events.leave_shadow();
            self.vcpu().set_events(&events);
        }
        Ok(true)
    }

    /// The step that has been made.
    fn step_made(&mut self) -> Result<Exit> {
        let (regs, sregs) = self.registers()?;
        let at = linear(&regs, &sregs);
        let Decoded { from, size, repeats, is_halt } = self.debug.next.take().unwrap_or_default();
        self.debug.door.stepped(is_halt);
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
}
