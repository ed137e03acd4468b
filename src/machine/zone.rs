//! Zones whose writes KVM queues: taken out of the ring at every exit and on demand, and kept in order until somebody reads
//! them. They never hold a lock while a handler works.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::addr::{GuestPhys, Span};
use crate::error::{Error, Result};
use crate::exit::{Exit, Reply};
use crate::hook::{Callback, Hook, Subject, Wanted};
use crate::kvm::Write;

use super::Machine;

/// Who is handed the writes of a zone, on the thread of a vCPU.
pub trait Reader: Send + Sync {
    /// Sees to writes, oldest first.
    fn take(&self, writes: Vec<Write>) -> Result<()>;
}

#[derive(Debug, Default)]
struct Waiting {
    writes: VecDeque<Write>,
    lost: u64,
    /// A thread is handing some out.
    is_handing_out: bool,
}

/// Ports or addresses whose writes KVM queues.
pub struct Zone {
    /// Are these ports?
    pub is_port: bool,
    /// Which ones.
    pub span: Span,
    /// Most writes that wait; later ones are lost.
    limit: usize,
    reader: Option<Box<dyn Reader>>,
    waiting: Mutex<Waiting>,
    is_removed: AtomicBool,
}

impl Zone {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, write: &Write) -> bool {
        self.is_port == write.is_port && self.span.contains(write.at)
    }

    fn push(&self, write: Write) {
        let mut waiting = self.waiting();
        if waiting.writes.len() < self.limit { waiting.writes.push_back(write) } else { waiting.lost += 1 }
    }

    /// Takes the writes that wait.
    fn take(&self) -> Vec<Write> {
        std::mem::take(&mut self.waiting().writes).into()
    }

    /// How many wait, and how many were lost because too many did.
    pub fn counts(&self) -> (usize, u64) {
        let waiting = self.waiting();
        (waiting.writes.len(), waiting.lost)
    }

    /// Is somebody handed the writes?
    pub fn has_reader(&self) -> bool {
        self.reader.is_some()
    }

    /// Does KVM queue no more?
    pub fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::SeqCst)
    }

    /// Hands out what waits, if somebody is to be handed it. One thread at a time, so that the order is kept.
    fn hand_out(&self) -> Result<()> {
        let Some(reader) = &self.reader else { return Ok(()) };
        loop {
            let mut waiting = self.waiting();
            if waiting.is_handing_out || waiting.writes.is_empty() {
                return Ok(());
            }
            waiting.is_handing_out = true;
            let writes = std::mem::take(&mut waiting.writes).into();
            drop(waiting);
            let result = reader.take(writes);
            self.waiting().is_handing_out = false;
            result?;
        }
    }
}

/// A write that the ring had no room for exits, after those that were in it.
struct Overflow(Arc<Zone>);

impl Callback for Overflow {
    fn call(&self, exit: &Exit, _: u32) -> Result<Reply> {
        let write = match *exit {
            Exit::PortOut { port, size, data } => {
                Write { is_port: true, at: u64::from(port), size, data: u64::from(data) }
            }
            Exit::MmioWrite { at: GuestPhys(at), size, data } => Write { is_port: false, at, size, data },
            _ => return Ok(Reply::Default),
        };
        self.0.push(write);
        self.0.hand_out()?;
        Ok(Reply::Skip)
    }
}

/// The zones of a machine.
#[derive(Default)]
pub(super) struct Zones {
    /// Are there any? One load, for the run loop.
    some: AtomicBool,
    /// Held from the look at the ring until what was in it is where it belongs, so that nothing overtakes.
    zones: Mutex<Vec<(Arc<Zone>, Arc<Hook>)>>,
}

impl Zones {
    fn lock(&self) -> MutexGuard<'_, Vec<(Arc<Zone>, Arc<Hook>)>> {
        self.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Are there any?
    pub(super) fn are_some(&self) -> bool {
        self.some.load(Ordering::Relaxed)
    }

    /// The machine is closed.
    pub(super) fn clear(&self) {
        self.some.store(false, Ordering::Relaxed);
        let zones = std::mem::take(&mut *self.lock());
        for (zone, _) in &zones {
            zone.is_removed.store(true, Ordering::SeqCst);
        }
    }
}

