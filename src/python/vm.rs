//! The class `VM`. Each method converts, detaches from the interpreter, asks the machine, and wraps the answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use pyo3::PyTraverseError;
use pyo3::exceptions::PyValueError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};

use crate::addr::GuestPhys;
use crate::boot::bare::Mode;
use crate::boot::image;
use crate::boot::symbols::Symbols;
use crate::error::{Error, Result as CoreResult};
use crate::exit::Interruption;
use crate::gdb::Server;
use crate::kvm::Irqchip;
use crate::machine::{Config, Machine, Phase, Zone};
use crate::memory::Pages;

use super::address::{Address, Fitting};
use super::console::Console;
use super::cpuid::shape;
use super::functions::Functions;
use super::hook::Function;
use super::host::quirks;
use super::memory::{Huge, Memory, Of};
use super::points::KnownPoints;
use super::running::{around, detached, is_of_a_machine, poll};
use super::size::Ram;
use super::vcpu::Vcpu;
use super::virtual_memory::Shared;

/// A whole virtual machine: memory, vCPUs, devices, and who answers its exits.
///
/// `memory` is bytes or a string such as "64M" (RAM from address 0 on; None for none); `vcpus` counts; `irqchip` is
/// None, "split" or "full"; `serial`, `i8042` and `pit` add these devices; `huge` is as for memory.add. With `bus_lock`, a
/// guest that locks the bus exits (BusLock); with `notify_window`, one that keeps interrupts out for so many cycles (Notify). `cpuid` changes what the guest's CPUID says: {"avx2": False, "brand": "Mine", (7, 0): (0, 0, 0, 0)}.
/// Raises HostError where there is no KVM, or where the processor does not offer such an exit.
#[pyclass(frozen, weakref, name = "VM", module = "belljar")]
pub struct VM {
    machine: Arc<Machine>,
    /// The functions that the machine's hooks call, for the garbage collector.
    pub(super) functions: Functions,
    /// Those that are handed queued writes.
    readers: Mutex<Vec<(Weak<Zone>, Arc<Function>)>>,
    /// They serve gdb, until the VM is closed.
    servers: Mutex<Vec<Arc<Server>>>,
    /// It may be running though nobody refers to it. Set with the interpreter attached, so that no collection sees it change.
    pub(super) in_background: AtomicBool,
    /// The devices that are attached, which belljar.attachment keeps.
    pub(super) devices: Py<PyList>,
    /// Of the image that was booted last.
    pub(super) symbols: Mutex<Arc<Symbols>>,
    /// Breakpoints and watchpoints, so that they can be listed.
    pub(super) points: KnownPoints,
    /// Results of page walks in the address space that each vCPU is in, for as long as they are right.
    walks: Box<[Shared]>,
}

impl VM {
    pub(super) fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// What is kept of page walks by vCPU `id`.
    pub(super) fn walks_of(&self, id: u32) -> Shared {
        usize::try_from(id).ok().and_then(|at| self.walks.get(at)).map(Shared::clone).unwrap_or_default()
    }

    pub(super) fn keep_reader(&self, zone: &Arc<Zone>, function: Arc<Function>) {
        let is_gone = |zone: &Weak<Zone>| zone.upgrade().is_none_or(|zone| zone.is_removed());
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let old: Vec<_> = readers.extract_if(.., |(zone, _)| is_gone(zone)).collect();
        readers.push((Arc::downgrade(zone), function));
        drop(readers);
        drop(old);
    }

