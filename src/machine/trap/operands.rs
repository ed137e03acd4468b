//! What one instruction of the guest touches in memory, in guest-physical addresses: its own bytes and its operands.
//! It never executes it.

use iced_x86::{Decoder, DecoderOptions, Instruction, InstructionInfoFactory, OpAccess, Register, UsedMemory};

use crate::addr::{GuestPhys, GuestVirt, PAGE, page_floor};
use crate::source::ReadMemory;
use crate::x86::{Gpr, Regs, Sregs, translate};

/// Longest instruction (Intel SDM vol. 2, 2.3.11).
const LONGEST: u64 = 15;
/// What is taken for an operand whose size the instruction does not say: the save areas of XSAVE and its relatives.
const SAVE_AREA: u64 = 0x1000;

/// Bytes that an instruction touches, in one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::machine) struct Touched {
    pub(in crate::machine) at: GuestPhys,
    pub(in crate::machine) len: u64,
    pub(in crate::machine) reads: bool,
    pub(in crate::machine) writes: bool,
}

/// One instruction, about to be executed.
#[derive(Debug)]
pub(in crate::machine) struct Operands {
    /// Where its bytes are, a piece per page, as far as they could be found.
    pub(in crate::machine) code: Vec<(GuestPhys, u64)>,
    /// What it reads and writes.
    pub(in crate::machine) data: Vec<Touched>,
    /// All operands are in `data`.
    pub(in crate::machine) is_all: bool,
    /// It waits for an interrupt.
    pub(in crate::machine) is_hlt: bool,
}

/// A vCPU between two instructions.
pub(super) struct View<'a, M> {
    pub(super) regs: &'a Regs,
    pub(super) sregs: &'a Sregs,
    pub(super) memory: &'a M,
}

impl Operands {
    /// Of the instruction at RIP.
    pub(in crate::machine) fn of(regs: &Regs, sregs: &Sregs, memory: &impl ReadMemory) -> Self {
        let view = View { regs, sregs, memory };
        let (bytes, first) = view.code_at(regs[Gpr::Rip]);
        let bits = sregs.code_bits();
        let decoder = Decoder::try_with_ip(bits, &bytes, regs[Gpr::Rip], DecoderOptions::NONE);
        let instruction = decoder.ok().map(|mut decoder| decoder.decode()).filter(|i| !i.is_invalid());
        let len = instruction.map_or(1, |i| u64::try_from(i.len()).unwrap_or(1));
        let code = view.pieces(first, len);
        let mut found = Self { code, data: Vec::new(), is_all: instruction.is_some(), is_hlt: false };
        if let Some(instruction) = instruction {
            found.is_hlt = instruction.mnemonic() == iced_x86::Mnemonic::Hlt;
            found.find(&view, &instruction);
        }
        found
    }

    fn find(&mut self, view: &View<'_, impl ReadMemory>, instruction: &Instruction) {
        let mut factory = InstructionInfoFactory::new();
        for operand in factory.info(instruction).used_memory() {
            let (reads, writes) = match operand.access() {
                OpAccess::Read | OpAccess::CondRead => (true, false),
                OpAccess::Write | OpAccess::CondWrite => (false, true),
                OpAccess::ReadWrite | OpAccess::ReadCondWrite => (true, true),
                OpAccess::None | OpAccess::NoMemAccess => continue,
            };
            let Some(at) = view.address(operand) else {
                self.is_all = false;
                continue;
            };
            let size = u64::try_from(operand.memory_size().size()).unwrap_or(0);
            let len = if size == 0 { SAVE_AREA } else { size };
            let pieces = view.pieces(at, len);
            self.data.extend(pieces.into_iter().map(|(at, len)| Touched { at, len, reads, writes }));
        }
    }
}

