//! What expressions compute, from made-up exits, registers and memory. They never need a machine.

use super::*;

/// Two bytes of memory at 0.
struct Bytes;

impl ReadMemory for Bytes {
    fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<()> {
        let len = u64::try_from(into.len()).unwrap_or(u64::MAX);
        match at.0.checked_add(len) {
            Some(end) if end <= 2 => into.fill(0x11),
            _ => return Err(Error::Unbacked { at: at.0, len, near: None }),
        }
        Ok(())
    }
}

/// Registers that can be looked at once.
struct Once(bool);

impl Registers for Once {
    fn general(&mut self) -> Option<Regs> {
        std::mem::take(&mut self.0).then(Regs::default)
    }

    fn system(&mut self) -> Option<Sregs> {
        Some(Sregs { cr3: 0x5000, ..Sregs::default() })
    }
}

fn value(expression: &Expression) -> Option<u64> {
    let exit = Exit::PortOut { port: 0x10, size: 1, data: 7 };
    let mut registers = Once(true);
    expression.value(&mut Scope { exit: Some(&exit), answer: None, vcpu: 3, registers: &mut registers, memory: &Bytes })
}

fn memory(bytes: u8, at: u64) -> Expression {
    Expression::Memory(bytes, Expression::Constant(at).into())
}

const PRESENT: Expression = Expression::Exit(Field::Data);
const ABSENT: Expression = Expression::Exit(Field::Index);

fn equal(left: Expression, right: u64) -> Expression {
    Expression::Binary(Binary::Equal, left.into(), Expression::Constant(right).into())
}

#[test]
fn what_is_absent_makes_absent_what_is_computed_from_it_and_holds_nowhere() {
    assert_eq!(value(&equal(ABSENT, 7)), None);
    assert_eq!(value(&Expression::IsIn(ABSENT.into(), [0].into())), None);
    assert_eq!(value(&Expression::Not(equal(ABSENT, 7).into())), Some(1));
    assert_eq!(value(&equal(ABSENT, 7).or(equal(PRESENT, 7))), Some(1));
    assert_eq!(value(&equal(ABSENT, 7).and(equal(PRESENT, 7))), Some(0));
    assert_eq!((value(&memory(2, 0)), value(&memory(2, 1)), value(&memory(8, u64::MAX))), (Some(0x1111), None, None));
}

#[test]
fn a_virtual_word_lies_where_the_page_tables_say_across_a_border_too() {
    /// A table of tables that all map to it itself, and a page at 0x7000 before one at 0x9000.
    struct Tables;
    impl ReadMemory for Tables {
        fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<()> {
            let entry: u64 = match at.0 {
                0x1000 => 0x2003,
                0x2000 => 0x3003,
                0x3000 => 0x4003,
                0x4000 => 0x7003,
                0x4008 => 0x9003,
                0x7ffc => 0x4433_2211,
                0x9000 => 0x8877_6655,
                _ => return Err(Error::Unbacked { at: at.0, len: 8, near: None }),
            };
            into.copy_from_slice(&entry.to_le_bytes()[..into.len()]);
            Ok(())
        }
    }
    struct Long;
    impl Registers for Long {
        fn general(&mut self) -> Option<Regs> {
            None
        }
        fn system(&mut self) -> Option<Sregs> {
            let long = Sregs { cr3: 0x1000, cr0: 0x8000_0001, cr4: 0x20, efer: 0x500, ..Sregs::default() };
            Some(Sregs { gs: crate::x86::Segment { base: 0xff8, ..long.gs }, ..long })
        }
    }
    let read = |size, at: Expression| {
        let scope = &mut Scope { exit: None, answer: None, vcpu: 0, registers: &mut Long, memory: &Tables };
        Expression::Virtual(size, at.into()).value(scope)
    };
    let at = |at| Expression::Constant(at);
    assert_eq!((read(4, at(0xffc)), read(8, at(0xffc))), (Some(0x4433_2211), Some(0x8877_6655_4433_2211)));
    let of_gs = Expression::Binary(Binary::Add, Expression::System(System::GsBase).into(), at(4).into());
    assert_eq!((read(8, of_gs), read(1, at(0x2000)), read(8, at(1 << 47))), (Some(0x8877_6655_4433_2211), None, None));
}

#[test]
fn what_decides_alone_has_the_rest_not_computed() {
    let look = || Expression::Register(Part::named("rax").expect("known"));
    let first = equal(look(), 0);
    let second_look = equal(look(), 0); // which finds no registers any more
    assert_eq!(value(&first.clone().and(second_look.clone())), Some(0));
    assert_eq!(value(&first.or(second_look.clone())), Some(1));
    assert_eq!(value(&equal(PRESENT, 1).and(second_look.clone()).or(second_look)), Some(1));
}

#[test]
fn control_registers_ranges_and_quotients_are_values_too() {
    assert_eq!(value(&equal(Expression::System(System::Cr3), 0x5000)), Some(1));
    let within = |first, last, step| value(&Expression::IsInRange(PRESENT.into(), Range { first, last, step }));
    assert_eq!(
        (within(7, u64::MAX, 1), within(1, 9, 2), within(0, 9, 2), within(8, 7, 1)),
        (Some(1), Some(1), Some(0), Some(0))
    );
    let by = |how, n| value(&Expression::Binary(how, PRESENT.into(), Expression::Constant(n).into()));
    assert_eq!((by(Binary::Divide, 2), by(Binary::Modulo, 4), by(Binary::Divide, 0)), (Some(3), Some(3), None));
}

#[test]
fn truths_are_combined_as_truths_and_numbers_as_bits() {
    assert_eq!(value(&PRESENT.and(Expression::Constant(0xfc))), Some(4));
    assert_eq!(value(&PRESENT.or(Expression::Constant(8))), Some(15));
    assert_eq!(value(&equal(PRESENT, 7).and(Expression::Constant(0xf8))), Some(1));
    assert_eq!(value(&Expression::Constant(0xf8).and(equal(PRESENT, 8))), Some(0));
}

#[test]
fn an_expression_is_bounded_in_depth_and_in_parts() {
    let deeper = |e: Expression| Expression::Not(e.into()).checked();
    let deep = (1..MOST_DEPTH).try_fold(PRESENT, |e, _| deeper(e)).expect("just deep enough");
    assert!(deeper(deep).is_err());
    let doubled = |e: Expression| Expression::Binary(Binary::Add, e.clone().into(), e.into()).checked();
    let wide = (0..11).try_fold(PRESENT, |e, _| doubled(e)).expect("just small enough");
    assert_eq!(value(&wide), Some(7 << 11));
    assert!(doubled(wide).is_err());
}

#[test]
fn an_expression_knows_whether_it_looks_at_the_guest() {
    assert!(!equal(PRESENT, 7).looks_at_guest());
    assert!(equal(PRESENT, 7).and(memory(1, 0)).looks_at_guest());
}
