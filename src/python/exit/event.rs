//! Exits that are no access, as Python values: halts, failures, interrupts, what stopped a run.
//! They never refer to a machine.

use std::fmt::Write as _;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use crate::exit as core;

use super::{Exit, Show, exit_class, same};

exit_class! {
    /// The guest executed HLT, and no in-kernel interrupt controller waits for the next interrupt.
    Hlt {}
}
exit_class! {
    /// Triple fault, or a VM that cannot be entered any more (KVM_EXIT_SHUTDOWN).
    Shutdown {}
}
exit_class! {
    /// The guest pulled the reset line of its keyboard controller.
    Reset {}
}
exit_class! {
    /// A breakpoint, watchpoint or single step (KVM_EXIT_DEBUG).
    Debug {
        /// Vector: 1 for #DB, 3 for #BP.
        exception: u32,
        /// Linear address.
        pc: u64,
        /// DR6 at the exit.
        dr6: u64,
        /// DR7 at the exit.
        dr7: u64,
    }
}
exit_class! {
    /// An exception of code loaded with mode="user". The vCPU is back where it happened: change registers and run on.
    GuestException {
        /// 0 to 255 (Intel SDM vol. 3, 6.3).
        vector: u8,
        /// For the vectors that have one, else None.
        error_code: Option<u32>,
        /// The faulting instruction (or the next one, for traps).
        rip: u64,
        /// The address that faulted, for vector 14.
        cr2: u64,
    }
}
exit_class! {
    /// The processor refused the guest's state (KVM_EXIT_FAIL_ENTRY).
    FailEntry {
        /// The hardware's reason.
        reason: u64,
        /// Host CPU on which it happened.
        cpu: u32,
    }
}
exit_class! {
    /// A guest-physical address that KVM could not resolve (KVM_EXIT_MEMORY_FAULT).
    MemoryFault {
        /// Flags of the exit.
        flags: u64,
        /// First byte, guest-physical.
        address: u64,
        /// Bytes.
        length: u64,
    }
}
exit_class! {
    /// Shutdown, reset or crash that the guest reported to the hypervisor.
    SystemEvent {
        /// KVM_SYSTEM_EVENT_*: 1 shutdown, 2 reset, 3 crash.
        kind: u32,
        /// Its data words.
        data: Vec<u64>,
    }
}
exit_class! {
    /// A hypercall that KVM leaves to user space (Linux, Documentation/virt/kvm/x86/hypercalls.rst).
    ///
    /// A handler's integer is what the guest gets in RAX; without one, the call fails with -1000 (KVM_ENOSYS).
    Hypercall {
        /// KVM_HC_*: 12 is MAP_GPA_RANGE.
        number: u64,
        /// RBX, RCX, RDX, RSI and two that x86 does not use.
        args: [u64; 6],
        /// Made in 64-bit mode.
        long_mode: bool,
    }
}
exit_class! {
    /// The guest can take an interrupt now that cpu.inject_interrupt() has queued; it gets it next.
    InterruptWindow {}
}
exit_class! {
    /// The guest lowered its task priority, where no local APIC is in the kernel (KVM_EXIT_SET_TPR).
    TprLowered {
        /// CR8, 0 to 15.
        tpr: u8,
    }
}
exit_class! {
    /// The guest accessed the task priority register of its local APIC, and that is reported (KVM_EXIT_TPR_ACCESS).
    TprAccess {
        /// The instruction.
        rip: u64,
        /// Written, not read.
        is_write: bool,
    }
}
exit_class! {
    /// The guest ended the service of a level-triggered interrupt that came through the split irqchip's I/O APIC.
    IoapicEoi {
        /// Its vector.
        vector: u8,
    }
}
exit_class! {
    /// The ring of dirty pages is full (KVM_EXIT_DIRTY_RING_FULL).
    DirtyRingFull {}
}
exit_class! {
    /// The guest waits for the reset of a processor (KVM_EXIT_AP_RESET_HOLD).
    ApResetHold {}
}
exit_class! {
    /// The guest locked the bus: an atomic access across cache lines, or to uncached memory. With VM(bus_lock=True).
    BusLock {}
}
exit_class! {
    /// The guest kept interrupts out for longer than VM(notify_window=...) cycles (KVM_EXIT_NOTIFY).
    Notify {
        /// KVM_NOTIFY_*: 1 if the guest's state is lost.
        flags: u32,
    }
}
exit_class! {
    /// What the guest asks of Hyper-V that KVM leaves to user space (KVM_EXIT_HYPERV).
    HyperV {
        /// KVM_EXIT_HYPERV_*.
        kind: u32,
        /// The words that follow, as KVM laid them out.
        data: Vec<u64>,
    }
}
exit_class! {
    /// What the guest asks of Xen that KVM leaves to user space (KVM_EXIT_XEN).
    Xen {
        /// KVM_EXIT_XEN_*.
        kind: u32,
        /// The words that follow, as KVM laid them out.
        data: Vec<u64>,
    }
}
exit_class! {
    /// A vCPU is about to execute the instruction at a breakpoint; its RIP points there.
    ///
    /// A handler's None goes on, bj.STOP ends the run; a breakpoint without a handler ends the run. `id` is the Breakpoint's.
    BreakpointHit {
        /// The number of the breakpoint: its `id`.
        id: u32,
        /// Linear address of the instruction.
        address: u64,
    }
}
exit_class! {
    /// The guest accessed what a watchpoint watches; otherwise as a BreakpointHit.
    WatchpointHit {
        /// The number of the watchpoint: its `id`.
        id: u32,
        /// The first byte accessed: linear or guest-physical, as the watchpoint was given.
        address: u64,
        /// The same, guest-physical; None where it is not known.
        gpa: Option<u64>,
        /// Bytes: 1 to 8.
        size: u8,
        /// Written, not read or executed.
        write: bool,
        /// What was there before, little-endian.
        before: u64,
        /// What is there now; of a read, the same.
        after: u64,
        /// Linear address of the instruction; of the next one where the processor reports the access after it (debug registers).
        rip: u64,
    }
}
exit_class! {
    /// One instruction has been executed by cpu.step() or one of its relatives, or under a trace of steps.
    Stepped {
        /// Linear address of the next instruction.
        address: u64,
    }
}
exit_class! {
    /// The time given to run() is over; the guest goes on with the next run().
    Timeout {}
}
exit_class! {
    /// Somebody stopped the machine: by "kick", "pause", "stop" or "close"; or what it ran until holds: by "until";
    /// or a trace has no room for another record, and nobody reads it: by "trace".
    Interrupted {
        /// Who.
        by: String,
    }
}
exit_class! {
    /// An exit reason that this version does not know: its number, and the first words of what came with it.
    UnknownExit {
        /// KVM_EXIT_*.
        reason: u32,
        /// 64-bit words from struct kvm_run, as KVM laid them out.
        data: Vec<u64>,
    }
}

impl WatchpointHit {
    /// As the core has it.
    pub(super) fn to_core(&self) -> core::Watched {
        let Self { id, address: at, gpa, size, write, before, after, rip } = *self;
        core::Watched { id, at, gpa, size, write, before, after, rip }
    }
}
