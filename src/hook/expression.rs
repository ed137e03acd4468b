//! Expressions over a stopped guest: registers, memory and the exit at hand, computed without anybody being called.
//! They never change a guest, and take a time that their size bounds.

use std::sync::Arc;

use crate::addr::{GuestPhys, GuestVirt, PAGE};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::source::ReadMemory;
use crate::x86::{Part, Regs, Sregs, translate};

use super::field::Field;

/// How deep an expression may be, which is how deep its computation goes.
pub const MOST_DEPTH: usize = 200;

/// Of how many parts an expression may be, which is how long its computation takes.
pub const MOST_PARTS: usize = 4096;

/// An unsigned 64-bit value to be computed, or none where the guest has no such thing. Truths are 0 and 1.
///
/// Its operands are shared, so that an expression is cheap to clone and to build upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// This number.
    Constant(u64),
    /// A general register of the exit's vCPU, or a part of one.
    Register(Part),
    /// A control register of that vCPU, a segment's base, or its privilege level.
    System(System),
    /// A field of the exit; none for exits that have no such field.
    Exit(Field),
    /// Little-endian guest-physical memory of 1, 2, 4 or 8 bytes; none where no memory is.
    Memory(u8, Arc<Self>),
    /// The same at an address as the vCPU sees it, through its page tables; none where it does not translate.
    Virtual(u8, Arc<Self>),
    /// Two values made one; none if one of them is.
    Binary(Binary, Arc<Self>, Arc<Self>),
    /// Do both hold? The second is not computed if the first does not. What is none does not hold.
    And(Arc<Self>, Arc<Self>),
    /// Does one of them hold? The second is not computed if the first does. What is none does not hold.
    Or(Arc<Self>, Arc<Self>),
    /// Does it not hold? What is none does not hold.
    Not(Arc<Self>),
    /// Is it one of these, which are in order?
    IsIn(Arc<Self>, Arc<[u64]>),
    /// Is it one of a range?
    IsInRange(Arc<Self>, Range),
}

/// Numbers from `first` to `last`, every `step`th of them; none if `first` is beyond `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // said above
pub struct Range {
    pub first: u64,
    pub last: u64,
    pub step: u64,
}

impl Range {
    fn contains(self, value: u64) -> bool {
        value >= self.first && value <= self.last && (value - self.first).is_multiple_of(self.step)
    }
}

/// What of a vCPU's system registers an expression may look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // their names are the manual's
pub enum System {
    Cr0,
    Cr2,
    Cr3,
    Cr4,
    Cr8,
    Efer,
    Cpl,
    FsBase,
    GsBase,
}

impl System {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 9] = [
        ("cr0", Self::Cr0),
        ("cr2", Self::Cr2),
        ("cr3", Self::Cr3),
        ("cr4", Self::Cr4),
        ("cr8", Self::Cr8),
        ("efer", Self::Efer),
        ("cpl", Self::Cpl),
        ("fs_base", Self::FsBase),
        ("gs_base", Self::GsBase),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, one)| *one == self).map_or("", |(name, _)| name)
    }

    fn of(self, sregs: &Sregs) -> u64 {
        match self {
            Self::Cr0 => sregs.cr0,
            Self::Cr2 => sregs.cr2,
            Self::Cr3 => sregs.cr3,
            Self::Cr4 => sregs.cr4,
            Self::Cr8 => sregs.cr8,
            Self::Efer => sregs.efer,
            Self::Cpl => u64::from(sregs.cpl()),
            Self::FsBase => sregs.fs.base,
            Self::GsBase => sregs.gs.base,
        }
    }
}

/// The registers of a vCPU, asked for when first needed.
pub trait Registers {
    /// The general registers.
    fn general(&mut self) -> Option<Regs>;

    /// The system registers.
    fn system(&mut self) -> Option<Sregs>;
}

/// Arithmetic modulo 2^64, bits, and unsigned comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // their names are what they do
pub enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    BitAnd,
    BitOr,
    BitXor,
    ShiftLeft,
    ShiftRight,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What an expression is computed from.
pub struct Scope<'a> {
    /// The exit, if one is at hand.
    pub exit: Option<&'a Exit>,
    /// The data that a read was answered with, once it has been.
    pub answer: Option<u64>,
    /// The vCPU that made it.
    pub vcpu: u32,
    /// Its registers.
    pub registers: &'a mut dyn Registers,
    /// Guest memory.
    pub memory: &'a dyn ReadMemory,
}

