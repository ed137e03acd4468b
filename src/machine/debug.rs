//! Planting points: which mechanism this KVM offers for one, where its byte lies, and taking it away again.
//! It never runs a vCPU.

use std::sync::Arc;

use crate::addr::GuestPhys;
use crate::debug::{Mechanism, Place, Plan, Point, Points, Role, Watch, Wish};
use crate::error::{Error, Result};
use crate::source::ReadMemory;
use crate::x86::Sregs;

use super::Machine;
use super::repair::locate;

/// The vectors of single steps and of breakpoints.
pub(super) const STEP: u8 = 1;
pub(super) const BREAKPOINT: u8 = 3;

/// Where a point is to be planted, and who executes there.
#[derive(Clone, Copy)]
struct Found {
    at: GuestPhys,
    /// A page of ring 3.
    is_user: bool,
    /// Its exceptions come to belljar's own handlers.
    has_shim: bool,
}

impl Machine {
    /// The points of this machine.
    pub fn points(&self) -> &Points {
        &self.points
    }

    /// Plants a point, or keeps it pending until its page is mapped. It takes effect before each vCPU's next entry.
    pub fn add_point(&self, wish: Wish) -> Result<Arc<Point>> {
        self.vm()?;
        self.refuse_inherited()?;
        self.check(&wish)?;
        let point = self.points.add(wish);
        let settled = self.settle_from_anywhere().and_then(|()| self.points.plan().check_registers());
        if let Err(error) = settled {
            self.remove_point(&point)?;
            return Err(error);
        }
        self.kick_all(); // those that run look for themselves
        Ok(point)
    }

    /// A point that debug registers watch: `len` bytes at `linear` for data, an instruction without.
    pub fn add_hardware(&self, linear: u64, watch: Option<Watch>, wish: Wish) -> Result<Arc<Point>> {
        self.add_point(Wish { place: Place::Linear(linear), watch, hardware: Some(true), ..wish })
    }

    /// Takes a point away; it is not hit any more once this returns. Does nothing if it is gone.
    pub fn remove_point(&self, point: &Arc<Point>) -> Result<()> {
        if self.is_inherited() {
            return Ok(()); // its byte may lie in memory that the parent's guest executes
        }
        self.points.change(|plan| {
            let idle = plan.drop_point(point, true);
            self.unpatch(&idle)
        })?;
        if plan_has_slots(&self.points.plan()) || point.wish.hardware == Some(true) {
            self.kick_all();
        }
        Ok(())
    }

    /// Switches a point off without forgetting it, and on again.
    pub fn enable_point(&self, point: &Arc<Point>, yes: bool) -> Result<()> {
        self.points.change(|plan| {
            let idle = plan.drop_point(point, false);
            if yes {
                plan.points.insert(point.id, Arc::clone(point));
            } else {
                plan.points.remove(&point.id);
            }
            self.unpatch(&idle)
        })?;
        let settled = if yes { self.settle_from_anywhere() } else { Ok(()) };
        if let Err(error) = settled.and_then(|()| self.points.plan().check_registers()) {
            self.enable_point(point, false)?;
            return Err(error);
        }
        self.kick_all();
        Ok(())
    }

    /// Whether a point is switched on.
    pub fn is_enabled(&self, point: &Arc<Point>) -> bool {
        self.points.plan().points.contains_key(&point.id)
    }

    fn unpatch(&self, places: &[u64]) -> Result<()> {
        match places.iter().try_for_each(|at| self.memory.unpatch(GuestPhys(*at))) {
            Err(Error::Closed) => Ok(()), // and with it everything that was planted
            result => result,
        }
    }

