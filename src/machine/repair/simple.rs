//! The plain instructions that a breakpoint is likely to lie on, executed in the vCPU's place (Intel SDM vol. 2): moves,
//! arithmetic, stack, jumps, calls. What it does not do it refuses, and then nothing has changed.

use iced_x86::{Code, ConditionCode, FlowControl, Instruction, Mnemonic, OpKind, Register};

use crate::x86::{Gpr, rflags};

use super::alu::{self, AF, PF, SF};
use super::flags;
use super::ring0::{Ring0, Step, Trap};

const IF: u64 = 1 << 9;
const DF: u64 = 1 << 10;
/// CR4.CET: calls and jumps have a shadow stack, and a place to land on.
const CET: u64 = 1 << 23;

/// Executes `instruction`, which lies at RIP, moves RIP on and clears RF.
pub(super) fn execute(instruction: &Instruction, cpu: &mut Ring0<'_>) -> Step {
    let is_wide = cpu.is_64bit();
    if !is_wide && !is_flat_32bit(cpu) || needs_a_lock(instruction) && !cpu.is_alone() {
        return Err(Trap::Unknown);
    }
    let target = target(instruction, cpu)?;
    let next = target.unwrap_or(instruction.next_ip());
    let is_inside = if is_wide { cpu.is_canonical(next) } else { next <= cpu.state.sregs.cs.limit.into() };
    if !is_inside {
        return Err(Trap::Unknown); // where the processor faults: it is to do so itself
    }
    match instruction.mnemonic() {
        Mnemonic::Call => push(cpu, instruction.next_ip(), word(cpu))?,
        _ if target.is_some() => {}
        _ => straight(instruction, cpu)?,
    }
    cpu.jump(next);
    cpu.set_flags(flags::RF, 0);
    Ok(())
}

/// Is it protected mode whose code and stack are 32 bits wide?
fn is_flat_32bit(cpu: &Ring0<'_>) -> bool {
    let sregs = &cpu.state.sregs;
    cpu.is_protected() && sregs.ss.db != 0 && sregs.cs.db != 0 && cpu.state.regs[Gpr::Rflags] & flags::VM == 0
}

/// Is nobody else to come between its read and its write?
fn needs_a_lock(instruction: &Instruction) -> bool {
    let is_exchange = instruction.mnemonic() == Mnemonic::Xchg && instruction.op0_kind() == OpKind::Memory;
    instruction.has_lock_prefix() || is_exchange
}

/// Bytes of a stack word, and of a near pointer.
fn word(cpu: &Ring0<'_>) -> usize {
    if cpu.is_64bit() { 8 } else { 4 }
}

/// Where a jump leads; none for what is no jump.
fn target(instruction: &Instruction, cpu: &mut Ring0<'_>) -> Step<Option<u64>> {
    use Mnemonic as M;
    let mnemonic = instruction.mnemonic();
    if instruction.condition_code() != ConditionCode::None && instruction.is_jcc_short_or_near() {
        let taken = holds(instruction.condition_code(), cpu.state.regs[Gpr::Rflags]);
        return Ok(Some(if taken { instruction.near_branch_target() } else { instruction.next_ip() }));
    }
    if instruction.flow_control() != FlowControl::Next && mnemonic != M::Jmp && cpu.state.sregs.cr4 & CET != 0 {
        return Err(Trap::Unknown);
    }
    Ok(match mnemonic {
        M::Jrcxz | M::Jecxz | M::Loop | M::Loope | M::Loopne => Some(counted(instruction, cpu)?),
        M::Jmp | M::Call if instruction.op0_kind() == near(cpu) => Some(instruction.near_branch_target()),
        M::Jmp if cpu.state.sregs.cr4 & CET != 0 => return Err(Trap::Unknown),
        M::Jmp | M::Call if instruction.is_jmp_near_indirect() || instruction.is_call_near_indirect() => {
            let size = word(cpu);
            Some(value(instruction, 0, size, cpu)?)
        }
        M::Ret if matches!(instruction.code(), Code::Retnq | Code::Retnd | Code::Retnq_imm16 | Code::Retnd_imm16) => {
            let size = word(cpu);
            let back = pop(cpu, size)?;
            let more = if instruction.op_count() == 1 { u64::from(instruction.immediate16()) } else { 0 };
            let top = cpu.state.regs[Gpr::Rsp].wrapping_add(more);
            set_stack(cpu, top);
            Some(back)
        }
        M::Jmp | M::Call | M::Ret => return Err(Trap::Unknown),
        _ => None,
    })
}

