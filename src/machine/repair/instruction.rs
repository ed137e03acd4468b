//! What each repaired instruction does, as the manuals say (Intel SDM vol. 2). It never decides whether repair is wanted,
//! and changes only the copies in `Ring0` and, as its last act, guest memory.

use std::sync::{Mutex, PoisonError};

use iced_x86::{Instruction, Mnemonic, OpKind};

use crate::x86::{Gpr, rflags};

use super::descriptor;
use super::flags;
use super::interrupt;
use super::ring0::{Ring0, Step, Trap};

/// What follows an instruction that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The next one.
    Next,
    /// The next one, after this exception has been taken.
    Exception(u8),
    /// Whatever RIP says now.
    Jumped,
}

/// CR4 bits that make an instruction exist.
mod cr4 {
    pub(super) const FSGSBASE: u64 = 1 << 16;
    pub(super) const OSXSAVE: u64 = 1 << 18;
}

/// CR0 bits that make the floating-point unit unusable.
mod cr0 {
    pub(super) const MP: u64 = 1 << 1;
    pub(super) const EM: u64 = 1 << 2;
    pub(super) const TS: u64 = 1 << 3;
}

/// `TSC` and `TSC_AUX`.
const TSC: u32 = 0x10;
const TSC_AUX: u32 = 0xc000_0103;

/// Executes `instruction`, which lies at RIP, in ring 0, moves RIP behind it and clears RF, as each instruction does.
pub(super) fn execute(instruction: &Instruction, cpu: &mut Ring0<'_>) -> Step<Then> {
    let then = perform(instruction, cpu)?;
    if then != Then::Jumped {
        cpu.jump(instruction.next_ip());
        cpu.set_flags(flags::RF, 0);
    }
    Ok(then)
}

fn perform(instruction: &Instruction, cpu: &mut Ring0<'_>) -> Step<Then> {
    use Mnemonic as M;
    match instruction.mnemonic() {
        M::Int3 => return Ok(Then::Exception(3)),
        M::Int1 => return Ok(Then::Exception(1)),
        M::Into => {
            return Ok(if cpu.state.regs[Gpr::Rflags] & flags::OF != 0 { Then::Exception(4) } else { Then::Next });
        }
        M::Int => return interrupt::deliver(cpu, instruction.immediate8(), instruction.next_ip()),
        mnemonic if is_of_float(mnemonic) => float(mnemonic, cpu)?,
        mnemonic if is_hint(mnemonic) => {}
        M::Stac => cpu.set_flags(rflags::AC, rflags::AC),
        M::Clac => cpu.set_flags(rflags::AC, 0),
        M::Popcnt | M::Lzcnt | M::Tzcnt => count_bits(instruction, cpu)?,
        M::Crc32 => crc32(instruction, cpu)?,
        M::Cmpxchg16b => compare_exchange(instruction, cpu)?,
        M::Lar | M::Lsl | M::Verr | M::Verw => descriptor::ask(instruction, cpu)?,
        M::Rdtscp => read_time(cpu)?,
        M::Rdpid => read_processor(instruction, cpu)?,
        M::Rdrand | M::Rdseed => random(instruction, cpu)?,
        M::Rdfsbase | M::Rdgsbase | M::Wrfsbase | M::Wrgsbase => segment_base(instruction, cpu)?,
        M::Invpcid => invalidate(instruction, cpu)?,
        M::Ldmxcsr | M::Stmxcsr => control_status(instruction, cpu)?,
        M::Xgetbv | M::Xsetbv => extended_control(instruction.mnemonic(), cpu)?,
        _ => return Err(Trap::Unknown),
    }
    Ok(Then::Next)
}

/// Waits, hints and cache lines, of which an interpreted ring 0 sees nothing.
fn is_hint(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    let waits = matches!(mnemonic, M::Monitor | M::Mwait | M::Monitorx | M::Mwaitx | M::Serialize);
    let caches = matches!(mnemonic, M::Clflush | M::Clflushopt | M::Clwb | M::Cldemote | M::Wbnoinvd);
    waits || caches || matches!(mnemonic, M::Prefetchw | M::Prefetchwt1)
}

/// What a kernel does to keep the floating-point unit clean, and which has no result.
fn is_of_float(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(mnemonic, M::Wait | M::Emms | M::Femms | M::Fnclex | M::Fninit | M::Fnop)
}

