//! One KVM virtual machine: its memory slots, interrupt controllers, MSR filter and the creation of vCPUs.
//! It never runs a vCPU and never touches guest memory.

#![allow(unsafe_code)] // a memory slot names host memory, which only the caller can vouch for

use std::sync::Arc;

use kvm_bindings as kb;
use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::EventFd;

use crate::addr::{GuestPhys, Span};
use crate::error::{Error, Result};

use super::host::Host;
use super::kick::Kick;
use super::vcpu::Vcpu;

/// Where the interrupt controllers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Irqchip {
    /// Nowhere: HLT exits, and interrupts come from user space alone.
    #[default]
    None,
    /// Local APICs in the kernel, IOAPIC here.
    Split,
    /// PIC, IOAPIC and local APICs in the kernel.
    Full,
}

/// A message-signalled interrupt (Intel SDM vol. 3, 11.11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MsiMessage {
    /// Address written to.
    pub address: u64,
    /// Data written.
    pub data: u32,
}

/// A VM of KVM's.
#[derive(Debug)]
pub struct Vm {
    pub(super) fd: VmFd,
}

/// Intel hosts want three pages for a TSS and one for a page table, below 4 GiB and outside RAM.
const TSS_ADDRESS: usize = 0xfffb_d000;
const IDENTITY_MAP_ADDRESS: u64 = 0xfffb_c000;

impl Vm {
    /// A new, empty VM.
    pub fn new(host: &Host) -> Result<Self> {
        let fd = loop {
            match host.kvm().create_vm() {
                Err(e) if e.errno() == libc::EINTR => {}
                result => break result.map_err(Error::host("KVM_CREATE_VM"))?,
            }
        };
        fd.set_identity_map_address(IDENTITY_MAP_ADDRESS).map_err(Error::host("KVM_SET_IDENTITY_MAP_ADDR"))?;
        fd.set_tss_address(TSS_ADDRESS).map_err(Error::host("KVM_SET_TSS_ADDR"))?;
        let vm = Self { fd };
        vm.leave_hypercalls_alone();
        vm.hand_out_hypercalls();
        Ok(vm)
    }

    /// Keeps KVM from rewriting the guest's vmcall and vmmcall: guest memory stays the guest's.
    fn leave_hypercalls_alone(&self) {
        let patching = u64::from(kb::KVM_X86_QUIRK_FIX_HYPERCALL_INSN);
        let _ = self.enable(kb::KVM_CAP_DISABLE_QUIRKS2, [patching, 0, 0, 0]); // refused where there is no such quirk
    }

    /// Has the one hypercall that KVM can leave to user space come here: unanswered, it fails as it does in KVM.
    fn hand_out_hypercalls(&self) {
        const MAP_GPA_RANGE: u32 = 12; // KVM_HC_MAP_GPA_RANGE
        let _ = self.enable(kb::KVM_CAP_EXIT_HYPERCALL, [1 << MAP_GPA_RANGE, 0, 0, 0]); // refused where there is no such exit
    }

    /// Has a guest that locks the bus exit. Before any vCPU.
    pub fn report_bus_locks(&self) -> Result<()> {
        let exit = u64::from(kb::KVM_BUS_LOCK_DETECTION_EXIT);
        self.enable(kb::KVM_CAP_X86_BUS_LOCK_EXIT, [exit, 0, 0, 0]).map_err(lacking("bus locks", "bus_lock"))
    }

    /// Has a guest that keeps interrupts out for `window` cycles exit. Before any vCPU.
    pub fn report_blocked_interrupts(&self, window: u32) -> Result<()> {
        let flags = u64::from(kb::KVM_X86_NOTIFY_VMEXIT_ENABLED | kb::KVM_X86_NOTIFY_VMEXIT_USER);
        let args = [u64::from(window) << 32 | flags, 0, 0, 0];
        self.enable(kb::KVM_CAP_X86_NOTIFY_VMEXIT, args).map_err(lacking("blocked interrupts", "notify_window"))
    }

    /// Has an instruction that KVM cannot emulate exit wherever it is, instead of raising #UD in the guest first.
    pub fn report_emulation_failures(&self) {
        let _ = self.enable(kb::KVM_CAP_EXIT_ON_EMULATION_FAILURE, [1, 0, 0, 0]); // before Linux 5.14: ring 0 alone exits
    }

    fn enable(&self, cap: u32, args: [u64; 4]) -> Result<()> {
        let cap = kb::kvm_enable_cap { cap, args, ..Default::default() };
        self.fd.enable_cap(&cap).map_err(Error::host("KVM_ENABLE_CAP"))
    }

