//! What gdbstub asks of an architecture, answered from the table of registers. It never asks a vCPU.

use std::fmt::Write;
use std::num::NonZeroUsize;
use std::sync::OnceLock;

use gdbstub::arch::{Arch, RegId, Registers};

use super::registers::{Row, table};

/// A vCPU as gdb sees it: always 64-bit registers, whatever mode it is in.
#[derive(Debug)]
pub enum X86 {}

impl Arch for X86 {
    type Usize = u64;
    type Registers = Packet;
    type BreakpointKind = usize;
    type RegId = Number;
}

/// The registers of one vCPU in gdb's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// One after the other; none for a register that this processor does not have.
    pub bytes: Vec<Option<u8>>,
    /// The instruction pointer.
    pub pc: u64,
}

impl Registers for Packet {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        self.pc
    }

    fn gdb_serialize(&self, write_byte: impl FnMut(Option<u8>)) {
        self.bytes.iter().copied().for_each(write_byte);
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.bytes = bytes.iter().copied().map(Some).collect();
        Ok(())
    }
}

/// A register by its number in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(pub usize);

impl RegId for Number {
    fn from_raw_id(id: usize) -> Option<(Self, Option<NonZeroUsize>)> {
        let row = rows(true).get(id)?;
        Some((Self(id), NonZeroUsize::new(row.size())))
    }

    fn to_raw_id(&self) -> Option<usize> {
        Some(self.0)
    }
}

/// The table, made once.
pub fn rows(avx: bool) -> &'static [Row] {
    static ROWS: OnceLock<(Vec<Row>, usize)> = OnceLock::new();
    let (all, without) = ROWS.get_or_init(|| (table(true), table(false).len()));
    if avx { all } else { &all[..*without] }
}

const FLAGS: &str = r#"<flags id="i386_eflags" size="4"><field name="" start="22" end="31"/><field name="CF" start="0" end="0"/><field name="" start="1" end="1"/><field name="PF" start="2" end="2"/><field name="AF" start="4" end="4"/><field name="ZF" start="6" end="6"/><field name="SF" start="7" end="7"/><field name="TF" start="8" end="8"/><field name="IF" start="9" end="9"/><field name="DF" start="10" end="10"/><field name="OF" start="11" end="11"/><field name="NT" start="14" end="14"/><field name="RF" start="16" end="16"/><field name="VM" start="17" end="17"/><field name="AC" start="18" end="18"/><field name="VIF" start="19" end="19"/><field name="VIP" start="20" end="20"/><field name="ID" start="21" end="21"/></flags>"#;

const VECTORS: &str = r#"<vector id="v4f" type="ieee_single" count="4"/><vector id="v2d" type="ieee_double" count="2"/><vector id="v16i8" type="int8" count="16"/><vector id="v8i16" type="int16" count="8"/><vector id="v4i32" type="int32" count="4"/><vector id="v2i64" type="int64" count="2"/><union id="vec128"><field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/><field name="v16_int8" type="v16i8"/><field name="v8_int16" type="v8i16"/><field name="v4_int32" type="v4i32"/><field name="v2_int64" type="v2i64"/><field name="uint128" type="uint128"/></union><flags id="i386_mxcsr" size="4"><field name="IE" start="0" end="0"/><field name="DE" start="1" end="1"/><field name="ZE" start="2" end="2"/><field name="OE" start="3" end="3"/><field name="UE" start="4" end="4"/><field name="PE" start="5" end="5"/><field name="DAZ" start="6" end="6"/><field name="IM" start="7" end="7"/><field name="DM" start="8" end="8"/><field name="ZM" start="9" end="9"/><field name="OM" start="10" end="10"/><field name="UM" start="11" end="11"/><field name="PM" start="12" end="12"/><field name="FZ" start="15" end="15"/></flags>"#;

/// The types that a feature defines before its registers.
fn types(feature: &str) -> &'static str {
    match feature {
        "org.gnu.gdb.i386.core" => FLAGS,
        "org.gnu.gdb.i386.sse" => VECTORS,
        _ => "",
    }
}

/// The target description: features in order, each with its registers.
pub fn description(avx: bool) -> String {
    let mut xml = String::from(
        "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target><architecture>i386:x86-64</architecture>",
    );
    for (number, feature) in rows(avx).chunk_by(|a, b| a.feature == b.feature).enumerate() {
        let first: usize = rows(avx).chunk_by(|a, b| a.feature == b.feature).take(number).map(<[Row]>::len).sum();
        let name = feature[0].feature;
        let _ = write!(xml, "<feature name=\"{name}\">{}", types(name));
        for (n, row) in feature.iter().enumerate() {
            let (bits, at) = (8 * row.size(), first + n);
            let group = if row.kind == "int" { " group=\"float\"" } else { "" };
            let _ = write!(
                xml,
                "<reg name=\"{}\" bitsize=\"{bits}\" type=\"{}\" regnum=\"{at}\"{group}/>",
                row.name, row.kind
            );
        }
        xml.push_str("</feature>");
    }
    xml.push_str("</target>");
    xml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_places_in_the_table() {
        assert_eq!(Number::from_raw_id(16).map(|(n, size)| (n.0, size)), Some((16, NonZeroUsize::new(8))));
        assert!(Number::from_raw_id(rows(true).len()).is_none());
    }

    #[test]
    fn every_register_of_the_table_is_in_the_description_once() {
        for avx in [false, true] {
            let xml = description(avx);
            for row in rows(avx) {
                assert_eq!(xml.matches(&format!("name=\"{}\"", row.name)).count(), 1, "{}", row.name);
            }
        }
    }
}
