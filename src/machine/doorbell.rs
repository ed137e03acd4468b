//! Doorbells: places whose writes KVM counts without coming back. They never learn what was written.

#![allow(unsafe_code)] // poll(2) has no safe interface here

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::addr::Span;
use crate::error::{Error, Result};
use crate::kvm::{Ring, Target};

use super::ring3::refuse_shim;
use super::{Machine, Poll};

/// How often a wait comes up to look for signals.
const SLICE: Duration = Duration::from_millis(40);

/// A place whose writes count in an event.
#[derive(Debug)]
pub struct Doorbell {
    /// Where.
    pub target: Target,
    /// Which writes.
    rings: Vec<Ring>,
    event: EventFd,
    is_removed: AtomicBool,
    /// The event has been written once to wake who waits, which nobody is to count.
    woken: Mutex<bool>,
}

impl Doorbell {
    /// The descriptor of the event, which polls as readable when the bell has rung. It lives as long as the doorbell.
    pub fn descriptor(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// Does KVM count no more?
    pub fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::SeqCst)
    }

    fn woken(&self) -> MutexGuard<'_, bool> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often it has rung since the last call, which begins anew with 0.
    pub fn take(&self) -> u64 {
        let mut woken = self.woken();
        let count = self.event.read().unwrap_or(0); // EAGAIN: it has not rung
        if count > 0 && std::mem::take(&mut *woken) { count - 1 } else { count }
    }

    /// Waits until it has rung, and says how often, as [`Doorbell::take`] does: 0 at the end of `patience`.
    pub fn wait(&self, patience: Option<Duration>, poll: Poll<'_>) -> Result<u64> {
        let deadline = patience.and_then(|p| Instant::now().checked_add(p));
        loop {
            let count = self.take();
            if count > 0 {
                return Ok(count);
            }
            if self.is_removed() {
                return Err(Error::Invalid("this doorbell has been removed, or its VM closed".into()));
            }
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(0);
            }
            self.sleep(left.map_or(SLICE, |left| left.min(SLICE)));
            poll()?;
        }
    }

    fn sleep(&self, time: Duration) {
        let mut asked = libc::pollfd { fd: self.descriptor(), events: libc::POLLIN, revents: 0 };
        let nanos = i64::from(time.subsec_nanos());
        let time = libc::timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(0), tv_nsec: nanos };
        // SAFETY: one `pollfd` and one `timespec`, both ours. What it says does not matter: the caller looks.
        unsafe { libc::ppoll(&raw mut asked, 1, &raw const time, std::ptr::null()) };
    }

    /// It will not ring any more: wakes who waits. Says whether it was there.
    pub(super) fn retire(&self) -> bool {
        let mut woken = self.woken();
        let was_there = !self.is_removed.swap(true, Ordering::SeqCst);
        if was_there && self.event.write(1).is_ok() {
            *woken = true;
        }
        was_there
    }
}

/// The widths of a write that can be of `value` and the target can take.
fn rings(target: Target, size: u8, value: Option<u64>) -> Result<Vec<Ring>> {
    let most = if matches!(target, Target::Port(_)) { 4 } else { 8 };
    if !matches!(size, 0 | 1 | 2 | 4 | 8) || size > most {
        return Err(Error::Invalid(format!("a write here has 1, 2, 4 or 8 bytes (a port: at most 4), not {size}")));
    }
    let Some(wanted) = value else { return Ok(vec![Ring { size, value }]) };
    let holds = |size: u8| size <= most && wanted & !crate::bus::all_ones(size) == 0;
    let sizes = [1, 2, 4, 8].into_iter().filter(|width| (size == 0 || size == *width) && holds(*width));
    let found: Vec<_> = sizes.map(|size| Ring { size, value }).collect();
    if found.is_empty() {
        return Err(Error::Invalid(format!("no write of that size is {wanted:#x}")));
    }
    Ok(found)
}

