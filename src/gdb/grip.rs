//! What a server and the vCPUs' threads share: which vCPUs gdb holds, and why it wants to be told. It never waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gdbstub::common::Signal;
use gdbstub::target::ext::breakpoints::WatchKind;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::error::{Error, Result};
use crate::machine::Machine;

use super::link::Stream;

/// Why a vCPU stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// At a software breakpoint of gdb's, with its address.
    Software(u64),
    /// At a hardware breakpoint of gdb's, with its address.
    Hardware(u64),
    /// It has accessed what gdb watches, from this address on.
    Watched(WatchKind, u64),
    /// It has taken the step that gdb asked for.
    Stepped,
    /// The run is over, by itself.
    Over(Signal),
}

/// A vCPU that stopped, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Its number.
    pub vcpu: u32,
    /// The reason.
    pub why: Why,
}

/// Shared by the server, its thread and the handlers of gdb's breakpoints.
#[derive(Debug)]
pub struct Grip {
    /// Something has happened: the server's thread is to look.
    pub news: EventFd,
    held: Mutex<Vec<bool>>,
    stops: Mutex<VecDeque<Stop>>,
    closing: AtomicBool,
    client: Mutex<Option<Stream>>,
    came: Condvar,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Grip {
    /// On nothing yet, of a machine with so many vCPUs.
    pub fn new(vcpus: usize) -> Result<Self> {
        let news = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)
            .map_err(|e| Error::Host { what: "eventfd2", errno: e.raw_os_error().unwrap_or(0) })?;
        Ok(Self {
            news,
            held: Mutex::new(vec![false; vcpus]),
            stops: Mutex::default(),
            closing: AtomicBool::new(false),
            client: Mutex::default(),
            came: Condvar::new(),
        })
    }

    /// Has the server's thread look.
    pub fn wake(&self) {
        let _ = self.news.write(1); // it is full of news already otherwise
    }

    /// Holds all vCPUs, those that are held already not once more.
    pub fn hold_all(&self, machine: &Machine) {
        for (id, held) in (0..).zip(locked(&self.held).iter_mut()) {
            if !std::mem::replace(held, true) {
                let _ = machine.hold(id);
            }
        }
    }

    /// Lets one go on.
    pub fn release(&self, machine: &Machine, id: u32) {
        let mut held = locked(&self.held);
        let held = usize::try_from(id).ok().and_then(|at| held.get_mut(at));
        if held.is_some_and(|held| std::mem::replace(held, false)) {
            let _ = machine.release(id);
        }
    }

    /// Lets all go on.
    pub fn release_all(&self, machine: &Machine) {
        for (id, held) in (0..).zip(locked(&self.held).iter_mut()) {
            if std::mem::replace(held, false) {
                let _ = machine.release(id);
            }
        }
    }

    /// A vCPU has stopped: keeps it, and all others with it, until gdb says what is next.
    pub fn stopped(&self, machine: &Machine, stop: Stop) {
        locked(&self.stops).push_back(stop);
        self.hold_all(machine);
        self.wake();
    }

    /// The first stop that has not been told, of those that are `wanted` now; what comes to light as no stop any more
    /// on the way, as `is_still` says, is forgotten.
    pub fn next_stop(&self, wanted: impl Fn(&Stop) -> bool, is_still: impl Fn(&Stop) -> bool) -> Option<Stop> {
        let mut stops = locked(&self.stops);
        stops.retain(|stop| !wanted(stop) || is_still(stop));
        let at = stops.iter().position(wanted)?;
        stops.remove(at)
    }

    /// Is there one?
    pub fn has_stop(&self, wanted: impl Fn(&Stop) -> bool) -> bool {
        locked(&self.stops).iter().any(wanted)
    }

    /// Forgets all stops.
    pub fn forget_stops(&self) {
        locked(&self.stops).clear();
    }

    /// The server is to end.
    pub fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        if let Some(client) = locked(&self.client).as_ref() {
            client.hang_up();
        }
        self.wake();
        self.came.notify_all();
    }

    /// Is it?
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Who is connected, from now on.
    pub fn set_client(&self, client: Option<Stream>) {
        *locked(&self.client) = client;
        self.came.notify_all();
    }

    /// Is a client connected, with the guest held?
    pub fn is_connected(&self) -> bool {
        locked(&self.client).is_some()
    }

    /// Waits for a client, or for so long; true if there is one.
    pub fn wait_for_client(&self, patience: Duration) -> bool {
        let nobody = |client: &mut Option<Stream>| client.is_none() && !self.is_closing();
        let waited = self.came.wait_timeout_while(locked(&self.client), patience, nobody);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_some()
    }
}
