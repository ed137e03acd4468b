//! Planting points: which mechanism this KVM offers for one, where its byte lies, and taking it away again.
//! It never runs a vCPU.

use std::sync::Arc;

use crate::addr::GuestPhys;
use crate::debug::{Mechanism, Place, Plan, Point, Points, Watch, Wish};
use crate::error::{Error, Result};
use crate::source::ReadMemory;
use crate::x86::Sregs;

use super::Machine;
use super::debug_choice::{BREAKPOINT, Found, INVALID_OPCODE, Who};
use super::repair::locate;

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
        let settled = self.settle_from_anywhere(&point).and_then(|()| self.points.look(Plan::check_registers));
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
        self.kick_all(); // a debug register may be in use
        Ok(())
    }

    /// Switches a point off without forgetting it, and on again.
    pub fn enable_point(&self, point: &Arc<Point>, yes: bool) -> Result<()> {
        self.points.change(|plan| {
            let idle = plan.drop_point(point, false);
            if yes {
                plan.keep(point);
            }
            self.unpatch(&idle)
        })?;
        let settled = if yes { self.settle_from_anywhere(point) } else { Ok(()) };
        if let Err(error) = settled.and_then(|()| self.points.look(Plan::check_registers)) {
            self.enable_point(point, false)?;
            return Err(error);
        }
        self.kick_all();
        Ok(())
    }

    /// Whether a point is switched on.
    pub fn is_enabled(&self, point: &Arc<Point>) -> bool {
        self.points.look(|plan| plan.has(point.id))
    }

    pub(super) fn unpatch(&self, places: &[u64]) -> Result<()> {
        match places.iter().try_for_each(|at| self.memory.unpatch(GuestPhys(*at))) {
            Err(Error::Closed) => Ok(()), // and with it everything that was planted
            result => result,
        }
    }

    /// What can be known before anything is planted.
    fn check(&self, wish: &Wish) -> Result<()> {
        self.knows_its_kvm()?;
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

    /// Settles `point` as each vCPU sees it that can be looked at from here. The others have been looked at.
    fn settle_from_anywhere(&self, point: &Arc<Point>) -> Result<()> {
        for slot in &self.cpus {
            let seen = slot.with(|cpu| Ok((cpu.vcpu.sregs()?, cpu.shim.is_some())));
            let id = slot.id;
            match seen {
                Ok((sregs, has_shim)) => {
                    if point.wish.vcpu.is_none_or(|only| only == id) {
                        self.settle_one(point, &sregs, has_shim)?;
                    }
                    self.settle_gate(&sregs, has_shim)?;
                }
                Err(Error::Running { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Plants what is pending and mapped, as vCPU `id` with `sregs` sees it; and the trap at its #BP handler if one is wanted.
    pub(super) fn settle(&self, id: u32, sregs: &Sregs, has_shim: bool) -> Result<()> {
        let mut behind = None;
        while let Some((turn, point)) = self.points.look(|plan| plan.next_waiting(behind)) {
            let is_mine = point.wish.vcpu.is_none_or(|only| only == id);
            let is_there = !is_mine || self.settle_one(&point, sregs, has_shim)?;
            behind = Some(if is_there { turn } else { turn.last_of_page() });
        }
        self.settle_gate(sregs, has_shim)
    }

    fn settle_gate(&self, sregs: &Sregs, has_shim: bool) -> Result<()> {
        if !has_shim && self.points.look(Plan::wants_gate) {
            self.plant_gate(BREAKPOINT, sregs)?;
            if !self.quirks.ring0_is_native && !self.quirks.int3_exits_in_ring3 {
                self.plant_gate(INVALID_OPCODE, sregs)?; // which code of 32 bits gets for int3 there
            }
        }
        Ok(())
    }

    /// Plants `point`, if it can be. False: its page is not there, and so none of that page's.
    fn settle_one(&self, point: &Arc<Point>, sregs: &Sregs, has_shim: bool) -> Result<bool> {
        let wish = &point.wish;
        let found = match wish.place {
            Place::Linear(at) if wish.hardware == Some(true) || wish.watch.is_some() => {
                self.look_at_data(point, sregs, at);
                return self.take_register(point, at, sregs, has_shim).map(|()| true);
            }
            Place::Linear(_) => self.find(point, sregs, has_shim),
            Place::Physical(at) if self.memory.region_at(at).is_none() => None,
            Place::Physical(at) => Some(Found { at, who: Who::Anybody, has_shim }),
        };
        let Some(found) = found else { return Ok(false) };
        self.points.change(|plan| {
            if !plan.is_waiting(point) {
                return Ok(true); // another vCPU was faster
            }
            let has_room = point.linear().is_some() && !plan.is_full();
            match (self.mechanism(found, sregs, has_room && wish.hardware != Some(false)), point.linear()) {
                (Mechanism::Hardware, Some(linear)) => plan.take_slot(point, linear)?,
                (mechanism, _) => self.plant(plan, point, found.at, mechanism)?,
            }
            Ok(true)
        })
    }

    /// Gives `point` a debug register, if one is free or can be freed; else it waits for one.
    fn take_register(&self, point: &Arc<Point>, at: u64, sregs: &Sregs, has_shim: bool) -> Result<()> {
        self.points.change(|plan| {
            if !plan.is_waiting(point) {
                return Ok(());
            }
            self.make_room(plan, sregs, has_shim)?;
            if plan.is_full() { Ok(()) } else { plan.take_slot(point, at) }
        })
    }

    /// Where the byte of a point would be, and who executes there; none while nothing is mapped there.
    fn find(&self, point: &Point, sregs: &Sregs, has_shim: bool) -> Option<Found> {
        let sregs = Sregs { cr3: point.wish.cr3.unwrap_or(sregs.cr3), ..*sregs };
        let (at, is_user) = locate(&sregs, &self.memory, point.linear()?)?;
        let who = if is_user { Who::Ring3 } else { Who::Ring0 };
        self.memory.region_at(at).map(|_| Found { at, who, has_shim })
    }

    fn plant(&self, plan: &mut Plan, point: &Arc<Point>, at: GuestPhys, mechanism: Mechanism) -> Result<()> {
        if mechanism.byte().is_none() {
            return Ok(());
        }
        plan.take_site(point, at.0, mechanism);
        // Also where a byte is already, which the guest may have overwritten.
        let byte = plan.site(at.0).and_then(|site| site.mechanism.byte());
        byte.map_or(Ok(()), |byte| self.memory.patch(at, byte))
    }

    /// Where all debug registers are taken, frees one that a breakpoint has which can do with a planted byte.
    fn make_room(&self, plan: &mut Plan, sregs: &Sregs, has_shim: bool) -> Result<()> {
        let is_full = plan.is_full();
        let Some((point, _)) = plan.movable().filter(|_| is_full) else { return Ok(()) };
        let Some(found) = self.find(&point, sregs, has_shim) else { return Ok(()) };
        let mechanism = self.mechanism(found, sregs, false);
        if mechanism.byte().is_some() {
            self.plant(plan, &point, found.at, mechanism)?;
            plan.give_slot(&point);
        }
        Ok(())
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
}
