//! The keyboard controller's reset line, through vm-superio. It never has a keyboard.

use std::cell::Cell;
use std::convert::Infallible;

use vm_superio::{I8042Device, Trigger};

use crate::bus::{Device, Effect};

#[derive(Debug, Default)]
struct ResetLine(Cell<bool>);

impl Trigger for ResetLine {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.set(true);
        Ok(())
    }
}

/// The controller, for ports 0x60 to 0x64.
#[derive(Debug)]
pub struct I8042 {
    controller: I8042Device<ResetLine>,
}

impl Default for I8042 {
    fn default() -> Self {
        Self { controller: I8042Device::new(ResetLine::default()) }
    }
}

impl Device for I8042 {
    fn read(&mut self, offset: u64, _: u8) -> u64 {
        u64::from(self.controller.read(u8::try_from(offset).unwrap_or(u8::MAX)))
    }

    fn write(&mut self, offset: u64, _: u8, data: u64) -> Effect {
        let (Ok(offset), Ok(byte)) = (u8::try_from(offset), u8::try_from(data & 0xff)) else { return Effect::None };
        let Ok(()) = self.controller.write(offset, byte);
        if self.controller.reset_evt().0.take() { Effect::Reset } else { Effect::None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_reset_command_resets() {
        let mut i8042 = I8042::default();
        assert_eq!(i8042.write(4, 1, 0xfe), Effect::Reset);
        assert_eq!(i8042.write(4, 1, 0xd1), Effect::None);
        assert_eq!(i8042.write(0, 1, 0xfe), Effect::None);
    }
}
