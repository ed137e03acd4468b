//! Calling Python functions about exits, and what comes back of them. They never register anything.

use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes};

use crate::error::Result as CoreResult;
use crate::exit::{Exit, ExitKind as Kind, Kinds, Reply};
use crate::hook::Callback;

use super::error::foreign;
use super::exit::{Home, Reads};
use super::hook::{Action, Function};
use super::native::NativeHandler;

/// A function of Python's, or the fallback of a native handler.
pub(super) struct PythonCallback {
    owned: Arc<Function>,
    reads: Reads,
    home: Home,
}

impl PythonCallback {
    pub(super) fn new(owned: &Arc<Function>, home: Home) -> Self {
        Self { owned: Arc::clone(owned), reads: Reads::default(), home }
    }
}

impl Callback for PythonCallback {
    fn call(&self, exit: &Exit, vcpu: u32) -> CoreResult<Reply> {
        Python::attach(|py| {
            let value = self.reads.of(py, exit, vcpu, &self.home)?;
            // A reference of its own: the VM's may be the only other one, and the collector may clear the two as garbage.
            let mut function = self.owned.0.clone_ref(py).into_bound(py);
            if let Ok(native) = function.cast_exact::<NativeHandler>() {
                let Some(fallback) = &native.get().fallback else { return Ok(Reply::Default) };
                function = fallback.clone_ref(py).into_bound(py);
            }
            let result = function.call1((value,))?;
            reply(&result, exit)
        })
        .map_err(foreign)
    }
}

/// What the returned object means.
fn reply(result: &Bound<'_, PyAny>, exit: &Exit) -> PyResult<Reply> {
    if result.is_none() {
        return Ok(Reply::Default);
    }
    if let Ok(action) = result.cast_exact::<Action>() {
        return said(*action.get(), exit);
    }
    if let (Exit::PortStringIn { size, count, .. }, Ok(data)) = (exit, result.cast::<PyBytes>()) {
        return string(data.as_bytes(), u64::from(*size) * u64::from(*count));
    }
    let kind = exit.kind();
    if !TAKES_DATA.contains(kind) {
        if result.is_instance_of::<PyBool>() {
            return Ok(Reply::Default); // of a lambda whose last call tells whether it worked
        }
        let got = result.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "a handler of {kind:?} returns None, bj.STOP or bj.SKIP, not {got}: only reads take data"
        )));
    }
    match result.extract::<u64>() {
        Ok(data) => Ok(Reply::Value(data)),
        Err(_) => match result.extract::<i64>() {
            Ok(negative) => Ok(Reply::Value(negative.cast_unsigned())),
            Err(_) => Err(PyTypeError::new_err(format!(
                "a handler of {kind:?} returns an integer of up to 64 bits, None, bj.STOP or bj.SKIP, not {}",
                result.repr()?
            ))),
        },
    }
}

/// What an action comes to for `exit`.
fn said(action: Action, exit: &Exit) -> PyResult<Reply> {
    if action == Action::Deny && !matches!(exit.kind(), Kind::MsrRead | Kind::MsrWrite) {
        let kind = exit.kind();
        return Err(PyTypeError::new_err(format!(
            "bj.DENY refuses accesses to MSRs, and {kind:?} is none: bj.SKIP drops a write, and has a read get all ones"
        )));
    }
    Ok(action.reply())
}

/// An action in the place of a handler: the same for every exit, without Python.
pub(super) struct Always(pub(super) Action);

impl Callback for Always {
    fn call(&self, exit: &Exit, _: u32) -> CoreResult<Reply> {
        said(self.0, exit).map_err(foreign)
    }
}

/// What takes an integer: reads, and writes that may be of another value.
const TAKES_DATA: Kinds =
    Kinds::of(&[Kind::PortIn, Kind::PortStringIn, Kind::MmioRead, Kind::MsrRead, Kind::MsrWrite, Kind::Hypercall]);

/// The data of a whole string of `wanted` bytes.
fn string(data: &[u8], wanted: u64) -> PyResult<Reply> {
    if u64::try_from(data.len()).ok() == Some(wanted) {
        return Ok(Reply::Bytes(data.to_vec()));
    }
    Err(PyValueError::new_err(format!("the guest reads {wanted} bytes (size * count), not {}", data.len())))
}
