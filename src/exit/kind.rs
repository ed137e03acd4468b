//! The classes of exits, by which handlers, traces and counters select: each with an index that never changes.
//! It never knows what an exit carries.

use super::Exit;

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
