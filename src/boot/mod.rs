//! Puts a guest into memory and says in which state its vCPU begins: bare code, ELF, Multiboot, Linux.
//! It never touches a vCPU and never runs anything.

#![cfg_attr(test, allow(clippy::unwrap_used))] // the build without tests is still held to it

pub mod layout;
pub mod start;
pub mod acpi;
pub mod bare;
pub mod paging;

pub mod image;
pub mod bzimage;
pub mod linux;
pub mod pvh;
pub mod multiboot;
pub mod plain;
pub mod elf;
pub mod symbols;
pub mod mptable;
mod e820;
mod handover;
mod room;

#[cfg(test)]
mod samples;