    /// Creates vCPU `id`, which `kick` will reach.
    pub fn create_vcpu(&self, id: u32, kick: Arc<Kick>) -> Result<Vcpu> {
        let fd = self.fd.create_vcpu(u64::from(id)).map_err(Error::host("KVM_CREATE_VCPU"))?;
        Ok(Vcpu::new(fd, id, self.fd.run_size(), kick))
    }

    /// Shows `len` bytes of host memory at guest-physical `at`, in memory slot `slot`.
    ///
    /// # Safety
    /// The host memory is mapped for as long as the VM lives or until the slot is removed, and nothing in this process
    /// relies on its contents.
    pub unsafe fn set_memory(&self, slot: u32, at: GuestPhys, host: *mut u8, len: usize, rom: bool) -> Result<()> {
        let region = kb::kvm_userspace_memory_region {
            slot,
            flags: if rom { kb::KVM_MEM_READONLY } else { 0 },
            guest_phys_addr: at.0,
            memory_size: u64::try_from(len).unwrap_or(u64::MAX),
            userspace_addr: u64::try_from(host.addr()).unwrap_or(0),
        };
        // SAFETY: the caller vouches for the host memory.
        unsafe { self.fd.set_user_memory_region(region) }.map_err(Error::host("KVM_SET_USER_MEMORY_REGION"))
    }

    /// Takes memory slot `slot` away. When this is back, no vCPU sees its memory any more, and it may be unmapped.
    pub fn remove_memory(&self, slot: u32) -> Result<()> {
        let region = kb::kvm_userspace_memory_region { slot, ..Default::default() };
        // SAFETY: a slot of no size names no host memory.
        unsafe { self.fd.set_user_memory_region(region) }.map_err(Error::host("KVM_SET_USER_MEMORY_REGION"))
    }

    /// Makes the interrupt controllers. Before any vCPU.
    pub fn create_irqchip(&self, kind: Irqchip) -> Result<()> {
        match kind {
            Irqchip::None => Ok(()),
            Irqchip::Split => self.enable(kb::KVM_CAP_SPLIT_IRQCHIP, [24, 0, 0, 0]),
            Irqchip::Full => self.fd.create_irq_chip().map_err(Error::host("KVM_CREATE_IRQCHIP")),
        }
    }

