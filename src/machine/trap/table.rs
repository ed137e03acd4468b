//! What is watched, by page: from an access to the watches that it touches. Tables are values: a change makes a new one.
//! It never knows how KVM is told.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::addr::{GuestPhys, PAGE, Span, page_floor};
use crate::hook::Expression;
use crate::memory::RegionInfo;

/// Which accesses are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accesses {
    /// Reads.
    pub reads: bool,
    /// Writes.
    pub writes: bool,
    /// Executed instructions.
    pub executes: bool,
}

/// A part of a watch: contiguous in guest-physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its guest-physical addresses.
    pub span: Span,
    /// Its first byte, in the addresses that the watch was given.
    pub at: u64,
}

/// What a watch is to see, and what becomes of it.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// What is watched.
    pub accesses: Accesses,
    /// Accesses at which this does not hold are no hits.
    pub when: Option<Expression>,
    /// The first hit is the last.
    pub once: bool,
    /// A hit ends the run, if no hook says otherwise.
    pub stops: bool,
}

/// A watched range.
#[derive(Debug)]
pub struct Watch {
    /// The number that its hits carry.
    pub id: u32,
    /// Where it is.
    pub parts: Vec<Part>,
    /// What is watched there.
    pub accesses: Accesses,
    /// Accesses at which this does not hold are no hits.
    pub when: Option<Expression>,
    /// The first hit is the last.
    pub once: bool,
    /// A hit ends the run, if no hook says otherwise.
    pub stops: bool,
    enabled: AtomicBool,
    hits: AtomicU64,
}

impl Watch {
    pub(super) fn new(id: u32, parts: Vec<Part>, terms: Terms) -> Self {
        let Terms { accesses, when, once, stops } = terms;
        let (enabled, hits) = (AtomicBool::new(true), AtomicU64::new(0));
        Self { id, parts, accesses, when, once, stops, enabled, hits }
    }

    /// How often it was hit.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// It is hit; false if it is to be hit once, and has been.
    pub fn hit(&self) -> bool {
        if self.once && !self.enabled.swap(false, Ordering::Relaxed) {
            return false;
        }
        self.hits.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// How its pages are trapped.
    pub fn kind(&self) -> Kind {
        if self.accesses.reads || self.accesses.executes { Kind::Hole } else { Kind::ReadOnly }
    }

    /// Are there hits?
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Switches it on or off; its pages stay trapped.
    pub fn enable(&self, yes: bool) {
        self.enabled.store(yes, Ordering::Relaxed);
    }

    fn wants(&self, access: Access) -> bool {
        self.is_enabled()
            && match access {
                Access::Read => self.accesses.reads,
                Access::Write => self.accesses.writes,
                Access::Execute => self.accesses.executes,
            }
    }
}

/// What the guest does to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads.
    Read,
    /// It writes.
    Write,
    /// It executes.
    Execute,
}

/// How a page is trapped. A hole catches all that a read-only slot does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The slot is read-only: writes exit.
    ReadOnly,
    /// There is no slot: all accesses exit.
    Hole,
}

#[derive(Clone, Debug)]
struct Page {
    kind: Kind,
    /// The watches that have bytes in it, each with one of its parts.
    watches: Vec<(Arc<Watch>, Part)>,
}

/// All watches, by page.
#[derive(Clone, Debug, Default)]
pub struct Table {
    watches: Vec<Arc<Watch>>,
    pages: BTreeMap<u64, Page>,
}

impl Table {
    pub(super) fn new(watches: Vec<Arc<Watch>>) -> Self {
        let mut pages: BTreeMap<u64, Page> = BTreeMap::new();
        for watch in &watches {
            for part in &watch.parts {
                let mut at = page_floor(part.span.first);
                while at <= part.span.last {
                    let page = pages.entry(at).or_insert(Page { kind: Kind::ReadOnly, watches: Vec::new() });
                    page.kind = page.kind.max(watch.kind());
                    page.watches.push((Arc::clone(watch), *part));
                    at += PAGE;
                }
            }
        }
        Self { watches, pages }
    }

    /// All watches, oldest first.
    pub fn watches(&self) -> &[Arc<Watch>] {
        &self.watches
    }

    /// How the page that holds `at` is trapped, if it is.
    pub fn kind_at(&self, at: GuestPhys) -> Option<Kind> {
        self.pages.get(&page_floor(at.0)).map(|page| page.kind)
    }

    /// The trapped pages of `region`, in order.
    pub(super) fn pages_in(&self, region: &RegionInfo) -> impl Iterator<Item = (u64, Kind)> {
        let range = (Bound::Included(region.at.0), Bound::Excluded(region.end().0));
        self.pages.range(range).map(|(at, page)| (*at, page.kind))
    }

    /// The watches that want `access` to the `len` bytes at `at`, which lie in one page: each with the bytes of it that are
    /// touched, and the first of them in its own addresses. Oldest first.
    pub fn touched(&self, at: GuestPhys, len: u64, access: Access) -> Vec<(Arc<Watch>, Span, u64)> {
        let Some(page) = self.pages.get(&page_floor(at.0)) else { return Vec::new() };
        let last = at.0 + (len.max(1) - 1);
        let touched = |(watch, part): &(Arc<Watch>, Part)| {
            let span = Span { first: part.span.first.max(at.0), last: part.span.last.min(last) };
            let is_touched = span.first <= span.last && watch.wants(access);
            is_touched.then(|| (Arc::clone(watch), span, part.at.wrapping_add(span.first - part.span.first)))
        };
        page.watches.iter().filter_map(touched).collect()
    }
}
