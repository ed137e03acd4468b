//! Memory traps: ranges of guest memory whose accesses come out of the guest, because KVM's slots leave their pages out or
//! show them read-only. It owns which ranges there are; it never answers an access (that is `run/trap.rs`).
//!
//! ```text
//! a region of RAM        |<------------------- one slot ------------------>|
//! with two watched pages |<- slot ->| hole |<-- slot -->| read-only |<-slot->|
//! ```

mod atomic;
mod operands;
mod slots;
mod table;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::addr::{GuestPhys, GuestVirt, PAGE, Span, page_floor};
use crate::error::{Error, Result};
use crate::inspect::read_entry;
use crate::memory::RegionInfo;
use crate::source::ReadMemory;
use crate::x86::{PageFault, Sregs, translate};

use super::Machine;
pub(super) use atomic::{Then, Written, atomic, then};
pub(super) use operands::Operands;
use slots::Slots;
pub(super) use table::{Access, Table};
pub use table::{Accesses, Kind, Part, Terms, Watch};

/// The most pages that one watch covers: their entries take memory here, and the guest is slow in them.
const MOST_PAGES: u64 = 1 << 16;

/// The traps of one machine.
#[derive(Debug, Default)]
pub(super) struct Traps {
    /// There have been some: an access to memory that exits may be one's, even if it has gone meanwhile.
    used: AtomicBool,
    /// How often they have changed.
    changes: AtomicU64,
    table: Mutex<Arc<Table>>,
    slots: Mutex<Slots>,
    /// Held by a vCPU while it makes an access to trapped memory, so that what was there before is exact.
    turn: Mutex<()>,
}

/// Where a watch is to be, before it is known what is there.
#[derive(Clone, Debug)]
pub enum Place {
    /// Guest-physical.
    Physical(GuestPhys),
    /// Linear, under the tables of a vCPU, or under those at an address.
    Linear(GuestVirt, Box<Sregs>),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Traps {
    /// May an access to memory exit?
    pub(super) fn are_used(&self) -> bool {
        self.used.load(Ordering::Acquire)
    }

    /// How often what is watched has changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// What is watched now.
    pub(super) fn table(&self) -> Arc<Table> {
        Arc::clone(&locked(&self.table))
    }

    /// One access to trapped memory at a time.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        locked(&self.turn)
    }

    /// Is the page that holds `at` trapped?
    pub(super) fn is_trapped(&self, at: GuestPhys) -> bool {
        self.are_used() && self.table().kind_at(at).is_some()
    }

    /// While it lives, no slot changes.
    pub(super) fn keep(&self) -> impl Drop + '_ {
        locked(&self.slots)
    }

    /// Does a watch lie in `region`?
    pub(super) fn are_in(&self, region: &RegionInfo) -> bool {
        self.table().pages_in(region).next().is_some()
    }
}

impl Machine {
    /// Watches `len` bytes at `place`: from the next entry of every vCPU on, accesses to them are hits of number `id`.
    pub fn add_watch(&self, id: u32, place: Place, len: u64, terms: Terms) -> Result<Arc<Watch>> {
        let vm = self.vm()?;
        self.refuse_inherited()?;
        let watch = Arc::new(Watch::new(id, self.parts(&place, len)?, terms));
        vm.report_emulation_failures();
        self.traps.used.store(true, Ordering::Release);
        self.change_traps(|watches| watches.push(Arc::clone(&watch)))?;
        Ok(watch)
    }

    /// Watches it no more; nothing happens if it has been removed. Accesses are as fast as before.
    pub fn remove_watch(&self, watch: &Arc<Watch>) -> Result<()> {
        watch.enable(false);
        if self.is_inherited() || self.vm().is_err() {
            return Ok(()); // the slots are gone with the VM, or are another process's
        }
        self.change_traps(|watches| watches.retain(|w| !Arc::ptr_eq(w, watch)))
    }

    /// Is it watched, and not removed?
    pub fn is_watched(&self, watch: &Arc<Watch>) -> bool {
        self.vm().is_ok() && self.traps.table().watches().iter().any(|w| Arc::ptr_eq(w, watch))
    }

