//! Expressions as Python writes them, operator by operator. They hold the core's tree, which it computes, and never a machine.

use pyo3::exceptions::{PyAttributeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyRange, PyString};

use crate::addr::GuestPhys;
use crate::error::{Error, Result as CoreResult};
use crate::hook::{Binary, Expression as Core, Field, NoRegisters, Range, Scope, System};
use crate::machine::InSlot;
use crate::source::ReadMemory;
use crate::x86::{Part, Regs};

use super::exit::from_python;
use super::vm::VM;

/// An unsigned 64-bit value, or a truth, to be computed from a guest; arithmetic wraps as the processor's does.
///
/// Made of bj.reg, bj.mem, bj.exit and integers. Compare with `== != < <= > >=` (unsigned), combine truths with `& | ~` (and
/// in parentheses: they bind tighter than comparisons), ask `.isin([...])`. Of two integers, `&` and `|` combine the bits; if one
/// of them is a truth, the other one is as well: an integer that is not 0. `~` is always the truth that the other one does not hold.
/// What the guest has not (the exit no such field, an address no memory) makes what is computed from it absent, too; a comparison
/// with it does not hold, `~` of that does; so it is with what is divided by 0. `and`, `or` and `not` cannot be kept for later and raise TypeError. At most 4096 parts, 200 deep:
/// ValueError.
#[pyclass(frozen, module = "belljar")]
pub struct Expression(pub(super) Core);

impl Expression {
    fn new(core: Core) -> PyResult<Self> {
        Ok(Self(core.checked()?))
    }

    fn binary(how: Binary, left: Core, right: Core) -> PyResult<Self> {
        Self::new(Core::Binary(how, left.into(), right.into()))
    }

    fn with(&self, how: Binary, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::binary(how, self.0.clone(), operand(other)?)
    }

    fn after(&self, how: Binary, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::binary(how, operand(other)?, self.0.clone())
    }
}

/// What an expression is made of: another one, or an integer modulo 2**64.
fn operand(value: &Bound<'_, PyAny>) -> PyResult<Core> {
    if let Ok(expression) = value.cast::<Expression>() {
        return Ok(expression.get().0.clone());
    }
    if value.hasattr("__index__")? {
        return Ok(Core::Constant(word(value)?)); // numpy's integers, too
    }
    let got = value.get_type().name()?;
    let hint = if value.is_instance_of::<PyString>() { ": the address of a symbol is vm.symbols[name]" } else { "" };
    Err(PyTypeError::new_err(format!("an expression is made of integers and expressions, not of {got}{hint}")))
}

/// An integer modulo 2**64.
fn word(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    value.py().import("operator")?.getattr("index")?.call1((value,))?.bitand(u64::MAX)?.extract()
}

