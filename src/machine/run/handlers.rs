//! The guest's handlers of exceptions as the ends of steps. KVM steps by the trap flag, which an exception would take along
//! into its frame, to come back when nobody steps any more: so debug registers that are free stop the vCPU at the first
//! instruction of the handlers of what may be raised. It never delivers anything itself.

use iced_x86::{CpuidFeature, Instruction, Mnemonic};

use crate::error::Result;
use crate::exit::Exit;
use crate::kvm::Entered;
use crate::machine::debug_choice::{BREAKPOINT, INVALID_OPCODE, STEP};
use crate::machine::idt;
use crate::machine::repair::{instruction_at, locate};
use crate::machine::trap::Operands;
use crate::x86::{Gpr, Regs, Sregs, cr0, rflags};

use super::Run;
use super::debug::linear;
use super::step_control::{ALONE, HARDWARE, StepEnd, stack};

/// DR6.BS: a step has ended.
pub(super) const BY_STEP: u64 = 1 << 14;

const DIVIDE: u8 = 0;
const OVERFLOW: u8 = 4;
const BOUND: u8 = 5;
const NO_COPROCESSOR: u8 = 7;
const DOUBLE_FAULT: u8 = 8;
const NOT_PRESENT: u8 = 11;
const STACK: u8 = 12;
pub(super) const PROTECTION: u8 = 13;
pub(super) const PAGE_FAULT: u8 = 14;
const COPROCESSOR: u8 = 16;
const ALIGNMENT: u8 = 17;
const VECTORS: u8 = 19;

/// Which debug registers were set to handlers for the last entry, as bits of DR6; none where nothing guarded it.
#[derive(Debug, Default)]
pub(super) struct Guards(pub(super) Option<u64>);

impl Guards {
    /// DR6 without theirs.
    pub(super) fn hide(&self, dr6: u64) -> u64 {
        dr6 & !self.0.unwrap_or(0)
    }

    /// How has a step ended that has led to `entered`?
    pub(super) fn end_of(&self, entered: &Entered) -> StepEnd {
        match entered {
            Entered::Exit(Exit::Debug { exception: 1, dr6, .. }) => self.end_with(*dr6),
            _ => StepEnd::Executed,
        }
    }

    /// The same by DR6, in which an emulator has the registers at the next instruction also behind one that was executed.
    pub(super) fn end_with(&self, dr6: u64) -> StepEnd {
        match self.0 {
            None => StepEnd::Unguarded,
            Some(guards) if dr6 & guards != 0 && dr6 & BY_STEP == 0 => StepEnd::AtHandler,
            Some(_) => StepEnd::Executed,
        }
    }
}

