//! What KVM is told to debug, and the trap flag where it does not step by itself.
//! It never enters the guest.

use iced_x86::Mnemonic;

use crate::error::{Error, Result};
use crate::machine::debug_choice::STEP;
use crate::machine::repair::{instruction_at, locate};
use crate::source::ReadMemory;
use crate::x86::{Gpr, Regs, Sregs, rflags};

use super::debug::linear;
use super::{Next, Run};

// KVM_GUESTDBG_* (Linux, Documentation/virt/kvm/api.rst, KVM_SET_GUEST_DEBUG).
const ENABLE: u32 = 1;
pub(super) const SINGLE_STEP: u32 = 2;
const SOFTWARE: u32 = 1 << 16;
pub(super) const HARDWARE: u32 = 1 << 17;
const INJECT_BREAKPOINT: u32 = 1 << 19;
/// A step takes no interrupt: it would end in the handler of one that came just then.
pub(super) const BLOCK_INTERRUPTS: u32 = 1 << 20;
/// One step that takes no interrupt.
pub(super) const ALONE: u32 = SINGLE_STEP | BLOCK_INTERRUPTS;

pub(super) const TRAP_FLAG: u64 = 1 << 8;

/// How a step has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepEnd {
    /// Behind the instruction.
    Executed,
    /// At the guest's handler of what the instruction has raised.
    AtHandler,
    /// One of the two: nothing guarded it.
    Unguarded,
}

