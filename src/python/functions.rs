//! The functions that a machine's hooks call, as a VM keeps them for the garbage collector and for lists: found by their hook
//! or their point at once, however many there are. It never calls one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pyo3::PyTraverseError;

use crate::hook::{Hook, Subject};

use super::hook::Function;

/// All of a VM, oldest first.
#[derive(Default)]
pub struct Functions(Mutex<State>);

#[derive(Default)]
struct State {
    all: BTreeMap<u64, (Weak<Hook>, Arc<Function>)>,
    /// The number of each hook, by where it lies: no other does while it is kept here.
    numbers: HashMap<usize, u64>,
    /// The number of the oldest hook of each point.
    of_points: HashMap<u32, u64>,
    next: u64,
}

impl Functions {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the function that `hook` calls.
    pub fn keep(&self, hook: &Arc<Hook>, function: Arc<Function>) {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.numbers.insert(Arc::as_ptr(hook).addr(), number);
        if let Subject::Point(id) = hook.subject {
            state.of_points.entry(id).or_insert(number);
        }
        state.all.insert(number, (Arc::downgrade(hook), function));
    }

    /// Lets go of the function that `hook` calls.
    pub fn forget(&self, hook: &Arc<Hook>) {
        let mut state = self.state();
        let number = state.numbers.remove(&Arc::as_ptr(hook).addr());
        let old = number.and_then(|number| state.all.remove(&number));
        if let Subject::Point(id) = hook.subject
            && state.of_points.get(&id).copied() == number
        {
            state.of_points.remove(&id);
        }
        drop(state);
        drop(old); // outside the lock: it may be the last reference to a function
    }

    /// The hooks that there are, each with its function.
    pub fn hooks(&self) -> Vec<(Arc<Hook>, Arc<Function>)> {
        let there = |(hook, function): &(Weak<Hook>, Arc<Function>)| Some((hook.upgrade()?, Arc::clone(function)));
        self.state().all.values().filter_map(there).collect()
    }

    /// The hook on point `id`, and its function.
    pub fn of_point(&self, id: u32) -> Option<(Arc<Hook>, Arc<Function>)> {
        let state = self.state();
        let (hook, function) = state.all.get(state.of_points.get(&id)?)?;
        Some((hook.upgrade()?, Arc::clone(function)))
    }

    /// Lets go of all.
    pub fn clear(&self) {
        let old = std::mem::take(&mut *self.state());
        drop(old);
    }

    /// Shows the garbage collector those functions of which the hooks have no other owner.
    pub fn traverse(
        &self,
        mut visit: impl FnMut(&Weak<Hook>, &Arc<Function>) -> Result<(), PyTraverseError>,
    ) -> Result<(), PyTraverseError> {
        let Ok(state) = self.0.try_lock() else { return Ok(()) };
        state.all.values().try_for_each(|(hook, function)| visit(hook, function))
    }
}
