//! What comes out of `KVM_RUN`, and the groups of registers that come with it. It never touches the run page.

use kvm_bindings as kb;

use crate::exit::{Exit, ExitKind};

/// What `KVM_RUN` came back with.
#[derive(Debug)]
pub enum Entered {
    /// A port access of one or several elements.
    Port(Access),
    /// An exit that is complete as it is.
    Exit(Exit),
    /// KVM could not go on; the caller adds RIP and width.
    InternalError {
        /// `KVM_INTERNAL_ERROR_*`.
        suberror: u32,
        /// KVM's data words.
        data: Vec<u64>,
        /// The instruction's bytes, where KVM gave them.
        instruction: Vec<u8>,
    },
    /// A signal or a kick.
    Interrupted,
}

/// Which way data goes, seen from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The guest reads.
    In,
    /// The guest writes.
    Out,
}

/// A port access, and where its data lies in the run page.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Port number.
    pub port: u16,
    /// Bytes per element: 1, 2 or 4.
    pub size: u8,
    /// Elements: more than one for string instructions.
    pub count: u32,
    /// Read or write.
    pub direction: Direction,
    pub(super) offset: usize,
}

impl Access {
    /// The kind of exit that it is.
    pub fn kind(&self) -> ExitKind {
        match (self.direction, self.count > 1) {
            (Direction::In, false) => ExitKind::PortIn,
            (Direction::In, true) => ExitKind::PortStringIn,
            (Direction::Out, false) => ExitKind::PortOut,
            (Direction::Out, true) => ExitKind::PortStringOut,
        }
    }

    pub(super) fn element(&self, index: u32) -> usize {
        self.offset + usize::try_from(index).unwrap_or(usize::MAX / 8) * usize::from(self.size)
    }
}

/// The register groups that the synchronised area holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// General registers, RIP and RFLAGS.
    Regs,
    /// Segment, descriptor-table and control registers.
    Sregs,
    /// Pending exceptions and interrupts.
    Events,
}

impl Sync {
    pub(super) fn bit(self) -> u64 {
        u64::from(match self {
            Self::Regs => kb::KVM_SYNC_X86_REGS,
            Self::Sregs => kb::KVM_SYNC_X86_SREGS,
            Self::Events => kb::KVM_SYNC_X86_EVENTS,
        })
    }
}

/// Pending exceptions and interrupts (`struct kvm_vcpu_events`).
#[derive(Clone, Copy)]
pub struct Events(pub(super) kb::kvm_vcpu_events);

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("exception", &self.0.exception.nr).finish_non_exhaustive()
    }
}

impl Events {
    /// Injects exception `vector` on the next entry.
    pub fn inject(&mut self, vector: u8, error_code: Option<u32>) {
        self.0.exception.injected = 1;
        self.0.exception.pending = 0;
        self.0.exception.nr = vector;
        self.0.exception.has_error_code = u8::from(error_code.is_some());
        self.0.exception.error_code = error_code.unwrap_or(0);
    }

    /// The exception that is on its way into the guest, if one is.
    pub fn exception(&self) -> Option<u8> {
        let exception = self.0.exception;
        (exception.injected != 0 || exception.pending != 0).then_some(exception.nr)
    }

    /// The vectors of the exception or interrupt that is on its way into the guest already.
    pub fn on_their_way(&self) -> impl Iterator<Item = u8> {
        let interrupt = (self.0.interrupt.injected != 0).then_some(self.0.interrupt.nr);
        let nmi = (self.0.nmi.injected != 0).then_some(2);
        self.exception().into_iter().chain(interrupt).chain(nmi)
    }

    /// Does an NMI wait?
    pub fn has_nmi(&self) -> bool {
        self.0.nmi.pending != 0 && self.0.nmi.masked == 0
    }

    /// Has the instruction before put interrupts off for one more (`sti`, `mov ss`)?
    pub fn is_in_shadow(&self) -> bool {
        self.0.interrupt.shadow != 0
    }

    /// That instruction has been executed.
    pub fn leave_shadow(&mut self) {
        self.0.interrupt.shadow = 0;
    }

    /// Is an exception or interrupt on its way into the guest already?
    pub fn is_busy(&self) -> bool {
        self.0.exception.injected != 0 || self.0.exception.pending != 0 || self.0.interrupt.injected != 0
    }
}
