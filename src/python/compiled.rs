//! Expressions of Python as those of the core, by way of `belljar.compiled`, which makes nested tuples of them.
//! It never computes one.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::hook::{Binary, Expression, Field, MOST_DEPTH};
use crate::x86::Part;

/// The core's expression of a `belljar.Expression`.
pub fn compiled(expression: &Bound<'_, PyAny>) -> PyResult<Expression> {
    let tree = expression.py().import("belljar.compiled")?.getattr("tree")?.call1((expression,))?;
    of(&tree, MOST_DEPTH)
}

fn of(tree: &Bound<'_, PyAny>, depth: usize) -> PyResult<Expression> {
    let depth = depth.checked_sub(1).ok_or_else(|| PyValueError::new_err("an expression of too many levels"))?;
    let Ok(tuple) = tree.cast::<PyTuple>() else { return tree.extract().map(Expression::Constant) };
    let what: String = tuple.get_item(0)?.extract()?;
    let part = |at: usize| tuple.get_item(at).and_then(|part| of(&part, depth)).map(Box::new);
    let name = || tuple.get_item(1)?.extract::<String>();
    Ok(match what.as_str() {
        "reg" => Expression::Register(Part::named(&name()?).ok_or_else(|| unknown("register", &name()))?),
        "exit" => Expression::Exit(field(&name()?).ok_or_else(|| unknown("field of an exit", &name()))?),
        "mem" => Expression::Memory(tuple.get_item(1)?.extract()?, part(2)?),
        "~" => Expression::Not(part(1)?),
        "isin" => {
            let mut values: Vec<u64> = tuple.get_item(2)?.extract()?;
            values.sort_unstable();
            Expression::IsIn(part(1)?, values.into())
        }
        ">" => Expression::Binary(Binary::Less, part(2)?, part(1)?),
        ">=" => Expression::Binary(Binary::LessOrEqual, part(2)?, part(1)?),
        "&" if part(1)?.is_truth() => Expression::And(part(1)?, part(2)?),
        "|" if part(1)?.is_truth() => Expression::Or(part(1)?, part(2)?),
        sign => match SIGNS.iter().find(|(known, _)| *known == sign) {
            Some((_, how)) => Expression::Binary(*how, part(1)?, part(2)?),
            None => return Err(PyTypeError::new_err(format!("{sign} cannot be computed natively"))),
        },
    })
}

const SIGNS: [(&str, Binary); 12] = [
    ("+", Binary::Add),
    ("-", Binary::Subtract),
    ("*", Binary::Multiply),
    ("&", Binary::BitAnd),
    ("|", Binary::BitOr),
    ("^", Binary::BitXor),
    ("<<", Binary::ShiftLeft),
    (">>", Binary::ShiftRight),
    ("==", Binary::Equal),
    ("!=", Binary::NotEqual),
    ("<", Binary::Less),
    ("<=", Binary::LessOrEqual),
];

fn unknown(what: &str, name: &PyResult<String>) -> PyErr {
    PyValueError::new_err(format!("no {what} is named {:?}", name.as_deref().unwrap_or_default()))
}

/// The field of an exit of that name.
pub fn field(name: &str) -> Option<Field> {
    Some(match name {
        "port" => Field::Port,
        "address" => Field::Address,
        "index" => Field::Index,
        "size" => Field::Size,
        "count" => Field::Count,
        "data" => Field::Data,
        "vector" => Field::Vector,
        "number" => Field::Number,
        "vcpu" => Field::Vcpu,
        _ => return None,
    })
}
