//! Accesses to ports, addresses and MSRs as Python values. They never refer to a machine.

use std::fmt::Write as _;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use super::{Exit, Show, exit_class, same};

exit_class! {
    /// The guest reads an I/O port; a handler's integer is what it gets.
    PortIn {
        /// Port number, 0 to 0xffff.
        port: u16,
        /// Bytes: 1, 2 or 4.
        size: u8,
    }
}
exit_class! {
    /// The guest writes an I/O port.
    PortOut {
        /// Port number, 0 to 0xffff.
        port: u16,
        /// Bytes: 1, 2 or 4.
        size: u8,
        /// What is written, zero-extended.
        data: u32,
    }
}
exit_class! {
    /// The guest reads several elements from an I/O port into memory (REP INS): offered whole, then one by one.
    ///
    /// A handler's bytes are the data, `size * count` of them; an integer is what each element gets.
    PortStringIn {
        /// Port number, 0 to 0xffff.
        port: u16,
        /// Bytes of one element: 1, 2 or 4.
        size: u8,
        /// Elements; KVM hands a long string over in parts.
        count: u32,
    }
}
exit_class! {
    /// The guest writes several elements of memory to an I/O port (REP OUTS): offered whole, then one by one.
    PortStringOut {
        /// Port number, 0 to 0xffff.
        port: u16,
        /// Bytes of one element: 1, 2 or 4.
        size: u8,
        /// Elements; KVM hands a long string over in parts.
        count: u32,
        /// All elements in order, `size * count` bytes.
        data: Vec<u8>,
    }
}
exit_class! {
    /// The guest reads a guest-physical address that no memory backs.
    MmioRead {
        /// First byte, guest-physical.
        address: u64,
        /// Bytes: 1 to 8.
        size: u8,
    }
}
exit_class! {
    /// The guest writes a guest-physical address that no memory backs, or ROM.
    MmioWrite {
        /// First byte, guest-physical.
        address: u64,
        /// Bytes: 1 to 8.
        size: u8,
        /// What is written, little-endian, zero-extended.
        data: u64,
    }
}
exit_class! {
    /// The guest reads an MSR that a handler watches (reason "filter"), or that KVM does not have ("unknown", "invalid").
    MsrRead {
        /// MSR number.
        index: u32,
        /// "filter", "unknown" or "invalid".
        reason: String,
    }
}
exit_class! {
    /// The guest writes an MSR that a handler watches (reason "filter"), or that KVM refuses ("unknown", "invalid").
    MsrWrite {
        /// MSR number.
        index: u32,
        /// What is written.
        data: u64,
        /// "filter", "unknown" or "invalid".
        reason: String,
    }
}
