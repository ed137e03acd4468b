//! From an exit to the hooks that want it, in a time that does not grow with their number.
//! Tables are values: a change makes new ones, and a vCPU keeps what it looked up.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::exit::{Exit, ExitKind};

use super::by_point::ByPoint;
use super::{Hook, Subject};

/// The hooks that want the same exits, newest first.
pub(super) type Chain = Arc<[Arc<Hook>]>;

/// Ports per leaf of the port table.
const LEAF: usize = 256;

/// All hooks, arranged for look-up.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// By port: two levels, so that a machine without port hooks holds nothing, and a change copies one leaf.
    ports: Vec<Option<Arc<Vec<Option<Chain>>>>>,
    mmio: Ranges,
    msrs: Ranges,
    /// By the number of a breakpoint or watchpoint.
    points: ByPoint,
    /// By kind; nothing at all where nobody wants a kind.
    kinds: Vec<Option<Chain>>,
    /// Every hook but those on points, oldest first: what the tables are made from.
    all: Vec<Arc<Hook>>,
    /// Those that only record, in tables of their own: they see what others answer, and cost nothing where none are.
    traces: Option<Arc<Self>>,
}

/// Disjoint ranges of numbers in order, each with its chain.
#[derive(Clone, Debug, Default)]
struct Ranges(Arc<[(u64, u64, Chain)]>);

impl Ranges {
    fn get(&self, number: u64) -> Option<&Chain> {
        let after = self.0.partition_point(|(first, ..)| *first <= number);
        let (_, last, chain) = self.0.get(after.checked_sub(1)?)?;
        (number <= *last).then_some(chain)
    }

    /// Splits the hooks' spans at each other's ends, so that each piece has one chain.
    fn build<'a>(hooks: impl Iterator<Item = (u64, u64, &'a Arc<Hook>)>) -> Self {
        let hooks: Vec<_> = hooks.collect();
        let begins = hooks.iter().enumerate().map(|(n, (first, ..))| (*first, n));
        let ends = hooks.iter().enumerate().filter_map(|(n, (_, last, _))| Some((last.checked_add(1)?, n)));
        let mut edges: Vec<_> = begins.chain(ends).collect();
        edges.sort_unstable();
        let (mut pieces, mut open, mut from) = (Vec::new(), BTreeSet::new(), 0);
        let chain = |open: &BTreeSet<usize>| open.iter().rev().map(|n| Arc::clone(hooks[*n].2)).collect();
        for (at, n) in edges {
            if from < at && !open.is_empty() {
                pieces.push((from, at - 1, chain(&open)));
            }
            from = at;
            if !open.insert(n) {
                open.remove(&n);
            }
        }
        if !open.is_empty() {
            pieces.push((from, u64::MAX, chain(&open)));
        }
        Self(pieces.into())
    }
}

