//! The I/O APIC of the split irqchip: 24 redirection entries that become messages (Intel 82093AA data sheet).
//! It never knows who takes them.

use crate::bus::{Device, Effect};

/// Pins of the chip.
pub const PINS: u8 = 24;
/// Where PCs have it.
pub const ADDRESS: u64 = 0xfec0_0000;
/// How much of the address space it takes.
pub const LENGTH: u64 = 0x100;

const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
const VERSION: u32 = 0x0017_0011;

const MASKED: u64 = 1 << 16;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const READ_ONLY: u64 = 1 << 12 | REMOTE_IRR;

/// Learns where the pins lead: address and data of a message per pin, or none while it is masked.
pub trait MessageSink: Send {
    /// The routes of all pins have changed to these.
    fn route(&mut self, messages: &[(u8, u64, u32)]);

    /// Sends one message: address and data.
    fn send(&mut self, address: u64, data: u32);
}

/// The chip.
#[derive(Debug)]
pub struct IoApic<S> {
    sink: S,
    state: State,
}

/// What the guest can see and a snapshot keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    id: u32,
    select: u32,
    entries: [u64; 24],
    /// Which pins are high.
    high: u32,
}

impl<S: MessageSink> IoApic<S> {
    /// A chip after reset: every pin masked.
    pub fn new(sink: S) -> Self {
        Self { sink, state: State { id: 0, select: 0, entries: [MASKED; 24], high: 0 } }
    }

    /// Sets a pin. A rising edge, or a high level that is not in service, sends the pin's message.
    pub fn set_pin(&mut self, pin: u8, high: bool) {
        let was = self.is_high(pin);
        self.state.high = self.state.high & !(1 << pin) | u32::from(high) << pin;
        if high && (!was || self.state.entries[usize::from(pin)] & LEVEL != 0) {
            self.service(pin);
        }
    }

    /// Is the pin high?
    pub fn is_high(&self, pin: u8) -> bool {
        self.state.high >> pin & 1 != 0
    }

    /// A vCPU has ended the service of level-triggered `vector`: a pin that is still high asks again.
    pub fn end_of_interrupt(&mut self, vector: u8) {
        for pin in 0..PINS {
            let entry = &mut self.state.entries[usize::from(pin)];
            if *entry & LEVEL != 0 && *entry & 0xff == u64::from(vector) && *entry & REMOTE_IRR != 0 {
                *entry &= !REMOTE_IRR;
                if self.is_high(pin) {
                    self.service(pin);
                }
            }
        }
    }

    /// Sends the message of a pin that asks for it, unless it is masked or in service.
    fn service(&mut self, pin: u8) {
        let entry = &mut self.state.entries[usize::from(pin)];
        if *entry & (MASKED | REMOTE_IRR) != 0 {
            return;
        }
        if *entry & LEVEL != 0 {
            *entry |= REMOTE_IRR;
        }
        let (_, address, data) = message(pin, *entry);
        self.sink.send(address, data);
    }

    fn entry(&self) -> Option<(usize, bool)> {
        let index = usize::try_from(self.state.select.checked_sub(0x10)?).ok()?;
        (index / 2 < self.state.entries.len()).then_some((index / 2, index % 2 == 1))
    }

    fn read_register(&self) -> u32 {
        let half = |word: u64, high: bool| u32::try_from(word >> if high { 32 } else { 0 } & 0xffff_ffff).unwrap_or(0);
        match (self.state.select, self.entry()) {
            (0 | 2, _) => self.state.id << 24,
            (1, _) => VERSION,
            (_, Some((pin, high))) => half(self.state.entries[pin], high),
            _ => 0,
        }
    }

    fn write_register(&mut self, value: u32) {
        match (self.state.select, self.entry()) {
            (0, _) => self.state.id = value >> 24 & 0xf,
            (_, Some((pin, high))) => self.write_entry(pin, high, u64::from(value)),
            _ => {}
        }
    }

    fn write_entry(&mut self, pin: usize, high: bool, value: u64) {
        let old = self.state.entries[pin];
        let new = if high { old & 0xffff_ffff | value << 32 } else { old & !0xffff_ffff | value };
        let new = new & !READ_ONLY | old & READ_ONLY;
        // An edge-triggered pin has no interrupt in service to remember.
        self.state.entries[pin] = if new & LEVEL == 0 { new & !REMOTE_IRR } else { new };
        self.publish();
        let is_level = new & LEVEL != 0;
        if let Some(pin) = u8::try_from(pin).ok().filter(|pin| is_level && self.is_high(*pin)) {
            self.service(pin);
        }
    }

    /// A masked pin in service keeps its route: KVM tells the end of the interrupt of routes that it has.
    fn publish(&mut self) {
        let open = (0u8..).zip(self.state.entries).filter(|(_, entry)| entry & MASKED == 0 || entry & REMOTE_IRR != 0);
        let messages: Vec<_> = open.map(|(pin, entry)| message(pin, entry)).collect();
        self.sink.route(&messages);
    }
}

