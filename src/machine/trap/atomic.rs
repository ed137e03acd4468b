//! Atomic instructions on trapped memory. KVM hands them out as a read (or none) and a write, between which another vCPU may
//! have written: then the instruction has to be executed again. It never writes memory itself.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};

use crate::addr::GuestPhys;
use crate::bus::all_ones;
use crate::source::ReadMemory;
use crate::x86::{Gpr, Regs, Sregs, rflags};

use super::operands::View;

/// Longest instruction (Intel SDM vol. 2, 2.3.11).
const LONGEST: u64 = 15;

/// What becomes of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::machine) enum Then {
    /// It is made.
    Write,
    /// It is not made: the instruction has found another value than it wanted, and is complete.
    Drop,
    /// It is not made: with these registers, the instruction is executed again.
    Again(Box<Regs>),
}

/// What the guest has written: `data` of `size` bytes at `at`.
#[derive(Clone, Copy, Debug)]
pub(in crate::machine) struct Written {
    pub(in crate::machine) at: GuestPhys,
    pub(in crate::machine) size: u8,
    pub(in crate::machine) data: u64,
}

/// The atomic instruction that ends at RIP and has written `written`, if it is one. KVM has moved RIP on already.
pub(in crate::machine) fn atomic(
    regs: &Regs,
    sregs: &Sregs,
    memory: &impl ReadMemory,
    written: Written,
) -> Option<Instruction> {
    let view = View { regs, sregs, memory };
    let rip = regs[Gpr::Rip];
    let (bytes, _) = view.code_at(rip.wrapping_sub(LONGEST));
    (2..=bytes.len().min(15)).find_map(|len| {
        let start = bytes.get(bytes.len().checked_sub(len)?..)?;
        let ip = rip.wrapping_sub(u64::try_from(len).ok()?);
        let mut decoder = Decoder::try_with_ip(sregs.code_bits(), start, ip, DecoderOptions::NONE).ok()?;
        let instruction = decoder.decode();
        let is_atomic = instruction.has_lock_prefix() || instruction.mnemonic() == Mnemonic::Xchg;
        let is_whole = !instruction.is_invalid() && instruction.len() == len && is_atomic;
        (is_whole && view.writes(&instruction, written.at)).then_some(instruction)
    })
}

/// What becomes of the write of `instruction`, if `now` is in memory.
pub(in crate::machine) fn then(instruction: &Instruction, regs: &Regs, written: Written, now: u64) -> Then {
    let ones = all_ones(written.size);
    let is_same = |value: u64| (value ^ now) & ones == 0;
    let again = |change: Option<(Gpr, u64)>| {
        let mut before = *regs;
        before[Gpr::Rip] = instruction.ip();
        if let Some((register, value)) = change {
            before[register] = before[register] & !ones | value & ones;
        }
        Then::Again(Box::new(before))
    };
    let yes = |fits: bool, change| if fits { Then::Write } else { again(change) };
    let had = |regs: &Regs| operand(instruction, 1, regs);
    match instruction.mnemonic() {
        Mnemonic::Cmpxchg | Mnemonic::Cmpxchg8b if regs[Gpr::Rflags] & rflags::ZF == 0 => Then::Drop,
        Mnemonic::Cmpxchg => yes(is_same(regs[Gpr::Rax]), None),
        Mnemonic::Cmpxchg8b => yes(is_same(regs[Gpr::Rdx] << 32 | regs[Gpr::Rax] & 0xffff_ffff), None),
        Mnemonic::Xchg | Mnemonic::Xadd => {
            // The register has what was in memory when the instruction began.
            let Some((register, old)) = register_operand(instruction, regs) else { return Then::Write };
            let is_exchange = instruction.mnemonic() == Mnemonic::Xchg;
            let source = if is_exchange { written.data } else { written.data.wrapping_sub(old) };
            yes(is_same(old), Some((register, source)))
        }
        mnemonic => {
            let result = had(regs).or(Some(0)).and_then(|source| apply(mnemonic, now, source, written.size));
            result.map_or(Then::Write, |result| yes((result ^ written.data) & ones == 0, None))
        }
    }
}

/// What `mnemonic` makes of `value`; none for what is not known to be atomic.
fn apply(mnemonic: Mnemonic, value: u64, source: u64, size: u8) -> Option<u64> {
    let bit = 1 << (source & (8 * u64::from(size) - 1));
    Some(match mnemonic {
        Mnemonic::Inc => value.wrapping_add(1),
        Mnemonic::Dec => value.wrapping_sub(1),
        Mnemonic::Add => value.wrapping_add(source),
        Mnemonic::Sub => value.wrapping_sub(source),
        Mnemonic::And => value & source,
        Mnemonic::Or => value | source,
        Mnemonic::Xor => value ^ source,
        Mnemonic::Not => !value,
        Mnemonic::Neg => value.wrapping_neg(),
        Mnemonic::Bts => value | bit,
        Mnemonic::Btr => value & !bit,
        Mnemonic::Btc => value ^ bit,
        _ => return None,
    })
}

