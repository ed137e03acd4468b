//! Addresses and amounts as arguments of Python's. They never let an integer that does not fit lose its digits.

use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;

use crate::addr::GuestPhys;

/// A guest-physical address: an integer from 0 to 2**64 - 1.
#[derive(Clone, Copy)]
pub struct Address(pub GuestPhys);

/// A number of bytes or things: an integer from 0 on.
#[derive(Clone, Copy)]
pub struct Count(pub usize);

fn number<T: for<'a, 'py> FromPyObject<'a, 'py, Error = PyErr>>(value: &Bound<'_, PyAny>, what: &str) -> PyResult<T> {
    value.extract().map_err(|_| {
        let is_integer = value.hasattr("__index__").unwrap_or(false);
        let shown = if is_integer {
            value.repr().map(|r| r.to_string())
        } else {
            value.get_type().name().map(|n| n.to_string())
        };
        let text = format!("{what}, not {}", shown.unwrap_or_default());
        if is_integer { PyOverflowError::new_err(text) } else { PyTypeError::new_err(text) }
    })
}

impl<'a, 'py> FromPyObject<'a, 'py> for Address {
    type Error = PyErr;

    #[cfg(feature = "stubs")]
    const INPUT_TYPE: pyo3::inspect::PyStaticExpr = <u64 as FromPyObject<'a, 'py>>::INPUT_TYPE;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        number(&value, "an address is an integer from 0 to 2**64 - 1").map(|at| Self(GuestPhys(at)))
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Count {
    type Error = PyErr;

    #[cfg(feature = "stubs")]
    const INPUT_TYPE: pyo3::inspect::PyStaticExpr = <usize as FromPyObject<'a, 'py>>::INPUT_TYPE;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        number(&value, "a size is an integer from 0 to 2**64 - 1").map(Self)
    }
}
