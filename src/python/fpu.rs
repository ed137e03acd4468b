//! The classes `Fpu`, `FloatStack` and `VectorRegisters`: x87, SSE, AVX and AVX-512 registers, live. They never cache one.

use std::collections::BTreeMap;

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::kvm::XsaveForm;
use crate::x86::xsave::Register;
use crate::x86::{float80, valid};

use super::typed::{Int, Ints};
use super::vcpu::Vcpu;
use super::wide::{from_int, hex, to_int};

/// The bytes of a register of `cpu`. ValueError if its processor has it not.
fn get(cpu: &Vcpu, register: Register) -> PyResult<Vec<u8>> {
    let layout = &XsaveForm::get()?.layout;
    let area = cpu.slot()?.with(|cpu| cpu.vcpu.xsave())?;
    layout.get(&area, register).ok_or_else(|| {
        PyValueError::new_err(format!("this processor has no {}", format!("{register:?}").to_uppercase()))
    })
}

/// Sets some registers of `cpu` at once.
fn set(cpu: &Vcpu, how: impl FnOnce(&mut Vec<u8>) -> bool) -> PyResult<()> {
    let done = cpu.slot()?.with(|cpu| {
        let mut area = cpu.vcpu.xsave()?;
        let done = how(&mut area);
        if done { cpu.vcpu.set_xsave(&area).map(|()| true) } else { Ok(false) }
    })?;
    if done { Ok(()) } else { Err(PyValueError::new_err("this processor has no such register")) }
}

/// The floating-point and vector registers of one vCPU, live: reading asks the vCPU (one ioctl), writing sets it (two).
#[pyclass(frozen, module = "belljar")]
pub struct Fpu {
    cpu: Py<Vcpu>,
}

impl Fpu {
    pub(super) fn new(cpu: Py<Vcpu>) -> Self {
        Self { cpu }
    }

    fn vectors(&self, py: Python<'_>, name: &'static str, kind: fn(usize) -> Register) -> VectorRegisters {
        VectorRegisters { cpu: self.cpu.clone_ref(py), name, kind }
    }
}

/// Refuses what the register cannot hold, in words.
fn sound(register: Register, bytes: &[u8]) -> PyResult<()> {
    let value = bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
    Ok(if matches!(register, Register::Mxcsr) { valid::mxcsr(value) } else { Ok(()) }?)
}

macro_rules! control_words {
    ($($get:ident $set:ident $register:ident $width:literal $doc:literal;)+) => {
        #[pymethods]
        impl Fpu {
            $(
                #[doc = $doc]
                #[getter]
                fn $get(&self) -> PyResult<u64> {
                    let mut word = [0; 8];
                    word[..$width].copy_from_slice(&get(self.cpu.get(), Register::$register)?);
                    Ok(u64::from_le_bytes(word))
                }

                #[setter]
                fn $set(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
                    let (bytes, layout) = (from_int(value, $width)?, &XsaveForm::get()?.layout);
                    sound(Register::$register, &bytes)?;
                    set(self.cpu.get(), |area| layout.set(area, Register::$register, &bytes))
                }
            )+
        }
    };
}

control_words! {
    fcw set_fcw Fcw 2 "The x87 control word.";
    fsw set_fsw Fsw 2 "The x87 status word; bits 11 to 13 are the top of the stack.";
    ftw set_ftw Ftw 1 "The abridged x87 tag word: a bit for each physical register in use (Intel SDM vol. 1, 10.5.1).";
    fop set_fop Fop 2 "The opcode of the last x87 instruction.";
    fip set_fip Fip 8 "The address of the last x87 instruction.";
    fdp set_fdp Fdp 8 "The address of the last x87 operand.";
    mxcsr set_mxcsr Mxcsr 4 "MXCSR: rounding and exceptions of SSE. RegisterError for reserved bits.";
    pkru set_pkru Pkru 4 "PKRU: the rights of each protection key. ValueError where the processor has none.";
}

