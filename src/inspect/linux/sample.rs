//! Made-up kernels for tests and fuzzing: symbol tables in each layout that Linux has had, and page tables that map them.
//! It is never part of a build that runs guests.

use crate::addr::GuestPhys;
use crate::error::{Error, Result};
use crate::source::ReadMemory;

/// How the tables of a kernel are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Whole addresses and 64-bit markers, before the names: up to 4.5, and later where distances were not built in.
    Whole,
    /// Distances and 64-bit markers: 4.6 to 4.19.
    Wide,
    /// Distances before the names, 32-bit markers: 4.20 to 6.1.
    Early,
    /// The same with the names' order between markers and tokens: 6.2 and 6.3.
    Ordered,
    /// Distances after the tokens, from a base: 6.4 to 6.19.
    Late,
    /// Distances after the tokens, each from its own place: 7.0.
    Placed,
}

impl Layout {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Whole, Self::Wide, Self::Early, Self::Ordered, Self::Late, Self::Placed];
}

/// A kernel to be made.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Layout of its tables.
    pub layout: Layout,
    /// Are per-CPU symbols absolute, as before 6.15? Only where there are distances from a base.
    pub absolute: bool,
    /// Where its first byte is mapped.
    pub text: u64,
    /// Where that lies: a multiple of 2 MiB.
    pub at: u64,
    /// 4 or 5.
    pub levels: u8,
    /// Names with their letters, and distances from the first byte; in ascending order.
    pub symbols: Vec<(String, u64)>,
}

/// The memory of a machine, from address 0 on.
#[derive(Clone, Debug)]
pub struct Ram(pub Vec<u8>);

impl Ram {
    /// What there is of it.
    pub fn stretches(&self) -> [(u64, u64); 1] {
        [(0, len(&self.0))]
    }

    /// Writes `bytes` at `at`.
    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl ReadMemory for Ram {
    fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<()> {
        let from = usize::try_from(at.0).ok().and_then(|at| self.0.get(at..)?.get(..into.len()));
        into.copy_from_slice(from.ok_or(Error::Unbacked { at: at.0, len: len(into), near: None })?);
        Ok(())
    }
}

/// Where everything is, from the kernel's first byte on.
const TABLES: u64 = 0x1000;
const BANNER_AT: u64 = 0x10_0000;
const PAGES_AT: u64 = 0x11_0000;
const INFO_AT: u64 = 0x12_0000;
const INFO_POINTER: u64 = 0x12_1000;
const END: u64 = 0x20_0000;

/// What the sample says of itself.
pub const BANNER: &str = "Linux version 6.66.0-made-up (nobody@nowhere) #1 SMP\n";
/// What it tells tools.
pub const INFO: &str = "OSRELEASE=6.66.0-made-up\nPAGESIZE=4096\nKERNELOFFSET=0\n";

impl Sample {
    /// A kernel of `count` symbols besides those that it needs.
    pub fn new(layout: Layout, count: u64) -> Self {
        let made = (0..count).map(|n| (format!("t{}_{n}", if n % 7 == 0 { "sys" } else { "f" }), 16 + 8 * n));
        let needed = [
            ("T_text", 0),
            ("Dlinux_banner", BANNER_AT),
            ("Dinit_top_pgt", PAGES_AT),
            ("Bvmcoreinfo_data", INFO_POINTER),
            ("Bvmcoreinfo_size", INFO_POINTER + 8),
            ("B_end", END),
        ];
        let mut symbols: Vec<_> = needed.map(|(name, at)| (name.to_owned(), at)).into_iter().chain(made).collect();
        symbols.sort_by_key(|(_, at)| *at);
        Self { layout, absolute: false, text: 0xffff_ffff_8100_0000, at: 2 << 20, levels: 4, symbols }
    }

