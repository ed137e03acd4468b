//! How often each kind of exit came, and where the time went. It never decides anything.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::exit::ExitKind;
use crate::hook::ticks;

/// What one vCPU has done. Written by the thread that runs it, read by anybody. Times are in ticks of the counter.
#[derive(Debug)]
pub struct Counters {
    exits: [AtomicU64; ExitKind::COUNT],
    repairs: AtomicU64,
    native: AtomicU64,
    handlers: AtomicU64,
    /// The runs that are over, and when the present one began (0 for none).
    runs: AtomicU64,
    since: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        epoch();
        Self {
            exits: std::array::from_fn(|_| AtomicU64::new(0)),
            repairs: AtomicU64::new(0),
            native: AtomicU64::new(0),
            handlers: AtomicU64::new(0),
            runs: AtomicU64::new(0),
            since: AtomicU64::new(0),
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
    /// Time in `KVM_RUN`, and what a run takes to begin and to end.
    pub guest: Duration,
    /// Time in belljar's own code.
    pub native: Duration,
    /// Time in handlers.
    pub handlers: Duration,
}

/// After so many exits of a run, one in as many is measured, and counts for all of them: the counter is read twice for
/// each, which would be felt where an exit takes a microsecond.
const SAMPLE: u64 = 16;

/// Tells belljar's own time in one run from that of handlers; what is left of the run is the guest's.
#[derive(Debug)]
pub(super) struct Stopwatch<'a> {
    counters: &'a Counters,
    /// Entries of this run.
    count: u64,
    /// When the exit came that is being measured.
    left: Option<u64>,
    /// What handlers have taken of it.
    handled: u64,
    /// What the last one took.
    last: u64,
}

impl<'a> Stopwatch<'a> {
    /// A run begins.
    pub(super) fn start(counters: &'a Counters) -> Self {
        counters.since.store(ticks(), Ordering::Relaxed);
        Self { counters, count: 0, left: None, handled: 0, last: 0 }
    }

    /// The time-stamp counter at the exit, as nearly as it is known.
    pub(super) fn ticks(&self) -> u64 {
        self.left.unwrap_or_else(ticks)
    }

    /// How often the guest has been entered in this run.
    pub(super) fn entries(&self) -> u64 {
        self.count
    }

    /// The guest has been left.
    pub(super) fn left(&mut self) {
        self.count += 1;
        if self.count <= SAMPLE || self.count.is_multiple_of(SAMPLE) {
            (self.left, self.handled) = (Some(ticks()), 0);
        }
    }

    /// The guest is about to be entered.
    pub(super) fn entering(&mut self) {
        if let Some(left) = self.left.take() {
            let own = ticks().wrapping_sub(left).saturating_sub(self.handled);
            add(&self.counters.native, if self.count <= SAMPLE { own } else { own.saturating_mul(SAMPLE) });
        }
    }

    /// Does what a handler does.
    pub(super) fn handler<T>(&mut self, handle: impl FnOnce() -> T) -> T {
        let begun = ticks();
        let result = handle();
        let took = ticks().wrapping_sub(begun);
        add(&self.counters.handlers, took);
        self.handled = self.handled.saturating_add(took);
        self.last = took;
        result
    }

    /// How many ticks the last handler took.
    pub(super) fn took(&self) -> u64 {
        self.last
    }
}

impl Drop for Stopwatch<'_> {
    fn drop(&mut self) {
        let begun = self.counters.since.swap(0, Ordering::Relaxed);
        add(&self.counters.runs, ticks().wrapping_sub(begun));
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

    /// What there is now.
    pub fn read(&self) -> Stats {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let since = value(&self.since);
        let present = if since == 0 { 0 } else { ticks().saturating_sub(since) };
        let (native, handlers) = (value(&self.native), value(&self.handlers));
        let guest = value(&self.runs).wrapping_add(present).saturating_sub(native).saturating_sub(handlers);
        Stats {
            exits: self.exits.iter().map(value).collect(),
            repairs: value(&self.repairs),
            guest: time_of(guest),
            native: time_of(native),
            handlers: time_of(handlers),
        }
    }
}

/// A moment in both clocks, taken once: what ticks are worth is the ratio since then.
fn epoch() -> (Instant, u64) {
    static EPOCH: OnceLock<(Instant, u64)> = OnceLock::new();
    *EPOCH.get_or_init(|| (Instant::now(), ticks()))
}

/// How long so many ticks are.
pub fn time_of(count: u64) -> Duration {
    let (moment, tick) = epoch();
    let (nanos, passed) = (moment.elapsed().as_nanos(), u128::from(ticks().wrapping_sub(tick)));
    let nanos = u128::from(count) * nanos / passed.max(1);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
