//! Instructions on a made-up vCPU: registers and flags as the manual has them, and no panic whatever the bytes.

use iced_x86::{Decoder, DecoderOptions};
use proptest::prelude::*;

use super::flags;
use super::fuzz::{self, ABSENT, CODE, READ_ONLY, long};
use super::instruction::{Then, execute};
use super::ring0::{Ring0, Step, Trap};
use crate::addr::GuestPhys;
use crate::boot::paging::PageTables;

use crate::memory::Memory;
use crate::source::ReadMemory;
use crate::x86::segment::interrupt_gate;
use crate::x86::{Gpr, Regs, Sregs, pte, rflags};

const DATA: u64 = 0x4000;

struct After {
    then: Step<Then>,
    regs: Regs,
    sregs: Sregs,
    mxcsr: u32,
}

impl After {
    fn flags(&self) -> u64 {
        self.regs[Gpr::Rflags] & flags::ARITHMETIC
    }

    /// The vector, error code and CR2 of an exception.
    fn exception(&self) -> (u8, Option<u32>, Option<u64>) {
        match self.then {
            Err(Trap::Exception { vector, error, cr2 }) => (vector, error, cr2),
            ref other => panic!("{other:?}"),
        }
    }
}

fn step(memory: &Memory, regs: Regs, sregs: &Sregs, code: &[u8]) -> After {
    let mut decoder = Decoder::with_ip(sregs.code_bits(), code, regs[Gpr::Rip], DecoderOptions::NONE);
    let instruction = decoder.decode();
    assert_eq!(decoder.position(), code.len(), "{instruction}");
    let mut msr = |index: u32| Ok(Some(u64::from(index) << 32 | 0x55));
    let mut cpu = Ring0::new(&regs, sregs, 0x1f80, memory, &mut msr);
    let then = execute(&instruction, &mut cpu);
    After { then, regs: cpu.state.regs, sregs: cpu.state.sregs, mxcsr: cpu.state.mxcsr }
}

/// One instruction with these registers, all flags of arithmetic set before.
fn with(registers: &[(Gpr, u64)], code: &[u8]) -> After {
    let (memory, mut regs, sregs) = long();
    regs[Gpr::Rflags] |= flags::ARITHMETIC;
    for (register, value) in registers {
        regs[*register] = *value;
    }
    step(&memory, regs, &sregs, code)
}

const POPCNT: &[u8] = &[0xf3, 0x48, 0x0f, 0xb8, 0xc1]; // popcnt rax, rcx

#[test]
fn popcnt_counts_and_clears_every_flag_but_zf() {
    let after = with(&[(Gpr::Rcx, 0xff00_0000_0000_0001)], POPCNT);
    assert_eq!((after.regs[Gpr::Rax], after.flags()), (9, 0));
    let after = with(&[(Gpr::Rax, 7)], POPCNT);
    assert_eq!((after.regs[Gpr::Rax], after.flags()), (0, rflags::ZF));
}

#[test]
fn narrow_registers_keep_or_clear_the_rest_of_the_wide_one() {
    let before = [(Gpr::Rax, u64::MAX), (Gpr::Rcx, u64::MAX)];
    assert_eq!(with(&before, &[0xf3, 0x0f, 0xb8, 0xc1]).regs[Gpr::Rax], 32);
    assert_eq!(with(&before, &[0x66, 0xf3, 0x0f, 0xb8, 0xc1]).regs[Gpr::Rax], 0xffff_ffff_ffff_0010);
}

#[test]
fn zeros_are_counted_within_the_operand() {
    let after = with(&[(Gpr::Rcx, 0x10)], &[0x66, 0xf3, 0x0f, 0xbd, 0xc1]); // lzcnt ax, cx
    assert_eq!((after.regs[Gpr::Rax], after.flags() & (flags::CF | rflags::ZF)), (11, 0));
    let after = with(&[], &[0xf3, 0x0f, 0xbc, 0xc1]); // tzcnt eax, ecx
    assert_eq!((after.regs[Gpr::Rax], after.flags() & (flags::CF | rflags::ZF)), (32, flags::CF));
    let after = with(&[(Gpr::Rcx, 1)], &[0xf3, 0x0f, 0xbc, 0xc1]);
    assert_eq!((after.regs[Gpr::Rax], after.flags() & (flags::CF | rflags::ZF)), (0, rflags::ZF));
}

