//! The end of the interpreter: all runs end before it, since a thread that came to call a handler afterwards would be
//! held there for ever, and so would be who waits for it. It never closes a machine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use pyo3::prelude::*;

use crate::exit::Interruption;
use crate::machine::Machine;

use super::running::poll;

static MACHINES: Mutex<Vec<Weak<Machine>>> = Mutex::new(Vec::new());

/// Has the runs of `machine` end before the interpreter does.
pub fn watch(py: Python<'_>, machine: &Arc<Machine>) -> PyResult<()> {
    static IS_REGISTERED: AtomicBool = AtomicBool::new(false);
    if !IS_REGISTERED.swap(true, Ordering::SeqCst) {
        py.import("atexit")?.call_method1("register", (wrap_pyfunction!(end_all, py)?,))?;
    }
    let mut machines = MACHINES.lock().unwrap_or_else(PoisonError::into_inner);
    machines.retain(|m| m.strong_count() > 0);
    machines.push(Arc::downgrade(machine));
    Ok(())
}

/// Ends all runs and waits until they have; says what handlers have raised that nobody asked for.
#[pyfunction]
fn end_all(py: Python<'_>) {
    let machines = std::mem::take(&mut *MACHINES.lock().unwrap_or_else(PoisonError::into_inner));
    let machines: Vec<_> = machines.iter().filter_map(Weak::upgrade).collect();
    super::gdb::close_all(py);
    for machine in &machines {
        machine.interrupt(Interruption::Close);
    }
    for machine in machines {
        if let Err(error) = py.detach(|| machine.halt(Interruption::Close, &poll)) {
            PyErr::from(error).write_unraisable(py, None);
        }
    }
}
