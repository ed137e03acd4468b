//! One breakpoint or watchpoint: what was asked for, and what has become of it. It never knows other points.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crate::addr::GuestPhys;
use crate::error::Result;
use crate::hook::{Expression, Scope};

/// Where a point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this linear address.
    Linear(u64),
    /// At this guest-physical address, however the guest maps it.
    Physical(GuestPhys),
}

/// What is watched at a linear address by a debug register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// 1, 2, 4 or 8 bytes, aligned to their size.
    pub size: u8,
    /// Reads too, not writes alone: debug registers know no reads alone (Intel SDM vol. 3, 19.2.4).
    pub reads: bool,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The number that it is to have, taken before from [`super::Points::number`]; none for the next one.
    pub id: Option<u32>,
    /// Where.
    pub place: Place,
    /// Data that is watched; none for an instruction.
    pub watch: Option<Watch>,
    /// In this address space alone: CR3 without its low 12 bits.
    pub cr3: Option<u64>,
    /// For this vCPU alone.
    pub vcpu: Option<u32>,
    /// Only if this holds.
    pub when: Option<Expression>,
    /// By a debug register (or by none); where nothing is said, whatever is there.
    pub hardware: Option<bool>,
    /// It goes at its first hit.
    pub once: bool,
    /// A hit ends the run, if no hook says otherwise.
    pub stops: bool,
    /// It is belljar's own, and its hit the end of a step.
    pub is_step: bool,
}

impl Wish {
    /// A breakpoint at `place` that ends the run.
    pub fn at(place: Place) -> Self {
        Self {
            id: None,
            place,
            watch: None,
            cr3: None,
            vcpu: None,
            when: None,
            hardware: None,
            once: false,
            stops: true,
            is_step: false,
        }
    }
}

/// How a point is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mechanism {
    /// Not yet: where it is to be is not mapped.
    #[default]
    Pending,
    /// An int3, at which KVM exits.
    Int3,
    /// A debug register.
    Hardware,
    /// An `in al, imm8`, at which every KVM exits in ring 0: the port is the byte behind it, whatever that is there for.
    PortRead,
    /// An `in al, dx`: for where no port belongs to KVM, since DX may be any.
    PortReadDx,
    /// An int3 that goes to the guest, whose #BP handler is trapped.
    Gate,
    /// An int3 that goes to belljar's own handlers in a guest of mode="user".
    Shim,
}

impl Mechanism {
    const ALL: [Self; 7] =
        [Self::Pending, Self::Int3, Self::Hardware, Self::PortRead, Self::PortReadDx, Self::Gate, Self::Shim];

    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Int3 => "int3",
            Self::Hardware => "hardware",
            Self::PortRead | Self::PortReadDx => "in",
            Self::Gate => "gate",
            Self::Shim => "shim",
        }
    }

    /// A planted port read?
    pub fn is_port_read(self) -> bool {
        matches!(self, Self::PortRead | Self::PortReadDx)
    }

    /// The byte that is planted.
    pub fn byte(self) -> Option<u8> {
        match self {
            Self::Pending | Self::Hardware => None,
            Self::PortRead => Some(0xe4),
            Self::PortReadDx => Some(0xec),
            Self::Int3 | Self::Gate | Self::Shim => Some(0xcc),
        }
    }
}

/// A breakpoint or watchpoint.
#[derive(Debug)]
pub struct Point {
    /// Its number, from 1 on.
    pub id: u32,
    /// What was asked for.
    pub wish: Wish,
    hits: AtomicU64,
    is_removed: AtomicBool,
    mechanism: AtomicU8,
    /// What lay there when it was last looked at, of a watchpoint.
    last: AtomicU64,
}

impl Point {
    pub(super) fn new(id: u32, wish: Wish) -> Self {
        Self {
            id,
            wish,
            hits: AtomicU64::new(0),
            is_removed: AtomicBool::new(false),
            mechanism: AtomicU8::new(0),
            last: AtomicU64::new(0),
        }
    }

    /// The linear address, of one that has one.
    pub fn linear(&self) -> Option<u64> {
        match self.wish.place {
            Place::Linear(at) => Some(at),
            Place::Physical(_) => None,
        }
    }

    /// How often it was hit, its filters holding.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Another hit. `false`: it goes at its first one, and that was another.
    pub fn hit(&self) -> bool {
        if self.wish.once && self.is_removed.swap(true, Ordering::SeqCst) {
            return false;
        }
        self.hits.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Has it been removed?
    pub fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::SeqCst)
    }

    pub(super) fn set_removed(&self, yes: bool) {
        self.is_removed.store(yes, Ordering::SeqCst);
    }

    /// How it is noticed now.
    pub fn mechanism(&self) -> Mechanism {
        Mechanism::ALL.get(usize::from(self.mechanism.load(Ordering::Relaxed))).copied().unwrap_or_default()
    }

    pub(super) fn set_mechanism(&self, mechanism: Mechanism) {
        let number = Mechanism::ALL.iter().position(|one| *one == mechanism).unwrap_or(0);
        self.mechanism.store(u8::try_from(number).unwrap_or(0), Ordering::Relaxed);
    }

    /// What lay there when it was last looked at; from now on, `value`.
    pub fn replace(&self, value: u64) -> u64 {
        self.last.swap(value, Ordering::SeqCst)
    }

    /// Is a hit at linear address `at`, on vCPU `vcpu`, one of this point's? Its filters are computed with what `scope` gives.
    pub fn matches(
        &self,
        at: u64,
        vcpu: u32,
        cr3: impl FnOnce() -> Result<u64>,
        scope: &mut Scope<'_>,
    ) -> Result<bool> {
        const NUMBER: u64 = 0xfff; // of the address space, and its switches (Intel SDM vol. 3, 4.5)
        let is_here = self.wish.watch.is_some() || self.linear().is_none_or(|linear| linear == at);
        if !is_here || self.is_removed() || self.wish.vcpu.is_some_and(|wanted| wanted != vcpu) {
            return Ok(false);
        }
        if let Some(wanted) = self.wish.cr3
            && (cr3()? ^ wanted) & !NUMBER & (u64::MAX >> 1) != 0
        {
            return Ok(false);
        }
        Ok(self.wish.when.as_ref().is_none_or(|when| when.holds(scope)))
    }
}
