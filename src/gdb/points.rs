//! gdb's breakpoints, watchpoints and steps: planted among those of others, and gone with the client. It never decides
//! how one is planted.

use std::sync::{Arc, Weak};

use gdbstub::target::TargetResult;
use gdbstub::target::ext::breakpoints::{
    Breakpoints, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint, SwBreakpointOps, WatchKind,
};

use crate::addr::GuestVirt;
use crate::debug::{Place, Point, Watch, Wish};
use crate::error::{Error, Result};
use crate::exit::{Exit, Reply};
use crate::hook::{Callback, Hook, Subject, Wanted};
use crate::machine::{self, Accesses, Machine, Stepper, Terms, WatchedPlace};
use crate::source::ReadRegs;

use super::grip::{Grip, Stop, Why};
use super::resume::Action;
use super::target::Guest;

/// The most points that a client may have: each costs every planting and every hit a little.
const MOST: usize = 4096;

/// The most bytes of one watchpoint.
const MOST_WATCHED: u64 = 1 << 20;

/// What gdb asked for, which it names again to have it removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A software breakpoint at an address.
    Software(u64),
    /// A hardware breakpoint at an address.
    Hardware(u64),
    /// A watchpoint: address, length, kind.
    Watched(u64, u64, WatchKind),
}

/// One point of gdb's.
#[derive(Debug)]
pub struct Planted {
    asked: Asked,
    parts: Vec<(Part, Arc<Hook>)>,
}

/// What notices a part of it.
#[derive(Debug)]
enum Part {
    /// A planted byte or a debug register.
    Point(Arc<Point>),
    /// Its pages are trapped.
    Trap(Arc<machine::Watch>),
}

/// What is called on the vCPU's thread when a point is hit.
struct Hit {
    machine: Weak<Machine>,
    grip: Arc<Grip>,
    why: Why,
}

impl Callback for Hit {
    fn call(&self, _: &Exit, vcpu: u32) -> Result<Reply> {
        if let Some(machine) = self.machine.upgrade() {
            self.grip.stopped(&machine, Stop { vcpu, why: self.why });
        }
        Ok(Reply::Skip)
    }
}

/// Who is told of each step, and tells gdb of the last one.
struct Steps {
    machine: Weak<Machine>,
    grip: Arc<Grip>,
    /// It goes on for as long as it is in here.
    within: (u64, u64),
}

impl Stepper for Steps {
    fn stepped(&self, id: u32, at: u64) -> bool {
        let Some(machine) = self.machine.upgrade() else { return false };
        let goes_on = (self.within.0..self.within.1).contains(&at) && !self.grip.has_stop(|stop| stop.vcpu == id);
        if !goes_on {
            self.grip.stopped(&machine, Stop { vcpu: id, why: Why::Stepped });
        }
        goes_on
    }
}

impl Guest {
    /// Readies vCPU `id`, which is held, for what it is to do.
    pub(super) fn prepare(&self, id: u32) -> Result<()> {
        let within = match self.plan.of(id) {
            Action::AsOthers | Action::Continue => return self.machine.step_with(id, None),
            Action::Step => (0, 0),
            Action::StepWithin(start, end) => (start, end),
        };
        let steps = Steps { machine: Arc::downgrade(&self.machine), grip: Arc::clone(&self.grip), within };
        self.machine.step_with(id, Some(Arc::new(steps)))
    }

    /// Is a stop that has not been told still one? gdb may have taken its point away since.
    pub(super) fn is_still(&self, stop: &Stop) -> bool {
        let is_there = |asked: Asked| self.points.iter().any(|planted| planted.asked == asked);
        match stop.why {
            Why::Software(at) => is_there(Asked::Software(at)),
            Why::Hardware(at) => is_there(Asked::Hardware(at)),
            Why::Watched(..) | Why::Stepped | Why::Over(_) => true,
        }
    }

    fn plant(&mut self, asked: Asked) -> bool {
        if self.points.len() >= MOST {
            return false;
        }
        let planted = match asked {
            Asked::Software(at) => self.plant_all(asked, Why::Software(at), vec![wish(at, None, None)]),
            Asked::Hardware(at) => self.plant_all(asked, Why::Hardware(at), vec![wish(at, Some(true), None)]),
            Asked::Watched(at, len, kind) => self.watch(asked, at, len, kind),
        };
        match planted {
            Ok(planted) => self.points.push(planted),
            Err(error) => {
                log::info!("gdb's {asked:?} cannot be planted: {error}");
                return false;
            }
        }
        true
    }

    fn plant_all(&self, asked: Asked, why: Why, wishes: Vec<Wish>) -> Result<Planted> {
        let mut planted = Planted { asked, parts: Vec::new() };
        for wish in wishes {
            match self.plant_one(wish, why) {
                Ok(part) => planted.parts.push(part),
                Err(error) => {
                    self.uproot(&planted);
                    return Err(error);
                }
            }
        }
        Ok(planted)
    }

    fn plant_one(&self, wish: Wish, why: Why) -> Result<(Part, Arc<Hook>)> {
        let point = self.machine.add_point(wish)?;
        match self.tell_of(point.id, why) {
            Ok(hook) => Ok((Part::Point(point), hook)),
            Err(error) => self.machine.remove_point(&point).and(Err(error)),
        }
    }

