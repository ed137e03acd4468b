//! All points of a machine: which of them wait, which bytes and debug registers the others take. A change costs the same
//! however many points there are. They never plant anything themselves.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::error::{Error, Result};

use super::outline::{Outline, Slot};
use super::point::{Mechanism, Place, Point};
use super::sites::{Site, Sites};

/// The most handlers of the guest's that are trapped at once.
pub(super) const MOST_GATES: usize = 256;

/// Where a waiting point stands in the queue: those of one page of one address space stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    space: Space,
    page: u64,
    id: u32,
}

/// What a waiting point waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Space {
    /// A debug register: nothing else does.
    Register,
    /// A page of the address space that a vCPU has, or of that CR3.
    Linear(Option<u64>),
    /// Guest-physical memory.
    Physical,
}

impl Turn {
    fn of(point: &Point) -> Self {
        let wish = &point.wish;
        let (space, at) = match wish.place {
            Place::Linear(at) if wish.hardware == Some(true) || wish.watch.is_some() => (Space::Register, at),
            Place::Linear(at) => (Space::Linear(wish.cr3), at),
            Place::Physical(at) => (Space::Physical, at.0),
        };
        Self { space, page: at / crate::addr::PAGE, id: point.id }
    }

    /// The last turn of the same page: who finds nothing there goes on behind it.
    #[must_use]
    pub fn last_of_page(self) -> Self {
        Self { id: u32::MAX, ..self }
    }
}

/// All that is planted at one moment, and all that waits to be.
#[derive(Debug, Default)]
pub struct Plan {
    /// Every point that is switched on, by its number.
    points: BTreeMap<u32, Arc<Point>>,
    sites: Sites,
    /// Those that are nowhere yet.
    waiting: BTreeMap<Turn, Arc<Point>>,
    slots: [Option<Slot>; 4],
    /// How many trap flags of ours lie in frames that interrupts and system calls of the guest have pushed: the handler of
    /// #DB stays trapped until they have come back.
    pub strays: u32,
}