    /// What can be known before anything is planted.
    fn check(&self, wish: &Wish) -> Result<()> {
        if let Some(vcpu) = wish.vcpu {
            self.cpu(vcpu)?;
        }
        if let Place::Physical(at) = wish.place {
            self.memory.check(at, 1)?;
        }
        let quirks = &self.quirks;
        if let Some(watch) = wish.watch {
            let at = if let Place::Linear(at) = wish.place { at } else { 1 };
            if !matches!(watch.size, 1 | 2 | 4 | 8) || !at.is_multiple_of(watch.size.into()) {
                return Err(Error::Invalid(
                    "a debug register watches 1, 2, 4 or 8 bytes at a linear address that is a multiple of them".into(),
                ));
            }
            if !quirks.hardware_watchpoints {
                return Err(Error::NoMechanism {
                    what: "data watchpoints by debug registers never fire on this KVM",
                    instead: "watch the page instead (vm.watch chooses that by itself)",
                });
            }
        } else if wish.hardware == Some(true) {
            if !quirks.hardware_breakpoints_in_ring0 && !quirks.hardware_breakpoints_in_ring3 {
                return Err(Error::NoMechanism {
                    what: "hardware breakpoints never fire on this KVM",
                    instead: "leave hw= away: a planted byte does it",
                });
            }
            if !matches!(wish.place, Place::Linear(_)) {
                return Err(Error::Invalid("a debug register holds a linear address, not a physical one".into()));
            }
        }
        Ok(())
    }

