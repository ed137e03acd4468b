//! The system's monotonic clock, from the time-stamp counter: what the run has read anyway becomes nanoseconds.
//! It never asks the system for an event; it does so once a second at most, to follow its clock.
//!
//! Between two such moments the clock is a straight line through an anchor, with the slope that was seen before it. A line is used
//! for four times as long as its slope was measured, up to a second: it is off by a few times what one look at both clocks is off.

#![allow(unsafe_code)] // the two clocks are an instruction and a system call without a safe interface

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// The longest time that a line is used for, in nanoseconds.
const LONGEST: u64 = 1_000_000_000;

/// A slope is 2^32 times what a tick is worth in nanoseconds.
const UNIT: u32 = 32;

/// The line, written by whoever finds it too old, and read by all: its version is odd while it is being written.
#[derive(Debug)]
struct Line {
    version: AtomicU64,
    ticks: AtomicU64,
    nanoseconds: AtomicU64,
    slope: AtomicU64,
    /// For so many ticks after the anchor.
    span: AtomicU64,
}

static LINE: Line = Line {
    version: AtomicU64::new(0),
    ticks: AtomicU64::new(0),
    nanoseconds: AtomicU64::new(0),
    slope: AtomicU64::new(0),
    span: AtomicU64::new(0),
};

/// The time-stamp counter.
pub fn ticks() -> u64 {
    // SAFETY: every processor with KVM has the instruction, and user space may execute it (Linux's default).
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// CLOCK_MONOTONIC, in nanoseconds.
fn system() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours to fill.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Both clocks at one moment: of a few looks, the one that took the least time.
fn both() -> (u64, u64) {
    let look = |_| {
        let (before, nanoseconds, after) = (ticks(), system(), ticks());
        (after.wrapping_sub(before), before.midpoint(after), nanoseconds)
    };
    let (_, ticks, nanoseconds) = (0..4).map(look).min().unwrap_or_default();
    (ticks, nanoseconds)
}

/// CLOCK_MONOTONIC when the time-stamp counter was `ticks`, a moment ago.
pub fn nanoseconds(ticks: u64) -> u64 {
    match LINE.at(ticks) {
        Some((nanoseconds, true)) => nanoseconds,
        _ => LINE.follow(ticks),
    }
}

impl Line {
    /// What the line says, and whether it may still be asked; nothing while it is being written.
    fn at(&self, ticks: u64) -> Option<(u64, bool)> {
        let version = self.version.load(Ordering::Acquire);
        let [anchor, nanoseconds, slope, span] =
            [&self.ticks, &self.nanoseconds, &self.slope, &self.span].map(|word| word.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        if !version.is_multiple_of(2) || self.version.load(Ordering::Relaxed) != version {
            return None;
        }
        let passed = ticks.wrapping_sub(anchor).cast_signed(); // before the anchor, where another vCPU has moved it
        if let Ok(passed) = u64::try_from(passed) {
            let since = (u128::from(passed) * u128::from(slope)) >> UNIT;
            let since = u64::try_from(since).unwrap_or(u64::MAX);
            return Some((nanoseconds.saturating_add(since), passed < span));
        }
        let since = (i128::from(passed) * i128::from(slope)) >> UNIT;
        Some((u64::try_from(i128::from(nanoseconds) + since).unwrap_or(0), true))
    }

    /// Draws the line anew, if nobody else does, and says what it is at `ticks`.
    #[cold]
    fn follow(&self, ticks: u64) -> u64 {
        let version = self.version.load(Ordering::Relaxed);
        let is_ours = version.is_multiple_of(2)
            && self.version.compare_exchange(version, version + 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if !is_ours {
            return system();
        }
        fence(Ordering::Release);
        self.draw();
        self.version.store(version + 2, Ordering::Release);
        self.at(ticks).map_or_else(system, |(nanoseconds, _)| nanoseconds)
    }

    /// Only for who has made the version odd.
    fn draw(&self) {
        let [anchor, then, slope] = [&self.ticks, &self.nanoseconds, &self.slope].map(|w| w.load(Ordering::Relaxed));
        let (mut from, mut at) = ((anchor, then), both());
        if anchor == 0 {
            from = at;
            while at.1 - from.1 < 1_000_000 {
                at = both(); // once in a process: a slope needs two points
            }
        }
        let passed = at.0.wrapping_sub(from.0).max(1);
        let expected = u128::from(then) + ((u128::from(passed) * u128::from(slope)) >> UNIT);
        let measured = at.1.saturating_sub(from.1);
        let slope = (u128::from(measured) << UNIT) / u128::from(passed);
        let span = u128::from(passed) * u128::from((measured * 4).min(LONGEST)) / u128::from(measured.max(1));
        let narrow = |wide: u128| u64::try_from(wide).unwrap_or(u64::MAX);
        self.ticks.store(at.0, Ordering::Relaxed);
        // Never back: records are in the order of their times.
        self.nanoseconds.store(if anchor == 0 { at.1 } else { at.1.max(narrow(expected)) }, Ordering::Relaxed);
        self.slope.store(narrow(slope), Ordering::Relaxed);
        self.span.store(narrow(span), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_says_the_systems_time_and_never_goes_back() {
        let (mut last, begin) = (0, system());
        while system() - begin < 30_000_000 {
            let (before, now) = (system(), nanoseconds(ticks()));
            let after = system();
            assert!(now >= last, "{now} after {last}");
            assert!(now + 20_000 > before && now < after + 20_000, "{before} {now} {after}");
            last = now;
        }
    }

    #[test]
    fn several_threads_see_one_line() {
        let see = || {
            let mut last = 0;
            for _ in 0..100_000 {
                let now = nanoseconds(ticks());
                assert!(now + 1000 > last); // a thread that finds it being written asks the system
                last = now;
            }
        };
        std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(see))));
    }
}