/// Does nothing, or raises #NM as CR0 asks (Intel SDM vol. 3, table 2-2).
fn float(mnemonic: Mnemonic, cpu: &Ring0<'_>) -> Step {
    let is_set = |bits: u64| cpu.state.sregs.cr0 & bits == bits;
    let is_missing = match mnemonic {
        Mnemonic::Wait => is_set(cr0::MP | cr0::TS),
        _ => is_set(cr0::TS) || is_set(cr0::EM),
    };
    if is_missing { Err(Trap::Exception { vector: 7, error: None, cr2: None }) } else { Ok(()) }
}

/// The width in bytes of the register that operand 0 is.
fn width(instruction: &Instruction) -> usize {
    instruction.op_register(0).size()
}

/// POPCNT, LZCNT, TZCNT. The last two leave the flags alone that the manual calls undefined.
fn count_bits(instruction: &Instruction, cpu: &mut Ring0<'_>) -> Step {
    let bytes = width(instruction);
    let source = cpu.operand(instruction, 1, bytes)?;
    let bits = 8 * u32::try_from(bytes).unwrap_or(8);
    let result = match instruction.mnemonic() {
        Mnemonic::Popcnt => source.count_ones(),
        Mnemonic::Lzcnt => source.leading_zeros() - (64 - bits),
        _ => source.trailing_zeros().min(bits),
    };
    if instruction.mnemonic() == Mnemonic::Popcnt {
        cpu.set_flags(flags::ARITHMETIC, 0);
        cpu.set_zero(source == 0);
    } else {
        cpu.set_carry(source == 0);
        cpu.set_zero(result == 0);
    }
    cpu.set_register(instruction.op_register(0), result.into())
}

/// CRC32: the Castagnoli polynomial, bits reflected.
fn crc32(instruction: &Instruction, cpu: &mut Ring0<'_>) -> Step {
    let bytes = match instruction.op1_kind() {
        OpKind::Register => instruction.op_register(1).size(),
        _ => instruction.memory_size().size(),
    };
    let source = cpu.operand(instruction, 1, bytes)?;
    let mut sum = cpu.register(instruction.op_register(0)).ok_or(Trap::Unknown)? & 0xffff_ffff;
    for byte in source.to_le_bytes().into_iter().take(bytes) {
        sum ^= u64::from(byte);
        for _ in 0..8 {
            sum = sum >> 1 ^ if sum & 1 != 0 { 0x82f6_3b78 } else { 0 };
        }
    }
    cpu.set_register(instruction.op_register(0), sum)
}

/// CMPXCHG16B. Every one of this process takes its turn, so that vCPUs see each other's as atomic.
fn compare_exchange(instruction: &Instruction, cpu: &mut Ring0<'_>) -> Step {
    static TURN: Mutex<()> = Mutex::new(());
    let at = cpu.address(instruction, 0, 16)?;
    if !at.is_multiple_of(16) {
        return Err(Trap::protection(0));
    }
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    cpu.check_writable(at)?;
    let found = u128::from_le_bytes(cpu.read(at)?);
    let pair = |high: Gpr, low: Gpr| u128::from(cpu.state.regs[high]) << 64 | u128::from(cpu.state.regs[low]);
    let hit = found == pair(Gpr::Rdx, Gpr::Rax);
    // A miss writes back what it found, as the processor does: the page must be writable either way.
    let new = if hit { pair(Gpr::Rcx, Gpr::Rbx) } else { found };
    cpu.write(at, &new.to_le_bytes())?;
    drop(turn);
    cpu.set_zero(hit);
    if !hit {
        cpu.state.regs[Gpr::Rax] = u64::try_from(found & u128::from(u64::MAX)).unwrap_or(0);
        cpu.state.regs[Gpr::Rdx] = u64::try_from(found >> 64).unwrap_or(0);
    }
    Ok(())
}

/// RDTSCP.
fn read_time(cpu: &mut Ring0<'_>) -> Step {
    let aux = cpu.msr(TSC_AUX)?;
    let time = cpu.msr(TSC)?;
    cpu.state.regs[Gpr::Rcx] = aux & 0xffff_ffff;
    split(cpu, time);
    Ok(())
}

/// EDX:EAX.
fn split(cpu: &mut Ring0<'_>, value: u64) {
    cpu.state.regs[Gpr::Rax] = value & 0xffff_ffff;
    cpu.state.regs[Gpr::Rdx] = value >> 32;
}

/// RDPID.
fn read_processor(instruction: &Instruction, cpu: &mut Ring0<'_>) -> Step {
    let aux = cpu.msr(TSC_AUX)?;
    cpu.set_register(instruction.op_register(0), aux & 0xffff_ffff)
}

