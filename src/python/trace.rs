//! The native half of `belljar.trace.Trace`: what is recorded, batches as buffers, waiting. It never makes an array.

#![allow(unsafe_code)] // the buffer protocol hands out a raw pointer

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyString, PyTuple};
use pyo3::{PyTraverseError, ffi};

use crate::error::{Error, Result as CoreResult};
use crate::exit::{Exit, ExitKind};
use crate::hook::{
    Batch as CoreBatch, Column, Expression, Field, Hook, NoRegisters, Policy, Scope, Subject, Trace, Wanted, ticks,
};
use crate::machine::Phase;
use crate::x86::Part;

use super::exit::{class_name, kind_of, msr_number};
use super::expression::{Expression as PyExpression, filter};
use super::hook::{span, wanted};
use super::running::{detached, poll, seconds};
use super::typed::Trace as PyTrace;
use super::vm::VM;

/// How often a wait comes up to look for signals.
const SLICE: Duration = Duration::from_millis(20);

/// What a trace is told by: hooks that record, and where to.
#[pyclass(frozen, module = "belljar")]
pub struct Recorder {
    vm: Py<VM>,
    trace: Arc<Trace>,
    hooks: Mutex<Vec<Arc<Hook>>>,
    /// The filter, for synthetic events.
    when: Option<Expression>,
}

impl Recorder {
    fn hooks(&self) -> Vec<Arc<Hook>> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take_away(&self) -> CoreResult<()> {
        if self.vm.get().machine().is_inherited() {
            return Ok(()); // a forked child's copy, with locks that stayed behind
        }
        let hooks = std::mem::take(&mut *self.hooks.lock().unwrap_or_else(PoisonError::into_inner));
        let machine = self.vm.get().machine();
        hooks.iter().try_for_each(|hook| machine.remove_hook(hook)).and_then(|()| self.trace.flush())
    }
}

/// What `port=`, `mmio=`, `msr=` and `exits=` name.
fn subjects(
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

#[pymethods]
impl VM {
    /// Records accesses natively, with no Python per event; returns a Trace, which is read as numpy arrays.
    ///
    /// `port`, `mmio` and `msr` are as for on_port, on_mmio and on_msr, and may be combined; `exits` is a class of exits or a
    /// tuple of them; `watch` is a Watchpoint or several, alone, whose hits are recorded. A read is recorded with its answer, after the handlers; anything else before them. `when` is an
    /// expression: only exits at which it holds are recorded.
    ///
    /// `fields` are names ("time" in nanoseconds of time.monotonic_ns(), "sequence", the exit's "kind", its own fields such
    /// as "vcpu", "port" and "data", and registers), expressions, or pairs of a name and an expression; what an exit has
    /// not is 0. Each vCPU has a ring of `capacity` records. When it is full, policy "stop" has
    /// the vCPU wait for a reader on another thread, or ends the run with Interrupted("trace") if there is none, so that
    /// nothing is lost; "drop" counts what is lost; "spill" writes it to the file `spill`. The trace's fileno() is
    /// readable when `wake` records wait, and `every` so many seconds.
    #[pyo3(signature = (
        *, port: "int | range | None" = None, mmio: "int | range | None" = None, msr: "str | int | range | None" = None,
        watch: "Watchpoint | tuple[Watchpoint, ...] | None" = None, exits: "type[Exit] | tuple[type[Exit], ...] | None" = None, access: "typing.Literal['r', 'w', 'rw']" = "rw",
        fields: "Sequence[str | Expression | tuple[str, Expression]] | None" = None, when: "Expression | None" = None,
        capacity = 65536, policy: "typing.Literal['stop', 'drop', 'spill']" = "stop",
        spill: "str | os.PathLike[str] | None" = None, wake = 1, every = None
    ))]
    #[allow(clippy::too_many_arguments)] // keyword arguments
    fn trace<'py>(
        slf: &Bound<'py, Self>,
        port: Option<&Bound<'py, PyAny>>,
        mmio: Option<&Bound<'py, PyAny>>,
        msr: Option<&Bound<'py, PyAny>>,
        watch: Option<&Bound<'py, PyAny>>,
        exits: Option<&Bound<'py, PyAny>>,
        access: &str,
        fields: Option<&Bound<'py, PyAny>>,
        when: Option<&Bound<'py, PyAny>>,
        capacity: i64,
        policy: &str,
        spill: Option<&Bound<'py, PyAny>>,
        wake: u64,
        every: Option<f64>,
    ) -> PyResult<PyTrace<'py>> {
        let hits = watch.map(|watch| super::watch::hits(watch, when)).transpose()?;
        if hits.is_some() && (port.is_some() || mmio.is_some() || msr.is_some() || exits.is_some()) {
            return Err(PyValueError::new_err(
                "watch= is traced by itself: make another trace for ports, mmio, msr or exits",
            ));
        }
        let (exits, when) = hits.as_ref().map_or((exits, when), |(exits, when)| (Some(exits), Some(when)));
        let first = (slf, port, mmio, msr, exits, access, fields, when, capacity, policy, spill, wake);
        let arguments = first.into_pyobject(slf.py())?.add((every,))?;
        PyTrace::of(slf.py(), "_of", arguments.cast_into::<PyTuple>()?)
    }
}

