//! Expressions over a stopped guest: registers, memory and the exit at hand, computed without anybody being called.
//! They never change a guest, and take a time that their size bounds.

use crate::addr::GuestPhys;
use crate::exit::Exit;
use crate::source::ReadMemory;
use crate::x86::{Part, Regs};

/// How deep an expression may be, which is how deep its computation goes.
pub const MOST_DEPTH: usize = 200;

/// An unsigned 64-bit value to be computed, or none where the guest has no such thing. Truths are 0 and 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// This number.
    Constant(u64),
    /// A general register of the exit's vCPU, or a part of one.
    Register(Part),
    /// A field of the exit; none for exits that have no such field.
    Exit(Field),
    /// Little-endian guest-physical memory of 1, 2, 4 or 8 bytes; none where no memory is.
    Memory(u8, Box<Self>),
    /// Two values made one; none if one of them is.
    Binary(Binary, Box<Self>, Box<Self>),
    /// Both; the second is not computed if the first does not hold.
    And(Box<Self>, Box<Self>),
    /// One of them; the second is not computed if the first holds. What is none does not hold.
    Or(Box<Self>, Box<Self>),
    /// Does it not hold? What is none does not hold.
    Not(Box<Self>),
    /// Is it one of these, which are in order?
    IsIn(Box<Self>, Box<[u64]>),
}

/// A field of an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names of the fields of `Exit`
pub enum Field {
    Port,
    Address,
    Index,
    Size,
    Count,
    Data,
    Vector,
    Number,
    Vcpu,
}

/// Arithmetic modulo 2^64, bits, and unsigned comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // their names are what they do
pub enum Binary {
    Add,
    Subtract,
    Multiply,
    BitAnd,
    BitOr,
    BitXor,
    ShiftLeft,
    ShiftRight,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
}

/// What an expression is computed from.
pub struct Scope<'a> {
    /// The exit, if one is at hand.
    pub exit: Option<&'a Exit>,
    /// The data that a read was answered with, once it has been.
    pub answer: Option<u64>,
    /// The vCPU that made it.
    pub vcpu: u32,
    /// Its registers, asked for when first needed.
    pub registers: &'a mut dyn FnMut() -> Option<Regs>,
    /// Guest memory.
    pub memory: &'a dyn ReadMemory,
}

impl Expression {
    /// Its value.
    pub fn value(&self, scope: &mut Scope<'_>) -> Option<u64> {
        Some(match self {
            Self::Constant(value) => *value,
            Self::Register(part) => part.of((scope.registers)()?.words[part.at]),
            Self::Exit(Field::Data) if scope.answer.is_some() => scope.answer?,
            Self::Exit(field) => field.of(scope.exit?, scope.vcpu)?,
            Self::Memory(size, at) => {
                let mut word = [0; 8];
                let at = GuestPhys(at.value(scope)?);
                scope.memory.read(at, &mut word[..usize::from(*size).min(8)]).ok()?;
                u64::from_le_bytes(word)
            }
            Self::Binary(how, left, right) => how.of(left.value(scope)?, right.value(scope)?),
            Self::And(left, right) => u64::from(left.value(scope)? != 0 && right.holds(scope)),
            Self::Or(left, right) => u64::from(left.holds(scope) || right.holds(scope)),
            Self::Not(inner) => u64::from(!inner.holds(scope)),
            Self::IsIn(inner, values) => u64::from(values.binary_search(&inner.value(scope)?).is_ok()),
        })
    }

    /// Is it there, and not 0?
    pub fn holds(&self, scope: &mut Scope<'_>) -> bool {
        self.value(scope).is_some_and(|value| value != 0)
    }

    /// Is its value a truth, which `&`, `|` and `~` combine as such?
    pub fn is_truth(&self) -> bool {
        match self {
            Self::And(..) | Self::Or(..) | Self::Not(_) | Self::IsIn(..) => true,
            Self::Binary(how, ..) => {
                matches!(how, Binary::Equal | Binary::NotEqual | Binary::Less | Binary::LessOrEqual)
            }
            _ => false,
        }
    }
}

impl Binary {
    fn of(self, a: u64, b: u64) -> u64 {
        let shifted = |by: u64, how: fn(u64, u32) -> Option<u64>| u32::try_from(by).ok().and_then(|by| how(a, by));
        match self {
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
        }
    }
}

impl Field {
    fn of(self, exit: &Exit, vcpu: u32) -> Option<u64> {
        Some(match (self, exit) {
            (Self::Vcpu, _) => u64::from(vcpu),
            (Self::Port, Exit::PortIn { port, .. } | Exit::PortOut { port, .. } | Exit::PortStringIn { port, .. }) => {
                u64::from(*port)
            }
            (Self::Port, Exit::PortStringOut(string)) => u64::from(string.port),
            (Self::Address, Exit::MmioRead { at, .. } | Exit::MmioWrite { at, .. } | Exit::MemoryFault { at, .. }) => {
                at.0
            }
            (Self::Index, Exit::MsrRead { index, .. } | Exit::MsrWrite { index, .. }) => u64::from(*index),
            (
                Self::Size,
                Exit::PortIn { size, .. }
                | Exit::PortOut { size, .. }
                | Exit::PortStringIn { size, .. }
                | Exit::MmioRead { size, .. }
                | Exit::MmioWrite { size, .. },
            ) => u64::from(*size),
            (Self::Size, Exit::PortStringOut(string)) => u64::from(string.size),
            (Self::Count, Exit::PortStringIn { count, .. }) => u64::from(*count),
            (Self::Count, Exit::PortStringOut(string)) => {
                u64::try_from(string.data.len() / usize::from(string.size.max(1))).ok()?
            }
            (Self::Data, Exit::PortOut { data, .. }) => u64::from(*data),
            (Self::Data, Exit::MmioWrite { data, .. } | Exit::MsrWrite { data, .. }) => *data,
            (Self::Vector, Exit::Exception(exception)) => u64::from(exception.vector),
            (Self::Vector, Exit::IoapicEoi { vector }) => u64::from(*vector),
            (Self::Number, Exit::Hypercall(call)) => call.number,
            _ => return None,
        })
    }
}
