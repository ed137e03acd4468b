//! A 16550 serial port: vm-superio's registers between a bus and a [`Console`].
//! It never waits: input that does not fit the FIFO stays with the console until the guest has read.

use std::fmt::Debug;

use vm_superio::Trigger;
use vm_superio::serial::NoEvents;

use super::Console;
use crate::bus::{Device, Effect};

/// The offset of the data register.
const DATA: u64 = 0;

/// The serial port, whose interrupt goes to `T`.
#[derive(Debug)]
pub struct Serial<T: Trigger + Debug> {
    console: Console,
    uart: vm_superio::Serial<T, NoEvents, Console>,
}

impl<T: Trigger + Debug> Serial<T> {
    /// A serial port that prints to and reads from `console`.
    pub fn new(line: T, console: Console) -> Self {
        Self { uart: vm_superio::Serial::new(line, console.clone()), console }
    }

    /// Has the guest asked to be interrupted when input comes? A kernel asks once somebody reads the line.
    pub fn is_listening(&self) -> bool {
        self.uart.state().interrupt_enable & 1 != 0
    }

    /// Moves waiting input into the FIFO, as far as it fits.
    pub fn feed(&mut self) {
        let input = self.console.take_input(self.uart.fifo_capacity());
        if !input.is_empty() {
            // A lost interrupt is the only possible failure: the guest finds the data when it looks.
            let _ = self.uart.enqueue_raw_bytes(&input);
        }
    }
}

impl<T: Trigger + Debug + Send> Device for Serial<T> {
    fn read(&mut self, offset: u64, size: u8) -> u64 {
        if size != 1 {
            return crate::bus::all_ones(size);
        }
        let value = self.uart.read(u8::try_from(offset).unwrap_or(u8::MAX));
        if offset == DATA {
            self.feed();
        }
        u64::from(value)
    }

    fn write(&mut self, offset: u64, size: u8, data: u64) -> Effect {
        for (n, byte) in (0u8..).zip(data.to_le_bytes().into_iter().take(usize::from(size))) {
            let offset = u8::try_from(offset).unwrap_or(u8::MAX).saturating_add(n);
            // As above; the console itself never fails.
            let _ = self.uart.write(offset, byte);
        }
        Effect::None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[derive(Clone, Debug, Default)]
    struct Line(Arc<AtomicUsize>);

    impl Trigger for Line {
        type E = std::io::Error;

        fn trigger(&self) -> Result<(), Self::E> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    #[test]
    fn what_the_guest_writes_reaches_the_console() {
        let console = Console::default();
        let mut serial = Serial::new(Line::default(), console.clone());
        for byte in b"hi" {
            serial.write(DATA, 1, u64::from(*byte));
        }
        assert_eq!(console.read(Duration::ZERO), b"hi");
    }

    #[test]
    fn more_input_than_the_fifo_holds_arrives_in_order_and_interrupts() {
        let (console, line) = (Console::default(), Line::default());
        let mut serial = Serial::new(line.clone(), console.clone());
        serial.write(1, 1, 1); // IER: received data
        let sent: Vec<u8> = (0..200).collect();
        console.push_input(&sent);
        serial.feed();
        let got: Vec<u8> = (0..200).map(|_| u8::try_from(serial.read(DATA, 1)).expect("a byte")).collect();
        assert_eq!(got, sent);
        assert!(line.0.load(Ordering::SeqCst) > 0);
    }

    #[test]
    fn a_wide_read_finds_nobody() {
        let mut serial = Serial::new(Line::default(), Console::default());
        assert_eq!(serial.read(DATA, 2), 0xffff);
    }
}
