"""Steps that lead into the guest's handlers: they end there, and the guest finds nothing of them in what it saves."""

import struct

import pytest

import belljar as bj

pytestmark = pytest.mark.needs(
    ring0_is_native=True, hardware_breakpoints_in_ring0=True, hardware_breakpoints_in_ring3=True
)

CODE, IDT, HANDLERS, STACK = 0x1000, 0x5000, 0x6000, 0x9000
BITS = {"real": 16, "protected": 32, "long": 64}
NOWHERE = 0x70_0000_0000


def guest(new_vm, code, handlers=None, mode="long"):
    """Load code in ring 0, with a table that leads each vector to its handler: text, or where it is."""
    vm = new_vm("1M")
    vm.load(bj.asm(code, at=CODE, bits=BITS[mode]), mode=mode, at=CODE)
    selector, at = vm.cpu.cs.selector, HANDLERS
    for vector, handler in (handlers or {}).items():
        if isinstance(handler, str):
            vm.memory.write(at, bj.asm(handler, at=at, bits=BITS[mode]))
        entry = at if isinstance(handler, str) else handler
        gates = {
            "real": (4 * vector, struct.pack("<HH", entry, 0)),
            "protected": (IDT + 8 * vector, struct.pack("<HHBBH", entry, selector, 0, 0x8E, 0)),
            "long": (IDT + 16 * vector, struct.pack("<HHBBHII", entry, selector, 0, 0x8E, 0, 0, 0)),
        }
        vm.memory.write(*gates[mode])
        at += 0x100
    if mode != "real":
        vm.cpu.idt = (IDT, 0xFFF)
    vm.cpu.regs.rbx, vm.cpu.regs.rsp = 0, STACK
    return vm


def traced(vm):
    """Run with each step recorded; return the addresses."""
    with vm.trace(step=True, fields=["address"]) as steps:
        end = vm.run(60)
        assert isinstance(end, bj.Hlt), end
        return [int(row["address"]) for row in steps.read()]


def stepped(vm):
    """Go on by single steps as far as to a halt; return the addresses."""
    seen = []
    while isinstance(step := vm.cpu.step(timeout=60), bj.Stepped):
        assert len(seen) < 100
        seen.append(step.address)
    assert isinstance(step, bj.Hlt), step
    return seen


def what_is_left(vm):
    """Return the registers and the memory, which steps are not to change."""
    regs = vm.cpu.regs
    return [regs.rip, regs.rsp, regs.rflags, regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi], vm.memory.read(
        0, 0xA000
    )


BACK = "inc rbx; add qword ptr [rsp], {}; iretq"
CODED = "add rsp, 8; " + BACK
PROGRAMS = {
    "ud2": ("long", "ud2; hlt", {6: BACK.format(2)}),
    "ud2 with its handler right there": ("long", "ud2; mov rbx, [rsp + 16]; hlt", {6: CODE + 2}),
    "int with its handler right there": ("long", "int 0x80; mov rbx, [rsp + 16]; hlt", {0x80: CODE + 2}),
    "a page fault of a call": ("long", f"mov rsi, {NOWHERE}; call [rsi]; hlt", {14: CODED.format(2)}),
    "a fault in a handler": (
        "long",
        f"mov rsi, {NOWHERE}; ud2; hlt",
        {6: "mov rax, [rsi]; " + BACK.format(2), 14: "lea rsi, [rsp + 8]; add rsp, 8; iretq"},
    ),
    "a coprocessor that is off": (
        "long",
        "mov rax, cr0; or rax, 8; mov cr0, rax; fld1; hlt",
        {7: "inc rbx; clts; iretq"},
    ),
    "a coprocessor's error": (
        "long",
        "mov rax, cr0; or rax, 32; mov cr0, rax; fninit; push 0; fldcw [rsp]; pop rax; "
        "fldz; fld1; fdiv st, st(1); fwait; hlt",
        {16: "inc rbx; fnclex; iretq"},
    ),
    "vectors that are off": (
        "long",
        "mov rax, cr4; and rax, -0x601; mov cr4, rax; divps xmm0, xmm0; hlt",
        {6: BACK.format(3)},
    ),
    "a division by zero": ("protected", "xor ecx, ecx; div ecx; hlt", {0: "add dword ptr [esp], 2; iretd"}),
    "into": ("protected", "mov al, 127; inc al; .byte 0xce; hlt", {4: "inc ebx; iretd"}),
    "int in real mode": ("real", "int 0x21; hlt", {0x21: "inc bx; iret"}),
    "int with its frame at the end of memory": (
        "real",
        "mov ax, 0xf000; mov ss, ax; xor sp, sp; int 0x21; hlt",
        {0x21: "mov bp, sp; mov bx, [bp + 4]; iret"},
    ),
    "a call that looks like a frame": (
        "long",
        "push 0x302; mov eax, cs; push rax; call f; pop rcx; pop rdx; hlt; f: ret",
        {},
    ),
    "one to a handler": (
        "long",
        "push 0x102; mov eax, cs; push rax; call f; pop rcx; pop rdx; hlt; f: ret",
        {6: CODE + 16, 13: CODE + 16, 14: CODE + 16},
    ),
    "one of 32 bits": ("protected", "push 0x102; push cs; call f; pop ecx; pop edx; hlt; f: ret", {}),
    "one in real mode": ("real", "push 0x102; push cs; call f; pop cx; pop dx; hlt; f: ret", {}),
}


