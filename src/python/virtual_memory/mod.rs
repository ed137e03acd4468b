//! The class `VirtualMemory`: memory as the code of one address space sees it. It never holds memory itself, and keeps the
//! results of page walks only for as long as nobody can have changed a table.

mod bulk;

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use crate::addr::{GuestPhys, GuestVirt};
use crate::error::Result as CoreResult;
use crate::inspect::{Linear, Mappings, Tour, VirtualMemory as Core, Walks};
use crate::memory::{Found, Memory as Physical, Needle, Poll, Where, search};
use crate::source::ReadRegs;
use crate::x86::regs::Paging;
use crate::x86::{Space, Walk, disassemble};

use super::address::{Address, Count, Fitting, Spot};
use super::breakpoint::{resolved, resolved_in};
use super::decode::{listing, names};
use super::memory::{Bytes, Of};
use super::running::detached;
use super::translation::{Translation, Wanted};
use super::vcpu::Vcpu;
use super::vm::VM;

/// The guest's memory by virtual (linear) address, through its page tables. Integers are little-endian.
///
/// `cpu.virtual` and `vm.virtual()` follow the vCPU's CR3, whatever that is at each call; `vm.virtual(cr3)` stays in one
/// address space, also while the guest runs. What is not mapped raises GuestMemoryError with the address. A write is a
/// debugger's: it heeds no permission of the guest's, and sets no accessed or dirty bit.
///
/// `at` may also be a symbol, as for vm.breakpoint: "jiffies", "do_exit+0x10"; KeyError if there is none of that name.
#[pyclass(frozen, module = "belljar")]
pub struct VirtualMemory {
    of: Of,
    whose: Whose,
    /// What names places in memory that is nobody's; a machine knows its own.
    symbols: Option<Py<PyAny>>,
    kept: Shared,
}

/// What is kept for all who look at one address space.
pub type Shared = Arc<Mutex<Kept>>;

/// Which address space it is.
#[derive(Clone, Copy)]
enum Whose {
    /// This one.
    Fixed(Space),
    /// The one that a vCPU of the machine is in.
    Vcpu(u32),
}

/// The results of walks, and when they were right.
#[derive(Default)]
pub struct Kept {
    walks: Walks,
    right: Option<(Space, u64)>,
}

impl VirtualMemory {
    /// One address space over any memory.
    pub fn new(of: Of, space: Space) -> Self {
        Self { of, whose: Whose::Fixed(space), symbols: None, kept: Shared::default() }
    }

    /// The same, whose listings name what `symbols` has.
    #[must_use]
    pub fn with_symbols(self, symbols: Option<Py<PyAny>>) -> Self {
        Self { symbols, ..self }
    }

    /// The address space that vCPU `id` of `vm` is in, now and later. All that follow it share what they find.
    pub fn following(vm: Py<VM>, id: u32) -> Self {
        let kept = vm.get().walks_of(id);
        Self { of: Of::Machine(vm), whose: Whose::Vcpu(id), symbols: None, kept }
    }

    /// The address space, as it is now.
    pub fn space(&self) -> CoreResult<Space> {
        self.of.core().check_open()?;
        match (self.whose, &self.of) {
            (Whose::Fixed(space), _) => Ok(space),
            (Whose::Vcpu(id), Of::Machine(vm)) => vm.get().machine().sregs(id).map(|sregs| Space::of(&sregs)),
            (Whose::Vcpu(_), Of::Saved(_)) => Err(crate::error::Error::Closed), // which nobody makes
        }
    }

    /// Looks at the memory, with what is known of its tables.
    fn look<T>(&self, at: impl FnOnce(&Core<'_, Physical>) -> CoreResult<T>) -> CoreResult<T> {
        let space = self.space()?;
        let before = self.of.quiet_since().map(|moment| (space, moment));
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        let walks = if before.is_some() && kept.right == before { kept.walks } else { Walks::default() };
        let memory = Core::with_walks(self.of.core(), space, walks);
        let result = at(&memory);
        if before.is_some() && self.of.quiet_since().map(|moment| (space, moment)) == before {
            let kept = Kept { walks: memory.into_walks(), right: before };
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        }
        result
    }

    /// The width of code in it.
    fn code_bits(&self) -> CoreResult<u32> {
        match (self.whose, &self.of) {
            (Whose::Vcpu(id), Of::Machine(vm)) => Ok(vm.get().machine().sregs(id)?.code_bits()),
            _ => Ok(if matches!(self.space()?.paging, Paging::Level4 | Paging::Level5) { 64 } else { 32 }),
        }
    }

    /// Who knows names in it.
    fn symbols<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match &self.of {
            Of::Machine(vm) => names(vm.bind(py)).map(Some),
            Of::Saved(_) => Ok(self.symbols.as_ref().map(|symbols| symbols.bind(py).clone())),
        }
    }

