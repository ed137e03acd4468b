//! Interrupts from outside: lines, messages, and what is injected into one vCPU.
//! They never wait for the guest: what it cannot take yet is kept until it can.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::devices::ioapic::PINS;
use crate::error::{Error, Result};
use crate::kvm::{Irqchip, MsiMessage};
use crate::x86::{cr0, exception};

use super::Machine;

/// Most interrupts that wait for one vCPU: more than that is a guest that never takes any.
const MOST_WAITING: usize = 1024;

/// The destination of a message has eight bits, and 255 is every processor.
const MOST_APIC_ID: u32 = 254;

/// What waits to be injected into one vCPU, from any thread.
#[derive(Debug, Default)]
pub struct Injections {
    some: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    interrupts: VecDeque<u8>,
    nmi: bool,
    /// KVM has an NMI already that came since the last entry, and which ends a HLT.
    has_given_nmi: bool,
}

impl Injections {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does anything wait? One load, for the run loop.
    pub(super) fn are_waiting(&self) -> bool {
        self.some.load(Ordering::Acquire)
    }

    fn change<T>(&self, how: impl FnOnce(&mut Waiting) -> T) -> T {
        let mut waiting = self.waiting();
        let result = how(&mut waiting);
        self.some.store(waiting.nmi || waiting.has_given_nmi || !waiting.interrupts.is_empty(), Ordering::Release);
        result
    }

    pub(super) fn has_interrupts(&self) -> bool {
        !self.waiting().interrupts.is_empty()
    }

    pub(super) fn has_nmi(&self) -> bool {
        let waiting = self.waiting();
        waiting.nmi || waiting.has_given_nmi
    }

    pub(super) fn next_interrupt(&self) -> Option<u8> {
        self.change(|waiting| waiting.interrupts.pop_front())
    }

    pub(super) fn take_nmi(&self) -> bool {
        self.change(|waiting| {
            waiting.has_given_nmi = false;
            std::mem::take(&mut waiting.nmi)
        })
    }

    /// The vectors that wait, the next one first, and whether an NMI does.
    pub fn list(&self) -> (Vec<u8>, bool) {
        let waiting = self.waiting();
        (waiting.interrupts.iter().copied().collect(), waiting.nmi)
    }

    /// Forgets what waits.
    pub(super) fn clear(&self) {
        self.change(|waiting| *waiting = Waiting::default());
    }
}

/// The levels of the interrupt lines.
#[derive(Debug, Default)]
pub(super) struct Lines(Mutex<u32>);

impl Lines {
    fn levels(&self) -> MutexGuard<'_, u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine {
    /// Interrupts vCPU `id` with `vector` as soon as it takes interrupts. From any thread, running or not. False if its
    /// local APIC does not take it.
    pub fn inject_interrupt(&self, id: u32, vector: u8) -> Result<bool> {
        let slot = self.cpu(id)?;
        if self.irqchip != Irqchip::None {
            if vector < 16 {
                return Err(Error::Invalid(format!(
                    "a local APIC delivers vectors from 16 on, not {vector} (Intel SDM vol. 3, 11.5.2)"
                )));
            }
            if id > MOST_APIC_ID {
                return Err(Error::Invalid(format!(
                    "a message names vCPUs 0 to {MOST_APIC_ID}, not {id}: 255 is all of them (Intel SDM vol. 3, 11.11.1)"
                )));
            }
            let address = 0xfee0_0000 | u64::from(id) << 12;
            return self.signal(MsiMessage { address, data: u32::from(vector) });
        }
        self.vm()?;
        let queued = slot.injections.change(|waiting| {
            let fits = waiting.interrupts.len() < MOST_WAITING;
            fits.then(|| waiting.interrupts.push_back(vector))
        });
        queued.ok_or_else(|| {
            Error::Invalid(format!("{MOST_WAITING} interrupts wait for vCPU {id} already: it takes none"))
        })?;
        slot.kick.kick();
        Ok(true)
    }

