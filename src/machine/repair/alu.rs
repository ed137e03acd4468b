//! What the plain instructions compute, with their flags (Intel SDM vol. 2): arithmetic, shifts, products, bits, exchanges.
//! Flags that the manual calls undefined are left alone or as most processors have them. It never moves RIP.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use crate::x86::{Gpr, rflags};

use super::flags;
use super::ring0::{Ring0, Step, Trap};
use super::simple::{extended, put, size_of, value};

pub(super) const PF: u64 = 1 << 2;
pub(super) const AF: u64 = 1 << 4;
pub(super) const SF: u64 = 1 << 7;

/// Those that a result alone decides.
const OF_RESULT: u64 = PF | rflags::ZF | SF;

fn bits_of(size: usize) -> u32 {
    8 * u32::try_from(size.clamp(1, 8)).unwrap_or(8)
}

fn mask_of(bits: u32) -> u64 {
    u64::MAX >> (64 - bits)
}

fn set(yes: bool, flag: u64) -> u64 {
    if yes { flag } else { 0 }
}

/// PF, ZF and SF of a result.
fn signs(result: u64, bits: u32) -> u64 {
    set((result & 0xff).count_ones().is_multiple_of(2), PF)
        | set(result & mask_of(bits) == 0, rflags::ZF)
        | set(result >> (bits - 1) & 1 != 0, SF)
}

/// What ADD, SUB and their kin make of two numbers and the carry: the result, and all six flags.
fn computed(mnemonic: Mnemonic, a: u64, b: u64, carry: bool, bits: u32) -> (u64, u64) {
    use Mnemonic as M;
    let (mask, carried) = (mask_of(bits), u64::from(carry));
    let (result, carry, overflow) = match mnemonic {
        M::Add | M::Inc | M::Adc | M::Xadd => {
            let result = a.wrapping_add(b).wrapping_add(carried) & mask;
            (result, result < a || carry && result == a, !(a ^ b) & (a ^ result))
        }
        M::Sub | M::Cmp | M::Dec | M::Sbb | M::Neg | M::Cmpxchg => {
            let result = a.wrapping_sub(b).wrapping_sub(carried) & mask;
            (result, a < b || carry && a == b, (a ^ b) & (a ^ result))
        }
        M::And | M::Test => (a & b, false, 0),
        M::Or => (a | b, false, 0),
        _ => (a ^ b, false, 0),
    };
    let is_logic = matches!(mnemonic, M::And | M::Test | M::Or | M::Xor);
    let flags = signs(result, bits)
        | set(carry, flags::CF)
        | set(!is_logic && (a ^ b ^ result) & 0x10 != 0, AF)
        | set(overflow >> (bits - 1) & 1 != 0, flags::OF);
    (result, flags)
}

/// ADD, ADC, SUB, SBB, CMP, AND, OR, XOR, TEST, INC, DEC, NEG. Of the flags that are undefined, AF is cleared.
pub(super) fn arithmetic(instruction: &Instruction, size: usize, cpu: &mut Ring0<'_>) -> Step {
    use Mnemonic as M;
    let (mnemonic, bits) = (instruction.mnemonic(), bits_of(size));
    let first = value(instruction, 0, size, cpu)? & mask_of(bits);
    let (a, b) = match mnemonic {
        M::Inc | M::Dec => (first, 1),
        M::Neg => (0, first),
        _ => (first, value(instruction, 1, size, cpu)? & mask_of(bits)),
    };
    let carry = matches!(mnemonic, M::Adc | M::Sbb) && cpu.state.regs[Gpr::Rflags] & flags::CF != 0;
    let (result, made) = computed(mnemonic, a, b, carry, bits);
    if !matches!(mnemonic, M::Cmp | M::Test) {
        put(instruction, size, result, cpu)?;
    }
    let keeps_carry = matches!(mnemonic, M::Inc | M::Dec);
    cpu.set_flags(if keeps_carry { flags::ARITHMETIC & !flags::CF } else { flags::ARITHMETIC }, made);
    Ok(())
}

/// NOT and BSWAP, which leave the flags alone.
pub(super) fn turned(instruction: &Instruction, size: usize, cpu: &mut Ring0<'_>) -> Step {
    let now = value(instruction, 0, size, cpu)?;
    let turned = match (instruction.mnemonic(), size) {
        (Mnemonic::Not, _) => !now,
        (_, 4 | 8) => now.swap_bytes() >> (64 - bits_of(size)),
        _ => return Err(Trap::Unknown), // of 16 bits, BSWAP is undefined
    };
    put(instruction, size, turned, cpu)
}

