//! Makes a machine from its configuration: VM, memory, interrupt controllers, vCPUs, devices.
//! It never runs anything; a machine that cannot be made leaves nothing behind.

use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::addr::Span;
use crate::boot::layout;
use crate::bus::{Bus, SharedDevice};
use crate::debug::Points;
use crate::devices::{Console, I8042, IoApic, MessageSink, Serial, ioapic};
use crate::error::{Error, Result};
use crate::hook::Hooks;
use crate::kvm::{Host, Irqchip, Kick, MsiMessage, Quirks, Vm};
use crate::memory::{Memory, Pages, Source};

use super::cpu::{Cpu, CpuDebug, Slot};
use super::doorbell::Doorbells;
use super::interrupts::Lines;
use super::irq_event::Routing;
use super::repair::Repair;
use super::trap::Traps;
use super::world::World;
use super::zone::Zones;
use super::{IrqEvent, Life, Machine, SerialLine};

/// What a machine is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes of RAM from address 0 on; none for a machine whose memory is added by hand.
    pub memory: Option<u64>,
    /// The host's pages under that RAM.
    pub pages: Pages,
    /// How many vCPUs.
    pub vcpus: u64,
    /// Where the interrupt controllers are.
    pub irqchip: Irqchip,
    /// An i8254 timer.
    pub pit: bool,
    /// A 16550 at port 0x3f8, interrupt line 4.
    pub serial: bool,
    /// The keyboard controller's reset line, ports 0x60 to 0x64.
    pub i8042: bool,
    /// Exit when the guest locks the bus.
    pub bus_lock: bool,
    /// Exit when the guest keeps interrupts out for longer than so many cycles.
    pub notify_window: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            memory: Some(64 << 20),
            pages: Pages::Host,
            vcpus: 1,
            irqchip: Irqchip::None,
            pit: false,
            serial: false,
            i8042: false,
            bus_lock: false,
            notify_window: None,
        }
    }
}

const SERIAL: u16 = 0x3f8;
const SERIAL_IRQ: u32 = 4;
const KEYBOARD: u16 = 0x60;

impl Machine {
    /// A machine that has not run.
    pub fn new(config: &Config, quirks: Quirks) -> Result<Self> {
        let host = Host::open()?;
        let vcpus = vcpu_count(&host, config.vcpus)?;
        let vm = Arc::new(Vm::new(&host)?);
        report_rare_exits(&vm, config)?;
        let irqchip = make_irqchip(&vm, config)?;
        let memory = Arc::new(Memory::default());
        let source = Source { pages: config.pages, file: None };
        for (at, len) in config.memory.map(layout::ram_ranges).unwrap_or_default() {
            super::memory::add(&vm, &memory, at, len, false, &source)?;
        }
        let vcpu_total = usize::try_from(vcpus).unwrap_or(usize::MAX);
        let cpus = (0..vcpus).map(|id| make_vcpu(&host, &vm, id, irqchip, &quirks)).collect::<Result<_>>()?;
        let mut machine = Self {
            memory,
            hooks: Hooks::default(),
            ports: Bus::default(),
            mmio: Bus::default(),
            cpus,
            serial: None,
            quirks,
            around: OnceLock::new(),
            irqchip,
            lines: Lines::default(),
            ioapic: Weak::new(),
            vm: Mutex::new(Some(Arc::clone(&vm))),
            doorbells: Doorbells::default(),
            zones: Zones::default(),
            points: Points::default(),
            world: World::new(vcpu_total),
            routing: Arc::new(Routing::new(irqchip)),
            filtering: Mutex::default(),
            traps: Traps::default(),
            life: Mutex::new(Life::default()),
            others: Mutex::default(),
            changed: Condvar::new(),
            process: std::process::id(),
        };
        machine.connect_devices(&vm, config)?;
        if Repair::new(&quirks).wants_lstar() {
            machine.filter_msrs()?;
        }
        Ok(machine)
    }

    fn connect_devices(&mut self, vm: &Arc<Vm>, config: &Config) -> Result<()> {
        if self.irqchip == Irqchip::Split {
            let chip = Arc::new(Mutex::new(IoApic::new(Routes(Arc::clone(vm), Arc::clone(&self.routing)))));
            let span = Span::new(ioapic::ADDRESS, ioapic::LENGTH, u64::MAX)?;
            self.ioapic = Arc::downgrade(&chip);
            let shared: SharedDevice = chip;
            self.mmio.insert(span, "ioapic", shared)?;
        }
        if config.serial {
            self.connect_serial(vm)?;
        }
        if config.i8042 {
            self.ports.insert(ports(KEYBOARD, 5)?, "i8042", Arc::new(Mutex::new(I8042::default())))?;
        }
        Ok(())
    }

