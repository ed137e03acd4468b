//! All points of a machine: which bytes and debug registers they take. Plans are values: a change makes a new one, and a
//! vCPU keeps what it looked up. They never plant anything themselves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

use super::point::{Mechanism, Point, Wish};

/// What a planted byte is for, beside the points that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Nothing else.
    #[default]
    Points,
    /// It is the first of the guest's handler of that vector.
    Gate(u8),
}

/// The most handlers of the guest's that are trapped at once.
const MOST_GATES: usize = 256;

/// One planted byte.
#[derive(Clone, Debug)]
pub struct Site {
    /// How it is noticed.
    pub mechanism: Mechanism,
    /// What else it is for.
    pub role: Role,
    /// The points that want it.
    pub points: Vec<Arc<Point>>,
}

/// What one debug register holds.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The linear address.
    pub linear: u64,
    /// Its three bits in DR7: R/W and LEN.
    pub control: u64,
    /// Whose it is.
    pub point: Arc<Point>,
}

/// All that is planted at one moment.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Every point, by its number.
    pub points: BTreeMap<u32, Arc<Point>>,
    /// The planted bytes, by guest-physical address.
    pub sites: BTreeMap<u64, Site>,
    /// DR0 to DR3.
    pub slots: [Option<Slot>; 4],
    /// How many trap flags of ours lie in frames that interrupts and system calls of the guest have pushed: the handler of
    /// #DB stays trapped until they have come back.
    pub strays: u32,
}

impl Plan {
    /// Is there nothing at all?
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.sites.is_empty()
    }

    /// The points that wait for their page.
    pub fn pending(&self) -> impl Iterator<Item = &Arc<Point>> {
        self.points.values().filter(|point| point.mechanism() == Mechanism::Pending && !point.is_removed())
    }

    /// Is there a site that needs the guest's #BP handler trapped, unless that is belljar's own?
    pub fn wants_gate(&self) -> bool {
        self.sites.values().any(|site| matches!(site.mechanism, Mechanism::Gate | Mechanism::Shim))
    }

    /// Is there a site at which KVM is to report int3?
    pub fn wants_int3(&self) -> bool {
        self.sites.values().any(|site| site.mechanism == Mechanism::Int3)
    }

    /// DR0 to DR7 as KVM takes them for the slots, and whether there are any.
    pub fn registers(&self, vcpu: u32) -> Option<[u64; 8]> {
        self.registers_of(vcpu, |_| true)
    }

    /// The same, of those alone that watch data.
    pub fn data_registers(&self, vcpu: u32) -> Option<[u64; 8]> {
        self.registers_of(vcpu, |point| point.wish.watch.is_some())
    }

    fn registers_of(&self, vcpu: u32, is_wanted: impl Fn(&Point) -> bool) -> Option<[u64; 8]> {
        const FIXED: u64 = 1 << 10;
        let mut registers = [0; 8];
        registers[7] = FIXED;
        let mut any = false;
        for (n, slot) in self.slots.iter().enumerate() {
            let is_here = |point: &Point| point.wish.vcpu.is_none_or(|only| only == vcpu) && is_wanted(point);
            let Some(slot) = slot.as_ref().filter(|slot| is_here(&slot.point)) else { continue };
            registers[n] = slot.linear;
            registers[7] |= 2 << (2 * n) | slot.control << (16 + 4 * n);
            any = true;
        }
        any.then_some(registers)
    }
}

/// The points of one machine. Changing them takes effect before the next entry of every vCPU; kick those that run.
#[derive(Debug, Default)]
pub struct Points {
    generation: AtomicU64,
    current: Mutex<(Arc<Plan>, u32)>,
}

impl Points {
    /// Changes with every change; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn current(&self) -> MutexGuard<'_, (Arc<Plan>, u32)> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plan of this moment.
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.current().0)
    }

    /// Changes the plan; what `how` does beside that (planting the byte) is over before anybody else changes it.
    pub fn change<T>(&self, how: impl FnOnce(&mut Plan) -> Result<T>) -> Result<T> {
        let mut current = self.current();
        let result = how(Arc::make_mut(&mut current.0));
        self.generation.fetch_add(1, Ordering::AcqRel);
        result
    }

    /// Adds a point, which is nowhere yet.
    pub fn add(&self, wish: Wish) -> Arc<Point> {
        let id = wish.id.unwrap_or_else(|| self.number());
        let mut current = self.current();
        let point = Arc::new(Point::new(id, wish));
        Arc::make_mut(&mut current.0).points.insert(point.id, Arc::clone(&point));
        self.generation.fetch_add(1, Ordering::AcqRel);
        point
    }

    /// A number for a point that is kept elsewhere: numbers are a machine's, of whatever kind the points are.
    pub fn number(&self) -> u32 {
        let mut current = self.current();
        current.1 += 1;
        current.1
    }
}

