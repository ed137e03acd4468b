//! The class `Segment`, a value. It never refers to a vCPU.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use crate::x86::Segment as CoreSegment;

use super::address::Fitting;

/// A segment register with its hidden part (Intel SDM vol. 3, 3.4.5).
#[pyclass(frozen, eq, hash, module = "belljar")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Segment(pub(super) CoreSegment);

#[pymethods]
impl Segment {
    #[new]
    #[pyo3(
        signature = (
            *, base = Fitting(0), limit = Fitting(0), selector = Fitting(0), r#type = Fitting(0), present = true,
            dpl = Fitting(0), db = false, s = true, l = false, g = false, avl = false, unusable = false
        ),
        text_signature = "(*, base=0, limit=0, selector=0, type=0, present=True, dpl=0, db=False, s=True, l=False, g=False, avl=False, unusable=False)"
    )]
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)] // the fields of the register
    fn new(
        base: Fitting<u64>,
        limit: Fitting<u32>,
        selector: Fitting<u16>,
        r#type: Fitting<u8>,
        present: bool,
        dpl: Fitting<u8>,
        db: bool,
        s: bool,
        l: bool,
        g: bool,
        avl: bool,
        unusable: bool,
    ) -> Self {
        let bit = u8::from;
        Self(CoreSegment {
            base: base.0,
            limit: limit.0,
            selector: selector.0,
            kind: r#type.0,
            present: bit(present),
            dpl: dpl.0,
            db: bit(db),
            s: bit(s),
            l: bit(l),
            g: bit(g),
            avl: bit(avl),
            unusable: bit(unusable),
            padding: 0,
        })
    }

    /// Linear address of the first byte.
    #[getter]
    fn base(&self) -> u64 {
        self.0.base
    }

    /// The last byte's offset.
    #[getter]
    fn limit(&self) -> u32 {
        self.0.limit
    }

    /// The visible part.
    #[getter]
    fn selector(&self) -> u16 {
        self.0.selector
    }

    /// The descriptor type, 0 to 15.
    #[getter]
    fn r#type(&self) -> u8 {
        self.0.kind
    }

    /// Descriptor privilege level.
    #[getter]
    fn dpl(&self) -> u8 {
        self.0.dpl
    }

    /// 64-bit code.
    #[getter]
    fn l(&self) -> bool {
        self.0.l == 1
    }

    /// 32-bit default operand.
    #[getter]
    fn db(&self) -> bool {
        self.0.db == 1
    }

    /// Code or data; else a system segment.
    #[getter]
    fn s(&self) -> bool {
        self.0.s == 1
    }

    /// The limit counts pages in the descriptor.
    #[getter]
    fn g(&self) -> bool {
        self.0.g == 1
    }

    /// For the system's own use.
    #[getter]
    fn avl(&self) -> bool {
        self.0.avl == 1
    }

    /// Nothing is loaded: a null selector.
    #[getter]
    fn unusable(&self) -> bool {
        self.0.unusable == 1
    }

    /// The 8 bytes that load into this segment register. What they cannot hold is left out: the selector, the upper half
    /// of a base of 64 bits.
    #[getter]
    fn descriptor<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.descriptor().to_le_bytes())
    }

    /// The segment that 8 bytes of a descriptor table describe, or an integer of 64 bits.
    #[staticmethod]
    #[pyo3(
        signature = (descriptor: "bytes | int", selector = Fitting(0)),
        text_signature = "(descriptor, selector=0)"
    )]
    fn from_descriptor(descriptor: &Bound<'_, PyAny>, selector: Fitting<u16>) -> PyResult<Self> {
        let word = if descriptor.hasattr("__index__")? {
            descriptor.extract::<Fitting<u64>>()?.0
        } else {
            let bytes = descriptor.extract::<[u8; 8]>().map_err(|_| no_descriptor(descriptor))?;
            u64::from_le_bytes(bytes)
        };
        Ok(Self(CoreSegment::from_descriptor(word, selector.0)))
    }

    /// The same with some fields changed: `cpu.cs = cpu.cs.replace(dpl=3)`.
    #[pyo3(signature = (**fields: "int"))]
    fn replace<'py>(slf: &Bound<'py, Self>, fields: Option<&Bound<'py, PyDict>>) -> PyResult<Bound<'py, PyAny>> {
        let all = slf.get().fields(slf.py())?;
        if let Some(fields) = fields {
            all.update(fields.as_mapping())?;
        }
        slf.get_type().call((), Some(&all))
    }

    #[pyo3(signature = () -> "tuple[Any, ...]")]
    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>, Bound<'py, PyAny>)> {
        let py = slf.py();
        let make = py.import("belljar.state")?.getattr("_segment")?;
        Ok((make, PyTuple::new(py, [slf.get().fields(py)?])?, py.None().into_bound(py)))
    }

    /// Present.
    #[getter]
    fn present(&self) -> bool {
        self.0.present == 1
    }

    fn __repr__(&self) -> String {
        let CoreSegment { base, limit, selector, kind, dpl, .. } = self.0;
        // What is not as the constructor has it.
        let usual = |name: &str| u64::from(matches!(name, "present" | "s"));
        let fields = self.0.values();
        let others = fields
            .iter()
            .filter(|(name, v)| !matches!(*name, "selector" | "base" | "limit" | "type" | "dpl") && *v != usual(name));
        let others: Vec<_> =
            others.map(|(name, v)| format!(", {name}={}", if *v == 1 { "True" } else { "False" })).collect();
        format!(
            "Segment(base={base:#x}, limit={limit:#x}, selector={selector:#x}, type={kind:#x}, dpl={dpl}{})",
            others.concat()
        )
    }
}

fn no_descriptor(given: &Bound<'_, PyAny>) -> PyErr {
    let kind = given.get_type().name().map(|n| n.to_string()).unwrap_or_default();
    let shown = match given.len() {
        Ok(len) if !given.is_instance_of::<PyString>() => format!("{len} {kind}"),
        _ => kind,
    };
    PyTypeError::new_err(format!("a descriptor is 8 bytes or an integer, not {shown}"))
}

impl Segment {
    /// All fields by name, as the constructor takes them.
    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, value) in self.0.values() {
            match name {
                "selector" | "base" | "limit" | "type" | "dpl" => dict.set_item(name, value)?,
                _ => dict.set_item(name, value == 1)?,
            }
        }
        Ok(dict)
    }
}
