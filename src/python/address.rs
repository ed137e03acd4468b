//! Addresses, amounts and machine integers as arguments of Python's. They never let one that does not fit lose its digits.

use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::addr::GuestPhys;

/// A guest-physical address: an integer from 0 to 2**64 - 1.
#[derive(Clone, Copy)]
pub struct Address(pub GuestPhys);

/// A place in virtual memory: an address, or the name of a symbol that is yet to be looked up.
pub enum Spot<'py> {
    /// Here.
    At(u64),
    /// Where "name", "name+0x10" or "name-4" is.
    Named(Bound<'py, PyString>),
}

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
        let named = "an address is an integer (that of a symbol is vm.symbols[name]; cpu.virtual takes names, too)";
        let is_name = value.is_instance_of::<PyString>();
        let what = if is_name { named } else { "an address is an integer from 0 to 2**64 - 1" };
        number(&value, what).map(|at| Self(GuestPhys(at)))
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Spot<'py> {
    type Error = PyErr;

    #[cfg(feature = "stubs")]
    const INPUT_TYPE: pyo3::inspect::PyStaticExpr = {
        use pyo3::{type_hint_identifier, type_hint_union};
        type_hint_union!(<u64 as FromPyObject<'a, 'py>>::INPUT_TYPE, type_hint_identifier!("builtins", "str"))
    };

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(name) = value.cast::<PyString>() {
            return Ok(Self::Named(name.to_owned()));
        }
        number(&value, "an address is an integer from 0 to 2**64 - 1, or the name of a symbol").map(Self::At)
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

/// A machine integer: what does not fit is refused with what would.
#[derive(Clone, Copy)]
pub struct Fitting<T>(pub T);

macro_rules! fitting {
    ($($type:ty, $range:literal;)+) => {
        $(
            impl<'a, 'py> FromPyObject<'a, 'py> for Fitting<$type> {
                type Error = PyErr;

                #[cfg(feature = "stubs")]
                const INPUT_TYPE: pyo3::inspect::PyStaticExpr = <$type as FromPyObject<'a, 'py>>::INPUT_TYPE;

                fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
                    number(&value, concat!("an integer from ", $range)).map(Self)
                }
            }
        )+
    };
}

fitting! {
    u8, "0 to 0xff";
    u16, "0 to 0xffff";
    u32, "0 to 0xffffffff";
    u64, "0 to 2**64 - 1";
    i8, "-128 to 127";
    i16, "-0x8000 to 0x7fff";
    i32, "-0x80000000 to 0x7fffffff";
    i64, "-2**63 to 2**63 - 1";
}