    /// Sends vCPU `id` a non-maskable interrupt: at once where nobody else runs it, else at its next entry.
    pub fn inject_nmi(&self, id: u32) -> Result<()> {
        self.vm()?;
        let slot = self.cpu(id)?;
        match slot.with(|cpu| cpu.vcpu.nmi()) {
            Err(Error::Running { .. }) => {}
            done => return done.map(|()| slot.injections.change(|waiting| waiting.has_given_nmi = true)),
        }
        slot.injections.change(|waiting| waiting.nmi = true);
        slot.kick.kick();
        Ok(())
    }

    /// Has a stopped vCPU take exception `vector` before its next instruction; `cr2` is for #PF.
    pub fn inject_exception(&self, id: u32, vector: u8, error_code: Option<u32>, cr2: Option<u64>) -> Result<()> {
        let takes_code = exception::has_error_code(vector);
        match () {
            () if vector == exception::NMI => {
                return Err(Error::Invalid("2 is the NMI: inject_nmi()".into()));
            }
            () if vector > 31 => {
                return Err(Error::Invalid(format!(
                    "exceptions are 0 to 31; {vector} is an interrupt: inject_interrupt({vector})"
                )));
            }
            () if error_code.is_some() && !takes_code => {
                return Err(Error::Invalid(format!("exception {vector} has no error code (Intel SDM vol. 3, 6.13)")));
            }
            () if cr2.is_some() && vector != exception::PAGE_FAULT => {
                return Err(Error::Invalid(format!("cr2 is for page faults (vector 14), not for exception {vector}")));
            }
            () => {}
        }
        self.cpu(id)?.with(|cpu| {
            let mut events = cpu.vcpu.events()?;
            if let Some(first) = events.exception() {
                return Err(Error::Invalid(format!("exception {first} is on its way into vCPU {id} already")));
            }
            let mut sregs = cpu.vcpu.sregs()?;
            // Real mode pushes no error codes.
            let code = (takes_code && sregs.cr0 & cr0::PE != 0).then_some(error_code.unwrap_or(0));
            events.inject(vector, code);
            cpu.vcpu.set_events(&events);
            if let Some(address) = cr2 {
                sregs.cr2 = address;
                cpu.vcpu.set_sregs(&sregs);
            }
            Ok(())
        })
    }

    /// Sends a message-signalled interrupt; false if no vCPU took it.
    pub fn signal(&self, message: MsiMessage) -> Result<bool> {
        self.needs_irqchip()?;
        self.vm()?.signal(message)
    }

    /// Sets interrupt line `line` (GSI) high or low.
    pub fn set_line(&self, line: u8, high: bool) -> Result<()> {
        self.check_line(line)?;
        let vm = self.vm()?;
        let mut levels = self.lines.levels(); // held until the controllers know: two threads at one line take turns
        *levels = *levels & !(1 << line) | u32::from(high) << line;
        if let Some(chip) = self.ioapic.upgrade() {
            chip.lock().unwrap_or_else(PoisonError::into_inner).set_pin(line, high);
            return Ok(());
        }
        vm.set_irq_line(u32::from(line), high)
    }

    /// Is interrupt line `line` high?
    pub fn line(&self, line: u8) -> Result<bool> {
        self.check_line(line)?;
        Ok(*self.lines.levels() >> line & 1 != 0)
    }

    /// Is there an interrupt line of that number?
    pub fn check_line(&self, line: u8) -> Result<()> {
        self.needs_irqchip()?;
        let fits = (line < PINS).then_some(());
        fits.ok_or_else(|| Error::Invalid(format!("interrupt lines are 0 to {}, not {line}", PINS - 1)))
    }

    pub(super) fn needs_irqchip(&self) -> Result<()> {
        if self.irqchip == Irqchip::None {
            return Err(Error::Invalid(
                "this VM has no interrupt controller: make it with irqchip=\"split\" or \"full\", or use cpu.inject_interrupt(vector)"
                    .into(),
            ));
        }
        Ok(())
    }

    /// A local APIC has ended the service of a level-triggered interrupt.
    pub(super) fn end_of_interrupt(&self, vector: u8) {
        if let Some(chip) = self.ioapic.upgrade() {
            chip.lock().unwrap_or_else(PoisonError::into_inner).end_of_interrupt(vector);
        }
    }
}