impl Plan {
    /// A point that took a debug register and would do without one.
    pub fn movable(&self) -> Option<(Arc<Point>, u64)> {
        let mut slots = self.slots.iter().flatten();
        let slot = slots.find(|slot| slot.point.wish.watch.is_none() && slot.point.wish.hardware.is_none())?;
        Some((Arc::clone(&slot.point), slot.linear))
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
        point.set_mechanism(Mechanism::Hardware);
        Ok(())
    }

    /// An error where more debug registers are insisted on than there are, those counted that wait for a vCPU to look.
    pub fn check_registers(&self) -> Result<()> {
        let insists = |point: &&Arc<Point>| point.wish.hardware == Some(true) || point.wish.watch.is_some();
        let taken = self.slots.iter().flatten().map(|slot| &slot.point);
        let wanted = taken.chain(self.pending()).filter(insists).count();
        if wanted > self.slots.len() { Err(no_register()) } else { Ok(()) }
    }

    /// Forgets the bytes in memory that is gone: their points wait for their page again.
    pub fn forget_sites(&mut self, is_gone: impl Fn(u64) -> bool) {
        let gone = self.sites.iter().filter(|(at, _)| is_gone(**at));
        gone.flat_map(|(_, site)| &site.points).for_each(|point| point.set_mechanism(Mechanism::Pending));
        self.sites.retain(|at, _| !is_gone(*at));
    }

    /// Notes that `mechanism` notices `point` at guest-physical `at`. True if its byte is to be planted there now.
    pub fn take_site(&mut self, point: &Arc<Point>, at: u64, mechanism: Mechanism) -> bool {
        let is_new = !self.sites.contains_key(&at);
        let site = self.sites.entry(at).or_insert(Site { mechanism, role: Role::Points, points: Vec::new() });
        if !site.points.iter().any(|other| Arc::ptr_eq(other, point)) {
            site.points.push(Arc::clone(point));
        }
        point.set_mechanism(if site.role == Role::Points { site.mechanism } else { mechanism });
        is_new
    }

    /// Notes that the handler of `vector` begins at guest-physical `at`. True if its byte is to be planted there now.
    pub fn take_gate(&mut self, at: u64, vector: u8, mechanism: Mechanism) -> bool {
        let is_new = !self.sites.contains_key(&at);
        self.sites.entry(at).or_insert(Site { mechanism, role: Role::Points, points: Vec::new() }).role =
            Role::Gate(vector);
        is_new
    }

    /// Forgets all gates where there are too many, and says which bytes nobody wants any more: a guest that moves its handlers
    /// about is not to fill the host's memory. Those that are in use are planted again.
    pub fn drop_gates(&mut self) -> Vec<u64> {
        let is_gate = |site: &Site| site.role != Role::Points && site.points.is_empty();
        let gates: Vec<_> = self.sites.iter().filter(|(_, site)| is_gate(site)).map(|(at, _)| *at).collect();
        if gates.len() < MOST_GATES {
            return Vec::new();
        }
        self.sites.retain(|_, site| !is_gate(site));
        gates
    }

