//! The Python values of reads that a handler is asked about over and over. They are never changed, nor told apart from new ones:
//! exits are frozen, and equal by what they say.

use std::sync::OnceLock;

use pyo3::prelude::*;

use crate::exit::Exit;

use super::{Home, to_python};

/// How many are kept for one handler.
const MOST: usize = 8;

/// What a read says: where, of how many bytes, by which vCPU; and whether the place is a port.
type Said = (u64, u8, u32, bool);

/// The first reads that one handler was asked about. A guest that polls a register makes the same exit each time, whose value
/// costs as much to make and to drop as the call of a function.
#[derive(Default)]
pub struct Reads([OnceLock<(Said, Py<PyAny>)>; MOST]);

impl Reads {
    /// The value of `exit`.
    pub fn of(&self, py: Python<'_>, exit: &Exit, vcpu: u32, home: &Home) -> PyResult<Py<PyAny>> {
        let said = match *exit {
            Exit::PortIn { port, size } => (u64::from(port), size, vcpu, true),
            Exit::MmioRead { at, size } => (at.0, size, vcpu, false),
            _ => return to_python(py, exit, vcpu, Some(home)),
        };
        let place = &self.0[usize::try_from(said.0 ^ said.0 >> 3 ^ u64::from(vcpu)).unwrap_or(0) % MOST];
        match place.get() {
            Some((other, value)) if *other == said => Ok(value.clone_ref(py)),
            Some(_) => to_python(py, exit, vcpu, Some(home)),
            None => {
                let value = to_python(py, exit, vcpu, Some(home))?;
                let _ = place.set((said, value.clone_ref(py))); // another vCPU's may be there now
                Ok(value)
            }
        }
    }
}