    /// Has hits of point `id` tell gdb `why`.
    fn tell_of(&self, id: u32, why: Why) -> Result<Arc<Hook>> {
        let hit = Hit { machine: Arc::downgrade(&self.machine), grip: Arc::clone(&self.grip), why };
        let hook = Hook::new(Subject::Point(id), Wanted::ALL, None, Box::new(hit));
        self.machine.add_hook(Arc::clone(&hook)).map(|()| hook)
    }

    /// Watches `len` bytes by debug registers where they work and suffice, else by traps of the pages that vCPU sees there
    /// of which gdb asked last.
    fn watch(&self, asked: Asked, at: u64, len: u64, kind: WatchKind) -> Result<Planted> {
        if len > MOST_WATCHED {
            return Err(Error::Invalid(format!("gdb watches at most {MOST_WATCHED:#x} bytes at once, not {len:#x}")));
        }
        let why = Why::Watched(kind, at);
        let reads = kind != WatchKind::Write;
        let pieces = aligned(at, len);
        if self.machine.quirks.hardware_watchpoints && !pieces.is_empty() && kind != WatchKind::Read {
            let wishes = pieces.into_iter().map(|(at, size)| wish(at, Some(true), Some(Watch { size, reads })));
            let planted = self.plant_all(asked, why, wishes.collect());
            if planted.is_ok() {
                return planted;
            }
        }
        let place = WatchedPlace::Linear(GuestVirt(at), Box::new(self.machine.sregs(self.looked_from)?));
        let accesses = Accesses { reads, writes: kind != WatchKind::Read, executes: false };
        let id = self.machine.points().number();
        let hook = self.tell_of(id, why)?;
        match self.machine.add_watch(id, place, len, Terms { accesses, when: None, once: false, stops: false }) {
            Ok(watch) => Ok(Planted { asked, parts: vec![(Part::Trap(watch), hook)] }),
            Err(error) => self.machine.remove_hook(&hook).and(Err(error)),
        }
    }

    /// Takes a point away. A machine that is closed has none any more.
    fn uproot(&self, planted: &Planted) {
        for (part, hook) in &planted.parts {
            let _ = match part {
                Part::Point(point) => self.machine.remove_point(point),
                Part::Trap(watch) => self.machine.remove_watch(watch),
            };
            let _ = self.machine.remove_hook(hook);
        }
    }

    fn remove(&mut self, asked: Asked) -> bool {
        let Some(at) = self.points.iter().position(|planted| planted.asked == asked) else { return false };
        let planted = self.points.swap_remove(at);
        self.uproot(&planted);
        true
    }
}

impl Drop for Guest {
    /// The client is gone, and its points with it.
    fn drop(&mut self) {
        for planted in std::mem::take(&mut self.points) {
            self.uproot(&planted);
        }
        for slot in &self.machine.cpus {
            let _ = self.machine.step_with(slot.id, None);
        }
    }
}

fn wish(at: u64, hardware: Option<bool>, watch: Option<Watch>) -> Wish {
    Wish { hardware, watch, stops: false, ..Wish::at(Place::Linear(at)) }
}

/// The pieces that debug registers can watch of `len` bytes at `at`: aligned powers of two. None for more than four.
fn aligned(at: u64, len: u64) -> Vec<(u64, u8)> {
    let (mut at, mut left) = (at, len);
    let mut pieces = Vec::new();
    while left > 0 && pieces.len() < 5 {
        let fits = |size: &u8| at.is_multiple_of(u64::from(*size)) && u64::from(*size) <= left;
        let size = [8, 4, 2, 1].into_iter().find(fits).unwrap_or(1);
        pieces.push((at, size));
        (at, left) = (at.wrapping_add(size.into()), left - u64::from(size));
    }
    if pieces.len() > 4 { Vec::new() } else { pieces }
}

impl Breakpoints for Guest {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Guest {
    fn add_sw_breakpoint(&mut self, at: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self.plant(Asked::Software(at)))
    }

    fn remove_sw_breakpoint(&mut self, at: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self.remove(Asked::Software(at)))
    }
}

impl HwBreakpoint for Guest {
    fn add_hw_breakpoint(&mut self, at: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self.plant(Asked::Hardware(at)))
    }

    fn remove_hw_breakpoint(&mut self, at: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self.remove(Asked::Hardware(at)))
    }
}

impl HwWatchpoint for Guest {
    fn add_hw_watchpoint(&mut self, at: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        Ok(self.plant(Asked::Watched(at, len, kind)))
    }

    fn remove_hw_watchpoint(&mut self, at: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        Ok(self.remove(Asked::Watched(at, len, kind)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_watched_is_cut_into_aligned_pieces() {
        assert_eq!(aligned(0x1000, 8), [(0x1000, 8)]);
        assert_eq!(aligned(0x1003, 6), [(0x1003, 1), (0x1004, 4), (0x1008, 1)]);
        assert_eq!(aligned(0x1001, 8), [(0x1001, 1), (0x1002, 2), (0x1004, 4), (0x1008, 1)]);
        assert_eq!(aligned(0x1000, u64::MAX), []);
        assert_eq!(aligned(0x1000, 0), []);
        assert_eq!(aligned(u64::MAX, 1), [(u64::MAX, 1)]);
    }
}