/// Where JRCXZ, JECXZ, LOOP, LOOPE and LOOPNE lead, with RCX counted down.
fn counted(instruction: &Instruction, cpu: &mut Ring0<'_>) -> Step<u64> {
    use Code as C;
    let counter = match instruction.code() {
        C::Jrcxz_rel8_64 | C::Loop_rel8_64_RCX | C::Loope_rel8_64_RCX | C::Loopne_rel8_64_RCX => Register::RCX,
        C::Jecxz_rel8_64
        | C::Loop_rel8_64_ECX
        | C::Loope_rel8_64_ECX
        | C::Loopne_rel8_64_ECX
        | C::Jecxz_rel8_32
        | C::Loop_rel8_32_ECX
        | C::Loope_rel8_32_ECX
        | C::Loopne_rel8_32_ECX => Register::ECX,
        _ => return Err(Trap::Unknown),
    };
    let now = cpu.register(counter).ok_or(Trap::Unknown)?;
    let is_zero = cpu.state.regs[Gpr::Rflags] & rflags::ZF != 0;
    let is_taken = match instruction.mnemonic() {
        Mnemonic::Jrcxz | Mnemonic::Jecxz => now == 0,
        loops => {
            cpu.set_register(counter, now.wrapping_sub(1))?;
            now != 1 && (loops == Mnemonic::Loop || is_zero == (loops == Mnemonic::Loope))
        }
    };
    Ok(if is_taken { instruction.near_branch_target() } else { instruction.next_ip() })
}

fn near(cpu: &Ring0<'_>) -> OpKind {
    if cpu.is_64bit() { OpKind::NearBranch64 } else { OpKind::NearBranch32 }
}

/// What goes on with the next instruction.
fn straight(instruction: &Instruction, cpu: &mut Ring0<'_>) -> Step {
    use Mnemonic as M;
    let size = size_of_operand(instruction);
    match instruction.mnemonic() {
        M::Endbr64 | M::Endbr32 if cpu.state.sregs.cr4 & CET != 0 => Err(Trap::Unknown),
        M::Nop
        | M::Endbr64
        | M::Endbr32
        | M::Pause
        | M::Prefetcht0
        | M::Prefetcht1
        | M::Prefetcht2
        | M::Prefetchnta
        | M::Prefetchw => Ok(()),
        M::Lfence | M::Mfence | M::Sfence => {
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            Ok(())
        }
        M::Mov | M::Movzx | M::Movnti => {
            let from = value(instruction, 1, size_of(instruction, 1), cpu)?;
            put(instruction, size, from, cpu)
        }
        M::Movsx | M::Movsxd => {
            let width = size_of(instruction, 1);
            let from = extended(value(instruction, 1, width, cpu)?, width);
            put(instruction, size, from, cpu)
        }
        M::Lea => lea(instruction, size, cpu),
        M::Add | M::Adc | M::Sub | M::Sbb | M::Cmp | M::And | M::Or | M::Xor | M::Test | M::Inc | M::Dec | M::Neg => {
            alu::arithmetic(instruction, size, cpu)
        }
        M::Not | M::Bswap => alu::turned(instruction, size, cpu),
        M::Shl | M::Sal | M::Shr | M::Sar | M::Rol | M::Ror => alu::shift(instruction, size, cpu),
        M::Mul | M::Imul => alu::multiply(instruction, size, cpu),
        M::Div | M::Idiv => alu::divide(instruction, size, cpu),
        M::Cbw | M::Cwde | M::Cdqe | M::Cwd | M::Cdq | M::Cqo => alu::widen(instruction.mnemonic(), cpu),
        M::Bt | M::Bts | M::Btr | M::Btc => alu::bit(instruction, size, cpu),
        M::Bsf | M::Bsr => alu::scan(instruction, size, cpu),
        M::Xchg | M::Xadd | M::Cmpxchg => alu::exchange(instruction, size, cpu),
        M::Push => {
            let (value, size) = (pushed(instruction, cpu)?, word(cpu));
            push(cpu, value, size)
        }
        M::Pop if instruction.op0_kind() == OpKind::Register && size == word(cpu) => {
            let value = pop(cpu, size)?;
            cpu.set_register(instruction.op0_register(), value)
        }
        M::Pushfq if cpu.state.sregs.cpl() == 0 => push(cpu, cpu.state.regs[Gpr::Rflags] & !(flags::RF | flags::VM), 8),
        M::Leave if instruction.code() == if cpu.is_64bit() { Code::Leaveq } else { Code::Leaved } => {
            set_stack(cpu, cpu.state.regs[Gpr::Rbp]);
            let size = word(cpu);
            let value = pop(cpu, size)?;
            cpu.set_register(if size == 8 { Register::RBP } else { Register::EBP }, value)
        }
        M::Lahf => cpu.set_register(Register::AH, cpu.state.regs[Gpr::Rflags] & 0xff | 2),
        M::Sahf => {
            let from = cpu.register(Register::AH).ok_or(Trap::Unknown)?;
            cpu.set_flags(SF | rflags::ZF | AF | PF | flags::CF, from);
            Ok(())
        }
        M::Cmc | M::Clc | M::Stc | M::Cld | M::Std | M::Cli | M::Clac | M::Stac => flag(instruction.mnemonic(), cpu),
        _ if is_conditional(instruction) && instruction.op_count() == 1 && size == 1 => {
            let yes = holds(instruction.condition_code(), cpu.state.regs[Gpr::Rflags]);
            put(instruction, 1, yes.into(), cpu)
        }
        _ if is_conditional(instruction) && instruction.op_count() == 2 && size > 1 => {
            let yes = holds(instruction.condition_code(), cpu.state.regs[Gpr::Rflags]);
            let from = value(instruction, 1, size, cpu)?;
            let kept = value(instruction, 0, size, cpu)?;
            put(instruction, size, if yes { from } else { kept }, cpu)
        }
        _ => Err(Trap::Unknown),
    }
}

