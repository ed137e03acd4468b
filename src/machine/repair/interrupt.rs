//! `int n` in ring 0: the frame that the processor pushes and the gate that it goes through, without a change of ring.
//! It never delivers hardware interrupts, and leaves task gates and changes of code segment alone.

use crate::x86::{Gpr, rflags};

use super::flags;
use super::instruction::Then;
use super::ring0::{Ring0, Step, Trap};

/// A gate of the IDT, as far as it matters here.
struct Gate {
    handler: u64,
    selector: u16,
    /// 0 for the present stack, or which stack of the task-state segment.
    stack: u64,
    /// An interrupt gate, which turns interrupts off; else a trap gate.
    masks: bool,
}

/// Executes `int vector`, from which the handler returns to `back`.
pub(super) fn deliver(cpu: &mut Ring0<'_>, vector: u8, back: u64) -> Step<Then> {
    if !cpu.is_protected() {
        return Err(Trap::Unknown);
    }
    let gate = Gate::of(cpu, vector)?;
    // The hidden part of CS stays as it is, which is right for the same selector only.
    if gate.selector & !3 != cpu.state.sregs.cs.selector & !3 {
        return Err(Trap::Unknown);
    }
    let stack = if cpu.is_64bit() { push_long(cpu, &gate, back)? } else { push_short(cpu, back)? };
    cpu.state.regs[Gpr::Rsp] = stack;
    let masked = if gate.masks { rflags::IF } else { 0 };
    cpu.set_flags(flags::TF | flags::NT | flags::RF | flags::VM | masked, 0);
    cpu.jump(gate.handler);
    Ok(Then::Jumped)
}

impl Gate {
    fn of(cpu: &Ring0<'_>, vector: u8) -> Step<Self> {
        // The error code of a bad gate: its index, and that it is in the IDT (Intel SDM vol. 3, 6.13).
        let error = u32::from(vector) << 3 | 2;
        let size = if cpu.is_64bit() { 16 } else { 8 };
        let idt = cpu.state.sregs.idt;
        let word = |n: u64| {
            let word = cpu.table_word(idt.base, idt.limit.into(), u64::from(vector) * size + n)?;
            word.ok_or(Trap::protection(error))
        };
        let high = if cpu.is_64bit() { word(8)? } else { 0 };
        let low = word(0)?;
        match low >> 40 & 0x1f {
            0b0_1110 | 0b0_1111 if low >> 47 & 1 != 0 => {}
            0b0_1110 | 0b0_1111 => return Err(Trap::Exception { vector: 11, error: Some(error), cr2: None }),
            // 16-bit and task gates exist outside long mode.
            0b0_0101..=0b0_0111 if !cpu.is_64bit() => return Err(Trap::Unknown),
            _ => return Err(Trap::protection(error)),
        }
        Ok(Self {
            handler: low & 0xffff | low >> 32 & 0xffff_0000 | high << 32,
            selector: u16::try_from(low >> 16 & 0xffff).unwrap_or(0),
            stack: if cpu.is_64bit() { low >> 32 & 7 } else { 0 },
            masks: low >> 40 & 1 == 0,
        })
    }
}

/// Pushes the five words of long mode, on an aligned stack (Intel SDM vol. 3, 6.14.2).
fn push_long(cpu: &Ring0<'_>, gate: &Gate, back: u64) -> Step<u64> {
    let top = match gate.stack {
        0 => cpu.state.regs[Gpr::Rsp],
        n => {
            let slot = cpu.table_word(cpu.state.sregs.tr.base, cpu.state.sregs.tr.limit, 0x24 + (n - 1) * 8)?;
            slot.ok_or_else(|| Trap::Exception {
                vector: 10,
                error: Some(cpu.state.sregs.tr.selector.into()),
                cr2: None,
            })?
        }
    };
    let (ss, cs) = (cpu.state.sregs.ss.selector.into(), cpu.state.sregs.cs.selector.into());
    let frame = [back, cs, cpu.state.regs[Gpr::Rflags], cpu.state.regs[Gpr::Rsp], ss];
    let bytes: Vec<u8> = frame.iter().flat_map(|word: &u64| word.to_le_bytes()).collect();
    let stack = (top & !15).wrapping_sub(40);
    cpu.write(stack, &bytes)?;
    Ok(stack)
}

/// Pushes the three words of 32-bit code.
fn push_short(cpu: &Ring0<'_>, back: u64) -> Step<u64> {
    if cpu.state.sregs.ss.db == 0 || cpu.state.sregs.cs.db == 0 {
        return Err(Trap::Unknown);
    }
    let stack = cpu.state.regs[Gpr::Rsp].wrapping_sub(12) & 0xffff_ffff;
    let frame = [back, cpu.state.sregs.cs.selector.into(), cpu.state.regs[Gpr::Rflags]];
    let bytes: Vec<u8> = frame.iter().flat_map(|word: &u64| word.to_le_bytes().into_iter().take(4)).collect();
    cpu.write(cpu.state.sregs.ss.base.wrapping_add(stack) & 0xffff_ffff, &bytes)?;
    Ok(stack)
}
