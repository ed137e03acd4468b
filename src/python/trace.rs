//! The native half of `belljar.trace.Trace`: what is recorded, batches as buffers, waiting. It never makes an array.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::PyTraverseError;
use pyo3::exceptions::PyValueError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyCapsule};

use crate::debug::{Point, Wish};
use crate::error::{Error, Result as CoreResult};
use crate::exit::{Exit, ExitKind};
use crate::hook::{Column, Expression, Field, Hook, NoRegisters, Scope, Subject, Trace, Wanted, ticks};
use crate::machine::Phase;

use super::arrow::{self, ArrowBatch};
use super::exit::class_name;
use super::expression::filter;
use super::hook::wanted;
use super::running::{detached, poll, seconds};
use super::trace_batch::Batch;
use super::traced::{self, column, subjects};
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
    /// Breakpoints that are there for the trace alone.
    points: Mutex<Vec<Arc<Point>>>,
    /// The filter.
    when: Option<Expression>,
    /// Of steps, only those that are branches.
    branches: bool,
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
        let points = std::mem::take(&mut *self.points.lock().unwrap_or_else(PoisonError::into_inner));
        points.iter().try_for_each(|point| machine.remove_point(point))?;
        hooks.iter().try_for_each(|hook| machine.remove_hook(hook)).and_then(|()| self.trace.flush())
    }
}

#[pymethods]
impl VM {
    /// Records accesses natively, with no Python per event; returns a Trace, which is read as numpy arrays.
    ///
    /// `port`, `mmio` and `msr` are as for on_port, on_mmio and on_msr, and may be combined; `exits` is a class of exits or a
    /// tuple of them. `breakpoint` is an address or a symbol, or several: it is planted for the trace, and stops nobody; `watch`
    /// likewise is what vm.watch takes, or (address, size). Handles that vm.breakpoint and vm.watch returned may be given, too. With
    /// `step=True` each instruction is recorded, at the price of an exit each; with `branch=True` those that go elsewhere
    /// than to the next one: "source" and "size" are of the instruction, "address" is where it went. A read is recorded with its answer, after the handlers; anything else before them. `when` is an
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
        exits: "type[Exit] | tuple[type[Exit], ...] | None" = None,
        breakpoint: "int | str | Breakpoint | Sequence[int | str | Breakpoint] | None" = None,
        watch: "int | str | tuple[int, int] | object | None" = None, step = false, branch = false, access: "typing.Literal['r', 'w', 'rw']" = "rw",
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
        exits: Option<&Bound<'py, PyAny>>,
        breakpoint: Option<&Bound<'py, PyAny>>,
        watch: Option<&Bound<'py, PyAny>>,
        step: bool,
        branch: bool,
        access: &str,
        fields: Option<&Bound<'py, PyAny>>,
        when: Option<&Bound<'py, PyAny>>,
        capacity: i64,
        policy: &str,
        spill: Option<&Bound<'py, PyAny>>,
        wake: u64,
        every: Option<f64>,
    ) -> PyResult<PyTrace<'py>> {
        let (subjects, points) = ((port, mmio, msr, exits), (breakpoint, watch, step, branch));
        let arguments = (slf, subjects, points, access, fields, when, capacity, policy, spill, (wake, every));
        let arguments = arguments.into_pyobject(slf.py())?;
        PyTrace::of(slf.py(), "_of", arguments)
    }
}

#[pymethods]
impl Recorder {
    #[new]
    #[pyo3(signature = (vm: "VM", port, mmio, msr, exits, points, steps, access, columns, when, capacity, policy, spill))]
    #[allow(clippy::too_many_arguments)] // keyword arguments of VM.trace
    fn new(
        vm: Bound<'_, VM>,
        port: Option<&Bound<'_, PyAny>>,
        mmio: Option<&Bound<'_, PyAny>>,
        msr: Option<&Bound<'_, PyAny>>,
        exits: Option<Vec<Bound<'_, PyAny>>>,
        points: Vec<Bound<'_, PyAny>>,
        steps: Option<&str>,
        access: &str,
        columns: Vec<Bound<'_, PyAny>>,
        when: Option<&Bound<'_, PyAny>>,
        capacity: u64,
        policy: &str,
        spill: Option<PathBuf>,
    ) -> PyResult<Self> {
        let mut subjects = subjects(port, mmio, msr, None)?;
        for exit in exits.unwrap_or_default() {
            subjects.extend(traced::subjects(None, None, None, Some(&exit))?);
        }
        let (wanted, when) = (wanted(access)?, filter(when)?);
        let wishes = traced::wishes(&vm, &points, &mut subjects)?;
        subjects.extend(steps.map(|_| Subject::Kind(ExitKind::Step)));
        let branches = steps == Some("branch");
        let columns = columns.iter().map(column).collect::<PyResult<_>>()?;
        let policy = traced::policy(policy, spill)?;
        let (py, machine) = (vm.py(), Arc::clone(vm.get().machine()));
        let trace = py.detach(|| Trace::new(columns, &subjects, machine.cpus.len(), capacity, policy))?;
        let this = Self { vm: vm.unbind(), trace, hooks: Mutex::default(), points: Mutex::default(), when, branches };
        py.detach(|| {
            subjects.into_iter().try_for_each(|subject| this.add(subject, wanted))?;
            wishes.into_iter().try_for_each(|wish| this.plant(wish))
        })?;
        Ok(this)
    }

