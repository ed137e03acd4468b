//! The way from one breakpoint that was stepped past to the next one, where that is a few plain instructions away: they are
//! executed here, and KVM goes on stepping. It never goes far, and seldom where it led nowhere before.

use crate::addr::GuestPhys;
use crate::debug::Role;
use crate::error::Result;
use crate::machine::repair::{emulate, fetched_from};
use crate::x86::{Gpr, Regs, Sregs};

use super::debug::linear;
use super::{Next, Run};

/// The most instructions of one way.
const MOST: usize = 16;
/// The most steps past breakpoints between two tries.
const MOST_PATIENCE: u32 = 255;
/// The most ways in a row: a step past a breakpoint takes no interrupt, and one that waits is taken on a plain way into the
/// guest. The one after them is the 31st: no loop of two or four breakpoints has it at the same one each time.
const MOST_IN_A_ROW: u32 = 30;
/// RFLAGS.IF.
const IF: u64 = 1 << 9;

/// Whether to try, by what came of it before.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// How often not to try, and how often not to from the next miss on.
    left: u32,
    patience: u32,
    /// How many ways have begun with interrupts closed, and how many with them open, since the guest was entered instead.
    in_a_row: [u32; 2],
    /// When the guest's own debug registers were last seen to be off: after how many entries, and how many changes from outside.
    unarmed: Option<(u64, u64)>,
}

impl Ahead {
    /// A breakpoint has been stepped past: is it to be tried this time?
    fn takes_a_try(&mut self) -> bool {
        let tries = self.left == 0;
        self.left = self.left.saturating_sub(1);
        tries
    }

    /// Is the guest to be entered here, for whatever waits to interrupt it? Where it can: not always with interrupts closed.
    fn is_to_be_interrupted(&mut self, is_open: bool) -> bool {
        let count = &mut self.in_a_row[usize::from(is_open)];
        *count = (*count + 1) % (MOST_IN_A_ROW + 1);
        *count == 0
    }

    /// What was stepped over may have set a debug register.
    pub(super) fn forget_debug_registers(&mut self) {
        self.unarmed = None;
    }

    fn came_of_it(&mut self, yes: bool) {
        self.patience = if yes { 0 } else { (2 * self.patience + 1).min(MOST_PATIENCE) };
        self.left = self.patience;
    }
}

/// What lies where the vCPU is.
enum Place {
    Plain,
    Site,
    Other,
}

impl Run<'_> {
    /// After a step past a breakpoint, and before KVM is told to step no more: goes ahead to the next planted byte, if it is
    /// near, and is at it then. None where it is not; the instructions on the way have been executed all the same.
    pub(super) fn go_ahead(&mut self) -> Result<Option<Next>> {
        if !self.debug.ahead.takes_a_try() || self.machine.traps.are_used() || self.debug.plan.has_slots() {
            return Ok(None);
        }
        let (before, sregs) = self.registers()?;
        if self.debug.ahead.is_to_be_interrupted(before[Gpr::Rflags] & IF != 0) {
            return Ok(None);
        }
        if self.vcpu().is_interrupted() || self.guest_has_debug_registers()? {
            self.debug.ahead.came_of_it(false);
            return Ok(None);
        }
        let (world, id) = (&self.machine.world, self.slot.id);
        if !world.enter(id) {
            return Ok(None); // somebody changes what is watched just now
        }
        let (regs, found) = if self.machine.traps.are_used() { (before, None) } else { self.way(before, &sregs) };
        world.leave(id);
        if regs != before {
            self.vcpu().set_regs(&regs);
        }
        let site = found.and_then(|place| self.machine.points.site(place.0));
        self.debug.ahead.came_of_it(site.is_some());
        site.map(|site| self.at_points(linear(&regs, &sregs), &site.points)).transpose()
    }

    /// Where a way from `regs` on leads, and the planted byte that is there.
    fn way(&self, mut regs: Regs, sregs: &Sregs) -> (Regs, Option<GuestPhys>) {
        for _ in 0..MOST {
            let after = match self.lies_at(&regs, sregs) {
                (Place::Site, place) => return (regs, place),
                (Place::Other, _) => None,
                (Place::Plain, _) => emulate(&regs, sregs, &self.machine.memory, self.is_alone()),
            };
            let Some(after) = after else { break };
            regs = after;
        }
        (regs, None)
    }

    /// Does the guest have debug registers of its own to stop it on the way? Asked where it has done more since the last time
    /// than the one step.
    pub(super) fn guest_has_debug_registers(&mut self) -> Result<bool> {
        const ENABLED: u64 = 0xff; // L0 to G3 in DR7
        let (entries, changes) = (self.watch.entries(), self.vcpu().debug_changes());
        let is_known = self.debug.ahead.unarmed == Some((entries.wrapping_sub(1), changes));
        let is_armed = !is_known && self.vcpu().debug_regs()?.words[5] & ENABLED != 0;
        self.debug.ahead.unarmed = (!is_armed).then_some((entries, changes));
        Ok(is_armed)
    }

    fn lies_at(&self, regs: &Regs, sregs: &Sregs) -> (Place, Option<GuestPhys>) {
        let memory = &self.machine.memory;
        let Some(place) = fetched_from(sregs, memory, linear(regs, sregs)) else { return (Place::Other, None) };
        if !memory.has_patch(place) {
            return (Place::Plain, None);
        }
        let is_ours = self.machine.points.site(place.0).is_some_and(|site| site.role == Role::Points);
        (if is_ours && memory.is_patched(place) { Place::Site } else { Place::Other }, Some(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_leads_nowhere_it_is_tried_ever_less_often_and_where_it_does_each_time() {
        let mut ahead = Ahead::default();
        let tries = |ahead: &mut Ahead, pays: bool, steps: u32| {
            let mut tries = 0;
            for _ in 0..steps {
                if ahead.takes_a_try() {
                    ahead.came_of_it(pays);
                    tries += 1;
                }
            }
            tries
        };
        assert_eq!(tries(&mut ahead, true, 1000), 1000);
        assert!(tries(&mut ahead, false, 10_000) < 60);
        assert!(tries(&mut ahead, true, 1000) > 700);
    }
}