/// The sums are those of a processor.
#[test]
fn crc32_sums_as_hardware_does() {
    let sum = |rax: u64, rcx: u64, code: &[u8]| with(&[(Gpr::Rax, rax), (Gpr::Rcx, rcx)], code).regs[Gpr::Rax];
    assert_eq!(sum(u64::MAX, 0x31, &[0xf2, 0x0f, 0x38, 0xf0, 0xc1]), 0x6f0a_661c); // crc32 eax, cl
    assert_eq!(sum(0xffff_ffff, 0x3100, &[0xf2, 0x0f, 0x38, 0xf0, 0xc5]), 0x6f0a_661c); // crc32 eax, ch
    assert_eq!(sum(0x1234, 0xbeef, &[0x66, 0xf2, 0x0f, 0x38, 0xf1, 0xc1]), 0x7dea_dc2b); // crc32 eax, cx
    assert_eq!(sum(7, 0xdead_beef, &[0xf2, 0x0f, 0x38, 0xf1, 0xc1]), 0x1099_a5de); // crc32 eax, ecx
    assert_eq!(sum(0, 0x1234_5678, &[0xf2, 0x48, 0x0f, 0x38, 0xf1, 0xc1]), 0x4a4a_6d17); // crc32 rax, rcx
    assert_eq!(with(&[], &[0xf2, 0x0f, 0x38, 0xf0, 0xc1]).flags(), flags::ARITHMETIC);
}

#[test]
fn stac_and_clac_change_ac_alone() {
    let set = with(&[], &[0x0f, 0x01, 0xcb]);
    assert_eq!(set.regs[Gpr::Rflags], rflags::FIXED | flags::ARITHMETIC | rflags::AC);
    let clear = with(&[(Gpr::Rflags, u64::MAX)], &[0x0f, 0x01, 0xca]);
    assert_eq!(clear.regs[Gpr::Rflags], !(rflags::AC | flags::RF));
}

const CMPXCHG16B: &[u8] = &[0x48, 0x0f, 0xc7, 0x0f]; // cmpxchg16b [rdi]

fn exchange(at: u64, found: [u64; 2], expected: [u64; 2]) -> (After, [u64; 2]) {
    let (memory, mut regs, sregs) = long();
    regs[Gpr::Rflags] |= flags::ARITHMETIC;
    let words = [(Gpr::Rdi, at), (Gpr::Rax, expected[0]), (Gpr::Rdx, expected[1]), (Gpr::Rbx, 3), (Gpr::Rcx, 4)];
    for (register, value) in words {
        regs[register] = value;
    }
    let bytes: Vec<u8> = found.iter().flat_map(|w| w.to_le_bytes()).collect();
    memory.write(GuestPhys(DATA), &bytes).expect("RAM");
    let after = step(&memory, regs, &sregs, CMPXCHG16B);
    let word = |n| memory.read_u64(GuestPhys(DATA + n)).expect("RAM");
    (after, [word(0), word(8)])
}

#[test]
fn cmpxchg16b_stores_on_a_hit_and_loads_on_a_miss() {
    let (after, memory) = exchange(DATA, [1, 2], [1, 2]);
    assert_eq!((memory, after.flags()), ([3, 4], flags::ARITHMETIC));
    assert_eq!((after.regs[Gpr::Rax], after.regs[Gpr::Rdx]), (1, 2));
    let (after, memory) = exchange(DATA, [1, 2], [1, 9]);
    assert_eq!((memory, after.flags()), ([1, 2], flags::ARITHMETIC & !rflags::ZF));
    assert_eq!((after.regs[Gpr::Rax], after.regs[Gpr::Rdx]), (1, 2));
}

#[test]
fn cmpxchg16b_faults_as_a_write_wherever_it_may_not_write() {
    let fault = |at| exchange(at, [0; 2], [1; 2]).0.exception();
    assert_eq!(fault(DATA + 8), (13, Some(0), None));
    assert_eq!(fault(1 << 50), (13, Some(0), None));
    assert_eq!(fault(READ_ONLY), (14, Some(3), Some(READ_ONLY)));
    assert_eq!(fault(ABSENT), (14, Some(2), Some(ABSENT)));
    let (beyond_ram, rom) = (0x30_0000, 0x40_0000);
    assert!([beyond_ram, rom].iter().all(|at| matches!(exchange(*at, [0; 2], [1; 2]).0.then, Err(Trap::Unknown))));
}

