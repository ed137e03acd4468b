//! The method `VM.memory_map` and the value that it returns. It shows what is where, and never what is in it.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;

use crate::hook::{Hook, Subject};
use crate::machine::{Kind, Machine, Place, holes};

use super::address::Address;
use super::hook::Function;
use super::memory::Region;
use super::size::human;
use super::vm::VM;

/// One range of guest-physical addresses: `start`, `last` (both in it), and what answers there.
///
/// `kind` is "RAM", "ROM", "device" (native, or the kernel's), "handler" (of on_mmio) or "hole"; `name` the device's, the
/// handler's or the file's; `detail` more in words. `region` is that of RAM and ROM.
#[pyclass(frozen, eq, get_all, module = "belljar")]
#[derive(Clone, PartialEq, Eq)]
pub struct MemoryRange {
    start: u64,
    last: u64,
    kind: &'static str,
    name: String,
    detail: String,
    region: Option<Region>,
}

impl MemoryRange {
    fn words(&self) -> String {
        let words = [self.name.as_str(), self.detail.as_str()].into_iter().filter(|w| !w.is_empty());
        words.collect::<Vec<_>>().join(", ")
    }
}

#[pymethods]
impl MemoryRange {
    /// One past the last address.
    #[getter]
    fn end(&self) -> u128 {
        u128::from(self.last) + 1
    }

    /// Length in bytes.
    #[getter]
    fn size(&self) -> u128 {
        u128::from(self.last - self.start) + 1
    }

    fn __contains__(&self, address: Address) -> bool {
        (self.start..=self.last).contains(&address.0.0)
    }

    fn __repr__(&self) -> String {
        let words = self.words();
        let words = if words.is_empty() { words } else { format!(", {words}") };
        format!("<MemoryRange {} {:#x}..{:#x}{words}>", self.kind, self.start, self.end())
    }
}

/// What is where in a guest's physical address space: a sequence of MemoryRange, in the order of their addresses.
///
/// Handlers come after what they are in front of. Its text is a table.
#[pyclass(frozen, sequence, module = "belljar")]
pub struct MemoryMap {
    ranges: Vec<MemoryRange>,
}

#[pymethods]
impl MemoryMap {
    fn __len__(&self) -> usize {
        self.ranges.len()
    }

    fn __getitem__(&self, index: isize) -> PyResult<MemoryRange> {
        let from_end = self.ranges.len().checked_add_signed(index).filter(|_| index < 0);
        let at = from_end.or(usize::try_from(index).ok());
        at.and_then(|at| self.ranges.get(at)).cloned().ok_or_else(|| PyIndexError::new_err("no such range"))
    }

    fn __iter__(&self) -> MemoryRanges {
        MemoryRanges(Mutex::new(self.ranges.clone().into_iter()))
    }

    /// Does something answer at that address (memory, a device, a handler)? Or is it one of the ranges?
    fn __contains__(&self, what: &Bound<'_, PyAny>) -> PyResult<bool> {
        if let Ok(range) = what.cast::<MemoryRange>() {
            return Ok(self.ranges.contains(range.get()));
        }
        let address: Address = what.extract()?;
        Ok(self.ranges.iter().any(|r| r.kind != "hole" && r.__contains__(address)))
    }

    /// The ranges that hold `address`: memory, a device or a hole, and the handlers in front of it.
    fn at(&self, address: Address) -> Vec<MemoryRange> {
        self.ranges.iter().filter(|r| r.__contains__(address)).cloned().collect()
    }

    fn __repr__(&self) -> String {
        let digits = self.ranges.iter().map(|r| format!("{:x}", r.last).len()).max().unwrap_or(1).max(8);
        let mut text = format!("{:<1$}  {2:<1$}  {3:>9}  {4:<7}", "first", digits + 2, "last", "size", "kind");
        for range in &self.ranges {
            let (start, last, kind) = (range.start, range.last, range.kind);
            let size = u64::try_from(range.size()).map_or_else(|_| "all".into(), rounded);
            let words = range.words();
            let _ = write!(text, "\n0x{start:0digits$x}  0x{last:0digits$x}  {size:>9}  {kind:<7}  {words}");
        }
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }
}

/// A size for people: whole units, or about so many.
fn rounded(bytes: u64) -> String {
    let exact = human(bytes);
    if exact.len() <= 8 {
        return exact;
    }
    let (unit, shift) = match bytes {
        0..0x10_0000 => ("KiB", 10),
        0x10_0000..0x4000_0000 => ("MiB", 20),
        0x4000_0000..0x100_0000_0000 => ("GiB", 30),
        _ => ("TiB", 40),
    };
    format!("~{} {unit}", (bytes >> shift) + (bytes >> (shift - 1) & 1))
}

/// What iterates over a MemoryMap.
#[pyclass(frozen, module = "belljar")]
pub struct MemoryRanges(Mutex<std::vec::IntoIter<MemoryRange>>);

#[pymethods]
impl MemoryRanges {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self) -> Option<MemoryRange> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

#[pymethods]
impl VM {
    /// What is where in the guest's physical address space: RAM, ROM, devices, handlers of on_mmio, and holes.
    ///
    /// Up to the last address that the host lets a guest have. A value of this moment: later changes are not in it.
    fn memory_map(&self, py: Python<'_>) -> PyResult<MemoryMap> {
        let (places, last) = py.detach(|| (self.machine().places(), Machine::last_address()));
        let places = places?;
        let hooks = self.functions.hooks();
        let handlers = hooks.iter().filter_map(|(hook, function)| handler(py, hook, function));
        let mut ranges: Vec<_> = places.into_iter().map(native).chain(handlers).collect();
        let free = holes(ranges.iter().map(|r| (r.start, r.last)), last);
        ranges.extend(free.into_iter().map(native));
        ranges.sort_by_key(|r| (r.start, r.kind == "handler"));
        Ok(MemoryMap { ranges })
    }
}

fn native(place: Place) -> MemoryRange {
    let (kind, name, detail, region) = match place.kind {
        Kind::Memory(info) => {
            let region = Region::new(info);
            (region.kind(), String::new(), region.made_from().join(", "), Some(region))
        }
        Kind::Device { name, in_kernel } => {
            ("device", name.to_owned(), if in_kernel { "in the kernel" } else { "" }.to_owned(), None)
        }
        Kind::Hole => ("hole", String::new(), String::new(), None),
    };
    MemoryRange { start: place.first, last: place.last, kind, name, detail, region }
}

fn handler(py: Python<'_>, hook: &Hook, function: &Function) -> Option<MemoryRange> {
    let Subject::Mmio(span) = hook.subject else { return None };
    let name = function.0.bind(py).getattr("__name__").and_then(|n| n.extract()).unwrap_or_default();
    let access = match (hook.wanted.reads, hook.wanted.writes) {
        (true, false) => "reads",
        (false, true) => "writes",
        _ => "reads and writes",
    };
    let detail = format!("{access}{}", if hook.is_enabled() { "" } else { ", disabled" });
    Some(MemoryRange { start: span.first, last: span.last, kind: "handler", name, detail, region: None })
}