/// SHL, SHR, SAR, ROL, ROR. OF is that of a shift by one, whatever the count.
pub(super) fn shift(instruction: &Instruction, size: usize, cpu: &mut Ring0<'_>) -> Step {
    use Mnemonic as M;
    let (mnemonic, bits) = (instruction.mnemonic(), bits_of(size));
    let count = match instruction.op1_kind() {
        OpKind::Register if instruction.op1_register() != Register::CL => return Err(Trap::Unknown),
        _ => value(instruction, 1, 1, cpu)? & if size == 8 { 0x3f } else { 0x1f },
    };
    let a = value(instruction, 0, size, cpu)? & mask_of(bits);
    let count = u32::try_from(count).unwrap_or(0);
    let rotates = matches!(mnemonic, M::Rol | M::Ror);
    if !rotates && count > bits {
        return Err(Trap::Unknown); // what is carried is undefined
    }
    let (wide, sign) = (u128::from(a), i128::from(extended(a, size).cast_signed()).cast_unsigned());
    let turn = count % bits;
    let left = |by: u32| wide << by | if rotates && by > 0 { wide >> (bits - by) } else { 0 };
    let low = |number: u128| u64::try_from(number & u128::from(u64::MAX)).unwrap_or(0) & mask_of(bits);
    let result = match mnemonic {
        M::Shl | M::Sal => low(left(count)),
        M::Rol => low(left(turn)),
        M::Ror => low(wide >> turn | if turn > 0 { wide << (bits - turn) } else { 0 }),
        M::Shr => low(wide >> count),
        _ => low(sign >> count),
    };
    put(instruction, size, result, cpu)?;
    if count == 0 {
        return Ok(());
    }
    let top = |number: u64| number >> (bits - 1) & 1 != 0;
    let carry = match mnemonic {
        M::Shl | M::Sal => wide >> (bits - count) & 1 != 0,
        M::Rol => result & 1 != 0,
        M::Ror => top(result),
        M::Shr => wide >> (count - 1) & 1 != 0,
        _ => sign >> (count - 1) & 1 != 0,
    };
    let overflow = match mnemonic {
        M::Shl | M::Sal | M::Rol => top(result) != carry,
        M::Ror => top(result) != top(result << 1),
        M::Shr => top(a),
        _ => false,
    };
    let kept = if rotates { 0 } else { OF_RESULT };
    cpu.set_flags(flags::CF | flags::OF | kept, set(carry, flags::CF) | set(overflow, flags::OF) | signs(result, bits));
    Ok(())
}

/// IMUL of two or three operands: CF and OF say that the product does not fit.
fn product(instruction: &Instruction, size: usize, cpu: &mut Ring0<'_>) -> Step {
    let from = if instruction.op_count() == 3 { [1, 2] } else { [0, 1] };
    let a = extended(value(instruction, from[0], size, cpu)?, size);
    let b = extended(value(instruction, from[1], size, cpu)?, size);
    let full = i128::from(a.cast_signed()) * i128::from(b.cast_signed());
    let result = a.wrapping_mul(b) & mask_of(bits_of(size));
    put(instruction, size, result, cpu)?;
    let is_cut = full != i128::from(extended(result, size).cast_signed());
    cpu.set_flags(flags::CF | flags::OF, set(is_cut, flags::CF | flags::OF));
    Ok(())
}

/// The two halves of the accumulator for operands of that size: AH and AL, DX and AX, and so on.
fn halves(size: usize) -> (Register, Register) {
    match size {
        1 => (Register::AH, Register::AL),
        2 => (Register::DX, Register::AX),
        4 => (Register::EDX, Register::EAX),
        _ => (Register::RDX, Register::RAX),
    }
}

/// MUL and IMUL, the latter also of more operands than one.
pub(super) fn multiply(instruction: &Instruction, size: usize, cpu: &mut Ring0<'_>) -> Step {
    if instruction.op_count() > 1 {
        return product(instruction, size, cpu);
    }
    let ((high, low), bits) = (halves(size), bits_of(size));
    let b = value(instruction, 0, size, cpu)?;
    let a = cpu.register(low).ok_or(Trap::Unknown)?;
    let is_signed = instruction.mnemonic() == Mnemonic::Imul;
    let widened = |number: u64| i128::from(extended(number, size).cast_signed());
    let full = if is_signed { (widened(a) * widened(b)).cast_unsigned() } else { u128::from(a) * u128::from(b) };
    let part = |number: u128| u64::try_from(number & u128::from(mask_of(bits))).unwrap_or(0);
    let (top, bottom) = (part(full >> bits), part(full));
    cpu.set_register(low, bottom)?;
    cpu.set_register(high, top)?;
    let spare = if is_signed && bottom >> (bits - 1) & 1 != 0 { mask_of(bits) } else { 0 };
    cpu.set_flags(flags::CF | flags::OF, set(top != spare, flags::CF | flags::OF));
    Ok(())
}

