//! Bytes as text for people, of guest memory or of Python's own. It never reads more than it shows.

use pyo3::prelude::*;

use crate::addr::GuestPhys;
use crate::memory::{self, Dump};
use crate::python::address::{Address, Count, Spot};
use crate::python::running::detached;
use crate::python::virtual_memory::VirtualMemory;

use super::bytes::Bytes;
use super::{Memory, copied};

/// Text that shows itself, line by line, where Python shows values.
fn shown(py: Python<'_>, text: String) -> PyResult<Bound<'_, PyAny>> {
    py.import("belljar.text")?.getattr("HexDump")?.call1((text,))
}

macro_rules! dumps {
    ($($class:ident: $at:ty;)+) => {$(
        #[pymethods]
        impl $class {
            /// `size` bytes from `at` on as text: address, hexadecimal, characters. `??` is where no memory is.
            ///
            /// `width` is bytes per line. Lines that repeat the one before are one `*`, except the last; all of them with
            /// squeeze=False.
            #[pyo3(
                signature = (at, size = Count(256), width = 16, *, squeeze = true) -> "str",
                text_signature = "($self, at, size=256, width=16, *, squeeze=True)"
            )]
            fn hexdump<'py>(
                &self,
                py: Python<'py>,
                at: $at,
                size: Count,
                width: usize,
                squeeze: bool,
            ) -> PyResult<Bound<'py, PyAny>> {
                let at = self.place(at)?.0.0;
                let dump = Dump { at, size: u64::try_from(size.0).unwrap_or(u64::MAX), width, squeeze };
                let mut failed = None;
                let read = |at, cells: &mut [Option<u8>]| {
                    if let Err(error) = self.fill_present(at, cells) {
                        failed.get_or_insert(error);
                    }
                };
                let text = detached(py, || memory::hexdump(dump, read))?;
                if let Some(error) = failed {
                    return Err(error.into());
                }
                shown(py, text)
            }
        }
    )+};
}

dumps! { Memory: Address; VirtualMemory: Spot<'_>; }

/// Bytes as text: address (from `start` on), hexadecimal, characters; `width` bytes per line.
///
/// Lines that repeat the one before are one `*`, except the last; all of them with squeeze=False.
#[pyfunction]
#[pyo3(
    signature = (data, start = Address(GuestPhys(0)), width = 16, *, squeeze = true) -> "str",
    text_signature = "(data, start=0, width=16, *, squeeze=True)"
)]
pub fn hexdump<'py>(
    data: &Bound<'py, PyAny>,
    start: Address,
    width: usize,
    squeeze: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let bytes = copied(data)?;
    let dump = Dump { at: start.0.0, size: u64::try_from(bytes.len()).unwrap_or(u64::MAX), width, squeeze };
    let read = |at: u64, cells: &mut [Option<u8>]| {
        let from = usize::try_from(at - start.0.0).unwrap_or(usize::MAX);
        cells.iter_mut().zip(bytes.iter().skip(from)).for_each(|(cell, byte)| *cell = Some(*byte));
    };
    let text = data.py().detach(|| memory::hexdump(dump, read))?;
    shown(data.py(), text)
}