    /// A machine with this kernel in it.
    pub fn ram(&self) -> Ram {
        let mut ram = Ram(vec![0; usize::try_from(self.at + END).unwrap_or(0)]);
        ram.put(self.at + TABLES, &self.tables());
        ram.put(self.at + BANNER_AT, BANNER.as_bytes());
        ram.put(self.at + INFO_AT, INFO.as_bytes());
        ram.put(self.at + INFO_POINTER, &(self.text + INFO_AT).to_le_bytes());
        ram.put(self.at + INFO_POINTER + 8, &len(INFO.as_bytes()).to_le_bytes());
        let mut table = self.cr3();
        for level in (2..=self.levels).rev() {
            let index = self.text >> (12 + 9 * (level - 1)) & 511;
            let entry = if level == 2 { self.at | 0x8000_0000_0000_0083 } else { (table + 0x1000) | 3 };
            ram.put(table + 8 * index, &entry.to_le_bytes());
            table += 0x1000;
        }
        ram
    }

    /// Its page tables.
    pub fn cr3(&self) -> u64 {
        self.at + PAGES_AT
    }

    /// All tables, one after the other, each aligned to 8 bytes.
    fn tables(&self) -> Vec<u8> {
        let (names, markers) = self.names();
        let count = u32::try_from(self.symbols.len()).unwrap_or(0).to_le_bytes().to_vec();
        let wide = matches!(self.layout, Layout::Whole | Layout::Wide);
        let markers = markers.iter().flat_map(|m| m.to_le_bytes().into_iter().take(if wide { 8 } else { 4 })).collect();
        let order = (0..3 * self.symbols.len()).map(|n| n.to_le_bytes()[0]).collect();
        let (tokens, index) = tokens();
        let base = self.text.to_le_bytes().to_vec();
        let later = matches!(self.layout, Layout::Late | Layout::Placed);
        let mut out = Vec::new();
        let mut add = |part: Vec<u8>| -> u64 {
            out.extend(part);
            out.resize(out.len().next_multiple_of(8), 0);
            self.at + TABLES + len(&out)
        };
        if self.layout == Layout::Whole {
            add(self.symbols.iter().flat_map(|(_, at)| (self.text + at).to_le_bytes()).collect());
        } else if !later {
            add(self.distances(0));
            add(base.clone());
        }
        for part in [count, names, markers] {
            add(part);
        }
        if self.layout == Layout::Ordered {
            add(order);
        }
        add(tokens);
        let next = add(index);
        if later {
            add(self.distances(next));
        }
        if self.layout == Layout::Late {
            add(base);
        }
        out
    }

    /// The table of distances, which lies at `place`.
    fn distances(&self, place: u64) -> Vec<u8> {
        let places = (place..).step_by(4).zip(&self.symbols);
        let distance = |(place, (_, at)): (u64, &(String, u64))| match self.layout {
            Layout::Placed => (self.at + at).wrapping_sub(place),
            _ if self.absolute => u64::MAX - at, // -1 - at
            _ => *at,
        };
        places.map(distance).flat_map(|d| d.to_le_bytes().into_iter().take(4)).collect()
    }

    /// The names, and where each 256th of them begins.
    fn names(&self) -> (Vec<u8>, Vec<u64>) {
        let (mut names, mut markers) = (Vec::new(), Vec::new());
        for (n, (name, _)) in self.symbols.iter().enumerate() {
            if n % 256 == 0 {
                markers.push(len(&names));
            }
            let name = name.replace("sys", "\u{1}").into_bytes();
            let [low, high, ..] = name.len().to_le_bytes();
            if name.len() < 0x80 {
                names.push(low);
            } else {
                names.extend([low | 0x80, high << 1 | low >> 7]);
            }
            names.extend(name);
        }
        (names, markers)
    }
}

/// Tokens that stand for themselves, except for one, and their index.
fn tokens() -> (Vec<u8>, Vec<u8>) {
    let (mut table, mut index) = (Vec::new(), Vec::new());
    for token in 0..=255_u8 {
        index.extend(table.len().to_le_bytes().into_iter().take(2));
        table.extend(match token {
            1 => b"sys".to_vec(),
            c if c.is_ascii_graphic() => vec![c],
            _ => b"__".to_vec(),
        });
        table.push(0);
    }
    (table, index)
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
