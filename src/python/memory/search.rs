//! Searching guest memory from Python. It holds no pattern and no match longer than a call.

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::addr::GuestPhys;
use crate::memory::{Needle, Where};
use crate::python::address::Address;
use crate::python::running::detached;
use crate::python::virtual_memory::VirtualMemory;

use super::bulk::seldom;
use super::bytes::Bytes;
use super::{Memory, copied};

const ANYWHERE: Address = Address(GuestPhys(0));

fn place(start: Address, end: Option<Address>, align: u64, limit: Option<usize>) -> Where {
    Where { first: start.0, end: end.map_or(GuestPhys(u64::MAX), |end| end.0), align, limit }
}

macro_rules! searches {
    ($($class:ident)+) => {$(
        #[pymethods]
        impl $class {
            /// The addresses where `pattern` is found, in order: bytes, or text in hexadecimal with `?` for any digit
            /// ("48 8b ?? c3").
            ///
            /// Looks in all RAM and ROM from `start` up to `end`, in virtual memory in all that is mapped; a match may go from one
            /// region or page into the next where they touch, and matches may overlap. `limit` ends the search after so many (without it, more than 4 million are a
            /// ValueError), `align` keeps those at multiples of it. Other
            /// threads run meanwhile, the guest too, and Ctrl-C ends it.
            #[pyo3(
                signature = (pattern, start = ANYWHERE, end = None, *, limit = None, align = 1),
                text_signature = "($self, pattern, start=0, end=None, *, limit=None, align=1)"
            )]
            fn search(
                &self,
                py: Python<'_>,
                pattern: &Bound<'_, PyAny>,
                start: Address,
                end: Option<Address>,
                limit: Option<usize>,
                align: u64,
            ) -> PyResult<Vec<u64>> {
                let needle = match pattern.cast::<PyString>() {
                    Ok(text) => Needle::parse(text.to_str()?)?,
                    Err(_) => Needle::exact(&copied(pattern)?)?,
                };
                let place = place(start, end, align, limit);
                let found = detached(py, || self.find(&needle, place, &seldom()))?;
                Ok(found.into_iter().map(|found| found.at.0).collect())
            }

            /// Where any of several `patterns` (bytes) is found: tuples of the address and the number of the pattern, in order.
            ///
            /// One pass finds all of them, whatever their number (Aho-Corasick), overlapping matches too. Otherwise as search;
            /// `limit` counts matches in the order of their ends.
            #[pyo3(
                signature = (patterns, start = ANYWHERE, end = None, *, limit = None, align = 1),
                text_signature = "($self, patterns, start=0, end=None, *, limit=None, align=1)"
            )]
            fn search_many(
                &self,
                py: Python<'_>,
                patterns: &Bound<'_, PyAny>,
                start: Address,
                end: Option<Address>,
                limit: Option<usize>,
                align: u64,
            ) -> PyResult<Vec<(u64, usize)>> {
                let patterns = patterns.try_iter()?.map(|p| copied(&p?)).collect::<PyResult<Vec<_>>>()?;
                let place = place(start, end, align, limit);
                let found = detached(py, || self.find(&Needle::many(&patterns)?, place, &seldom()))?;
                Ok(found.into_iter().map(|found| (found.at.0, found.which)).collect())
            }
        }
    )+};
}

searches! { Memory VirtualMemory }