    /// Without a copy: a buffer of at most `most` records of one vCPU, or None.
    fn take(&self, most: u64) -> Option<Batch> {
        self.trace.take(most).map(Batch)
    }

    /// 64-bit words per record, as take() hands them out: one per field, and one more where some may be missing.
    #[getter]
    fn width(&self) -> usize {
        self.trace.width()
    }

    /// Has every record the field of this number?
    fn is_sure(&self, number: usize) -> bool {
        self.trace.is_sure(number)
    }

    /// Is the field of this number the kind of exit?
    fn is_kind(&self, number: usize) -> bool {
        self.trace.columns().get(number) == Some(&Column::Kind)
    }

    /// A copy of at most `most` records of all vCPUs, in the order of their times; little-endian, `words` of each record.
    fn read<'py>(&self, py: Python<'py>, most: u64, words: usize) -> PyResult<Bound<'py, PyByteArray>> {
        let (batches, width) = (py.detach(|| self.trace.read(most)), self.trace.width());
        let count: usize = batches.iter().map(|batch| batch.words().len() / width).sum();
        PyByteArray::new_with(py, count * words.min(width) * 8, |bytes| {
            let mut places = bytes.chunks_exact_mut(8);
            for batch in &batches {
                let kept = batch.words().chunks_exact(width).flat_map(|record| record.iter().take(words));
                for (word, place) in kept.zip(&mut places) {
                    place.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
                }
            }
            Ok(())
        })
    }

    /// The records that wait, at most `most`, as a capsule of an Arrow stream, which takes them while it is read.
    fn arrow_stream<'py>(&self, py: Python<'py>, names: Vec<String>, most: u64) -> PyResult<Bound<'py, PyCapsule>> {
        arrow::stream(py, &self.trace, &names, most)
    }

    /// The Arrow schema of its records, as a capsule.
    fn arrow_schema<'py>(&self, py: Python<'py>, names: Vec<String>) -> PyResult<Bound<'py, PyCapsule>> {
        arrow::schema_capsule(py, &arrow::schema(&self.trace, &names))
    }

    /// At most `most` records as Arrow columns, or None.
    fn arrow_batch(&self, py: Python<'_>, names: Vec<String>, most: u64) -> PyResult<Option<ArrowBatch>> {
        py.detach(|| ArrowBatch::of(&self.trace, &names, most))
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

    /// By vCPU: the first instruction that was stepped, and where the steps have led to; None before the first.
    fn trails(&self) -> Vec<Option<(u64, u64)>> {
        self.trace.trails()
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
        let mut when = self.when.clone();
        if self.branches && subject == Subject::Kind(ExitKind::Step) {
            let taken = Expression::Exit(Field::Taken);
            when = Some(match when {
                Some(when) => Expression::And(Arc::new(taken), Arc::new(when)),
                None => taken,
            });
        }
        let hook = Hook::recording(subject, wanted, when, Arc::clone(&self.trace));
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&hook));
        let added = self.vm.get().machine().add_hook(hook);
        if added.is_err() {
            let _: CoreResult<()> = self.take_away(); // those before it
        }
        added
    }
}

impl Recorder {
    /// A breakpoint for the trace alone, whose hits nobody stops at.
    fn plant(&self, wish: Wish) -> CoreResult<()> {
        let planted = self.vm.get().machine().add_point(wish);
        match planted {
            Ok(point) => {
                self.points.lock().unwrap_or_else(PoisonError::into_inner).push(point);
                Ok(())
            }
            Err(error) => {
                let _: CoreResult<()> = self.take_away(); // what was there before it
                Err(error)
            }
        }
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
