//! The operands of an instruction: registers of any width, and the linear addresses of memory operands.
//! It never knows what the instruction does with them.

use iced_x86::{Instruction, OpKind, Register};

use crate::x86::{Gpr, Segment};

use super::ring0::{Ring0, Step, Trap};

/// The slot of a general register, and whether it is its second byte (AH to BH).
fn slot(register: Register) -> Option<(Gpr, bool)> {
    let high = matches!(register, Register::AH | Register::CH | Register::DH | Register::BH);
    register.is_gpr().then(|| Gpr::BY_NUMBER.get(register.full_register().number()).map(|gpr| (*gpr, high))).flatten()
}

/// All ones in `size` bytes.
fn mask(size: usize) -> u64 {
    let bits = 8 * u32::try_from(size).unwrap_or(8);
    u64::MAX.checked_shr(64_u32.saturating_sub(bits)).unwrap_or(0)
}

impl Ring0<'_> {
    /// The value of a general register, zero-extended.
    pub(super) fn register(&self, register: Register) -> Option<u64> {
        let (gpr, high) = slot(register)?;
        Some((self.state.regs[gpr] >> if high { 8 } else { 0 }) & mask(register.size()))
    }

    /// Sets a general register: 4 bytes clear the upper half, 1 and 2 bytes leave the rest (Intel SDM vol. 1, 3.4.1.1).
    pub(super) fn set_register(&mut self, register: Register, value: u64) -> Step {
        let (gpr, high) = slot(register).ok_or(Trap::Unknown)?;
        let shift = if high { 8 } else { 0 };
        let kept = if register.size() >= 4 { 0 } else { self.state.regs[gpr] & !(mask(register.size()) << shift) };
        self.state.regs[gpr] = kept | (value & mask(register.size())) << shift;
        Ok(())
    }

    /// Operand `n` as `size` bytes, from a register or from memory.
    pub(super) fn operand(&self, instruction: &Instruction, n: u32, size: usize) -> Step<u64> {
        if instruction.op_kind(n) == OpKind::Register {
            let register = instruction.op_register(n);
            return self.register(register).map(|value| value & mask(size)).ok_or(Trap::Unknown);
        }
        let at = self.address(instruction, n, size)?;
        Ok(match size {
            1 => self.read::<1>(at)?[0].into(),
            2 => u16::from_le_bytes(self.read(at)?).into(),
            4 => u32::from_le_bytes(self.read(at)?).into(),
            8 => u64::from_le_bytes(self.read(at)?),
            _ => return Err(Trap::Unknown),
        })
    }

    /// The linear address of memory operand `n`, all of whose `size` bytes lie in its segment.
    pub(super) fn address(&self, instruction: &Instruction, n: u32, size: usize) -> Step<u64> {
        if instruction.op_kind(n) != OpKind::Memory {
            return Err(Trap::Unknown);
        }
        let offset = instruction.virtual_address(n, 0, |register, _, _| match register {
            _ if register.is_segment_register() => Some(0),
            _ => self.register(register),
        });
        let offset = offset.ok_or(Trap::Unknown)?;
        let segment = self.segment(instruction.memory_segment()).ok_or(Trap::Unknown)?;
        if self.is_64bit() {
            let is_based = matches!(instruction.memory_segment(), Register::FS | Register::GS);
            return Ok(if is_based { segment.base.wrapping_add(offset) } else { offset });
        }
        let last = offset.saturating_add(u64::try_from(size).unwrap_or(u64::MAX).saturating_sub(1));
        // A segment that grows downwards, or an access past its end: KVM and the guest may sort that out.
        let grows_down = self.is_protected() && segment.kind & 0b1100 == 0b0100;
        let is_unreadable = self.is_protected() && segment.kind & 0b1010 == 0b1000;
        if last > u64::from(segment.limit) || segment.unusable != 0 || grows_down || is_unreadable {
            return Err(Trap::Unknown);
        }
        let linear = segment.base.wrapping_add(offset) & 0xffff_ffff;
        Ok(linear)
    }

    /// Is the memory operand in a segment of data that may be written (Intel SDM vol. 3, 3.4.5.1)?
    pub(super) fn is_segment_writable(&self, instruction: &Instruction) -> bool {
        let segment = self.segment(instruction.memory_segment());
        self.is_64bit() || segment.is_some_and(|segment| segment.kind & 0b1010 == 0b0010)
    }

    fn segment(&self, register: Register) -> Option<&Segment> {
        Some(match register {
            Register::CS => &self.state.sregs.cs,
            Register::DS => &self.state.sregs.ds,
            Register::ES => &self.state.sregs.es,
            Register::FS => &self.state.sregs.fs,
            Register::GS => &self.state.sregs.gs,
            Register::SS => &self.state.sregs.ss,
            _ => return None,
        })
    }

    /// A word of a descriptor table, 8 bytes at `offset`, if they are inside `limit`.
    pub(super) fn table_word(&self, base: u64, limit: u32, offset: u64) -> Step<Option<u64>> {
        if offset + 7 > u64::from(limit) {
            return Ok(None);
        }
        let at = base.wrapping_add(offset);
        let at = if self.is_64bit() { at } else { at & 0xffff_ffff };
        Ok(Some(u64::from_le_bytes(self.read(at)?)))
    }
}