@pytest.mark.parametrize("how", [traced, stepped])
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_faults_and_what_only_looks_like_it_leaves_the_same_when_it_is_stepped(new_vm, name, how):
    mode, code, handlers = PROGRAMS[name]
    plain, vm = guest(new_vm, code, handlers, mode), guest(new_vm, code, handlers, mode)
    assert plain.run(60) == bj.Hlt()
    steps = how(vm)
    assert what_is_left(vm) == what_is_left(plain)
    entries = {handler if isinstance(handler, int) else HANDLERS for handler in handlers.values()}
    assert not entries or entries & set(steps)


@pytest.mark.parametrize("what", ["breakpoints", "watchpoints"])
def test_debug_registers_that_are_all_taken_leave_room_for_the_handlers(new_vm, what):
    code, handlers = "ud2; int 0x80; hlt", {6: BACK.format(2), 0x80: "inc rbx; iretq"}
    plain, vm = guest(new_vm, code, handlers), guest(new_vm, code, handlers)
    for n in range(4):
        if what == "breakpoints":
            vm.breakpoint(0x8000 + 8 * n, hw=True)
        else:
            vm.watch(0x8000 + 8 * n, 8, hw=True, virtual=True)
    assert plain.run(60) == bj.Hlt()
    assert {HANDLERS, HANDLERS + 0x100} <= set(traced(vm))
    assert what_is_left(vm) == what_is_left(plain)


@pytest.mark.parametrize("hw", [True, False])
def test_a_breakpoint_at_a_handler_is_hit_once_when_it_is_stepped_into(new_vm, hw):
    code, handlers = "ud2; ud2; hlt", {6: BACK.format(2)}
    plain, vm = guest(new_vm, code, handlers), guest(new_vm, code, handlers)
    assert plain.run(60) == bj.Hlt()
    point = vm.breakpoint(HANDLERS, lambda hit: None, hw=hw)
    assert traced(vm).count(HANDLERS) == 2
    assert point.hits == 2
    point.remove()
    assert what_is_left(vm) == what_is_left(plain)


@pytest.mark.parametrize("hw", [True, False])
def test_a_breakpoint_at_what_faults_is_hit_once_though_the_handler_comes_back_to_it(new_vm, hw):
    code = f"mov rsi, {NOWHERE}; call [rsi]; hlt; f: ret"
    vm = guest(new_vm, code, {14: "add rsp, 8; inc rbx; lea rsi, [rip + to]; iretq; to: .quad 0x100d"})
    point = vm.breakpoint(CODE + 10, lambda hit: None, hw=hw)
    assert HANDLERS in traced(vm)
    assert (vm.cpu.regs.rbx, point.hits) == (1, 1)


def test_a_table_that_the_guest_changes_is_known_at_once(new_vm):
    other = "mov esi, 5; " + BACK.format(2)
    change = f"mov esi, {IDT + 16 * 6}; mov rax, [rsi + 16]; ud2; mov [rsi], rax; ud2; hlt"
    vm = guest(new_vm, change, {6: BACK.format(2), 7: other})
    steps = traced(vm)
    assert (HANDLERS in steps, HANDLERS + 0x100 in steps) == (True, True)


@pytest.mark.parametrize("stepping", [False, True])
def test_an_instruction_on_a_trapped_page_that_faults_has_not_read_what_is_watched(new_vm, stepping):
    vm = guest(new_vm, f"mov rdi, {NOWHERE}; mov esi, 0xcf00; mov eax, 0xc000; jmp rax", {14: CODED.format(2)})
    vm.memory.write(0xC000, bj.asm("movsq; hlt", at=0xC000))
    hits = []
    vm.watch(0xCF00, 8, lambda hit: hits.append(hit.address), access="r")
    if stepping:
        assert HANDLERS in traced(vm)
    else:
        assert vm.run(60) == bj.Hlt()
    assert (hits, vm.cpu.regs.rbx, vm.cpu.regs.rsi) == ([], 1, 0xCF00)


MANY = "inc rbx; or rcx, [rsp + 16]; iretq"


@pytest.mark.parametrize("code", ["l: inc rax; cmp rbx, 20; jb l; cli; hlt", "l: hlt; cmp rbx, 20; jb l; cli; hlt"])
def test_interrupts_that_wait_in_a_row_are_stepped_each(new_vm, code):
    vm = guest(new_vm, "sti; " + code, {0x40: MANY})
    vm.cpu.regs.rcx = 0
    for _ in range(20):
        vm.cpu.inject_interrupt(0x40)
    assert traced(vm).count(HANDLERS) == 20
    assert (vm.cpu.regs.rbx, vm.cpu.regs.rcx & 0x100) == (20, 0)


