//! The points of a machine as its threads share them: one plan behind a lock, and a number that changes with it. They never
//! plant anything themselves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;

use super::outline::Outline;
use super::plan::Plan;
use super::point::{Point, Wish};
use super::sites::Site;

/// The points of one machine. Changing them takes effect before the next entry of every vCPU; kick those that run.
#[derive(Debug, Default)]
pub struct Points {
    generation: AtomicU64,
    current: Mutex<(Plan, u32)>,
}

impl Points {
    /// Changes with every change; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn current(&self) -> MutexGuard<'_, (Plan, u32)> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a vCPU keeps of this moment.
    pub fn outline(&self) -> Outline {
        self.current().0.outline()
    }

    /// The byte that is planted at guest-physical `at`.
    pub fn site(&self, at: u64) -> Option<Site> {
        self.current().0.site(at).cloned()
    }

    /// Looks at the plan. Not for long: who comes to a breakpoint waits for it.
    pub fn look<T>(&self, how: impl FnOnce(&Plan) -> T) -> T {
        how(&self.current().0)
    }

    /// Changes the plan; what `how` does beside that (planting the byte) is over before anybody else changes it.
    pub fn change<T>(&self, how: impl FnOnce(&mut Plan) -> Result<T>) -> Result<T> {
        let mut current = self.current();
        let result = how(&mut current.0);
        self.generation.fetch_add(1, Ordering::AcqRel);
        result
    }

    /// Adds a point, which is nowhere yet.
    pub fn add(&self, wish: Wish) -> Arc<Point> {
        let id = wish.id.unwrap_or_else(|| self.number());
        let mut current = self.current();
        let point = Arc::new(Point::new(id, wish));
        current.0.keep(&point);
        self.generation.fetch_add(1, Ordering::AcqRel);
        point
    }

    /// A number for a point that is kept elsewhere: numbers are a machine's, of whatever kind the points are.
    pub fn number(&self) -> u32 {
        let mut current = self.current();
        current.1 += 1;
        current.1
    }
}