    /// The address of `spot`.
    pub fn place(&self, spot: Spot<'_>) -> PyResult<Address> {
        let at = match (spot, &self.of, &self.symbols) {
            (Spot::At(at), ..) => at,
            (Spot::Named(name), Of::Machine(vm), _) => resolved(vm.bind(name.py()), &name)?.0,
            (Spot::Named(name), Of::Saved(_), symbols) => resolved_in(symbols.as_ref(), &name)?,
        };
        Ok(Address(GuestPhys(at)))
    }

    /// All that is mapped in a part of it.
    pub fn tour(&self, tour: Tour, poll: Poll<'_>) -> CoreResult<Mappings> {
        Core::new(self.of.core(), self.space()?).mappings(tour, poll)
    }

    /// Walks to `at`.
    pub fn walk(&self, at: u64) -> CoreResult<(Space, Walk)> {
        let space = self.space()?;
        Ok((space, Core::new(self.of.core(), space).walk(GuestVirt(at))))
    }
}

impl Bytes for VirtualMemory {
    fn check(&self, at: u64, len: u64, poll: Poll<'_>) -> CoreResult<()> {
        self.look(|memory| memory.check(GuestVirt(at), len, poll))
    }

    fn fill_from(&self, at: u64, into: &mut [u8]) -> CoreResult<()> {
        self.look(|memory| memory.read(GuestVirt(at), into))
    }

    fn fill_present(&self, at: u64, into: &mut [Option<u8>]) -> CoreResult<()> {
        self.look(|memory| {
            memory.read_present(GuestVirt(at), into);
            Ok(())
        })
    }

    fn writable(&self) -> PyResult<()> {
        self.of.machine().map(drop)
    }

    fn put(&self, at: u64, bytes: &[u8]) -> CoreResult<()> {
        let memory = self.of.core();
        let pieces = self.look(|memory| memory.pieces(GuestVirt(at), bytes.len()))?;
        for (at, len) in &pieces {
            memory.check(*at, u64::try_from(*len).unwrap_or(u64::MAX))?;
        }
        let mut rest = bytes;
        for (at, len) in pieces {
            let (now, later) = rest.split_at(len);
            memory.write(at, now)?;
            rest = later;
        }
        Ok(())
    }

    fn c_string(&self, at: u64, most: usize) -> CoreResult<Vec<u8>> {
        self.look(|memory| memory.read_cstring(GuestVirt(at), most))
    }

    fn gather(&self, addresses: &[u64], width: usize, into: &mut [u8], poll: Poll<'_>) -> CoreResult<()> {
        self.look(|memory| memory.gather(addresses, width, into, poll))
    }

    fn find(&self, needle: &Needle, place: Where, poll: Poll<'_>) -> CoreResult<Vec<Found>> {
        self.look(|memory| {
            let backed = memory.memory().stretches(GuestPhys(0), GuestPhys(u64::MAX));
            let stretches = memory.stretches(place.first.0, place.end.0, &backed, poll)?;
            search(&Linear(memory), &stretches, needle, place, poll)
        })
    }
}

#[pymethods]
impl VirtualMemory {
    /// CR3 of the address space: where its tables begin, and flags.
    #[getter]
    fn cr3(&self) -> PyResult<u64> {
        Ok(self.space()?.cr3)
    }