def test_an_nmi_inside_the_handler_of_another_one_comes_after_it(new_vm):
    vm = guest(new_vm, "l: cmp rbx, 3; jb l; hlt", {2: "inc rbx; or rcx, [rsp + 16]; out 0x10, al; nop; iretq"})
    vm.cpu.regs.rcx = 0
    vm.on_port(0x10, lambda exit: vm.cpu.inject_nmi() if vm.cpu.regs.rbx < 3 else None)
    vm.cpu.inject_nmi()
    assert traced(vm).count(HANDLERS) == 3
    assert (vm.cpu.regs.rbx, vm.cpu.regs.rcx & 0x100) == (3, 0)


def test_a_processor_is_stepped_from_where_it_is_started(new_vm):
    send = "mov eax, 0xfee00310; mov dword ptr [rax], 0x1000000; mov eax, 0xfee00300; mov dword ptr [rax], {:#x}; "
    vm = new_vm("1M", vcpus=2, irqchip="split")
    wait = "mov edx, 300; k: dec edx; jnz k; "
    vm.load(bj.asm(send.format(0xC500) + wait + send.format(0xC608) + "m: pause; jmp m", at=CODE), at=CODE)
    vm.memory.write(0x8000, bj.asm("mov cx, 100; l: inc bx; loop l; out 0x10, al", at=0, bits=16))
    vm.cpu.lapic.svr = 0x1FF
    with vm.trace(step=True, fields=["address"]) as steps:
        assert isinstance(vm.run(60, until=bj.PortOut), bj.PortOut)
        assert sum(0x8000 <= row["address"] < 0x8010 for row in steps.read()) >= 200


@pytest.mark.parametrize("how", ["stepped", "traced", "out of a handler"])
def test_a_run_after_steps_goes_through_handlers_as_ever(new_vm, how):
    vm = guest(new_vm, "l: nop; ud2; inc rbx; cmp rbx, 50; jne l; hlt", {6: "add qword ptr [rsp], 2; iretq"})
    if how == "stepped":
        assert vm.cpu.step(timeout=60) == bj.Stepped(CODE + 1)
    elif how == "traced":
        with vm.trace(step=True), vm.on_exit(bj.Stepped, lambda step: bj.STOP):
            assert vm.run(60) == bj.Stepped(CODE + 1)
    else:
        assert vm.cpu.step(2, timeout=60) == bj.Stepped(HANDLERS)
    assert vm.run(60) == bj.Hlt()
    assert vm.cpu.regs.rbx == 50


PICS = (
    "mov al, 0x11; out 0x20, al; out 0xa0, al; mov al, 0x20; out 0x21, al; mov al, 0x28; out 0xa1, al; "
    "mov al, 4; out 0x21, al; mov al, 2; out 0xa1, al; mov al, 1; out 0x21, al; out 0xa1, al; "
    "xor eax, eax; out 0x21, al; out 0xa1, al; sti; nop; l: inc rcx; jmp l"
)


@pytest.mark.parametrize("line", [5, 12], ids=["first", "second"])
def test_an_interrupt_that_waits_at_a_pic_is_stepped_from_its_handler_on(new_vm, line):
    end = "mov al, 0x20; out 0xa0, al; out 0x20, al; iretq"
    vm = new_vm("1M", irqchip="full")
    vm.load(bj.asm(PICS, at=CODE), mode="long", at=CODE)
    vm.memory.write(HANDLERS, bj.asm(f"mov rsi, [rsp + 16]; inc rbx; {end}", at=HANDLERS))
    gate = struct.pack("<HHBBHII", HANDLERS, vm.cpu.cs.selector, 0, 0x8E, 0, 0, 0)
    vm.memory.write(IDT + 16 * (0x20 + line), gate)
    vm.cpu.idt, vm.cpu.regs.rbx, vm.cpu.regs.rcx, vm.cpu.regs.rsp = (IDT, 0xFFF), 0, 0, STACK
    assert vm.run(60, until=bj.reg.rcx > 0) is not None
    vm.irq(line).pulse()
    with vm.trace(step=True, fields=["address"]) as steps:
        vm.run(timeout=1)
        seen = [int(row["address"]) for row in steps.read()]
    assert vm.cpu.regs.rbx == seen.count(HANDLERS) == 1
    assert vm.cpu.regs.rsi & 0x302 == 0x202
    assert len(seen) > 50


def test_steal_time_is_off_while_a_guest_is_stepped_and_on_again_afterwards(new_vm):
    vm, seen = guest(new_vm, "nop; nop; nop; hlt"), []
    vm.cpu.msr["KVM_STEAL_TIME"] = 0x8001
    vm.on_exit(bj.Stepped, lambda step: seen.append(vm.cpu.msr["KVM_STEAL_TIME"]))
    assert vm.run(60) == bj.Hlt()
    assert set(seen) == {0x8000}
    assert vm.cpu.msr["KVM_STEAL_TIME"] == 0x8001
