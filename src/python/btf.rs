//! The class `Btf` and what it answers with: structures, members, functions. It never reads guest memory.

use std::fmt::Write as _;
use std::sync::Arc;

use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;

use crate::inspect::linux::btf::{Btf as Core, Kind, Member};

use super::memory::file_or_bytes;

const STRUCTURES: [Kind; 2] = [Kind::Struct, Kind::Union];
const TYPES: [Kind; 6] = [Kind::Struct, Kind::Union, Kind::Typedef, Kind::Enum, Kind::Enum64, Kind::Integer];

/// The types of a Linux kernel, as the kernel itself carries them: structures, enumerations, function prototypes.
///
/// `linux.btf` has those of a guest. `Btf(source)` reads them from bytes or a file (the section .BTF of a vmlinux, or
/// /sys/kernel/btf/vmlinux); for those of a module, `base` is its kernel's. ImageError for what is no BTF.
#[pyclass(frozen, module = "belljar")]
pub struct Btf(Arc<Core>);

/// A member of a structure: `offset` in bytes from its beginning, `size` in bytes, `type` as C writes it.
///
/// `bit_offset` is the offset in bits, `bits` the width of a bit field, else None. `size` is None for a type without one,
/// `count` the number of elements of an array, else None.
#[pyclass(frozen, eq, get_all, module = "belljar")]
#[derive(Clone, PartialEq, Eq)]
pub struct BtfMember {
    name: String,
    r#type: String,
    offset: u64,
    size: Option<u64>,
    bit_offset: u64,
    bits: Option<u32>,
    count: Option<u32>,
    signed: bool,
    #[pyo3(name = "_declaration")]
    declaration: String,
}

/// A structure or union: `members` from first to last, those of anonymous ones in it among them; `size` in bytes.
///
/// It is a mapping from names to members: `structure["comm"].offset`. Its text is C.
#[pyclass(frozen, mapping, module = "belljar")]
pub struct BtfStruct {
    /// Its name, without "struct".
    #[pyo3(get)]
    name: String,
    /// "struct" or "union".
    #[pyo3(get)]
    kind: &'static str,
    /// Its size in bytes.
    #[pyo3(get)]
    size: u64,
    members: Vec<BtfMember>,
}

/// A function: `parameters` as (name, type) in order, `returns` the type of what it returns, both as C writes them.
#[pyclass(frozen, get_all, module = "belljar")]
pub struct BtfFunction {
    name: String,
    parameters: Vec<(String, String)>,
    returns: String,
    #[pyo3(name = "_text")]
    text: String,
}

impl Btf {
    fn structure(&self, name: &str) -> PyResult<u32> {
        let bare = name.trim_start_matches("struct ").trim_start_matches("union ");
        let found = self.0.find(bare, &STRUCTURES).or_else(|| self.0.find(bare, &[Kind::Typedef]));
        found.ok_or_else(|| PyKeyError::new_err(format!("no structure '{bare}'; find('*part*') looks for its like")))
    }

    fn wrapped(&self, member: Member) -> BtfMember {
        let raw = self.0.raw(self.0.resolve(member.id));
        BtfMember {
            r#type: self.0.type_name(member.id),
            declaration: self.0.declaration(member.id, &member.name),
            offset: member.bit_offset / 8,
            size: self.0.size(member.id),
            bit_offset: member.bit_offset,
            bits: member.bits,
            count: raw.and_then(|raw| raw.array()).map(|(_, count)| count),
            signed: raw.is_some_and(|raw| raw.is_signed()),
            name: member.name,
        }
    }

    fn at_path(&self, structure: &str, path: &str) -> PyResult<BtfMember> {
        let found = self.0.at_path(self.structure(structure)?, path);
        let found = found.ok_or_else(|| PyKeyError::new_err(format!("struct {structure} has no member '{path}'")))?;
        Ok(self.wrapped(found))
    }
}

#[pymethods]
impl Btf {
    #[new]
    #[pyo3(signature = (source, base = None))]
    fn new(py: Python<'_>, source: &Bound<'_, PyAny>, base: Option<&Self>) -> PyResult<Self> {
        let (bytes, base) = (file_or_bytes(source)?, base.map(|base| Arc::clone(&base.0)));
        Ok(Self(Arc::new(py.detach(|| Core::parse(&bytes, base))?)))
    }

