//! Entering the guest, and what is left in the run page when it has been left. It never decides what an exit means.

#![allow(unsafe_code)] // KVM_RUN is issued directly: one decoder of exits, and the data that kvm-ioctls leaves out

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Error, Result};

use super::entered::{Access, Entered};
use super::vcpu::Vcpu;

/// `_IO(KVMIO, 0x80)`.
const KVM_RUN: libc::c_ulong = 0xae80;

/// How the guest was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// By an exit, which is in the run page.
    Exit,
    /// By none: the error of `KVM_RUN`.
    Not(i32),
}

/// `KVM_RUN` has failed.
#[cold]
fn failed() -> Left {
    Left::Not(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

impl Vcpu {
    /// Enters the guest until it exits or is kicked.
    pub fn enter(&mut self) -> Result<Entered> {
        let left = self.go();
        self.came(left)
    }

    /// As [`Vcpu::enter`], but an exit stays in the run page: most are looked at there, by [`Vcpu::single_access`], and moving
    /// one about costs more than to answer it. [`Vcpu::came`] says the rest.
    #[inline]
    pub fn go(&mut self) -> Left {
        // SAFETY: the descriptor is a vCPU; KVM writes only the run page and guest memory.
        let result = unsafe { libc::ioctl(self.fd().as_raw_fd(), KVM_RUN, 0) };
        self.fresh = self.page.wanted();
        self.before = None;
        self.has_run = true;
        if result != 0 {
            return failed(); // perhaps before what was injected has come
        }
        self.is_interrupted = false;
        Left::Exit
    }

    /// What [`Vcpu::go`] came back with.
    pub fn came(&mut self, left: Left) -> Result<Entered> {
        match left {
            Left::Exit => Ok(self.page.exit()),
            Left::Not(libc::EINTR | libc::EAGAIN) => Ok(Entered::Interrupted),
            Left::Not(errno) if self.page.dirty() != 0 && errno == libc::EINVAL => {
                self.page.set_dirty(0);
                self.fresh = 0;
                Err(Error::Registers { vcpu: self.id(), errno, dropped: true })
            }
            Left::Not(errno @ (libc::EFAULT | libc::EHWPOISON)) => {
                self.page.memory_fault().map(Entered::Exit).ok_or(Error::Host { what: "KVM_RUN", errno })
            }
            Left::Not(errno) => Err(Error::Host { what: "KVM_RUN", errno }),
        }
    }

    /// The exit that [`Vcpu::go`] has left in the run page, if it is an access of one element to a port.
    #[inline]
    pub fn single_access(&self) -> Option<Access> {
        self.page.single_access()
    }

    /// Enters with `immediate_exit`, so that a pending port, MMIO or MSR access completes and no instruction runs.
    pub fn complete(&mut self) -> Result<Entered> {
        self.set_immediate_exit(1);
        let entered = self.enter();
        self.set_immediate_exit(0);
        entered
    }

    /// Clears the request of a kick that has been noticed; false if there was none. Look for its reason afterwards.
    pub fn acknowledge_kick(&mut self) -> bool {
        self.set_immediate_exit(0) != 0
    }

    fn set_immediate_exit(&mut self, to: u8) -> u8 {
        let byte = self.page.immediate_exit();
        // SAFETY: mapped while `self` lives; other threads access it atomically too.
        let byte: &AtomicU8 = unsafe { byte.as_ref() };
        byte.swap(to, Ordering::SeqCst)
    }
}
