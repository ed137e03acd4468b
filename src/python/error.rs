//! From the core's errors to Python's exceptions, with what to do next. It never loses a handler's own exception.

use std::any::Any;

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::{PyErr, Python, import_exception};

use crate::error::{Error, Foreign, Stranger};

import_exception!(belljar.errors, HostError);
import_exception!(belljar.errors, ClosedError);
import_exception!(belljar.errors, RunningError);
import_exception!(belljar.errors, GuestMemoryError);
import_exception!(belljar.errors, RangeError);
import_exception!(belljar.errors, ImageError);
import_exception!(belljar.errors, RegisterError);
import_exception!(belljar.errors, KernelError);

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        let text = words(&error);
        match error {
            Error::Foreign(Foreign(own)) => {
                let own: Box<dyn Any> = own;
                own.downcast::<Self>().map_or_else(|_| PyValueError::new_err(text), |own| *own)
            }
            Error::NoKvm { cause, remedy } => HostError::new_err((cause, remedy)),
            Error::Host { errno, .. } => HostError::new_err((text, "", errno)),
            Error::NoMechanism { instead, .. } => HostError::new_err((text, instead)),
            Error::Unprobed => HostError::new_err((text, "make the VM anew when the host is less busy")),
            Error::VcpuCount { .. } | Error::Invalid(_) => PyValueError::new_err(text),
            Error::Closed => ClosedError::new_err("the VM is closed; make a new one"),
            Error::Running { vcpu } => RunningError::new_err(format!(
                "vCPU {vcpu} is running: pause() first, or do this from one of its handlers"
            )),
            Error::NotAtRest { .. } => RunningError::new_err(format!("{text}: pause() or stop() it first")),
            Error::InHandler { what } => RunningError::new_err(format!(
                "{what}() from inside a handler of this VM: return bj.STOP (or call stop()), and do it when run() is back"
            )),
            Error::ViewsLive(count) => PyBufferError::new_err(format!(
                "{count} view(s) of guest memory are live: release them (del, or leave their `with`), then try again"
            )),
            Error::HugePages { pages, kib, errno, .. } => HostError::new_err((
                text,
                format!(
                    "reserve {pages} more, as root, in /sys/kernel/mm/hugepages/hugepages-{kib}kB/nr_hugepages; or take \
                     huge=True, which needs no reservation"
                ),
                errno,
            )),
            Error::Unbacked { at, len, .. } | Error::Unmapped { at, len, .. } => {
                GuestMemoryError::new_err((text, at, len))
            }
            Error::Overlap { .. } | Error::Unaligned { .. } | Error::BeyondPhysical { .. } => RangeError::new_err(text),
            Error::Image { .. } => ImageError::new_err(text),
            Error::Kernel { at, .. } => KernelError::new_err((text, at)),
            Error::Registers { dropped: true, .. } => RegisterError::new_err(format!(
                "{text}: a mode, a segment or a control register contradicts another one. What was set since the last \
                 run or load has been dropped: load() again, or set what belongs together before the next run"
            )),
            Error::Registers { dropped: false, .. } => {
                RegisterError::new_err(format!("{text}: a reserved bit differs, or a part contradicts another one"))
            }
            Error::Value(_) => RegisterError::new_err(text),
        }
    }
}

/// The fact, without the number that the system's own words for an errno repeat.
fn words(error: &Error) -> String {
    let text = error.to_string();
    match error {
        Error::Host { errno, .. } => text.replace(&format!(" (os error {errno})"), ""),
        _ => text,
    }
}

impl Stranger for PyErr {
    /// Goes to sys.unraisablehook.
    fn unheard(self: Box<Self>) {
        Python::attach(|py| self.write_unraisable(py, None));
    }
}

/// A Python exception on its way through the core.
pub fn foreign(error: PyErr) -> Error {
    Error::Foreign(Foreign(Box::new(error)))
}
