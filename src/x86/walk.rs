//! Page walks: linear to physical addresses through the guest's tables, with every entry on the way. They never write
//! accessed or dirty bits, allocate nothing, and end after at most five entries whatever the tables hold.

use std::fmt;

use super::pte;
use super::regs::Paging;
use super::space::Space;
use crate::addr::{GuestPhys, GuestVirt};

/// The most levels that there are.
pub const MOST_LEVELS: usize = 5;

/// Why an address does not translate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageFault {
    /// Bits above the linear address width are not copies of its top bit.
    NotCanonical,
    /// An entry at this level (1 is the last table) is not present.
    NotPresent {
        /// The level.
        level: u8,
    },
    /// A present entry at this level has a bit set that must be clear.
    Reserved {
        /// The level.
        level: u8,
        /// Those bits.
        bits: u64,
    },
    /// A table at this level lies where no memory is.
    Unbacked {
        /// The level.
        level: u8,
    },
}

/// A table entry that a walk has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its level: 1 is that of the last table.
    pub level: u8,
    /// Where it lies.
    pub at: GuestPhys,
    /// What it holds.
    pub value: u64,
}

/// What a linear address leads to, and what all entries on the way together allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The address, not of the page, but of the byte that was asked for.
    pub gpa: GuestPhys,
    /// Bytes of the page.
    pub size: u64,
    /// Writes are allowed (to ring 0: where CR0.WP is set).
    pub writable: bool,
    /// Ring 3 may touch it.
    pub user: bool,
    /// No entry forbids execution.
    pub executable: bool,
    /// It stays in the TLB when CR3 is loaded, where CR4.PGE is set.
    pub global: bool,
    /// The entry that maps it has been used.
    pub accessed: bool,
    /// It has been written.
    pub dirty: bool,
    /// Its protection key, where keys are on.
    pub key: Option<u8>,
}

/// One walk: how it ended, and which way it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The page, or why there is none.
    pub result: Result<Page, PageFault>,
    entries: [Entry; MOST_LEVELS],
    count: usize,
}

impl Walk {
    /// The entries that were read, from the root on; the last one is where it ended.
    pub fn entries(&self) -> &[Entry] {
        &self.entries[..self.count]
    }
}

/// What the entries so far allow, and what is below them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rights {
    /// All of them allow writes.
    pub writable: bool,
    /// All of them let ring 3 in.
    pub user: bool,
    /// None of them forbids execution.
    pub executable: bool,
}

impl Rights {
    /// Before any entry was read.
    pub const ALL: Self = Self { writable: true, user: true, executable: true };

    /// What is left after `entry`. The entries of a PAE root allow and forbid nothing (SDM vol. 3, table 4-8).
    #[must_use]
    pub fn through(self, space: &Space, level: u8, entry: u64) -> Self {
        if space.paging == Paging::Pae && level == 3 {
            return self;
        }
        let has_nx = space.paging != Paging::Bits32;
        Self {
            writable: self.writable && entry & pte::WRITE != 0,
            user: self.user && entry & pte::USER != 0,
            executable: self.executable && !(has_nx && entry & pte::NO_EXECUTE != 0),
        }
    }
}

/// What one entry of a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It names the next table.
    Table(GuestPhys),
    /// It maps the page that begins there.
    Leaf(GuestPhys),
    /// The walk ends.
    Fault(PageFault),
}

/// What `entry`, found at `level`, says (Intel SDM vol. 3, 4.3 to 4.5).
pub fn step(space: &Space, level: u8, entry: u64) -> Step {
    if entry & pte::PRESENT == 0 {
        return Step::Fault(PageFault::NotPresent { level });
    }
    let leaf = is_leaf(space, level, entry);
    match entry & reserved(space, level, leaf) {
        0 if leaf => Step::Leaf(frame(space, level, entry)),
        0 => Step::Table(GuestPhys(entry & if space.paging == Paging::Bits32 { 0xffff_f000 } else { pte::ADDRESS })),
        bits => Step::Fault(PageFault::Reserved { level, bits }),
    }
}