#[test]
fn selectors_are_answered_by_zf() {
    let lsl = |selector| with(&[(Gpr::Rcx, selector), (Gpr::Rax, 7)], &[0x0f, 0x03, 0xc1]);
    let good = lsl(0x10);
    assert_eq!((good.regs[Gpr::Rax], good.flags()), (0xffff_ffff, flags::ARITHMETIC));
    for selector in [0, 3, 0x13, 0x20, 0x48, 0x50, 0x14, 0xffff] {
        let none = lsl(selector);
        assert_eq!((none.regs[Gpr::Rax], none.flags()), (7, flags::ARITHMETIC & !rflags::ZF), "{selector:#x}");
    }
}

#[test]
fn operands_are_found_by_segment_base_and_across_pages() {
    let (memory, regs, mut sregs) = long();
    memory.write(GuestPhys(READ_ONLY - 4), &u64::MAX.to_le_bytes()).expect("RAM");
    sregs.gs.base = READ_ONLY - 0x104;
    let after = step(&memory, regs, &sregs, &[0x65, 0xf3, 0x48, 0x0f, 0xb8, 0x04, 0x25, 0, 1, 0, 0]); // popcnt rax, gs:[0x100]
    assert_eq!(after.regs[Gpr::Rax], 64);
    let after = step(&memory, regs, &sregs, &[0xf3, 0x48, 0x0f, 0xb8, 0x05, 0xf3, 0x3f, 0, 0]); // popcnt rax, [rip + 0x3ff3]
    assert_eq!(after.regs[Gpr::Rax], 64);
}

#[test]
fn pages_of_ring_3_are_out_of_reach_under_smap_until_stac() {
    let (memory, mut regs, mut sregs) = long();
    let mut tables = PageTables::new(&memory, GuestPhys(0x14_0000), GuestPhys(0x18_0000)).expect("room");
    tables.identity(2 << 20, pte::USER).expect("room");
    sregs.cr3 = tables.root().0;
    let popcnt = &[0xf3, 0x48, 0x0f, 0xb8, 0x04, 0x25, 0, 0x40, 0, 0]; // popcnt rax, [0x4000]
    assert!(step(&memory, regs, &sregs, popcnt).then.is_ok());
    sregs.cr4 |= 1 << 21;
    assert_eq!(step(&memory, regs, &sregs, popcnt).exception(), (14, Some(1), Some(DATA)));
    regs[Gpr::Rflags] |= rflags::AC;
    assert!(step(&memory, regs, &sregs, popcnt).then.is_ok());
}

#[test]
fn int_pushes_what_iretq_pops() {
    let (memory, mut regs, mut sregs) = long();
    (sregs.idt.base, sregs.idt.limit) = (0x6000, 0xfff);
    (sregs.tr.base, sregs.tr.limit) = (0x7000, 0x67);
    memory.write(GuestPhys(0x7000 + 0x2c), &0x9800_u64.to_le_bytes()).expect("RAM");
    (regs[Gpr::Rsp], regs[Gpr::Rflags]) = (0x9003, 0x4_4702);
    for (stack, top) in [(0, 0x9000), (2, 0x9800)] {
        let [low, high] = interrupt_gate(0xffff_ffff_8123_4567, 0x10, 0);
        let words = [low | stack << 32, high];
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        memory.write(GuestPhys(0x6800), &bytes).expect("RAM");
        let after = step(&memory, regs, &sregs, &[0xcd, 0x80]);
        assert!(matches!(after.then, Ok(Then::Jumped)));
        assert_eq!((after.regs[Gpr::Rip], after.regs[Gpr::Rsp]), (0xffff_ffff_8123_4567, top - 40));
        assert_eq!(after.regs[Gpr::Rflags], 0x4_0402);
        let frame: Vec<u64> = (0..5).map(|n| memory.read_u64(GuestPhys(top - 40 + n * 8)).expect("RAM")).collect();
        assert_eq!(frame, [CODE + 2, 0x10, 0x4_4702, 0x9003, 0x18]);
    }
    assert_eq!(step(&memory, regs, &sregs, &[0xcd, 0x81]).exception(), (13, Some(0x81 << 3 | 2), None));
}

