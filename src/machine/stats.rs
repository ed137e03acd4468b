//! How often each kind of exit came, and where the time went. It never decides anything.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::exit::ExitKind;
use crate::hook::ticks;

/// What one vCPU has done. Written by the thread that runs it, read by anybody.
#[derive(Debug)]
pub struct Counters {
    exits: [AtomicU64; ExitKind::COUNT],
    repairs: AtomicU64,
    guest: AtomicU64,
    native: AtomicU64,
    handlers: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        epoch();
        Self {
            exits: std::array::from_fn(|_| AtomicU64::new(0)),
            repairs: AtomicU64::new(0),
            guest: AtomicU64::new(0),
            native: AtomicU64::new(0),
            handlers: AtomicU64::new(0),
        }
    }
}

/// What [`Counters`] said at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// Exits by kind, in the order of [`ExitKind::ALL`].
    pub exits: Vec<u64>,
    /// Instructions that were executed in KVM's place.
    pub repairs: u64,
    /// Time in `KVM_RUN`.
    pub guest: Duration,
    /// Time in belljar's own code.
    pub native: Duration,
    /// Time in handlers.
    pub handlers: Duration,
}

/// The moment up to which time has been accounted for.
#[derive(Debug)]
pub(super) struct Stopwatch(u64);

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self(ticks())
    }

    /// The time-stamp counter at that moment.
    pub(super) fn ticks(&self) -> u64 {
        self.0
    }

    fn lap(&mut self) -> u64 {
        let now = ticks();
        now.wrapping_sub(std::mem::replace(&mut self.0, now))
    }
}

/// One thread writes: no locked instruction.
fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

impl Counters {
    pub(super) fn count(&self, kind: ExitKind) {
        add(&self.exits[kind.index()], 1);
    }

    pub(super) fn repaired(&self) {
        add(&self.repairs, 1);
    }

    /// The time since the last lap was the guest's.
    pub(super) fn guest(&self, watch: &mut Stopwatch) {
        add(&self.guest, watch.lap());
    }

    /// ... was belljar's own.
    pub(super) fn native(&self, watch: &mut Stopwatch) {
        add(&self.native, watch.lap());
    }

    /// ... was a handler's.
    pub(super) fn handlers(&self, watch: &mut Stopwatch) {
        add(&self.handlers, watch.lap());
    }

    /// What there is now.
    pub fn read(&self) -> Stats {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            exits: self.exits.iter().map(value).collect(),
            repairs: value(&self.repairs),
            guest: time(value(&self.guest)),
            native: time(value(&self.native)),
            handlers: time(value(&self.handlers)),
        }
    }
}

/// A moment in both clocks, taken once: what ticks are worth is the ratio since then.
fn epoch() -> (Instant, u64) {
    static EPOCH: OnceLock<(Instant, u64)> = OnceLock::new();
    *EPOCH.get_or_init(|| (Instant::now(), ticks()))
}

fn time(count: u64) -> Duration {
    let (moment, tick) = epoch();
    let (nanos, passed) = (moment.elapsed().as_nanos(), u128::from(ticks().wrapping_sub(tick)));
    let nanos = u128::from(count) * nanos / passed.max(1);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
