//! The class `Segment`, a value. It never refers to a vCPU.

use pyo3::prelude::*;

use crate::x86::Segment as CoreSegment;

/// A segment register with its hidden part (Intel SDM vol. 3, 3.4.5).
#[pyclass(frozen, eq, module = "belljar")]
#[derive(Clone, PartialEq, Eq)]
pub struct Segment(pub(super) CoreSegment);

#[pymethods]
impl Segment {
    #[new]
    #[pyo3(signature = (*, base = 0, limit = 0, selector = 0, r#type = 0, present = true, dpl = 0, db = false, s = true, l = false, g = false, avl = false, unusable = false))]
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)] // the fields of the register
    fn new(
        base: u64,
        limit: u32,
        selector: u16,
        r#type: u8,
        present: bool,
        dpl: u8,
        db: bool,
        s: bool,
        l: bool,
        g: bool,
        avl: bool,
        unusable: bool,
    ) -> Self {
        let bit = u8::from;
        Self(CoreSegment {
            base,
            limit,
            selector,
            kind: r#type,
            present: bit(present),
            dpl,
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

    /// Present.
    #[getter]
    fn present(&self) -> bool {
        self.0.present == 1
    }

    fn __repr__(&self) -> String {
        let CoreSegment { base, limit, selector, kind, dpl, .. } = self.0;
        format!("Segment(base={base:#x}, limit={limit:#x}, selector={selector:#x}, type={kind:#x}, dpl={dpl})")
    }
}
