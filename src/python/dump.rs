//! Guests into files and out of them: what `belljar.dump` is made of. It never holds a machine.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::addr::{GuestPhys, page_ceil, page_floor};
use crate::error::{Error, Result as CoreResult};
use crate::inspect::saved::write::{self, Alias};
use crate::inspect::saved::{Note, Segment, notes};
use crate::machine::saved::{Guest, open};
use crate::memory::{self, Part, Source};
use crate::x86::{Space, State as Core};

use super::address::Address;
use super::memory::{Memory, Of, copied, os_error};
use super::running::detached;
use super::typed::Session;
use super::virtual_memory::VirtualMemory;
use super::vm::VM;

type Notes<'py> = Vec<(String, u32, Bound<'py, PyBytes>)>;
type Segments = Vec<(u64, u64, u64, u64, u64)>;
type Contents<'py> = (&'static str, Memory, Notes<'py>, Vec<Bound<'py, PyBytes>>, Segments);

fn saved(memory: memory::Memory) -> Memory {
    Memory::new(Of::Saved(Arc::new(memory)))
}

/// What a dump has: kind of file, memory, notes, states, and its segments (address, size, virtual address, offset, size in the file).
#[pyfunction]
#[pyo3(signature = (path, raw = None) -> "tuple[str, Memory, list[tuple[str, int, bytes]], list[bytes], list[tuple[int, int, int, int, int]]]")]
pub fn dump_read(py: Python<'_>, path: PathBuf, raw: Option<Vec<(u64, u64, bool)>>) -> PyResult<Contents<'_>> {
    let file = py.detach(|| File::open(&path)).map_err(|e| os_error(&e, path.clone()))?;
    let name = path.display().to_string();
    let Guest { format, memory, segments, notes: all } =
        detached(py, || open(file, &name, raw.as_deref(), &super::memory::seldom()))?;
    let states = notes::states(&all).iter().map(|state| PyBytes::new(py, &state.encode())).collect();
    let notes = all.into_iter().map(|n| (n.name, n.kind, PyBytes::new(py, &n.data))).collect();
    let segments = segments.iter().map(|s| (s.at, s.len, s.virt, s.offset, s.filled)).collect();
    Ok((format, saved(memory), notes, states, segments))
}

/// Writes `memory`, the states of the vCPUs and other notes as an ELF core file; or with raw=True the memory alone.
///
/// `direct_map` is where the guest sees address 0, and `kernel` (address, length, virtual address) memory that it sees
/// elsewhere.
#[pyfunction]
#[pyo3(signature = (memory, path, states: "list[bytes]", notes: "list[tuple[str, int, bytes]]", direct_map: "int | None" = None, kernel: "tuple[int, int, int] | None" = None, *, raw = false) -> "None")]
#[expect(clippy::too_many_arguments, reason = "one call writes one file")]
pub fn dump_write(
    py: Python<'_>,
    memory: &Bound<'_, Memory>,
    path: PathBuf,
    states: Vec<Vec<u8>>,
    notes: Vec<(String, u32, Vec<u8>)>,
    direct_map: Option<u64>,
    kernel: Option<(u64, u64, u64)>,
    raw: bool,
) -> PyResult<()> {
    let states = states.iter().map(|s| super::state::decoded(s)).collect::<PyResult<Vec<_>>>()?;
    let memory = memory.get();
    let alias = kernel.map(|(at, len, virt)| Alias { at, len, virt });
    let file = py.detach(|| File::create(&path)).map_err(|e| os_error(&e, path.clone()))?;
    let written = detached(py, || -> CoreResult<Option<Error>> {
        let regions: Vec<_> = memory.core().list()?.iter().map(|r| (r.at.0, r.len, r.rom)).collect();
        let (head, segments) =
            if raw { raw_file(&regions) } else { core_file(&regions, &states, notes, (direct_map, alias)) };
        // An error of the file's is told with its path; one of ours as it is.
        match write::write(&file, &head, &segments, memory.core(), &super::memory::seldom()) {
            Err(error @ Error::Host { .. }) => Ok(Some(error)),
            other => other.map(|()| None),
        }
    })?;
    match written {
        Some(Error::Host { errno, .. }) => Err(os_error(&std::io::Error::from_raw_os_error(errno), path)),
        _ => Ok(()),
    }
}

fn core_file(
    regions: &[(u64, u64, bool)],
    states: &[Core],
    others: Vec<(String, u32, Vec<u8>)>,
    (direct_map, kernel): (Option<u64>, Option<Alias>),
) -> (Vec<u8>, Vec<Segment>) {
    let of = |(id, state)| notes::of_state(id, state);
    let mut all: Vec<_> = (0..).zip(states).flat_map(of).collect();
    // All threads first, as gdb and crash expect them, then what is about them.
    all.sort_by_key(|note| match note.name.as_str() {
        "CORE" => 0,
        "QEMU" => 1,
        _ => 2,
    });
    all.extend(others.into_iter().map(|(name, kind, data)| Note { name, kind, data }));
    let of_kernel =
        |at: u64| kernel.filter(|k| at >= k.at && at - k.at < k.len).map(|k| k.virt.wrapping_add(at - k.at));
    let usual = |at: u64| direct_map.map_or(at, |base| base.wrapping_add(at));
    write::elf(&write::cut(regions, kernel), &all, |at| of_kernel(at).unwrap_or_else(|| usual(at)))
}

fn raw_file(regions: &[(u64, u64, bool)]) -> (Vec<u8>, Vec<Segment>) {
    let place = |(at, len, rom): &(u64, u64, bool)| Segment {
        at: *at,
        virt: 0,
        len: *len,
        offset: *at,
        filled: *len,
        rom: *rom,
    };
    (Vec::new(), regions.iter().map(place).collect())
}

/// Memory of these bytes at these addresses, in whole pages: what they do not fill is zero.
#[pyfunction]
#[pyo3(signature = (parts: "dict[int, bytes]"))]
pub fn saved_memory(py: Python<'_>, parts: &Bound<'_, PyDict>) -> PyResult<Memory> {
    let given = |(at, data): (Bound<'_, PyAny>, Bound<'_, PyAny>)| -> PyResult<_> {
        let at: Address = at.extract()?;
        Ok((at.0.0, copied(&data)?))
    };
    let mut parts = parts.iter().map(given).collect::<PyResult<Vec<_>>>()?;
    parts.sort_by_key(|(at, _)| *at);
    let made = py.detach(|| -> CoreResult<_> {
        let memory = memory::Memory::saved(&pages_of(&parts)?)?;
        parts.iter().try_for_each(|(at, data)| memory.write(GuestPhys(*at), data)).map(|()| memory)
    })?;
    Ok(saved(made))
}

/// The regions that hold all parts, which are in order.
fn pages_of(parts: &[(u64, Vec<u8>)]) -> CoreResult<Vec<Part>> {
    let mut found: Vec<Part> = Vec::new();
    for (at, data) in parts.iter().filter(|(_, data)| !data.is_empty()) {
        let len = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let end = at.checked_add(len).and_then(page_ceil);
        let end = end.ok_or(Error::BeyondPhysical { at: *at, len, bits: 52 })?;
        let start = page_floor(*at);
        match found.last_mut() {
            Some(last) if last.at.0 + last.len >= start => last.len = last.len.max(end - last.at.0),
            _ => {
                let source = Source::default();
                found.push(Part { at: GuestPhys(start), len: end - start, rom: false, source });
            }
        }
    }
    Ok(found)
}

/// The memory of the address space whose tables are at `cr3`, in the paging mode that `state` says; without one, its own.
#[pyfunction]
#[pyo3(signature = (memory, state, cr3 = None, symbols: "object" = None))]
pub fn saved_virtual(
    py: Python<'_>,
    memory: &Bound<'_, Memory>,
    state: &[u8],
    cr3: Option<u64>,
    symbols: Option<Py<PyAny>>,
) -> PyResult<VirtualMemory> {
    let space = Space::of(&super::state::decoded(state)?.sregs);
    let space = cr3.map_or(space, |cr3| space.with_cr3(cr3));
    Ok(VirtualMemory::new(memory.get().of().clone_ref(py), space).with_symbols(symbols))
}

#[pymethods]
impl VM {
    /// Writes the guest into a file: see belljar.dump.dump.
    ///
    /// `format` is "elf" (an ELF core file, which bj.open_dump, crash, drgn and Volatility read) or "raw" (memory alone,
    /// with the registers in a second file, path + ".json"). A VM that runs in the background is paused meanwhile.
    #[pyo3(signature = (path: "str | os.PathLike[str]", *, format: "str" = "elf"), text_signature = "($self, path, *, format='elf')")]
    fn dump(slf: &Bound<'_, Self>, path: &Bound<'_, PyAny>, format: &str) -> PyResult<()> {
        slf.py().import("belljar.dump")?.getattr("dump")?.call1((slf, path, format)).map(drop)
    }

    /// What a Linux guest says of itself to those who read its memory, or None for another guest: found anew each time.
    #[getter]
    fn vmcoreinfo<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let memory = slf.getattr("memory")?;
        slf.py().import("belljar.vmcoreinfo")?.getattr("find")?.call1((memory,))
    }

    /// A drgn.Program on this guest, which reads its memory as it is at each moment.
    ///
    /// Of a Linux guest it knows symbols and types by what the kernel itself carries (kallsyms, BTF), so that
    /// `prog["init_task"].comm` and drgn's helpers work without any debug package. Of another guest it knows the
    /// symbols of the image that was booted, and reads virtual addresses as the first vCPU does. HostError without drgn.
    #[pyo3(signature = () -> "Any")]
    fn drgn<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("belljar.drgn_program")?.getattr("program")?.call1((slf,))
    }

    /// Volatility 3 on this guest: `vm.volatility().run("linux.pslist.PsList")`. HostError without volatility3.
    fn volatility<'py>(slf: &Bound<'py, Self>) -> PyResult<Session<'py>> {
        Session::of(slf.py(), "__call__", (slf,))
    }
}
