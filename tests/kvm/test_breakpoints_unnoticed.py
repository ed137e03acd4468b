"""What a guest would notice if belljar executed its instructions carelessly: interrupts, debug registers, tables."""

import struct

import pytest

import belljar as bj

CODE, DATA, IDT, HANDLERS = 0x10000, 0x20000, 0x50000, 0x60000
STEPPED = "rcr rax, 0"  # which is not executed here


def guest(new_vm, code, handlers, mode="long", irqchip=None):
    """Load code, with an IDT that leads each vector to its handler's code, in ring 0."""
    vm = new_vm("4M", irqchip=irqchip)
    vm.load(code, mode=mode, at=CODE)
    at, selector = HANDLERS, 8
    if mode == "user":
        selector = struct.unpack("<HHHHQ", vm.memory.read(vm.cpu.idt.base + 16 * 6, 16))[1]
    elif mode == "long":
        selector = vm.cpu.cs.selector
    for vector, text in handlers.items():
        vm.memory.write(at, bj.asm(text, at=at))
        gate = struct.pack("<HHBBHII", at & 0xFFFF, selector, 0, 0x8E, at >> 16, 0, 0)
        vm.memory.write(IDT + 16 * vector, gate)
        at += 0x100
    vm.cpu.idt = (IDT, 0xFFF)
    vm.cpu.regs.rbx = vm.cpu.regs.rcx = 0
    return vm


def place(vm, name, at=CODE, size=64):
    """Return the address of the first instruction of that name."""
    return next(one.address for one in bj.disasm(vm.memory.read(at, size), at=at) if str(one).find(name) >= 0)


def entry(vm, address):
    """Return where the page-table entry of that address lies, and the entry."""
    table = vm.cpu.cr3 & ~0xFFF
    for shift in (39, 30, 21, 12):
        at = table + 8 * (address >> shift & 0x1FF)
        word = vm.memory.read_u64(at)
        if word & 0x80:
            break
        table = word & 0xF_FFFF_FFFF_F000
    return at, word


def hits(vm, count, first):
    """Return a handler that calls `first` at the fifth hit, and stops at that one."""
    seen = []

    def hit(exit):
        seen.append(exit)
        if len(seen) == 5:
            first()
        return bj.STOP if len(seen) == count else None

    return hit


def test_an_nmi_is_not_kept_waiting_by_breakpoints_near_each_other(new_vm):
    vm = guest(new_vm, f"l: {STEPPED}; inc rcx; jmp l", {2: "inc rbx; iretq"})
    vm.breakpoint(place(vm, "rcr"), hits(vm, 200, vm.cpu.inject_nmi), hw=False)
    assert isinstance(vm.run(60), bj.BreakpointHit)
    assert vm.cpu.regs.rbx == 1


def test_an_interrupt_is_not_kept_waiting_by_breakpoints_near_each_other(new_vm):
    eoi = "mov eax, 0xfee000b0; mov dword ptr [rax], 0"
    handlers = {0x41: f"inc rbx; push rax; {eoi}; pop rax; iretq"}
    vm = guest(new_vm, f"sti; l: {STEPPED}; inc rcx; jmp l", handlers, irqchip="split")
    vm.cpu.lapic.svr = 0x1FF
    vm.breakpoint(place(vm, "rcr"), hits(vm, 400, lambda: vm.cpu.inject_interrupt(0x41)), hw=False)
    assert isinstance(vm.run(60), bj.BreakpointHit)
    assert vm.cpu.regs.rbx == 1


@pytest.mark.parametrize("by", ["host", "guest"])
def test_a_debug_register_of_the_guests_own_stops_it_between_breakpoints_near_each_other(new_vm, by):
    loop = f"l: {STEPPED}; inc rcx; cmp rcx, 20; jne s; mov dr7, rdx; s: nop; cmp rcx, 40; jne l; hlt"
    vm = guest(new_vm, loop, {1: "inc rbx; or dword ptr [rsp + 16], 0x10000; iretq"})  # RF
    vm.cpu.dr0, vm.cpu.dr7, vm.cpu.regs.rdx = place(vm, "nop"), 0x400, 0x402

    def arm(hit):
        if by == "host" and vm.cpu.regs.rcx == 19:
            vm.cpu.dr7 = 0x402

    vm.breakpoint(place(vm, "rcr"), arm, hw=False)
    if by == "guest":
        vm.breakpoint(place(vm, "dr7"), lambda hit: None, hw=False)
    assert vm.run(60) == bj.Hlt()
    assert vm.cpu.regs.rbx == 21


