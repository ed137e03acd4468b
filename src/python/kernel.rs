//! The classes `Kernel` and `KernelSymbols`: a Linux kernel that was found in guest memory. It never reads that memory
//! once the kernel is found.

use std::sync::Arc;

use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::addr::GuestPhys;
use crate::inspect::linux::{self, KernelSymbol, KernelSymbols as Table};

use super::memory::{Memory, seldom};
use super::running::detached;
use super::typed::{Linux, Names};
use super::vm::VM;

/// A Linux kernel in guest memory, as `find_kernel` finds it.
#[pyclass(frozen, module = "belljar")]
pub struct Kernel(linux::Kernel);

#[pymethods]
impl Kernel {
    /// The guest-virtual address of its first byte, `_text`.
    #[getter]
    fn base(&self) -> u64 {
        self.0.place.text
    }

    /// The guest-physical address of its first byte.
    #[getter]
    fn gpa(&self) -> u64 {
        self.0.place.at
    }

    /// How far KASLR has moved its addresses, in bytes; 0 without KASLR.
    #[getter]
    fn slide(&self) -> u64 {
        self.0.slide()
    }

    /// The kernel's own `phys_base`: what is at `address` of its image lies at `address - 0xffffffff80000000 + phys_base`,
    /// modulo 2**64.
    #[getter]
    fn phys_base(&self) -> u64 {
        self.0.place.physical(0xffff_ffff_8000_0000)
    }

    /// A CR3 under which all of the kernel is mapped, whatever runs: that of `init_top_pgt`.
    #[getter]
    fn cr3(&self) -> u64 {
        self.0.place.cr3
    }

    /// The levels of its page tables: 4 or 5.
    #[getter]
    fn levels(&self) -> u8 {
        self.0.place.levels
    }

    /// What it says at boot: "Linux version 6.1.0 ...". Empty for a kernel that keeps no symbols of data.
    #[getter]
    fn banner(&self) -> &str {
        &self.0.banner
    }

    /// Its release, as `uname -r` says it.
    #[getter]
    fn release(&self) -> &str {
        self.0.release()
    }

    /// Its symbols.
    #[getter]
    fn symbols(&self) -> KernelSymbols {
        KernelSymbols(Arc::clone(&self.0.symbols))
    }

    /// What the kernel tells readers of its dumps (VMCOREINFO), as text: a line per name and value. Empty for a kernel
    /// that was built without CONFIG_CRASH_DUMP.
    #[getter]
    fn vmcoreinfo_text(&self) -> &str {
        &self.0.vmcoreinfo
    }

    /// The same as a dict of strings: "OSRELEASE", "SYMBOL(init_uts_ns)", "KERNELOFFSET", ...
    #[getter]
    fn vmcoreinfo(&self) -> std::collections::BTreeMap<&str, &str> {
        linux::entries(&self.0.vmcoreinfo).collect()
    }

    /// The guest-physical address of what is at `address` of the kernel's image: its code, data and BSS, but nothing
    /// that it has allocated.
    fn physical(&self, address: u64) -> u64 {
        self.0.place.physical(address)
    }

    fn __repr__(&self) -> String {
        let place = &self.0.place;
        format!(
            "<Kernel {} at {:#x}, gpa {:#x}, {} symbols>",
            self.0.release(),
            place.text,
            place.at,
            self.0.symbols.len()
        )
    }
}

#[pymethods]
impl VM {
    /// The Linux kernel that runs in the guest: its tasks, files, sockets, modules, log. See `belljar.linux.Linux`.
    ///
    /// It is looked for once, and again after another kernel was booted. Raises KernelError if there is none, or none yet.
    #[getter]
    fn linux(slf: Bound<'_, Self>) -> PyResult<Linux<'_>> {
        slf.get().machine().memory.check_open()?;
        Linux::of(slf.py(), "of", (slf.clone(),))
    }
}

/// Finds the Linux kernel that runs in `memory`, without any profile. A VM or a dump will do, too.
///
/// `cr3` are those of the vCPUs, if they are known: the kernel is looked for first where they map it; without them, or if
/// it is not there, in all of memory. Raises KernelError if there is none, or none that its own page tables map. Other
/// threads run meanwhile, the guest too, and Ctrl-C ends it.
#[pyfunction]
#[pyo3(signature = (memory: "Memory | VM | object", cr3 = Vec::new()), text_signature = "(memory, cr3=())")]
pub fn find_kernel(py: Python<'_>, memory: &Bound<'_, PyAny>, cr3: Vec<u64>) -> PyResult<Kernel> {
    let of_guest = memory.getattr_opt("memory")?;
    let memory = of_guest.as_ref().unwrap_or(memory).cast::<Memory>().map_err(|_| {
        PyTypeError::new_err(format!("a kernel is looked for in a VM, a dump or their memory, not in {memory:?}"))
    })?;
    let core = memory.get().core();
    let find = || linux::find(core, &core.stretches(GuestPhys(0), GuestPhys(u64::MAX)), &cr3, &seldom());
    detached(py, find).map(Kernel)
}

/// The symbols of a running kernel: a mapping from names to addresses, as the guest's code uses them.
///
/// It has the verbs of `Symbols`. They come from the kernel's own memory (kallsyms), moved as KASLR has moved them. Of
/// several symbols with one name, the global one counts, else the lowest; `find` gives all of them. Sizes are distances
/// to the next symbol. What each CPU has its own of is counted from the beginning of a CPU's area, up to Linux 6.14.
#[pyclass(frozen, mapping, module = "belljar")]
pub struct KernelSymbols(Arc<Table>);

impl KernelSymbols {
    fn list<'a, T>(&'a self, of: impl Fn(KernelSymbol<'a>) -> T) -> Vec<T> {
        self.0.iter().map(of).collect()
    }

