//! The plain instructions that a breakpoint is likely to lie on, executed in the vCPU's place (Intel SDM vol. 2): moves,
//! arithmetic, stack, jumps, calls. What it does not do it refuses, and then nothing has changed.

use iced_x86::{Code, ConditionCode, Instruction, Mnemonic, OpKind, Register};

use crate::x86::{Gpr, rflags};

use super::flags;
use super::ring0::{Ring0, Step, Trap};

const PF: u64 = 1 << 2;
const AF: u64 = 1 << 4;
const SF: u64 = 1 << 7;
const DF: u64 = 1 << 10;

/// Executes `instruction`, which lies at RIP, moves RIP on and clears RF.
pub(super) fn execute(instruction: &Instruction, cpu: &mut Ring0<'_>) -> Step {
    let is_wide = cpu.is_64bit();
    if instruction.has_lock_prefix() || !is_wide && (cpu.state.sregs.ss.db == 0 || !cpu.is_protected()) {
        return Err(Trap::Unknown);
    }
    let next = if let Some(target) = target(instruction, cpu)? {
        target
    } else {
        straight(instruction, cpu)?;
        instruction.next_ip()
    };
    if is_wide && !cpu.is_canonical(next) {
        return Err(Trap::Unknown); // where the processor faults: it is to do so itself
    }
    if let Mnemonic::Call = instruction.mnemonic() {
        push(cpu, instruction.next_ip(), word(cpu))?;
    }
    cpu.jump(next);
    cpu.set_flags(flags::RF, 0);
    Ok(())
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
    Ok(match mnemonic {
        M::Jmp | M::Call if instruction.op0_kind() == near(cpu) => Some(instruction.near_branch_target()),
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

fn near(cpu: &Ring0<'_>) -> OpKind {
    if cpu.is_64bit() { OpKind::NearBranch64 } else { OpKind::NearBranch32 }
}

/// What goes on with the next instruction.
fn straight(instruction: &Instruction, cpu: &mut Ring0<'_>) -> Step {
    use Mnemonic as M;
    let size = size_of_operand(instruction);
    match instruction.mnemonic() {
        M::Nop | M::Endbr64 | M::Endbr32 | M::Pause => Ok(()),
        M::Mov | M::Movzx => {
            let from = value(instruction, 1, size_of(instruction, 1), cpu)?;
            put(instruction, size, from, cpu)
        }
        M::Movsx | M::Movsxd => {
            let width = size_of(instruction, 1);
            let from = extended(value(instruction, 1, width, cpu)?, width);
            put(instruction, size, from, cpu)
        }
        M::Lea => lea(instruction, size, cpu),
        M::Add | M::Sub | M::Cmp | M::And | M::Or | M::Xor | M::Test | M::Inc | M::Dec => {
            arithmetic(instruction, size, cpu)
        }
        M::Push => {
            let (value, size) = (pushed(instruction, cpu)?, word(cpu));
            push(cpu, value, size)
        }
        M::Pop if instruction.op0_kind() == OpKind::Register && size == word(cpu) => {
            let value = pop(cpu, size)?;
            cpu.set_register(instruction.op0_register(), value)
        }
        M::Leave if cpu.is_64bit() && instruction.code() == Code::Leaveq => {
            cpu.state.regs[Gpr::Rsp] = cpu.state.regs[Gpr::Rbp];
            let value = pop(cpu, 8)?;
            cpu.state.regs[Gpr::Rbp] = value;
            Ok(())
        }
        M::Cld => {
            cpu.set_flags(DF, 0);
            Ok(())
        }
        M::Std => {
            cpu.set_flags(DF, DF);
            Ok(())
        }
        M::Clc => {
            cpu.set_flags(flags::CF, 0);
            Ok(())
        }
        M::Stc => {
            cpu.set_flags(flags::CF, flags::CF);
            Ok(())
        }
        M::Clac | M::Stac if cpu.is_supervisor() => {
            let yes = instruction.mnemonic() == M::Stac;
            cpu.set_flags(rflags::AC, if yes { rflags::AC } else { 0 });
            Ok(())
        }
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

fn size_of(instruction: &Instruction, n: u32) -> usize {
    match instruction.op_kind(n) {
        OpKind::Register => instruction.op_register(n).size(),
        OpKind::Memory => instruction.memory_size().size(),
        _ => 8, // an immediate, which iced extends
    }
}

/// Operand `n`: a general register, an immediate, or memory.
fn value(instruction: &Instruction, n: u32, size: usize, cpu: &Ring0<'_>) -> Step<u64> {
    match instruction.op_kind(n) {
        OpKind::Register if !instruction.op_register(n).is_gpr() => Err(Trap::Unknown),
        OpKind::Register | OpKind::Memory => cpu.operand(instruction, n, size),
        _ => instruction.try_immediate(n).map_err(|_| Trap::Unknown),
    }
}

/// Sets operand 0.
fn put(instruction: &Instruction, size: usize, value: u64, cpu: &mut Ring0<'_>) -> Step {
    match instruction.op0_kind() {
        OpKind::Register if instruction.op0_register().is_gpr() => cpu.set_register(instruction.op0_register(), value),
        OpKind::Memory if matches!(size, 1 | 2 | 4 | 8) => {
            let at = cpu.address(instruction, 0, size)?;
            cpu.write(at, &value.to_le_bytes()[..size])
        }
        _ => Err(Trap::Unknown),
    }
}

/// `value` of `size` bytes, with its sign.
fn extended(value: u64, size: usize) -> u64 {
    let unused = 64 - 8 * u32::try_from(size.clamp(1, 8)).unwrap_or(8);
    ((value << unused).cast_signed() >> unused).cast_unsigned()
}

/// ADD, SUB, CMP, AND, OR, XOR, TEST, INC, DEC with their flags. Of those that the manual calls undefined, AF is cleared.
fn arithmetic(instruction: &Instruction, size: usize, cpu: &mut Ring0<'_>) -> Step {
    use Mnemonic as M;
    let (mnemonic, bits) = (instruction.mnemonic(), 8 * u32::try_from(size).unwrap_or(8));
    let mask = u64::MAX >> (64 - bits.clamp(8, 64));
    let a = value(instruction, 0, size, cpu)? & mask;
    let is_unary = matches!(mnemonic, M::Inc | M::Dec);
    let b = if is_unary { 1 } else { value(instruction, 1, size, cpu)? & mask };
    let (result, carry, overflow) = match mnemonic {
        M::Add | M::Inc => {
            let result = a.wrapping_add(b) & mask;
            (result, result < a, !(a ^ b) & (a ^ result))
        }
        M::Sub | M::Cmp | M::Dec => (a.wrapping_sub(b) & mask, a < b, (a ^ b) & (a ^ a.wrapping_sub(b))),
        M::And | M::Test => (a & b, false, 0),
        M::Or => (a | b, false, 0),
        _ => (a ^ b, false, 0),
    };
    if !matches!(mnemonic, M::Cmp | M::Test) {
        put(instruction, size, result, cpu)?;
    }
    let is_logic = matches!(mnemonic, M::And | M::Test | M::Or | M::Xor);
    let top = 1_u64 << (bits - 1);
    let set = |yes: bool, flag: u64| if yes { flag } else { 0 };
    let flags = set(carry, flags::CF)
        | set((result & 0xff).count_ones().is_multiple_of(2), PF)
        | set(!is_logic && (a ^ b ^ result) & 0x10 != 0, AF)
        | set(result == 0, rflags::ZF)
        | set(result & top != 0, SF)
        | set(overflow & top != 0, flags::OF);
    cpu.set_flags(if is_unary { flags::ARITHMETIC & !flags::CF } else { flags::ARITHMETIC }, flags);
    Ok(())
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

fn stack(cpu: &Ring0<'_>, offset: u64) -> u64 {
    if cpu.is_64bit() { offset } else { cpu.state.sregs.ss.base.wrapping_add(offset) & 0xffff_ffff }
}

fn set_stack(cpu: &mut Ring0<'_>, top: u64) {
    let register = if cpu.is_64bit() { Register::RSP } else { Register::ESP };
    let _ = cpu.set_register(register, top);
}

fn push(cpu: &mut Ring0<'_>, value: u64, size: usize) -> Step {
    let top = cpu.state.regs[Gpr::Rsp].wrapping_sub(u64::try_from(size).unwrap_or(8));
    let top = if size == 8 { top } else { top & 0xffff_ffff };
    cpu.write(stack(cpu, top), &value.to_le_bytes()[..size])?;
    set_stack(cpu, top);
    Ok(())
}

fn pop(cpu: &mut Ring0<'_>, size: usize) -> Step<u64> {
    let top = cpu.state.regs[Gpr::Rsp];
    let at = stack(cpu, top);
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
