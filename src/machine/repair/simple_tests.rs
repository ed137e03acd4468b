//! Plain instructions on a made-up vCPU: which are executed here, and those results that no KVM is needed to know. What they
//! compute is compared with a processor's by tests/kvm/test_emulated_instructions.py.

use super::emulate;
use super::flags;
use super::fuzz::{ABSENT, CODE, READ_ONLY, long};
use crate::addr::GuestPhys;
use crate::boot::paging::PageTables;
use crate::memory::Memory;
use crate::source::ReadMemory;
use crate::x86::{Gpr, Regs, Sregs, pte, rflags};

const DATA: u64 = 0x4000;

/// 64-bit ring 0 whose pages are marked as used, with `code` at RIP and RBX at data.
fn at(code: &[u8]) -> (Memory, Regs, Sregs) {
    let (memory, mut regs, mut sregs) = long();
    let mut tables = PageTables::new(&memory, GuestPhys(0x14_0000), GuestPhys(0x18_0000)).expect("room");
    tables.identity(2 << 20, pte::ACCESSED | pte::DIRTY).expect("room");
    sregs.cr3 = tables.root().0;
    memory.write(GuestPhys(CODE), code).expect("RAM");
    memory.write(GuestPhys(DATA), &0x8877_6655_4433_2211_u64.to_le_bytes()).expect("RAM");
    (regs[Gpr::Rbx], regs[Gpr::Rsp], regs[Gpr::Rdx]) = (DATA, 0x9000, 0);
    (memory, regs, sregs)
}

fn executed(code: &[u8], is_alone: bool) -> Option<Regs> {
    let (memory, regs, sregs) = at(code);
    emulate(&regs, &sregs, &memory, is_alone)
}

/// What functions and blocks begin with, and what a trace of a kernel's text is made of.
const PLAIN: &[&[u8]] = &[
    &[0xf3, 0x0f, 0x1e, 0xfa],                   // endbr64
    &[0x0f, 0x1f, 0x44, 0, 0],                   // nop dword [rax + rax]
    &[0x66, 0x90],                               // xchg ax, ax
    &[0x55],                                     // push rbp
    &[0x41, 0x57],                               // push r15
    &[0x6a, 0xff],                               // push -1
    &[0xff, 0x33],                               // push [rbx]
    &[0x5d],                                     // pop rbp
    &[0xc9],                                     // leave
    &[0xc3],                                     // ret
    &[0x48, 0x89, 0xe5],                         // mov rbp, rsp
    &[0x48, 0x8b, 0x43, 8],                      // mov rax, [rbx + 8]
    &[0x89, 0x03],                               // mov [rbx], eax
    &[0xc6, 0x03, 7],                            // mov byte [rbx], 7
    &[0x65, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0], // mov rax, gs:[0]
    &[0x48, 0x63, 0xc8],                         // movsxd rcx, eax
    &[0x0f, 0xb6, 0x03],                         // movzx eax, byte [rbx]
    &[0x0f, 0xbe, 0xc4],                         // movsx eax, ah
    &[0x48, 0x8d, 0x44, 0x8b, 8],                // lea rax, [rbx + 4 * rcx + 8]
    &[0x48, 0x83, 0xec, 0x10],                   // sub rsp, 16
    &[0x31, 0xc0],                               // xor eax, eax
    &[0x11, 0xc8],                               // adc eax, ecx
    &[0x19, 0xc0],                               // sbb eax, eax
    &[0x85, 0xff],                               // test edi, edi
    &[0x48, 0x39, 0x03],                         // cmp [rbx], rax
    &[0xf7, 0xd8],                               // neg eax
    &[0xf7, 0xd0],                               // not eax
    &[0xff, 0x03],                               // inc dword [rbx]
    &[0xc1, 0xe0, 4],                            // shl eax, 4
    &[0xd3, 0xe8],                               // shr eax, cl
    &[0x48, 0xc1, 0xf8, 0x3f],                   // sar rax, 63
    &[0xc1, 0xc0, 5],                            // rol eax, 5
    &[0x0f, 0xaf, 0xc1],                         // imul eax, ecx
    &[0x48, 0xf7, 0xe1],                         // mul rcx
    &[0x48, 0xf7, 0x33],                         // div [rbx]
    &[0x48, 0x99],                               // cqo
    &[0x0f, 0xba, 0xe0, 3],                      // bt eax, 3
    &[0x0f, 0xbc, 0x03],                         // bsf eax, [rbx]
    &[0x0f, 0xc8],                               // bswap eax
    &[0x0f, 0x94, 0xc0],                         // sete al
    &[0x48, 0x0f, 0x44, 0x03],                   // cmove rax, [rbx]
    &[0x75, 0x10],                               // jne
    &[0x0f, 0x84, 0x10, 0, 0, 0],                // je
    &[0xe3, 0x10],                               // jrcxz
    &[0xeb, 0xfe],                               // jmp
    &[0xe8, 0x10, 0, 0, 0],                      // call
    &[0xff, 0xe3],                               // jmp rbx
    &[0xff, 0xd3],                               // call rbx
    &[0x0f, 0x18, 0x0b],                         // prefetcht0 [rbx]
    &[0x0f, 0xae, 0xf0],                         // mfence
    &[0xfa],                                     // cli
    &[0x9c],                                     // pushfq
    &[0x87, 0xc1],                               // xchg ecx, eax
];