impl Plan {
    /// Is there nothing at all?
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.sites.is_empty()
    }

    /// What a vCPU keeps of it.
    pub fn outline(&self) -> Outline {
        Outline {
            is_empty: self.is_empty(),
            has_waiting: !self.waiting.is_empty(),
            wants_gate: self.wants_gate(),
            wants_int3: self.sites.has(Mechanism::Int3),
            has_port_reads: self.sites.has(Mechanism::PortRead) || self.sites.has(Mechanism::PortReadDx),
            slots: self.slots.clone(),
            strays: self.strays,
        }
    }

    /// Is there a site that needs the guest's #BP handler trapped, unless that is belljar's own?
    pub fn wants_gate(&self) -> bool {
        self.sites.want_gate()
    }

    /// The byte that is planted at guest-physical `at`.
    pub fn site(&self, at: u64) -> Option<&Site> {
        self.sites.get(at)
    }

    /// Is that point switched on?
    pub fn has(&self, id: u32) -> bool {
        self.points.contains_key(&id)
    }

    /// The next point behind that turn that is nowhere yet.
    pub fn next_waiting(&self, behind: Option<Turn>) -> Option<(Turn, Arc<Point>)> {
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        self.waiting.range((from, Bound::Unbounded)).next().map(|(turn, point)| (*turn, Arc::clone(point)))
    }

    /// Is `point` switched on, and nowhere yet?
    pub fn is_waiting(&self, point: &Point) -> bool {
        !point.is_removed() && self.waiting.contains_key(&Turn::of(point))
    }

    /// Takes in a point, which is nowhere yet.
    pub fn keep(&mut self, point: &Arc<Point>) {
        self.points.insert(point.id, Arc::clone(point));
        self.waits(point);
    }

    fn waits(&mut self, point: &Arc<Point>) {
        point.set_mechanism(Mechanism::Pending);
        if self.has(point.id) {
            self.waiting.insert(Turn::of(point), Arc::clone(point));
        }
    }

    fn is_noticed(&mut self, point: &Point, mechanism: Mechanism) {
        point.set_mechanism(mechanism);
        self.waiting.remove(&Turn::of(point));
    }

    /// A point that took a debug register and would do without one.
    pub fn movable(&self) -> Option<(Arc<Point>, u64)> {
        let mut slots = self.slots.iter().flatten();
        let slot = slots.find(|slot| slot.point.wish.watch.is_none() && slot.point.wish.hardware.is_none())?;
        Some((Arc::clone(&slot.point), slot.linear))
    }

    /// Are all debug registers taken?
    pub fn is_full(&self) -> bool {
        self.slots.iter().all(Option::is_some)
    }

    /// Takes the debug register of `point` away. It is to be planted otherwise.
    pub fn give_slot(&mut self, point: &Arc<Point>) {
        for slot in &mut self.slots {
            slot.take_if(|slot| Arc::ptr_eq(&slot.point, point));
        }
    }

    /// Gives `point` a debug register. An error where all four are taken.
    pub fn take_slot(&mut self, point: &Arc<Point>, linear: u64) -> Result<()> {
        let slot = self.slots.iter_mut().find(|slot| slot.is_none()).ok_or_else(no_register)?;
        *slot = Some(Slot { linear, control: control(point), point: Arc::clone(point) });
        self.is_noticed(point, Mechanism::Hardware);
        Ok(())
    }

    /// An error where more debug registers are insisted on than there are, those counted that wait for a vCPU to look.
    pub fn check_registers(&self) -> Result<()> {
        let insists = |point: &&Arc<Point>| point.wish.hardware == Some(true) || point.wish.watch.is_some();
        let taken = self.slots.iter().flatten().map(|slot| &slot.point).filter(insists).count();
        let waiting = self.waiting.keys().take_while(|turn| turn.space == Space::Register).count();
        if taken + waiting > self.slots.len() { Err(no_register()) } else { Ok(()) }
    }

    /// Forgets the bytes in memory that is gone: their points wait for their page again.
    pub fn forget_sites(&mut self, is_gone: impl Fn(u64) -> bool) {
        for point in self.sites.forget_those(is_gone) {
            self.waits(&point);
        }
    }

    /// Notes that `mechanism` notices `point` at guest-physical `at`.
    pub fn take_site(&mut self, point: &Arc<Point>, at: u64, mechanism: Mechanism) {
        let told = self.sites.take(point, at, mechanism);
        self.is_noticed(point, told);
    }

    /// Notes that the handler of `vector` begins at guest-physical `at`.
    pub fn take_gate(&mut self, at: u64, vector: u8, mechanism: Mechanism) {
        self.sites.take_gate(at, vector, mechanism);
    }

    /// Forgets all gates where there are too many, and says which bytes nobody wants any more: a guest that moves its handlers
    /// about is not to fill the host's memory. Those that are in use are planted again.
    pub fn drop_gates(&mut self) -> Vec<u64> {
        let gates = self.sites.idle_gates();
        if gates.len() < MOST_GATES {
            return Vec::new();
        }
        self.sites.forget(&gates);
        gates
    }

    /// Forgets `point`, for good or until it is kept again, and says which bytes nobody wants any more.
    pub fn drop_point(&mut self, point: &Arc<Point>, for_good: bool) -> Vec<u64> {
        if for_good {
            point.set_removed(true);
        }
        self.points.remove(&point.id);
        self.waiting.remove(&Turn::of(point));
        self.give_slot(point);
        point.set_mechanism(Mechanism::Pending);
        let has_strays = self.strays > 0;
        self.sites.drop(point, |vector| has_strays && vector == 1)
    }
}

fn no_register() -> Error {
    Error::Invalid(
        "all four debug registers are in use: remove a hardware breakpoint or watchpoint, or ask for one that needs none \
         (hw=False)"
            .into(),
    )
}

/// The bits of DR7 for what `point` watches: R/W in the low two, LEN above (Intel SDM vol. 3, 19.2.4).
fn control(point: &Point) -> u64 {
    let Some(watch) = point.wish.watch else { return 0 };
    let length = match watch.size {
        2 => 1,
        4 => 3,
        8 => 2,
        _ => 0,
    };
    length << 2 | if watch.reads { 3 } else { 1 }
}
