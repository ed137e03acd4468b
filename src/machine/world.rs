//! A moment that belongs to belljar: which vCPUs are in the guest, so that one of them can be alone there for an instruction,
//! or none is while memory changes its shape. It never lasts, nor puts a vCPU back for others to look at: that is what `park`
//! does, for as long as a user likes. Nobody waits with a lock in hand that a vCPU needs.
//!
//! A vCPU says that it goes in, and then looks whether somebody is to be alone there; who wants to be alone says so, and then
//! looks who is in. One of the two must see the other, so neither may look before what it said can be seen: between the two
//! belongs a full barrier on both sides. A vCPU goes in at every exit, so its barrier is made by the other side, on all threads
//! of the process (`kvm::barrier`): if the vCPU's store is not to be seen after it, then its look comes after it, too. There
//! the vCPU has only to keep the compiler from exchanging the two. Where the kernel offers no such barrier, it makes its own.

use std::sync::atomic::{AtomicBool, Ordering, compiler_fence};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::kvm::barrier;

use super::cpu::Slot;

/// How long a wait takes before it looks again: a vCPU that was on its way in has missed its kick.
const SLICE: Duration = Duration::from_millis(1);

/// Who is in the guest, and who wants to be alone there.
#[derive(Debug)]
pub(super) struct World {
    inside: Box<[AtomicBool]>,
    /// Who wants to be alone makes the barrier for those that go in.
    is_cheap: bool,
    is_held: AtomicBool,
    turn: Mutex<bool>,
    changed: Condvar,
}

/// While it lives, no other vCPU enters the guest.
#[must_use = "dropping it lets the others in"]
pub(super) struct Alone<'a>(&'a World);

impl World {
    pub(super) fn new(vcpus: usize) -> Self {
        let inside = (0..vcpus).map(|_| AtomicBool::new(false)).collect();
        let is_cheap = barrier::is_offered();
        Self { inside, is_cheap, is_held: AtomicBool::new(false), turn: Mutex::default(), changed: Condvar::new() }
    }

    fn turn(&self) -> MutexGuard<'_, bool> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, id: u32) -> Option<&AtomicBool> {
        usize::try_from(id).ok().and_then(|id| self.inside.get(id))
    }

    /// vCPU `id` goes in. `false`: somebody is to be alone there; it has waited a little, and is to look at its own reasons
    /// to stop before it tries again.
    #[inline]
    pub(super) fn enter(&self, id: u32) -> bool {
        let Some(place) = self.place(id) else { return true };
        if self.is_cheap {
            place.store(true, Ordering::Relaxed);
            compiler_fence(Ordering::SeqCst); // the processor's is made in `hold`
        } else {
            place.store(true, Ordering::SeqCst);
        }
        if !self.is_held.load(Ordering::SeqCst) {
            return true;
        }
        self.wait_outside(place);
        false
    }

    #[cold]
    fn wait_outside(&self, place: &AtomicBool) {
        place.store(false, Ordering::SeqCst);
        let turn = self.turn();
        self.changed.notify_all();
        drop(self.changed.wait_timeout_while(turn, SLICE, |held| *held));
    }

    /// vCPU `id` has come out. Whoever waits for that may see it a little late (this costs no bus lock): it looks again.
    #[inline]
    pub(super) fn leave(&self, id: u32) {
        let Some(place) = self.place(id) else { return };
        place.store(false, Ordering::Release);
        if self.is_held.load(Ordering::SeqCst) {
            drop(self.turn());
            self.changed.notify_all();
        }
    }

    /// Waits until no vCPU but the caller's, which is outside, is in the guest, and keeps them out; where there are others.
    pub(super) fn alone(&self, slots: &[Slot]) -> Option<Alone<'_>> {
        (slots.len() > 1).then(|| self.hold(slots))
    }

    /// Waits until no vCPU is in the guest, and keeps all out but the one that the caller enters by itself. Not twice by one
    /// thread, and not while a handler is asked.
    pub(super) fn hold(&self, slots: &[Slot]) -> Alone<'_> {
        let mut held = self.turn();
        while *held {
            held = self.changed.wait_timeout(held, SLICE).unwrap_or_else(PoisonError::into_inner).0;
        }
        *held = true;
        self.is_held.store(true, Ordering::SeqCst);
        if self.is_cheap && !barrier::everywhere() {
            // Not even refused (a filter of system calls): what a processor has stored is seen long before this is over.
            std::thread::sleep(SLICE);
        }
        loop {
            let inside = slots.iter().zip(&self.inside).filter(|(_, place)| place.load(Ordering::SeqCst));
            if inside.map(|(slot, _)| slot.kick.kick()).count() == 0 {
                return Alone(self);
            }
            held = self.changed.wait_timeout(held, SLICE).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let mut held = self.0.turn();
        *held = false;
        self.0.is_held.store(false, Ordering::SeqCst);
        drop(held);
        self.0.changed.notify_all();
    }
}
