//! The one error type of the core: facts (addresses, counts, errno), in the words of the hardware.
//! It never knows Python; `python/error.rs` says what to do next.

use std::any::Any;
use std::fmt;

/// What every fallible operation of the core returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of somebody else's (a Python exception).
pub trait Stranger: Any + Send {
    /// Nobody will be handed this error, since another one came first: its owner may show it.
    fn unheard(self: Box<Self>);
}

/// A stranger that travels through the core unchanged.
pub struct Foreign(pub Box<dyn Stranger>);

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Foreign(..)")
    }
}

/// A region of memory beside addresses that have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Near {
    /// "RAM" or "ROM".
    pub what: &'static str,
    /// First address.
    pub first: u64,
    /// One past the last address.
    pub end: u64,
}

impl Near {
    fn seen_from(&self, at: u64) -> String {
        let (verb, edge) = if self.first <= at { ("ends", self.end) } else { ("begins", self.first) };
        format!(": {} {verb} at {edge:#x}", self.what)
    }
}

/// What went wrong, with the numbers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host has no usable KVM.
    #[error("{cause}")]
    NoKvm {
        /// What was found, in words.
        cause: String,
        /// What the user can do about it.
        remedy: String,
    },
    /// The kernel refused an operation.
    #[error("{what}: {} (errno {errno})", std::io::Error::from_raw_os_error(*errno))]
    Host {
        /// The operation, named by its ioctl or system call.
        what: &'static str,
        /// The kernel's errno.
        errno: i32,
    },
    /// Guest-physical addresses that no RAM or ROM backs.
    #[error("no memory at {at:#x} ({len:#x} bytes asked){}", near.as_ref().map(|n| n.seen_from(*at)).unwrap_or_default())]
    Unbacked {
        /// First address asked for.
        at: u64,
        /// Length asked for, in bytes.
        len: u64,
        /// The memory that is nearest to it.
        near: Option<Near>,
    },
    /// Linear addresses that do not lead to memory.
    #[error("nothing is mapped at {at:#x} ({len:#x} bytes asked): {why}")]
    Unmapped {
        /// The first address that leads nowhere.
        at: u64,
        /// How many bytes were asked for from there on.
        len: u64,
        /// Where the walk ended, and why.
        why: String,
    },
    /// A range that is already taken.
    #[error("{at:#x}..{:#x} overlaps {what} at {with:#x}", at.saturating_add(*len))]
    Overlap {
        /// First address of the new range.
        at: u64,
        /// Its length.
        len: u64,
        /// First address of the range in the way.
        with: u64,
        /// What the range in the way is.
        what: &'static str,
    },
    /// A region of memory that is not made of whole pages.
    #[error("{at:#x} + {len:#x} is not a multiple of the page size, 0x1000")]
    Unaligned {
        /// First address.
        at: u64,
        /// Length in bytes.
        len: u64,
    },
    /// A range beyond what a guest-physical address can name.
    #[error("{at:#x} + {len:#x} is beyond the {bits}-bit guest-physical address space")]
    BeyondPhysical {
        /// First address.
        at: u64,
        /// Length in bytes.
        len: u64,
        /// Width of a guest-physical address here.
        bits: u32,
    },
    /// A number of vCPUs that cannot be.
    #[error("{asked} vCPUs asked; this KVM has between 1 and {max}")]
    VcpuCount {
        /// How many were asked for.
        asked: u64,
        /// The most that KVM has.
        max: u64,
    },
    /// This KVM has no way to do it.
    #[error("{what}")]
    NoMechanism {
        /// What does not work.
        what: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// It was not found out how this KVM behaves.
    #[error("this host is so busy that its KVM was not asked everything, and a guess might break the guest")]
    Unprobed,
    /// An argument that means nothing.
    #[error("{0}")]
    Invalid(String),
    /// The machine has been closed.
    #[error("the VM is closed")]
    Closed,
    /// A vCPU is running, so its state cannot be touched from here.
    #[error("vCPU {vcpu} is running")]
    Running {
        /// Which one.
        vcpu: u32,
    },
    /// Something that a handler must not do to its own machine.
    #[error("{what} from inside a handler of this VM")]
    InHandler {
        /// What was tried.
        what: &'static str,
    },
    /// Something that needs a machine at rest was asked of one that runs.
    #[error("{what} while the VM runs")]
    NotAtRest {
        /// What was tried.
        what: &'static str,
    },
    /// The machine cannot be closed, or the region not be removed: Python still sees its memory.
    #[error("{0} memory views are live")]
    ViewsLive(usize),
    /// Too many pages of one size were asked of the host.
    #[error("{pages} huge pages of {size} are needed, and the host has fewer free (mmap: errno {errno})")]
    HugePages {
        /// How many are needed.
        pages: u64,
        /// Their size, in words.
        size: &'static str,
        /// The size in KiB, as the kernel names it.
        kib: u64,
        /// The kernel's errno.
        errno: i32,
    },
    /// A file that is not what its loader reads.
    #[error("{format}: {reason}")]
    Image {
        /// The format that was tried.
        format: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A guest's memory does not hold the kernel, or the structure of a kernel's, that was looked for.
    #[error("{reason}{}", if *at == 0 { String::new() } else { format!(" (at {at:#x})") })]
    Kernel {
        /// Where in guest memory it went wrong, or 0.
        at: u64,
        /// What is there, or is not.
        reason: String,
    },
    /// KVM refused the registers that were set.
    #[error("KVM refuses these registers of vCPU {vcpu} (errno {errno})")]
    Registers {
        /// Which vCPU.
        vcpu: u32,
        /// The kernel's errno.
        errno: i32,
        /// What was to be set together is given up; else one thing was refused, which is as it was.
        dropped: bool,
    },
    /// A value that a register cannot have.
    #[error("{0}")]
    Value(String),
    /// An error of a handler's own.
    #[error("a handler failed")]
    Foreign(Foreign),
}

impl Error {
    /// The error for a failed ioctl of kvm-ioctls or vmm-sys-util.
    pub fn host(what: &'static str) -> impl Fn(vmm_sys_util::errno::Error) -> Self {
        move |e| Self::Host { what, errno: e.errno() }
    }

    /// The error for a failed system call, from `errno`.
    pub fn last_os(what: &'static str) -> Self {
        Self::Host { what, errno: std::io::Error::last_os_error().raw_os_error().unwrap_or(0) }
    }

    /// Another error came first, and only one is handed out. Not under a lock: its owner may do anything.
    pub fn unheard(self) {
        if let Self::Foreign(Foreign(own)) = self {
            own.unheard();
        }
    }
}
