//! A made-up vCPU for tests and fuzzing of repaired instructions, and one instruction of any bytes on it.
//! It is never part of a build that runs guests, and needs no KVM.

use iced_x86::{Decoder, DecoderOptions};

use super::instruction::execute;
use super::ring0::Ring0;
use super::simple;
use crate::addr::{GuestPhys, PAGE};
use crate::boot::paging::PageTables;
use crate::boot::start::{Start, flat_gdt};
use crate::memory::Memory;
use crate::x86::{Regs, Sregs};

pub(super) const CODE: u64 = 0x1000;
pub(super) const GDT: u64 = 0x8000;
pub(super) const READ_ONLY: u64 = 0x5000;
pub(super) const ABSENT: u64 = 0x60_0000;

/// 64-bit ring 0 with 2 MiB of RAM, mapped to itself but for one page that is read-only; RAM ends before the map does.
pub(super) fn long() -> (Memory, Regs, Sregs) {
    let memory = Memory::default();
    memory.add(GuestPhys(0), 2 << 20, false, |_, _| Ok(())).expect("RAM");
    memory.add(GuestPhys(0x40_0000), PAGE, true, |_, _| Ok(())).expect("ROM");
    let mut tables = PageTables::new(&memory, GuestPhys(0x10_0000), GuestPhys(0x14_0000)).expect("room");
    tables.identity(ABSENT, 0).expect("room");
    tables.protect(GuestPhys(READ_ONLY), GuestPhys(READ_ONLY + PAGE), 0).expect("mapped");
    let start = Start::long(&Sregs::default(), GuestPhys(CODE), GuestPhys(0x9000), tables.root(), GuestPhys(GDT));
    for (n, word) in (0..).zip(flat_gdt(true)) {
        memory.write(GuestPhys(GDT + n * 8), &word.to_le_bytes()).expect("RAM");
    }
    (memory, start.regs, start.sregs)
}

/// Executes the instruction that `code` begins with, with `words` as registers, in one of four modes (real, 32 bits
/// without paging, 32 and 64 bits with it), with the IDT and GDT at `tables` and the bits of `cr4` turned over.
pub fn instruction(code: &[u8], words: [u64; Regs::COUNT], mode: u8, tables: [u64; 2], cr4: u64) {
    let (memory, mut regs, mut sregs) = long();
    regs.words = words;
    sregs.cr4 ^= cr4 & !(1 << 5 | 1 << 12);
    (sregs.idt.base, sregs.gdt.base) = (tables[0], tables[1]);
    (sregs.idt.limit, sregs.gdt.limit, sregs.fs.base) = (0xffff, 0xffff, tables[0]);
    match mode % 4 {
        0 => (sregs.efer, sregs.cr0) = (0, 0x11),
        1 => (sregs.efer, sregs.cr0, sregs.cs.l, sregs.cs.db) = (0, 0x11, 0, 1),
        2 => (sregs.cs.l, sregs.cs.db) = (0, 1),
        _ => {}
    }
    let instruction =
        Decoder::with_ip(sregs.code_bits(), code, regs[crate::x86::Gpr::Rip], DecoderOptions::NONE).decode();
    let mut msr = |_: u32| Ok(None);
    let mut cpu = Ring0::new(&regs, &sregs, 0, &memory, &mut msr);
    let _ = execute(&instruction, &mut cpu);
    let _ = cpu.code();
    let mut alone = Ring0::new(&regs, &sregs, 0, &memory, &mut msr);
    alone.be_alone();
    let _ = simple::execute(&instruction, &mut alone);
}
