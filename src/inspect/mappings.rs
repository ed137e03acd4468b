//! All that a set of page tables maps, as ranges. It reads each table whole, visits a bounded number of them whatever they
//! hold (tables that point at themselves, tables that are everywhere), and never says that a part is all.

use std::collections::HashMap;
use std::ops::ControlFlow;

use crate::addr::GuestPhys;
use crate::error::{Error, Result};
use crate::source::ReadMemory;
use crate::x86::Space;
use crate::x86::regs::Paging;
use crate::x86::walk::{Rights, Step, step};

use super::space::{Poll, VirtualMemory};

/// So many tables are read in one tour: those of 256 GiB in pages of 4 KiB.
const MOST_TABLES: usize = 1 << 17;

/// So many where something is looked for: those of 64 GiB.
const MOST_SEARCHED: usize = 1 << 15;

/// So many ranges are kept.
const MOST_RANGES: usize = 1 << 18;

/// Bytes of a table.
const TABLE: usize = 0x1000;

/// A range of linear addresses with the same rights, in pages of the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// First address, as the processor writes it.
    pub start: u64,
    /// Last address.
    pub last: u64,
    /// Where its first page lies.
    pub gpa: GuestPhys,
    /// Its pages lie one behind the other.
    pub contiguous: bool,
    /// Bytes of a page.
    pub page_size: u64,
    /// What the entries on the way allow.
    pub rights: Rights,
}

/// What a tour has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mappings {
    /// The ranges, in the order of their addresses.
    pub ranges: Vec<Mapping>,
    /// Why there may be more, if there may be.
    pub cut: Option<Cut>,
}

/// Why a tour ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Too many tables.
    Tables(usize),
    /// Too many ranges.
    Ranges(usize),
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tables(most) => write!(f, "more than {most} page tables"),
            Self::Ranges(most) => write!(f, "more than {most} ranges"),
        }
    }
}

/// Which part of an address space is toured, and how far.
#[derive(Clone, Copy, Debug)]
pub struct Tour {
    /// First linear address.
    pub first: u64,
    /// Last linear address.
    pub last: u64,
    /// A range ends where the next page lies elsewhere.
    pub physical: bool,
    /// So many tables are read.
    pub most: usize,
}

impl Default for Tour {
    fn default() -> Self {
        Self { first: 0, last: u64::MAX, physical: false, most: MOST_TABLES }
    }
}

/// What ends a tour early.
enum Stop {
    Cut(Cut),
    Failed(Error),
}

/// What lies under a table.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Nothing,
    /// All of it is mapped, alike; the first range's start is where it was seen.
    Alike(Mapping),
    Mixed,
}

struct Tourist<'a, M: ReadMemory + ?Sized, V> {
    memory: &'a M,
    space: &'a Space,
    tour: Tour,
    poll: Poll<'a>,
    visit: V,
    tables: usize,
    /// Tables that were seen before, with the rights on the way there.
    seen: HashMap<(u8, u64, Rights), Shape>,
}