    /// Makes the kernel's i8254 timer, with port 0x61 answered.
    pub fn create_pit(&self) -> Result<()> {
        let config = kb::kvm_pit_config { flags: kb::KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        self.fd.create_pit2(config).map_err(Error::host("KVM_CREATE_PIT2"))
    }

    /// Sets interrupt line `gsi` of the interrupt controllers in the kernel.
    pub fn set_irq_line(&self, gsi: u32, level: bool) -> Result<()> {
        self.fd.set_irq_line(gsi, level).map_err(Error::host("KVM_IRQ_LINE"))
    }

    /// The vector of the interrupt that waits at the PICs, if one does (Intel 8259A: "Interrupt Sequence"; their fixed
    /// priorities).
    pub fn waiting_at_pic(&self) -> Result<Option<u8>> {
        const CASCADE: u32 = 2;
        let waits = |chip_id: u32| -> Result<Option<(u32, u8)>> {
            let mut chip = kb::kvm_irqchip { chip_id, ..Default::default() };
            self.fd.get_irqchip(&mut chip).map_err(Error::host("KVM_GET_IRQCHIP"))?;
            // SAFETY: KVM has filled it in, and any bytes are a PIC's.
            let pic = unsafe { chip.chip.pic };
            let line = (pic.irr & !pic.imr).trailing_zeros();
            Ok((line < 8).then(|| (line, pic.irq_base.wrapping_add(u8::try_from(line).unwrap_or(0)))))
        };
        Ok(match waits(kb::KVM_IRQCHIP_PIC_MASTER)? {
            Some((CASCADE, _)) => waits(kb::KVM_IRQCHIP_PIC_SLAVE)?.map(|(_, vector)| vector),
            master => master.map(|(_, vector)| vector),
        })
    }

    /// Sends a message-signalled interrupt; false if no vCPU takes it.
    pub fn signal(&self, message: MsiMessage) -> Result<bool> {
        let [address_lo, address_hi] = split(message.address);
        let msi = kb::kvm_msi { address_lo, address_hi, data: message.data, ..Default::default() };
        match self.fd.signal_msi(msi) {
            Err(error) if error.errno() == libc::EPERM => Ok(false), // no local APIC is on that has the destination
            taken => Ok(taken.map_err(Error::host("KVM_SIGNAL_MSI"))? > 0),
        }
    }

    /// The guest's clock (kvmclock), in nanoseconds.
    pub fn clock(&self) -> Result<u64> {
        Ok(self.fd.get_clock().map_err(Error::host("KVM_GET_CLOCK"))?.clock)
    }

    /// Sets the guest's clock, in nanoseconds.
    pub fn set_clock(&self, clock: u64) -> Result<()> {
        let data = kb::kvm_clock_data { clock, ..Default::default() };
        self.fd.set_clock(&data).map_err(Error::host("KVM_SET_CLOCK"))
    }

    /// Has writes to `event` raise interrupt line `gsi`.
    pub fn connect_irq(&self, event: &EventFd, gsi: u32) -> Result<()> {
        self.fd.register_irqfd(event, gsi).map_err(Error::host("KVM_IRQFD"))
    }

    /// Routes interrupt lines to messages, beside those of the controllers in the kernel; lines that are not named go nowhere.
    pub fn route(&self, irqchip: Irqchip, messages: &[(u32, MsiMessage)]) -> Result<()> {
        let chips = if irqchip == Irqchip::Full { chip_routes() } else { Vec::new() };
        let messages = messages.iter().map(|(gsi, message)| msi_route(*gsi, *message));
        let entries: Vec<_> = chips.into_iter().chain(messages).collect();
        let routing = kb::KvmIrqRouting::from_entries(&entries)
            .map_err(|_| Error::Invalid(format!("{} interrupt routes are too many", entries.len())))?;
        self.fd.set_gsi_routing(&routing).map_err(Error::host("KVM_SET_GSI_ROUTING"))
    }

    /// Sends accesses of the guest to these MSRs (reads, writes) to user space; all others are KVM's.
    pub fn filter_msrs(&self, watched: &[(Span, bool, bool)]) -> Result<()> {
        let reasons = kb::KVM_MSR_EXIT_REASON_FILTER | kb::KVM_MSR_EXIT_REASON_UNKNOWN | kb::KVM_MSR_EXIT_REASON_INVAL;
        let reasons = if watched.is_empty() { 0 } else { reasons };
        self.enable(kb::KVM_CAP_X86_USER_SPACE_MSR, [u64::from(reasons), 0, 0, 0])?;
        super::msr_filter::install(&self.fd, watched)
    }
}

/// The error of an exit that this processor does not have.
fn lacking(what: &str, option: &str) -> impl FnOnce(Error) -> Error {
    let cause = format!("this processor, or its KVM, does not report {what}");
    let remedy = format!("make the VM without {option}");
    move |error| match error {
        Error::Host { errno: libc::EINVAL, .. } => Error::NoKvm { cause, remedy },
        other => other,
    }
}

fn split(word: u64) -> [u32; 2] {
    let low = u32::try_from(word & 0xffff_ffff).unwrap_or(0);
    [low, u32::try_from(word >> 32).unwrap_or(0)]
}

fn msi_route(gsi: u32, message: MsiMessage) -> kb::kvm_irq_routing_entry {
    let [address_lo, address_hi] = split(message.address);
    let mut entry = kb::kvm_irq_routing_entry { gsi, type_: kb::KVM_IRQ_ROUTING_MSI, ..Default::default() };
    entry.u.msi = kb::kvm_irq_routing_msi { address_lo, address_hi, data: message.data, ..Default::default() };
    entry
}

/// Where lines lead in a full irqchip, as KVM sets it up: each to its pin of the I/O APIC, the first 16 to the PICs, too.
fn chip_routes() -> Vec<kb::kvm_irq_routing_entry> {
    let pics = (0..16).map(|gsi| {
        chip_route(gsi, if gsi < 8 { kb::KVM_IRQCHIP_PIC_MASTER } else { kb::KVM_IRQCHIP_PIC_SLAVE }, gsi % 8)
    });
    pics.chain((0..24).map(|gsi| chip_route(gsi, kb::KVM_IRQCHIP_IOAPIC, gsi))).collect()
}

fn chip_route(gsi: u32, irqchip: u32, pin: u32) -> kb::kvm_irq_routing_entry {
    let mut entry = kb::kvm_irq_routing_entry { gsi, type_: kb::KVM_IRQ_ROUTING_IRQCHIP, ..Default::default() };
    entry.u.irqchip = kb::kvm_irq_routing_irqchip { irqchip, pin };
    entry
}