impl<M: ReadMemory> View<'_, M> {
    pub(super) fn physical(&self, at: u64) -> Option<GuestPhys> {
        let word = |at: GuestPhys, size: u64| {
            let mut word = [0; 8];
            self.memory.read(at, word.get_mut(..usize::try_from(size).ok()?)?).ok()?;
            Some(u64::from_le_bytes(word))
        };
        translate(self.sregs, GuestVirt(at), word).ok()
    }

    /// `len` bytes at linear address `at`, a piece per page; without those that are not mapped.
    fn pieces(&self, at: u64, len: u64) -> Vec<(GuestPhys, u64)> {
        let (mut pieces, mut done) = (Vec::new(), 0);
        while done < len {
            let here = at.wrapping_add(done);
            let n = (PAGE - (here - page_floor(here))).min(len - done);
            pieces.extend(self.physical(here).map(|gpa| (gpa, n)));
            done += n;
        }
        pieces
    }

    /// The bytes at `rip`, and where they are.
    pub(super) fn code_at(&self, rip: u64) -> (Vec<u8>, u64) {
        let is_long = self.sregs.code_bits() == 64;
        let first = if is_long { rip } else { self.sregs.cs.base.wrapping_add(rip) & 0xffff_ffff };
        let mut bytes = Vec::new();
        for (at, len) in self.pieces(first, LONGEST) {
            let mut piece = vec![0; usize::try_from(len).unwrap_or(0)];
            if self.memory.read(at, &mut piece).is_err() {
                break;
            }
            bytes.extend_from_slice(&piece);
        }
        (bytes, first)
    }

    /// The linear address of the memory operand of an instruction that has one.
    pub(super) fn memory_operand(&self, instruction: &Instruction) -> Option<u64> {
        let mut factory = InstructionInfoFactory::new();
        self.address(factory.info(instruction).used_memory().first()?)
    }

    fn address(&self, operand: &UsedMemory) -> Option<u64> {
        let is_long = self.sregs.code_bits() == 64;
        let at = operand.virtual_address(0, |register, _, _| self.register(register, is_long))?;
        Some(if is_long { at } else { at & 0xffff_ffff })
    }

    fn register(&self, register: Register, is_long: bool) -> Option<u64> {
        let base = |segment: &crate::x86::Segment, always: bool| if is_long && !always { 0 } else { segment.base };
        Some(match register {
            Register::CS => base(&self.sregs.cs, false),
            Register::DS => base(&self.sregs.ds, false),
            Register::ES => base(&self.sregs.es, false),
            Register::SS => base(&self.sregs.ss, false),
            Register::FS => base(&self.sregs.fs, true),
            Register::GS => base(&self.sregs.gs, true),
            _ => return general(register, self.regs),
        })
    }
}

/// The general register that `register` is, or is the low part of.
pub(super) fn gpr(register: Register) -> Option<Gpr> {
    let is_high = matches!(register, Register::AH | Register::CH | Register::DH | Register::BH);
    let number = register.full_register().number();
    (register.is_gpr() && !is_high).then(|| Gpr::BY_NUMBER.get(number).copied()).flatten()
}

/// The value of a general register of any width, zero-extended.
pub(super) fn general(register: Register, regs: &Regs) -> Option<u64> {
    let width = u32::try_from(register.size()).unwrap_or(8).clamp(1, 8);
    Some(regs[gpr(register)?] & (u64::MAX >> (64 - 8 * width)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::{Error, Result};

    /// Code at 0x1000 of flat memory without paging.
    struct Code(Vec<u8>);

    impl ReadMemory for Code {
        fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<()> {
            for (i, byte) in (0u64..).zip(into.iter_mut()) {
                let offset = (at.0 + i).checked_sub(0x1000).and_then(|n| usize::try_from(n).ok());
                let found = offset.and_then(|n| self.0.get(n).copied());
                *byte = found.or((at.0 < 0x10_0000).then_some(0)).ok_or(Error::Closed)?;
            }
            Ok(())
        }
    }

    fn at_0x1000(code: &[u8], set: &[(Gpr, u64)]) -> Operands {
        let (mut regs, mut sregs) = (Regs::default(), Sregs::default());
        (sregs.cs.db, sregs.cs.present, sregs.cr0) = (1, 1, 1); // 32-bit code, no paging
        regs[Gpr::Rip] = 0x1000;
        for (register, value) in set {
            regs[*register] = *value;
        }
        Operands::of(&regs, &sregs, &Code(code.to_vec()))
    }

    #[test]
    fn operands_are_told_with_their_direction() {
        let found = at_0x1000(&[0xf3, 0x0f, 0x7f, 0x43, 0x10], &[(Gpr::Rbx, 0x8ff8)]); // movdqu [ebx+0x10], xmm0
        assert_eq!(found.code, [(GuestPhys(0x1000), 5)]);
        assert_eq!(found.data, [Touched { at: GuestPhys(0x9008), len: 16, reads: false, writes: true }]);
        let found = at_0x1000(&[0x01, 0x03], &[(Gpr::Rbx, 0x8ffe)]); // add [ebx], eax, across two pages
        let piece = |at, len| Touched { at: GuestPhys(at), len, reads: true, writes: true };
        assert_eq!(found.data, [piece(0x8ffe, 2), piece(0x9000, 2)]);
        assert!(found.is_all && !found.is_hlt);
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_a_panic(code in prop::collection::vec(any::<u8>(), 0..16), rbx: u64) {
            let found = at_0x1000(&code, &[(Gpr::Rbx, rbx)]);
            prop_assert!(found.data.iter().all(|t| t.len <= PAGE));
        }
    }
}
