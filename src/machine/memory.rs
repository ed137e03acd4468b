//! Memory that comes and goes: adding regions to a machine and taking them away. It never touches their bytes.

#![allow(unsafe_code)] // a memory slot names host memory

use crate::addr::{GuestPhys, Span};
use crate::error::{Error, Result};
use crate::kvm::{Host, Irqchip, Vm};
use crate::memory::{Memory, RegionInfo, Source};

use super::{Machine, Phase};

/// Where a local APIC is (Intel SDM vol. 3, 11.4.1) and, 4 KiB wide, keeps memory out of sight.
pub(super) const LOCAL_APIC: u64 = 0xfee0_0000;

impl Machine {
    /// Adds RAM or ROM, made from `source`; its whole length where `len` is `None`.
    pub fn add_memory(&self, at: GuestPhys, len: Option<u64>, rom: bool, source: &Source) -> Result<RegionInfo> {
        let vm = self.vm()?;
        let whole = || Error::Invalid("memory has a size, unless a file gives it one".into());
        let len = len.map_or_else(|| source.len()?.ok_or_else(whole), Ok)?;
        self.refuse_devices(at, len)?;
        add(&vm, &self.memory, at, len, rom, source)
    }

    /// Memory would hide a native device, or be hidden by it.
    fn refuse_devices(&self, at: GuestPhys, len: u64) -> Result<()> {
        let Ok(span) = Span::new(at.0, len, u64::MAX) else { return Ok(()) };
        let apic = (LOCAL_APIC, LOCAL_APIC + 0xfff, "the local APIC");
        let apic = (self.irqchip != Irqchip::None).then_some(apic);
        match self
            .mmio
            .list()
            .into_iter()
            .chain(apic)
            .find(|(first, last, _)| span.overlaps(Span { first: *first, last: *last }))
        {
            Some((with, _, what)) => Err(Error::Overlap { at: at.0, len, with, what }),
            None => Ok(()),
        }
    }

    /// Takes away the region that begins at `at`, and unmaps it. Not while the machine runs.
    pub fn remove_memory(&self, at: GuestPhys) -> Result<RegionInfo> {
        let vm = self.vm()?;
        self.refuse_in_handler("memory.remove")?;
        let life = self.life(); // while it is held, no run begins
        match life.phase() {
            Phase::Stopped | Phase::Paused => {}
            Phase::Foreground | Phase::Background => return Err(Error::NotAtRest { what: "memory.remove()" }),
            Phase::Closing | Phase::Closed => return Err(Error::Closed),
        }
        let _slots = self.traps.keep(); // nobody traps it meanwhile
        if let Some(region) = self.memory.region_at(at).filter(|region| self.traps.are_in(region)) {
            return Err(Error::Invalid(format!(
                "the {} at {:#x} has watchpoints: remove() them first",
                region.what(),
                region.at
            )));
        }
        let (info, removed) = self.memory.remove(at, |info| vm.remove_memory(info.slot))?;
        self.points.change(|plan| {
            plan.forget_sites(|at| info.contains(GuestPhys(at)));
            Ok(())
        })?;
        drop(life);
        drop(removed); // KVM has let go of it, so that it can be unmapped
        Ok(info)
    }
}

/// Adds memory to the map and to KVM.
pub(super) fn add(vm: &Vm, memory: &Memory, at: GuestPhys, len: u64, rom: bool, source: &Source) -> Result<RegionInfo> {
    memory
        .add_from(at, len, rom, source, |backing, slot| {
            // SAFETY: the mapping lives in `memory`, which unmaps it only after its slot is removed or all vCPUs are gone
            // (see `remove_memory` and `close`), and is only accessed through volatile copies.
            unsafe { vm.set_memory(slot, at, backing.host_address(), backing.len(), rom) }
        })
        .map_err(|error| beyond_this_host(error, at, len))
}

/// KVM's word on memory that the host's processor cannot address is EINVAL: says so with the numbers.
fn beyond_this_host(error: Error, at: GuestPhys, len: u64) -> Error {
    let bits = Host::open().map_or(52, |host| host.physical_bits());
    match error {
        Error::Host { errno: libc::EINVAL, .. } if (at.0 + len - 1) >> bits != 0 => {
            Error::BeyondPhysical { at: at.0, len, bits }
        }
        other => other,
    }
}
