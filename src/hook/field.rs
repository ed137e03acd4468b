//! The fields of exits by name, as expressions ask for them. It never knows what an expression is.

use crate::exit::Exit;

/// Defines [`Field`] by its names.
macro_rules! fields {
    ($($field:ident $name:literal)+) => {
        /// A field of an exit, named as in Python.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // the names of the fields of `Exit`
        pub enum Field {
            $($field,)+
        }

        impl Field {
            /// All, in no order that means anything.
            pub const ALL: &[Self] = &[$(Self::$field,)+];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$field => $name,)+
                }
            }
        }
    };
}

fields! {
    Port "port" Address "address" Index "index" Size "size" Count "count" Data "data" Length "length" Vcpu "vcpu"
    Vector "vector" ErrorCode "error_code" Rip "rip" Cr2 "cr2" Number "number" LongMode "long_mode" Kind "kind"
    Flags "flags" Reason "reason" Suberror "suberror" Exception "exception" Pc "pc" Dr6 "dr6" Dr7 "dr7" Cpu "cpu"
    Tpr "tpr" IsWrite "is_write" Id "id" Gpa "gpa" Write "write" Before "before" After "after" Source "source" Taken "taken"
}

impl Field {
    /// The field of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.name() == name)
    }

    /// Its value in `exit`, which vCPU `vcpu` made; none for an exit that has no such field, or not as one number.
    #[inline]
    pub fn of(self, exit: &Exit, vcpu: u32) -> Option<u64> {
        match (self, exit) {
            (Self::Vcpu, _) => Some(u64::from(vcpu)),
            // The most frequent first, without a call.
            (Self::Port, Exit::PortIn { port, .. } | Exit::PortOut { port, .. }) => Some(u64::from(*port)),
            (Self::Size, Exit::PortIn { size, .. } | Exit::PortOut { size, .. }) => Some(u64::from(*size)),
            (Self::Data, Exit::PortOut { data, .. }) => Some(u64::from(*data)),
            _ => self.of_any(exit),
        }
    }

    /// The same, but of which vCPU.
    fn of_any(self, exit: &Exit) -> Option<u64> {
        match self {
            Self::Vcpu => None,
            Self::Port | Self::Address | Self::Index | Self::Gpa => self.place(exit),
            Self::Size | Self::Count | Self::Data | Self::Length => self.extent(exit),
            _ => self.event(exit),
        }
    }

    /// Where an access goes.
    fn place(self, exit: &Exit) -> Option<u64> {
        Some(match (self, exit) {
            (Self::Port, Exit::PortIn { port, .. } | Exit::PortOut { port, .. } | Exit::PortStringIn { port, .. }) => {
                u64::from(*port)
            }
            (Self::Port, Exit::PortStringOut(string)) => u64::from(string.port),
            (Self::Address, Exit::MmioRead { at, .. } | Exit::MmioWrite { at, .. } | Exit::MemoryFault { at, .. }) => {
                at.0
            }
            (Self::Address, Exit::Breakpoint { at, .. } | Exit::Step { at, .. }) => *at,
            (Self::Address, Exit::Watchpoint(watched)) => watched.at,
            (Self::Gpa, Exit::Watchpoint(watched)) => watched.gpa?,
            (Self::Index, Exit::MsrRead { index, .. } | Exit::MsrWrite { index, .. }) => u64::from(*index),
            _ => return None,
        })
    }

    /// What is accessed, and how much of it.
    fn extent(self, exit: &Exit) -> Option<u64> {
        Some(match (self, exit) {
            (
                Self::Size,
                Exit::PortIn { size, .. }
                | Exit::PortOut { size, .. }
                | Exit::PortStringIn { size, .. }
                | Exit::MmioRead { size, .. }
                | Exit::MmioWrite { size, .. },
            ) => u64::from(*size),
            (Self::Size, Exit::Step { executed, .. }) => u64::from(executed.size),
            (Self::Size, Exit::Watchpoint(watched)) => u64::from(watched.size),
            (Self::Size, Exit::PortStringOut(string)) => u64::from(string.size),
            (Self::Count, Exit::PortStringIn { count, .. }) => u64::from(*count),
            (Self::Count, Exit::PortStringOut(string)) => u64::from(string.count()),
            (Self::Data, Exit::PortOut { data, .. }) => u64::from(*data),
            (Self::Data, Exit::MmioWrite { data, .. } | Exit::MsrWrite { data, .. }) => *data,
            (Self::Length, Exit::MemoryFault { size, .. }) => *size,
            _ => return None,
        })
    }

    /// What exits say that are no accesses.
    fn event(self, exit: &Exit) -> Option<u64> {
        Some(match (self, exit) {
            (Self::Vector, Exit::Exception(exception)) => u64::from(exception.vector),
            (Self::Vector, Exit::IoapicEoi { vector }) => u64::from(*vector),
            (Self::ErrorCode, Exit::Exception(exception)) => u64::from(exception.error_code?),
            (Self::Rip, Exit::Exception(exception)) => exception.rip,
            (Self::Rip, Exit::InternalError(error)) => error.rip,
            (Self::Rip, Exit::TprAccess { rip, .. }) => *rip,
            (Self::Rip, Exit::Breakpoint { at, .. } | Exit::Step { at, .. }) => *at,
            (Self::Cr2, Exit::Exception(exception)) => exception.cr2,
            (Self::Number, Exit::Hypercall(call)) => call.number,
            (Self::LongMode, Exit::Hypercall(call)) => u64::from(call.long_mode),
            (Self::Kind, Exit::SystemEvent { kind, .. }) => u64::from(*kind),
            (Self::Kind, Exit::HyperV(call) | Exit::Xen(call)) => u64::from(call.kind),
            (Self::Flags, Exit::MemoryFault { flags, .. }) => *flags,
            (Self::Flags, Exit::Notify { flags }) => u64::from(*flags),
            (Self::Reason, Exit::FailEntry { reason, .. }) => *reason,
            (Self::Reason, Exit::Unknown(unknown)) => u64::from(unknown.reason),
            (Self::Suberror, Exit::InternalError(error)) => u64::from(error.suberror),
            (Self::Exception, Exit::Debug { exception, .. }) => u64::from(*exception),
            (Self::Pc, Exit::Debug { pc, .. }) => *pc,
            (Self::Dr6, Exit::Debug { dr6, .. }) => *dr6,
            (Self::Dr7, Exit::Debug { dr7, .. }) => *dr7,
            (Self::Cpu, Exit::FailEntry { cpu, .. }) => u64::from(*cpu),
            (Self::Tpr, Exit::TprLowered { tpr }) => u64::from(*tpr),
            (Self::Id, Exit::Breakpoint { id, .. }) => u64::from(*id),
            (Self::Id, Exit::Watchpoint(watched)) => u64::from(watched.id),
            (Self::Write, Exit::Watchpoint(watched)) => u64::from(watched.write),
            (Self::Before, Exit::Watchpoint(watched)) => watched.before,
            (Self::After, Exit::Watchpoint(watched)) => watched.after,
            (Self::Rip, Exit::Watchpoint(watched)) => watched.rip,
            (Self::Source, Exit::Step { executed, .. }) => executed.from,
            (Self::Taken, Exit::Step { executed, .. }) => u64::from(executed.taken),
            (Self::IsWrite, Exit::TprAccess { is_write, .. }) => u64::from(*is_write),
            _ => return None,
        })
    }
}
