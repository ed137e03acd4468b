//! Repair on a KVM that interprets ring 0: small guests that meet what its emulator lacks. Elsewhere each test says that
//! it is skipped; it never looks at the name of the KVM.

#![allow(missing_docs, clippy::unwrap_used)] // tests

use std::sync::Arc;
use std::time::Duration;

use belljar::addr::GuestPhys;
use belljar::boot::bare::Mode;
use belljar::boot::paging::PageTables;
use belljar::boot::start::selector;
use belljar::error::Error;
use belljar::exit::Exit;
use belljar::kvm::Quirks;
use belljar::machine::{Config, Limits, Machine};
use belljar::source::ReadMemory;
use belljar::x86::segment::{interrupt_gate, kind};
use belljar::x86::{Gpr, Regs, Segment, msr, pte};

const CODE: u64 = 0x1000;
const COUNTER: u64 = 0x4000;
const IDT: u64 = 0x6000;
const TSS: u64 = 0x7000;
const STACK: u64 = 0x9000;

const REPAIRED: Quirks = Quirks { ring0_is_native: false, syscall_enters_ring0: false, ..Quirks::DOCUMENTED };

fn machine(code: &[u8], mode: Mode, quirks: Quirks) -> Option<Arc<Machine>> {
    let config = Config { memory: Some(4 << 20), ..Config::default() };
    let machine = match Machine::new(&config, quirks) {
        Ok(machine) => Arc::new(machine),
        Err(Error::NoKvm { cause, .. }) => {
            eprintln!("SKIPPED: {cause}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    machine.load(code, mode, GuestPhys(CODE), 0).unwrap();
    Some(machine)
}

/// A machine that needs repair, or `None` and a line that says why the test is skipped.
fn interpreted(code: &[u8], mode: Mode) -> Option<Arc<Machine>> {
    let popcnt = machine(&[0xf3, 0x48, 0x0f, 0xb8, 0xc1, 0xf4], Mode::Long, Quirks::DOCUMENTED)?;
    if matches!(run(&popcnt), Exit::Hlt) {
        eprintln!("SKIPPED: ring 0 is native here, nothing needs repair");
        return None;
    }
    machine(code, mode, REPAIRED)
}

fn run(machine: &Arc<Machine>) -> Exit {
    machine.run(Limits { timeout: Some(Duration::from_secs(5)), ..Limits::default() }, &|| Ok(())).unwrap().1
}

fn regs(machine: &Machine) -> Regs {
    machine.cpu(0).unwrap().with(|cpu| cpu.vcpu.regs()).unwrap()
}

fn set(machine: &Machine, values: &[(Gpr, u64)]) {
    let work = |cpu: &mut belljar::machine::Cpu| {
        let mut regs = cpu.vcpu.regs()?;
        for (register, value) in values {
            regs[*register] = *value;
        }
        cpu.vcpu.set_regs(&regs);
        Ok(())
    };
    machine.cpu(0).unwrap().with(work).unwrap();
}

fn count(machine: &Machine, what: &str) -> u64 {
    let counts = machine.cpu(0).unwrap().with(|cpu| Ok(cpu.repair.counts())).unwrap();
    counts.into_iter().find(|(name, _)| name == what).map_or(0, |(_, n)| n)
}

fn write(machine: &Machine, at: u64, bytes: &[u8]) {
    machine.memory.write(GuestPhys(at), bytes).unwrap();
}

/// A 64-bit gate, and the IDT register.
fn gate(machine: &Machine, vector: u64, handler: u64) {
    for (n, word) in interrupt_gate(handler, selector::CODE, 0).into_iter().enumerate() {
        write(machine, IDT + vector * 16 + 8 * u64::try_from(n).unwrap(), &word.to_le_bytes());
    }
    let idt = |cpu: &mut belljar::machine::Cpu| {
        let mut sregs = cpu.vcpu.sregs()?;
        (sregs.idt.base, sregs.idt.limit) = (IDT, 0xfff);
        cpu.vcpu.set_sregs(&sregs);
        Ok(())
    };
    machine.cpu(0).unwrap().with(idt).unwrap();
}

#[test]
fn arithmetic_and_selectors_come_out_as_on_hardware() {
    let code = [
        0x48, 0xc7, 0xc1, 0x78, 0x56, 0x34, 0x12, // mov rcx, 0x12345678
        0xf3, 0x48, 0x0f, 0xb8, 0xc1, // popcnt rax, rcx
        0x41, 0xb8, 0x18, 0, 0, 0, // mov r8d, 0x18
        0x0f, 0x00, 0xe9, // verw cx: no such selector
        0x41, 0x0f, 0x00, 0xe8, // verw r8w
        0x74, 0x01, // jz +1
        0xf4, // hlt
        0x66, 0x44, 0x0f, 0x03, 0xc9, // lsl r9w, cx: nothing is written
        0x41, 0x0f, 0x03, 0xd0, // lsl edx, r8d
        0x41, 0x0f, 0x02, 0xf8, // lar edi, r8d
        0x0f, 0x01, 0xcb, // stac
        0x9c, 0x5b, // pushfq; pop rbx
        0x0f, 0x01, 0xca, // clac
        0x9b, 0x0f, 0x77, // fwait; emms
        0xf2, 0x48, 0x0f, 0x38, 0xf1, 0xf1, // crc32 rsi, rcx
        0x48, 0x0f, 0xc7, 0xf5, // rdrand rbp
        0xf4,
    ];
    let Some(machine) = interpreted(&code, Mode::Long) else { return };
    set(&machine, &[(Gpr::R9, 0x77)]);
    assert_eq!(run(&machine), Exit::Hlt);
    let regs = regs(&machine);
    assert_eq!(regs[Gpr::Rip], CODE + u64::try_from(code.len()).unwrap());
    assert_eq!((regs[Gpr::Rax], regs[Gpr::R9]), (13, 0x77));
    assert_eq!((regs[Gpr::Rdx], regs[Gpr::Rdi]), (0xffff_ffff, 0x00cf_9300));
    assert_eq!(regs[Gpr::Rsi], 0x4a4a_6d17);
    assert_eq!((regs[Gpr::Rbx] >> 18 & 1, regs[Gpr::Rflags] >> 18 & 1), (1, 0));
    assert_ne!(regs[Gpr::Rbp], 0);
    assert_eq!(count(&machine, "verw"), 2);
}

#[test]
fn time_and_its_processor_are_read_together() {
    let code = [0x0f, 0x01, 0xf9, 0x89, 0xc3, 0x0f, 0x01, 0xf9, 0xf4]; // rdtscp; mov ebx, eax; rdtscp; hlt
    let Some(machine) = interpreted(&code, Mode::Long) else { return };
    machine.cpu(0).unwrap().with(|cpu| cpu.vcpu.set_msr(0xc000_0103, 0x1_0007)).unwrap();
    assert_eq!(run(&machine), Exit::Hlt);
    let regs = regs(&machine);
    assert_eq!(regs[Gpr::Rcx], 0x1_0007);
    let elapsed = (regs[Gpr::Rax] | regs[Gpr::Rdx] << 32).wrapping_sub(regs[Gpr::Rbx]) & 0xffff_ffff;
    assert!(elapsed > 0 && elapsed < 1 << 31, "{elapsed:#x}");
}

#[test]
fn sixteen_bytes_are_compared_and_exchanged_across_a_miss() {
    let code = [0x48, 0x0f, 0xc7, 0x0f, 0x75, 0xfa, 0xf4]; // again: cmpxchg16b [rdi]; jnz again; hlt
    let Some(machine) = interpreted(&code, Mode::Long) else { return };
    write(&machine, COUNTER, &[5; 16]);
    set(&machine, &[(Gpr::Rdi, COUNTER), (Gpr::Rbx, 0x11), (Gpr::Rcx, 0x22)]);
    assert_eq!(run(&machine), Exit::Hlt);
    let read = |at| machine.memory.read_u64(GuestPhys(at)).unwrap();
    assert_eq!((read(COUNTER), read(COUNTER + 8)), (0x11, 0x22));
    assert_eq!(count(&machine, "cmpxchg16b"), 2);
}

#[test]
fn a_fault_of_an_operand_reaches_the_guests_handler() {
    let code = [0x48, 0x0f, 0xc7, 0x0f, 0xf4]; // cmpxchg16b [rdi]; hlt
    for (at, vector, error, cr2) in
        [(0x7f_ffff_f000, 14, 2, 0x7f_ffff_f000), (COUNTER + 8, 13, 0, 0), (1 << 50, 13, 0, 0)]
    {
        let Some(machine) = interpreted(&code, Mode::Long) else { return };
        write(&machine, 0x3000, &[0x5a, 0xf4]); // pop rdx; hlt
        gate(&machine, vector, 0x3000);
        set(&machine, &[(Gpr::Rdi, at)]);
        assert_eq!(run(&machine), Exit::Hlt);
        let sregs = machine.cpu(0).unwrap().with(|cpu| cpu.vcpu.sregs()).unwrap();
        assert_eq!((regs(&machine)[Gpr::Rdx], sregs.cr2), (error, cr2));
        assert_eq!(regs(&machine)[Gpr::Rip], 0x3002);
        let frame = machine.memory.read_u64(GuestPhys(regs(&machine)[Gpr::Rsp])).unwrap();
        assert_eq!(frame, CODE);
    }
}

#[test]
fn interrupts_of_software_go_through_the_idt_and_come_back() {
    for (instruction, vector, name) in [(&[0xcd, 0x80][..], 0x80, "int"), (&[0xcc], 3, "int3"), (&[0xcd, 3], 3, "int")]
    {
        let code = [instruction, &[0x48, 0xff, 0xc0, 0xf4]].concat(); // ...; inc rax; hlt
        let Some(machine) = interpreted(&code, Mode::Long) else { return };
        write(&machine, 0x3000, &[0x9c, 0x5b, 0x48, 0xff, 0xc0, 0x48, 0xcf]); // pushfq; pop rbx; inc rax; iretq
        gate(&machine, vector, 0x3000);
        set(&machine, &[(Gpr::Rsp, STACK - 3), (Gpr::Rflags, 0x203), (Gpr::Rax, 40)]);
        assert_eq!(run(&machine), Exit::Hlt);
        let regs = regs(&machine);
        assert_eq!((regs[Gpr::Rax], regs[Gpr::Rsp]), (42, STACK - 3));
        assert_eq!((regs[Gpr::Rbx] & 0x201, regs[Gpr::Rflags] & 0x200), (1, 0x200));
        assert_eq!(count(&machine, name), 1);
    }
}

#[test]
fn a_missing_gate_is_a_protection_fault_with_its_number() {
    let Some(machine) = interpreted(&[0xcd, 0x80, 0xf4], Mode::Long) else { return };
    write(&machine, 0x3000, &[0x5a, 0xf4]); // pop rdx; hlt
    gate(&machine, 13, 0x3000);
    assert_eq!(run(&machine), Exit::Hlt);
    assert_eq!(regs(&machine)[Gpr::Rdx], 0x80 << 3 | 2);
}

#[test]
fn thirty_two_bit_code_may_call_itself_by_an_interrupt() {
    let Some(machine) = interpreted(&[0xcd, 0x80, 0xf4], Mode::Protected) else { return };
    let gate = 0x3000_u64 | u64::from(selector::CODE) << 16 | 0x8e00_u64 << 32;
    write(&machine, IDT + 0x80 * 8, &gate.to_le_bytes());
    write(&machine, 0x3000, &[0x5b, 0x59, 0x5a, 0xf4]); // pop ebx; pop ecx; pop edx; hlt
    let idt = |cpu: &mut belljar::machine::Cpu| {
        let mut sregs = cpu.vcpu.sregs()?;
        (sregs.idt.base, sregs.idt.limit) = (IDT, 0x7ff);
        cpu.vcpu.set_sregs(&sregs);
        Ok(())
    };
    machine.cpu(0).unwrap().with(idt).unwrap();
    assert_eq!(run(&machine), Exit::Hlt);
    let regs = regs(&machine);
    assert_eq!((regs[Gpr::Rbx], regs[Gpr::Rcx], regs[Gpr::Rdx]), (CODE + 2, u64::from(selector::CODE), 2));
}

#[test]
fn what_is_not_repaired_reaches_the_user_unchanged() {
    let Some(machine) = interpreted(&[0x0f, 0x58, 0xc1, 0xf4], Mode::Long) else { return }; // addps xmm0, xmm1
    let Exit::InternalError(error) = run(&machine) else { panic!("addps ran") };
    assert_eq!((error.rip, regs(&machine)[Gpr::Rip]), (CODE, CODE));
}

// Ring 3, with LSTAR written by ring 0.
const LSTAR: u64 = 0x2000;
const HANDLER: u64 = 0x3000;
const USER: u64 = 0x5000;
const USER_STACK: u64 = 0x5f00;
const MASK: u64 = 0x4_7700;

/// Ring 0 writes LSTAR, SYSCALL_MASK and STAR and goes to ring 3 at `USER`.
const TO_RING_3: &[u8] = &[
    0xb9, 0x82, 0x00, 0x00, 0xc0, // mov ecx, LSTAR
    0xb8, 0x00, 0x20, 0x00, 0x00, // mov eax, 0x2000
    0x31, 0xd2, // xor edx, edx
    0x0f, 0x30, // wrmsr
    0xb9, 0x84, 0x00, 0x00, 0xc0, // mov ecx, SYSCALL_MASK
    0xb8, 0x00, 0x77, 0x04, 0x00, // mov eax, 0x47700
    0x0f, 0x30, // wrmsr
    0xb9, 0x81, 0x00, 0x00, 0xc0, // mov ecx, STAR
    0x31, 0xc0, // xor eax, eax
    0xba, 0x10, 0x00, 0x23, 0x00, // mov edx, 0x230010
    0x0f, 0x30, // wrmsr
    0x6a, 0x2b, // push USER_DATA
    0x68, 0x00, 0x5f, 0x00, 0x00, // push USER_STACK
    0x68, 0xd5, 0x0e, 0x04, 0x00, // push flags: AC, DF, IF and those of arithmetic
    0x6a, 0x33, // push USER_CODE
    0x68, 0x00, 0x50, 0x00, 0x00, // push USER
    0x48, 0xcf, // iretq
];

/// A kernel of two pages with padding behind its #PF handler, and a page of ring 3 that makes a system call.
fn kernel(machine: &Machine) {
    let mut tables = PageTables::new(&machine.memory, GuestPhys(0x10_0000), GuestPhys(0x14_0000)).unwrap();
    tables.identity(4 << 20, pte::USER).unwrap();
    tables.protect(GuestPhys(0), GuestPhys(USER), pte::WRITE).unwrap();
    let root = tables.root().0;
    // pushfq; pop rbx; mov r12, rsp; mov rsp, 0x9000; inc qword [0x4000]; mov rax, [0x7fffffff] in ring 0: a real fault
    let entry = [
        &[0x9c, 0x5b, 0x49, 0x89, 0xe4, 0x48, 0xc7, 0xc4, 0x00, 0x90, 0x00, 0x00][..],
        &[0x48, 0xff, 0x04, 0x25, 0x00, 0x40, 0x00, 0x00, 0x48, 0x8b, 0x04, 0x25, 0xff, 0xff, 0xff, 0x7f],
    ];
    write(machine, LSTAR, &entry.concat());
    // hlt; jmp $; 62 bytes of NOPs as an assembler writes them
    let nops = [0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0];
    write(machine, HANDLER, &[&[0xf4, 0xeb, 0xfe][..], &nops.repeat(6), &[0xc3]].concat());
    write(machine, USER, &[0x0f, 0x05, 0x90]);
    write(machine, TSS + 4, &STACK.to_le_bytes());
    gate(machine, 14, HANDLER);
    let state = |cpu: &mut belljar::machine::Cpu| {
        let mut sregs = cpu.vcpu.sregs()?;
        sregs.cr3 = root;
        sregs.tr = Segment {
            base: TSS,
            limit: 0x67,
            selector: selector::TSS,
            kind: kind::TSS64,
            present: 1,
            ..Segment::default()
        };
        cpu.vcpu.set_sregs(&sregs);
        Ok(())
    };
    machine.cpu(0).unwrap().with(state).unwrap();
}

#[test]
fn a_system_call_arrives_at_lstar_as_hardware_delivers_it() {
    let Some(machine) = interpreted(TO_RING_3, Mode::Long) else { return };
    kernel(&machine);
    assert_eq!(run(&machine), Exit::Hlt);
    let regs = regs(&machine);
    // The system call came, and the page fault of ring 0 behind it went to the guest's own handler.
    assert_eq!(machine.memory.read_u64(GuestPhys(COUNTER)).unwrap(), 1);
    assert_eq!((regs[Gpr::Rip], count(&machine, "syscall stub")), (HANDLER + 1, 1));
    assert_eq!((regs[Gpr::Rcx], regs[Gpr::R12]), (USER + 2, USER_STACK));
    let user_flags = 0x4_0ed7;
    assert_eq!((regs[Gpr::R11], regs[Gpr::Rbx]), (user_flags, user_flags & !MASK));
    let handler = machine.cpu(0).unwrap().with(|cpu| cpu.vcpu.msr(msr::LSTAR)).unwrap();
    assert_eq!(handler, Some(LSTAR));
}