impl Scope<'_> {
    /// A field of the exit; the data of a read is its answer, once it has one.
    #[inline]
    pub fn field(&self, field: Field) -> Option<u64> {
        if field == Field::Data && self.answer.is_some() {
            return self.answer;
        }
        field.of(self.exit?, self.vcpu)
    }

    /// Little-endian guest-physical memory. Not inlined: expressions of other things would pay for its stack.
    #[inline(never)]
    fn physical(&self, at: u64, size: u8) -> Option<u64> {
        let mut word = [0; 8];
        self.memory.read(GuestPhys(at), &mut word[..usize::from(size).min(8)]).ok()?;
        Some(u64::from_le_bytes(word))
    }

    /// Little-endian memory where the vCPU sees it, across a page border too. Not inlined, as `physical`.
    #[inline(never)]
    fn linear(&mut self, at: u64, size: u8) -> Option<u64> {
        let sregs = self.registers.system()?;
        let entry = |at: GuestPhys, size: u64| self.physical(at.0, u8::try_from(size).ok()?);
        let place = |at: u64| translate(&sregs, GuestVirt(at), entry).ok();
        let in_page = u8::try_from((PAGE - at % PAGE).min(8)).ok()?;
        if size <= in_page {
            return self.physical(place(at)?.0, size);
        }
        let low = self.physical(place(at)?.0, in_page)?;
        let high = self.physical(place(at.wrapping_add(u64::from(in_page)))?.0, size - in_page)?;
        Some(low | high << (8 * in_page))
    }
}

/// Of what has none.
#[derive(Clone, Copy, Debug)]
pub struct NoRegisters;

impl Registers for NoRegisters {
    fn general(&mut self) -> Option<Regs> {
        None
    }

    fn system(&mut self) -> Option<Sregs> {
        None
    }
}

impl Expression {
    /// Its value.
    pub fn value(&self, scope: &mut Scope<'_>) -> Option<u64> {
        Some(match self {
            Self::Constant(value) => *value,
            Self::Register(part) => part.of(scope.registers.general()?.words[part.at]),
            Self::System(which) => which.of(&scope.registers.system()?),
            Self::Exit(field) => scope.field(*field)?,
            Self::Memory(size, at) => {
                let at = at.value(scope)?;
                scope.physical(at, *size)?
            }
            Self::Virtual(size, at) => {
                let at = at.value(scope)?;
                scope.linear(at, *size)?
            }
            Self::Binary(how, left, right) => how.of(left.operand(scope)?, right.operand(scope)?)?,
            Self::And(left, right) => u64::from(left.holds(scope) && right.holds(scope)),
            Self::Or(left, right) => u64::from(left.holds(scope) || right.holds(scope)),
            Self::Not(inner) => u64::from(!inner.holds(scope)),
            Self::IsIn(inner, values) => u64::from(values.binary_search(&inner.value(scope)?).is_ok()),
            Self::IsInRange(inner, range) => u64::from(range.contains(inner.value(scope)?)),
        })
    }

    /// The same; of a constant, which one side of a comparison mostly is, without a call.
    #[inline]
    fn operand(&self, scope: &mut Scope<'_>) -> Option<u64> {
        if let Self::Constant(value) = self { Some(*value) } else { self.value(scope) }
    }

    /// Is it there, and not 0?
    pub fn holds(&self, scope: &mut Scope<'_>) -> bool {
        self.value(scope).is_some_and(|value| value != 0)
    }

    /// Has it a value at every exit that has the fields of which `has` says so?
    pub fn is_sure(&self, has: &impl Fn(Field) -> bool) -> bool {
        match self {
            Self::Constant(_) | Self::Register(_) | Self::System(_) | Self::And(..) | Self::Or(..) | Self::Not(_) => {
                true
            }
            Self::Exit(field) => has(*field),
            Self::Memory(..) | Self::Virtual(..) | Self::Binary(Binary::Divide | Binary::Modulo, ..) => false,
            Self::Binary(_, left, right) => left.is_sure(has) && right.is_sure(has),
            Self::IsIn(inner, _) | Self::IsInRange(inner, _) => inner.is_sure(has),
        }
    }