/// A field: the name of one, or an expression.
fn column(what: &Bound<'_, PyAny>) -> PyResult<Column> {
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

fn policy(name: &str, spill: Option<PathBuf>) -> PyResult<Policy> {
    match (name, spill) {
        ("stop", None) => Ok(Policy::Stop),
        ("drop", None) => Ok(Policy::Drop),
        ("spill", Some(path)) => Ok(Policy::Spill(Mutex::new(BufWriter::new(File::create(path)?)))),
        ("spill", None) => Err(PyValueError::new_err("policy=\"spill\" needs a file: spill=\"records.bin\"")),
        ("stop" | "drop", Some(_)) => Err(PyValueError::new_err("a file to spill to is for policy=\"spill\"")),
        _ => Err(PyValueError::new_err(format!("policy is \"stop\", \"drop\" or \"spill\", not {name:?}"))),
    }
}

#[pymethods]
impl Recorder {
    #[new]
    #[pyo3(signature = (vm: "VM", port, mmio, msr, exits, access, columns, when, capacity, policy, spill))]
    #[allow(clippy::too_many_arguments)] // keyword arguments of VM.trace
    fn new(
        vm: Bound<'_, VM>,
        port: Option<&Bound<'_, PyAny>>,
        mmio: Option<&Bound<'_, PyAny>>,
        msr: Option<&Bound<'_, PyAny>>,
        exits: Option<Vec<Bound<'_, PyAny>>>,
        access: &str,
        columns: Vec<Bound<'_, PyAny>>,
        when: Option<&Bound<'_, PyAny>>,
        capacity: u64,
        policy: &str,
        spill: Option<PathBuf>,
    ) -> PyResult<Self> {
        let mut subjects = subjects(port, mmio, msr, None)?;
        for exit in exits.unwrap_or_default() {
            subjects.extend(self::subjects(None, None, None, Some(&exit))?);
        }
        let (wanted, when) = (wanted(access)?, filter(when)?);
        let columns = columns.iter().map(column).collect::<PyResult<_>>()?;
        let policy = self::policy(policy, spill)?;
        let (py, machine) = (vm.py(), Arc::clone(vm.get().machine()));
        let trace = py.detach(|| Trace::new(columns, machine.cpus.len(), capacity, policy))?;
        let this = Self { vm: vm.unbind(), trace, hooks: Mutex::default(), when };
        py.detach(|| subjects.into_iter().try_for_each(|subject| this.add(subject, wanted)))?;
        Ok(this)
    }

    /// Without a copy: a buffer of at most `most` records of one vCPU, or None.
    fn take(&self, most: u64) -> Option<Batch> {
        self.trace.take(most).map(Batch)
    }

    /// A copy of at most `most` records of all vCPUs, in the order of their times; little-endian.
    fn read<'py>(&self, py: Python<'py>, most: u64) -> PyResult<Bound<'py, PyByteArray>> {
        let batches = py.detach(|| self.trace.read(most));
        let size = batches.iter().map(|batch| size_of_val(batch.words())).sum();
        PyByteArray::new_with(py, size, |bytes| {
            let mut places = bytes.chunks_exact_mut(8);
            for batch in &batches {
                for (word, place) in batch.words().iter().zip(&mut places) {
                    place.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
                }
            }
            Ok(())
        })
    }

    /// Waits until `count` records wait; False after `timeout` seconds, and once no more can come.
    #[pyo3(signature = (count, timeout = None))]
    fn wait(&self, py: Python<'_>, count: u64, timeout: Option<f64>) -> PyResult<bool> {
        let deadline = seconds("timeout", timeout)?.and_then(|patience| Instant::now().checked_add(patience));
        detached(py, || {
            loop {
                let left = deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(Instant::now()));
                if self.trace.wait(count, left.min(SLICE)) {
                    return Ok(true);
                }
                poll()?;
                if left.is_zero() || self.is_removed() {
                    return Ok(false);
                }
            }
        })
    }

    /// A reader begins to stay, or leaves.
    fn staying(&self, yes: bool) {
        self.trace.reading(Some(yes));
    }

    /// A descriptor that is readable when `count` records wait, or `every` seconds.
    fn fileno(&self, count: u64, every: Option<f64>) -> PyResult<i32> {
        Ok(self.trace.alarm(count.max(1), seconds("every", every)?.filter(|every| !every.is_zero()))?)
    }

    /// Records no more.
    fn remove(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || self.take_away())
    }

    /// Has what was spilled reach its file.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || self.trace.flush())
    }

    /// Has it been removed, or its VM closed?
    #[getter]
    fn is_removed(&self) -> bool {
        self.hooks().is_empty() || matches!(self.vm.get().machine().phase(), Phase::Closed)
    }

    /// Can no record come unless the VM is run again?
    #[getter]
    fn is_at_rest(&self) -> bool {
        let phase = self.vm.get().machine().phase();
        self.is_removed() || !matches!(phase, Phase::Foreground | Phase::Background)
    }

    #[getter]
    fn enabled(&self) -> bool {
        self.hooks().iter().any(|hook| hook.is_enabled())
    }

    #[setter]
    fn set_enabled(&self, yes: bool) -> PyResult<()> {
        let hooks = self.hooks();
        if hooks.is_empty() {
            return Err(PyValueError::new_err("this trace has been removed: make a new one"));
        }
        for hook in hooks {
            hook.enable(yes);
        }
        Ok(())
    }

    #[getter]
    fn waiting(&self) -> u64 {
        self.trace.waiting()
    }

    #[getter]
    fn hits(&self) -> u64 {
        self.trace.hits()
    }

    #[getter]
    fn dropped(&self) -> u64 {
        self.trace.dropped()
    }

    #[getter]
    fn spilled(&self) -> u64 {
        self.trace.spilled()
    }

    /// Records `count` made-up writes of 0, 1, 2, ... to port 0x10 by `vcpu`, on this thread, as a run would.
    ///
    /// For tests and measurements. A run knows the time of an exit anyway: here it is made up, too. It waits where the ring is full. Must not be called while that vCPU runs.
    fn synthesize(&self, py: Python<'_>, count: u32, vcpu: u32) -> PyResult<()> {
        detached(py, || {
            let (machine, begin) = (self.vm.get().machine(), ticks());
            for data in 0..count {
                while self.trace.is_full(vcpu) {
                    if !self.trace.wait_for_room(vcpu, SLICE) {
                        poll()?;
                    }
                }
                let exit = Exit::PortOut { port: 0x10, size: 4, data };
                let memory = &*machine.memory;
                let registers = &mut NoRegisters;
                let mut scope = Scope { exit: Some(&exit), answer: None, vcpu, registers, memory };
                if self.when.as_ref().is_none_or(|when| when.holds(&mut scope)) {
                    self.trace.record(&exit, begin + u64::from(data), &mut scope);
                }
            }
            Ok(())
        })
    }

    /// The names of the classes of exits, by the number in the field "kind".
    #[staticmethod]
    fn kinds() -> Vec<&'static str> {
        ExitKind::ALL.iter().map(|kind| class_name(*kind)).collect()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.vm)
    }
}