    fn symbol(&self, name: &str) -> PyResult<KernelSymbol<'_>> {
        self.0.get(name).ok_or_else(|| PyKeyError::new_err(self.missing(name)))
    }

    /// What a KeyError says.
    fn missing(&self, name: &str) -> String {
        if self.0.is_empty() {
            return format!("{name}: this kernel keeps no symbols (it was built without CONFIG_KALLSYMS)");
        }
        let near =
            super::symbols::like(name, |pattern| self.0.find(pattern).take(5).map(|s| s.name.to_string()).collect());
        match near.len() {
            0 => format!("the kernel has no symbol '{name}'; look for its like with linux.symbols.find('*part*')"),
            _ => format!("the kernel has no symbol '{name}'; there is: {}", near.join(", ")),
        }
    }
}

#[pymethods]
impl KernelSymbols {
    fn __getitem__(&self, name: &str) -> PyResult<u64> {
        self.symbol(name).map(|s| s.address)
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> bool {
        name.extract::<&str>().is_ok_and(|name| self.0.get(name).is_some())
    }

    fn __len__(&self) -> usize {
        self.0.names()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Names<'py>> {
        Ok(Names(self.keys().into_pyobject(py)?.try_iter()?.into_any()))
    }

    /// The names, in the order of their addresses.
    fn keys(&self) -> Vec<&str> {
        self.list(|s| s.name)
    }

    /// The addresses, in ascending order.
    fn values(&self) -> Vec<u64> {
        self.list(|s| s.address)
    }

    /// Names and addresses, in the order of the addresses.
    fn items(&self) -> Vec<(&str, u64)> {
        self.list(|s| (s.name, s.address))
    }

    /// The address of `name`, or `default` if there is no such symbol.
    #[pyo3(signature = (name, default = None))]
    fn get(&self, name: &str, default: Option<u64>) -> Option<u64> {
        self.0.get(name).map(|s| s.address).or(default)
    }

    /// How many bytes there are from `name` to the next symbol. KeyError if there is none of that name.
    fn size(&self, name: &str) -> PyResult<u64> {
        self.symbol(name).map(|s| self.0.size(s.address))
    }

    /// The letter that nm gives the symbol `name`: "T" or "t" for code, "D", "d", "B", "b", "R", "r" for data; small for
    /// what only its own file knows. KeyError if there is none of that name.
    fn kind(&self, name: &str) -> PyResult<char> {
        self.symbol(name).map(|s| s.kind)
    }

    /// What lies at `address`: name of the symbol and distance from its beginning, or None for what is not the kernel's.
    fn lookup(&self, address: u64) -> Option<(&str, u64)> {
        self.0.at(address).map(|s| (s.name, address - s.address))
    }

    /// What lies at `address`, as "name+0x12" or "name", or None for what is not the kernel's.
    fn at(&self, address: u64) -> Option<String> {
        self.0.at(address).map(|s| match address - s.address {
            0 => s.name.to_owned(),
            offset => format!("{}+{offset:#x}", s.name),
        })
    }

    /// Names and addresses of all symbols that fit `pattern`: text in which `*` stands for any characters and `?` for
    /// one, or a compiled regular expression, which may match anywhere in a name.
    fn find(&self, py: Python<'_>, pattern: &Bound<'_, PyAny>) -> PyResult<Vec<(String, u64)>> {
        let own = |s: KernelSymbol<'_>| (s.name.to_owned(), s.address);
        if let Ok(pattern) = pattern.cast::<PyString>() {
            let pattern = pattern.to_str()?;
            return Ok(py.detach(|| self.0.find(pattern).map(own).collect()));
        }
        let search = pattern.getattr("search")?;
        let fits = |s: &KernelSymbol<'_>| search.call1((s.name,)).map(|found| !found.is_none());
        let all = self.0.all().map(|s| fits(&s).map(|fits| fits.then(|| own(s))));
        all.filter_map(Result::transpose).collect()
    }

    /// Could every symbol be read? If not, the guest's tables are damaged, and some are missing here.
    #[getter]
    fn complete(&self) -> bool {
        self.0.lost() == 0
    }

    fn __repr__(&self) -> String {
        match self.0.lost() {
            0 => format!("<KernelSymbols {}>", self.0.names()),
            lost => format!("<KernelSymbols {}, incomplete: {lost} are lost>", self.0.names()),
        }
    }
}