    /// Is its value a truth, which `&`, `|` and `~` combine as such?
    pub fn is_truth(&self) -> bool {
        match self {
            Self::And(..) | Self::Or(..) | Self::Not(_) | Self::IsIn(..) | Self::IsInRange(..) => true,
            Self::Binary(how, ..) => {
                use Binary::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
                matches!(how, Equal | NotEqual | Less | LessOrEqual | Greater | GreaterOrEqual)
            }
            _ => false,
        }
    }

    /// What `&` makes of two: of truths (one of them suffices), do both hold; of numbers, the bits of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let is_truth = self.is_truth() || other.is_truth();
        let (left, right) = (Arc::new(self), Arc::new(other));
        if is_truth { Self::And(left, right) } else { Self::Binary(Binary::BitAnd, left, right) }
    }

    /// What `|` makes of two: of truths (one of them suffices), does one hold; of numbers, the bits of either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let is_truth = self.is_truth() || other.is_truth();
        let (left, right) = (Arc::new(self), Arc::new(other));
        if is_truth { Self::Or(left, right) } else { Self::Binary(Binary::BitOr, left, right) }
    }

    /// Itself, unless it is deeper than `MOST_DEPTH` or has more than `MOST_PARTS` parts. Build upon checked ones only:
    /// what is not bounded is not to be walked.
    pub fn checked(self) -> Result<Self> {
        let (depth, parts) = self.measure();
        if depth > MOST_DEPTH || parts > MOST_PARTS {
            return Err(Error::Invalid(format!(
                "an expression has at most {MOST_PARTS} parts, at most {MOST_DEPTH} deep: ask .isin([...]) instead of \
                 many comparisons, or split it over several handlers"
            )));
        }
        Ok(self)
    }

    /// How deep it is, and how many parts it has.
    fn measure(&self) -> (usize, usize) {
        let (depth, parts) = match self {
            Self::Constant(_) | Self::Register(_) | Self::System(_) | Self::Exit(_) => (0, 0),
            Self::Memory(_, inner)
            | Self::Virtual(_, inner)
            | Self::Not(inner)
            | Self::IsIn(inner, _)
            | Self::IsInRange(inner, _) => inner.measure(),
            Self::Binary(_, left, right) | Self::And(left, right) | Self::Or(left, right) => {
                let ((depth, parts), (other, more)) = (left.measure(), right.measure());
                (depth.max(other), parts + more)
            }
        };
        (depth + 1, parts + 1)
    }

    /// Does it look at registers or memory, and not at the exit alone?
    pub fn looks_at_guest(&self) -> bool {
        match self {
            Self::Register(_) | Self::System(_) | Self::Memory(..) | Self::Virtual(..) => true,
            Self::Constant(_) | Self::Exit(_) => false,
            Self::Not(inner) | Self::IsIn(inner, _) | Self::IsInRange(inner, _) => inner.looks_at_guest(),
            Self::Binary(_, left, right) | Self::And(left, right) | Self::Or(left, right) => {
                left.looks_at_guest() || right.looks_at_guest()
            }
        }
    }
}

impl Binary {
    /// None where something is divided by 0.
    fn of(self, a: u64, b: u64) -> Option<u64> {
        let shifted = |by: u64, how: fn(u64, u32) -> Option<u64>| u32::try_from(by).ok().and_then(|by| how(a, by));
        Some(match self {
            Self::Divide => a.checked_div(b)?,
            Self::Modulo => a.checked_rem(b)?,
            Self::Add => a.wrapping_add(b),
            Self::Subtract => a.wrapping_sub(b),
            Self::Multiply => a.wrapping_mul(b),
            Self::BitAnd => a & b,
            Self::BitOr => a | b,
            Self::BitXor => a ^ b,
            Self::ShiftLeft => shifted(b, u64::checked_shl).unwrap_or(0),
            Self::ShiftRight => shifted(b, u64::checked_shr).unwrap_or(0),
            Self::Equal => u64::from(a == b),
            Self::NotEqual => u64::from(a != b),
            Self::Less => u64::from(a < b),
            Self::LessOrEqual => u64::from(a <= b),
            Self::Greater => u64::from(a > b),
            Self::GreaterOrEqual => u64::from(a >= b),
        })
    }
}

#[cfg(test)]
#[path = "expression_tests.rs"]
mod tests;
