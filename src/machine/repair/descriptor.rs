//! LAR, LSL, VERR, VERW: what ring 0 may know of a selector. It never loads a segment register.

use iced_x86::{Instruction, Mnemonic};

use super::ring0::{Ring0, Step, Trap};

/// The bits of a descriptor (Intel SDM vol. 3, 3.4.5).
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptor(u64);

impl Descriptor {
    /// The descriptor that `selector` names, or `None` for a null selector and beyond the table.
    pub(super) fn of(cpu: &Ring0<'_>, selector: u16) -> Step<Option<Self>> {
        let offset = u64::from(selector & !7);
        let (base, limit) = match selector & 4 {
            _ if selector & !3 == 0 => return Ok(None),
            0 => (cpu.state.sregs.gdt.base, u32::from(cpu.state.sregs.gdt.limit)),
            _ if cpu.state.sregs.ldt.unusable != 0 || cpu.state.sregs.ldt.present == 0 => return Ok(None),
            _ => (cpu.state.sregs.ldt.base, cpu.state.sregs.ldt.limit),
        };
        Ok(cpu.table_word(base, limit, offset)?.map(Self))
    }

    fn kind(self) -> u64 {
        self.0 >> 40 & 0xf
    }

    fn is_system(self) -> bool {
        self.0 >> 44 & 1 == 0
    }

    fn dpl(self) -> u64 {
        self.0 >> 45 & 3
    }

    fn is_code(self) -> bool {
        !self.is_system() && self.kind() & 8 != 0
    }

    /// Code that may be called from less privileged rings.
    fn is_conforming(self) -> bool {
        self.is_code() && self.kind() & 4 != 0
    }

    /// Code that may be read, or any data.
    fn is_readable(self) -> bool {
        !self.is_system() && (!self.is_code() || self.kind() & 2 != 0)
    }

    /// Data that may be written.
    fn is_writable(self) -> bool {
        !self.is_system() && !self.is_code() && self.kind() & 2 != 0
    }

    /// The last byte's offset.
    fn limit(self) -> u64 {
        let raw = self.0 & 0xffff | self.0 >> 32 & 0xf_0000;
        if self.0 >> 55 & 1 != 0 { raw << 12 | 0xfff } else { raw }
    }

    /// Access rights, with the four bits of the limit between them that processors leave there.
    fn rights(self) -> u64 {
        self.0 >> 32 & 0x00ff_ff00
    }
}

/// Executes LAR, LSL, VERR or VERW: ZF says whether the selector names something that may be asked about.
pub(super) fn ask(instruction: &Instruction, cpu: &mut Ring0<'_>) -> Step {
    if !cpu.is_protected() {
        return Err(Trap::INVALID_OPCODE);
    }
    let source = instruction.op_count() - 1;
    let selector = cpu.operand(instruction, source, 2)?;
    let selector = u16::try_from(selector & 0xffff).unwrap_or(0);
    let found =
        Descriptor::of(cpu, selector)?.filter(|d| is_visible(*d, selector, instruction.mnemonic(), cpu.is_64bit()));
    cpu.set_zero(found.is_some());
    match (found, instruction.mnemonic()) {
        (Some(found), Mnemonic::Lar) => cpu.set_register(instruction.op_register(0), found.rights()),
        (Some(found), Mnemonic::Lsl) => cpu.set_register(instruction.op_register(0), found.limit()),
        _ => Ok(()),
    }
}

/// May ring 0 ask about it? The selector's own privilege level counts too, except for conforming code.
fn is_visible(descriptor: Descriptor, selector: u16, mnemonic: Mnemonic, long: bool) -> bool {
    let is_privileged = descriptor.is_conforming() || u64::from(selector & 3) <= descriptor.dpl();
    let is_fit = match mnemonic {
        Mnemonic::Verr => descriptor.is_readable(),
        Mnemonic::Verw => descriptor.is_writable(),
        Mnemonic::Lar => !descriptor.is_system() || has_rights(descriptor.kind(), long),
        _ => !descriptor.is_system() || has_limit(descriptor.kind(), long),
    };
    is_privileged && is_fit
}

/// System descriptors that LSL answers for: LDT and TSS (Intel SDM vol. 2, LSL).
fn has_limit(kind: u64, long: bool) -> bool {
    matches!(kind, 2 | 9 | 11) || !long && matches!(kind, 1 | 3)
}

/// System descriptors that LAR answers for: call and task gates too (Intel SDM vol. 2, LAR).
fn has_rights(kind: u64, long: bool) -> bool {
    kind == 12 || has_limit(kind, long) || !long && matches!(kind, 4 | 5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::Segment;
    use crate::x86::segment::kind;

    fn visible(descriptor: u64, selector: u16, long: bool) -> [bool; 4] {
        let asked = [Mnemonic::Lar, Mnemonic::Lsl, Mnemonic::Verr, Mnemonic::Verw];
        asked.map(|mnemonic| is_visible(Descriptor(descriptor), selector, mnemonic, long))
    }

    /// Taken from a processor that ran LAR and LSL on the same descriptors.
    #[test]
    fn flat_segments_give_the_numbers_that_hardware_gives() {
        let code = Segment { dpl: 3, ..Segment::long_code(0, 3) }.descriptor();
        assert_eq!((Descriptor(code).rights(), Descriptor(code).limit()), (0x00af_fb00, 0xffff_ffff));
        assert_eq!(visible(code, 0x33, true), [true, true, true, false]);
        let data = Segment::flat(0, kind::DATA, 3).descriptor();
        assert_eq!((Descriptor(data).rights(), visible(data, 0x2b, true)), (0x00cf_f300, [true; 4]));
        let small = Segment { limit: 5, kind: 5, present: 1, dpl: 3, db: 1, s: 1, ..Segment::default() }.descriptor();
        assert_eq!((Descriptor(small).rights(), Descriptor(small).limit()), (0x0040_f500, 5));
        assert_eq!(visible(small, 0x7b, true), [true, true, true, false]);
    }

    #[test]
    fn a_selector_of_ring_3_sees_nothing_of_ring_0_but_conforming_code() {
        let data = Segment::flat(0, kind::DATA, 0).descriptor();
        assert_eq!((visible(data, 0x18, true), visible(data, 0x1b, true)), ([true; 4], [false; 4]));
        let conforming = Segment { kind: kind::CODE | 4, ..Segment::long_code(0, 0) }.descriptor();
        assert_eq!(visible(conforming, 0x1b, true), [true, true, true, false]);
    }

    #[test]
    fn gates_have_rights_but_no_limit_and_old_ones_are_gone_in_long_mode() {
        let system = |kind| Segment { kind, present: 1, ..Segment::default() }.descriptor();
        let kinds = |long, n: usize| (0..16).filter(|kind| visible(system(*kind), 0, long)[n]).collect::<Vec<_>>();
        assert_eq!(kinds(true, 0), [2, 9, 11, 12]);
        assert_eq!(kinds(true, 1), [2, 9, 11]);
        assert_eq!(kinds(false, 0), [1, 2, 3, 4, 5, 9, 11, 12]);
        assert_eq!(kinds(false, 1), [1, 2, 3, 9, 11]);
        assert!(kinds(true, 2).is_empty() && kinds(true, 3).is_empty());
    }
}