/// What takes a lock: only where no other vCPU is there.
const LOCKED: &[&[u8]] = &[
    &[0xf0, 0xff, 0x03],          // lock inc dword [rbx]
    &[0x87, 0x03],                // xchg [rbx], eax
    &[0xf0, 0x0f, 0xb1, 0x0b],    // lock cmpxchg [rbx], ecx
    &[0xf0, 0x0f, 0xc1, 0x03],    // lock xadd [rbx], eax
    &[0xf0, 0x0f, 0xba, 0x2b, 0], // lock bts dword [rbx], 0
];

#[test]
fn what_functions_begin_with_is_executed_here() {
    for code in PLAIN {
        // What lies at the stack's top and at RBX leads nowhere.
        let is_jump = matches!(code, [0xc3] | [0xff, 0xe3 | 0xd3]);
        let after = executed(code, false);
        assert!(after.is_some(), "{code:x?}");
        let next = CODE + u64::try_from(code.len()).expect("small");
        let goes_on = after.is_some_and(|regs| regs[Gpr::Rip] == next);
        assert!(goes_on || is_jump || matches!(code[0], 0x75 | 0xe3 | 0xeb | 0xe8 | 0x0f), "{code:x?}");
    }
}

#[test]
fn what_takes_a_lock_is_executed_here_only_where_nobody_else_is() {
    for code in LOCKED {
        assert!(executed(code, true).is_some(), "{code:x?}");
        assert!(executed(code, false).is_none(), "{code:x?}");
    }
}

#[test]
fn what_may_fault_or_is_not_known_is_left_to_the_processor() {
    const LEFT: &[&[u8]] = &[
        &[0x0f, 0xa2],                            // cpuid
        &[0xfb],                                  // sti, behind which no interrupt comes
        &[0x66, 0x75, 0x10],                      // jne with a prefix that only some heed
        &[0xf7, 0xf2],                            // div edx, which is zero
        &[0x0f, 0xbc, 0xca],                      // bsf ecx, edx
        &[0x0f, 0xa3, 0x03],                      // bt [rbx], eax
        &[0x0f, 0x20, 0xd8],                      // mov rax, cr3
        &[0x0f, 0x28, 0xc1],                      // movaps xmm0, xmm1
        &[0xf3, 0x48, 0xab],                      // rep stosq
        &[0x48, 0x8b, 0x04, 0x25, 0, 0, 0x60, 0], // mov rax, [ABSENT]
        &[0x0f, 0x0b],                            // ud2
    ];
    for code in LEFT {
        assert!(executed(code, true).is_none(), "{code:x?}");
    }
}