#[pymethods]
impl Fpu {
    /// XMM0 on, as integers of 128 bits: `fpu.xmm[0]`.
    #[getter]
    fn xmm(&self, py: Python<'_>) -> VectorRegisters {
        self.vectors(py, "xmm", Register::Xmm)
    }

    /// YMM0 on, as integers of 256 bits; none without AVX.
    #[getter]
    fn ymm(&self, py: Python<'_>) -> VectorRegisters {
        self.vectors(py, "ymm", Register::Ymm)
    }

    /// ZMM0 on, as integers of 512 bits; none without AVX-512.
    #[getter]
    fn zmm(&self, py: Python<'_>) -> VectorRegisters {
        self.vectors(py, "zmm", Register::Zmm)
    }

    /// The masks K0 to K7, as integers of 64 bits; none without AVX-512.
    #[getter]
    fn k(&self, py: Python<'_>) -> VectorRegisters {
        self.vectors(py, "k", Register::Mask)
    }

    /// ST(0) to ST(7) as floats, the top of the stack first. A register that is set is in use.
    #[getter]
    fn st(&self, py: Python<'_>) -> FloatStack {
        FloatStack { cpu: self.cpu.clone_ref(py) }
    }

    /// ST(0) to ST(7) as integers of 80 bits: what the registers hold, exactly. Their low 64 bits are MM0 to MM7.
    #[getter]
    fn st_raw(&self, py: Python<'_>) -> VectorRegisters {
        self.vectors(py, "st", Register::St)
    }

    /// The whole XSAVE area in its standard form, as bytes; setting takes as many.
    #[getter]
    fn raw<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let area = self.cpu.get().slot()?.with(|cpu| cpu.vcpu.xsave())?;
        Ok(PyBytes::new(py, &area))
    }

    #[setter]
    fn set_raw(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let area = super::memory::copied(value)?;
        Ok(self.cpu.get().slot()?.with(|cpu| cpu.vcpu.set_xsave(&area))?)
    }

    /// Where the parts of `raw` beyond x87 and SSE lie: their name in XCR0 ("avx", "opmask") -> (offset, length in bytes).
    #[allow(clippy::unused_self)] // a property of Python's
    #[getter]
    fn components(&self) -> PyResult<BTreeMap<String, (u32, u32)>> {
        Ok(XsaveForm::get()?.layout.components.iter().map(|c| (c.name(), (c.offset, c.size))).collect())
    }

    fn __repr__(&self) -> String {
        let shown = || -> PyResult<String> {
            let layout = &XsaveForm::get()?.layout;
            let area = self.cpu.get().slot()?.with(|cpu| cpu.vcpu.xsave())?;
            let values = layout.values(&area);
            let (words, vectors) = values.split_at(7);
            let mut lines = vec![words.iter().map(|(n, b)| format!("{n}={}", hex(b))).collect::<Vec<_>>().join(" ")];
            let set = vectors.iter().filter(|(_, bytes)| bytes.iter().any(|b| *b != 0));
            lines.extend(set.map(|(name, bytes)| format!("{name:>10} {}", hex(bytes))));
            Ok(lines.join("\n"))
        };
        shown().unwrap_or_else(|_| "<Fpu of a running or closed VM>".into())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.cpu)
    }
}

/// Where element `index` of `count` is, counted from the end if negative.
fn position(index: isize, count: usize, name: &str) -> PyResult<usize> {
    let at = if index < 0 { count.checked_add_signed(index) } else { usize::try_from(index).ok() };
    let at = at.filter(|at| *at < count);
    at.ok_or_else(|| PyIndexError::new_err(format!("this processor has {count} {name} registers; {index} is none")))
}

/// Registers of one kind, live: integers by index, or all at once as an array.
#[pyclass(frozen, sequence, module = "belljar")]
pub struct VectorRegisters {
    cpu: Py<Vcpu>,
    name: &'static str,
    kind: fn(usize) -> Register,
}

