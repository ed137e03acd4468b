//! Native devices on their buses, under accesses of any order, place and width; input, interrupt lines and ends of
//! interrupts come in between.
#![no_main]

mod bytes;

use std::sync::{Arc, Mutex};

use belljar::addr::Span;
use belljar::bus::{Bus, SharedDevice, all_ones};
use belljar::devices::{Console, I8042, IoApic, MessageSink, Serial};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

#[derive(Debug)]
struct Line;

impl vm_superio::Trigger for Line {
    type E = std::io::Error;

    fn trigger(&self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Routes;

impl MessageSink for Routes {
    fn route(&mut self, messages: &[(u8, u64, u32)]) {
        assert!(messages.len() <= 24);
    }

    fn send(&mut self, address: u64, data: u32) {
        assert!(address >> 20 == 0xfee && data >> 16 == 0);
    }
}

fuzz_target!(|input: &[u8]| {
    let (bus, console) = (Bus::default(), Console::default());
    let serial = Arc::new(Mutex::new(Serial::new(Line, console.clone())));
    let insert = |first, len, name, device: SharedDevice| {
        bus.insert(Span::new(first, len, u64::MAX).expect("small"), name, device).expect("free");
    };
    insert(0x10, 8, "serial", serial.clone());
    insert(0x18, 5, "i8042", Arc::new(Mutex::new(I8042::default())));
    let ioapic = Arc::new(Mutex::new(IoApic::new(Routes)));
    insert(0x40, 0x20, "ioapic", ioapic.clone());
    let devices = bus.devices();
    let mut bytes = Bytes(input);
    while !bytes.is_empty() {
        let (what, at, size) = (bytes.u8(), u64::from(bytes.u8()), 1 + bytes.u8() % 8);
        match what % 5 {
            0 => drop(devices.write(at, size, bytes.u64() & all_ones(size))),
            1 => assert!(devices.read(at, size).is_none_or(|data| data <= all_ones(size))),
            2 => ioapic.lock().expect("nobody panics").set_pin(bytes.u8() % 24, size > 4),
            3 => ioapic.lock().expect("nobody panics").end_of_interrupt(bytes.u8()),
            _ => {
                console.push_input(bytes.take(usize::from(size)));
                serial.lock().expect("nobody panics").feed();
            }
        }
    }
});