/// The filter that `when` is.
pub fn filter(when: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Core>> {
    let Some(when) = when else { return Ok(None) };
    if let Ok(expression) = when.cast::<Expression>() {
        return Ok(Some(expression.get().0.clone()));
    }
    let got = when.repr()?;
    Err(PyTypeError::new_err(if when.is_callable() {
        format!(
            "when is an expression such as bj.reg.rax == 5, which is compiled; a Python function is not: test inside the handler what {got} tests"
        )
    } else {
        format!("when is an expression such as bj.reg.rax == 5, not {got}")
    }))
}

/// Most values that are spelt out.
const MOST_VALUES: usize = 0x1_0000;

/// The numbers of a Python range, which are to be from 0 to 2**64 - 1.
fn span(range: &Bound<'_, PyRange>) -> PyResult<Range> {
    let wrong = || PyValueError::new_err(format!("{range} is no range of numbers from 0 to 2**64 - 1, upwards"));
    let step: u64 = range.getattr("step")?.extract().map_err(|_| wrong())?;
    if range.is_empty()? {
        return Ok(Range { first: 1, last: 0, step: 1 });
    }
    let first: u64 = range.getattr("start")?.extract().map_err(|_| wrong())?;
    let last: u64 = range.get_item(-1)?.extract().map_err(|_| wrong())?;
    Ok(Range { first, last, step })
}

/// What an expression meets that is computed without a machine.
struct Nothing;

impl ReadMemory for Nothing {
    fn read(&self, at: GuestPhys, into: &mut [u8]) -> CoreResult<()> {
        Err(Error::Unbacked { at: at.0, len: u64::try_from(into.len()).unwrap_or(u64::MAX), near: None })
    }
}

/// How many bytes a word of so many bits has.
fn bytes(bits: u8) -> PyResult<u8> {
    if [8, 16, 32, 64].contains(&bits) {
        return Ok(bits / 8);
    }
    Err(PyAttributeError::new_err(format!("memory is read as u8, u16, u32 or u64, not as u{bits}")))
}

#[pymethods]
impl Expression {
    /// A general register, or a part of one: what bj.reg.rax is.
    #[staticmethod]
    fn register(name: &str) -> PyResult<Self> {
        if let Some((_, which)) = System::ALL.iter().find(|(known, _)| *known == name) {
            return Self::new(Core::System(*which));
        }
        let part = Part::named(name).ok_or_else(|| {
            let system: Vec<_> = System::ALL.iter().map(|(name, _)| *name).collect();
            PyAttributeError::new_err(format!(
                "no register is named {name:?}; there are {}, {}, and parts such as eax",
                Regs::NAMES.join(", "),
                system.join(", ")
            ))
        })?;
        Self::new(Core::Register(part))
    }

    /// A field of the exit at hand: what bj.exit.port is.
    #[staticmethod]
    fn field(name: &str) -> PyResult<Self> {
        let field = Field::named(name).ok_or_else(|| {
            let names: Vec<_> = Field::ALL.iter().map(|field| field.name()).collect();
            PyAttributeError::new_err(format!(
                "no exit has a number that is named {name:?}; there are {}",
                names.join(", ")
            ))
        })?;
        Self::new(Core::Exit(field))
    }

    /// Guest-physical memory of 8, 16, 32 or 64 bits at `address`, little-endian: what bj.mem.u64(address) is.
    #[staticmethod]
    #[pyo3(signature = (bits: "int", address: "Expression | int"))]
    fn memory(bits: u8, address: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::new(Core::Memory(bytes(bits)?, operand(address)?.into()))
    }

    /// The same at an address as the exit's vCPU sees it, through its page tables: what bj.virtual.u64(address) is.
    #[staticmethod]
    #[pyo3(signature = (bits: "int", address: "Expression | int"))]
    fn r#virtual(bits: u8, address: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::new(Core::Virtual(bytes(bits)?, operand(address)?.into()))
    }

    /// The names of the fields that exits have.
    #[staticmethod]
    fn fields() -> Vec<&'static str> {
        Field::ALL.iter().map(|field| field.name()).collect()
    }

    /// Is the value one of these integers? A range may be as long as it likes, from 0 on; else at most 65536 of them.
    #[pyo3(signature = (values: "Iterable[int]"))]
    fn isin(&self, values: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(range) = values.cast::<PyRange>() {
            return Self::new(Core::IsInRange(self.0.clone().into(), span(range)?));
        }
        let first = values.try_iter()?.take(MOST_VALUES + 1);
        let mut wanted = first.map(|value| word(&value?)).collect::<PyResult<Vec<_>>>()?;
        if wanted.len() > MOST_VALUES {
            return Err(PyValueError::new_err(format!("at most {MOST_VALUES} values; a range may be longer")));
        }
        wanted.sort_unstable();
        wanted.dedup();
        Self::new(Core::IsIn(self.0.clone().into(), wanted.into()))
    }

    /// The value now in `vm`, or with `exit` at hand, on its vCPU; None where it is absent. A truth is 0 or 1.
    ///
    /// The VM is to be stopped, or this a handler of it, if registers are asked for (RunningError).
    #[pyo3(signature = (vm: "VM | None" = None, exit: "Exit | None" = None))]
    fn value(&self, vm: Option<&Bound<'_, VM>>, exit: Option<&Bound<'_, PyAny>>) -> PyResult<Option<u64>> {
        let exit = exit.map(from_python).transpose()?;
        let vcpu = exit.as_ref().map_or(0, |(_, vcpu)| *vcpu);
        let machine = vm.map(|vm| vm.get().machine());
        let memory = machine.map_or::<&dyn ReadMemory, _>(&Nothing, |machine| &*machine.memory);
        let exit = exit.as_ref().map(|(exit, _)| exit);
        let Some(machine) = machine else {
            return Ok(self.0.value(&mut Scope { exit, answer: None, vcpu, registers: &mut NoRegisters, memory }));
        };
        let mut registers = InSlot::new(machine, vcpu);
        let value = self.0.value(&mut Scope { exit, answer: None, vcpu, registers: &mut registers, memory });
        registers.failure.map_or(Ok(value), |error| Err(error.into()))
    }

    /// Does it hold now in `vm`, or with `exit` at hand: is it there, and not 0? Otherwise as value().
    #[pyo3(signature = (vm: "VM | None" = None, exit: "Exit | None" = None))]
    fn holds(&self, vm: Option<&Bound<'_, VM>>, exit: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        Ok(self.value(vm, exit)?.is_some_and(|value| value != 0))
    }

    #[allow(clippy::unused_self)] // Python's signature
    fn __bool__(&self) -> PyResult<bool> {
        Err(PyTypeError::new_err("an expression has no truth yet: combine with & | ~ instead of and, or, not"))
    }

    fn __invert__(&self) -> PyResult<Self> {
        Self::new(Core::Not(self.0.clone().into()))
    }

    fn __and__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::new(self.0.clone().and(operand(other)?))
    }

    fn __rand__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::new(operand(other)?.and(self.0.clone()))
    }

    fn __or__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::new(self.0.clone().or(operand(other)?))
    }

    fn __ror__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::new(operand(other)?.or(self.0.clone()))
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.with(Binary::Equal, other)
    }

    fn __ne__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.with(Binary::NotEqual, other)
    }

    fn __lt__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.with(Binary::Less, other)
    }

    fn __le__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.with(Binary::LessOrEqual, other)
    }

    fn __gt__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.with(Binary::Greater, other)
    }

    fn __ge__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.with(Binary::GreaterOrEqual, other)
    }

    fn __add__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.with(Binary::Add, other)
    }

    fn __radd__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.after(Binary::Add, other)
    }

    fn __sub__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.with(Binary::Subtract, other)
    }

    fn __rsub__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.after(Binary::Subtract, other)
    }

    fn __mul__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.with(Binary::Multiply, other)
    }

    fn __rmul__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.after(Binary::Multiply, other)
    }

    fn __floordiv__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.with(Binary::Divide, other)
    }

    fn __rfloordiv__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.after(Binary::Divide, other)
    }

    fn __mod__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.with(Binary::Modulo, other)
    }

    fn __rmod__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.after(Binary::Modulo, other)
    }

    fn __xor__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.with(Binary::BitXor, other)
    }

    fn __rxor__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.after(Binary::BitXor, other)
    }

    fn __lshift__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.with(Binary::ShiftLeft, other)
    }

    fn __rlshift__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.after(Binary::ShiftLeft, other)
    }

    fn __rshift__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.with(Binary::ShiftRight, other)
    }

    fn __rrshift__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.after(Binary::ShiftRight, other)
    }

    fn __repr__(&self) -> String {
        self.0.to_string()
    }
}
