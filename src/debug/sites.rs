//! The planted bytes of a machine, and whose they are, found without looking at the others. They never plant anything
//! themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::point::{Mechanism, Point};

/// What a planted byte is for, beside the points that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Nothing else.
    #[default]
    Points,
    /// It is the first of the guest's handler of that vector.
    Gate(u8),
}

/// One planted byte.
#[derive(Clone, Debug)]
pub struct Site {
    /// How it is noticed.
    pub mechanism: Mechanism,
    /// What else it is for.
    pub role: Role,
    /// The points that want it.
    pub points: Vec<Arc<Point>>,
}

/// Does a byte of this mechanism need the guest's #BP handler trapped, unless that is belljar's own?
fn needs_gate(mechanism: Mechanism) -> bool {
    matches!(mechanism, Mechanism::Gate | Mechanism::Shim)
}

/// All planted bytes, by guest-physical address.
#[derive(Debug, Default)]
pub(super) struct Sites {
    all: BTreeMap<u64, Site>,
    /// Where each point has its byte.
    places: HashMap<u32, u64>,
    /// The handlers of the guest's among them.
    gates: BTreeSet<u64>,
    /// How many there are of each mechanism.
    counts: HashMap<Mechanism, usize>,
    /// How many points need the guest's #BP handler trapped.
    gated: usize,
}

impl Sites {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn get(&self, at: u64) -> Option<&Site> {
        self.all.get(&at)
    }

    /// Is there a byte of this mechanism?
    pub(super) fn has(&self, mechanism: Mechanism) -> bool {
        self.counts.get(&mechanism).is_some_and(|n| *n > 0)
    }

    /// Does a point need the guest's #BP handler trapped?
    pub(super) fn want_gate(&self) -> bool {
        self.gated > 0
    }

    fn insert(&mut self, at: u64, mechanism: Mechanism) -> &mut Site {
        let counts = &mut self.counts;
        self.all.entry(at).or_insert_with(|| {
            *counts.entry(mechanism).or_default() += 1;
            Site { mechanism, role: Role::Points, points: Vec::new() }
        })
    }

    fn remove(&mut self, at: u64) -> Option<Site> {
        let site = self.all.remove(&at)?;
        self.gates.remove(&at);
        self.counts.entry(site.mechanism).and_modify(|n| *n = n.saturating_sub(1));
        for point in &site.points {
            self.places.remove(&point.id);
        }
        if needs_gate(site.mechanism) {
            self.gated = self.gated.saturating_sub(site.points.len());
        }
        Some(site)
    }

    /// Puts `point` at `at`; what notices it there.
    pub(super) fn take(&mut self, point: &Arc<Point>, at: u64, mechanism: Mechanism) -> Mechanism {
        let site = self.insert(at, mechanism);
        let (is_new, noticed) = (!site.points.iter().any(|other| Arc::ptr_eq(other, point)), site.mechanism);
        let told = if site.role == Role::Points { noticed } else { mechanism };
        if is_new {
            site.points.push(Arc::clone(point));
            self.places.insert(point.id, at);
            self.gated += usize::from(needs_gate(noticed));
        }
        told
    }

    /// Makes `at` the first byte of the handler of `vector`.
    pub(super) fn take_gate(&mut self, at: u64, vector: u8, mechanism: Mechanism) {
        self.insert(at, mechanism).role = Role::Gate(vector);
        self.gates.insert(at);
    }

    /// How many handlers of the guest's are trapped for their own sake, and which.
    pub(super) fn idle_gates(&self) -> Vec<u64> {
        let is_idle = |at: &&u64| self.all.get(at).is_some_and(|site| site.points.is_empty());
        self.gates.iter().filter(is_idle).copied().collect()
    }

    /// Forgets the bytes at `places`.
    pub(super) fn forget(&mut self, places: &[u64]) {
        for at in places {
            self.remove(*at);
        }
    }

    /// Forgets the bytes in memory that is gone, and says whose they were.
    pub(super) fn forget_those(&mut self, is_gone: impl Fn(u64) -> bool) -> Vec<Arc<Point>> {
        let gone: Vec<_> = self.all.keys().copied().filter(|at| is_gone(*at)).collect();
        gone.into_iter().filter_map(|at| self.remove(at)).flat_map(|site| site.points).collect()
    }

    /// Takes `point` away, and says which bytes nobody wants any more. A handler of the guest's is wanted while a point needs
    /// it, and where `is_wanted` says so of its vector.
    pub(super) fn drop(&mut self, point: &Point, is_wanted: impl Fn(u8) -> bool) -> Vec<u64> {
        let mut idle = Vec::new();
        if let Some(at) = self.places.remove(&point.id)
            && let Some(site) = self.all.get_mut(&at)
        {
            let before = site.points.len();
            site.points.retain(|other| other.id != point.id);
            if needs_gate(site.mechanism) {
                self.gated = self.gated.saturating_sub(before - site.points.len());
            }
            if site.points.is_empty() && site.role == Role::Points {
                idle.push(at);
            }
        }
        if !self.want_gate() {
            let vector = |at: &u64| match self.all.get(at).map(|site| site.role) {
                Some(Role::Gate(vector)) => vector,
                _ => 0,
            };
            idle.extend(self.idle_gates().into_iter().filter(|at| !is_wanted(vector(at))));
        }
        self.forget(&idle);
        idle
    }
}