impl Tables {
    /// Are there no hooks at all?
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.points.is_empty()
    }

    /// The hooks for this exit, newest first.
    pub fn find(&self, exit: &Exit) -> Option<&Chain> {
        let specific = match exit {
            Exit::PortIn { port, .. } | Exit::PortOut { port, .. } | Exit::PortStringIn { port, .. } => {
                self.port(*port)
            }
            Exit::PortStringOut(string) => self.port(string.port),
            Exit::MmioRead { at, .. } | Exit::MmioWrite { at, .. } => self.mmio.get(at.0),
            Exit::MsrRead { index, .. } | Exit::MsrWrite { index, .. } => self.msrs.get(u64::from(*index)),
            Exit::Breakpoint { id, .. } => self.points.get(*id),
            Exit::Watchpoint(watched) => self.points.get(watched.id),
            _ => None,
        };
        specific.or_else(|| self.kinds.get(exit.kind().index())?.as_ref())
    }

    #[inline]
    fn port(&self, port: u16) -> Option<&Chain> {
        let port = usize::from(port);
        self.ports.get(port / LEAF)?.as_ref()?[port % LEAF].as_ref()
    }

    /// Is there nobody to be asked about an access to `port`, of one element and of kind `kind`?
    #[inline]
    pub fn ignore(&self, port: u16, kind: ExitKind) -> bool {
        self.port(port).is_none() && self.kinds.get(kind.index()).is_none_or(Option::is_none)
    }

    /// Those that only record, if there are any.
    pub fn traces(&self) -> Option<&Self> {
        self.traces.as_deref()
    }

    /// Every hook, oldest first, but for those that only record and those on points.
    pub fn all(&self) -> &[Arc<Hook>] {
        &self.all
    }

    /// A hook for each trace that there is, or more.
    pub fn recorders(&self) -> impl Iterator<Item = &Arc<Hook>> {
        self.all.iter().chain(self.points.traces())
    }

    /// The MSRs that hooks want: span, reads, writes.
    pub fn watched_msrs(&self) -> Vec<(crate::addr::Span, bool, bool)> {
        let span = |h: &Arc<Hook>| match h.subject {
            Subject::Msr(span) => Some((span, h.wanted.reads, h.wanted.writes)),
            _ => None,
        };
        let traced = self.traces().map_or_else(Vec::new, Self::watched_msrs);
        self.all.iter().filter_map(span).chain(traced).collect()
    }

    /// Changes the tables that `hook` belongs in, and drops those of traces with the last one.
    pub(super) fn change<T>(&mut self, hook: &Arc<Hook>, how: impl FnOnce(&mut Self) -> T) -> T {
        if hook.trace().is_none() {
            return how(self);
        }
        let result = how(Arc::make_mut(self.traces.get_or_insert_default()));
        self.traces.take_if(|traces| traces.is_empty());
        result
    }

    pub(super) fn add(&mut self, hook: Arc<Hook>) {
        let subject = hook.subject;
        if let Subject::Point(id) = subject {
            return self.points.add(id, hook, &self.general(POINT_KINDS));
        }
        self.all.push(hook);
        self.rebuild(subject);
    }

    pub(super) fn remove(&mut self, hook: &Arc<Hook>) -> bool {
        if let Subject::Point(id) = hook.subject {
            return self.points.remove(id, hook, &self.general(POINT_KINDS));
        }
        let before = self.all.len();
        self.all.retain(|h| !Arc::ptr_eq(h, hook));
        self.rebuild(hook.subject);
        self.all.len() != before
    }

    /// Makes anew what a change of a hook on `subject` touches.
    fn rebuild(&mut self, subject: Subject) {
        match subject {
            Subject::Port(span) => self.rebuild_ports(span.first, span.last),
            Subject::Mmio(_) => self.mmio = self.rebuild_mmio(),
            Subject::Msr(_) => self.msrs = self.rebuild_msrs(),
            Subject::Point(_) => {}
            Subject::Kind(_) | Subject::Any => {
                self.rebuild_kinds();
                self.rebuild_ports(0, 0xffff);
                self.mmio = self.rebuild_mmio();
                self.msrs = self.rebuild_msrs();
                self.points.follow(&self.general(POINT_KINDS));
            }
        }
    }

    fn rebuild_kinds(&mut self) {
        let wants = |h: &Arc<Hook>, kind| matches!(h.subject, Subject::Any) || h.subject == Subject::Kind(kind);
        let of = |kind: &ExitKind| chain(self.all.iter().filter(|h| wants(h, *kind)));
        self.kinds = ExitKind::ALL.iter().map(of).collect();
    }

    fn rebuild_ports(&mut self, first: u64, last: u64) {
        let hooks: Vec<_> = self.all.iter().filter(|h| matches!(h.subject, Subject::Port(_))).cloned().collect();
        let ranges = Ranges::build(hooks.iter().filter_map(|h| match h.subject {
            Subject::Port(span) => Some((span.first, span.last, h)),
            _ => None,
        }));
        let general = self.general(PORT_KINDS);
        let to_index = |n: u64| usize::try_from(n).unwrap_or(0);
        self.ports.resize(0x10000 / LEAF, None);
        for leaf in to_index(first) / LEAF..=to_index(last) / LEAF {
            let chains: Vec<_> = (leaf * LEAF..(leaf + 1) * LEAF)
                .map(|port| u64::try_from(port).ok().and_then(|p| ranges.get(p)).map(|c| with_general(c, &general)))
                .collect();
            self.ports[leaf] = chains.iter().any(Option::is_some).then(|| Arc::new(chains));
        }
    }

    fn rebuild_mmio(&self) -> Ranges {
        self.with_general_ranges(MMIO_KINDS, |s| match s {
            Subject::Mmio(span) => Some((span.first, span.last)),
            _ => None,
        })
    }

    fn rebuild_msrs(&self) -> Ranges {
        self.with_general_ranges(MSR_KINDS, |s| match s {
            Subject::Msr(span) => Some((span.first, span.last)),
            _ => None,
        })
    }

    fn with_general_ranges(&self, kinds: &[ExitKind], span: impl Fn(Subject) -> Option<(u64, u64)>) -> Ranges {
        let ranges = Ranges::build(self.all.iter().filter_map(|h| span(h.subject).map(|(a, b)| (a, b, h))));
        let general = self.general(kinds);
        Ranges(ranges.0.iter().map(|(a, b, c)| (*a, *b, with_general(c, &general))).collect())
    }

    /// The hooks on whole kinds of exit, newest first.
    fn general(&self, kinds: &[ExitKind]) -> Vec<Arc<Hook>> {
        let wants = |h: &&Arc<Hook>| match h.subject {
            Subject::Any => true,
            Subject::Kind(kind) => kinds.contains(&kind),
            _ => false,
        };
        self.all.iter().rev().filter(wants).cloned().collect()
    }
}

