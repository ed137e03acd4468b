//! What the host offers and how its KVM behaves, for Python. It never keeps a descriptor open.

use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::error::Result as CoreResult;
use crate::kvm::{Host, Quirks as Core, quirk_list};
use crate::machine::{WHOLE, probe as probe_kvm};

/// How this KVM behaves: probed once in a process. Threads that come meanwhile wait for the answers, but not for ever: a
/// child that was forked meanwhile has nobody to wait for.
pub fn quirks() -> CoreResult<Core> {
    static PROBED: OnceLock<Core> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    const SLICE: Duration = Duration::from_millis(5);
    let until = Instant::now() + WHOLE;
    let mut turn = None;
    while PROBED.get().is_none() && turn.is_none() && Instant::now() < until {
        turn = TURN.try_lock().ok();
        if turn.is_none() {
            std::thread::sleep(SLICE);
        }
    }
    if let Some(known) = PROBED.get() {
        return Ok(*known);
    }
    let found = probe_kvm()?;
    Ok(if found.in_time { *PROBED.get_or_init(|| found.quirks) } else { found.quirks })
}

/// How this KVM behaves, found out by running mini-guests: one yes-or-no attribute per question.
#[pyclass(frozen, module = "belljar")]
pub struct Quirks(Core);

macro_rules! getters {
    ($($(#[doc = $doc:literal])+ $name:ident = $documented:literal, $consequence:literal;)+) => {
        #[pymethods]
        impl Quirks {
            $($(#[doc = $doc])+ #[getter] fn $name(&self) -> bool { self.0.$name })+
        }
    };
}

quirk_list!(getters);

#[pymethods]
impl Quirks {
    /// Every answer: name, value, the documented value, and what follows where the two differ.
    fn answers(&self) -> Vec<(&'static str, bool, bool, &'static str)> {
        self.0.answers().into_iter().map(|a| (a.name, a.value, a.documented, a.consequence)).collect()
    }

    fn __repr__(&self) -> String {
        let answers: Vec<_> =
            self.0.answers().iter().map(|a| format!("{}={}", a.name, if a.value { "True" } else { "False" })).collect();
        format!("Quirks({})", answers.join(", "))
    }
}

/// A capability: its name, KVM's answer, and what it is used for.
type Named = (&'static str, i32, &'static str);

/// Opens /dev/kvm and says what it offers: (name, value, what for) per capability, and the most vCPUs. HostError if not.
#[pyfunction]
pub fn capabilities(py: Python<'_>) -> PyResult<(Vec<Named>, u64)> {
    let host = py.detach(Host::open)?;
    let found = host.capabilities().into_iter().map(|c| (c.name, c.value, c.used_for)).collect();
    Ok((found, host.max_vcpus()))
}

/// How this KVM behaves; probed at the first call. HostError where there is none.
#[pyfunction]
pub fn probe(py: Python<'_>) -> PyResult<Quirks> {
    Ok(Quirks(py.detach(quirks)?))
}
