//! The class `Translation`: where a virtual address leads, and which way. It never looks at memory again.

use std::fmt::Write as _;

use pyo3::prelude::*;

use crate::x86::access::Access;
use crate::x86::regs::Paging;
use crate::x86::{Page, Space, Walk};

use super::size::human;
use super::typed::PageTableEntry;

/// Where a virtual address leads, what the tables allow there, and every entry on the way; or where and why the walk ended.
///
/// True if it translates (and the access that was asked for is allowed). `entries` have the level (1 is the last
/// table), the entry's guest-physical address, and its value.
#[pyclass(frozen, eq, module = "belljar")]
#[derive(PartialEq, Eq)]
pub struct Translation {
    gva: u64,
    space: Space,
    walk: Walk,
    access: Access,
    /// Why not, if not.
    fault: Option<String>,
    error_code: Option<u32>,
}

/// An access that is to be checked, as Python asks for it.
#[derive(Clone, Copy)]
pub struct Wanted {
    /// It writes.
    pub write: bool,
    /// Ring 3 makes it.
    pub user: Option<bool>,
    /// It fetches an instruction.
    pub execute: bool,
}

impl Wanted {
    /// The access, and whether it is checked at all.
    pub fn by_ring(self, cpl: u8, ac: bool) -> (Access, bool) {
        let user = self.user.unwrap_or(cpl == 3);
        let access = Access { write: self.write, execute: self.execute, user, ac };
        (access, self.write || self.execute || self.user.is_some())
    }
}

impl Translation {
    /// What `walk` to `gva` says of an access.
    pub fn of(gva: u64, space: Space, walk: Walk, (access, checked): (Access, bool)) -> Self {
        let why = match walk.result {
            Err(fault) => Some((fault.to_string(), Ok(fault))),
            Ok(page) if checked => access.check(&space, &page).err().map(|denied| (denied.to_string(), Err(denied))),
            Ok(_) => None,
        };
        let error_code = why.as_ref().and_then(|(_, why)| access.error_code(&space, *why));
        Self { gva, space, walk, access, fault: why.map(|(text, _)| text), error_code }
    }

    fn page(&self) -> Option<Page> {
        self.walk.result.ok()
    }

    fn rights(&self) -> String {
        let Some(page) = self.page() else { return String::new() };
        let letter = |yes: bool, letter: char| if yes { letter } else { '-' };
        let mut text = format!("r{}{}", letter(page.writable, 'w'), letter(page.executable, 'x'));
        text.push_str(if page.user { ", user" } else { ", supervisor" });
        let more = [(page.global, "global"), (page.accessed, "accessed"), (page.dirty, "dirty")];
        for (_, name) in more.iter().filter(|(yes, _)| *yes) {
            let _ = write!(text, ", {name}"); // writing to a string does not fail
        }
        text
    }
}

#[pymethods]
impl Translation {
    /// The virtual address that was asked for.
    #[getter]
    fn gva(&self) -> u64 {
        self.gva
    }

    /// The guest-physical address that it leads to; None if nothing is mapped there.
    #[getter]
    fn gpa(&self) -> Option<u64> {
        self.page().map(|page| page.gpa.0)
    }

    /// Bytes of the page: 0x1000, 0x200000, 0x400000 or 0x40000000; None if nothing is mapped.
    #[getter]
    fn page_size(&self) -> Option<u64> {
        self.page().map(|page| page.size)
    }

    /// Every entry on the way allows writes.
    #[getter]
    fn writable(&self) -> bool {
        self.page().is_some_and(|page| page.writable)
    }

    /// Every entry on the way lets ring 3 in.
    #[getter]
    fn user(&self) -> bool {
        self.page().is_some_and(|page| page.user)
    }

    /// No entry on the way forbids execution.
    #[getter]
    fn executable(&self) -> bool {
        self.page().is_some_and(|page| page.executable)
    }

    /// The page is marked global.
    #[getter]
    fn is_global(&self) -> bool {
        self.page().is_some_and(|page| page.global)
    }

    /// The page has been used.
    #[getter]
    fn accessed(&self) -> bool {
        self.page().is_some_and(|page| page.accessed)
    }

    /// The page has been written.
    #[getter]
    fn dirty(&self) -> bool {
        self.page().is_some_and(|page| page.dirty)
    }

    /// The page's protection key, where CR4.PKE or CR4.PKS is set.
    #[getter]
    fn protection_key(&self) -> Option<u8> {
        self.page().and_then(|page| page.key)
    }

    /// The names of all that is set: "writable", "user", "executable", "global", "accessed", "dirty".
    #[getter]
    fn flags(&self) -> Vec<&'static str> {
        let Some(page) = self.page() else { return Vec::new() };
        let all = [
            (page.writable, "writable"),
            (page.user, "user"),
            (page.executable, "executable"),
            (page.global, "global"),
            (page.accessed, "accessed"),
            (page.dirty, "dirty"),
        ];
        all.into_iter().filter(|(yes, _)| *yes).map(|(_, name)| name).collect()
    }

    /// The entries that the walk has read, from the root on: each is (level, gpa, value).
    #[getter]
    fn entries<'py>(&self, py: Python<'py>) -> PyResult<Vec<PageTableEntry<'py>>> {
        let entries = self.walk.entries().iter();
        entries.map(|e| PageTableEntry::of(py, "_make", ((e.level, e.at.0, e.value),))).collect()
    }

    /// CR3 of the address space.
    #[getter]
    fn cr3(&self) -> u64 {
        self.space.cr3
    }

    /// How addresses are translated: "off", "32-bit", "PAE", "4-level" or "5-level".
    #[getter]
    fn paging(&self) -> &'static str {
        self.space.paging.name()
    }

    /// Why it does not translate, or why the access is denied, in words; None if nothing is in the way.
    #[getter]
    fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// The level at which the walk ended (1 is the last table); None if it came to a page, or never began.
    #[getter]
    fn fault_level(&self) -> Option<u8> {
        self.walk.result.err().and_then(crate::x86::PageFault::level)
    }

    /// The error code that the processor would push with the page fault; None if there would be none.
    ///
    /// An address that is not canonical is a general protection instead, and has none.
    #[getter]
    fn error_code(&self) -> Option<u32> {
        self.error_code
    }

    fn __bool__(&self) -> bool {
        self.fault.is_none()
    }

    fn __repr__(&self) -> String {
        let mut text = match self.page() {
            Some(page) => {
                format!("<{:#x} -> {:#x}, {} page, {}", self.gva, page.gpa.0, human(page.size), self.rights())
            }
            None => format!("<{:#x} leads nowhere", self.gva),
        };
        if let Some(fault) = &self.fault {
            let _ = write!(text, "; {fault}"); // writing to a string does not fail
        }
        if let Some(error) = self.error_code.filter(|_| self.access != Access::default()) {
            let _ = write!(text, ", #PF error code {error:#x}");
        }
        for entry in self.walk.entries() {
            let _ = write!(text, "; level {} at {:#x}: {:#x}", entry.level, entry.at, entry.value);
        }
        if self.space.paging == Paging::Off {
            text.push_str("; paging is off");
        }
        text + ">"
    }
}
