//! Expressions as Python writes them. It never computes one.

use std::fmt;

use super::expression::{Binary, Expression, Range};

impl Binary {
    /// Its sign.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "//",
            Self::Modulo => "%",
            Self::BitAnd => "&",
            Self::BitOr => "|",
            Self::BitXor => "^",
            Self::ShiftLeft => "<<",
            Self::ShiftRight => ">>",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

/// An operand: in parentheses where it is made of two.
struct Inner<'a>(&'a Expression);

impl fmt::Display for Inner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Expression::Binary(..) | Expression::And(..) | Expression::Or(..) => write!(f, "({})", self.0),
            closed => write!(f, "{closed}"),
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(value) => write!(f, "{value:#x}"),
            Self::Register(part) => write!(f, "reg.{}", part.name()),
            Self::System(which) => write!(f, "reg.{}", which.name()),
            Self::Exit(field) => write!(f, "exit.{}", field.name()),
            Self::Virtual(bytes, at) => write!(f, "virtual.u{}({at})", u32::from(*bytes) * 8),
            Self::Memory(bytes, at) => write!(f, "mem.u{}({at})", u32::from(*bytes) * 8),
            Self::Binary(how, left, right) => write!(f, "{} {} {}", Inner(left), how.sign(), Inner(right)),
            Self::And(left, right) => write!(f, "{} & {}", Inner(left), Inner(right)),
            Self::Or(left, right) => write!(f, "{} | {}", Inner(left), Inner(right)),
            Self::Not(inner) => write!(f, "~({inner})"),
            Self::IsInRange(inner, Range { first, last, step }) => {
                let end = u128::from(*last) + 1;
                let step = if *step == 1 { String::new() } else { format!(", {step:#x}") };
                write!(f, "{}.isin(range({first:#x}, {end:#x}{step}))", Inner(inner))
            }
            Self::IsIn(inner, values) => {
                let values: Vec<_> = values.iter().map(|value| format!("{value:#x}")).collect();
                write!(f, "{}.isin([{}])", Inner(inner), values.join(", "))
            }
        }
    }
}
