//! Amounts of memory as people write them. They never round.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Bytes from an integer or from text such as "64M", "1G" or "16K".
pub fn bytes_of(size: &Bound<'_, PyAny>) -> PyResult<u64> {
    let wrong = || {
        let shown = size.repr().map(|r| r.to_string()).unwrap_or_default();
        PyValueError::new_err(format!("memory is a number of bytes, or text such as \"64M\" (K, M, G, T), not {shown}"))
    };
    if let Ok(bytes) = size.extract::<u64>() {
        return Ok(bytes);
    }
    let text: String = size.extract().map_err(|_| wrong())?;
    let text = text.trim().to_ascii_uppercase();
    let text = text.strip_suffix('B').unwrap_or(&text);
    let text = text.strip_suffix('I').unwrap_or(text);
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'K')) => (&text[..at], 10),
        Some((at, 'M')) => (&text[..at], 20),
        Some((at, 'G')) => (&text[..at], 30),
        Some((at, 'T')) => (&text[..at], 40),
        _ => (text, 0),
    };
    let number: u64 = digits.trim().parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// How much RAM a machine is made with: an amount, or none.
pub struct Ram(pub Option<u64>);

impl Default for Ram {
    fn default() -> Self {
        Self(Some(64 << 20))
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Ram {
    type Error = PyErr;

    fn extract(size: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if size.is_none() { Ok(Self(None)) } else { bytes_of(&size).map(|bytes| Self(Some(bytes))) }
    }
}

/// Bytes in the largest unit that loses nothing.
pub fn human(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| bytes >> shift != 0 && bytes.trailing_zeros() >= *shift) {
        Some((unit, shift)) => format!("{} {unit}", bytes >> shift),
        None => format!("{bytes} B"),
    }
}