/// A chain for a place, completed by the hooks on whole kinds of exit.
fn with_general(specific: &Chain, general: &[Arc<Hook>]) -> Chain {
    if general.is_empty() { Arc::clone(specific) } else { specific.iter().chain(general).cloned().collect() }
}

fn chain<'a>(hooks: impl DoubleEndedIterator<Item = &'a Arc<Hook>>) -> Option<Chain> {
    let chain: Chain = hooks.rev().cloned().collect();
    (!chain.is_empty()).then_some(chain)
}

const PORT_KINDS: &[ExitKind] = &[ExitKind::PortIn, ExitKind::PortOut, ExitKind::PortStringIn, ExitKind::PortStringOut];
const MMIO_KINDS: &[ExitKind] = &[ExitKind::MmioRead, ExitKind::MmioWrite];
const MSR_KINDS: &[ExitKind] = &[ExitKind::MsrRead, ExitKind::MsrWrite];
const POINT_KINDS: &[ExitKind] = &[ExitKind::Breakpoint, ExitKind::Watchpoint];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Callback, Column, Hooks, Policy, Trace, Wanted};
    use super::*;
    use crate::addr::{GuestPhys, Span};
    use crate::error::Result;
    use crate::exit::Reply;

    struct Nothing;

    impl Callback for Nothing {
        fn call(&self, _: &Exit, _: u32) -> Result<Reply> {
            Ok(Reply::Default)
        }
    }

    fn hook(subject: Subject) -> Arc<Hook> {
        Hook::new(subject, Wanted::ALL, None, Box::new(Nothing))
    }

    fn span(first: u64, len: u64) -> Span {
        Span::new(first, len, u64::MAX).expect("small")
    }

    proptest! {
        #[test]
        fn every_port_finds_the_hooks_that_cover_it_newest_first(
            spans in prop::collection::vec((0u64..600, 1u64..300), 0..12),
            drop_at: prop::sample::Index,
            probe in 0u16..1000,
        ) {
            let hooks = Hooks::default();
            let mut kept: Vec<_> = spans.iter().map(|(a, n)| hook(Subject::Port(span(*a, *n)))).collect();
            for hook in &kept {
                hooks.add(Arc::clone(hook));
            }
            if !kept.is_empty() {
                let gone = kept.remove(drop_at.index(kept.len()));
                prop_assert!(hooks.remove(&gone));
                prop_assert!(!hooks.remove(&gone));
            }
            let covers = |h: &&Arc<Hook>| matches!(h.subject, Subject::Port(s) if s.contains(u64::from(probe)));
            let expected: Vec<_> = kept.iter().rev().filter(covers).map(Arc::as_ptr).collect();
            let tables = hooks.tables();
            let found = tables.find(&Exit::PortIn { port: probe, size: 1 });
            let found: Vec<_> = found.into_iter().flat_map(|c| c.iter().map(Arc::as_ptr)).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn every_address_finds_the_hooks_that_cover_it(
            spans in prop::collection::vec((0u64..600, 1u64..300), 0..12), probe in 0u64..1000,
        ) {
            let hooks = Hooks::default();
            let all: Vec<_> = spans.iter().map(|(a, n)| hook(Subject::Mmio(span(*a, *n)))).collect();
            for hook in &all {
                hooks.add(Arc::clone(hook));
            }
            let covers = |h: &&Arc<Hook>| matches!(h.subject, Subject::Mmio(s) if s.contains(probe));
            let expected: Vec<_> = all.iter().rev().filter(covers).map(Arc::as_ptr).collect();
            let tables = hooks.tables();
            let found = tables.find(&Exit::MmioRead { at: GuestPhys(probe), size: 4 });
            let found: Vec<_> = found.into_iter().flat_map(|c| c.iter().map(Arc::as_ptr)).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_point_finds_its_own_hooks_newest_first_and_then_those_on_all_hits() {
        let hooks = Hooks::default();
        let own: Vec<_> = [7, 7, 300].map(|id| hook(Subject::Point(id))).into();
        for hook in &own {
            hooks.add(Arc::clone(hook));
        }
        let all = hook(Subject::Kind(ExitKind::Breakpoint));
        hooks.add(Arc::clone(&all));
        let found = |id| {
            let chain = hooks.tables().find(&Exit::Breakpoint { id, at: 0 }).cloned();
            chain.map_or_else(Vec::new, |chain| chain.iter().map(Arc::as_ptr).collect())
        };
        let expected = |hooks: &[&Arc<Hook>]| hooks.iter().map(|hook| Arc::as_ptr(hook)).collect::<Vec<_>>();
        assert_eq!(found(7), expected(&[&own[1], &own[0], &all]));
        assert_eq!((found(300), found(8)), (expected(&[&own[2], &all]), expected(&[&all])));
        assert!(hooks.remove(&own[1]) && !hooks.remove(&own[1]) && hooks.remove(&all));
        assert_eq!((found(7), found(300)), (expected(&[&own[0]]), expected(&[&own[2]])));
        assert!(hooks.remove(&own[0]) && hooks.remove(&own[2]));
        assert!(found(7).is_empty() && hooks.tables().is_empty());
    }

    #[test]
    fn another_points_hook_copies_a_few_neighbours_alone() {
        let hooks = Hooks::default();
        (0..10_000).for_each(|id| hooks.add(hook(Subject::Point(id))));
        let before = hooks.tables();
        hooks.add(hook(Subject::Point(5_000)));
        let after = hooks.tables();
        let is_same = |id: &u32| {
            let [old, new] = [&before, &after].map(|tables| tables.find(&Exit::Breakpoint { id: *id, at: 0 }));
            old.zip(new).is_some_and(|(old, new)| std::ptr::eq(old, new)) // the very same place in the very same leaf
        };
        assert_eq!((0..10_000).filter(is_same).count(), 10_000 - 256);
    }

    #[test]
    fn a_trace_of_many_points_is_told_of_once() {
        let hooks = Hooks::default();
        let trace = Trace::new(vec![Column::Kind], &[Subject::Any], 1, 8, Policy::Drop).expect("small");
        let record = |id| Hook::recording(Subject::Point(id), Wanted::ALL, None, Arc::clone(&trace));
        let all: Vec<_> = (0..1000).map(record).collect();
        for hook in &all {
            hooks.add(Arc::clone(hook));
        }
        assert_eq!(hooks.tables().traces().map(|traces| traces.recorders().count()), Some(1));
        assert!(all.iter().all(|hook| hooks.remove(hook)));
        assert!(hooks.tables().traces().is_none());
    }

    #[test]
    fn hooks_on_a_kind_come_after_those_on_a_place() {
        let hooks = Hooks::default();
        let (general, special) = (hook(Subject::Kind(ExitKind::PortOut)), hook(Subject::Port(span(5, 1))));
        hooks.add(Arc::clone(&special));
        hooks.add(Arc::clone(&general));
        let tables = hooks.tables();
        let at = |port| tables.find(&Exit::PortOut { port, size: 1, data: 0 }).map_or(0, |c| c.len());
        assert_eq!((at(5), at(6)), (2, 1));
        assert!(tables.find(&Exit::Hlt).is_none());
    }

    #[test]
    fn traces_are_found_apart_and_their_msrs_are_watched() {
        let hooks = Hooks::default();
        let trace = Trace::new(vec![Column::Kind], &[Subject::Any], 1, 8, Policy::Drop).expect("small");
        let record = |subject| Hook::recording(subject, Wanted::ALL, None, Arc::clone(&trace));
        let (port, msr) = (record(Subject::Port(span(5, 1))), record(Subject::Msr(span(9, 1))));
        hooks.add(hook(Subject::Port(span(5, 1))));
        assert!(hooks.tables().traces().is_none());
        hooks.add(Arc::clone(&port));
        hooks.add(Arc::clone(&msr));
        let (tables, exit) = (hooks.tables(), Exit::PortIn { port: 5, size: 1 });
        assert!(tables.find(&exit).is_some_and(|chain| chain.iter().all(|hook| hook.trace().is_none())));
        assert!(tables.traces().and_then(|t| t.find(&exit)).is_some_and(|chain| Arc::ptr_eq(&chain[0], &port)));
        assert_eq!(tables.watched_msrs(), [(span(9, 1), true, true)]);
        assert!(hooks.remove(&port) && hooks.remove(&msr) && !hooks.remove(&msr));
        assert!(hooks.tables().traces().is_none());
    }
}
