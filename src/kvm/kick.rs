//! Getting a vCPU out of the guest from another thread, by a deadline, or every now and then.
//! It never knows why; who kicks leaves the reason where the run loop looks.

#![allow(unsafe_code)] // signals, timers and one byte of the run page have no safe interface

use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};

/// How often a vCPU that runs in the foreground comes out to look for signals (Ctrl-C).
pub const TICK: Duration = Duration::from_millis(40);

thread_local! {
    /// The `immediate_exit` byte of the vCPU that this thread runs now; null when it runs none.
    static RUNNING: Cell<*const AtomicU8> = const { Cell::new(ptr::null()) };
    /// This thread's timer, made when first needed.
    static TIMER: RefCell<Option<Timer>> = const { RefCell::new(None) };
}

/// The signal that takes a vCPU out of the guest: a real-time signal, whose handler only sets `immediate_exit`.
fn signal() -> i32 {
    libc::SIGRTMIN() + 6
}

extern "C" fn on_signal(_: libc::c_int) {
    let byte = RUNNING.get();
    if !byte.is_null() {
        // SAFETY: RUNNING is non-null only between `RunGuard::begin` and its drop on this thread, while the page is mapped.
        unsafe { (*byte).store(1, Ordering::SeqCst) };
    }
}

/// Installs the handler, once in a process. `SA_RESTART`: other system calls of the thread go on.
fn install_handler() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        let handler: extern "C" fn(libc::c_int) = on_signal;
        // SAFETY: all-zero bytes are a valid sigaction (default handler, empty mask).
        let action = unsafe { action.assume_init_mut() };
        #[allow(clippy::as_conversions, clippy::fn_to_numeric_cast_any)] // how libc passes a handler
        let address = handler as usize;
        action.sa_sigaction = address;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: the handler is async-signal-safe: one thread-local load and one atomic store.
        unsafe { libc::sigaction(signal(), action, ptr::null_mut()) };
    });
}

/// Unblocks the signal on this thread, whose creator may have blocked all of them.
fn let_signal_through() {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `set` is ours, and any bytes may become an empty set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: as above; the number is a signal's.
    unsafe { libc::sigaddset(set.as_mut_ptr(), signal()) };
    // SAFETY: the set is filled, and nobody wants the old one.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut()) };
}

/// Points at the `immediate_exit` byte of a mapped run page.
#[derive(Clone, Copy, Debug)]
struct ExitByte(NonNull<AtomicU8>);

// SAFETY: the byte is only accessed atomically, and only while the mutex that holds it says it is mapped.
unsafe impl Send for ExitByte {}

/// What other threads hold of a vCPU to get it out of the guest.
#[derive(Debug, Default)]
pub struct Kick {
    byte: Mutex<Option<ExitByte>>,
    thread: AtomicI32,
}

impl Kick {
    /// Takes `byte`, which stays mapped until [`Kick::retire`].
    pub(super) fn arm(&self, byte: NonNull<AtomicU8>) {
        *self.byte.lock().unwrap_or_else(PoisonError::into_inner) = Some(ExitByte(byte));
    }

    /// Forgets the byte, before its page is unmapped.
    pub(super) fn retire(&self) {
        *self.byte.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Makes the current or the next `KVM_RUN` of this vCPU return. Leave the reason before calling.
    pub fn kick(&self) {
        let byte = self.byte.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(byte) = *byte else { return };
        // SAFETY: armed, so the page is mapped; `retire` waits for the lock.
        unsafe { byte.0.as_ref() }.store(1, Ordering::SeqCst);
        let thread = self.thread.load(Ordering::SeqCst);
        if thread != 0 {
            let process = std::process::id();
            // SAFETY: a signal with a harmless handler, to a thread of this process or to none.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal()) };
        }
    }
}

/// While it lives, this thread runs the vCPU, and kicks and ticks reach it.
#[derive(Debug)]
pub struct RunGuard<'a> {
    kick: &'a Kick,
    outer: *const AtomicU8,
    outer_thread: i32,
    /// The thread is kicked every [`TICK`].
    timed: bool,
    /// Its timer is to be stopped at the end.
    armed: bool,
}

