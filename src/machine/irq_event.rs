//! Events that interrupt the guest when somebody writes them, and where KVM's interrupt lines lead.
//! Nothing here runs when one is written: KVM does it all.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::devices::ioapic::PINS;
use crate::error::{Error, Result};
use crate::kvm::{Irqchip, MsiMessage, Vm};

use super::Machine;

/// An event that interrupts the guest.
#[derive(Debug)]
pub struct InterruptEvent {
    event: EventFd,
    gsi: u32,
    is_removed: AtomicBool,
}

impl InterruptEvent {
    /// The descriptor of the event. It lives as long as this does.
    pub fn descriptor(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// Interrupts the guest.
    pub fn trigger(&self) -> Result<()> {
        if self.is_removed() {
            return Err(Error::Invalid("this event has been removed: no guest is interrupted by it any more".into()));
        }
        self.event.write(1).map_err(|e| Error::Host { what: "write(eventfd)", errno: e.raw_os_error().unwrap_or(0) })
    }

    /// Is it connected no more?
    pub fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::SeqCst)
    }
}

#[derive(Debug, Default)]
struct Table {
    /// Where the pins of the I/O APIC in user space lead.
    pins: Vec<(u32, MsiMessage)>,
    /// Lines of our own, beyond all pins, that are messages.
    messages: BTreeMap<u32, MsiMessage>,
}

/// Where the interrupt lines of a VM lead. KVM takes them all at once.
#[derive(Debug)]
pub(super) struct Routing {
    irqchip: Irqchip,
    table: Mutex<Table>,
}

/// KVM_MAX_IRQ_ROUTES is 4096, of which a full irqchip has 40.
const MOST_MESSAGES: usize = 1024;

impl Routing {
    pub(super) fn new(irqchip: Irqchip) -> Self {
        Self { irqchip, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, vm: &Vm, table: &Table) -> Result<()> {
        let messages = table.messages.iter().map(|(gsi, message)| (*gsi, *message));
        let routes: Vec<_> = table.pins.iter().copied().chain(messages).collect();
        vm.route(self.irqchip, &routes)
    }

    /// The pins of the I/O APIC lead there from now on.
    pub(super) fn set_pins(&self, vm: &Vm, pins: Vec<(u32, MsiMessage)>) -> Result<()> {
        let mut table = self.table();
        table.pins = pins;
        self.publish(vm, &table)
    }

    /// A line that is `message`.
    fn add(&self, vm: &Vm, message: MsiMessage) -> Result<u32> {
        let mut table = self.table();
        let most = u32::try_from(MOST_MESSAGES).unwrap_or(0);
        let free = (0..most).map(|n| u32::from(PINS) + n).find(|gsi| !table.messages.contains_key(gsi));
        let gsi = free.ok_or_else(|| Error::Invalid(format!("{MOST_MESSAGES} messages have events already")))?;
        table.messages.insert(gsi, message);
        let published = self.publish(vm, &table);
        if published.is_err() {
            table.messages.remove(&gsi);
        }
        published.map(|()| gsi)
    }

    /// Takes the line away, if it is one that `add` made.
    fn remove(&self, vm: &Vm, gsi: u32) -> Result<()> {
        let mut table = self.table();
        if table.messages.remove(&gsi).is_some() { self.publish(vm, &table) } else { Ok(()) }
    }
}

impl Machine {
    /// An event whose every write is an edge on interrupt line `line`.
    pub fn line_event(&self, line: u8) -> Result<InterruptEvent> {
        self.check_line(line)?;
        self.connect(u32::from(line))
    }

    /// An event whose every write sends `message`.
    pub fn message_event(&self, message: MsiMessage) -> Result<InterruptEvent> {
        self.needs_irqchip()?;
        let vm = self.vm()?;
        let gsi = self.routing.add(&vm, message)?;
        self.connect(gsi).inspect_err(|_| drop(self.routing.remove(&vm, gsi)))
    }

    fn connect(&self, gsi: u32) -> Result<InterruptEvent> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(|_| Error::last_os("eventfd"))?;
        self.vm()?.connect_irq(&event, gsi)?;
        Ok(InterruptEvent { event, gsi, is_removed: AtomicBool::new(false) })
    }

    /// Writes to `event` interrupt nobody any more. Does nothing if that has been done.
    pub fn remove_event(&self, event: &InterruptEvent) -> Result<()> {
        let Some(vm) = self.own_vm() else { return Ok(()) };
        if event.is_removed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        vm.disconnect_irq(&event.event, event.gsi)?;
        self.routing.remove(&vm, event.gsi)
    }
}
