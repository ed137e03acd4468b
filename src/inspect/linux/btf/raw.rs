//! One type as BTF stores it: three words, and what follows them. It never follows a number to another type.

use super::{index, word};

/// BTF_KIND_*, by number.
#[allow(missing_docs)] // the format's own words
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Integer,
    Pointer,
    Array,
    Struct,
    Union,
    Enum,
    Forward,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Function,
    Prototype,
    Variable,
    Section,
    Float,
    DeclarationTag,
    TypeTag,
    Enum64,
}

const KINDS: [Kind; 19] = [
    Kind::Integer,
    Kind::Pointer,
    Kind::Array,
    Kind::Struct,
    Kind::Union,
    Kind::Enum,
    Kind::Forward,
    Kind::Typedef,
    Kind::Volatile,
    Kind::Const,
    Kind::Restrict,
    Kind::Function,
    Kind::Prototype,
    Kind::Variable,
    Kind::Section,
    Kind::Float,
    Kind::DeclarationTag,
    Kind::TypeTag,
    Kind::Enum64,
];

impl Kind {
    /// Another name, or another qualification, of a type.
    pub fn is_alias(self) -> bool {
        matches!(self, Self::Typedef | Self::Volatile | Self::Const | Self::Restrict | Self::TypeTag)
    }

    /// Structure or union.
    pub fn has_members(self) -> bool {
        matches!(self, Self::Struct | Self::Union)
    }

    /// Does its third word say how many bytes it has?
    pub fn is_sized(self) -> bool {
        self.has_members() || matches!(self, Self::Integer | Self::Enum | Self::Enum64 | Self::Float | Self::Section)
    }

    /// How many bytes follow for each of its `vlen` parts, and how many there are anyway.
    fn sizes(self) -> (usize, usize) {
        match self {
            Self::Integer | Self::Variable | Self::DeclarationTag => (0, 4),
            Self::Array => (0, 12),
            Self::Struct | Self::Union | Self::Section | Self::Enum64 => (12, 0),
            Self::Enum | Self::Prototype => (8, 0),
            _ => (0, 0),
        }
    }
}

/// A type, and the bytes that follow its three words.
#[derive(Clone, Copy)]
pub struct Raw<'a> {
    /// What it is.
    pub kind: Kind,
    /// Where its name is among the strings.
    pub name: u32,
    /// Of structures: their members may be bit fields. Of enumerations: their values are signed.
    pub flag: bool,
    /// Its size in bytes, or the type that it refers to.
    pub size_or_type: u32,
    more: &'a [u8],
}

/// A member of a structure, as stored.
pub struct RawMember {
    /// Where its name is among the strings; 0 for none.
    pub name: u32,
    /// Its type.
    pub id: u32,
    /// Offset in bits.
    pub bit_offset: u32,
    /// Width in bits of a bit field, else 0.
    pub bits: u32,
}

impl<'a> Raw<'a> {
    /// The type whose first word is at `at`.
    pub(super) fn at(bytes: &'a [u8], at: usize) -> Option<Self> {
        let (name, info, size_or_type) = (word(bytes, at)?, word(bytes, at + 4)?, word(bytes, at + 8)?);
        let kind = *KINDS.get(index(info >> 24 & 0x1F).checked_sub(1)?)?;
        let (each, fixed) = kind.sizes();
        let length = fixed + each * index(info & 0xFFFF);
        let more = bytes.get(at + 12..at + 12 + length)?;
        Some(Self { kind, name, flag: info >> 31 != 0, size_or_type, more })
    }

    /// How many bytes it takes.
    pub(super) fn len(&self) -> usize {
        12 + self.more.len()
    }

    fn parts(&self, each: usize) -> impl Iterator<Item = [u32; 3]> + use<'a> {
        let part = |part: &[u8]| [0, 4, 8].map(|at| word(part, at).unwrap_or(0));
        self.more.chunks_exact(each).map(part)
    }

    /// Of an array: the type of its elements, and how many there are.
    pub fn array(&self) -> Option<(u32, u32)> {
        Some((word(self.more, 0)?, word(self.more, 8)?)).filter(|_| self.kind == Kind::Array)
    }

    /// Of an integer: its width in bits, and the first of them.
    pub fn integer(&self) -> Option<(u32, u32)> {
        let words = word(self.more, 0).filter(|_| self.kind == Kind::Integer)?;
        Some((words & 0xFF, words >> 16 & 0xFF))
    }

    /// Is it an integer with a sign?
    pub fn is_signed(&self) -> bool {
        self.kind == Kind::Integer && word(self.more, 0).is_some_and(|words| words >> 24 & 1 != 0)
    }

    /// Of a structure or union: its members.
    pub fn members(&self) -> impl Iterator<Item = RawMember> + use<'a> {
        let (bit_fields, wanted) = (self.flag, self.kind.has_members());
        self.parts(12).filter(move |_| wanted).map(move |[name, id, at]| {
            let (bit_offset, bits) = if bit_fields { (at & 0x00FF_FFFF, at >> 24) } else { (at, 0) };
            RawMember { name, id, bit_offset, bits }
        })
    }

    /// Of a prototype: names and types.
    pub fn parameters(&self) -> impl Iterator<Item = (u32, u32)> + use<'a> {
        let wanted = self.kind == Kind::Prototype;
        self.parts(8).filter(move |_| wanted).map(|[name, id, _]| (name, id))
    }

    /// Of an enumeration: names and values.
    pub fn values(&self) -> impl Iterator<Item = (u32, i128)> + use<'a> {
        let (signed, kind) = (self.flag, self.kind);
        let each = if kind == Kind::Enum64 { 12 } else { 8 };
        let wanted = matches!(kind, Kind::Enum | Kind::Enum64);
        self.parts(each).filter(move |_| wanted).map(move |[name, low, high]| {
            let wide = u64::from(high) << 32 | u64::from(low);
            let value = match (kind, signed) {
                (Kind::Enum64, true) => i128::from(wide.cast_signed()),
                (Kind::Enum64, false) => i128::from(wide),
                (_, true) => i128::from(low.cast_signed()),
                (_, false) => i128::from(low),
            };
            (name, value)
        })
    }
}