/// RDRAND, RDSEED: the host's entropy; where there is none, the "not ready" that a guest has to expect.
fn random(instruction: &Instruction, cpu: &mut Ring0<'_>) -> Step {
    let mut bytes = [0; 8];
    let ready = std::fs::File::open("/dev/urandom").and_then(|mut f| std::io::Read::read_exact(&mut f, &mut bytes));
    cpu.set_flags(flags::ARITHMETIC, 0);
    cpu.set_carry(ready.is_ok());
    cpu.set_register(instruction.op_register(0), if ready.is_ok() { u64::from_le_bytes(bytes) } else { 0 })
}

/// RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE.
fn segment_base(instruction: &Instruction, cpu: &mut Ring0<'_>) -> Step {
    if cpu.state.sregs.cr4 & cr4::FSGSBASE == 0 || !cpu.is_64bit() {
        return Err(Trap::INVALID_OPCODE);
    }
    let register = instruction.op_register(0);
    match instruction.mnemonic() {
        Mnemonic::Rdfsbase => return cpu.set_register(register, cpu.state.sregs.fs.base),
        Mnemonic::Rdgsbase => return cpu.set_register(register, cpu.state.sregs.gs.base),
        _ => {}
    }
    let value = cpu.register(register).ok_or(Trap::Unknown)?;
    if !cpu.is_canonical(value) {
        return Err(Trap::protection(0));
    }
    let is_fs = instruction.mnemonic() == Mnemonic::Wrfsbase;
    let segment = if is_fs { &mut cpu.state.sregs.fs } else { &mut cpu.state.sregs.gs };
    segment.base = value;
    Ok(())
}

/// INVPCID: drops all translations, which is more than any of its types asks for.
fn invalidate(instruction: &Instruction, cpu: &mut Ring0<'_>) -> Step {
    let kind = cpu.register(instruction.op_register(0)).ok_or(Trap::Unknown)?;
    let at = cpu.address(instruction, 1, 16)?;
    let descriptor = u128::from_le_bytes(cpu.read(at)?);
    if kind > 3 || descriptor >> 12 & 0xf_ffff_ffff_ffff != 0 {
        return Err(Trap::protection(0));
    }
    cpu.state.flush = true;
    Ok(())
}

/// LDMXCSR, STMXCSR: a register that this repair keeps, since ring 0's vector unit is not reached from here.
fn control_status(instruction: &Instruction, cpu: &mut Ring0<'_>) -> Step {
    let at = cpu.address(instruction, 0, 4)?;
    if instruction.mnemonic() == Mnemonic::Stmxcsr {
        return cpu.write(at, &cpu.state.mxcsr.to_le_bytes());
    }
    let value = u32::from_le_bytes(cpu.read(at)?);
    if value >> 16 != 0 {
        return Err(Trap::protection(0));
    }
    cpu.state.mxcsr = value;
    Ok(())
}

/// XGETBV, XSETBV of XCR0, which is the host's own: it may be read, and written where that asks for no more than it has.
fn extended_control(mnemonic: Mnemonic, cpu: &mut Ring0<'_>) -> Step {
    if cpu.state.sregs.cr4 & cr4::OSXSAVE == 0 {
        return Err(Trap::INVALID_OPCODE);
    }
    match (mnemonic, cpu.state.regs[Gpr::Rcx] & 0xffff_ffff) {
        (Mnemonic::Xgetbv, 0) => split(cpu, host_xcr0()),
        (Mnemonic::Xgetbv, 1) => return Err(Trap::Unknown),
        (Mnemonic::Xsetbv, 0) => {
            let asked = cpu.state.regs[Gpr::Rdx] << 32 | cpu.state.regs[Gpr::Rax] & 0xffff_ffff;
            if asked & 1 == 0 || asked & 0b110 == 0b100 {
                return Err(Trap::protection(0));
            }
            if asked & !host_xcr0() != 0 {
                return Err(Trap::Unknown);
            }
        }
        _ => return Err(Trap::protection(0)),
    }
    Ok(())
}

/// The states that the host's kernel has enabled, as far as its feature detection tells.
fn host_xcr0() -> u64 {
    let has = |yes: bool, bits: u64| if yes { bits } else { 0 };
    0b11 | has(std::is_x86_feature_detected!("avx"), 0b100) | has(std::is_x86_feature_detected!("avx512f"), 0xe0)
}