impl<'a> RunGuard<'a> {
    /// Begins a run on this thread. With `first`, the thread is kicked after that time and every [`TICK`] from then on.
    pub fn begin(kick: &'a Kick, first: Option<Duration>) -> Result<Self> {
        install_handler();
        let_signal_through();
        let byte = kick.byte.lock().unwrap_or_else(PoisonError::into_inner).ok_or(Error::Closed)?;
        // SAFETY: mapped, as the caller owns the vCPU for as long as the guard lives.
        unsafe { byte.0.as_ref() }.store(0, Ordering::SeqCst);
        let outer = RUNNING.replace(byte.0.as_ptr());
        // SAFETY: gettid has no preconditions.
        let thread = unsafe { libc::gettid() };
        let outer_thread = kick.thread.swap(thread, Ordering::SeqCst);
        let mut guard = Self { kick, outer, outer_thread, timed: false, armed: false };
        if let Some(first) = first {
            guard.tick_in(first)?;
        }
        Ok(guard)
    }

    /// Moves the next kick of this thread.
    pub fn tick_in(&mut self, first: Duration) -> Result<()> {
        (self.timed, self.armed) = (true, true);
        set_timer(first.max(Duration::from_nanos(1)), TICK)
    }

    /// Has this thread be kicked every [`TICK`], if it is not yet.
    pub fn keep_ticking(&mut self) -> Result<()> {
        if self.timed { Ok(()) } else { self.tick_in(TICK) }
    }

    /// Has this thread be kicked after that time, also where it is not kicked every now and then.
    pub fn come_out_in(&mut self, time: Duration) -> Result<()> {
        self.armed = true;
        // The outer one of two nested runs may live by ticks.
        let every = if self.timed || !self.outer.is_null() { TICK } else { Duration::ZERO };
        set_timer(time.max(Duration::from_nanos(1)), every)
    }
}

impl Drop for RunGuard<'_> {
    fn drop(&mut self) {
        // A run inside a handler of another machine leaves the outer run its timer.
        if self.armed && self.outer.is_null() {
            let _ = set_timer(Duration::ZERO, Duration::ZERO);
        }
        self.kick.thread.store(self.outer_thread, Ordering::SeqCst);
        RUNNING.set(self.outer);
    }
}

/// A POSIX timer that signals the thread that made it.
struct Timer {
    id: libc::timer_t,
    /// A forked child inherits no timers: there, the number is another one's, or none's.
    process: u32,
}

impl Timer {
    fn new() -> Result<Self> {
        let mut event = MaybeUninit::<libc::sigevent>::zeroed();
        // SAFETY: all-zero bytes are a valid sigevent.
        let event = unsafe { event.assume_init_mut() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal();
        // SAFETY: gettid has no preconditions.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer = ptr::null_mut();
        // SAFETY: both pointers are valid for the call.
        match unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, event, &raw mut timer) } {
            0 => Ok(Self { id: timer, process: std::process::id() }),
            _ => Err(Error::last_os("timer_create")),
        }
    }

    fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    fn set(&self, first: Duration, every: Duration) -> Result<()> {
        let spec = libc::itimerspec { it_value: timespec(first), it_interval: timespec(every) };
        // SAFETY: the timer is ours and the pointers are valid for the call.
        match unsafe { libc::timer_settime(self.id, 0, &raw const spec, ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(Error::last_os("timer_settime")),
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: the timer is ours; it is deleted once.
            unsafe { libc::timer_delete(self.id) };
        }
    }
}

fn set_timer(first: Duration, every: Duration) -> Result<()> {
    TIMER.with_borrow_mut(|slot| {
        if !slot.as_ref().is_some_and(Timer::is_ours) {
            *slot = Some(Timer::new()?);
        }
        slot.as_ref().map_or(Ok(()), |timer| timer.set(first, every))
    })
}

/// How long this thread, the guests that it ran included, has had a processor.
pub fn thread_time() -> Duration {
    let mut now = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the pointer is valid for the call, and all-zero bytes are a valid timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, now.as_mut_ptr()) };
    // SAFETY: as above, also if the call had failed.
    let now = unsafe { now.assume_init() };
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}
