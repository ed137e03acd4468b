//! Why a vCPU left the guest, as owned values that every layer above speaks.
//! It never refers to the run page and never says what is to be done about an exit.

use crate::addr::GuestPhys;

/// One reason why the guest stopped and somebody has to answer or decide.
///
/// Data is little-endian and zero-extended; sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The guest reads an I/O port.
    PortIn {
        /// Port number.
        port: u16,
        /// 1, 2 or 4 bytes.
        size: u8,
    },
    /// The guest writes an I/O port.
    PortOut {
        /// Port number.
        port: u16,
        /// 1, 2 or 4 bytes.
        size: u8,
        /// What is written.
        data: u32,
    },
    /// The guest reads an I/O port into memory, several elements at once (`rep ins`).
    PortStringIn {
        /// Port number.
        port: u16,
        /// Bytes of one element: 1, 2 or 4.
        size: u8,
        /// How many elements; KVM splits a long string.
        count: u32,
    },
    /// The guest writes several elements of memory to an I/O port (`rep outs`).
    PortStringOut(Box<PortString>),
    /// The guest reads where no memory is.
    MmioRead {
        /// First byte read.
        at: GuestPhys,
        /// 1 to 8 bytes.
        size: u8,
    },
    /// The guest writes where no memory is, or to ROM.
    MmioWrite {
        /// First byte written.
        at: GuestPhys,
        /// 1 to 8 bytes.
        size: u8,
        /// What is written.
        data: u64,
    },
    /// The guest reads an MSR that is watched, or that KVM does not know.
    MsrRead {
        /// MSR number.
        index: u32,
        /// Why it came here.
        reason: MsrReason,
    },
    /// The guest writes an MSR that is watched, or that KVM does not know.
    MsrWrite {
        /// MSR number.
        index: u32,
        /// What is written.
        data: u64,
        /// Why it came here.
        reason: MsrReason,
    },
    /// HLT, where no in-kernel interrupt controller waits for the next interrupt.
    Hlt,
    /// Triple fault, or a VM that cannot be entered any more.
    Shutdown,
    /// The guest pulled the reset line of its keyboard controller.
    Reset,
    /// A breakpoint, watchpoint or single step (`KVM_EXIT_DEBUG`).
    Debug {
        /// Vector: 1 for #DB, 3 for #BP.
        exception: u32,
        /// Linear address of the instruction.
        pc: u64,
        /// DR6 at the exit.
        dr6: u64,
        /// DR7 at the exit.
        dr7: u64,
    },
    /// An exception of a guest that was loaded in `user` mode.
    Exception(Box<Exception>),
    /// KVM could not go on, most often because it cannot emulate an instruction.
    InternalError(Box<InternalError>),
    /// The processor refused the guest's state.
    FailEntry {
        /// The hardware's reason.
        reason: u64,
        /// Host CPU on which it happened.
        cpu: u32,
    },
    /// A guest-physical address that KVM could not resolve (`KVM_EXIT_MEMORY_FAULT`).
    MemoryFault {
        /// Flags of the exit.
        flags: u64,
        /// The address.
        at: GuestPhys,
        /// Length in bytes.
        size: u64,
    },
    /// Shutdown, reset or crash reported by the guest to the hypervisor.
    SystemEvent {
        /// `KVM_SYSTEM_EVENT_*`.
        kind: u32,
        /// Its data words.
        data: Vec<u64>,
    },
    /// A hypercall that KVM leaves to user space.
    Hypercall(Box<Hypercall>),
    /// The guest can take an interrupt now, which somebody waited for.
    InterruptWindow,
    /// The guest has lowered its task priority (CR8), where no local APIC is in the kernel.
    TprLowered {
        /// CR8, 0 to 15.
        tpr: u8,
    },
    /// The guest accessed the task priority register of its local APIC, and that is reported.
    TprAccess {
        /// The instruction.
        rip: u64,
        /// Written, not read.
        is_write: bool,
    },
    /// End of a level-triggered interrupt of an I/O APIC that is not in the kernel.
    IoapicEoi {
        /// Its vector.
        vector: u8,
    },
    /// The ring of dirty pages is full.
    DirtyRingFull,
    /// The guest waits for an AP reset (SEV-ES).
    ApResetHold,
    /// The guest has locked the bus: an atomic access across two cache lines, or to uncached memory.
    BusLock,
    /// The guest kept interrupts from being delivered for longer than the notify window.
    Notify {
        /// `KVM_NOTIFY_*`.
        flags: u32,
    },
    /// What a guest asks of Hyper-V that KVM leaves to user space.
    HyperV(Box<Paravirtual>),
    /// What a guest asks of Xen that KVM leaves to user space.
    Xen(Box<Paravirtual>),
    /// A vCPU is about to execute an instruction at which a breakpoint is.
    Breakpoint {
        /// The number of the breakpoint.
        id: u32,
        /// Linear address of the instruction.
        at: u64,
    },
    /// The guest has accessed what a watchpoint watches.
    Watchpoint(Box<Watched>),
    /// One instruction has been executed, and somebody wanted to see each.
    Step {
        /// Linear address of the next instruction.
        at: u64,
        /// The one that has been executed.
        executed: Executed,
    },
    /// The time given to `run` is over.
    Timeout,
    /// Somebody asked the machine to stop.
    Interrupted(Interruption),
    /// An exit reason that this version does not know.
    Unknown(Box<Unknown>),
}