#[test]
fn a_page_that_was_not_used_yet_is_left_to_the_processor_which_marks_it() {
    let (memory, regs, mut sregs) = at(&[0x48, 0x89, 0x03]); // mov [rbx], rax
    assert!(emulate(&regs, &sregs, &memory, true).is_some());
    let mut tables = PageTables::new(&memory, GuestPhys(0x18_0000), GuestPhys(0x1c_0000)).expect("room");
    tables.identity(2 << 20, pte::ACCESSED).expect("room");
    for at in (0x18_0000..0x1c_0000).step_by(8).map(GuestPhys) {
        let entry = memory.read_u64(at).expect("RAM") & !pte::DIRTY;
        memory.write(at, &entry.to_le_bytes()).expect("RAM");
    }
    sregs.cr3 = tables.root().0;
    assert!(emulate(&regs, &sregs, &memory, true).is_none());
}

#[test]
fn a_write_that_faults_halfway_leaves_memory_as_it_was() {
    let (memory, mut regs, sregs) = long();
    memory.write(GuestPhys(CODE), &[0x48, 0x01, 0x03]).expect("RAM"); // add [rbx], rax
    for to in [READ_ONLY - 4, ABSENT - 4] {
        regs[Gpr::Rbx] = to;
        let before = memory.read_vec(GuestPhys(READ_ONLY - 4), 4).expect("RAM");
        assert!(emulate(&regs, &sregs, &memory, true).is_none());
        assert_eq!(memory.read_vec(GuestPhys(READ_ONLY - 4), 4).expect("RAM"), before);
    }
}

#[test]
fn a_protection_key_is_left_to_the_processor() {
    let (memory, regs, mut sregs) = at(&[0x48, 0x8b, 0x03]); // mov rax, [rbx]
    let mut tables = PageTables::new(&memory, GuestPhys(0x18_0000), GuestPhys(0x1c_0000)).expect("room");
    tables.identity(2 << 20, pte::ACCESSED | pte::DIRTY | 1 << 59).expect("room");
    sregs.cr3 = tables.root().0;
    assert!(emulate(&regs, &sregs, &memory, true).is_some());
    sregs.cr4 |= 1 << 22;
    assert!(emulate(&regs, &sregs, &memory, true).is_none());
}

#[test]
fn a_shadow_stack_is_left_to_the_processor() {
    for code in [&[0xc3][..], &[0xff, 0xe3], &[0xe8, 0, 0, 0, 0], &[0xf3, 0x0f, 0x1e, 0xfa]] {
        let (memory, regs, sregs) = at(code);
        assert!(emulate(&regs, &sregs, &memory, true).is_some());
        assert!(emulate(&regs, &Sregs { cr4: sregs.cr4 | 1 << 23, ..sregs }, &memory, true).is_none());
    }
}

#[test]
fn ring_3_with_alignment_checks_is_left_to_the_processor() {
    let (memory, mut regs, mut sregs) = at(&[0x90]);
    sregs.cr0 |= 1 << 18;
    regs[Gpr::Rflags] |= rflags::AC;
    assert!(emulate(&regs, &sregs, &memory, true).is_some());
    (sregs.cs.dpl, sregs.ss.dpl) = (3, 3);
    (sregs.cs.selector, sregs.ss.selector) = (sregs.cs.selector | 3, sregs.ss.selector | 3);
    assert!(emulate(&regs, &sregs, &memory, true).is_none());
}

#[test]
fn an_exchange_gives_both_what_the_other_had() {
    let (memory, mut regs, sregs) = at(&[0x48, 0x87, 0x03]); // xchg [rbx], rax
    regs[Gpr::Rax] = 0x1234;
    let after = emulate(&regs, &sregs, &memory, true).expect("plain");
    assert_eq!(after[Gpr::Rax], 0x8877_6655_4433_2211);
    assert_eq!(memory.read_u64(GuestPhys(DATA)).expect("RAM"), 0x1234);
    assert_eq!(after[Gpr::Rflags] & flags::ARITHMETIC, regs[Gpr::Rflags] & flags::ARITHMETIC);
}

