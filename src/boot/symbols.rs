//! The symbol table of an ELF file: addresses by name, names by address.
//! It never loads anything, and takes a damaged table for what can be read of it.

use std::collections::HashMap;

use object::elf::{FileHeader32, FileHeader64, SHN_UNDEF, SHT_SYMTAB, STT_FILE, STT_SECTION, STT_TLS};
use object::read::elf::{FileHeader, SectionHeader, Sym};

/// More symbols than this are not read; a distribution's kernel has some 200,000.
const MOST_SYMBOLS: usize = 1 << 22;
/// A longer name is not read.
const LONGEST_NAME: usize = 1024;

/// One name and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// As the file spells it.
    pub name: Box<str>,
    /// What it stands for: an address of the guest's, as the guest sees it.
    pub address: u64,
    /// How many bytes are there, or 0 if the file does not say.
    pub size: u64,
    /// A constant, which lies nowhere.
    pub absolute: bool,
    /// Is it known to all files that the program was made of?
    pub global: bool,
}

/// All symbols of a file, in the order of their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    sorted: Vec<Symbol>,
    by_name: HashMap<Box<str>, usize>,
}

impl Symbols {
    /// Reads the symbol table of `image`; none are in a file that is no ELF file or has no table.
    pub fn parse(image: &[u8]) -> Self {
        let symbols = match (image.starts_with(b"\x7fELF"), image.get(4)) {
            (true, Some(2)) => read::<FileHeader64<object::LittleEndian>>(image),
            (true, _) => read::<FileHeader32<object::LittleEndian>>(image),
            _ => None,
        };
        Self::of(symbols.unwrap_or_default())
    }

    /// A table of these.
    pub fn of(mut sorted: Vec<Symbol>) -> Self {
        sorted.sort_by_key(|s| (s.address, !s.global));
        let mut by_name: HashMap<Box<str>, usize> = HashMap::with_capacity(sorted.len());
        for (index, symbol) in sorted.iter().enumerate() {
            // Of two with one name, the global one counts, else the lower.
            let known = by_name.entry(symbol.name.clone()).or_insert(index);
            if symbol.global && !sorted[*known].global {
                *known = index;
            }
        }
        Self { sorted, by_name }
    }

    /// The symbol with that name; of several, the global one, else the lowest.
    pub fn get(&self, name: &str) -> Option<&Symbol> {
        self.by_name.get(name).map(|index| &self.sorted[*index])
    }

    /// The symbol that `address` lies in: the nearest below, unless it is known to end before.
    pub fn at(&self, address: u64) -> Option<&Symbol> {
        let end = self.sorted.partition_point(|s| s.address <= address);
        let nearest = self.sorted[..end].iter().rev().find(|s| !s.absolute)?.address;
        let start = self.sorted.partition_point(|s| s.address < nearest);
        // Of several at one place, the one that is known to reach this far, else one of unknown size.
        let mut same = self.sorted[start..end].iter().filter(|s| !s.absolute);
        same.clone().find(|s| s.size > address - nearest).or_else(|| same.find(|s| s.size == 0))
    }

    /// The symbols whose name fits `pattern`, in which `*` stands for any characters and `?` for one.
    pub fn find<'a>(&'a self, pattern: &'a str) -> impl Iterator<Item = &'a Symbol> {
        self.sorted.iter().filter(move |s| crate::glob::fits(s.name.as_bytes(), pattern.as_bytes()))
    }