impl Machine {
    /// Has KVM queue the guest's writes to `span`. `reader` is handed them at exits; without one they wait, `limit` at most.
    pub fn add_zone(
        &self,
        is_port: bool,
        span: Span,
        limit: usize,
        reader: Option<Box<dyn Reader>>,
    ) -> Result<Arc<Zone>> {
        let vm = self.vm()?;
        super::ring3::refuse_shim(is_port, span)?;
        let subject = if is_port { Subject::Port(span) } else { Subject::Mmio(span) };
        let (waiting, is_removed) = (Mutex::default(), AtomicBool::new(false));
        let zone = Arc::new(Zone { is_port, span, limit, reader, waiting, is_removed });
        let wanted = Wanted { reads: false, ..Wanted::ALL };
        let hook = Hook::new(subject, wanted, None, Box::new(Overflow(Arc::clone(&zone))));
        let mut zones = self.zones.lock();
        if let Some((other, _)) = zones.iter().find(|(other, _)| other.is_port == is_port && other.span.overlaps(span))
        {
            let with = other.span.first;
            return Err(Error::Overlap {
                at: span.first,
                len: span.last - span.first + 1,
                with,
                what: "a coalesced zone",
            });
        }
        self.add_hook(Arc::clone(&hook))?;
        if let Err(error) = vm.queue_writes(is_port, span, true) {
            self.hooks.remove(&hook);
            return Err(error);
        }
        zones.push((Arc::clone(&zone), hook));
        self.zones.some.store(true, Ordering::Relaxed);
        drop(zones);
        // Closed meanwhile: whoever did may have looked before this zone was there.
        self.vm().inspect_err(|_| self.zones.clear())?;
        Ok(zone)
    }

    /// Has the writes to `zone` exit again; those that were queued can still be read. Does nothing if that has been done.
    pub fn remove_zone(&self, zone: &Arc<Zone>) -> Result<()> {
        let Some(vm) = self.own_vm() else { return Ok(()) };
        let mut zones = self.zones.lock();
        let Some(at) = zones.iter().position(|(other, _)| Arc::ptr_eq(other, zone)) else { return Ok(()) };
        vm.queue_writes(zone.is_port, zone.span, false)?;
        self.sort(&zones);
        let (_, hook) = zones.remove(at);
        zone.is_removed.store(true, Ordering::SeqCst);
        self.zones.some.store(!zones.is_empty(), Ordering::Relaxed);
        drop(zones);
        self.hooks.remove(&hook);
        Ok(())
    }

    /// Takes the writes of `zone` that wait, oldest first.
    pub fn read_zone(&self, zone: &Zone) -> Vec<Write> {
        let zones = self.zones.lock();
        self.sort(&zones);
        drop(zones);
        zone.take()
    }

    /// Lets go of all zones and their readers, with what KVM still queues: nobody is left to read it.
    pub fn forget_zones(&self) {
        self.zones.clear();
    }

    /// Brings what is in the ring to the zones that it belongs to.
    fn sort(&self, zones: &[(Arc<Zone>, Arc<Hook>)]) {
        let Some(slot) = self.cpus.first() else { return };
        slot.queue.drain(|write| {
            if let Some((zone, _)) = zones.iter().find(|(zone, _)| zone.has(&write)) {
                zone.push(write);
            }
        });
    }

    /// Empties the ring; says which zones have somebody to be handed their writes.
    pub(super) fn empty_ring(&self) -> Vec<Arc<Zone>> {
        let zones = self.zones.lock();
        self.sort(&zones);
        let wants = |zone: &&Arc<Zone>| zone.reader.is_some() && !zone.waiting().writes.is_empty();
        zones.iter().map(|(zone, _)| zone).filter(wants).cloned().collect()
    }

    /// Hands out what waits in `zones`.
    pub(super) fn hand_out(zones: &[Arc<Zone>]) -> Result<()> {
        zones.iter().try_for_each(|zone| zone.hand_out())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(limit: usize, reader: Option<Box<dyn Reader>>) -> Zone {
        let span = Span::new(0x10, 4, 0xffff).expect("ports");
        Zone { is_port: true, span, limit, reader, waiting: Mutex::default(), is_removed: AtomicBool::new(false) }
    }

    fn write(data: u64) -> Write {
        Write { is_port: true, at: 0x13, size: 1, data }
    }

    #[test]
    fn a_zone_that_nobody_reads_fills_no_memory() {
        let zone = zone(3, None);
        (0..10).for_each(|n| zone.push(write(n)));
        assert_eq!(zone.counts(), (3, 7));
        assert_eq!(zone.take(), [write(0), write(1), write(2)]);
        assert_eq!(zone.counts(), (0, 7));
    }

    #[test]
    fn an_address_is_no_port() {
        let zone = zone(3, None);
        assert!(zone.has(&write(0)));
        assert!(!zone.has(&Write { is_port: false, ..write(0) }));
        assert!(!zone.has(&Write { at: 0x14, ..write(0) }));
    }

    struct Failing(Arc<Mutex<Vec<usize>>>);

    impl Reader for Failing {
        fn take(&self, writes: Vec<Write>) -> Result<()> {
            self.0.lock().expect("one thread").push(writes.len());
            Err(Error::Closed)
        }
    }

    #[test]
    fn a_reader_that_fails_is_asked_again_next_time() {
        let seen = Arc::default();
        let zone = zone(9, Some(Box::new(Failing(Arc::clone(&seen)))));
        for count in 1..3 {
            (0..count).for_each(|n| zone.push(write(n)));
            assert!(zone.hand_out().is_err());
        }
        assert!(zone.hand_out().is_ok());
        assert_eq!(*seen.lock().expect("one thread"), [1, 2]);
    }
}
