//! The MP table (Intel MultiProcessor Specification 1.4): processors, I/O APIC and how interrupts reach them.
//! It never decides whether a guest gets one.

use crate::boot::layout::{EBDA, MP_POINTER};
use crate::error::{Error, Result};
use crate::memory::Memory;

/// The most processors whose local APIC ids, and the I/O APIC's, fit a byte and are not the broadcast id.
pub const MAX_CPUS: u32 = 254;

const LOCAL_APIC: u32 = 0xfee0_0000;
const IO_APIC: u32 = 0xfec0_0000;
/// The versions that an integrated local APIC and an 82093AA report.
const LOCAL_APIC_VERSION: u8 = 0x14;
const IO_APIC_VERSION: u8 = 0x11;
/// Version 1.4 of the specification.
const REVISION: u8 = 4;
const ISA_BUS: u8 = 0;
const ISA_IRQS: u8 = 16;
/// In a local interrupt: every processor.
const ALL: u8 = 0xff;

const HEADER: usize = 44;

/// Interrupt types (table 4-10).
mod interrupt {
    pub const INT: u8 = 0;
    pub const NMI: u8 = 1;
    pub const EXT_INT: u8 = 3;
}

/// Writes the floating pointer and the table for `cpus` processors, ids from 0 on.
pub fn write(memory: &Memory, cpus: u32) -> Result<()> {
    let table = table(cpus)?;
    memory.write(EBDA, &table)?;
    memory.write(MP_POINTER, &pointer())
}

/// The floating pointer (4.1): 16 bytes that say where the table is.
pub fn pointer() -> [u8; 16] {
    let mut bytes = [0; 16];
    let at = u32::try_from(EBDA.0).expect("the EBDA is below 1 MiB");
    bytes[..4].copy_from_slice(b"_MP_");
    bytes[4..8].copy_from_slice(&at.to_le_bytes());
    bytes[8] = 1; // length in units of 16 bytes
    bytes[9] = REVISION;
    bytes[10] = checksum(&bytes);
    bytes
}

/// The configuration table (4.2, 4.3) for `cpus` processors.
pub fn table(cpus: u32) -> Result<Vec<u8>> {
    let io_apic = u8::try_from(cpus).ok().filter(|n| (1..=MAX_CPUS).contains(&u32::from(*n))).ok_or_else(|| {
        Error::Invalid(format!("an MP table for {cpus} vCPUs; it describes between 1 and {MAX_CPUS}"))
    })?;
    let mut entries: Vec<u8> = (0..io_apic).flat_map(processor).collect();
    entries.extend([1, ISA_BUS]);
    entries.extend(b"ISA   ");
    entries.extend([2, io_apic, IO_APIC_VERSION, 1]);
    entries.extend(IO_APIC.to_le_bytes());
    // Identity: the in-kernel PIT raises GSI 0, so IRQ 0 is on pin 0 and not on pin 2 as on a PC.
    entries.extend((0..ISA_IRQS).flat_map(|irq| [3, interrupt::INT, 0, 0, ISA_BUS, irq, io_apic, irq]));
    entries.extend([4, interrupt::EXT_INT, 0, 0, ISA_BUS, 0, 0, 0]);
    entries.extend([4, interrupt::NMI, 0, 0, ISA_BUS, 0, ALL, 1]);
    let count = u16::from(io_apic) + 1 + 1 + u16::from(ISA_IRQS) + 2;
    Ok(with_header(&entries, count))
}

/// A processor entry; the one with id 0 boots.
fn processor(id: u8) -> [u8; 20] {
    let mut entry = [0; 20];
    let flags = if id == 0 { 0b11 } else { 0b01 }; // enabled, and the bootstrap processor
    entry[1..4].copy_from_slice(&[id, LOCAL_APIC_VERSION, flags]);
    entry
}

fn with_header(entries: &[u8], count: u16) -> Vec<u8> {
    let len = u16::try_from(HEADER + entries.len()).expect("254 processors take 5,284 bytes");
    let mut table = Vec::with_capacity(HEADER + entries.len());
    table.extend(b"PCMP");
    table.extend(len.to_le_bytes());
    table.extend([REVISION, 0]);
    table.extend(b"BELLJAR GUEST       "); // OEM id (8), product id (12)
    table.extend([0; 6]); // no OEM table
    table.extend(count.to_le_bytes());
    table.extend(LOCAL_APIC.to_le_bytes());
    table.extend([0; 4]); // no extended table
    table.extend(entries);
    table[7] = checksum(&table);
    table
}

/// The byte that makes the sum of all zero, while its own place is zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::samples::memory;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn a_kernel_finds_the_table_through_the_pointer() {
        let memory = memory(0x10_0000);
        write(&memory, 2).unwrap();
        let pointer = memory.read_vec(MP_POINTER, 16).unwrap();
        assert_eq!((&pointer[..4], sum(&pointer)), (&b"_MP_"[..], 0));
        assert_eq!(pointer[4..8], 0x9_fc00u32.to_le_bytes());
        let header = memory.read_vec(EBDA, HEADER).unwrap();
        let len = u16::from_le_bytes([header[4], header[5]]);
        let table = memory.read_vec(EBDA, len.into()).unwrap();
        assert_eq!((&table[..4], sum(&table)), (&b"PCMP"[..], 0));
        assert_eq!(table[36..40], 0xfee0_0000u32.to_le_bytes());
    }

    #[test]
    fn the_count_is_that_of_the_entries() {
        for cpus in [1, 2, 41, 254] {
            let table = table(cpus).unwrap();
            let (mut at, mut kinds) = (HEADER, [0u32; 5]);
            while at < table.len() {
                kinds[usize::from(table[at])] += 1;
                at += if table[at] == 0 { 20 } else { 8 };
            }
            assert_eq!((at, kinds), (table.len(), [cpus, 1, 1, 16, 2]));
            assert_eq!(u32::from(u16::from_le_bytes([table[34], table[35]])), kinds.iter().sum::<u32>());
        }
    }

    #[test]
    fn only_the_first_processor_boots() {
        let table = table(2).unwrap();
        assert_eq!(table[HEADER..HEADER + 4], [0, 0, 0x14, 3]);
        assert_eq!(table[HEADER + 20..HEADER + 24], [0, 1, 0x14, 1]);
        let io_apic = &table[HEADER + 48..HEADER + 56];
        assert_eq!(io_apic, [2, 2, 0x11, 1, 0, 0, 0xc0, 0xfe]);
    }

    #[test]
    fn a_table_that_cannot_be_is_refused() {
        assert!(table(0).is_err());
        assert!(table(255).is_err());
        assert!(table(u32::MAX).is_err());
        assert!(write(&memory(0x1000), 1).is_err());
    }
}
