//! The architecture as plain data: registers, segments, page-table bits, MSR names, the decoder.
//! It never touches a vCPU and holds nothing of KVM's.

pub mod access;
pub mod cpuid;
pub mod decode;
pub mod float80;
pub mod lapic;
pub mod msr;
mod msr_names;
pub mod part;
pub mod pending;
pub mod regs;
pub mod segment;
pub mod space;
pub mod state;
pub mod translate;
pub mod user_regs;
pub mod valid;
pub mod walk;
#[cfg(test)]
mod walk_tests;
pub mod xsave;

pub use cpuid::CpuidLeaf;
pub use decode::{Instruction, disassemble};
pub use part::Part;
pub use pending::Pending;
pub use regs::{Gpr, Regs, Sregs};
pub use segment::{DescriptorTable, Segment};
pub use space::Space;
pub use state::{DebugRegs, MOST_CR8, State};
pub use translate::translate;
pub use walk::{Page, PageFault, Walk, walk};

/// CR0 bits (Intel SDM vol. 3, 2.5).
pub mod cr0 {
    /// Protection enable.
    pub const PE: u64 = 1;
    /// Monitor coprocessor.
    pub const MP: u64 = 1 << 1;
    /// Emulation: there is no coprocessor.
    pub const EM: u64 = 1 << 2;
    /// Task switched: the coprocessor has another task's state.
    pub const TS: u64 = 1 << 3;
    /// Extension type: always set.
    pub const ET: u64 = 1 << 4;
    /// Numeric error.
    pub const NE: u64 = 1 << 5;
    /// Write protect.
    pub const WP: u64 = 1 << 16;
    /// Paging.
    pub const PG: u64 = 1 << 31;
}

/// CR4 bits (Intel SDM vol. 3, 2.5).
pub mod cr4 {
    /// Page size extension: 4 MiB pages in 32-bit tables.
    pub const PSE: u64 = 1 << 4;
    /// Physical address extension.
    pub const PAE: u64 = 1 << 5;
    /// FXSAVE and SSE enabled.
    pub const OSFXSR: u64 = 1 << 9;
    /// SIMD floating-point exceptions enabled.
    pub const OSXMMEXCPT: u64 = 1 << 10;
    /// 57-bit linear addresses.
    pub const LA57: u64 = 1 << 12;
    /// XSAVE, XGETBV and what XCR0 enables.
    pub const OSXSAVE: u64 = 1 << 18;
    /// Ring 0 executes no page of ring 3.
    pub const SMEP: u64 = 1 << 20;
    /// Ring 0 touches no page of ring 3, unless RFLAGS.AC is set.
    pub const SMAP: u64 = 1 << 21;
    /// Protection keys of ring 3's pages.
    pub const PKE: u64 = 1 << 22;
    /// Protection keys of ring 0's pages.
    pub const PKS: u64 = 1 << 24;
}

/// EFER bits (AMD APM vol. 2, 3.1.7).
pub mod efer {
    /// SYSCALL enable.
    pub const SCE: u64 = 1;
    /// Long mode enable.
    pub const LME: u64 = 1 << 8;
    /// Long mode active.
    pub const LMA: u64 = 1 << 10;
    /// No-execute enable.
    pub const NXE: u64 = 1 << 11;
}

/// RFLAGS bits.
pub mod rflags {
    /// Always set.
    pub const FIXED: u64 = 1 << 1;
    /// Zero flag.
    pub const ZF: u64 = 1 << 6;
    /// Interrupts enabled.
    pub const IF: u64 = 1 << 9;
    /// Resume: no instruction breakpoint before the next instruction.
    pub const RF: u64 = 1 << 16;
    /// I/O privilege level 3: ring 3 may use every port, cli and sti.
    pub const IOPL3: u64 = 3 << 12;
    /// Alignment check, and access control under SMAP.
    pub const AC: u64 = 1 << 18;
}

/// Exception vectors (Intel SDM vol. 3, 6.15; AMD APM vol. 2, 8.2).
pub mod exception {
    /// The non-maskable interrupt, which is none.
    pub const NMI: u8 = 2;
    /// Page fault.
    pub const PAGE_FAULT: u8 = 14;

    /// Does the processor push an error code with this exception?
    pub fn has_error_code(vector: u8) -> bool {
        matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30)
    }
}

/// Page-table entry bits (Intel SDM vol. 3, 4.5).
pub mod pte {
    /// Present.
    pub const PRESENT: u64 = 1;
    /// Writable.
    pub const WRITE: u64 = 1 << 1;
    /// Accessible from ring 3.
    pub const USER: u64 = 1 << 2;
    /// Accessed.
    pub const ACCESSED: u64 = 1 << 5;
    /// Dirty.
    pub const DIRTY: u64 = 1 << 6;
    /// A large page, in a directory entry.
    pub const LARGE: u64 = 1 << 7;
    /// Stays in the TLB when CR3 is loaded.
    pub const GLOBAL: u64 = 1 << 8;
    /// Execution is forbidden, where EFER.NXE is set.
    pub const NO_EXECUTE: u64 = 1 << 63;
    /// The physical address in an entry.
    pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
}
