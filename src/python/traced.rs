//! What a trace is asked for, parsed: subjects, columns, and what becomes of a full ring. It never makes a trace.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::Mutex;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::debug::{Place, Wish};
use crate::hook::{Column, Expression, Field, Policy, Subject};
use crate::x86::Part;

use super::breakpoint::resolved;
use super::exit::{kind_of, msr_number};
use super::expression::Expression as PyExpression;
use super::hook::span;
use super::vm::VM;

/// What `port=`, `mmio=`, `msr=` and `exits=` name.
pub(super) fn subjects(
    port: Option<&Bound<'_, PyAny>>,
    mmio: Option<&Bound<'_, PyAny>>,
    msr: Option<&Bound<'_, PyAny>>,
    exits: Option<&Bound<'_, PyAny>>,
) -> PyResult<Vec<Subject>> {
    let mut found = Vec::new();
    if let Some(port) = port {
        found.push(Subject::Port(span(port, None, u64::from(u16::MAX))?));
    }
    if let Some(mmio) = mmio {
        found.push(Subject::Mmio(span(mmio, None, u64::MAX)?));
    }
    if let Some(msr) = msr {
        let number = msr.is_instance_of::<PyString>().then(|| msr_number(msr)).transpose()?;
        let number = number.map(|number| number.into_pyobject(msr.py())).transpose()?;
        found.push(Subject::Msr(span(number.as_ref().map_or(msr, |n| n.as_any()), None, u64::from(u32::MAX))?));
    }
    if let Some(exits) = exits {
        found.push(kind_of(exits)?.map_or(Subject::Any, Subject::Kind));
    }
    Ok(found)
}

/// A field: the name of one, or an expression.
pub(super) fn column(what: &Bound<'_, PyAny>) -> PyResult<Column> {
    if let Ok(expression) = what.cast::<PyExpression>() {
        return Ok(Column::Value(expression.get().0.clone()));
    }
    let name: String = what.extract()?;
    Ok(match name.as_str() {
        "time" => Column::Time,
        "kind" => Column::Kind,
        "sequence" => Column::Sequence,
        name => match (Part::named(name), Field::named(name)) {
            (Some(part), _) => Column::Value(Expression::Register(part)),
            (_, Some(field)) => Column::Value(Expression::Exit(field)),
            _ => {
                let names: Vec<_> = Field::ALL.iter().map(|field| field.name()).collect();
                return Err(PyValueError::new_err(format!(
                    "no field is named {name:?}: there are time, sequence, {} and the registers; for more, give \
                     (\"{name}\", expression)",
                    names.join(", ")
                )));
            }
        },
    })
}

pub(super) fn policy(name: &str, spill: Option<PathBuf>) -> PyResult<Policy> {
    match (name, spill) {
        ("stop", None) => Ok(Policy::Stop),
        ("drop", None) => Ok(Policy::Drop),
        ("spill", Some(path)) => Ok(Policy::Spill(Mutex::new(BufWriter::new(File::create(path)?)))),
        ("spill", None) => Err(PyValueError::new_err("policy=\"spill\" needs a file: spill=\"records.bin\"")),
        ("stop" | "drop", Some(_)) => Err(PyValueError::new_err("a file to spill to is for policy=\"spill\"")),
        _ => Err(PyValueError::new_err(format!("policy is \"stop\", \"drop\" or \"spill\", not {name:?}"))),
    }
}

/// What `breakpoint=` and `watch=` name: handles that are there already, and breakpoints to be planted.
pub(super) fn wishes(
    vm: &Bound<'_, VM>,
    points: &[Bound<'_, PyAny>],
    subjects: &mut Vec<Subject>,
) -> PyResult<Vec<Wish>> {
    let mut wishes = Vec::new();
    for point in points {
        if let Ok(id) = point.getattr("id") {
            subjects.push(Subject::Point(id.extract()?));
            continue;
        }
        let (at, _) = resolved(vm, point)?;
        let id = vm.get().machine().points().number();
        subjects.push(Subject::Point(id));
        wishes.push(Wish { id: Some(id), stops: false, ..Wish::at(Place::Linear(at)) });
    }
    Ok(wishes)
}
