//! The hooks on breakpoints and watchpoints, by the number of the point: a change copies those of a few neighbours, however
//! many there are. It never knows hooks on anything else, but for those that follow in each chain.

use std::sync::Arc;

use super::table::Chain;
use super::{Hook, Subject, Trace};

/// Points per leaf.
const LEAF: usize = 256;

/// Chains by the numbers of points, in two levels.
#[derive(Clone, Debug, Default)]
pub(super) struct ByPoint {
    leaves: Vec<Option<Arc<Vec<Option<Chain>>>>>,
    /// Each trace that records hits, one of its hooks, and how many it has.
    traces: Vec<(Arc<Hook>, usize)>,
}

impl ByPoint {
    fn place(id: u32) -> (usize, usize) {
        let id = usize::try_from(id).unwrap_or(usize::MAX);
        (id / LEAF, id % LEAF)
    }

    pub(super) fn get(&self, id: u32) -> Option<&Chain> {
        let (leaf, place) = Self::place(id);
        self.leaves.get(leaf)?.as_ref()?[place].as_ref()
    }

    /// A hook for each trace that records hits.
    pub(super) fn traces(&self) -> impl Iterator<Item = &Arc<Hook>> {
        self.traces.iter().map(|(hook, _)| hook)
    }

    /// Are there none?
    pub(super) fn is_empty(&self) -> bool {
        self.leaves.iter().all(Option::is_none)
    }

    /// The hooks on that point alone, newest first.
    fn own(&self, id: u32) -> Vec<Arc<Hook>> {
        let is_own = |hook: &&Arc<Hook>| hook.subject == Subject::Point(id);
        self.get(id).map_or_else(Vec::new, |chain| chain.iter().filter(is_own).cloned().collect())
    }

    fn put(&mut self, id: u32, own: Vec<Arc<Hook>>, general: &[Arc<Hook>]) {
        let (leaf, place) = Self::place(id);
        if self.leaves.len() <= leaf {
            self.leaves.resize(leaf + 1, None);
        }
        let chains = Arc::make_mut(self.leaves[leaf].get_or_insert_with(|| Arc::new(vec![None; LEAF])));
        let is_wanted = !own.is_empty();
        chains[place] = is_wanted.then(|| own.into_iter().chain(general.iter().cloned()).collect());
        if !is_wanted && chains.iter().all(Option::is_none) {
            self.leaves[leaf] = None;
        }
    }

    /// Adds a hook on point `id`, before those that are there; those in `general` come behind.
    pub(super) fn add(&mut self, id: u32, hook: Arc<Hook>, general: &[Arc<Hook>]) {
        if let Some(trace) = hook.trace() {
            match self.traces.iter_mut().find(|(other, _)| is_of(other, trace)) {
                Some((_, n)) => *n += 1,
                None => self.traces.push((Arc::clone(&hook), 1)),
            }
        }
        let own = std::iter::once(hook).chain(self.own(id)).collect();
        self.put(id, own, general);
    }

    /// Removes a hook on point `id`. Says whether it was there.
    pub(super) fn remove(&mut self, id: u32, hook: &Arc<Hook>, general: &[Arc<Hook>]) -> bool {
        let mut own = self.own(id);
        let before = own.len();
        own.retain(|other| !Arc::ptr_eq(other, hook));
        if own.len() == before {
            return false;
        }
        if let Some(trace) = hook.trace() {
            self.traces.iter_mut().filter(|(other, _)| is_of(other, trace)).for_each(|(_, n)| *n -= 1);
            self.traces.retain(|(_, n)| *n > 0);
        }
        self.put(id, own, general);
        true
    }

    /// Has other hooks come behind those on each point.
    pub(super) fn follow(&mut self, general: &[Arc<Hook>]) {
        for (number, leaf) in self.leaves.iter_mut().enumerate() {
            let Some(leaf) = leaf else { continue };
            for (place, chain) in Arc::make_mut(leaf).iter_mut().enumerate() {
                let Some(chain) = chain else { continue };
                let id = u32::try_from(number * LEAF + place).unwrap_or(u32::MAX);
                let own = chain.iter().filter(|hook| hook.subject == Subject::Point(id));
                *chain = own.chain(general).cloned().collect();
            }
        }
    }
}

fn is_of(hook: &Hook, trace: &Arc<Trace>) -> bool {
    hook.trace().is_some_and(|other| Arc::ptr_eq(other, trace))
}
