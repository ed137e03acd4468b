//! belljar: a whole KVM machine (VM, vCPUs, memory, devices) in Python's hands, on an unpatched kernel.
//!
//! ```text
//!   python/                       the only place that knows Python
//!   gdb/                          GDB's remote protocol, spoken for a machine
//!   machine/                      owns a machine and runs it
//!   debug/   inspect/             what is planted in a guest and why | understanding one that is only read
//!   boot/    kvm/    devices/     put a guest into memory | the kernel's KVM | native devices
//!   bus      hook/   memory/      devices by address | who may answer first | guest RAM
//!   exit     source               the values that all layers speak
//!   x86/     addr    error        the architecture, addresses, what can go wrong
//! ```
//!
//! Imports run downwards only; `tests/unit/test_layers.py` holds them to it.

pub mod error;
pub mod glob;
pub mod addr;
pub mod x86;
pub mod exit;
pub mod source;
pub mod memory;
pub mod bus;
pub mod hook;
pub mod devices;
pub mod kvm;
pub mod boot;
pub mod inspect;
pub mod debug;
pub mod machine;
pub mod gdb;

#[cfg(feature = "python")]
mod python;
