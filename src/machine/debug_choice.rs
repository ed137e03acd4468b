//! How a breakpoint is noticed: by what was probed of this KVM, who executes the place, and what lies there.
//! It never plants anything but the trap at a handler of the guest's.

use crate::addr::{GuestPhys, PAGE};
use crate::debug::{Mechanism, Role};
use crate::error::{Error, Result};
use crate::kvm::Irqchip;
use crate::x86::{Sregs, cr0, efer};

use super::repair::locate;
use super::{Machine, idt};

/// The vectors of single steps, of breakpoints and of what is no instruction.
pub(super) const STEP: u8 = 1;
pub(super) const BREAKPOINT: u8 = 3;
pub(super) const INVALID_OPCODE: u8 = 6;

/// The ports below 256 that a KVM with its own PIC and timer answers by itself.
const KVMS_OWN: [u8; 9] = [0x20, 0x21, 0x40, 0x41, 0x42, 0x43, 0x61, 0xa0, 0xa1];

/// Who executes at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Ring0,
    Ring3,
    /// It is known by its physical address alone.
    Anybody,
}

/// Where a point is to be planted, and who executes there.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) at: GuestPhys,
    pub(super) who: Who,
    /// Its exceptions come to belljar's own handlers.
    pub(super) has_shim: bool,
}

impl Machine {
    /// An error where the probe of this KVM was cut short: a mechanism that is wrong here would break the guest.
    pub(super) fn knows_its_kvm(&self) -> Result<()> {
        if self.quirks.are_known {
            return Ok(());
        }
        Err(Error::Unprobed)
    }

    /// What notices a breakpoint at `found`; [`Mechanism::Pending`] where nothing does yet.
    pub(super) fn mechanism(&self, found: Found, sregs: &Sregs, may_use_register: bool) -> Mechanism {
        let quirks = &self.quirks;
        let gate = || self.handler(BREAKPOINT, sregs).map_or(Mechanism::Pending, |_| Mechanism::Gate);
        match found.who {
            Who::Ring0 if quirks.int3_exits_in_ring0 => Mechanism::Int3,
            Who::Anybody if quirks.int3_exits_in_ring0 && quirks.int3_exits_in_ring3 => Mechanism::Int3,
            Who::Ring3 if quirks.int3_exits_in_ring3 => Mechanism::Int3,
            Who::Ring3 | Who::Anybody if found.has_shim => Mechanism::Shim,
            Who::Ring3 if quirks.hardware_breakpoints_in_ring3 && may_use_register => Mechanism::Hardware,
            Who::Ring3 => gate(),
            // With its handler trapped, int3 serves both rings.
            Who::Anybody if gate() == Mechanism::Gate => Mechanism::Gate,
            Who::Ring0 | Who::Anybody if self.fails_at_int3(sregs) => Mechanism::Int3,
            Who::Ring0 if quirks.hardware_breakpoints_in_ring0 && quirks.ring0_is_native && may_use_register => {
                Mechanism::Hardware
            }
            Who::Ring0 | Who::Anybody => self.port_read(found.at).unwrap_or_else(gate),
        }
    }

    /// Does int3 in ring 0 end in an error of an interpreter? Not without paging: there it may be real mode, whose
    /// interrupts an interpreter delivers.
    fn fails_at_int3(&self, sregs: &Sregs) -> bool {
        !self.quirks.ring0_is_native && sregs.cr0 & cr0::PG != 0
    }

    /// A port read that leaves KVM, if planted at `at`.
    fn port_read(&self, at: GuestPhys) -> Option<Mechanism> {
        if self.irqchip != Irqchip::Full {
            return Some(Mechanism::PortReadDx);
        }
        let is_last = at.0 % PAGE == PAGE - 1;
        let port = self.memory.raw_byte(GuestPhys(at.0.wrapping_add(1))).filter(|_| !is_last)?;
        (!KVMS_OWN.contains(&port)).then_some(Mechanism::PortRead)
    }

    /// Traps the guest's handler of `vector`, where its IDT has one in 64-bit mode. Says whether it is trapped.
    pub(super) fn plant_gate(&self, vector: u8, sregs: &Sregs) -> Result<bool> {
        self.knows_its_kvm()?;
        let Some(at) = self.handler(vector, sregs) else { return Ok(false) };
        let is_there = self.points.site(at.0).is_some_and(|site| site.role != Role::Points);
        if is_there && self.memory.is_patched(at) {
            return Ok(true);
        }
        let is_int3 = self.quirks.int3_exits_in_ring0 || self.fails_at_int3(sregs);
        let mechanism = if is_int3 { Some(Mechanism::Int3) } else { self.port_read(at) };
        let Some((mechanism, byte)) = mechanism.and_then(|one| one.byte().map(|byte| (one, byte))) else {
            return Ok(false);
        };
        self.points.change(|plan| {
            self.unpatch(&plan.drop_gates())?;
            plan.take_gate(at.0, vector, mechanism);
            self.memory.patch(at, plan.site(at.0).and_then(|site| site.mechanism.byte()).unwrap_or(byte))
        })?;
        Ok(true)
    }

    /// Where in memory the guest's 64-bit handler of `vector` begins.
    fn handler(&self, vector: u8, sregs: &Sregs) -> Option<GuestPhys> {
        if sregs.efer & efer::LMA == 0 {
            return None;
        }
        let entry = idt::handler(vector, sregs, &self.memory)?;
        locate(sregs, &self.memory, entry).map(|(at, _)| at).filter(|at| self.memory.region_at(*at).is_some())
    }
}
