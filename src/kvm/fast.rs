//! What KVM does for a guest without coming back to user space: doorbells, queued writes, events that interrupt.
//! It never waits for any of them.

#![allow(unsafe_code)] // kvm-ioctls ties a doorbell's width to a value to compare with

use std::os::fd::AsRawFd;

use kvm_bindings as kb;
use kvm_ioctls::IoEventAddress;
use vmm_sys_util::eventfd::EventFd;

use crate::addr::{GuestPhys, Span};
use crate::error::{Error, Result};

use super::vm::Vm;

/// `_IOW(KVMIO, 0x79, struct kvm_ioeventfd)`.
const KVM_IOEVENTFD: libc::c_ulong = 0x4040_ae79;

/// Where a guest writes what KVM takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An I/O port.
    Port(u16),
    /// A guest-physical address.
    Memory(GuestPhys),
}

/// Which writes to a place ring a doorbell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Bytes: 1, 2, 4, 8, or 0 for any.
    pub size: u8,
    /// What is written; nothing for anything. Not with a size of 0.
    pub value: Option<u64>,
}

impl Vm {
    /// Has writes to `target` that are as `ring` says count in `event`, or no more.
    pub fn ring(&self, event: &EventFd, target: Target, ring: Ring, yes: bool) -> Result<()> {
        let flag = |number: u32, set: bool| u32::from(set) << number;
        let (addr, is_port) = match target {
            Target::Port(port) => (u64::from(port), true),
            Target::Memory(at) => (at.0, false),
        };
        let request = kb::kvm_ioeventfd {
            datamatch: ring.value.unwrap_or(0),
            addr,
            len: u32::from(ring.size),
            fd: event.as_raw_fd(),
            flags: flag(kb::kvm_ioeventfd_flag_nr_datamatch, ring.value.is_some())
                | flag(kb::kvm_ioeventfd_flag_nr_pio, is_port)
                | flag(kb::kvm_ioeventfd_flag_nr_deassign, !yes),
            ..Default::default()
        };
        // SAFETY: the descriptor is a VM, and KVM reads one `kvm_ioeventfd`.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), KVM_IOEVENTFD, &raw const request) };
        if result == 0 { Ok(()) } else { Err(Error::last_os("KVM_IOEVENTFD")) }
    }

    /// Has writes to `span` (of ports or addresses) queued in the VM's ring, or no more.
    pub fn queue_writes(&self, is_port: bool, span: Span, yes: bool) -> Result<()> {
        let at = if is_port { IoEventAddress::Pio(span.first) } else { IoEventAddress::Mmio(span.first) };
        let size = u32::try_from(span.last - span.first).ok().and_then(|last| last.checked_add(1));
        let size = size.ok_or_else(|| Error::Invalid("KVM queues writes to less than 4 GiB of addresses".into()))?;
        if yes {
            self.fd.register_coalesced_mmio(at, size).map_err(Error::host("KVM_REGISTER_COALESCED_MMIO"))
        } else {
            self.fd.unregister_coalesced_mmio(at, size).map_err(Error::host("KVM_UNREGISTER_COALESCED_MMIO"))
        }
    }

    /// Has writes to `event` no longer raise interrupt line `gsi`.
    pub fn disconnect_irq(&self, event: &EventFd, gsi: u32) -> Result<()> {
        self.fd.unregister_irqfd(event, gsi).map_err(Error::host("KVM_IRQFD"))
    }
}
