//! The symbols of a kernel, as its own memory has them: names by address, addresses by name.
//! It never reads guest memory, and holds all names in one piece.

use std::hash::{BuildHasher, RandomState};

use super::tables::{CHUNK, KERNEL, Tables, name};
use super::tokens::Tokens;

/// A longer name is not kept; Linux's own limit is 512.
const LONGEST_NAME: usize = 1024;
/// All names together have at most this many bytes.
const MOST_BYTES: usize = 64 << 20;
/// No symbol's number.
const NONE: u32 = u32::MAX;

/// One symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelSymbol<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it stands for.
    pub address: u64,
    /// The letter that nm gives it: T for code that other files know, t for code that they do not, D d for data, ...
    pub kind: char,
}

impl KernelSymbol<'_> {
    /// Is it known to all files that the kernel was made of?
    pub fn is_global(&self) -> bool {
        self.kind.is_ascii_uppercase()
    }
}

/// All symbols of a kernel, in the order of their addresses.
#[derive(Debug, Default)]
pub struct KernelSymbols {
    /// The names, one after the other.
    text: String,
    /// Where each name ends in `text`.
    ends: Vec<u32>,
    kinds: Vec<u8>,
    addresses: Vec<u64>,
    /// The symbols' numbers by the hash of their names, with gaps; a power of two of them.
    table: Vec<u32>,
    hasher: RandomState,
    names: usize,
    /// What lies from here on is no part of the kernel.
    end: u64,
    lost: usize,
}

impl KernelSymbols {
    /// The symbols in `tables`, whose addresses are `addresses`.
    pub fn decode(tables: &Tables, tokens: &Tokens, addresses: &[u64]) -> Self {
        let mut symbols = Self::default();
        for (chunk, places) in addresses.chunks(CHUNK).enumerate() {
            symbols.decode_chunk(tables, tokens, chunk, places);
        }
        symbols.lost = addresses.len() - symbols.addresses.len();
        symbols.end = symbols.addresses.last().map_or(0, |last| last.saturating_add(1));
        symbols.index();
        symbols.end = symbols.get("_end").map_or(symbols.end, |s| s.address);
        symbols
    }

    /// Moves all symbols by `distance`.
    pub fn shift(&mut self, distance: u64) {
        self.addresses.iter_mut().for_each(|address| *address = address.wrapping_add(distance));
        self.end = self.end.wrapping_add(distance);
    }

    /// Adds the symbols of one chunk, if its names end where they should: else each could be another one's.
    fn decode_chunk(&mut self, tables: &Tables, tokens: &Tokens, chunk: usize, addresses: &[u64]) {
        let Some(names) = tables.chunk(chunk, addresses.len()) else { return };
        let mut at = 0;
        for address in addresses {
            let Some((start, end)) = name(names, at) else { return };
            self.add(tokens, &names[start..end], *address);
            at = end;
        }
    }

    /// Adds a symbol, unless its name cannot be one.
    fn add(&mut self, tokens: &Tokens, compressed: &[u8], address: u64) {
        let before = self.text.len();
        for token in compressed {
            self.text.push_str(tokens.text(*token));
            if self.text.len() - before > LONGEST_NAME {
                break;
            }
        }
        let len = self.text.len() - before;
        let kind = self.text.as_bytes().get(before).copied();
        match (kind, u32::try_from(self.text.len().saturating_sub(1))) {
            (Some(kind), Ok(end)) if (2..=LONGEST_NAME).contains(&len) && self.text.len() <= MOST_BYTES => {
                self.text.remove(before);
                self.ends.push(end);
                self.kinds.push(kind);
                self.addresses.push(address);
            }
            _ => self.text.truncate(before),
        }
    }

    /// Fills the table of names.
    fn index(&mut self) {
        self.table = vec![NONE; (2 * self.len()).next_power_of_two()];
        for number in (0..).take(self.len()) {
            let symbol = self.symbol(number);
            let slot = self.slot(symbol.name);
            let known = self.table[slot];
            // Of two with one name, the global one counts, else the lower.
            if known == NONE || symbol.is_global() && !self.symbol(index(known)).is_global() {
                self.table[slot] = u32::try_from(number).unwrap_or(NONE);
                self.names += usize::from(known == NONE);
            }
        }
    }

    /// Where in the table `name` is, or would be.
    fn slot(&self, name: &str) -> usize {
        let mask = self.table.len() - 1;
        let hash = usize::try_from(self.hasher.hash_one(name)).unwrap_or(0);
        let mut slot = hash & mask;
        // At least half of the table is free.
        while self.table[slot] != NONE && self.symbol(index(self.table[slot])).name != name {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn symbol(&self, number: usize) -> KernelSymbol<'_> {
        let start = number.checked_sub(1).map_or(0, |before| index(self.ends[before]));
        let name = &self.text[start..index(self.ends[number])];
        KernelSymbol { name, address: self.addresses[number], kind: char::from(self.kinds[number]) }
    }

    /// The symbol with that name; of several, one that other files know, else the lowest.
    pub fn get(&self, name: &str) -> Option<KernelSymbol<'_>> {
        let number = self.table.get(self.slot_of(name)?).copied()?;
        (number != NONE).then(|| self.symbol(index(number)))
    }

    fn slot_of(&self, name: &str) -> Option<usize> {
        (!self.table.is_empty()).then(|| self.slot(name))
    }

    /// The symbol that `address` lies in: the nearest below, of several at one place the first, as Linux itself says.
    pub fn at(&self, address: u64) -> Option<KernelSymbol<'_>> {
        if address >= self.end || !KERNEL.contains(&address) {
            return None;
        }
        let below = self.addresses.partition_point(|a| *a <= address).checked_sub(1)?;
        let nearest = self.addresses[below];
        let first = self.addresses.partition_point(|a| *a < nearest);
        KERNEL.contains(&nearest).then(|| self.symbol(first))
    }

    /// How many bytes the symbol at `address` has: up to the next one.
    pub fn size(&self, address: u64) -> u64 {
        let next = self.addresses.get(self.addresses.partition_point(|a| *a <= address));
        next.map_or(0, |next| next - address)
    }

    /// All symbols, in the order of their addresses.
    pub fn all(&self) -> impl Iterator<Item = KernelSymbol<'_>> {
        (0..self.len()).map(|number| self.symbol(number))
    }

    /// Each name once, with the symbol that [`KernelSymbols::get`] gives for it, in the order of addresses.
    pub fn iter(&self) -> impl Iterator<Item = KernelSymbol<'_>> {
        let chosen = |n: &usize| self.slot_of(self.symbol(*n).name).is_some_and(|slot| index(self.table[slot]) == *n);
        (0..self.len()).filter(chosen).map(|number| self.symbol(number))
    }

    /// The symbols whose name fits `pattern`, in which `*` stands for any characters and `?` for one.
    pub fn find<'a>(&'a self, pattern: &'a str) -> impl Iterator<Item = KernelSymbol<'a>> {
        self.all().filter(move |s| crate::glob::fits(s.name.as_bytes(), pattern.as_bytes()))
    }

    /// How many symbols there are; some may share a name.
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// How many names there are.
    pub fn names(&self) -> usize {
        self.names
    }

    /// How many symbols the tables count of which no name could be read.
    pub fn lost(&self) -> usize {
        self.lost
    }

    /// Where the kernel ends, as far as its symbols say.
    pub fn end(&self) -> u64 {
        self.end
    }
}

/// A number as an index; usize is 64 bits wide wherever KVM runs.
fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