/// The instructions that change one flag.
fn flag(mnemonic: Mnemonic, cpu: &mut Ring0<'_>) -> Step {
    use Mnemonic as M;
    let carry = cpu.state.regs[Gpr::Rflags] & flags::CF;
    let (mask, value) = match mnemonic {
        M::Cmc => (flags::CF, !carry),
        M::Clc => (flags::CF, 0),
        M::Stc => (flags::CF, flags::CF),
        M::Cld => (DF, 0),
        M::Std => (DF, DF),
        M::Cli if cpu.state.sregs.cpl() == 0 => (IF, 0),
        M::Clac if cpu.is_supervisor() => (rflags::AC, 0),
        M::Stac if cpu.is_supervisor() => (rflags::AC, rflags::AC),
        _ => return Err(Trap::Unknown),
    };
    cpu.set_flags(mask, value);
    Ok(())
}

fn is_conditional(instruction: &Instruction) -> bool {
    instruction.condition_code() != ConditionCode::None && instruction.op0_kind() != OpKind::NearBranch64
}

fn lea(instruction: &Instruction, size: usize, cpu: &mut Ring0<'_>) -> Step {
    let at = instruction.virtual_address(1, 0, |register, _, _| {
        if register.is_segment_register() { Some(0) } else { cpu.register(register) }
    });
    let at = at.ok_or(Trap::Unknown)?;
    put(instruction, size, at, cpu)
}

/// Bytes of operand 0.
fn size_of_operand(instruction: &Instruction) -> usize {
    if instruction.op_count() == 0 { 0 } else { size_of(instruction, 0) }
}

pub(super) fn size_of(instruction: &Instruction, n: u32) -> usize {
    match instruction.op_kind(n) {
        OpKind::Register => instruction.op_register(n).size(),
        OpKind::Memory => instruction.memory_size().size(),
        _ => 8, // an immediate, which iced extends
    }
}

/// Operand `n`: a general register, an immediate, or memory.
pub(super) fn value(instruction: &Instruction, n: u32, size: usize, cpu: &Ring0<'_>) -> Step<u64> {
    match instruction.op_kind(n) {
        OpKind::Register if !instruction.op_register(n).is_gpr() => Err(Trap::Unknown),
        OpKind::Register | OpKind::Memory => cpu.operand(instruction, n, size),
        _ => instruction.try_immediate(n).map_err(|_| Trap::Unknown),
    }
}

