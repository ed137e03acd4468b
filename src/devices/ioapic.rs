//! The I/O APIC of the split irqchip: 24 redirection entries that become messages (Intel 82093AA data sheet).
//! It never delivers an interrupt; who wires a pin asks the sink.

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
}

impl<S: MessageSink> IoApic<S> {
    /// A chip after reset: every pin masked.
    pub fn new(sink: S) -> Self {
        Self { sink, state: State { id: 0, select: 0, entries: [MASKED; 24] } }
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
    }

    fn publish(&mut self) {
        let open = (0u8..).zip(self.state.entries).filter(|(_, entry)| entry & MASKED == 0);
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
