//! The class `InternalError`: what KVM gave up on, with the instruction. It never refers to a machine.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::exit::InternalError as Core;
use crate::x86::disassemble;

use super::exit::{Exit, same};

/// KVM could not go on, most often because it cannot emulate an instruction (KVM_EXIT_INTERNAL_ERROR).
#[pyclass(frozen, extends = Exit, module = "belljar")]
#[derive(PartialEq, Eq)]
pub struct InternalError {
    /// KVM_INTERNAL_ERROR_*; 1 is an instruction that KVM cannot emulate.
    #[pyo3(get)]
    suberror: u32,
    /// The instruction pointer.
    #[pyo3(get)]
    rip: u64,
    /// 16, 32 or 64.
    #[pyo3(get)]
    bits: u32,
    /// KVM's data words.
    #[pyo3(get)]
    data: Vec<u64>,
    bytes: Vec<u8>,
}

impl From<&Core> for InternalError {
    fn from(e: &Core) -> Self {
        let (data, bytes) = (e.data.clone(), e.instruction.clone());
        Self { suberror: e.suberror, rip: e.rip, bits: e.bits, data, bytes }
    }
}

impl InternalError {
    /// What it was made of.
    pub(super) fn to_core(&self) -> Core {
        let (data, instruction) = (self.data.clone(), self.bytes.clone());
        Core { suberror: self.suberror, data, instruction, rip: self.rip, bits: self.bits }
    }
}

#[pymethods]
impl InternalError {
    #[new]
    #[pyo3(signature = (suberror, rip, instruction = Vec::new(), *, bits = 64, data = Vec::new(), vcpu = 0))]
    fn new(
        suberror: u32,
        rip: u64,
        instruction: Vec<u8>,
        bits: u32,
        data: Vec<u64>,
        vcpu: u32,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Exit::of(vcpu)).add_subclass(Self { suberror, rip, bits, data, bytes: instruction })
    }

    /// Pickles as the arguments that it is made by.
    #[pyo3(signature = () -> "tuple[tuple[object, ...], dict[str, object]]")]
    fn __getnewargs_ex__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let (py, this) = (slf.py(), slf.get());
        let named = PyDict::new(py);
        named.set_item("bits", this.bits)?;
        named.set_item("data", &this.data)?;
        named.set_item("vcpu", slf.as_super().get().vcpu)?;
        Ok(((this.suberror, this.rip, this.instruction(py)).into_pyobject(py)?, named))
    }

    #[classattr]
    fn __match_args__() -> (&'static str, &'static str, &'static str) {
        ("suberror", "rip", "instruction")
    }

    /// The bytes that KVM gave up on; empty where it gave none.
    #[getter]
    fn instruction<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.bytes)
    }

    /// The instruction as text; empty where KVM gave no bytes.
    #[getter]
    fn disassembly(&self) -> String {
        let found = disassemble(&self.bytes, self.rip, self.bits, 1).unwrap_or_default();
        found.into_iter().next().map(|i| i.text).unwrap_or_default()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        let this = slf.get();
        let (text, vcpu) = (this.disassembly(), slf.as_super().get().vcpu);
        format!("InternalError(suberror={}, rip={:#x}, disassembly='{text}', vcpu={vcpu})", this.suberror, this.rip)
    }

    fn __eq__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> bool {
        same(slf, other)
    }

    fn __hash__(slf: &Bound<'_, Self>) -> PyResult<isize> {
        slf.repr()?.hash()
    }
}