    /// Has the server of gdb end with the VM.
    pub(super) fn keep_server(&self, server: &Arc<Server>) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let old: Vec<_> = servers.extract_if(.., |server| server.is_closed()).collect();
        servers.push(Arc::clone(server));
        drop(servers);
        drop(old);
    }

    /// The servers of gdb, to be closed: not with the interpreter attached, as that waits for their threads.
    fn take_servers(&self) -> Vec<Arc<Server>> {
        std::mem::take(&mut *self.servers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn forget_readers(&self) {
        let readers = std::mem::take(&mut *self.readers.lock().unwrap_or_else(PoisonError::into_inner));
        drop(readers);
    }
}

#[pymethods]
impl VM {
    #[new]
    #[pyo3(
        signature = (
            memory = Ram::default(), vcpus = 1, *, irqchip = None, serial = false, i8042 = false, pit = false,
            huge = Huge(Pages::Host), bus_lock = false, notify_window = None,
            cpuid: "collections.abc.Mapping[str | int | tuple[int, int], object] | None" = None
        ),
        text_signature = "(memory='64M', vcpus=1, *, irqchip=None, serial=False, i8042=False, pit=False, huge=None, bus_lock=False, notify_window=None, cpuid=None)"
    )]
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)] // keyword arguments of a constructor
    fn new(
        py: Python<'_>,
        memory: Ram,
        vcpus: i64,
        irqchip: Option<&str>,
        serial: bool,
        i8042: bool,
        pit: bool,
        huge: Huge,
        bus_lock: bool,
        notify_window: Option<Fitting<u32>>,
        cpuid: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let irqchip = match irqchip {
            None => Irqchip::None,
            Some("split") => Irqchip::Split,
            Some("full") => Irqchip::Full,
            Some(other) => {
                return Err(PyValueError::new_err(format!("irqchip is None, \"split\" or \"full\", not {other:?}")));
            }
        };
        let vcpus = u64::try_from(vcpus)
            .map_err(|_| PyValueError::new_err(format!("{vcpus} vCPUs asked; a VM has at least 1")))?;
        let (memory, pages, notify_window) = (memory.0, huge.0, notify_window.map(|cycles| cycles.0));
        let config = Config { memory, pages, vcpus, irqchip, pit, serial, i8042, bus_lock, notify_window };
        let quirks = py.detach(quirks)?;
        let machine = Arc::new(py.detach(|| Machine::new(&config, quirks))?);
        cpuid.map_or(Ok(()), |wish| shape(&machine, wish))?;
        let _ = machine.around.set(around); // nobody else has it yet
        super::shutdown::watch(py, &machine)?;
        let functions = Functions::default();
        let (readers, servers, symbols) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (in_background, devices) = (AtomicBool::new(false), PyList::empty(py).unbind());
        let (points, walks) = (KnownPoints::default(), machine.cpus.iter().map(|_| Shared::default()).collect());
        Ok(Self { machine, functions, readers, servers, in_background, devices, symbols, points, walks })
    }

    /// The first vCPU.
    #[getter]
    fn cpu(slf: &Bound<'_, Self>) -> Vcpu {
        Vcpu::new(slf.clone().unbind(), 0)
    }

    /// All vCPUs, in the order of their numbers.
    #[getter]
    fn cpus(slf: &Bound<'_, Self>) -> PyResult<Vec<Py<Vcpu>>> {
        let ids = slf.get().machine.cpus.iter().map(|c| c.id);
        ids.map(|id| Py::new(slf.py(), Vcpu::new(slf.clone().unbind(), id))).collect()
    }

    /// The guest's physical memory.
    #[getter]
    fn memory(slf: &Bound<'_, Self>) -> Memory {
        Memory::new(Of::Machine(slf.clone().unbind()))
    }

    /// The far end of the serial line. ValueError for a VM without one.
    #[getter]
    fn console(slf: &Bound<'_, Self>) -> PyResult<Console> {
        match slf.get().machine.serial {
            Some(_) => Ok(Console::new(slf.clone().unbind())),
            None => Err(PyValueError::new_err("this VM has no serial port: make it with VM(serial=True)")),
        }
    }

    /// The guest's clock (kvmclock) in nanoseconds, which runs on while the VM is stopped. Settable.
    #[getter]
    fn clock(&self) -> PyResult<u64> {
        Ok(self.machine.clock()?)
    }

    #[setter]
    fn set_clock(&self, nanoseconds: Fitting<u64>) -> PyResult<()> {
        Ok(self.machine.set_clock(nanoseconds.0)?)
    }

    /// "stopped", "running", "paused" or "closed".
    ///
    /// Stopped: it has not run, or stop() ended its run in the background. Paused: it is held between two instructions,
    /// after pause(), after run(), or after a run that ended by itself; resume() or another run goes on.
    #[getter]
    fn state(&self) -> &'static str {
        match self.machine.phase() {
            Phase::Stopped => "stopped",
            Phase::Foreground | Phase::Background => "running",
            Phase::Paused => "paused",
            Phase::Closing | Phase::Closed => "closed",
        }
    }

    /// Puts `code` (bytes, or assembly text for bj.asm) at guest-physical `at` and has a vCPU begin there.
    ///
    /// `mode` is "real", "protected", "long" or "user"; the host builds segments and tables at the end of RAM. In "user"
    /// mode the code runs in ring 3, and its exceptions come out of run() as GuestException.
    #[pyo3(
        signature = (code, mode = "long", *, at = Address(GuestPhys(0x1000)), vcpu = Fitting(0)),
        text_signature = "($self, code, mode='long', *, at=0x1000, vcpu=0)"
    )]
    fn load(
        &self,
        py: Python<'_>,
        code: &Bound<'_, PyAny>,
        mode: &str,
        at: Address,
        vcpu: Fitting<u32>,
    ) -> PyResult<()> {
        let mode = Mode::named(mode)?;
        let code = if code.is_instance_of::<PyString>() {
            py.import("belljar.assembly")?.getattr("asm")?.call1((code, mode.bits(), at.0.0))?
        } else {
            code.clone()
        };
        let code = super::memory::copied(&code)?;
        py.detach(|| self.machine.load(&code, mode, at.0, vcpu.0))?;
        Ok(())
    }

    /// Loads a kernel image (bzImage, vmlinux, ELF, Multiboot 1) and has vCPU 0 begin at its entry.
    ///
    /// Returns the format and the entry point; `vm.symbols` then has the image's symbol table. Raises ImageError for a file that is none of these or is damaged.
    #[pyo3(signature = (image, *, initrd = None, cmdline = "", tables = true))]
    fn boot(
        &self,
        py: Python<'_>,
        image: &Bound<'_, PyAny>,
        initrd: Option<&Bound<'_, PyAny>>,
        cmdline: &str,
        tables: bool,
    ) -> PyResult<(&'static str, u64)> {
        let bytes = super::memory::file_or_bytes(image)?;
        let initrd = initrd.map(super::memory::file_or_bytes).transpose()?;
        let cpus = u32::try_from(self.machine.cpus.len()).unwrap_or(u32::MAX);
        let options = image::Options { cmdline: cmdline.to_owned(), initrd, cpus, tables };
        let loaded = py.detach(|| -> CoreResult<_> {
            let reset = self.machine.cpu(0)?.with(|cpu| cpu.vcpu.sregs())?;
            let loaded = image::load(&self.machine.memory, &bytes, &options, &reset)?;
            self.machine.begin_at(&loaded.start, 0)?;
            *self.symbols.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Symbols::parse(&bytes));
            Ok(loaded)
        })?;
        Ok((loaded.format, loaded.entry.0))
    }

    /// Ends all runs and gives everything back: descriptors, threads, mappings. May be called again, from any thread.
    ///
    /// Refused from a handler of this VM (RunningError) and while views of its memory are live (BufferError). What a handler
    /// raised in the background and no join(), stop() or start() has handed out goes to sys.unraisablehook.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        for failure in detached(py, || self.machine.close(&poll))? {
            PyErr::from(failure).write_unraisable(py, None);
        }
        py.detach(|| close(self.take_servers()));
        self.functions.clear();
        self.forget_readers();
        self.devices.bind(py).as_any().call_method0("clear")?;
        Ok(())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception: "object"))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        let cpus = self.machine.cpus.len();
        let bytes: u64 = self.machine.memory.regions().iter().filter(|r| !r.rom).map(|r| r.len).sum();
        let state = self.state();
        let at = match self.machine.cpu(0).and_then(|c| c.with(|cpu| cpu.vcpu.regs())) {
            Ok(regs) => format!(" at {:#x}", regs[crate::x86::Gpr::Rip]),
            Err(_) => String::new(),
        };
        match state {
            "closed" => "<VM closed>".into(),
            _ => format!(
                "<VM {cpus} vcpu{}, {}, {state}{at}>",
                if cpus == 1 { "" } else { "s" },
                super::size::human(bytes)
            ),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // What a vCPU may be inside of without Python's knowledge is not the collector's to take apart.
        let keeps_native = self.in_background.load(Ordering::Relaxed);
        self.functions.traverse(|hook, function| {
            let is_kept = keeps_native && hook.upgrade().is_some_and(|hook| hook.is_native());
            if is_kept { Ok(()) } else { visit.call(&function.0) }
        })?;
        if let Ok(readers) = self.readers.try_lock() {
            for (_, function) in readers.iter() {
                visit.call(&function.0)?;
            }
        }
        visit.call(&self.devices)
    }

    fn __clear__(&self) {
        self.machine.hooks.clear();
        self.functions.clear();
        self.machine.forget_zones();
        self.forget_readers();
    }
}

