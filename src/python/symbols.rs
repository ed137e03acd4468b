//! The class `Symbols`: the names in a kernel image. It never reads guest memory.

use std::sync::{Arc, PoisonError};

use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;

use crate::boot::symbols::{Symbol, Symbols as Table};

use super::address::Fitting;
use super::typed::Names;
use super::vm::VM;

/// The symbols of an ELF file: a mapping from names to addresses, as the guest's code uses them.
///
/// `Symbols(image)` reads any ELF file (a path, or bytes); `vm.symbols` has those of the image that `vm.boot()` loaded. A
/// file without a symbol table has none. Of several symbols with one name, the global one counts, else the lowest.
#[pyclass(frozen, mapping, module = "belljar")]
pub struct Symbols(Arc<Table>);

impl Symbols {
    fn list<'a, T>(&'a self, of: impl Fn(&'a Symbol) -> T) -> Vec<T> {
        self.0.iter().map(of).collect()
    }
}

#[pymethods]
impl Symbols {
    #[new]
    fn parse(py: Python<'_>, image: &Bound<'_, PyAny>) -> PyResult<Self> {
        let bytes = super::memory::file_or_bytes(image)?;
        Ok(Self(Arc::new(py.detach(|| Table::parse(&bytes)))))
    }

    /// A table of other symbols: (name, address, size), the size 0 where it is not known.
    #[staticmethod]
    #[pyo3(signature = (symbols: "Iterable[tuple[str, int, int]]"))]
    fn of(symbols: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut table = Vec::new();
        for symbol in symbols.try_iter()? {
            let (name, address, size): (String, Fitting<u64>, Fitting<u64>) = symbol?.extract()?;
            let name = name.into_boxed_str();
            table.push(Symbol { name, address: address.0, size: size.0, absolute: false, global: true });
        }
        Ok(Self(Arc::new(Table::of(table))))
    }

    fn __getitem__(&self, name: &str) -> PyResult<u64> {
        self.0.get(name).map(|s| s.address).ok_or_else(|| PyKeyError::new_err(missing(&self.0, name)))
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> bool {
        name.extract::<&str>().is_ok_and(|name| self.0.get(name).is_some())
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Names<'py>> {
        Ok(Names(self.keys().into_pyobject(py)?.try_iter()?.into_any()))
    }

    /// The names, in the order of their addresses.
    fn keys(&self) -> Vec<&str> {
        self.list(|s| &*s.name)
    }

    /// The addresses, in ascending order.
    fn values(&self) -> Vec<u64> {
        self.list(|s| s.address)
    }

    /// Names and addresses, in the order of the addresses.
    fn items(&self) -> Vec<(&str, u64)> {
        self.list(|s| (&*s.name, s.address))
    }

    /// The address of `name`, or `default` if there is no such symbol.
    #[pyo3(signature = (name, default = None))]
    fn get(&self, name: &str, default: Option<u64>) -> Option<u64> {
        self.0.get(name).map(|s| s.address).or(default)
    }

    /// How many bytes the symbol `name` has; 0 if the file does not say. KeyError if there is none.
    fn size(&self, name: &str) -> PyResult<u64> {
        self.0.get(name).map(|s| s.size).ok_or_else(|| PyKeyError::new_err(missing(&self.0, name)))
    }

    /// What lies at `address`: name of the symbol and distance from its beginning, or None.
    fn lookup(&self, address: u64) -> Option<(&str, u64)> {
        self.0.at(address).map(|s| (&*s.name, address - s.address))
    }

    /// What lies at `address`, as "name+0x12" or "name", or None.
    fn at(&self, address: u64) -> Option<String> {
        self.0.at(address).map(|s| match address - s.address {
            0 => s.name.to_string(),
            offset => format!("{}+{offset:#x}", s.name),
        })
    }

    /// Names and addresses of all symbols that fit `pattern`, in which `*` stands for any characters and `?` for one.
    fn find(&self, py: Python<'_>, pattern: &str) -> Vec<(String, u64)> {
        py.detach(|| self.0.find(pattern).map(|s| (s.name.to_string(), s.address)).collect())
    }

    fn __repr__(&self) -> String {
        format!("<Symbols {}>", self.0.len())
    }
}

/// What a KeyError says.
fn missing(table: &Table, name: &str) -> String {
    if table.is_empty() {
        return format!(
            "{name}: there are no symbols; boot an ELF file with a symbol table (one that is not stripped), or have `linux` find a Linux kernel's"
        );
    }
    let near = like(name, |pattern| table.find(pattern).take(5).map(|s| s.name.to_string()).collect());
    match near.len() {
        0 => format!("no symbol '{name}'; look for its like with symbols.find('*part*')"),
        _ => format!("no symbol '{name}'; there is: {}", near.join(", ")),
    }
}

/// What `find` has of names like `name`: that contain it, or its words, or begin as it does.
pub fn like(name: &str, find: impl Fn(&str) -> Vec<String>) -> Vec<String> {
    let words = name.split('_').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("*");
    let beginnings = (3..name.len().min(40)).rev().filter_map(|len| name.get(..len)).map(|part| format!("{part}*"));
    let mut patterns = [format!("*{name}*"), format!("*{words}*")].into_iter().chain(beginnings);
    patterns.find_map(|pattern| Some(find(&pattern)).filter(|found| !found.is_empty())).unwrap_or_default()
}

#[pymethods]
impl VM {
    /// The symbols of the image that `boot()` loaded; none if it has no symbol table, or nothing was booted.
    #[getter]
    fn symbols(&self) -> Symbols {
        Symbols(Arc::clone(&self.symbols.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}
