//! What the core logs, for Python's `logging` (logger "belljar"). A record is queued where it happens, which may be the
//! run loop or under a device's lock, and handed over when a call into belljar returns: it never calls Python itself.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use log::{Level, Log, Metadata, Record};
use pyo3::prelude::*;

/// Most records that wait; the oldest are dropped, so that a guest cannot fill the host's memory by what it provokes.
const MOST: usize = 1000;

struct Queue(Mutex<VecDeque<(Level, String)>>);

static QUEUE: Queue = Queue(Mutex::new(VecDeque::new()));

impl Queue {
    fn records(&self) -> MutexGuard<'_, VecDeque<(Level, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Queue {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut records = self.records();
        if records.len() == MOST {
            records.pop_front();
        }
        records.push_back((record.level(), record.args().to_string()));
    }

    fn flush(&self) {}
}

/// Collects the core's records from now on. A second copy of the module in the process finds its logger taken.
pub fn install() {
    if log::set_logger(&QUEUE).is_ok() {
        log::set_max_level(log::LevelFilter::Debug);
    }
}

/// Hands waiting records to Python's logging.
pub fn hand_over(py: Python<'_>) -> PyResult<()> {
    if QUEUE.records().is_empty() {
        return Ok(());
    }
    let logger = py.import("logging")?.getattr("getLogger")?.call1(("belljar",))?;
    let waiting = std::mem::take(&mut *QUEUE.records());
    for (level, text) in waiting {
        let number = match level {
            Level::Error => 40,
            Level::Warn => 30,
            Level::Info => 20,
            Level::Debug | Level::Trace => 10,
        };
        logger.call_method1("log", (number, "%s", text))?;
    }
    Ok(())
}
