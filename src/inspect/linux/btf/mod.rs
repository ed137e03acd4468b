//! BTF, the type information that a kernel carries: parsed once, then asked by name.
//! It never trusts the bytes: every walk has an end, and no count in them is an amount of memory.
//!
//! The format is described in the kernel's Documentation/bpf/btf.rst. `type_name.rs` prints types in C.

mod member;
mod raw;
#[cfg(test)]
mod tests;
mod type_name;

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};

pub use member::Member;
pub use raw::{Kind, Raw};

/// A kernel's BTF has 4 to 8 MiB.
pub const MOST_BYTES: usize = 64 << 20;
const MOST_TYPES: usize = 2 << 20;
/// KSYM_NAME_LEN of the kernel; a longer name is cut.
const MOST_NAME: usize = 512;
/// So many typedefs, pointers, qualifiers and arrays in a row are followed.
const DEEPEST: usize = 64;

/// The types of a kernel or a module, by number and by name.
pub struct Btf {
    bytes: Box<[u8]>,
    /// Where each type begins, the first of which has the number `first`.
    starts: Vec<u32>,
    first: u32,
    strings: Range<usize>,
    first_string: usize,
    /// The numbers of the types with names, in the order of these.
    by_name: Vec<u32>,
    base: Option<Arc<Btf>>,
}

/// A function: what it is called with and what it returns, as numbers of types.
pub struct Function {
    /// Its parameters; one without a name and type 0 stands for "...".
    pub parameters: Vec<(String, u32)>,
    /// The type that it returns.
    pub returns: u32,
}

fn wrong(reason: impl Into<String>) -> Error {
    Error::Image { format: "BTF", reason: reason.into() }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let end = at.checked_add(4)?;
    Some(u32::from_le_bytes(bytes.get(at..end)?.try_into().ok()?))
}

