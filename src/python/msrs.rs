//! The class `Msrs`: one vCPU's model-specific registers for Python, live. It never caches a value.

use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use pyo3::{IntoPyObjectExt, PyTraverseError};

use crate::x86::msr;

use super::address::Fitting;
use super::exit::msr_number;
use super::typed::Keys;
use super::vm::VM;

/// The model-specific registers of one vCPU, by name or number. KeyError for one that it does not have.
///
/// Iterating gives those that hold its state, as KVM lists them, by their names (numbers where belljar knows none);
/// all are read together. Others can be read and written too.
#[pyclass(frozen, module = "belljar")]
pub struct Msrs {
    vm: Py<VM>,
    id: u32,
}

impl Msrs {
    pub(super) fn new(vm: Py<VM>, id: u32) -> Self {
        Self { vm, id }
    }

    /// Those of KVM's list that this vCPU has, with their values.
    fn all(&self, py: Python<'_>) -> PyResult<Vec<(u32, u64)>> {
        Ok(py.detach(|| self.vm.get().machine().read_msrs(self.id))?)
    }

    fn names_of(py: Python<'_>, numbers: &[(u32, u64)]) -> PyResult<Vec<Py<PyAny>>> {
        numbers.iter().map(|(number, _)| key(py, *number)).collect()
    }
}

/// The name of a number, or the number.
fn key(py: Python<'_>, number: u32) -> PyResult<Py<PyAny>> {
    match msr::name(number) {
        Some(name) => name.into_py_any(py),
        None => number.into_py_any(py),
    }
}

#[pymethods]
impl Msrs {
    fn __getitem__(&self, which: &Bound<'_, PyAny>) -> PyResult<u64> {
        let index = msr_number(which)?;
        let value = self.vm.get().machine().read_msr(self.id, index)?;
        value.ok_or_else(|| PyKeyError::new_err(format!("this vCPU has no MSR {index:#x}")))
    }

    fn __setitem__(&self, which: &Bound<'_, PyAny>, value: Fitting<u64>) -> PyResult<()> {
        let value = value.0;
        let index = msr_number(which)?;
        let slot = self.vm.get().machine().cpu(self.id)?;
        if slot.with(|cpu| cpu.vcpu.set_msr(index, value))? {
            return Ok(());
        }
        let name = msr::name(index).unwrap_or("an unnamed one");
        Err(PyValueError::new_err(format!("this vCPU refuses {value:#x} for MSR {index:#x} ({name})")))
    }

    /// The register `which`, or `default` if this vCPU does not have it.
    #[pyo3(signature = (which: "str | int", default: "Any" = None) -> "Any")]
    fn get(&self, py: Python<'_>, which: &Bound<'_, PyAny>, default: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        match self.__getitem__(which) {
            Ok(value) => value.into_py_any(py),
            Err(error) if error.is_instance_of::<PyKeyError>(py) => Ok(default.unwrap_or_else(|| py.None())),
            Err(error) => Err(error),
        }
    }

    /// The names that belljar knows, with their numbers.
    #[staticmethod]
    #[pyo3(signature = () -> "dict[str, int]")]
    fn names(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let dict = PyDict::new(py);
        msr::NAMES.iter().try_for_each(|(name, number)| dict.set_item(name, number))?;
        Ok(dict)
    }

    fn __contains__(&self, which: &Bound<'_, PyAny>) -> PyResult<bool> {
        match msr_number(which) {
            Ok(index) => Ok(self.vm.get().machine().read_msr(self.id, index)?.is_some()),
            Err(error) if error.is_instance_of::<PyKeyError>(which.py()) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.all(py)?.len())
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Keys<'py>> {
        Ok(Keys(PyList::new(py, Self::names_of(py, &self.all(py)?)?)?.try_iter()?.into_any()))
    }

    /// The names (numbers where there is none) of those that hold the vCPU's state.
    #[pyo3(signature = () -> "list[str | int]")]
    fn keys(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        Self::names_of(py, &self.all(py)?)
    }

    /// The same, with their values.
    #[pyo3(signature = () -> "list[tuple[str | int, int]]")]
    fn items(&self, py: Python<'_>) -> PyResult<Vec<(Py<PyAny>, u64)>> {
        self.all(py)?.iter().map(|(number, value)| Ok((key(py, *number)?, *value))).collect()
    }

    /// The same as a dict: a copy.
    #[pyo3(signature = () -> "dict[str | int, int]")]
    fn read<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        self.all(py)?.iter().try_for_each(|(number, value)| dict.set_item(key(py, *number)?, value))?;
        Ok(dict)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let Ok(all) = self.all(py) else { return "<Msrs of a running or closed VM>".into() };
        let line =
            |(number, value): &(u32, u64)| format!("{number:8x} {:<22} {value:#x}", msr::name(*number).unwrap_or("-"));
        all.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.vm)
    }
}
