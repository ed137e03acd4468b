//! How often a run looks for signals: on each tick, unless looking takes so long that the guest would feel it. It never looks
//! itself, nor knows why it takes long (another thread of the interpreter computes).

use std::time::{Duration, Instant};

/// Looking takes at most one part in so many of the guest's time,
const SHARE: u32 = 100;

/// but is put off no longer than this.
const LONGEST: Duration = Duration::from_millis(200);

/// When to look next.
#[derive(Debug, Default)]
pub(super) struct Pace {
    next: Option<Instant>,
}

impl Pace {
    /// Is it time?
    pub(super) fn is_due(&self) -> bool {
        self.next.is_none_or(|next| Instant::now() >= next)
    }

    /// Looks, and sees how long that takes.
    pub(super) fn look<T>(&mut self, look: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = look();
        let done = Instant::now();
        self.next = Some(done + pause_after(done - begun));
        result
    }
}

/// How long to put off the next look, this one having taken so long.
fn pause_after(took: Duration) -> Duration {
    took.saturating_mul(SHARE).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_look_is_put_off_and_a_quick_one_is_not() {
        assert_eq!(pause_after(Duration::from_micros(1)), Duration::from_micros(100));
        assert_eq!(pause_after(Duration::from_millis(5)), LONGEST);
        assert_eq!(pause_after(Duration::MAX), LONGEST);
    }

    #[test]
    fn after_a_slow_look_the_next_one_is_not_due() {
        let mut pace = Pace::default();
        assert!(pace.is_due());
        pace.look(|| std::thread::sleep(Duration::from_millis(5)));
        assert!(!pace.is_due());
    }
}
