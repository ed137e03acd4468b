//! What a watchpoint is planted by: a debug register or memory traps. It never makes a value of Python's.

use std::sync::Arc;

use crate::addr::GuestVirt;
use crate::debug::{Place, Plan, Point, Watch as Data, Wish};
use crate::error::{Error, Result as CoreResult};
use crate::machine::{Accesses, Machine, Slot, Terms, Watch, WatchedPlace};

/// How accesses are noticed.
#[derive(Clone)]
pub enum Planted {
    /// Its pages are trapped.
    Trap(Arc<Watch>),
    /// A debug register holds its address.
    Register(Arc<Point>),
}

/// What is to be watched.
pub struct Sought {
    /// As a debug register would be told, and what is common.
    pub wish: Wish,
    /// What is watched.
    pub accesses: Accesses,
    /// Bytes.
    pub len: u64,
    /// The tables of a linear address.
    pub cr3: Option<u64>,
    /// A debug register is insisted on, or refused.
    pub hw: Option<bool>,
}

impl Sought {
    /// By a debug register where one works, fits and is free (or is insisted on), else by a trap.
    pub fn plant(self, machine: &Machine) -> CoreResult<Planted> {
        let Self { wish, accesses, len, cr3, hw } = self;
        let insists = hw == Some(true);
        let data = data_of(&wish, accesses, len);
        if insists && data.is_none() {
            return Err(Error::Invalid(
                "a debug register watches 1, 2, 4 or 8 bytes at a linear address (virtual=True) that is a multiple of them, \
                 with access=\"w\" or \"rw\": leave hw out, for a memory trap"
                    .into(),
            ));
        }
        let is_free = !machine.points().look(Plan::is_full);
        let is_trapped = || place(machine, wish.place, cr3).is_ok_and(|place| machine.is_trapped(&place, len));
        let works = hw.is_none() && is_free && machine.quirks.hardware_watchpoints && !is_trapped();
        if let (Place::Linear(at), Some(data), true) = (wish.place, data, insists || works) {
            return register(machine, at, data, cr3, wish);
        }
        let (id, at) = (wish.id.unwrap_or_default(), wish.place);
        let terms = Terms { accesses, when: wish.when, once: wish.once, stops: wish.stops };
        machine.add_watch(id, place(machine, at, cr3)?, len, terms).map(Planted::Trap)
    }
}

/// What a debug register would be told; none for what none can watch (Intel SDM vol. 3, 19.2.4).
fn data_of(wish: &Wish, accesses: Accesses, len: u64) -> Option<Data> {
    let Place::Linear(at) = wish.place else { return None };
    let fits = matches!(len, 1 | 2 | 4 | 8) && at.is_multiple_of(len) && accesses.writes && !accesses.executes;
    fits.then_some(Data { size: u8::try_from(len).ok()?, reads: accesses.reads })
}

fn register(machine: &Machine, at: u64, data: Data, cr3: Option<u64>, wish: Wish) -> CoreResult<Planted> {
    let now = value(machine, at, data.size, cr3); // of what is not mapped yet, nothing is known
    let point = machine.add_hardware(at, Some(data), wish)?;
    now.map(|now| point.replace(now));
    Ok(Planted::Register(point))
}

/// What is at a linear address.
fn value(machine: &Machine, at: u64, size: u8, cr3: Option<u64>) -> Option<u64> {
    let WatchedPlace::Linear(at, sregs) = place(machine, Place::Linear(at), cr3).ok()? else { return None };
    machine.value_at(&sregs, at, size)
}

/// Where a watch is to be: a linear address is translated as the vCPU does in whose handler this is, or the first one.
fn place(machine: &Machine, at: Place, cr3: Option<u64>) -> CoreResult<WatchedPlace> {
    let at = match at {
        Place::Physical(at) => return Ok(WatchedPlace::Physical(at)),
        Place::Linear(at) => GuestVirt(at),
    };
    let slot = machine.cpus.iter().find(|slot| slot.is_in_handler()).or(machine.cpus.first());
    let slot: &Slot = slot.ok_or(Error::Closed)?;
    let mut sregs = slot.with(|cpu| cpu.vcpu.sregs().map(Box::new))?;
    sregs.cr3 = cr3.unwrap_or(sregs.cr3);
    Ok(WatchedPlace::Linear(at, sregs))
}
