//! The time that a vCPU is left alone after it was set going: who pauses or holds it sooner waits for that, so that a guest which
//! is stopped and resumed again and again still gets on. It never puts off an end of the run that somebody waits for.

use std::time::{Duration, Instant};

use crate::error::Result;

use super::Run;

/// How long that is: an entry of the guest takes up to a tenth of it, on an emulated processor.
const SLICE: Duration = Duration::from_millis(1);

/// Whether a vCPU has had its time.
#[derive(Debug)]
pub(super) struct Slice {
    begun: Instant,
    is_over: bool,
    /// Entries of the guest when it began, and those since then that a kick ended.
    entries: u64,
    idle: u64,
}

impl Slice {
    /// It is set going now, after so many entries.
    pub(super) fn begin(entries: u64) -> Self {
        Self { begun: Instant::now(), is_over: false, entries, idle: 0 }
    }

    /// An entry was ended by a kick.
    pub(super) fn was_idle(&mut self) {
        self.idle += 1;
    }

    /// It has got on, or is told to wait by its own doing.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }
}

impl Run<'_> {
    /// The vCPU is set going again.
    pub(super) fn begin_slice(&mut self) {
        self.slice = Slice::begin(self.watch.entries());
    }

    /// Is it to go on for a little, though somebody wants it to wait? It comes out by itself then.
    #[cold]
    pub(super) fn has_time_left(&mut self) -> Result<bool> {
        let left = SLICE.saturating_sub(self.slice.begun.elapsed());
        let exits = self.watch.entries() - self.slice.entries - self.slice.idle;
        if self.slice.is_over || exits > 0 || left.is_zero() {
            self.slice.end();
            return Ok(false);
        }
        self.vcpu().acknowledge_kick();
        self.guard.come_out_in(left)?;
        Ok(true)
    }
}