    /// Settles what is pending as each vCPU sees it that can be looked at from here.
    fn settle_from_anywhere(&self) -> Result<()> {
        for slot in &self.cpus {
            let seen = slot.with(|cpu| Ok((cpu.vcpu.sregs()?, cpu.shim.is_some())));
            let id = slot.id;
            match seen {
                Ok((sregs, has_shim)) => self.settle(id, &sregs, has_shim)?,
                Err(Error::Running { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Plants what is pending and mapped, as vCPU `id` with `sregs` sees it; and the trap at its #BP handler if one is wanted.
    pub(super) fn settle(&self, id: u32, sregs: &Sregs, has_shim: bool) -> Result<()> {
        let plan = self.points.plan();
        for point in plan.pending().filter(|point| point.wish.vcpu.is_none_or(|only| only == id)) {
            self.settle_one(point, sregs, has_shim)?;
        }
        if !has_shim && self.points.plan().wants_gate() {
            self.plant_gate(BREAKPOINT, sregs)?;
        }
        Ok(())
    }

    fn settle_one(&self, point: &Arc<Point>, sregs: &Sregs, has_shim: bool) -> Result<()> {
        let wish = &point.wish;
        let found = match wish.place {
            Place::Linear(at) if wish.hardware == Some(true) || wish.watch.is_some() => {
                self.look_at_data(point, sregs, at);
                let is_free = |plan: &Plan| plan.slots.iter().any(Option::is_none);
                let take = |plan: &mut Plan| {
                    if is_pending(plan, point) && is_free(plan) { plan.take_slot(point, at) } else { Ok(()) }
                };
                return self.points.change(take);
            }
            Place::Linear(at) => {
                let sregs = Sregs { cr3: wish.cr3.unwrap_or(sregs.cr3), ..*sregs };
                let Some((at, is_user)) = locate(&sregs, &self.memory, at) else { return Ok(()) };
                Found { at, is_user, has_shim }
            }
            Place::Physical(at) => Found { at, is_user: false, has_shim: false },
        };
        if self.memory.region_at(found.at).is_none() {
            return Ok(());
        }
        self.points.change(|plan| {
            if !is_pending(plan, point) {
                return Ok(()); // another vCPU was faster
            }
            let has_room = point.linear().is_some() && plan.slots.iter().any(Option::is_none);
            let mechanism = self.mechanism(found, has_room, wish.hardware);
            match (mechanism.byte(), point.linear()) {
                (None, Some(linear)) => return plan.take_slot(point, linear),
                (Some(_), _) => {
                    plan.take_site(point, found.at.0, mechanism);
                    // Also where one is already, which the guest may have overwritten.
                    let byte = plan.sites.get(&found.at.0).and_then(|site| site.mechanism.byte());
                    byte.map_or(Ok(()), |byte| self.memory.patch(found.at, byte))
                }
                _ => Ok(()),
            }
        })
    }

    /// Notes what a watchpoint watches as it is now, which is what the first hit tells as before.
    fn look_at_data(&self, point: &Point, sregs: &Sregs, at: u64) {
        let mut word = [0; 8];
        let size = point.wish.watch.map_or(0, |watch| usize::from(watch.size).min(8));
        let place = locate(sregs, &self.memory, at).map(|(place, _)| place);
        if place.is_some_and(|place| self.memory.read(place, &mut word[..size]).is_ok()) {
            point.replace(u64::from_le_bytes(word));
        }
    }

    /// What notices a breakpoint here: by what was probed of this KVM and the ring at hand.
    fn mechanism(&self, found: Found, has_room: bool, hardware: Option<bool>) -> Mechanism {
        let quirks = &self.quirks;
        let may_use_register = has_room && hardware != Some(false);
        match found.is_user {
            false if quirks.int3_exits_in_ring0 || !quirks.ring0_is_native => Mechanism::Int3,
            false => Mechanism::PortRead,
            true if quirks.int3_exits_in_ring3 => Mechanism::Int3,
            true if found.has_shim => Mechanism::Shim,
            true if quirks.hardware_breakpoints_in_ring3 && may_use_register => Mechanism::Hardware,
            true => Mechanism::Gate,
        }
    }

    /// Traps the guest's handler of `vector`, where its IDT has one in 64-bit mode. Says whether it is trapped.
    pub(super) fn plant_gate(&self, vector: u8, sregs: &Sregs) -> Result<bool> {
        let Some(at) = self.handler(vector, sregs) else { return Ok(false) };
        let quirks = &self.quirks;
        let mechanism =
            if quirks.int3_exits_in_ring0 || !quirks.ring0_is_native { Mechanism::Int3 } else { Mechanism::PortRead };
        let Some(byte) = mechanism.byte() else { return Ok(false) };
        let is_there = self.points.plan().sites.get(&at.0).is_some_and(|site| site.role != Role::Points);
        if !is_there || !self.memory.is_patched(at) {
            self.points.change(|plan| {
                self.unpatch(&plan.drop_gates())?;
                plan.take_gate(at.0, vector, mechanism);
                self.memory.patch(at, plan.sites.get(&at.0).and_then(|site| site.mechanism.byte()).unwrap_or(byte))
            })?;
        }
        Ok(true)
    }

    /// Where the handler of `vector` begins (Intel SDM vol. 3, 6.14.1).
    fn handler(&self, vector: u8, sregs: &Sregs) -> Option<GuestPhys> {
        const PRESENT: u64 = 1 << 47;
        let offset = u64::from(vector) * 16;
        if sregs.code_bits() != 64 && sregs.cpl() == 0 || u64::from(sregs.idt.limit) < offset + 15 {
            return None;
        }
        let (at, _) = locate(sregs, &self.memory, sregs.idt.base.wrapping_add(offset))?;
        let mut gate = [0; 16];
        self.memory.read(at, &mut gate).ok()?;
        let low = u64::from_le_bytes(gate[..8].try_into().ok()?);
        let high = u64::from_le_bytes(gate[8..].try_into().ok()?);
        let entry = low & 0xffff | low >> 32 & 0xffff_0000 | high << 32;
        (low & PRESENT != 0).then_some(())?;
        locate(sregs, &self.memory, entry).map(|(at, _)| at).filter(|at| self.memory.region_at(*at).is_some())
    }
}

fn is_pending(plan: &Plan, point: &Arc<Point>) -> bool {
    plan.points.contains_key(&point.id) && !point.is_removed() && point.mechanism() == Mechanism::Pending
}

fn plan_has_slots(plan: &Plan) -> bool {
    plan.slots.iter().any(Option::is_some)
}
