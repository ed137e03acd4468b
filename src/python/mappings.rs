//! The class `Mapping`, and the methods that list them. It never reads a table: `inspect` does.

use pyo3::prelude::*;

use crate::error::Result as CoreResult;
use crate::inspect::{Mapping as Core, Mappings as Found, Tour};
use crate::x86::walk::Rights;

use super::address::Fitting;
use super::memory::seldom;
use super::running::detached;
use super::size::human;
use super::typed::Mappings;
use super::vcpu::Vcpu;
use super::virtual_memory::VirtualMemory;

/// A range of virtual addresses with the same permissions, in pages of one size.
///
/// `gpa` is where its first page lies; if `contiguous`, the others follow it.
#[pyclass(frozen, eq, hash, module = "belljar")]
#[derive(PartialEq, Eq, Hash)]
pub struct Mapping(Core);

#[pymethods]
impl Mapping {
    /// The first address.
    #[getter]
    fn start(&self) -> u64 {
        self.0.start
    }

    /// One past the last address.
    #[getter]
    fn end(&self) -> u128 {
        u128::from(self.0.last) + 1
    }

    /// Length in bytes.
    #[getter]
    fn size(&self) -> u128 {
        u128::from(self.0.last - self.0.start) + 1
    }

    /// The guest-physical address of the first page.
    #[getter]
    fn gpa(&self) -> u64 {
        self.0.gpa.0
    }

    /// The pages lie one behind the other in physical memory.
    #[getter]
    fn contiguous(&self) -> bool {
        self.0.contiguous
    }

    /// Bytes of a page.
    #[getter]
    fn page_size(&self) -> u64 {
        self.0.page_size
    }

    /// Writes are allowed.
    #[getter]
    fn writable(&self) -> bool {
        self.0.rights.writable
    }

    /// Ring 3 may touch it.
    #[getter]
    fn user(&self) -> bool {
        self.0.rights.user
    }

    /// Instructions may be fetched from it.
    #[getter]
    fn executable(&self) -> bool {
        self.0.rights.executable
    }

    fn __contains__(&self, address: Fitting<u64>) -> bool {
        (self.0.start..=self.0.last).contains(&address.0)
    }

    fn __repr__(&self) -> String {
        let Core { start, last, gpa, contiguous, page_size, rights } = self.0;
        let end = u128::from(last) + 1;
        let scattered = if contiguous { "" } else { " and elsewhere" };
        format!("<{start:#x}..{end:#x} {}, {} pages at {gpa:#x}{scattered}>", letters(rights), human(page_size))
    }
}

/// The rights as people read them: "rwx user".
fn letters(rights: Rights) -> String {
    let letter = |yes: bool, letter: char| if yes { letter } else { '-' };
    let who = if rights.user { "user" } else { "supervisor" };
    format!("r{}{} {who}", letter(rights.writable, 'w'), letter(rights.executable, 'x'))
}

fn listed<'py>(
    py: Python<'py>,
    memory: &VirtualMemory,
    start: Fitting<u64>,
    end: Option<Fitting<u64>>,
    physical: bool,
) -> PyResult<Mappings<'py>> {
    let last = end.map_or(Some(u64::MAX), |end| end.0.checked_sub(1)).filter(|last| *last >= start.0);
    let found = match last {
        Some(last) => detached(py, || -> CoreResult<_> {
            memory.tour(Tour { first: start.0, last, physical, ..Tour::default() }, &seldom())
        })?,
        None => Found::default(),
    };
    let rows: Vec<_> = found.ranges.into_iter().map(Mapping).collect();
    Mappings::of(py, "_of", (rows, found.cut.map(|cut| cut.to_string())))
}

#[pymethods]
impl VirtualMemory {
    /// All that is mapped from `start` up to `end`: a list of Mapping in the order of addresses, and a table.
    ///
    /// Neighbours with the same permissions and page size are one range; with physical=True a range also ends where the next
    /// page lies elsewhere. Tables that lead into each other without end cost no more than a bounded time: then the list is
    /// a beginning, and its `cut` says why.
    #[pyo3(
        signature = (start = Fitting(0), end = None, *, physical = false),
        text_signature = "($self, start=0, end=None, *, physical=False)"
    )]
    fn mappings<'py>(
        &self,
        py: Python<'py>,
        start: Fitting<u64>,
        end: Option<Fitting<u64>>,
        physical: bool,
    ) -> PyResult<Mappings<'py>> {
        listed(py, self, start, end, physical)
    }
}

#[pymethods]
impl Vcpu {
    /// All that is mapped in the address space that this vCPU is in, from `start` up to `end`: as VirtualMemory.mappings.
    #[pyo3(
        signature = (start = Fitting(0), end = None, *, physical = false),
        text_signature = "($self, start=0, end=None, *, physical=False)"
    )]
    fn mappings<'py>(
        &self,
        py: Python<'py>,
        start: Fitting<u64>,
        end: Option<Fitting<u64>>,
        physical: bool,
    ) -> PyResult<Mappings<'py>> {
        listed(py, &VirtualMemory::following(self.vm().clone_ref(py), self.number()), start, end, physical)
    }
}
