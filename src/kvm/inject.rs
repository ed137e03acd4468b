//! Interrupts that user space injects into a vCPU, and when it takes them. It never keeps one that the vCPU does not take.

#![allow(unsafe_code)] // kvm-ioctls has no KVM_INTERRUPT

use std::os::fd::AsRawFd;

use kvm_bindings as kb;

use crate::error::{Error, Result};
use crate::x86::{Gpr, rflags};

use super::entered::Sync;
use super::vcpu::Vcpu;

/// `_IOW(KVMIO, 0x86, struct kvm_interrupt)`.
const KVM_INTERRUPT: libc::c_ulong = 0x4004_ae86;

impl Vcpu {
    /// Could an interrupt be injected before the next entry? Where no local APIC is in the kernel.
    pub fn takes_interrupts(&self) -> bool {
        let enabled = if self.is_dirty(Sync::Regs) {
            self.page.regs()[Gpr::Rflags] & rflags::IF != 0
        } else {
            self.page.interrupts_enabled()
        };
        enabled
            && if self.is_dirty(Sync::Events) {
                let events = self.page.events();
                !events.is_busy() && !events.is_in_shadow()
            } else {
                self.page.takes_interrupts()
            }
    }

    /// Injects an interrupt on the next entry (`KVM_INTERRUPT`). KVM does not look at RFLAGS.IF: ask
    /// [`Vcpu::takes_interrupts`] before.
    pub fn interrupt(&mut self, vector: u8) -> Result<()> {
        self.flush_events()?;
        self.is_interrupted = true;
        self.forget(Sync::Events);
        let request = kb::kvm_interrupt { irq: u32::from(vector) };
        // SAFETY: the descriptor is a vCPU, and KVM reads one `kvm_interrupt`.
        let result = unsafe { libc::ioctl(self.fd().as_raw_fd(), KVM_INTERRUPT, &raw const request) };
        if result == 0 { Ok(()) } else { Err(Error::last_os("KVM_INTERRUPT")) }
    }

    /// Has KVM exit as soon as the guest takes interrupts, or no more.
    pub fn request_interrupt_window(&mut self, yes: bool) {
        self.page.request_interrupt_window(yes);
    }

    /// Queues a non-maskable interrupt.
    pub fn nmi(&mut self) -> Result<()> {
        self.flush_events()?;
        self.forget(Sync::Events);
        self.fd().nmi().map_err(Error::host("KVM_NMI"))
    }
}