fn index(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

impl Btf {
    /// Reads the BTF of a kernel or, upon the kernel's as `base`, that of a module.
    pub fn parse(bytes: &[u8], base: Option<Arc<Btf>>) -> Result<Self> {
        if bytes.len() > MOST_BYTES {
            return Err(wrong(format!("{} bytes are more than any kernel has", bytes.len())));
        }
        let (types, strings) = sections(bytes)?;
        let (first, first_string) = base.as_ref().map_or((1, 0), |base| (base.end(), base.strings_end()));
        let starts = starts(bytes, types)?;
        let mut all = Self { bytes: bytes.into(), starts, first, strings, first_string, by_name: vec![], base };
        all.by_name = all.sorted();
        Ok(all)
    }

    fn end(&self) -> u32 {
        self.first.saturating_add(u32::try_from(self.starts.len()).unwrap_or(u32::MAX))
    }

    fn strings_end(&self) -> usize {
        self.first_string + self.strings.len()
    }

    fn sorted(&self) -> Vec<u32> {
        let named = (self.first..self.end()).map(|id| (self.raw(id).map_or("", |raw| self.string(raw.name)), id));
        let mut named: Vec<_> = named.filter(|(name, _)| !name.is_empty()).collect();
        named.sort_unstable();
        named.into_iter().map(|(_, id)| id).collect()
    }

    /// How many types there are, those of the base not counted.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The string at an offset, "" if there is none.
    fn string(&self, offset: u32) -> &str {
        let offset = index(offset);
        match &self.base {
            Some(base) if offset < self.first_string => base.string(u32::try_from(offset).unwrap_or(0)),
            _ => self.own_string(offset - self.first_string.min(offset)),
        }
    }

    fn own_string(&self, offset: usize) -> &str {
        let all = self.bytes.get(self.strings.clone()).unwrap_or_default();
        let rest = all.get(offset..).unwrap_or_default();
        let rest = rest.get(..MOST_NAME).unwrap_or(rest);
        let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
        std::str::from_utf8(name).unwrap_or_default()
    }

    /// The type with that number; None for void (number 0), and for what there is not.
    pub fn raw(&self, id: u32) -> Option<Raw<'_>> {
        match &self.base {
            Some(base) if id < self.first => base.raw(id),
            _ => Raw::at(&self.bytes, index(*self.starts.get(index(id.checked_sub(self.first)?))?)),
        }
    }

    /// The number of the type of that name and one of these kinds, a whole one rather than a declaration.
    pub fn find(&self, name: &str, kinds: &[Kind]) -> Option<u32> {
        let called = |id: &u32| self.raw(*id).map_or("", |raw| self.string(raw.name));
        let from = self.by_name.partition_point(|id| called(id) < name);
        let mut same = self.by_name.get(from..)?.iter().take_while(|id| called(id) == name);
        let own = same.find(|id| self.raw(**id).is_some_and(|raw| kinds.contains(&raw.kind)));
        own.copied().or_else(|| self.base.as_ref()?.find(name, kinds))
    }

    /// The numbers of the types of that kind that have a name, and the names.
    pub fn named(&self, kinds: &[Kind]) -> impl Iterator<Item = (&str, u32)> {
        let raws = self.by_name.iter().filter_map(|id| Some((*id, self.raw(*id)?)));
        raws.filter(|(_, raw)| kinds.contains(&raw.kind)).map(|(id, raw)| (self.string(raw.name), id))
    }

    /// What is behind typedefs and qualifiers.
    pub fn resolve(&self, mut id: u32) -> u32 {
        for _ in 0..DEEPEST {
            match self.raw(id) {
                Some(raw) if raw.kind.is_alias() => id = raw.size_or_type,
                _ => break,
            }
        }
        id
    }

    /// How many bytes a value of that type has; None for void, functions, and types without an end.
    pub fn size(&self, mut id: u32) -> Option<u64> {
        let mut times: u64 = 1;
        for _ in 0..DEEPEST {
            let raw = self.raw(id)?;
            let each = match raw.kind {
                Kind::Array => {
                    let (element, count) = raw.array()?;
                    times = times.checked_mul(count.into())?;
                    id = element;
                    continue;
                }
                Kind::Pointer => 8,
                kind if kind.is_alias() || kind == Kind::Variable => {
                    id = raw.size_or_type;
                    continue;
                }
                kind if kind.is_sized() => raw.size_or_type.into(),
                _ => return None,
            };
            return times.checked_mul(each);
        }
        None
    }

    /// The names and values of an enumeration.
    pub fn values(&self, id: u32) -> Vec<(&str, i128)> {
        let Some(raw) = self.raw(id) else { return vec![] };
        raw.values().map(|(name, value)| (self.string(name), value)).collect()
    }

    /// The prototype of a function.
    pub fn function(&self, name: &str) -> Option<Function> {
        let named = self.raw(self.find(name, &[Kind::Function])?)?;
        let raw = self.raw(named.size_or_type).filter(|raw| raw.kind == Kind::Prototype)?;
        let parameters = raw.parameters().map(|(name, id)| (self.string(name).to_owned(), id)).collect();
        Some(Function { parameters, returns: raw.size_or_type })
    }
}

/// Where types and strings lie.
fn sections(bytes: &[u8]) -> Result<(Range<usize>, Range<usize>)> {
    let field = |at| word(bytes, at).map(index).ok_or_else(|| wrong("the header is cut off"));
    let magic = field(0)?;
    if magic & 0x00FF_FFFF != 0x0001_EB9F {
        return Err(wrong(format!("it begins with {magic:#010x}, not with 0x0001eb9f (version 1, little-endian)")));
    }
    let header = field(4)?;
    let section = |at: usize, what: &str| {
        let start = header.saturating_add(field(at)?);
        let end = start.saturating_add(field(at + 4)?);
        if end > bytes.len() {
            return Err(wrong(format!("the {what} end at {end:#x}, beyond its {:#x} bytes", bytes.len())));
        }
        Ok(start..end)
    };
    Ok((section(8, "types")?, section(16, "strings")?))
}

/// Where each type begins.
fn starts(bytes: &[u8], types: Range<usize>) -> Result<Vec<u32>> {
    let (mut at, mut starts) = (types.start, vec![]);
    while at < types.end {
        let raw = Raw::at(bytes, at).filter(|_| starts.len() < MOST_TYPES);
        let raw = raw.ok_or_else(|| wrong(format!("type {} at {at:#x} is none", starts.len() + 1)))?;
        starts.push(u32::try_from(at).map_err(|_| wrong("too long"))?);
        at += raw.len();
    }
    Ok(starts)
}