/// Sets operand 0.
pub(super) fn put(instruction: &Instruction, size: usize, value: u64, cpu: &mut Ring0<'_>) -> Step {
    match instruction.op0_kind() {
        OpKind::Register if instruction.op0_register().is_gpr() => cpu.set_register(instruction.op0_register(), value),
        OpKind::Memory if matches!(size, 1 | 2 | 4 | 8) => {
            let at = cpu.address(instruction, 0, size)?;
            if !cpu.is_segment_writable(instruction) || cpu.is_entry(at, size) {
                return Err(Trap::Unknown);
            }
            cpu.write(at, &value.to_le_bytes()[..size])
        }
        _ => Err(Trap::Unknown),
    }
}

/// `value` of `size` bytes, with its sign.
pub(super) fn extended(value: u64, size: usize) -> u64 {
    let unused = 64 - 8 * u32::try_from(size.clamp(1, 8)).unwrap_or(8);
    ((value << unused).cast_signed() >> unused).cast_unsigned()
}

/// What PUSH pushes, as wide as a stack word.
fn pushed(instruction: &Instruction, cpu: &Ring0<'_>) -> Step<u64> {
    let size = word(cpu);
    match instruction.op0_kind() {
        OpKind::Register | OpKind::Memory if size_of(instruction, 0) == size => value(instruction, 0, size, cpu),
        OpKind::Immediate8to64 | OpKind::Immediate32to64 | OpKind::Immediate8to32 => value(instruction, 0, size, cpu),
        OpKind::Immediate32 if size == 4 => value(instruction, 0, size, cpu),
        _ => Err(Trap::Unknown),
    }
}

/// The linear address of `size` bytes of the stack.
fn stack(cpu: &Ring0<'_>, offset: u64, size: usize) -> Step<u64> {
    if cpu.is_64bit() {
        return Ok(offset);
    }
    let (segment, offset) = (&cpu.state.sregs.ss, offset & 0xffff_ffff);
    let last = offset.saturating_add(u64::try_from(size).unwrap_or(8).saturating_sub(1));
    if last > u64::from(segment.limit) || segment.kind & 0b1100 == 0b0100 {
        return Err(Trap::Unknown);
    }
    Ok(segment.base.wrapping_add(offset) & 0xffff_ffff)
}

fn set_stack(cpu: &mut Ring0<'_>, top: u64) {
    let register = if cpu.is_64bit() { Register::RSP } else { Register::ESP };
    let _ = cpu.set_register(register, top);
}

fn push(cpu: &mut Ring0<'_>, value: u64, size: usize) -> Step {
    let top = cpu.state.regs[Gpr::Rsp].wrapping_sub(u64::try_from(size).unwrap_or(8));
    let top = if size == 8 { top } else { top & 0xffff_ffff };
    cpu.write(stack(cpu, top, size)?, &value.to_le_bytes()[..size])?;
    set_stack(cpu, top);
    Ok(())
}

fn pop(cpu: &mut Ring0<'_>, size: usize) -> Step<u64> {
    let top = cpu.state.regs[Gpr::Rsp];
    let at = stack(cpu, top, size)?;
    let value = if size == 8 { u64::from_le_bytes(cpu.read(at)?) } else { u32::from_le_bytes(cpu.read(at)?).into() };
    set_stack(cpu, top.wrapping_add(u64::try_from(size).unwrap_or(8)));
    Ok(value)
}

/// Does the condition hold (Intel SDM vol. 1, appendix B)?
fn holds(condition: ConditionCode, now: u64) -> bool {
    use ConditionCode as C;
    let is = |flag: u64| now & flag != 0;
    let (cf, zf, sf, of, pf) = (is(flags::CF), is(rflags::ZF), is(SF), is(flags::OF), is(PF));
    match condition {
        C::o => of,
        C::no => !of,
        C::b => cf,
        C::ae => !cf,
        C::e => zf,
        C::ne => !zf,
        C::be => cf || zf,
        C::a => !cf && !zf,
        C::s => sf,
        C::ns => !sf,
        C::p => pf,
        C::np => !pf,
        C::l => sf != of,
        C::ge => sf == of,
        C::le => zf || sf != of,
        C::g => !zf && sf == of,
        C::None => false,
    }
}