impl Recorder {
    fn add(&self, subject: Subject, wanted: Wanted) -> CoreResult<()> {
        let hook = Hook::recording(subject, wanted, self.when.clone(), Arc::clone(&self.trace));
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&hook));
        let added = self.vm.get().machine().add_hook(hook);
        if added.is_err() {
            let _: CoreResult<()> = self.take_away(); // those before it
        }
        added
    }
}

impl Drop for Recorder {
    /// A trace that nobody can read any more records no more.
    fn drop(&mut self) {
        if let Err(error @ Error::Foreign(_)) = self.take_away() {
            error.unheard();
        }
    }
}

/// Records in one piece, as a buffer. Their room in the ring is free again when nobody holds it any more.
#[pyclass(frozen, module = "belljar")]
pub struct Batch(CoreBatch);

#[pymethods]
impl Batch {
    /// # Safety
    /// Called by the interpreter with a buffer to fill.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let words = slf.get().0.words();
        let length =
            isize::try_from(size_of_val(words)).map_err(|_| PyBufferError::new_err("more than 2**63 bytes"))?;
        let start = words.as_ptr().cast::<c_void>().cast_mut();
        // SAFETY: the interpreter passes a buffer to fill. The words stay where they are as long as the batch, to which
        // the buffer holds a reference, and nobody writes them meanwhile (the ring's promise); it is read-only.
        let result = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, 1, flags) };
        if result == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
