//! Where a vCPU began to be stepped for a trace, and where its steps have led to: what lies before the first branch that
//! is recorded, and behind the last one. It keeps no step in between.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One vCPU's.
#[derive(Debug, Default)]
pub struct Trail {
    is_begun: AtomicBool,
    first: AtomicU64,
    now: AtomicU64,
}

impl Trail {
    /// The vCPU has executed the instruction at `from` and come to `to`. Called on its own thread, when the step has been
    /// recorded, if it is.
    pub fn step(&self, from: u64, to: u64) {
        if !self.is_begun.load(Ordering::Relaxed) {
            self.first.store(from, Ordering::Relaxed);
        }
        self.now.store(to, Ordering::Release);
        self.is_begun.store(true, Ordering::Release);
    }

    /// The first instruction that was executed, and where the vCPU has come to; `None` before the first step.
    pub fn ends(&self) -> Option<(u64, u64)> {
        let is_begun = self.is_begun.load(Ordering::Acquire);
        is_begun.then(|| (self.first.load(Ordering::Relaxed), self.now.load(Ordering::Acquire)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trail_is_from_its_first_step_to_where_the_last_one_led() {
        let trail = Trail::default();
        assert_eq!(trail.ends(), None);
        trail.step(0x1000, 0x1005);
        trail.step(0x1005, 0x2000);
        assert_eq!(trail.ends(), Some((0x1000, 0x2000)));
    }
}