    /// How addresses are translated: "off", "32-bit", "PAE", "4-level" or "5-level".
    #[getter]
    fn paging(&self) -> PyResult<&'static str> {
        Ok(self.space()?.paging.name())
    }

    /// Where `at` leads, or why nowhere.
    ///
    /// With write, user or execute the access is checked, too, by ring 3 if `user`, else by ring 0; without any of them,
    /// what is mapped translates. See VCPU.translate.
    #[pyo3(signature = (at, *, write = false, user = None, execute = false))]
    fn translate(&self, at: Spot<'_>, write: bool, user: Option<bool>, execute: bool) -> PyResult<Translation> {
        let at = self.place(at)?.0.0;
        let (space, walk) = self.walk(at)?;
        Ok(Translation::of(at, space, walk, Wanted { write, user, execute }.by_ring(0, false)))
    }

    /// `count` instructions from `at` on, as far as they are mapped, with the names that `symbols` has: by default
    /// vm.symbols.
    ///
    /// `bits` is 16, 32 or 64, by default as the vCPU's code segment says, and 64 in a fixed address space of 4 or 5 levels.
    #[pyo3(
        signature = (at, count = Count(16), *, bits = None, symbols = None) -> "list[Instruction]",
        text_signature = "($self, at, count=16, *, bits=None, symbols=None)"
    )]
    pub fn disasm<'py>(
        &self,
        py: Python<'py>,
        at: Spot<'py>,
        count: Count,
        bits: Option<u32>,
        symbols: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let at = self.place(at)?.0.0;
        let found = detached(py, || -> CoreResult<_> {
            let bits = bits.map_or_else(|| self.code_bits(), Ok)?;
            disassemble(&self.look(|memory| Ok(memory.code(GuestVirt(at), count.0)))?, at, bits, count.0)
        })?;
        let symbols = symbols.map_or_else(|| self.symbols(py), |given| Ok(Some(given)))?;
        listing(py, found, None, symbols.as_ref())
    }

    fn __repr__(&self) -> String {
        match self.space() {
            Ok(space) if space.paging == Paging::Off => "<VirtualMemory without paging>".into(),
            Ok(space) => format!("<VirtualMemory of CR3 {:#x}, {}>", space.cr3, space.paging.name()),
            Err(error) => format!("<VirtualMemory: {error}>"),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.symbols)?;
        self.of.traverse(&visit)
    }
}

#[pymethods]
impl VM {
    /// The memory of the address space whose tables are at `cr3`, in the paging mode of vCPU `cpu`; without a `cr3`,
    /// whatever that vCPU is in.
    #[pyo3(signature = (cr3 = None, *, cpu = Fitting(0)), text_signature = "($self, cr3=None, *, cpu=0)")]
    fn r#virtual(slf: &Bound<'_, Self>, cr3: Option<Fitting<u64>>, cpu: Fitting<u32>) -> PyResult<VirtualMemory> {
        let vm = slf.clone().unbind();
        slf.get().machine().cpu(cpu.0)?;
        let Some(cr3) = cr3 else { return Ok(VirtualMemory::following(vm, cpu.0)) };
        let space = Space::of(&slf.get().machine().sregs(cpu.0)?).with_cr3(cr3.0);
        Ok(VirtualMemory::new(Of::Machine(vm), space))
    }

    /// Where the virtual address `at` leads, by the tables at `cr3` (by default the first vCPU's), or why nowhere.
    ///
    /// With write, user or execute the access is checked, too. See VCPU.translate.
    #[pyo3(signature = (at, cr3 = None, *, write = false, user = None, execute = false))]
    fn translate(
        slf: &Bound<'_, Self>,
        at: Spot<'_>,
        cr3: Option<Fitting<u64>>,
        write: bool,
        user: Option<bool>,
        execute: bool,
    ) -> PyResult<Translation> {
        Self::r#virtual(slf, cr3, Fitting(0))?.translate(at, write, user, execute)
    }
}

#[pymethods]
impl Vcpu {
    /// The memory of the address space that this vCPU is in, whichever that is at each call.
    #[getter]
    fn r#virtual(&self, py: Python<'_>) -> VirtualMemory {
        VirtualMemory::following(self.vm().clone_ref(py), self.number())
    }

    /// Where the virtual (linear) address `at` leads, or why nowhere.
    ///
    /// With write, user or execute the access is checked as the processor would check this vCPU's (Intel SDM vol. 3, 4.6:
    /// CR0.WP, SMEP, SMAP with RFLAGS.AC; not protection keys): by ring 3 if `user`, by ring 0 if user=False, by default in
    /// the ring that it is in. Without any of them, what is mapped translates.
    #[pyo3(signature = (at, *, write = false, user = None, execute = false))]
    fn translate(
        &self,
        py: Python<'_>,
        at: Spot<'_>,
        write: bool,
        user: Option<bool>,
        execute: bool,
    ) -> PyResult<Translation> {
        let at = match at {
            Spot::At(at) => at,
            named @ Spot::Named(_) => self.r#virtual(py).place(named)?.0.0,
        };
        let (regs, sregs) = (self.machine().regs(self.number())?, self.machine().sregs(self.number())?);
        let space = Space::of(&sregs);
        let walk = Core::new(&*self.machine().memory, space).walk(GuestVirt(at));
        let ac = regs[crate::x86::Gpr::Rflags] & crate::x86::rflags::AC != 0;
        Ok(Translation::of(at, space, walk, Wanted { write, user, execute }.by_ring(sregs.cpl(), ac)))
    }
}