impl<M: ReadMemory + ?Sized, V: FnMut(Mapping) -> ControlFlow<Stop>> Tourist<'_, M, V> {
    fn wants(&self, start: u64, last: u64) -> bool {
        start <= self.tour.last && last >= self.tour.first
    }

    /// Visits what lies under `table`, which spans the linear addresses from `base` on.
    fn table(&mut self, level: u8, table: u64, base: u64, rights: Rights) -> ControlFlow<Stop, Shape> {
        let space = self.space;
        let whole = space.entries_at(level) << space.shift(level);
        let start = space.canonical(base);
        let inside = start >= self.tour.first && start.saturating_add(whole - 1) <= self.tour.last;
        match self.seen.get(&(level, table, rights)) {
            Some(Shape::Nothing) => return ControlFlow::Continue(Shape::Nothing),
            Some(Shape::Alike(known)) if inside && (known.contiguous || !self.tour.physical) => {
                let again = Mapping { start, last: start + (whole - 1), ..*known };
                (self.visit)(again)?;
                return ControlFlow::Continue(Shape::Alike(again));
            }
            _ => {}
        }
        let mut bytes = [0; TABLE];
        let shape = if self.read(level, table, &mut bytes)? {
            self.entries(level, &bytes, base, rights)?
        } else {
            Shape::Nothing
        };
        if inside {
            self.seen.insert((level, table, rights), shape);
        }
        ControlFlow::Continue(shape)
    }

    /// Reads a table, if there is memory where it lies and not too many came before.
    fn read(&mut self, level: u8, table: u64, bytes: &mut [u8; TABLE]) -> ControlFlow<Stop, bool> {
        if self.tables >= self.tour.most {
            return ControlFlow::Break(Stop::Cut(Cut::Tables(self.tour.most)));
        }
        self.tables += 1;
        if self.tables.is_multiple_of(64) {
            (self.poll)().map_or_else(|error| ControlFlow::Break(Stop::Failed(error)), ControlFlow::Continue)?;
        }
        let len = usize::try_from(self.space.entries_at(level) * self.space.entry_size()).unwrap_or(TABLE);
        ControlFlow::Continue(self.memory.read(GuestPhys(table), &mut bytes[..len]).is_ok())
    }

    fn entries(&mut self, level: u8, bytes: &[u8; TABLE], base: u64, rights: Rights) -> ControlFlow<Stop, Shape> {
        let space = self.space;
        let (span, width) = (1 << space.shift(level), if space.paging == Paging::Bits32 { 4 } else { 8 });
        let mut all: Option<Shape> = None;
        let count = usize::try_from(space.entries_at(level)).unwrap_or(0);
        for (index, entry) in (0_u64..).zip(bytes.chunks_exact(width).take(count)) {
            let mut word = [0; 8];
            word[..width].copy_from_slice(entry);
            let (value, linear) = (u64::from_le_bytes(word), base + index * span);
            let (start, rights) = (space.canonical(linear), rights.through(space, level, value));
            let last = start + (span - 1);
            let here = match step(space, level, value) {
                _ if !self.wants(start, last) => Shape::Mixed,
                Step::Table(next) => self.table(level - 1, next.0, linear, rights)?,
                Step::Leaf(gpa) => {
                    let leaf = Mapping { start, last, gpa, contiguous: true, page_size: span, rights };
                    (self.visit)(leaf)?;
                    Shape::Alike(leaf)
                }
                Step::Fault(_) => Shape::Nothing,
            };
            all = Some(all.map_or(here, |before| together(before, here)));
        }
        ControlFlow::Continue(all.unwrap_or(Shape::Nothing))
    }
}

/// What two neighbours are together.
fn together(before: Shape, here: Shape) -> Shape {
    match (before, here) {
        (Shape::Nothing, Shape::Nothing) => Shape::Nothing,
        (Shape::Alike(before), Shape::Alike(here)) => joined(&before, &here).map_or(Shape::Mixed, Shape::Alike),
        _ => Shape::Mixed,
    }
}

/// The two as one range, if they touch and are alike.
fn joined(before: &Mapping, next: &Mapping) -> Option<Mapping> {
    let alike = before.rights == next.rights && before.page_size == next.page_size;
    if !alike || before.last.checked_add(1) != Some(next.start) {
        return None;
    }
    let follows = before.gpa.0.checked_add(next.start - before.start) == Some(next.gpa.0);
    let contiguous = before.contiguous && next.contiguous && follows;
    Some(Mapping { last: next.last, contiguous, ..*before })
}

