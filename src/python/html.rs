//! What notebooks show: `_repr_html_` of the classes that have one. It never makes HTML; `belljar.html` does.

use pyo3::prelude::*;

use super::breakpoint::Breakpoint;
use super::btf::{BtfFunction, BtfStruct};
use super::decode::Instruction;
use super::exit::Exit;
use super::fpu::Fpu;
use super::gdb::GdbServer;
use super::hook::Handle;
use super::host::Quirks;
use super::interrupts::IrqLine;
use super::lapic::Lapic;
use super::mappings::Mapping;
use super::memory::{Memory, Region};
use super::memory_map::{MemoryMap, MemoryRange};
use super::msrs::Msrs;
use super::regs::Registers;
use super::segment::Segment;
use super::symbols::Symbols;
use super::translation::Translation;
use super::vcpu::Vcpu;
use super::vm::VM;
use super::watch::Watchpoint;

macro_rules! shown_in_notebooks {
    ($($class:ident)+) => {$(
        #[pymethods]
        impl $class {
            /// The value as a notebook shows it.
            fn _repr_html_(slf: &Bound<'_, Self>) -> PyResult<String> {
                slf.py().import("belljar.html")?.getattr("show")?.call1((slf,))?.extract()
            }
        }
    )+};
}

shown_in_notebooks! {
    Breakpoint BtfFunction BtfStruct Exit Fpu GdbServer Handle Instruction IrqLine Lapic Mapping Memory MemoryMap MemoryRange Msrs Quirks Region
    Registers Segment Symbols Translation VM Vcpu Watchpoint
}