impl Run<'_> {
    /// Can a step be stopped at the guest's handlers? Not where debug registers do not work, nor where the guest has its own
    /// in use or the handlers are belljar's.
    pub(super) fn has_guards(&mut self) -> Result<bool> {
        let quirks = &self.machine.quirks;
        let works = quirks.ring0_is_native
            && quirks.single_step_in_ring0
            && quirks.single_step_in_ring3
            && quirks.hardware_breakpoints_in_ring0
            && quirks.hardware_breakpoints_in_ring3;
        Ok(works && self.lease.cpu().shim.is_none() && !self.guest_has_debug_registers()?)
    }

    /// What has KVM make one step that takes no interrupt, with `registers` in use beside it: its flags, and the registers with
    /// those that are free at the handlers of what the instruction may raise. None where nothing guards the step.
    pub(super) fn guarded(
        &mut self,
        registers: Option<[u64; 8]>,
        regs: &Regs,
        sregs: &Sregs,
    ) -> Result<Option<(u32, [u64; 8])>> {
        self.debug.guards.0 = None;
        if !self.has_guards()? {
            return Ok(None);
        }
        let registers = registers.map_or([0; 8], |registers| self.of_use(registers, regs, sregs));
        let vectors = self.raised_from(regs, sregs);
        Ok(Some((ALONE | HARDWARE, self.with_guards(registers, &vectors, regs, sregs))))
    }

    /// `registers` with the free ones at the handlers of `vectors`, those that come first if there are too few. None at the
    /// next instruction, where it would stop at once.
    pub(super) fn with_guards(
        &mut self,
        mut registers: [u64; 8],
        vectors: &[u8],
        regs: &Regs,
        sregs: &Sregs,
    ) -> [u64; 8] {
        let free = (0..4).filter(|n| !is_used(&registers, *n)).collect::<Vec<_>>();
        let (at, mut guards) = (linear(regs, sregs), 0);
        let entries = vectors.iter().filter_map(|vector| idt::handler(*vector, sregs, &self.machine.memory));
        for (n, entry) in free.into_iter().zip(entries.filter(|entry| *entry != at)) {
            stop_at(&mut registers, n, entry);
            guards |= 1 << n;
        }
        self.debug.guards.0 = Some(guards);
        registers
    }

    /// Where several of `registers` watch data: without those whose data the next instruction does not touch.
    fn of_use(&self, mut registers: [u64; 8], regs: &Regs, sregs: &Sregs) -> [u64; 8] {
        let used = (0..4).filter(|n| is_used(&registers, *n));
        if used.count() < 2 || !Operands::of(regs, sregs, &*self.machine.memory).is_all {
            return registers;
        }
        let touched = self.touched(regs, sregs);
        let at = linear(regs, sregs);
        for n in 0..4 {
            if touched >> n & 1 == 0 && registers[n] != at {
                registers[7] &= !(3 << (2 * n));
            }
        }
        registers
    }

    /// The exceptions that the next instruction may raise, the likely ones first.
    fn raised_from(&self, regs: &Regs, sregs: &Sregs) -> [u8; 4] {
        let instruction = instruction_at(regs, sregs, &self.machine.memory);
        let own = instruction.as_ref().map_or(INVALID_OPCODE, |found| raised_by(found, sregs));
        let is_on_stack = instruction.as_ref().is_some_and(Instruction::is_stack_instruction);
        let below = stack(regs, sregs).wrapping_sub(1);
        let last = match &instruction {
            _ if is_on_stack && locate(sregs, &self.machine.memory, below).is_none() => DOUBLE_FAULT,
            _ if sregs.cpl() == 3 && regs[Gpr::Rflags] & rflags::AC != 0 => ALIGNMENT,
            Some(found) if matches!(own, COPROCESSOR | VECTORS) || found.is_invalid() => INVALID_OPCODE,
            Some(found) if loads_segment(found) => NOT_PRESENT,
            _ => STACK,
        };
        [own, PAGE_FAULT, PROTECTION, last]
    }
}

/// Has debug register `n` stop at an instruction (Intel SDM vol. 3, 19.2.4).
pub(super) fn stop_at(registers: &mut [u64; 8], n: usize, linear: u64) {
    const FIXED: u64 = 1 << 10;
    registers[n] = linear;
    registers[7] = registers[7] & !(0xf << (16 + 4 * n)) | FIXED | 2 << (2 * n);
}

fn is_used(registers: &[u64; 8], n: usize) -> bool {
    registers[7] >> (2 * n) & 3 != 0
}

/// The exception that is `instruction`'s own.
fn raised_by(instruction: &Instruction, sregs: &Sregs) -> u8 {
    let is_coprocessor = || {
        let of_coprocessor = |feature: &CpuidFeature| matches!(feature, CpuidFeature::FPU | CpuidFeature::MMX);
        instruction.mnemonic() == Mnemonic::Wait || instruction.cpuid_features().iter().any(of_coprocessor)
    };
    match instruction.mnemonic() {
        Mnemonic::Int => instruction.immediate8(),
        Mnemonic::Int3 => BREAKPOINT,
        Mnemonic::Int1 => STEP,
        Mnemonic::Into => OVERFLOW,
        Mnemonic::Bound => BOUND,
        Mnemonic::Div | Mnemonic::Idiv | Mnemonic::Aam => DIVIDE,
        Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2 => INVALID_OPCODE,
        _ if sregs.cr0 & cr0::TS != 0 => NO_COPROCESSOR,
        _ if is_coprocessor() => {
            if sregs.cr0 & cr0::EM == 0 {
                COPROCESSOR
            } else {
                NO_COPROCESSOR
            }
        }
        _ if (0..2).any(|n| instruction.op_register(n).is_vector_register()) => VECTORS,
        _ => INVALID_OPCODE,
    }
}

/// Does it load a segment register, or look at a gate?
fn loads_segment(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    let is_far = instruction.is_call_far() || instruction.is_call_far_indirect();
    let jumps_far = instruction.is_jmp_far() || instruction.is_jmp_far_indirect();
    is_far
        || jumps_far
        || instruction.op0_register().is_segment_register()
        || matches!(instruction.mnemonic(), M::Int | M::Iret | M::Iretd | M::Iretq | M::Retf)
}