/// What is written to a port by one string instruction, as far as KVM hands it over at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortString {
    /// Port number.
    pub port: u16,
    /// Bytes of one element: 1, 2 or 4.
    pub size: u8,
    /// All elements, in the order of the string.
    pub data: Vec<u8>,
}

impl PortString {
    /// How many elements it has.
    pub fn count(&self) -> u32 {
        u32::try_from(self.data.len() / usize::from(self.size.max(1))).unwrap_or(u32::MAX)
    }
}

/// An access to what a watchpoint watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The number of the watchpoint.
    pub id: u32,
    /// The first byte accessed, in the addresses that the watchpoint was given: linear or guest-physical.
    pub at: u64,
    /// The same as a guest-physical address, where it has one.
    pub gpa: Option<u64>,
    /// 1 to 8 bytes.
    pub size: u8,
    /// Written, not read or executed.
    pub write: bool,
    /// What was there before, little-endian.
    pub before: u64,
    /// What is there afterwards; of a read, the same.
    pub after: u64,
    /// Linear address of the instruction, or of the one after it where the processor says no more.
    pub rip: u64,
}

/// An instruction that has been executed, as it was decoded before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// Its linear address.
    pub from: u64,
    /// Its bytes; 0 where it could not be decoded.
    pub size: u8,
    /// The next instruction is not the one behind it, nor a further round of its own (a string instruction's).
    pub taken: bool,
}

/// A hypercall that KVM leaves to user space (`KVM_EXIT_HYPERCALL`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hypercall {
    /// `KVM_HC_*`.
    pub number: u64,
    /// RBX, RCX, RDX, RSI, and what else there is.
    pub args: [u64; 6],
    /// Made in 64-bit mode.
    pub long_mode: bool,
}

/// A request of another hypervisor's interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paravirtual {
    /// `KVM_EXIT_HYPERV_*` or `KVM_EXIT_XEN_*`.
    pub kind: u32,
    /// The words that follow, as KVM laid them out.
    pub data: Vec<u64>,
}

/// An exit reason that this version does not know, with all that KVM said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// `KVM_EXIT_*`.
    pub reason: u32,
    /// The first words of what came with it.
    pub data: Vec<u64>,
}

/// Why an access to an MSR came to user space (`KVM_MSR_EXIT_REASON_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsrReason {
    /// A handler watches it.
    Filter,
    /// KVM does not know this MSR.
    Unknown,
    /// The value or the access is invalid.
    Invalid,
}

/// Who asked a running machine to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// `kick()`.
    Kick,
    /// `pause()`.
    Pause,
    /// `stop()`.
    Stop,
    /// `close()`.
    Close,
    /// What `run(until=...)` waited for holds.
    Until,
    /// A trace has no room, and nobody reads it.
    Trace,
}

/// A guest exception, as the processor reported it to its handler (Intel SDM vol. 3, 6.12 and 6.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// 0 to 255.
    pub vector: u8,
    /// Where the vector has one.
    pub error_code: Option<u32>,
    /// The address to return to: the instruction itself for a fault.
    pub rip: u64,
    /// The address that faulted, for #PF.
    pub cr2: u64,
}

/// What KVM says when it cannot go on (`KVM_EXIT_INTERNAL_ERROR`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalError {
    /// `KVM_INTERNAL_ERROR_*`; 1 is an emulation failure.
    pub suberror: u32,
    /// KVM's data words.
    pub data: Vec<u64>,
    /// The bytes of the instruction, where KVM gave them.
    pub instruction: Vec<u8>,
    /// Instruction pointer.
    pub rip: u64,
    /// 16, 32 or 64: how the instruction is to be decoded.
    pub bits: u32,
}

impl InternalError {
    /// `KVM_INTERNAL_ERROR_EMULATION`.
    pub const EMULATION: u32 = 1;
}

