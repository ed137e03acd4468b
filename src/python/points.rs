//! The breakpoints and watchpoints of a VM, remembered so that they can be listed: `vm.breakpoints`, `vm.watchpoints`.
//! They never plant or remove one.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use crate::addr::Span;
use crate::machine::Machine;

use super::breakpoint::{self, Breakpoint};
use super::vm::VM;
use super::watch::{self, Watchpoint};

/// One of them.
#[derive(Clone)]
pub enum Known {
    /// What `vm.breakpoint()` has planted.
    Breakpoint(breakpoint::Facts),
    /// What `vm.watch()` has planted.
    Watchpoint(watch::Facts),
}

impl Known {
    /// A word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Breakpoint(_) => "breakpoint",
            Self::Watchpoint(_) => "watchpoint",
        }
    }

    /// Its addresses.
    pub fn span(&self) -> Span {
        match self {
            Self::Breakpoint(facts) => facts.span(),
            Self::Watchpoint(facts) => facts.span(),
        }
    }

    fn is_there(&self, machine: &Machine) -> bool {
        match self {
            Self::Breakpoint(facts) => facts.is_there(),
            Self::Watchpoint(facts) => facts.is_there(machine),
        }
    }
}

/// All of a VM, by number. Nothing in it refers to the VM, or to anything of Python's.
#[derive(Default)]
pub struct KnownPoints(Mutex<BTreeMap<u32, Known>>);

/// How many are kept in mind before those are forgotten that have been removed.
const MANY: usize = 4096;

impl KnownPoints {
    /// Keeps in mind that `known` has been planted as number `id`. Where many are kept, now and then forgets the removed.
    pub fn remember(&self, machine: &Machine, id: u32, known: Known) {
        let mut points = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        points.insert(id, known);
        if points.len() >= MANY && points.len().is_power_of_two() {
            points.retain(|_, known| known.is_there(machine));
        }
    }

    /// Number `id`, if it is one of Python's.
    pub fn known(&self, id: u32) -> Option<Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// What number `id` is called in a representation.
    pub fn described(&self, id: u32) -> String {
        self.known(id).map_or_else(
            || format!("point {id}"),
            |known| format!("{} {id} at {:#x}", known.name(), known.span().first),
        )
    }

    /// Those that have not been removed.
    fn there(&self, machine: &Machine) -> Vec<(u32, Known)> {
        let points = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there = points.iter().filter(|(_, known)| known.is_there(machine));
        there.map(|(id, known)| (*id, known.clone())).collect()
    }
}

#[pymethods]
impl VM {
    /// The breakpoints that there are, by number, which their hits have as `id`: `vm.breakpoints[hit.id].remove()`.
    ///
    /// Those of traces and of gdb are not among them.
    #[getter]
    fn breakpoints(slf: &Bound<'_, Self>) -> PyResult<BTreeMap<u32, Breakpoint>> {
        let of = |(id, known)| match known {
            Known::Breakpoint(facts) => Some(facts.handle(slf).map(|handle| (id, handle))),
            Known::Watchpoint(_) => None,
        };
        slf.get().points.there(slf.get().machine()).into_iter().filter_map(of).collect()
    }

    /// The watchpoints that there are, by number, which their hits have as `id`.
    #[getter]
    fn watchpoints(slf: &Bound<'_, Self>) -> PyResult<BTreeMap<u32, Watchpoint>> {
        let of = |(id, known)| match known {
            Known::Watchpoint(facts) => Some(facts.handle(slf).map(|handle| (id, handle))),
            Known::Breakpoint(_) => None,
        };
        slf.get().points.there(slf.get().machine()).into_iter().filter_map(of).collect()
    }
}