@pytest.mark.needs(ring0_is_native=False)  # tables that shadow the guest's are an interpreting KVM's
@pytest.mark.parametrize("where", ["at a breakpoint", "behind one"])
def test_a_page_table_entry_that_the_guest_changes_is_changed_for_ring_3(new_vm, where):
    write = f"mov edi, {DATA:#x}; mov qword ptr [rdi], 1"
    code = f"{write}; ud2; {write}; mov ebp, 7; ud2"
    close = f"cmp ebp, 7; je d; {STEPPED}; and qword ptr [rax], -3; mov rax, cr3; mov cr3, rax"  # no longer writable
    kernel = f"{close}; add qword ptr [rsp], 2; iretq; d: hlt"
    vm = guest(new_vm, code, {6: kernel, 14: "out 0x30, al; hlt"}, mode="user")
    at, word = entry(vm, DATA)
    vm.cpu.regs.rbp, vm.cpu.regs.rax = 0, at
    vm.memory.write_u64(at, word | 0x60)  # used and written already
    vm.memory.write_u64(entry(vm, at)[0], entry(vm, at)[1] | 0x60)
    first = "and" if where == "at a breakpoint" else "rcr"
    point = vm.breakpoint(place(vm, first, HANDLERS), lambda hit: None, hw=False)
    if where == "behind one":
        vm.breakpoint(place(vm, "cr3", HANDLERS), lambda hit: None, hw=False)
    assert vm.run(60, until=bj.PortOut) == bj.PortOut(0x30, 1, vm.cpu.regs.rax & 0xFF)
    assert point.hits == 1 and entry(vm, DATA)[1] & 2 == 0


INJECTED = {
    "interrupt": lambda vm: vm.cpu.inject_interrupt(0x40),
    "exception": lambda vm: vm.cpu.inject_exception(13, 0),
}


@pytest.mark.parametrize("name", ["inc", "cli", "jmp", "rcr", "hlt"])
@pytest.mark.parametrize("injected", INJECTED)
def test_what_is_injected_at_a_breakpoint_comes_before_its_instruction_which_is_hit_once(new_vm, injected, name):
    text = {"inc": "inc rcx", "jmp": "jmp x; x: nop", "rcr": STEPPED}.get(name, name)
    note = "mov rdi, [rsp]; mov rsi, [rsp + 16]; inc rbx; iretq"
    vm = guest(new_vm, f"sti; nop; nop; {text}; hlt", {0x40: note, 13: f"add rsp, 8; {note}"})
    at = place(vm, name)
    point = vm.breakpoint(at, lambda hit: INJECTED[injected](vm) if vm.cpu.regs.rbx == 0 else None, hw=False)
    assert vm.run(60) == bj.Hlt()
    regs = vm.cpu.regs
    assert (regs.rdi, regs.rsi & 0x300, regs.rbx, point.hits) == (at, 0x200, 1, 1)  # no trap flag of ours


def test_an_exception_that_is_injected_at_a_breakpoint_in_ring_3_comes_before_its_instruction(new_vm):
    vm = new_vm("4M")
    vm.load("nop; inc rbx; ud2", mode="user", at=CODE)
    vm.cpu.regs.rbx = 0
    point = vm.breakpoint(CODE + 1, lambda hit: vm.cpu.inject_exception(13, 0), hw=False)
    exit = vm.run(60)
    assert isinstance(exit, bj.GuestException), exit
    assert (exit.vector, exit.rip, vm.cpu.regs.rbx, point.hits) == (13, CODE + 1, 0, 1)


@pytest.mark.parametrize("how", ["stepped", "traced", "past a breakpoint"])
def test_what_the_guest_saves_of_its_flags_has_no_trap_flag_of_a_step(new_vm, how):
    saves = "pushfq; nop; syscall; ud2; nop; nop; hlt"  # an interpreted iretq is one step with what follows
    vm = guest(new_vm, saves, {6: "mov rsi, [rsp + 16]; add qword ptr [rsp], 2; iretq"})
    back = HANDLERS + 0x800
    vm.memory.write(back, bj.asm("mov r12, r11; jmp rcx", at=back))
    vm.cpu.efer.sce = True
    vm.cpu.msr["STAR"], vm.cpu.msr["LSTAR"], vm.cpu.msr[0xC0000084] = vm.cpu.cs.selector << 32, back, 0
    if how == "stepped":
        for _ in range(30):
            if vm.cpu.step() == bj.Hlt():
                break
    elif how == "traced":
        with vm.trace(step=True):
            assert vm.run(60) == bj.Hlt()
    else:
        for name in ("pushf", "syscall", "ud2"):
            vm.breakpoint(place(vm, name), lambda hit: None, hw=False)
        assert vm.run(60) == bj.Hlt()
    regs = vm.cpu.regs
    pushed = vm.memory.read_u64(regs.rsp)
    assert regs.rip == place(vm, "hlt") + 1
    assert [flags & 0x102 for flags in (pushed, regs.r12, regs.rflags)] == [2, 2, 2]
    if (
        how != "stepped" or bj.host.quirks.ring0_is_native
    ):  # an interpreter's step over a fault ends in the handler, or behind it
        assert regs.rsi & 0x102 == 2