impl VectorRegisters {
    fn all(&self) -> PyResult<Vec<Vec<u8>>> {
        let layout = &XsaveForm::get()?.layout;
        let area = self.cpu.get().slot()?.with(|cpu| cpu.vcpu.xsave())?;
        Ok((0..layout.count(self.kind)).filter_map(|n| layout.get(&area, (self.kind)(n))).collect())
    }
}

#[pymethods]
impl VectorRegisters {
    fn __len__(&self) -> PyResult<usize> {
        Ok(XsaveForm::get()?.layout.count(self.kind))
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: isize) -> PyResult<Int<'py>> {
        let at = position(index, self.__len__()?, self.name)?;
        to_int(py, &get(self.cpu.get(), (self.kind)(at))?).map(Int)
    }

    fn __setitem__(&self, index: isize, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (layout, at) = (&XsaveForm::get()?.layout, position(index, self.__len__()?, self.name)?);
        let register = (self.kind)(at);
        let bytes = from_int(value, layout.width(register).unwrap_or(0))?;
        set(self.cpu.get(), |area| layout.set(area, register, &bytes))
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Ints<'py>> {
        let values: PyResult<Vec<_>> = self.all()?.iter().map(|bytes| to_int(py, bytes)).collect();
        Ok(Ints(PyList::new(py, values?)?.try_iter()?.into_any()))
    }

    /// A copy of all of them as a numpy array: one row for each register, its lowest element first.
    ///
    /// `dtype` is that of the elements: `fpu.xmm.as_array("float32")` has the shape (16, 4). Not for `st_raw`, whose
    /// ten bytes have no such type.
    #[pyo3(signature = (dtype: "Any" = None) -> "Any")]
    fn as_array<'py>(&self, py: Python<'py>, dtype: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let rows = self.all()?;
        let dtype = dtype.map_or_else(|| pyo3::types::PyString::new(py, "uint32").into_any(), Clone::clone);
        let flat = py.import("numpy")?.call_method1("frombuffer", (PyBytes::new(py, &rows.concat()), dtype))?;
        flat.call_method1("reshape", (rows.len(), -1))?.call_method0("copy")
    }

    fn __repr__(&self) -> PyResult<String> {
        let rows = self.all()?;
        let lines: Vec<_> = rows
            .iter()
            .enumerate()
            .map(|(n, bytes)| format!("{:>6} {}", format!("{}{n}", self.name), hex(bytes)))
            .collect();
        Ok(lines.join("\n"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.cpu)
    }
}

/// The x87 stack as floats, live. They are rounded to 64 bits; `st_raw` has all 80.
#[pyclass(frozen, sequence, module = "belljar")]
pub struct FloatStack {
    cpu: Py<Vcpu>,
}

#[pymethods]
impl FloatStack {
    #[allow(clippy::unused_self)] // a method of Python's
    fn __len__(&self) -> usize {
        8
    }

    fn __getitem__(&self, index: isize) -> PyResult<f64> {
        let bytes = get(self.cpu.get(), Register::St(position(index, 8, "st")?))?;
        Ok(float80::to_f64(bytes.try_into().unwrap_or_default()))
    }

    fn __setitem__(&self, index: isize, value: f64) -> PyResult<()> {
        let (layout, at) = (&XsaveForm::get()?.layout, position(index, 8, "st")?);
        set(self.cpu.get(), |area| {
            let word = |bytes: Option<Vec<u8>>| bytes.and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes);
            let top = usize::from(word(layout.get(area, Register::Fsw)) >> 11 & 7);
            let tags = layout.get(area, Register::Ftw).map_or(0, |b| b[0]) | 1 << ((top + at) % 8);
            layout.set(area, Register::St(at), &float80::from_f64(value)) && layout.set(area, Register::Ftw, &[tags])
        })
    }

    fn __repr__(&self) -> PyResult<String> {
        let values: PyResult<Vec<_>> = (0..8).map(|n| Ok(format!("{:?}", self.__getitem__(n)?))).collect();
        Ok(format!("[{}]", values?.join(", ")))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.cpu)
    }
}