impl Run<'_> {
    /// Tells KVM what is to be debugged, if it has been told otherwise.
    pub(super) fn tell_control(&mut self, steps: bool) -> Result<()> {
        let quirks = &self.machine.quirks;
        let mut registers = self.debug.plan.registers(self.slot.id);
        self.debug.guards.0 = None;
        let reports = quirks.int3_exits_in_ring0 || quirks.int3_exits_in_ring3;
        let mut control = if registers.is_some() { HARDWARE } else { 0 };
        if reports && self.debug.plan.wants_int3 {
            control |= SOFTWARE;
        }
        if steps {
            self.guard.keep_ticking()?; // what is not guarded may go far
            let (regs, sregs) = self.registers()?;
            let own = self.debug.plan.step_registers(self.slot.id, linear(&regs, &sregs));
            if let Some((guarded, with_guards)) = self.guarded(own, &regs, &sregs)? {
                control |= guarded;
                registers = Some(with_guards);
            } else if self.can_step(&sregs) {
                // Where every step of a run is looked at, the guest's time goes on.
                control |= if self.is_counted() { ALONE } else { SINGLE_STEP };
            } else {
                self.set_trap_flag(&regs, &sregs)?;
            }
        }
        self.lease.cpu().debug.is_stepping = false;
        self.tell(control, registers.unwrap_or_default())
    }

    pub(super) fn tell(&mut self, control: u32, registers: [u64; 8]) -> Result<()> {
        let control = if control == 0 { 0 } else { control | ENABLE };
        let cpu = self.lease.cpu();
        cpu.debug.is_stepping |= control & SINGLE_STEP != 0;
        // A step is asked for each time: an instruction that KVM emulates has taken KVM's trap flag away.
        let may_be_lost = control & SINGLE_STEP != 0 && self.machine.quirks.ring0_is_native;
        if may_be_lost || cpu.debug.told != (control, registers) {
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

    /// An int3 of the guest's own, which KVM has reported: the guest gets its #BP.
    pub(super) fn give_breakpoint_back(&mut self) -> Result<Next> {
        let cpu = self.lease.cpu();
        let (control, registers) = cpu.debug.told;
        cpu.vcpu.set_guest_debug(control | ENABLE | INJECT_BREAKPOINT, registers)?;
        cpu.debug.told.0 = control;
        Ok(Next::Go)
    }

    /// KVM steps by the trap flag, and hides it from who asks for the flags, but not from what the guest itself saves of them
    /// (Intel SDM vol. 3, 19.3.1.4): takes it out of there, after a step from where the vCPU was before.
    pub(super) fn hide_step(&mut self, from: &(Regs, Sregs), end: StepEnd) -> Result<()> {
        use Mnemonic::{Pushf, Pushfd, Pushfq, Syscall};
        if from.0[Gpr::Rflags] & TRAP_FLAG != 0 {
            return Ok(()); // the guest's own
        }
        let (mut regs, sregs) = self.registers()?;
        let instruction = instruction_at(&from.0, &from.1, &self.machine.memory);
        if instruction.is_none_or(|found| found.op0_register().is_dr()) {
            self.debug.ahead.forget_debug_registers();
        }
        if end == StepEnd::AtHandler {
            return self.clean_frame(from, &regs, &sregs);
        }
        let is_straight = instruction.is_some_and(|found| found.next_ip() == regs[Gpr::Rip]);
        match instruction.map(|found| found.mnemonic()) {
            Some(Pushf | Pushfd | Pushfq) if is_straight => self.take_flag_from(&sregs, stack(&regs, &sregs)),
            Some(Syscall) if regs[Gpr::R11] & TRAP_FLAG != 0 => {
                regs[Gpr::R11] &= !TRAP_FLAG;
                self.vcpu().set_regs(&regs);
                Ok(())
            }
            _ if is_straight || end == StepEnd::Executed => Ok(()),
            _ => self.clean_frame(from, &regs, &sregs),
        }
    }

    /// The same of the frame that an exception, an interrupt or an `int n` has pushed: words of RIP, CS and the flags, with an
    /// error code below where there is one (Intel SDM vol. 3, 6.12.1 and 6.14.2; in real mode 21.1.4).
    fn clean_frame(&self, from: &(Regs, Sregs), regs: &Regs, sregs: &Sregs) -> Result<()> {
        /// Status, control and system flags that no fault changes, nor the instruction before it.
        const SAME: u64 = 0xf_ffff & !(rflags::RF | 0xcd5);
        let memory = &self.machine.memory;
        let bytes = usize::try_from(sregs.code_bits() / 8).unwrap_or(8);
        let (size, mask) = (u64::from(sregs.code_bits() / 8), u64::MAX >> (64 - sregs.code_bits()));
        let word = |at: u64| {
            let (place, _) = locate(sregs, memory, at)?;
            let mut word = [0; 8];
            memory.read(place, word.get_mut(..bytes)?).ok()?;
            Some(u64::from_le_bytes(word))
        };
        let instruction = instruction_at(&from.0, &from.1, memory);
        let next = instruction.map_or(from.0[Gpr::Rip], |found| found.next_ip());
        for frame in [0, size].map(|code| stack(regs, sregs).wrapping_add(code)) {
            let (rip, selector) = (word(frame), word(frame.wrapping_add(size)).map(|word| word & 0xffff));
            let flags = frame.wrapping_add(2 * size);
            let is_ours = selector == Some(from.1.cs.selector.into())
                && rip.is_some_and(|rip| rip == from.0[Gpr::Rip] || rip == next)
                && word(flags).is_some_and(|word| (word ^ from.0[Gpr::Rflags]) & SAME & mask == TRAP_FLAG);
            if is_ours {
                return self.take_flag_from(sregs, flags);
            }
        }
        Ok(())
    }

    /// Takes the trap flag out of flags that are at linear address `at`.
    fn take_flag_from(&self, sregs: &Sregs, at: u64) -> Result<()> {
        const FLAG: u8 = 1; // in the second byte
        let memory = &self.machine.memory;
        let Some((place, _)) = locate(sregs, memory, at.wrapping_add(1)) else { return Ok(()) };
        let mut byte = [0];
        match memory.read(place, &mut byte) {
            Ok(()) if byte[0] & FLAG != 0 => memory.write(place, &[byte[0] & !FLAG]),
            _ => Ok(()),
        }
    }

    /// KVM has stepped over an instruction before which the guest had set its own trap flag, and keeps both the flag and the
    /// exception to itself: gives them back. `has_flags`: the instruction has brought flags of its own.
    pub(super) fn give_trap_back(&mut self, has_flags: bool) -> Result<()> {
        const BY_STEP: u64 = 0xffff_4ff0; // DR6 as after a step alone (Intel SDM vol. 3, 19.2.3)
        self.tell(0, [0; 8])?; // while it steps, it takes the flag out of all that it is given
        if !has_flags {
            let mut regs = self.vcpu().regs()?;
            regs[Gpr::Rflags] |= TRAP_FLAG;
            self.vcpu().set_regs(&regs);
        }
        self.give_step_back(BY_STEP).map(drop)
    }

    /// A #DB of the guest's own, which KVM reports while debug registers are in use: the guest gets it, with its DR6.
    pub(super) fn give_step_back(&mut self, dr6: u64) -> Result<Next> {
        let cpu = self.lease.cpu();
        let mut registers = cpu.vcpu.debug_regs()?;
        registers.words[4] = dr6;
        cpu.vcpu.set_debug_regs(&registers)?;
        let mut events = cpu.vcpu.events()?;
        events.inject(STEP, None);
        cpu.vcpu.set_events(&events);
        Ok(Next::Go)
    }

    /// The run is over: nobody is to meet a trap flag of ours, a KVM that steps, or the guards of a step.
    pub(super) fn end_debugging(&mut self) -> Result<()> {
        self.look_after_steal_time(false)?;
        self.clear_trap_flag()?;
        let told = self.lease.cpu().debug.told.0;
        if told & ALONE != 0 || self.debug.guards.0.is_some() { self.tell_control(false) } else { Ok(()) }
    }
}

/// The linear address of the top of the stack.
pub(super) fn stack(regs: &Regs, sregs: &Sregs) -> u64 {
    let mask = if sregs.code_bits() == 64 {
        return regs[Gpr::Rsp];
    } else if sregs.ss.db != 0 {
        0xffff_ffff
    } else {
        0xffff
    };
    sregs.ss.base.wrapping_add(regs[Gpr::Rsp] & mask) & 0xffff_ffff
}