impl Machine {
    /// Has KVM count the guest's writes to `target`: of `size` bytes (0 for any) and of `value`, if one is given.
    pub fn add_doorbell(&self, target: Target, size: u8, value: Option<u64>) -> Result<Arc<Doorbell>> {
        let rings = rings(target, size, value)?;
        let len = u64::from(size.max(1));
        match target {
            Target::Memory(at) => self.refuse_ram(Span::new(at.0, len, u64::MAX)?, false)?,
            Target::Port(port) => refuse_shim(true, Span::new(u64::from(port), 1, u64::MAX)?)?,
        }
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(|_| Error::last_os("eventfd"))?;
        let (is_removed, woken) = (AtomicBool::new(false), Mutex::default());
        let bell = Arc::new(Doorbell { target, rings, event, is_removed, woken });
        self.hang(&bell)?;
        self.doorbells.add(&bell);
        if self.vm().is_err() {
            bell.retire(); // closed meanwhile
            return Err(Error::Closed);
        }
        Ok(bell)
    }

    /// All of its rings, or none.
    fn hang(&self, bell: &Doorbell) -> Result<()> {
        let vm = self.vm()?;
        for (done, ring) in bell.rings.iter().enumerate() {
            if let Err(error) = vm.ring(&bell.event, bell.target, *ring, true) {
                for ring in &bell.rings[..done] {
                    vm.ring(&bell.event, bell.target, *ring, false)?;
                }
                return Err(taken(error, bell.target));
            }
        }
        Ok(())
    }

    /// Has KVM count no more; the writes exit again. Does nothing if that has been done.
    pub fn remove_doorbell(&self, bell: &Doorbell) -> Result<()> {
        let Some(vm) = self.own_vm() else { return Ok(()) };
        if bell.retire() {
            bell.rings.iter().try_for_each(|ring| vm.ring(&bell.event, bell.target, *ring, false))?;
        }
        Ok(())
    }
}

/// KVM's EEXIST, in words.
fn taken(error: Error, target: Target) -> Error {
    match (error, target) {
        (Error::Host { errno: libc::EEXIST, .. }, target) => {
            let place = match target {
                Target::Port(port) => format!("port {port:#x}"),
                Target::Memory(at) => format!("{at:#x}"),
            };
            Error::Invalid(format!(
                "{place} has a doorbell that these writes ring already: remove() it first, or give each its value"
            ))
        }
        (error, _) => error,
    }
}

/// The doorbells of a machine that somebody holds.
#[derive(Debug, Default)]
pub(super) struct Doorbells(Mutex<Vec<Weak<Doorbell>>>);

impl Doorbells {
    fn add(&self, bell: &Arc<Doorbell>) {
        let mut bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bells.retain(|bell| bell.strong_count() > 0);
        bells.push(Arc::downgrade(bell));
    }

    /// The machine is closed: wakes who waits for one.
    pub(super) fn retire(&self) {
        let bells = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        bells.iter().filter_map(Weak::upgrade).for_each(|bell| {
            bell.retire();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::GuestPhys;

    #[test]
    fn a_value_rings_at_every_width_that_holds_it() {
        let sizes = |target, size, value| -> Vec<u8> {
            rings(target, size, Some(value)).map_or_else(|_| Vec::new(), |r| r.iter().map(|r| r.size).collect())
        };
        assert_eq!(sizes(Target::Port(1), 0, 0xff), [1, 2, 4]);
        assert_eq!(sizes(Target::Port(1), 0, 0x100), [2, 4]);
        assert_eq!(sizes(Target::Memory(GuestPhys(1)), 0, 0x100), [2, 4, 8]);
        assert_eq!(sizes(Target::Memory(GuestPhys(1)), 4, 7), [4]);
        assert!(sizes(Target::Port(1), 1, 0x100).is_empty());
        assert!(sizes(Target::Port(1), 8, 1).is_empty());
        assert!(rings(Target::Port(1), 3, None).is_err());
        assert_eq!(rings(Target::Port(1), 0, None).expect("any").len(), 1);
    }
}