    /// Each name once, with the symbol that [`Symbols::get`] gives for it, in the order of addresses.
    pub fn iter(&self) -> impl Iterator<Item = &Symbol> {
        let chosen = |(index, symbol): &(usize, &Symbol)| self.by_name.get(&symbol.name) == Some(index);
        self.sorted.iter().enumerate().filter(chosen).map(|(_, symbol)| symbol)
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

fn read<H: FileHeader>(image: &[u8]) -> Option<Vec<Symbol>> {
    let header = H::parse(image).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, image).ok()?;
    let table = sections.symbols(endian, image, SHT_SYMTAB).ok()?;
    let strings = sections.section(table.string_section()).ok()?.data(endian, image).ok()?;
    let symbols = table.iter().take(MOST_SYMBOLS).filter_map(|s| symbol(s, endian, strings));
    // A sound file spells each name out, or shares its end with another one's: all of them are no longer than it is.
    let mut room = image.len();
    Some(
        symbols
            .map_while(|s| {
                room = room.checked_sub(s.name.len())?;
                Some(s)
            })
            .collect(),
    )
}

fn symbol<S: Sym>(from: &S, endian: S::Endian, strings: &[u8]) -> Option<Symbol> {
    if from.st_shndx(endian) == SHN_UNDEF || [STT_FILE, STT_SECTION, STT_TLS].contains(&from.st_type()) {
        return None;
    }
    let rest = strings.get(usize::try_from(from.st_name(endian)).ok()?..)?;
    let name = &rest[..memchr::memchr(0, &rest[..rest.len().min(LONGEST_NAME + 1)])?];
    if name.is_empty() {
        return None;
    }
    Some(Symbol {
        name: String::from_utf8_lossy(name).into(),
        address: from.st_value(endian).into(),
        size: from.st_size(endian).into(),
        absolute: from.is_absolute(endian),
        global: !from.is_local(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPECIMEN: &[u8] = include_bytes!("../../python/belljar/specimen.elf");

    fn symbol(name: &str, address: u64, size: u64, global: bool) -> Symbol {
        Symbol { name: name.into(), address, size, absolute: false, global }
    }

    fn name_at(symbols: &Symbols, address: u64) -> Option<&str> {
        symbols.at(address).map(|s| &*s.name)
    }

    #[test]
    fn the_specimen_has_its_symbols() {
        let symbols = Symbols::parse(SPECIMEN);
        let task = symbols.get("init_task").unwrap();
        assert!((0x10_0000..0x20_0000).contains(&task.address) && task.size > 100, "{task:?}");
        assert_eq!(name_at(&symbols, task.address + task.size - 1), Some("init_task"));
        assert!((0x4000_0000..0x4010_0000).contains(&symbols.get("compute").unwrap().address));
        assert!(symbols.get("no such").is_none() && symbols.len() > 80);
    }

    #[test]
    fn an_address_belongs_to_the_nearest_symbol_below_that_reaches_it() {
        let symbols = Symbols::of(vec![
            symbol("sized", 0x1000, 0x10, true),
            symbol("label", 0x2000, 0, false),
            symbol("outer", 0x3000, 0x20, false),
            symbol("inner", 0x3000, 0, true),
            Symbol { absolute: true, ..symbol("number", 0x2004, 0, true) },
        ]);
        let names = [0xfff, 0x1000, 0x100f, 0x1010, 0x2008, 0x3001, 0x3020].map(|at| name_at(&symbols, at));
        let expected = [None, Some("sized"), Some("sized"), None, Some("label"), Some("outer"), Some("inner")];
        assert_eq!(names, expected);
        assert_eq!(symbols.get("number").map(|s| s.address), Some(0x2004));
    }

    #[test]
    fn of_two_with_one_name_the_global_one_counts() {
        let symbols = Symbols::of(vec![symbol("f", 1, 0, false), symbol("f", 2, 0, true), symbol("f", 3, 0, false)]);
        assert_eq!((symbols.get("f").map(|s| s.address), symbols.len()), (Some(2), 1));
        assert_eq!(symbols.find("f").map(|s| s.address).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(symbols.iter().map(|s| s.address).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn what_is_no_elf_file_has_no_symbols() {
        for image in [&b""[..], b"\x7fELF", b"MZ", &[0; 4096]] {
            assert!(Symbols::parse(image).is_empty());
        }
    }

    #[test]
    fn a_name_without_an_end_is_not_read() {
        let mut image = SPECIMEN.to_vec();
        let strings = memchr::memmem::find(&image, b"\0init_task\0").unwrap();
        image.iter_mut().skip(strings).for_each(|byte| *byte = b'x');
        let _ = Symbols::parse(&image); // the section headers are gone, too
        assert!(Symbols::parse(&SPECIMEN[..SPECIMEN.len() - 1]).len() <= Symbols::parse(SPECIMEN).len());
    }

    /// An ELF file of `count` symbols that all have one name, of `length` bytes.
    fn one_name(count: usize, length: usize) -> Vec<u8> {
        let word = |n: usize| u64::try_from(n).unwrap().to_le_bytes();
        let (table, strings) = (24 * count, 64 * 4 + 24 * count);
        let mut image = b"\x7fELF\x02\x01\x01".to_vec();
        image.resize(16, 0);
        image.extend([2, 0, 62, 0, 1, 0, 0, 0]); // executable, x86-64, version
        image.extend([word(0), word(0), word(64)].concat()); // entry, program headers, section headers
        image.extend([0, 0, 0, 0, 64, 0, 56, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
        let section = |kind: u8, at: usize, len: usize, link: u8, entry: usize| {
            let (kind, link) = ([0, 0, 0, 0, kind, 0, 0, 0], [link, 0, 0, 0, 0, 0, 0, 0]);
            [kind, word(0), word(0), word(at), word(len), link, word(1), word(entry)].concat()
        };
        let name = [vec![0], vec![0xff; length], vec![0]].concat();
        image.extend(
            [section(0, 0, 0, 0, 0), section(2, 256, table, 2, 24), section(3, strings, name.len(), 0, 0)].concat(),
        );
        for n in 0..count {
            image.extend([1, 0, 0, 0, 0x12, 0, 1, 0].into_iter().chain([word(n), word(0)].concat()));
        }
        [image, name].concat()
    }

    #[test]
    fn names_are_no_more_bytes_than_the_file_has_however_often_it_uses_one() {
        assert_eq!(Symbols::parse(&one_name(3, 8)).sorted.len(), 3);
        let image = one_name(10_000, 1000);
        let names: usize = Symbols::parse(&image).sorted.iter().map(|s| s.name.len()).sum();
        assert!((3000..=image.len()).contains(&names), "{names} bytes of names from {}", image.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn no_damage_to_a_file_panics(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<u8>()), 1..12),
            address: u64,
            keep in 0u8..4,
            cut: prop::sample::Index,
        ) {
            let mut image = SPECIMEN.to_vec();
            let len = image.len();
            for (at, in_tables, byte) in changes {
                // Half of the changes go where symbols, their names and the section headers are.
                let at = if in_tables { len - 1 - at.index(0x1c00) } else { at.index(0x200) };
                image[at] = byte;
            }
            if keep == 0 {
                image.truncate(cut.index(len));
            }
            let symbols = Symbols::parse(&image);
            let _ = symbols.at(address);
            prop_assert!(symbols.iter().count() == symbols.len() && symbols.len() <= len / 16);
        }
    }
}
