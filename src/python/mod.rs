//! The Python face of the core: one class family per file, named after its core file.
//! It never holds logic: each method converts, detaches, asks the core, and wraps the answer.

mod address;
mod console;
mod decode;
mod error;
mod exit;
mod handlers;
mod hook;
mod host;
mod internal_error;
mod log;
mod memory;
mod memory_map;
mod regs;
mod running;
mod segment;
mod shutdown;
mod size;
mod vcpu;
mod vm;

use pyo3::prelude::*;

/// The native half of belljar: import `belljar` instead.
#[pymodule]
mod _belljar {
    #[pymodule_init]
    fn init() {
        super::log::install();
    }

    #[pymodule_export]
    #[allow(non_upper_case_globals)] // Python's name
    const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use super::console::Console;
    #[pymodule_export]
    use super::decode::{Instruction, disasm};
    #[pymodule_export]
    use super::exit::{
        Debug, Exit, FailEntry, GuestException, Hlt, Interrupted, MemoryFault, MmioRead, MmioWrite, MsrRead, MsrWrite,
        PortIn, PortOut, Reset, Shutdown, SystemEvent, Timeout, UnknownExit,
    };
    #[pymodule_export]
    use super::hook::{Action, Handle};
    #[pymodule_export]
    use super::host::{Quirks, capabilities, probe};
    #[pymodule_export]
    use super::internal_error::InternalError;
    #[pymodule_export]
    use super::memory::hexdump::hexdump;
    #[pymodule_export]
    use super::memory::{Memory, Region};
    #[pymodule_export]
    use super::memory_map::{MemoryMap, MemoryRange, MemoryRanges};
    #[pymodule_export]
    use super::regs::{Msrs, Registers};
    #[pymodule_export]
    use super::segment::Segment;
    #[pymodule_export]
    use super::vcpu::Vcpu;
    #[pymodule_export]
    use super::vm::VM;
}