fn close(servers: Vec<Arc<Server>>) {
    for server in servers {
        server.close();
    }
}

/// Closes a machine that nobody can reach any more, and its servers.
fn end(py: Python<'_>, machine: &Machine, servers: Vec<Arc<Server>>) {
    let on_its_way = PyErr::take(py);
    // Not what handlers raised meanwhile: the collector may have taken them apart already.
    if let Err(error @ Error::Foreign(_)) = py.detach(|| machine.close(&poll)) {
        PyErr::from(error).write_unraisable(py, None);
    }
    py.detach(|| close(servers));
    if let Some(error) = on_its_way {
        error.restore(py);
    }
}

impl Drop for VM {
    /// A VM that nobody can reach any more ends its threads. Ctrl-C ends the wait for a handler that does not return.
    fn drop(&mut self) {
        let machine = Arc::clone(&self.machine);
        if machine.is_inherited() {
            return std::mem::forget(machine);
        }
        machine.interrupt(Interruption::Close); // also where closing is refused: in a handler of its own
        let servers = self.take_servers();
        if is_of_a_machine() {
            // It may have to wait for this very thread, or for one that waits for it.
            let closing = std::thread::Builder::new().name("belljar-close".into());
            let _ = closing.spawn(move || Python::try_attach(|py| end(py, &machine, servers)));
            return;
        }
        Python::attach(|py| end(py, &machine, servers));
    }
}