    /// Forgets `point`, for good or until it is settled again, and says which bytes nobody wants any more.
    pub fn drop_point(&mut self, point: &Arc<Point>, for_good: bool) -> Vec<u64> {
        if for_good {
            point.set_removed(true);
            self.points.remove(&point.id);
        }
        self.give_slot(point);
        self.sites.values_mut().for_each(|site| site.points.retain(|other| !Arc::ptr_eq(other, point)));
        point.set_mechanism(Mechanism::Pending);
        let needs_gate = |site: &Site| matches!(site.mechanism, Mechanism::Gate | Mechanism::Shim);
        let gates_are_wanted = self.sites.values().any(|site| needs_gate(site) && !site.points.is_empty());
        let has_strays = self.strays > 0;
        let is_wanted = |role: Role| match role {
            Role::Points => false,
            Role::Gate(vector) => gates_are_wanted || has_strays && vector == 1,
        };
        let is_idle = |site: &Site| site.points.is_empty() && !is_wanted(site.role);
        let idle: Vec<_> = self.sites.iter().filter(|(_, site)| is_idle(site)).map(|(at, _)| *at).collect();
        self.sites.retain(|at, _| !idle.contains(at));
        idle
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

#[cfg(test)]
mod tests {
    use super::super::point::{Place, Watch};
    use super::*;

    fn wish(at: u64) -> Wish {
        Wish::at(Place::Linear(at))
    }

    #[test]
    fn four_debug_registers_serve_code_and_data_and_a_fifth_is_refused() {
        let points = Points::default();
        let data = points.add(Wish { watch: Some(Watch { size: 4, reads: false }), ..wish(0x2000) });
        let code: Vec<_> = (0..4).map(|n| points.add(wish(n))).collect();
        points.change(|plan| plan.take_slot(&data, 0x2000)).expect("free");
        for point in &code[..3] {
            points.change(|plan| plan.take_slot(point, u64::from(point.id))).expect("free");
        }
        assert!(points.change(|plan| plan.take_slot(&code[3], 9)).is_err());
        let plan = points.plan();
        assert_eq!(plan.registers(0).map(|r| (r[0], r[7])), Some((0x2000, 0x000d_0400 | 0b1010_1010)));
        points.change(|plan| Ok(plan.drop_point(&data, true))).expect("there");
        points.change(|plan| plan.take_slot(&code[3], 9)).expect("free again");
    }

    #[test]
    fn a_register_is_given_up_by_who_can_do_without_and_by_nobody_else() {
        let points = Points::default();
        let data = points.add(Wish { watch: Some(Watch { size: 4, reads: false }), ..wish(0x2000) });
        let fixed = points.add(Wish { hardware: Some(true), ..wish(0x3000) });
        let free = points.add(wish(0x4000));
        for (point, at) in [(&data, 0x2000), (&fixed, 0x3000)] {
            points.change(|plan| plan.take_slot(point, at)).expect("room");
        }
        assert!(points.plan().movable().is_none());
        points.change(|plan| plan.take_slot(&free, 0x4000)).expect("room");
        assert_eq!(points.plan().movable().map(|(point, at)| (point.id, at)), Some((free.id, 0x4000)));
        points
            .change(|plan| {
                plan.give_slot(&free);
                Ok(())
            })
            .expect("done");
        assert_eq!(points.plan().registers(0).map(|words| (words[0], words[1], words[2])), Some((0x2000, 0x3000, 0)));
    }

    #[test]
    fn a_byte_stays_for_as_long_as_one_of_its_points_does() {
        let points = Points::default();
        let (a, b) = (points.add(wish(1)), points.add(wish(1)));
        let planted = |point| points.change(|plan| Ok(plan.take_site(point, 0x1000, Mechanism::Int3))).expect("done");
        assert_eq!((planted(&a), planted(&b), planted(&b)), (true, false, false));
        let dropped = |point| points.change(|plan| Ok(plan.drop_point(point, true))).expect("done");
        assert_eq!((dropped(&a), dropped(&b)), (vec![], vec![0x1000]));
        assert!(a.is_removed() && points.plan().is_empty());
    }

    #[test]
    fn a_byte_in_memory_that_is_gone_is_planted_again_when_it_is_back() {
        let points = Points::default();
        let (gone, there) = (points.add(wish(1)), points.add(wish(2)));
        let planted = |point, at| points.change(|plan| Ok(plan.take_site(point, at, Mechanism::Int3))).expect("done");
        assert!(planted(&gone, 0x1000) && planted(&there, 0x2000));
        let forget = |plan: &mut Plan| {
            plan.forget_sites(|at| at == 0x1000);
            Ok(())
        };
        points.change(forget).expect("done");
        assert_eq!((gone.mechanism(), there.mechanism()), (Mechanism::Pending, Mechanism::Int3));
        assert!(planted(&gone, 0x1000) && !planted(&there, 0x2000));
    }

    #[test]
    fn registers_that_are_waited_for_are_counted() {
        let points = Points::default();
        for n in 0..4 {
            points.add(Wish { hardware: Some(true), ..wish(n) });
        }
        assert!(points.plan().check_registers().is_ok());
        points.add(Wish { hardware: Some(true), ..wish(4) });
        assert!(points.plan().check_registers().is_err());
    }

    #[test]
    fn a_gate_stays_for_as_long_as_a_point_needs_it() {
        let points = Points::default();
        let a = points.add(wish(1));
        points.change(|plan| Ok(plan.take_site(&a, 0x1000, Mechanism::Gate))).expect("done");
        assert!(points.change(|plan| Ok(plan.take_gate(0x5000, 3, Mechanism::PortRead))).expect("done"));
        assert!(points.plan().wants_gate());
        let dropped = points.change(|plan| Ok(plan.drop_point(&a, true))).expect("done");
        assert_eq!(dropped, [0x1000, 0x5000]);
    }

    #[test]
    fn a_guest_that_moves_its_handlers_about_fills_no_memory() {
        let points = Points::default();
        let mut dropped = 0;
        for at in 0..10 * u64::try_from(MOST_GATES).expect("small") {
            points
                .change(|plan| {
                    dropped += plan.drop_gates().len();
                    Ok(plan.take_gate(at, 3, Mechanism::Int3))
                })
                .expect("done");
        }
        assert!(dropped > 0 && points.plan().sites.len() <= MOST_GATES);
    }

    #[test]
    fn a_point_that_goes_at_its_first_hit_has_one() {
        let point = Point::new(1, Wish { once: true, ..wish(1) });
        assert!(point.hit() && !point.hit());
        assert_eq!(point.hits(), 1);
    }
}