    /// The structure or union of that name (a typedef of one does, too). KeyError if there is none.
    fn r#struct(&self, py: Python<'_>, name: &str) -> PyResult<BtfStruct> {
        let id = self.0.resolve(self.structure(name)?);
        let raw = self.0.raw(id).filter(|raw| raw.kind.has_members());
        let raw = raw.ok_or_else(|| PyKeyError::new_err(format!("{name} is no structure")))?;
        let kind = if raw.kind == Kind::Union { "union" } else { "struct" };
        let members = py.detach(|| self.0.members(id).into_iter().map(|member| self.wrapped(member)).collect());
        Ok(BtfStruct { name: name.to_owned(), kind, size: raw.size_or_type.into(), members })
    }

    /// The member that a path leads to: `member("task_struct", "se.sum_exec_runtime")`, `"pid_links[1].next"`.
    ///
    /// A path goes into structures and arrays, and never through a pointer. KeyError if there is none.
    fn member(&self, structure: &str, path: &str) -> PyResult<BtfMember> {
        self.at_path(structure, path)
    }

    /// Where a member is, in bytes from the beginning of the structure. KeyError if there is none.
    fn offset(&self, structure: &str, path: &str) -> PyResult<u64> {
        Ok(self.at_path(structure, path)?.offset)
    }

    /// Is there such a structure and, if `path` is given, such a member in it?
    #[pyo3(signature = (structure, path = None))]
    fn has(&self, structure: &str, path: Option<&str>) -> bool {
        let found = self.structure(structure);
        found.is_ok_and(|id| path.is_none_or(|path| self.0.at_path(id, path).is_some()))
    }

    /// How many bytes a structure, typedef, enumeration or integer of that name has, or a member of a structure.
    ///
    /// KeyError if there is none, or it has no size.
    #[pyo3(signature = (name, path = None))]
    fn size(&self, name: &str, path: Option<&str>) -> PyResult<u64> {
        let none = || PyKeyError::new_err(format!("no type '{name}' with a size"));
        if let Some(path) = path {
            return self.at_path(name, path)?.size.ok_or_else(none);
        }
        self.0.find(name, &TYPES).and_then(|id| self.0.size(id)).ok_or_else(none)
    }

    /// The names and values of an enumeration. KeyError if there is none.
    fn r#enum(&self, py: Python<'_>, name: &str) -> PyResult<Py<PyAny>> {
        let id = self.0.find(name, &[Kind::Enum, Kind::Enum64]);
        let id = id.ok_or_else(|| PyKeyError::new_err(format!("no enumeration '{name}'")))?;
        let values = pyo3::types::PyDict::new(py);
        self.0.values(id).into_iter().try_for_each(|(name, value)| values.set_item(name, value))?;
        Ok(values.into_any().unbind())
    }

    /// The prototype of a function: `function("do_sys_openat2").parameters`. KeyError if there is none.
    fn function(&self, name: &str) -> PyResult<BtfFunction> {
        let found = self.0.function(name);
        let found = found.ok_or_else(|| {
            PyKeyError::new_err(format!("no function '{name}' in these types; find('*part*') looks for its like"))
        })?;
        let named = found.parameters.into_iter().map(|(name, id)| (name, self.0.type_name(id))).collect::<Vec<_>>();
        let prototype = self.0.find(name, &[Kind::Function]).and_then(|id| self.0.raw(id));
        let text = prototype.map(|raw| self.0.declaration(raw.size_or_type, name)).unwrap_or_default();
        Ok(BtfFunction { name: name.to_owned(), parameters: named, returns: self.0.type_name(found.returns), text })
    }

    /// The names of structures, unions, typedefs, enumerations and functions that fit a pattern of `*` and `?`, sorted.
    fn find(&self, py: Python<'_>, pattern: &str) -> PyResult<Py<PyAny>> {
        let kinds = [&TYPES[..], &[Kind::Function]].concat();
        let mut names: Vec<_> = py.detach(|| self.0.named(&kinds).map(|(name, _)| name.to_owned()).collect());
        names.dedup();
        Ok(py.import("fnmatch")?.call_method1("filter", (names, pattern))?.unbind())
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __repr__(&self) -> String {
        format!("<Btf {} types>", self.0.len())
    }
}

#[pymethods]
impl BtfMember {
    fn __repr__(&self) -> String {
        let bits = self.bits.map(|bits| format!(" : {bits}")).unwrap_or_default();
        format!("<BtfMember {}{bits} at {:#x}>", self.declaration, self.offset)
    }
}

#[pymethods]
impl BtfStruct {
    /// The members, as in memory.
    #[getter]
    fn members(&self) -> Vec<BtfMember> {
        self.members.clone()
    }

    fn __getitem__(&self, name: &str) -> PyResult<BtfMember> {
        let found = self.members.iter().find(|member| member.name == name).cloned();
        found.ok_or_else(|| PyKeyError::new_err(format!("{} {} has no member '{name}'", self.kind, self.name)))
    }

    fn __contains__(&self, name: &str) -> bool {
        self.members.iter().any(|member| member.name == name)
    }

    fn __len__(&self) -> usize {
        self.members.len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<super::typed::Names<'py>> {
        Ok(super::typed::Names(self.keys().into_pyobject(py)?.try_iter()?.into_any()))
    }

    /// The names of the members.
    fn keys(&self) -> Vec<&str> {
        self.members.iter().map(|member| &*member.name).collect()
    }

    fn __repr__(&self) -> String {
        let mut text = format!("{} {} {{  // {} bytes", self.kind, self.name, self.size);
        for member in &self.members {
            let bits = member.bits.map(|bits| format!(" : {bits}")).unwrap_or_default();
            let line = format!("    {}{bits};", member.declaration);
            let _ = write!(text, "\n{line:<60}  // {:#x}", member.offset);
        }
        text + "\n}"
    }
}

#[pymethods]
impl BtfFunction {
    fn __repr__(&self) -> &str {
        &self.text
    }
}
