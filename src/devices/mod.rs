//! Native devices, one per file, each generic over what it is connected to.
//! They never know KVM, the machine or Python.

pub mod console;
pub mod i8042;
pub mod ioapic;
pub mod serial;

pub use console::Console;
pub use i8042::I8042;
pub use ioapic::{IoApic, MessageSink};
pub use serial::Serial;
