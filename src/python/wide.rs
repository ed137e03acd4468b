//! Integers of any width, to and from bytes (lowest first). It never knows what they mean.

use std::fmt::Write as _;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

/// The bytes as an int.
pub fn to_int<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    static FROM_BYTES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let from_bytes = FROM_BYTES
        .get_or_try_init(py, || py.import("builtins")?.getattr("int")?.getattr("from_bytes").map(Bound::unbind))?;
    from_bytes.bind(py).call1((PyBytes::new(py, bytes), "little"))
}

/// The bytes in hexadecimal, the highest first.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes.iter().rev() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// An int as `width` bytes. OverflowError for one that is negative or does not fit, TypeError for what is none.
pub fn from_int(value: &Bound<'_, PyAny>, width: usize) -> PyResult<Vec<u8>> {
    let Ok(number) = value.call_method0("__index__") else {
        let shown = value.get_type().name()?;
        return Err(PyTypeError::new_err(format!("an integer of {} bits, not {shown}", 8 * width)));
    };
    number.call_method1("to_bytes", (width, "little"))?.extract()
}