#[test]
fn pushed_flags_are_those_of_the_guest_and_cli_masks_interrupts() {
    let (memory, mut regs, sregs) = at(&[0x9c]); // pushfq
    regs[Gpr::Rflags] = 0x1_0a03; // RF, OF, IF, CF
    let after = emulate(&regs, &sregs, &memory, true).expect("plain");
    assert_eq!((after[Gpr::Rsp], after[Gpr::Rflags]), (0x9000 - 8, 0xa03));
    assert_eq!(memory.read_u64(GuestPhys(0x9000 - 8)).expect("RAM"), 0xa03);
    memory.write(GuestPhys(CODE), &[0xfa]).expect("RAM"); // cli
    assert_eq!(emulate(&regs, &sregs, &memory, true).expect("plain")[Gpr::Rflags], 0x803);
}

#[test]
fn a_page_table_entry_in_use_is_written_by_kvm_alone() {
    const RAM: u64 = 0x1f_f000;
    let (memory, regs, sregs) = at(&[0x48, 0x89, 0x43, 4]); // mov [rbx + 4], rax, across two words
    let is_executed = |second: u64| {
        memory.write(GuestPhys(DATA + 8), &second.to_le_bytes()).expect("RAM");
        emulate(&regs, &sregs, &memory, true).is_some()
    };
    assert!(is_executed(0));
    assert!(!is_executed(RAM | pte::PRESENT | pte::ACCESSED));
    assert!(!is_executed(0xfee0_0000 | pte::PRESENT | pte::ACCESSED | 1 << 63));
    assert!(is_executed(RAM | pte::PRESENT), "no processor has used it");
    assert!(is_executed(RAM | pte::ACCESSED), "it leads nowhere");
    assert!(is_executed(0xffff_8880_0000_0021), "it is no address of RAM");
}

#[test]
fn linear_addresses_of_32_bits_begin_again_behind_the_last() {
    let (memory, mut regs, mut sregs) = at(&[0x8b, 0x03]); // mov eax, [ebx]
    memory.add(GuestPhys(1 << 32), 2 << 20, false, |_, _| Ok(())).expect("RAM");
    memory.write(GuestPhys((1 << 32) + CODE), &[0x40]).expect("RAM"); // inc eax
    (sregs.efer, sregs.cr0, sregs.cs.l, sregs.cs.db, sregs.ss.db) = (0, 0x11, 0, 1, 1);
    for segment in [&mut sregs.cs, &mut sregs.ds] {
        (segment.base, segment.limit) = (0xffff_0000, 0xffff_ffff);
    }
    (regs[Gpr::Rip], regs[Gpr::Rbx], regs[Gpr::Rax]) = (CODE + 0x1_0000, 0xfffe, 0);
    memory.add(GuestPhys(0xffff_f000), 0x1000, false, |_, _| Ok(())).expect("RAM");
    memory.write(GuestPhys(0xffff_fffe), &[1, 2]).expect("RAM");
    memory.write(GuestPhys(0), &[3, 4]).expect("RAM");
    let after = emulate(&regs, &sregs, &memory, true).expect("plain");
    assert_eq!((after[Gpr::Rax], after[Gpr::Rip]), (0x0403_0201, CODE + 0x1_0002));
}

#[test]
fn a_segment_that_may_not_be_written_or_read_is_left_to_the_processor() {
    let is_executed = |code: &[u8], kind: u8| {
        let (memory, regs, mut sregs) = at(code);
        (sregs.efer, sregs.cr0, sregs.cs.l, sregs.cs.db, sregs.ss.db) = (0, 0x11, 0, 1, 1);
        (sregs.cs.limit, sregs.ds.limit, sregs.ds.kind) = (u32::MAX, u32::MAX, kind);
        emulate(&regs, &sregs, &memory, true).is_some()
    };
    let [read, write, change] = [&[0x8b, 0x03][..], &[0x89, 0x03], &[0x01, 0x03]]; // mov and add with [ebx]
    for (kind, reads, writes) in [(0x3, true, true), (0x1, true, false), (0xb, true, false), (0x9, false, false)] {
        assert_eq!(is_executed(read, kind), reads, "{kind:#x}");
        assert_eq!((is_executed(write, kind), is_executed(change, kind)), (writes, writes), "{kind:#x}");
    }
}