/// DIV and IDIV that raise no #DE. All flags are undefined, and left alone.
pub(super) fn divide(instruction: &Instruction, size: usize, cpu: &mut Ring0<'_>) -> Step {
    let ((high, low), bits) = (halves(size), bits_of(size));
    let by = value(instruction, 0, size, cpu)? & mask_of(bits);
    let part = |register| cpu.register(register).ok_or(Trap::Unknown);
    let number = u128::from(part(high)?) << bits | u128::from(part(low)?);
    let (quotient, rest) = if instruction.mnemonic() == Mnemonic::Idiv {
        let unused = 128 - 2 * bits;
        let number = (number << unused).cast_signed() >> unused;
        let by = i128::from(extended(by, size).cast_signed());
        let quotient = number.checked_div(by).ok_or(Trap::Unknown)?;
        let limit = 1_i128 << (bits - 1);
        if !(-limit..limit).contains(&quotient) {
            return Err(Trap::Unknown);
        }
        (quotient.cast_unsigned(), number.wrapping_rem(by).cast_unsigned())
    } else {
        let quotient = number.checked_div(by.into()).ok_or(Trap::Unknown)?;
        if quotient > u128::from(mask_of(bits)) {
            return Err(Trap::Unknown);
        }
        (quotient, number % u128::from(by))
    };
    let part = |number: u128| u64::try_from(number & u128::from(mask_of(bits))).unwrap_or(0);
    cpu.set_register(low, part(quotient))?;
    cpu.set_register(high, part(rest))
}

/// CBW, CWDE, CDQE; CWD, CDQ, CQO.
pub(super) fn widen(mnemonic: Mnemonic, cpu: &mut Ring0<'_>) -> Step {
    use Mnemonic as M;
    use Register as R;
    let (from, to, size) = match mnemonic {
        M::Cbw => (R::AL, R::AX, 1),
        M::Cwde => (R::AX, R::EAX, 2),
        M::Cdqe => (R::EAX, R::RAX, 4),
        M::Cwd => (R::AX, R::DX, 2),
        M::Cdq => (R::EAX, R::EDX, 4),
        _ => (R::RAX, R::RDX, 8),
    };
    let wide = extended(cpu.register(from).ok_or(Trap::Unknown)?, size);
    let is_pair = matches!(mnemonic, M::Cwd | M::Cdq | M::Cqo);
    cpu.set_register(to, if is_pair { (wide >> 63).wrapping_neg() } else { wide })
}

/// BT, BTS, BTR, BTC, but for those whose bit number leads away from their operand in memory.
pub(super) fn bit(instruction: &Instruction, size: usize, cpu: &mut Ring0<'_>) -> Step {
    use Mnemonic as M;
    if instruction.op0_kind() == OpKind::Memory && instruction.op1_kind() == OpKind::Register {
        return Err(Trap::Unknown);
    }
    let bit = 1_u64 << (value(instruction, 1, size, cpu)? & u64::from(bits_of(size) - 1));
    let now = value(instruction, 0, size, cpu)?;
    match instruction.mnemonic() {
        M::Bts => put(instruction, size, now | bit, cpu)?,
        M::Btr => put(instruction, size, now & !bit, cpu)?,
        M::Btc => put(instruction, size, now ^ bit, cpu)?,
        _ => {}
    }
    cpu.set_carry(now & bit != 0);
    Ok(())
}

/// BSF and BSR of what is not zero.
pub(super) fn scan(instruction: &Instruction, size: usize, cpu: &mut Ring0<'_>) -> Step {
    let from = value(instruction, 1, size, cpu)? & mask_of(bits_of(size));
    if from == 0 {
        return Err(Trap::Unknown); // what becomes of the destination is undefined
    }
    let found = if instruction.mnemonic() == Mnemonic::Bsf { from.trailing_zeros() } else { from.ilog2() };
    put(instruction, size, found.into(), cpu)?;
    cpu.set_zero(false);
    Ok(())
}

/// XCHG, XADD and CMPXCHG. Whoever calls has seen to it that nobody comes between.
pub(super) fn exchange(instruction: &Instruction, size: usize, cpu: &mut Ring0<'_>) -> Step {
    let bits = bits_of(size);
    let (a, b) = (value(instruction, 0, size, cpu)?, value(instruction, 1, size, cpu)?);
    let second = instruction.op1_register();
    match instruction.mnemonic() {
        Mnemonic::Xchg => {
            put(instruction, size, b, cpu)?;
            cpu.set_register(second, a)
        }
        Mnemonic::Xadd => {
            let (sum, made) = computed(Mnemonic::Xadd, a, b, false, bits);
            if instruction.op0_kind() == OpKind::Memory {
                put(instruction, size, sum, cpu)?;
                cpu.set_register(second, a)?;
            } else {
                cpu.set_register(second, a)?;
                put(instruction, size, sum, cpu)?;
            }
            cpu.set_flags(flags::ARITHMETIC, made);
            Ok(())
        }
        _ if instruction.op0_kind() == OpKind::Memory && size_of(instruction, 1) == size => {
            let accumulator = halves(size).1;
            let expected = cpu.register(accumulator).ok_or(Trap::Unknown)?;
            let (_, made) = computed(Mnemonic::Cmpxchg, expected, a, false, bits);
            // A miss writes back what it found: the page must be writable either way.
            put(instruction, size, if expected == a { b } else { a }, cpu)?;
            if expected != a {
                cpu.set_register(accumulator, a)?;
            }
            cpu.set_flags(flags::ARITHMETIC, made);
            Ok(())
        }
        _ => Err(Trap::Unknown), // a register that a miss may write back or not
    }
}
