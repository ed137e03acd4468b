//! The token table of kallsyms: the 256 pieces that symbols' names are made of, and the index of where each begins.
//! It never guesses: a table counts only if its index names each of its strings.

use crate::source::ReadMemory;

use super::image::{Image, u16_at};

/// Each digit stands for itself in every kernel's table, one after the other: this is how a table is recognised.
pub const DIGITS: &[u8] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00";

/// How many tokens there are.
const TOKENS: usize = 256;
/// The token of the first digit.
const ZERO: usize = 0x30;
/// A table with its index has fewer bytes; a distribution's has some 1,500.
const LONGEST: u64 = 8 << 10;

/// A token table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Where it begins.
    pub at: u64,
    /// Where what follows its index begins.
    pub end: u64,
    /// Printable ASCII: whatever else a guest has written there is `?`.
    texts: Vec<String>,
}

impl Tokens {
    /// The table whose [`DIGITS`] are at `digits`, if that is one.
    pub fn around<M: ReadMemory>(image: &Image<'_, M>, digits: u64) -> Option<Self> {
        let rest = image.bytes(digits, digits.checked_add(LONGEST)?)?;
        let end = memchr::memchr_iter(0, &rest).nth(TOKENS - ZERO - 1)? + 1;
        // The index is aligned to 8 bytes, as all tables of kallsyms.
        let index_at = (digits + u64::try_from(end).ok()?).next_multiple_of(8);
        let index_in = usize::try_from(index_at - digits).ok()?;
        let starts: Vec<u16> = (0..TOKENS).map_while(|i| u16_at(&rest, index_in + 2 * i)).collect();
        let at = digits.checked_sub(u64::from(*starts.get(ZERO)?))?;
        let table = image.exactly(at, digits + u64::try_from(end).ok()? - at)?;
        Some(Self { at, end: index_at + 512, texts: texts(&table, &starts)? })
    }

    /// What `token` stands for.
    pub fn text(&self, token: u8) -> &str {
        &self.texts[usize::from(token)] // there are 256
    }
}

/// The strings of `table`, if they begin where `starts` says, each right after the one before.
fn texts(table: &[u8], starts: &[u16]) -> Option<Vec<String>> {
    let mut texts = Vec::with_capacity(TOKENS);
    let mut at = 0;
    for start in starts {
        let end = at + memchr::memchr(0, table.get(at..)?)?;
        if usize::from(*start) != at {
            return None;
        }
        texts.push(table[at..end].iter().map(|c| if c.is_ascii_graphic() { char::from(*c) } else { '?' }).collect());
        at = end + 1;
    }
    (texts.len() == TOKENS && at == table.len()).then_some(texts)
}