    /// Is a page of `len` bytes at `place` trapped? KVM itself makes the accesses there, and debug registers see none of them.
    pub fn is_trapped(&self, place: &Place, len: u64) -> bool {
        let trapped = |part: &Part| self.traps.is_trapped(GuestPhys(part.span.first));
        self.traps.are_used() && self.parts(place, len).is_ok_and(|parts| parts.iter().any(trapped))
    }

    /// The `size` bytes at linear address `at`, if they are mapped in one page.
    pub fn value_at(&self, sregs: &Sregs, at: GuestVirt, size: u8) -> Option<u64> {
        let gpa = self.physical(sregs, at.0).ok()?;
        let mut word = [0; 8];
        self.memory.read(gpa, word.get_mut(..usize::from(size))?).ok()?;
        Some(u64::from_le_bytes(word))
    }

    fn change_traps(&self, how: impl FnOnce(&mut Vec<Arc<Watch>>)) -> Result<()> {
        let vm = self.vm()?;
        let _held = self.world.hold(&self.cpus);
        let mut slots = locked(&self.traps.slots);
        let old = self.traps.table();
        let mut watches = old.watches().to_vec();
        how(&mut watches);
        let new = Arc::new(Table::new(watches));
        slots.show(&vm, &self.memory, &new, None)?;
        *locked(&self.traps.table) = new;
        self.traps.changes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Shows the guest the pages `lifted` (all that are trapped where there are none) as if they were not trapped, or no more.
    /// All vCPUs are held.
    pub(super) fn lift_traps(&self, lifted: Option<&BTreeSet<u64>>, yes: bool) -> Result<()> {
        let (vm, table) = (self.vm()?, self.traps.table());
        let nothing = Arc::new(Table::default());
        let mut slots = locked(&self.traps.slots);
        match (yes, lifted) {
            (true, Some(pages)) => slots.show(&vm, &self.memory, &table, Some(pages)),
            (true, None) => slots.show(&vm, &self.memory, &nothing, None),
            (false, _) => slots.show(&vm, &self.memory, &table, None),
        }
    }

    /// Where in guest-physical memory `len` bytes at `place` are, in pieces.
    fn parts(&self, place: &Place, len: u64) -> Result<Vec<Part>> {
        let first = match place {
            Place::Physical(at) => at.0,
            Place::Linear(at, _) => at.0,
        };
        let span = Span::new(first, len, u64::MAX)?;
        if (page_floor(span.last) - page_floor(first)) / PAGE >= MOST_PAGES {
            return Err(Error::Invalid(format!(
                "{len:#x} bytes are too many to watch at once: at most {MOST_PAGES:#x} pages of 4 KiB"
            )));
        }
        let Place::Linear(_, sregs) = place else {
            self.memory.check(GuestPhys(first), len)?;
            return Ok(vec![Part { span, at: first }]);
        };
        let mut parts = Vec::new();
        let mut at = first;
        loop {
            let last = (page_floor(at) + (PAGE - 1)).min(span.last);
            let gpa = self.physical(sregs, at)?;
            self.memory.check(gpa, last - at + 1)?;
            parts.push(Part { span: Span { first: gpa.0, last: gpa.0 + (last - at) }, at });
            if last == span.last {
                return Ok(parts);
            }
            at = last + 1;
        }
    }

    fn physical(&self, sregs: &Sregs, at: u64) -> Result<GuestPhys> {
        let word = |at: GuestPhys, size: u64| read_entry(&*self.memory, at, size);
        translate(sregs, GuestVirt(at), word).map_err(|fault| match fault {
            PageFault::NotPresent { level } => Error::Invalid(format!(
                "linear address {at:#x} is not mapped here (level {level} of the tables at {:#x}): watch it once the guest \
                 has mapped it, or give cr3=",
                sregs.cr3
            )),
            other => Error::Invalid(format!("linear address {at:#x} does not translate: {other:?}")),
        })
    }
}

#[cfg(test)]
mod tests;
