//! ACPI tables for kernels that read no MP table: processors, I/O APIC, serial port (ACPI specification 6.5, chapter 5).
//! They never describe power management: the platform is "hardware-reduced", and what is not there is said not to be.

use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, AmlSink, aml};

use crate::addr::GuestPhys;
use crate::error::{Error, Result};

const OEM: [u8; 6] = *b"BELLJR";
const TABLE: [u8; 8] = *b"BELLJAR ";
const REVISION: u32 = 1;

const LOCAL_APIC: u32 = 0xfee0_0000;
const IO_APIC: u32 = 0xfec0_0000;
const SERIAL_PORT: u16 = 0x3f8;
const SERIAL_INTERRUPT: u32 = 4;

// IAPC_BOOT_ARCH: there is a keyboard controller; there is neither VGA nor a CMOS clock.
const HAS_8042: u16 = 1 << 1;
const NO_VGA: u16 = 1 << 2;
const NO_CMOS_CLOCK: u16 = 1 << 5;

/// All tables in one piece for address `at` (a multiple of 16), the root pointer first.
pub fn tables(at: GuestPhys, cpus: u32) -> Result<Vec<u8>> {
    let mut piece = Piece { at, bytes: vec![0; 64] }; // room for the root pointer
    let dsdt = piece.add(&Bytes(dsdt()))?;
    let fadt = piece.add(&fadt(dsdt))?;
    let madt = piece.add(&madt(cpus)?)?;
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = piece.add(&xsdt)?;
    let root = bytes(&Rsdp::new(OEM, xsdt));
    piece.bytes[..root.len()].copy_from_slice(&root);
    Ok(piece.bytes)
}

/// Tables one after the other, each at a multiple of 16.
struct Piece {
    at: GuestPhys,
    bytes: Vec<u8>,
}

impl Piece {
    /// Appends a table; says where it will be.
    fn add(&mut self, table: &dyn Aml) -> Result<u64> {
        self.bytes.resize(self.bytes.len().next_multiple_of(16), 0);
        let at = self.at.plus(u64::try_from(self.bytes.len()).unwrap_or(u64::MAX))?;
        self.bytes.extend(bytes(table));
        Ok(at.0)
    }
}

/// A table that is bytes already.
struct Bytes(Vec<u8>);

impl Aml for Bytes {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut found = Vec::new();
    table.to_aml_bytes(&mut found);
    found
}

fn fadt(dsdt: u64) -> impl Aml {
    let mut fadt = FADTBuilder::new(OEM, TABLE, REVISION).dsdt_64(dsdt).flag(Flags::HwReducedAcpi);
    fadt.iapc_boot_arch = (HAS_8042 | NO_VGA | NO_CMOS_CLOCK).into();
    fadt.finalize()
}

fn madt(cpus: u32) -> Result<MADT> {
    let mut madt = MADT::new(OEM, TABLE, REVISION, LocalInterruptController::Address(LOCAL_APIC));
    for cpu in 0..cpus {
        let id = u8::try_from(cpu).ok().filter(|id| *id < u8::MAX);
        let id =
            id.ok_or_else(|| Error::Invalid(format!("{cpus} vCPUs; the MADT's local APICs have ids up to 254")))?;
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    let id = u8::try_from(cpus).unwrap_or(u8::MAX);
    madt.add_structure(IoApic::new(id, IO_APIC, 0));
    Ok(madt)
}

/// The one device that a kernel cannot find by itself: the serial port, with its edge-triggered interrupt.
fn dsdt() -> Vec<u8> {
    let mut code = Vec::new();
    let resources = aml::ResourceTemplate::new(vec![
        &aml::IO::new(SERIAL_PORT, SERIAL_PORT, 1, 8),
        &aml::Interrupt::new(true, true, false, false, SERIAL_INTERRUPT),
    ])
    .to_bytes();
    let serial = aml::Device::new(
        "COM1".into(),
        vec![
            &aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0501")),
            &aml::Name::new("_UID".into(), &aml::ZERO),
            &aml::Name::new("_CRS".into(), &Bytes(resources)),
        ],
    )
    .to_bytes();
    aml::Scope::new("_SB_".into(), vec![&Bytes(serial)]).to_aml_bytes(&mut code);
    let mut table = Sdt::new(*b"DSDT", 36, 6, OEM, TABLE, REVISION);
    table.append_slice(&code);
    table.as_slice().to_vec()
}

/// An object's bytes, kept so that it may be nested.
trait ToBytes: Aml {
    fn to_bytes(&self) -> Vec<u8>;
}

impl<T: Aml> ToBytes for T {
    fn to_bytes(&self) -> Vec<u8> {
        bytes(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: GuestPhys = GuestPhys(0xe_0000);

    fn word(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    fn table(all: &[u8], address: u64) -> &[u8] {
        let at = usize::try_from(address - AT.0).unwrap();
        let length = u32::from_le_bytes(all[at + 4..at + 8].try_into().unwrap());
        &all[at..at + usize::try_from(length).unwrap()]
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn every_table_is_reached_from_the_root_and_sums_to_zero() {
        let all = tables(AT, 2).unwrap();
        assert_eq!(&all[..8], b"RSD PTR ");
        assert_eq!((sum(&all[..20]), sum(&all[..36])), (0, 0));
        let xsdt = table(&all, word(&all, 24));
        let (fadt, madt) = (table(&all, word(xsdt, 36)), table(&all, word(xsdt, 44)));
        let dsdt = table(&all, word(fadt, 140));
        for (table, name) in [(xsdt, b"XSDT"), (fadt, b"FACP"), (madt, b"APIC"), (dsdt, b"DSDT")] {
            assert_eq!((&table[..4], sum(table)), (&name[..], 0));
        }
        let locals = madt[44..].chunks(8).take(2).map(|entry| (entry[0], entry[3]));
        assert_eq!(locals.collect::<Vec<_>>(), [(0, 0), (0, 1)]);
        assert!(dsdt.windows(4).any(|w| w == b"COM1"));
    }

    #[test]
    fn more_processors_than_ids_are_refused() {
        assert!(tables(AT, 255).is_ok());
        assert!(tables(AT, 256).is_err());
    }
}