    fn connect_serial(&mut self, vm: &Vm) -> Result<()> {
        let event = EventFd::new(EFD_NONBLOCK).map_err(|_| Error::last_os("eventfd"))?;
        if self.irqchip != Irqchip::None {
            vm.connect_irq(&event, SERIAL_IRQ)?;
        }
        let console = Console::default();
        let device = Arc::new(Mutex::new(Serial::new(IrqEvent(event), console.clone())));
        self.serial = Some(SerialLine { console, device: Arc::downgrade(&device) });
        let shared: SharedDevice = device;
        self.ports.insert(ports(SERIAL, 8)?, "serial", shared)?;
        Ok(())
    }

    /// Lets go of everything that the kernel or another thread could hold.
    pub(super) fn dismantle(&self) {
        let vm = self.vm.lock().unwrap_or_else(PoisonError::into_inner).take(); // first: who adds a hook looks for it last
        self.hooks.clear();
        self.ports.clear();
        self.mmio.clear();
        self.cpus.iter().for_each(|slot| slot.injections.clear());
        self.doorbells.retire();
        self.zones.clear();
        drop(vm);
    }
}

fn ports(first: u16, len: u64) -> Result<Span> {
    Span::new(u64::from(first), len, u64::from(u16::MAX))
}

fn vcpu_count(host: &Host, asked: u64) -> Result<u32> {
    let max = host.max_vcpus();
    let fits = u32::try_from(asked).ok().filter(|n| *n >= 1 && asked <= max);
    fits.ok_or(Error::VcpuCount { asked, max })
}

/// Exits that not every processor has.
fn report_rare_exits(vm: &Vm, config: &Config) -> Result<()> {
    if config.bus_lock {
        vm.report_bus_locks()?;
    }
    config.notify_window.map_or(Ok(()), |window| vm.report_blocked_interrupts(window))
}

fn make_irqchip(vm: &Vm, config: &Config) -> Result<Irqchip> {
    if config.pit && config.irqchip == Irqchip::None {
        let hint = "pit=True is a timer that interrupts through the PIC: make the VM with irqchip=\"full\"";
        return Err(Error::Invalid(hint.into()));
    }
    vm.create_irqchip(config.irqchip)?;
    if config.pit {
        vm.create_pit().map_err(timer_needs_pic)?;
    }
    Ok(config.irqchip)
}

/// Newer kernels have their timer only beside their PIC, and say ENOENT.
fn timer_needs_pic(error: Error) -> Error {
    match error {
        Error::Host { errno: libc::ENOENT, .. } => Error::Invalid(
            "this kernel has the i8254 timer only with irqchip=\"full\" (KVM_CREATE_PIT2: ENOENT)".into(),
        ),
        other => other,
    }
}

fn make_vcpu(host: &Host, vm: &Vm, id: u32, irqchip: Irqchip, quirks: &Quirks) -> Result<Slot> {
    let kick = Arc::new(Kick::default());
    let vcpu = vm.create_vcpu(id, Arc::clone(&kick))?;
    if irqchip != Irqchip::None {
        vcpu.wire_local_interrupts()?;
    }
    vcpu.set_cpuid(&host.cpuid_for(id, quirks)?)?;
    Ok(Slot::new(
        id,
        kick,
        Cpu {
            vcpu,
            shim: None,
            repair: Repair::new(quirks),
            debug: CpuDebug::default(),
            passed: None,
            trap_changes: 0,
        },
    ))
}

/// Sends what the I/O APIC says to KVM.
#[derive(Debug)]
pub(super) struct Routes(Arc<Vm>, Arc<Routing>);

impl MessageSink for Routes {
    fn route(&mut self, messages: &[(u8, u64, u32)]) {
        let routes: Vec<_> = messages
            .iter()
            .map(|(pin, address, data)| (u32::from(*pin), MsiMessage { address: *address, data: *data }))
            .collect();
        if let Err(error) = self.1.set_pins(&self.0, routes) {
            // Not a guest's doing: KVM takes any address and data.
            log::debug!("interrupt routes: {error}");
        }
    }

    fn send(&mut self, address: u64, data: u32) {
        if let Err(error) = self.0.signal(MsiMessage { address, data }) {
            log::debug!("interrupt message {data:#x} to {address:#x}: {error}");
        }
    }
}