/// Walks the tables of `space` to `at`; `read` reads an entry of 4 or 8 bytes, or says that there is no memory.
pub fn walk(space: &Space, at: GuestVirt, mut read: impl FnMut(GuestPhys, u64) -> Option<u64>) -> Walk {
    let mut walk = Walk { result: Err(PageFault::NotCanonical), entries: [Entry::default(); MOST_LEVELS], count: 0 };
    if space.paging == Paging::Off {
        walk.result = Ok(unpaged(at));
        return walk;
    }
    let Some(linear) = linear(space, at.0) else { return walk };
    let (mut table, mut rights) = (space.root(), Rights::ALL);
    for level in (1..=space.levels()).rev() {
        let index = linear >> space.shift(level) & (space.entries_at(level) - 1);
        let place = GuestPhys(table + index * space.entry_size());
        let Some(value) = read(place, space.entry_size()) else {
            walk.result = Err(PageFault::Unbacked { level });
            return walk;
        };
        walk.entries[walk.count] = Entry { level, at: place, value };
        walk.count += 1;
        rights = rights.through(space, level, value);
        match step(space, level, value) {
            Step::Table(next) => table = next.0,
            Step::Leaf(base) => {
                let within = linear & ((1 << space.shift(level)) - 1);
                walk.result = Ok(page(space, level, GuestPhys(base.0 | within), value, rights));
                return walk;
            }
            Step::Fault(fault) => {
                walk.result = Err(fault);
                return walk;
            }
        }
    }
    walk
}

/// The page at `gpa` that the entry `value` of `level` maps.
pub fn page(space: &Space, level: u8, gpa: GuestPhys, value: u64, rights: Rights) -> Page {
    let key = u8::try_from(value >> 59 & 0xf).ok().filter(|_| space.keys);
    Page {
        gpa,
        size: 1 << space.shift(level),
        writable: rights.writable,
        user: rights.user,
        executable: rights.executable,
        global: value & pte::GLOBAL != 0,
        accessed: value & pte::ACCESSED != 0,
        dirty: value & pte::DIRTY != 0,
        key,
    }
}

/// Without paging, everything is where it is and nothing is forbidden.
fn unpaged(at: GuestVirt) -> Page {
    let yes = Rights::ALL;
    Page {
        gpa: GuestPhys(at.0 & 0xffff_ffff),
        size: crate::addr::PAGE,
        writable: yes.writable,
        user: yes.user,
        executable: yes.executable,
        global: false,
        accessed: false,
        dirty: false,
        key: None,
    }
}

/// The bits of `at` that are translated, if the rest is as it must be.
fn linear(space: &Space, at: u64) -> Option<u64> {
    let mask = (1 << space.linear_bits()) - 1;
    (space.linear_bits() == 32 || space.canonical(at) == at).then_some(at & mask)
}

fn is_leaf(space: &Space, level: u8, entry: u64) -> bool {
    let large = entry & pte::LARGE != 0;
    match (space.paging, level) {
        (_, 1) => true,
        (Paging::Bits32, 2) => large && space.pse,
        (Paging::Pae, 2) | (Paging::Level4 | Paging::Level5, 2 | 3) => large,
        _ => false,
    }
}

/// The bits of a present entry that must be clear (SDM vol. 3, 4.3 to 4.5, and tables 4-8 and 4-14 to 4-19).
fn reserved(space: &Space, level: u8, leaf: bool) -> u64 {
    let below = |bit: u32| (1_u64 << bit) - 1;
    let no_execute = if space.nxe { 0 } else { pte::NO_EXECUTE };
    let beyond = pte::ADDRESS & !below(space.physical_bits);
    let within = if leaf && level > 1 { below(space.shift(level)) & !below(13) } else { 0 };
    match (space.paging, level) {
        // Bits 20:13 are bits 39:32 of the address, as far as there are any.
        (Paging::Bits32, _) if leaf && level == 2 => below(22) & !below(space.physical_bits.min(40) - 32 + 13),
        (Paging::Off | Paging::Bits32, _) => 0,
        (Paging::Pae, 3) => beyond | 0b1_1110_0110 | !below(52),
        (Paging::Pae, _) => beyond | within | no_execute | below(63) & !below(52),
        (_, 4 | 5) => beyond | no_execute | pte::LARGE,
        _ => beyond | within | no_execute,
    }
}

/// The page that a leaf names (PSE-36 for 4 MiB pages: SDM vol. 3, table 4-4).
fn frame(space: &Space, level: u8, entry: u64) -> GuestPhys {
    let within = (1 << space.shift(level)) - 1;
    GuestPhys(match (space.paging, level) {
        (Paging::Bits32, 2) => (entry & 0xffc0_0000) | (entry >> 13 & 0xff) << 32,
        (Paging::Bits32, _) => entry & 0xffff_f000,
        _ => entry & pte::ADDRESS & !within,
    })
}

impl PageFault {
    /// The level at which the walk ended.
    pub fn level(self) -> Option<u8> {
        match self {
            Self::NotCanonical => None,
            Self::NotPresent { level } | Self::Reserved { level, .. } | Self::Unbacked { level } => Some(level),
        }
    }
}

impl fmt::Display for PageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCanonical => f.write_str("the address is not canonical"),
            Self::NotPresent { level } => write!(f, "not present (level {level})"),
            Self::Reserved { level, bits } => write!(f, "reserved bits {bits:#x} are set (level {level})"),
            Self::Unbacked { level } => write!(f, "the table is where no memory is (level {level})"),
        }
    }
}
