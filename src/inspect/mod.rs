//! Understanding a guest that is only read: address spaces, symbols, types, given any `source`.
//! It never writes to one, and never asks whether it is live.

#![cfg_attr(test, allow(clippy::unwrap_used))] // the build without tests is still held to it

pub mod linux;
mod mappings;
pub mod saved;
mod space;
mod walks;

pub use mappings::{Cut, Linear, Mapping, Mappings, Tour};
pub use space::{Poll, VirtualMemory, read_entry};
pub use walks::Walks;

#[cfg(test)]
mod tests;
