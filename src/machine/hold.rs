//! Stopping the world: all vCPUs out of the guest for a moment, while one thread changes what they see, or steps one of them.
//! It never keeps a vCPU from its handlers, only from the guest, and says nothing about why.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Result;
use crate::kvm::Entered;

use super::Machine;
use super::cpu::Slot;

/// How long to wait for vCPUs to come out before they are kicked again: the kernel drops signals of a user who has too many.
const AGAIN: Duration = Duration::from_micros(500);
/// How often to look before sleeping between two looks.
const SPINS: u32 = 200;

/// Who holds the vCPUs of a machine.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// Somebody holds them, or waits for them to come out.
    wanted: AtomicBool,
    /// Held by whoever holds the vCPUs; a vCPU that is to stay out waits for it.
    turn: Mutex<()>,
}

/// While it lives, no vCPU of the machine is in the guest but those that this thread enters itself.
#[derive(Debug)]
pub(super) struct Held<'a> {
    hold: &'a Hold,
    _turn: MutexGuard<'a, ()>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.hold.wanted.store(false, Ordering::SeqCst);
    }
}

impl Hold {
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the vCPU whose flag is `inside` into the guest by `enter`, once nobody holds it.
    pub(super) fn pass(&self, inside: &AtomicBool, enter: impl FnOnce() -> Result<Entered>) -> Result<Entered> {
        loop {
            inside.store(true, Ordering::SeqCst);
            if !self.wanted.load(Ordering::SeqCst) {
                break;
            }
            inside.store(false, Ordering::SeqCst);
            drop(self.turn()); // until they are let go
        }
        let entered = enter();
        inside.store(false, Ordering::Release);
        entered
    }
}

impl Machine {
    /// Has all vCPUs leave the guest, and keeps them out. Not twice by one thread, and never while a handler is asked: hold
    /// no lock that a vCPU needs on its way out of the guest.
    pub(super) fn hold(&self) -> Held<'_> {
        let turn = self.hold.turn();
        self.hold.wanted.store(true, Ordering::SeqCst);
        for slot in &self.cpus {
            wait_for(slot);
        }
        Held { hold: &self.hold, _turn: turn }
    }
}

/// Waits until `slot` is out of the guest, kicking it as often as needed.
fn wait_for(slot: &Slot) {
    let mut looks = 0;
    while slot.inside.load(Ordering::SeqCst) {
        if looks % SPINS == 0 {
            slot.kick.kick();
        }
        looks += 1;
        if looks < SPINS { std::hint::spin_loop() } else { std::thread::sleep(AGAIN) }
    }
}