/// Defines [`ExitKind`] by its names.
macro_rules! exit_kinds {
    ($($name:ident)+) => {
        /// The class of an exit, which `on_exit` selects by.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[allow(missing_docs)] // the names of the `Exit` variants, documented there
        pub enum ExitKind {
            $($name,)+
        }

        impl ExitKind {
            /// All kinds, in the order of their indices.
            pub const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

// A new kind goes to the end: their indices are the numbers of belljar.h.
exit_kinds! {
    PortIn PortOut PortStringIn PortStringOut MmioRead MmioWrite MsrRead MsrWrite Hlt Shutdown Reset Debug Exception
    InternalError FailEntry MemoryFault SystemEvent Hypercall InterruptWindow TprLowered TprAccess IoapicEoi
    DirtyRingFull ApResetHold BusLock Notify HyperV Xen Timeout Interrupted Unknown Breakpoint Watchpoint Step
}

impl ExitKind {
    /// How many kinds there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Does the guest wait for data?
    pub const fn is_read(self) -> bool {
        matches!(self, Self::PortIn | Self::PortStringIn | Self::MmioRead | Self::MsrRead)
    }

    /// The kind as an index of a table.
    #[allow(clippy::as_conversions)] // a fieldless enum's discriminant
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A set of kinds of exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u64);

const _: () = assert!(ExitKind::COUNT <= 64);

impl Kinds {
    /// Every kind.
    pub const ALL: Self = Self(u64::MAX);

    /// These, and `kind`.
    #[must_use]
    pub const fn with(self, kind: ExitKind) -> Self {
        Self(self.0 | 1 << kind.index())
    }

    /// These alone.
    pub const fn of(kinds: &[ExitKind]) -> Self {
        let (mut all, mut at) = (Self(0), 0);
        while at < kinds.len() {
            all = all.with(kinds[at]);
            at += 1;
        }
        all
    }

    /// These, and those of `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Is `kind` one of them?
    pub const fn contains(self, kind: ExitKind) -> bool {
        self.0 >> kind.index() & 1 != 0
    }
}

impl Exit {
    /// The class of this exit.
    pub fn kind(&self) -> ExitKind {
        match self {
            Self::PortIn { .. } => ExitKind::PortIn,
            Self::PortOut { .. } => ExitKind::PortOut,
            Self::PortStringIn { .. } => ExitKind::PortStringIn,
            Self::PortStringOut(_) => ExitKind::PortStringOut,
            Self::MmioRead { .. } => ExitKind::MmioRead,
            Self::MmioWrite { .. } => ExitKind::MmioWrite,
            Self::MsrRead { .. } => ExitKind::MsrRead,
            Self::MsrWrite { .. } => ExitKind::MsrWrite,
            Self::Hlt => ExitKind::Hlt,
            Self::Shutdown => ExitKind::Shutdown,
            Self::Reset => ExitKind::Reset,
            Self::Debug { .. } => ExitKind::Debug,
            Self::Exception(_) => ExitKind::Exception,
            Self::InternalError(_) => ExitKind::InternalError,
            Self::FailEntry { .. } => ExitKind::FailEntry,
            Self::MemoryFault { .. } => ExitKind::MemoryFault,
            Self::SystemEvent { .. } => ExitKind::SystemEvent,
            Self::Timeout => ExitKind::Timeout,
            Self::Interrupted(_) => ExitKind::Interrupted,
            Self::Hypercall(_) => ExitKind::Hypercall,
            Self::InterruptWindow => ExitKind::InterruptWindow,
            Self::TprLowered { .. } => ExitKind::TprLowered,
            Self::TprAccess { .. } => ExitKind::TprAccess,
            Self::IoapicEoi { .. } => ExitKind::IoapicEoi,
            Self::DirtyRingFull => ExitKind::DirtyRingFull,
            Self::ApResetHold => ExitKind::ApResetHold,
            Self::BusLock => ExitKind::BusLock,
            Self::Notify { .. } => ExitKind::Notify,
            Self::HyperV(_) => ExitKind::HyperV,
            Self::Xen(_) => ExitKind::Xen,
            Self::Unknown(_) => ExitKind::Unknown,
            Self::Breakpoint { .. } => ExitKind::Breakpoint,
            Self::Watchpoint(_) => ExitKind::Watchpoint,
            Self::Step { .. } => ExitKind::Step,
        }
    }
}

/// What somebody who was asked about an exit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing: the next one, and in the end the default behaviour.
    Default,
    /// The data that a read gets.
    Value(u64),
    /// The data that a string read gets, all elements in order.
    Bytes(Vec<u8>),
    /// Do not do the default: drop the write, read all ones, go on after a halt.
    Skip,
    /// Do the default, then stop the machine and hand out this exit.
    Stop,
    /// Of an MSR: refuse the access, which the guest sees as a #GP.
    Deny,
}