/// The message that a redirection entry stands for (Intel SDM vol. 3, 11.11).
fn message(pin: u8, entry: u64) -> (u8, u64, u32) {
    let (destination, logical) = (entry >> 56 & 0xff, entry >> 11 & 1);
    let (vector, delivery, level) = (entry & 0xff, entry >> 8 & 7, entry >> 15 & 1);
    let data = vector | delivery << 8 | level << 15 | 1 << 14;
    (pin, 0xfee0_0000 | destination << 12 | logical << 2, u32::try_from(data).unwrap_or(0))
}

impl<S: MessageSink> Device for IoApic<S> {
    fn read(&mut self, offset: u64, _: u8) -> u64 {
        u64::from(match offset {
            SELECT => self.state.select,
            WINDOW => self.read_register(),
            _ => 0,
        })
    }

    fn write(&mut self, offset: u64, _: u8, data: u64) -> Effect {
        let value = u32::try_from(data & 0xffff_ffff).unwrap_or(0);
        match offset {
            SELECT => self.state.select = value & 0xff,
            WINDOW => self.write_register(value),
            _ => {}
        }
        Effect::None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Routes(Arc<Mutex<Vec<(u8, u64, u32)>>>);

    impl MessageSink for Routes {
        fn route(&mut self, messages: &[(u8, u64, u32)]) {
            *self.0.lock().expect("not poisoned") = messages.to_vec();
        }

        fn send(&mut self, _: u64, _: u32) {}
    }

    /// What was sent.
    #[derive(Clone, Default)]
    struct Sent(Arc<Mutex<Vec<u32>>>);

    impl MessageSink for Sent {
        fn route(&mut self, _: &[(u8, u64, u32)]) {}

        fn send(&mut self, _: u64, data: u32) {
            self.0.lock().expect("not poisoned").push(data & 0xff);
        }
    }

    impl Sent {
        fn take(&self) -> Vec<u32> {
            std::mem::take(&mut self.0.lock().expect("not poisoned"))
        }
    }

    fn program(chip: &mut IoApic<Sent>, pin: u64, entry: u64) {
        chip.write(SELECT, 4, 0x10 + 2 * pin);
        chip.write(WINDOW, 4, entry);
    }

    #[test]
    fn an_edge_is_sent_once_and_a_masked_one_never() {
        let sent = Sent::default();
        let mut chip = IoApic::new(sent.clone());
        chip.set_pin(5, true);
        chip.set_pin(5, false);
        program(&mut chip, 5, 0x31);
        assert_eq!(sent.take(), [0; 0]);
        chip.set_pin(5, true);
        chip.set_pin(5, true);
        assert_eq!(sent.take(), [0x31]);
        chip.end_of_interrupt(0x31);
        assert_eq!(sent.take(), [0; 0]);
    }

    #[test]
    fn a_level_is_sent_again_after_its_service_for_as_long_as_it_is_high() {
        let sent = Sent::default();
        let mut chip = IoApic::new(sent.clone());
        program(&mut chip, 5, LEVEL | 0x31);
        chip.set_pin(5, true);
        chip.set_pin(5, true);
        assert_eq!(sent.take(), [0x31]);
        chip.end_of_interrupt(0x32);
        assert_eq!(sent.take(), [0; 0]);
        chip.end_of_interrupt(0x31);
        assert_eq!(sent.take(), [0x31]);
        chip.set_pin(5, false);
        chip.end_of_interrupt(0x31);
        assert_eq!(sent.take(), [0; 0]);
    }

    #[test]
    fn a_level_that_waited_behind_a_mask_is_sent_when_it_opens() {
        let sent = Sent::default();
        let mut chip = IoApic::new(sent.clone());
        program(&mut chip, 5, MASKED | LEVEL | 0x31);
        chip.set_pin(5, true);
        assert_eq!(sent.take(), [0; 0]);
        program(&mut chip, 5, LEVEL | 0x31);
        assert_eq!(sent.take(), [0x31]);
    }

    fn write(chip: &mut IoApic<Routes>, register: u64, value: u64) {
        chip.write(SELECT, 4, register);
        chip.write(WINDOW, 4, value);
    }

    #[test]
    fn an_unmasked_pin_becomes_a_message_and_a_masked_one_none() {
        let routes = Routes::default();
        let mut chip = IoApic::new(routes.clone());
        write(&mut chip, 0x10 + 9, 3 << 24);
        write(&mut chip, 0x10 + 8, 0x34);
        assert_eq!(*routes.0.lock().expect("lock"), [(4, 0xfee0_3000, 0x4034)]);
        write(&mut chip, 0x10 + 8, 0x34 | MASKED);
        assert!(routes.0.lock().expect("lock").is_empty());
    }

    #[test]
    fn the_registers_read_back_and_say_how_many_pins_there_are() {
        let mut chip = IoApic::new(Routes::default());
        chip.write(SELECT, 4, 1);
        assert_eq!(chip.read(WINDOW, 4) >> 16 & 0xff, u64::from(PINS) - 1);
        write(&mut chip, 0x10 + 46, 0x55 | READ_ONLY);
        assert_eq!(chip.read(WINDOW, 4), 0x55);
        chip.write(SELECT, 4, 0x10 + 48);
        assert_eq!(chip.read(WINDOW, 4), 0);
    }
}