#[test]
fn fpu_instructions_are_skipped_unless_the_unit_is_switched_off() {
    let (memory, regs, sregs) = long();
    let fwait = |cr0: u64| step(&memory, regs, &Sregs { cr0: sregs.cr0 | cr0, ..sregs }, &[0x9b]);
    assert!(matches!(fwait(0).then, Ok(Then::Next)));
    assert_eq!(fwait(1 << 3).exception(), (7, None, None));
}

#[test]
fn the_control_word_of_sse_is_kept_and_reserved_bits_are_refused() {
    let (memory, regs, sregs) = long();
    let load = |word: u32| {
        memory.write(GuestPhys(DATA), &word.to_le_bytes()).expect("RAM");
        step(&memory, regs, &sregs, &[0x0f, 0xae, 0x14, 0x25, 0, 0x40, 0, 0]) // ldmxcsr [0x4000]
    };
    assert_eq!(load(0x1fa0).mxcsr, 0x1fa0);
    assert_eq!(load(0x1_1f80).exception(), (13, Some(0), None));
    assert!(step(&memory, regs, &sregs, &[0x0f, 0xae, 0x1c, 0x25, 0, 0x40, 0, 0]).then.is_ok()); // stmxcsr [0x4000]
    assert_eq!(memory.read_u64(GuestPhys(DATA)).expect("RAM"), 0x1f80);
}

#[test]
fn segment_bases_need_their_bit_in_cr4_and_a_canonical_value() {
    let (memory, mut regs, mut sregs) = long();
    let wrgsbase = &[0xf3, 0x48, 0x0f, 0xae, 0xd8]; // wrgsbase rax
    regs[Gpr::Rax] = 0xffff_8000_0000_0000;
    assert_eq!(step(&memory, regs, &sregs, wrgsbase).exception().0, 6);
    sregs.cr4 |= 1 << 16;
    assert_eq!(step(&memory, regs, &sregs, wrgsbase).sregs.gs.base, 0xffff_8000_0000_0000);
    regs[Gpr::Rax] = 0x8000_0000_0000;
    assert_eq!(step(&memory, regs, &sregs, wrgsbase).exception().0, 13);
}

#[test]
fn time_and_processor_come_from_their_msrs() {
    let after = with(&[], &[0x0f, 0x01, 0xf9]);
    assert_eq!((after.regs[Gpr::Rax], after.regs[Gpr::Rdx], after.regs[Gpr::Rcx]), (0x55, 0x10, 0x55));
    assert_eq!(after.flags(), flags::ARITHMETIC);
}

#[test]
fn an_unknown_instruction_changes_nothing() {
    let (memory, regs, sregs) = long();
    let after = step(&memory, regs, &sregs, &[0x0f, 0x58, 0xc1]); // addps xmm0, xmm1
    assert!(matches!(after.then, Err(Trap::Unknown)));
    assert_eq!((after.regs, after.sregs), (regs, sregs));
}

/// The beginnings of the instructions that are repaired, so that random bytes get past the decoder's table.
const OPENINGS: &[&[u8]] = &[
    &[0xcd],
    &[0xf3, 0x48, 0x0f, 0xb8],
    &[0xf2, 0x0f, 0x38, 0xf0],
    &[0xf2, 0x0f, 0x38, 0xf1],
    &[0x48, 0x0f, 0xc7],
    &[0x0f, 0x02],
    &[0x0f, 0x03],
    &[0x0f, 0x00],
    &[0x0f, 0xae],
    &[0xf3, 0x0f, 0xae],
    &[0x66, 0x0f, 0x38, 0x82],
    &[0xf6],
    &[0xf7],
    &[0x48, 0xf7],
    &[0xc0],
    &[0x66, 0xc1],
    &[0x48, 0xd3],
    &[0xf0, 0x0f, 0xb1],
    &[0x0f, 0xba],
    &[0x0f],
    &[],
];

proptest! {
    #[test]
    fn no_bytes_registers_or_tables_make_it_panic(
        opening in 0..OPENINGS.len(),
        code: [u8; 15],
        words: [u64; 18],
        mode: u8,
        tables: [u64; 2],
        cr4: u64,
    ) {
        let bytes = [OPENINGS[opening], &code].concat();
        fuzz::instruction(&bytes, words, mode, tables, cr4);
    }
}