/// A register or an immediate.
fn operand(instruction: &Instruction, n: u32, regs: &Regs) -> Option<u64> {
    if n >= instruction.op_count() {
        return None;
    }
    match instruction.op_kind(n) {
        OpKind::Register => super::operands::general(instruction.op_register(n), regs),
        _ => instruction.try_immediate(n).ok(),
    }
}

/// The register of an exchange, and what is in it; none for AH to BH, which nobody exchanges atomically.
fn register_operand(instruction: &Instruction, regs: &Regs) -> Option<(Gpr, u64)> {
    let n = (0..instruction.op_count()).find(|n| instruction.op_kind(*n) == OpKind::Register)?;
    let register = instruction.op_register(n);
    let gpr = super::operands::gpr(register)?;
    Some((gpr, super::operands::general(register, regs)?))
}

impl<M: ReadMemory> View<'_, M> {
    /// Does `instruction` write at `at`?
    fn writes(&self, instruction: &Instruction, at: GuestPhys) -> bool {
        let by = bit_offset(instruction, self.regs);
        self.memory_operand(instruction).and_then(|linear| self.physical(linear.wrapping_add(by))) == Some(at)
    }
}

/// How far beyond its address BTS and its relatives access memory: a bit offset in a register is not taken modulo the width.
fn bit_offset(instruction: &Instruction, regs: &Regs) -> u64 {
    let size = match instruction.code() {
        Code::Bts_rm64_r64 | Code::Btr_rm64_r64 | Code::Btc_rm64_r64 => 8,
        Code::Bts_rm32_r32 | Code::Btr_rm32_r32 | Code::Btc_rm32_r32 => 4,
        Code::Bts_rm16_r16 | Code::Btr_rm16_r16 | Code::Btc_rm16_r16 => 2,
        _ => return 0,
    };
    let Some(bit) = operand(instruction, 1, regs) else { return 0 };
    let unused = 64 - 8 * size;
    let bit = (bit << unused).cast_signed() >> unused;
    (bit.div_euclid(8 * i64::from(size)) * i64::from(size)).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZF: u64 = rflags::ZF;

    fn instruction(code: &[u8]) -> Instruction {
        Decoder::with_ip(64, code, 0x1000, DecoderOptions::NONE).decode()
    }

    fn regs(set: &[(Gpr, u64)]) -> Regs {
        let mut regs = Regs::default();
        for (register, value) in set {
            regs[*register] = *value;
        }
        regs
    }

    fn outcome(code: &[u8], set: &[(Gpr, u64)], data: u64, now: u64) -> Then {
        then(&instruction(code), &regs(set), Written { at: GuestPhys(0), size: 4, data }, now)
    }

    fn again(set: &[(Gpr, u64)]) -> Then {
        let mut regs = regs(set);
        regs[Gpr::Rip] = 0x1000;
        Then::Again(Box::new(regs))
    }

    #[test]
    fn an_addition_on_what_is_no_longer_there_is_made_again() {
        let lock_inc = &[0xf0, 0xff, 0x03]; // lock inc dword [rbx]
        assert_eq!(outcome(lock_inc, &[], 6, 5), Then::Write);
        assert_eq!(outcome(lock_inc, &[], 6, 6), again(&[]));
        let lock_or = &[0xf0, 0x83, 0x0b, 0x04]; // lock or dword [rbx], 4
        assert_eq!(outcome(lock_or, &[], 5, 1), Then::Write);
        assert_eq!(outcome(lock_or, &[], 5, 3), again(&[]));
        let lock_bts = &[0xf0, 0x0f, 0xab, 0x03]; // lock bts dword [rbx], eax
        assert_eq!(outcome(lock_bts, &[(Gpr::Rax, 35)], 9, 1), Then::Write);
    }

    #[test]
    fn an_exchange_gets_its_register_back_before_it_is_made_again() {
        let xchg = &[0x87, 0x03]; // xchg [rbx], eax
        assert_eq!(outcome(xchg, &[(Gpr::Rax, 3)], 9, 3), Then::Write);
        assert_eq!(outcome(xchg, &[(Gpr::Rax, 3)], 9, 4), again(&[(Gpr::Rax, 9)]));
        let xadd = &[0xf0, 0x0f, 0xc1, 0x0b]; // lock xadd [rbx], ecx
        assert_eq!(outcome(xadd, &[(Gpr::Rcx, 3)], 5, 3), Then::Write);
        assert_eq!(outcome(xadd, &[(Gpr::Rcx, 3)], 5, 4), again(&[(Gpr::Rcx, 2)]));
    }

    #[test]
    fn a_comparison_that_failed_writes_nothing() {
        let cmpxchg = &[0xf0, 0x0f, 0xb1, 0x0b]; // lock cmpxchg [rbx], ecx
        assert_eq!(outcome(cmpxchg, &[(Gpr::Rax, 3)], 7, 7), Then::Drop);
        assert_eq!(outcome(cmpxchg, &[(Gpr::Rax, 3), (Gpr::Rflags, ZF)], 9, 3), Then::Write);
        let set = &[(Gpr::Rax, 3), (Gpr::Rflags, ZF)];
        assert_eq!(outcome(cmpxchg, set, 9, 4), again(set));
    }
}