impl<M: ReadMemory + ?Sized> VirtualMemory<'_, M> {
    /// Visits every page, in the order of the addresses; many at once where a table was seen before.
    fn tour(
        &self,
        tour: Tour,
        poll: Poll<'_>,
        mut visit: impl FnMut(Mapping) -> ControlFlow<Stop>,
    ) -> Result<Option<Cut>> {
        let space = self.space();
        let done = if space.paging == Paging::Off {
            let all = Mapping {
                start: 0,
                last: 0xffff_ffff,
                gpa: GuestPhys(0),
                contiguous: true,
                page_size: crate::addr::PAGE,
                rights: Rights::ALL,
            };
            visit(all)
        } else {
            let (memory, seen) = (self.memory(), HashMap::new());
            let mut tourist = Tourist { memory, space, tour, poll, visit, tables: 0, seen };
            match tourist.table(space.levels(), space.root(), 0, Rights::ALL) {
                ControlFlow::Continue(_) => ControlFlow::Continue(()),
                ControlFlow::Break(stop) => ControlFlow::Break(stop),
            }
        };
        match done {
            ControlFlow::Continue(()) => Ok(None),
            ControlFlow::Break(Stop::Cut(cut)) => Ok(Some(cut)),
            ControlFlow::Break(Stop::Failed(error)) => Err(error),
        }
    }

    /// All that is mapped in a part of the address space: neighbours that are alike are one range.
    pub fn mappings(&self, tour: Tour, poll: Poll<'_>) -> Result<Mappings> {
        let mut ranges: Vec<Mapping> = Vec::new();
        let cut = self.tour(tour, poll, |next| {
            let one = ranges.last().and_then(|before| joined(before, &next));
            match one.filter(|one| one.contiguous || !tour.physical) {
                Some(one) => *ranges.last_mut().expect("it was joined to") = one,
                None if ranges.len() >= MOST_RANGES => return ControlFlow::Break(Stop::Cut(Cut::Ranges(MOST_RANGES))),
                None => ranges.push(next),
            }
            ControlFlow::Continue(())
        })?;
        Ok(Mappings { ranges, cut })
    }

    /// The linear addresses from `first` up to `end` that lead to memory, as wide as they touch; `backed` is where memory
    /// is, in order.
    pub fn stretches(&self, first: u64, end: u64, backed: &[(u64, u64)], poll: Poll<'_>) -> Result<Vec<(u64, u64)>> {
        let Some(last) = end.checked_sub(1).filter(|last| *last >= first) else { return Ok(Vec::new()) };
        let mut found: Vec<(u64, u64)> = Vec::new();
        let tour = Tour { first, last, physical: true, most: MOST_SEARCHED };
        let cut = self.tour(tour, poll, |leaf| {
            let stop = leaf.gpa.0.saturating_add(leaf.last - leaf.start).saturating_add(1);
            let begin = backed.partition_point(|(_, to)| *to <= leaf.gpa.0);
            for (from, to) in backed[begin..].iter().take_while(|(from, _)| *from < stop) {
                let start = leaf.start + from.saturating_sub(leaf.gpa.0);
                let stop = leaf.start.saturating_add(to.min(&stop) - leaf.gpa.0);
                if !add(&mut found, start.max(first), stop.min(end)) {
                    return ControlFlow::Break(Stop::Cut(Cut::Ranges(MOST_RANGES)));
                }
            }
            ControlFlow::Continue(())
        })?;
        match cut {
            None => Ok(found),
            Some(cut) => Err(Error::Invalid(format!("there are {cut}: give a start and an end"))),
        }
    }
}

/// Adds `start..stop` behind what is there, unless that is too much already.
fn add(found: &mut Vec<(u64, u64)>, start: u64, stop: u64) -> bool {
    match found.last_mut() {
        _ if start >= stop => true,
        Some((_, before)) if *before == start => {
            *before = stop;
            true
        }
        _ => {
            found.push((start, stop));
            found.len() < MOST_RANGES
        }
    }
}

/// The memory of an address space for whom only needs bytes at addresses, of whatever kind.
#[derive(Debug)]
pub struct Linear<'a, M: ReadMemory + ?Sized>(pub &'a VirtualMemory<'a, M>);

impl<M: ReadMemory + ?Sized> ReadMemory for Linear<'_, M> {
    fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<()> {
        self.0.read(crate::addr::GuestVirt(at.0), into)
    }
}
