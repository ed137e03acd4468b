//! The Python face of the core: one class family per file, named after its core file.
//! It never holds logic: each method converts, detaches, asks the core, and wraps the answer.

mod address;
mod aliases;
mod arrow;
mod bits;
mod btf;
mod callback;
mod breakpoint;
mod coalesced;
mod console;
mod cpuid;
mod decode;
mod devices;
mod doorbell;
mod dump;
mod error;
mod exit;
mod expression;
mod fpu;
mod functions;
mod gdb;
mod handlers;
mod hook;
mod host;
mod html;
mod internal_error;
mod interrupts;
mod kernel;
mod lapic;
mod log;
mod mappings;
mod memory;
mod memory_map;
mod msrs;
mod native;
mod points;
mod regs;
mod running;
mod scope;
mod segment;
mod shutdown;
mod size;
mod state;
mod stats;
mod step;
mod subject;
mod symbols;
mod trace;
mod translation;
mod trace_batch;
mod traced;
mod typed;
mod vcpu;
mod virtual_memory;
mod vm;
mod watch;
mod watched;
mod wide;

use pyo3::prelude::*;

/// The native half of belljar: import `belljar` instead.
#[pymodule(gil_used = false)] // see CONTRIBUTING.md
mod _belljar {
    #[pymodule_init]
    fn init() {
        super::log::install();
    }

    #[pymodule_export]
    #[allow(non_upper_case_globals)] // Python's name
    const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use super::arrow::ArrowBatch;
    #[pymodule_export]
    use super::breakpoint::Breakpoint;
    #[pymodule_export]
    use super::btf::{Btf, BtfFunction, BtfMember, BtfStruct};
    #[pymodule_export]
    use super::coalesced::Zone;
    #[pymodule_export]
    use super::console::Console;
    #[pymodule_export]
    use super::cpuid::supported_cpuid;
    #[pymodule_export]
    use super::decode::{Instruction, disasm};
    #[pymodule_export]
    use super::doorbell::Doorbell;
    #[pymodule_export]
    use super::dump::{dump_read, dump_write, saved_memory, saved_virtual};
    #[pymodule_export]
    use super::exit::{
        ApResetHold, BreakpointHit, BusLock, Debug, DirtyRingFull, Exit, FailEntry, GuestException, Hlt, HyperV,
        Hypercall, InterruptWindow, Interrupted, IoapicEoi, MemoryFault, MmioRead, MmioWrite, MsrRead, MsrWrite,
        Notify, PortIn, PortOut, PortStringIn, PortStringOut, Reset, Shutdown, Stepped, SystemEvent, Timeout,
        TprAccess, TprLowered, UnknownExit, WatchpointHit, Xen,
    };
    #[pymodule_export]
    use super::expression::Expression;
    #[pymodule_export]
    use super::fpu::{FloatStack, Fpu, VectorRegisters};
    #[pymodule_export]
    use super::gdb::GdbServer;
    #[pymodule_export]
    use super::hook::{Action, Handle};
    #[pymodule_export]
    use super::host::{Quirks, capabilities, probe};
    #[pymodule_export]
    use super::internal_error::InternalError;
    #[pymodule_export]
    use super::interrupts::{IrqEvent, IrqLine};
    #[pymodule_export]
    use super::kernel::{Kernel, KernelSymbols, find_kernel};
    #[pymodule_export]
    use super::lapic::Lapic;
    #[pymodule_export]
    use super::mappings::Mapping;
    #[pymodule_export]
    use super::memory::hexdump::hexdump;
    #[pymodule_export]
    use super::memory::{Memory, Region};
    #[pymodule_export]
    use super::memory_map::{MemoryMap, MemoryRange, MemoryRanges};
    #[pymodule_export]
    use super::msrs::Msrs;
    #[pymodule_export]
    use super::native::NativeHandler;
    #[pymodule_export]
    use super::regs::Registers;
    #[pymodule_export]
    use super::segment::Segment;
    #[pymodule_export]
    use super::state::{state_values, volatile_values};
    #[pymodule_export]
    use super::symbols::Symbols;
    #[pymodule_export]
    use super::trace::Recorder;
    #[pymodule_export]
    use super::trace_batch::Batch;
    #[pymodule_export]
    use super::translation::Translation;
    #[pymodule_export]
    use super::vcpu::Vcpu;
    #[pymodule_export]
    use super::virtual_memory::VirtualMemory;
    #[pymodule_export]
    use super::vm::VM;
    #[pymodule_export]
    use super::watch::Watchpoint;
}
