"""Interrupts from outside: injected, by line, by message; NMIs and exceptions; windows waited for."""

import struct
import threading
import time

import pytest
from tests.waiting import until

import belljar as bj

IDT, HANDLERS, STACK = 0x4000, 0x5000, 0x9000
IOAPIC, EOI = 0xFEC0_0000, 0xFEE0_00B0


def guest(vm, code, handlers):
    """Load `code` in long mode with an IDT that leads each vector to its handler's code."""
    vm.load(f"mov esp, {STACK}; {code}")
    selector = vm.cpu.cs.selector
    at = HANDLERS
    for vector, text in handlers.items():
        body = bj.asm(text, at=at)
        vm.memory.write(at, body)
        gate = struct.pack("<HHBBHII", at & 0xFFFF, selector, 0, 0x8E, at >> 16 & 0xFFFF, 0, 0)
        vm.memory.write(IDT + 16 * vector, gate)
        at += 0x100
    vm.cpu.idt = (IDT, 0xFFF)
    return vm


COUNT = "inc rbx; iretq"
ACKNOWLEDGE = f"inc rbx; push rax; mov eax, {EOI:#x}; mov dword ptr [rax], 0; pop rax; iretq"
OPEN = "sti; l: inc rcx; out 0x80, al; cmp rbx, rdx; jb l; cli; hlt"
WAIT = "cli; l: sti; hlt; cli; cmp rbx, rdx; jb l; hlt"


def test_an_injected_interrupt_waits_for_the_guest_to_take_it(vm):
    guest(vm, "cli; out 0x10, al; sti; nop; mov ecx, 3000; l: dec ecx; jnz l; hlt", {0x40: COUNT})
    vm.cpu.inject_interrupt(0x40)
    assert vm.run(timeout=60, until=bj.PortOut) == bj.PortOut(0x10, 1, vm.cpu.regs.rax & 0xFF)
    assert (vm.cpu.regs.rbx, vm.cpu.waiting_interrupts) == (0, [0x40])
    assert vm.run(timeout=60) == bj.Hlt()
    assert (vm.cpu.regs.rbx, vm.cpu.waiting_interrupts) == (1, [])


def test_interrupts_are_taken_in_their_order_and_none_is_lost(vm):
    guest(vm, "mov edx, 60; " + OPEN, {n: f"push {n}; pop rax; out 0x20, al; " + COUNT for n in range(0x40, 0x46)})
    vectors = [0x40 + n % 6 for n in range(60)]
    for vector in vectors:
        vm.cpu.inject_interrupt(vector)
    seen = []
    vm.on_port(0x20, lambda exit: seen.append(exit.data))
    assert vm.run(timeout=20) == bj.Hlt()
    assert seen == vectors


def test_a_handler_may_inject(vm):
    guest(vm, "mov edx, 5; " + OPEN, {0x40: COUNT})

    @vm.on_port(0x80)
    def inject(exit):
        if not vm.cpu.waiting_interrupts:
            vm.cpu.inject_interrupt(0x40)

    assert vm.run(timeout=20) == bj.Hlt()
    assert vm.cpu.regs.rbx == 5


def test_an_interrupt_ends_a_halt(vm):
    guest(vm, "mov edx, 3; " + WAIT, {0x40: COUNT})
    for n in range(3):
        assert vm.run(timeout=60) == bj.Hlt()
        assert vm.cpu.regs.rbx == n
        vm.cpu.inject_interrupt(0x40)
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.regs.rbx == 3


def test_another_thread_interrupts_a_guest_that_makes_no_exits(vm):
    guest(vm, "sti; l: inc rcx; cmp rbx, 5; jb l; cli; hlt", {0x40: COUNT})

    def send():
        for _ in range(5):
            time.sleep(0.01)
            vm.cpu.inject_interrupt(0x40)

    thread = threading.Thread(target=send)
    thread.start()
    end = vm.run(timeout=20)
    thread.join()
    assert end == bj.Hlt()
    assert vm.cpu.regs.rbx == 5


def test_a_guest_that_takes_no_interrupts_fills_no_memory(vm):
    vm.load("hlt")
    for _ in range(1024):
        vm.cpu.inject_interrupt(0x40)
    with pytest.raises(ValueError, match="1024 interrupts wait for vCPU 0 already"):
        vm.cpu.inject_interrupt(0x40)


def test_an_nmi_comes_even_where_interrupts_are_closed(vm):
    guest(vm, "cli; l: out 0x80, al; cmp rbx, 1; jb l; hlt", {2: COUNT})
    vm.on_port(0x80, lambda exit: vm.cpu.inject_nmi() if vm.cpu.regs.rcx == 0 else None)
    vm.cpu.inject_nmi()
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.regs.rbx >= 1


def test_an_nmi_is_seen_on_its_way_into_a_stopped_vcpu(vm):
    guest(vm, "nop; hlt", {2: "mov ebx, 7; hlt"})
    vm.cpu.inject_nmi()
    assert vm.cpu.events.nmi_pending == 1
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.regs.rbx == 7
    assert vm.cpu.events.nmi_masked


def test_an_nmi_that_a_handler_of_a_halt_injects_ends_it(vm):
    guest(vm, "hlt; mov esi, 7; out 0x10, al; hlt", {2: COUNT})
    halts = []

    @vm.on_exit(bj.Hlt)
    def wake(exit):
        if not halts:
            vm.cpu.inject_nmi()
        halts.append(vm.cpu.events.nmi_pending)

    assert vm.run(timeout=60) == bj.Hlt()
    assert (halts, vm.cpu.regs.rbx, vm.cpu.regs.rsi) == ([1, 0], 1, 7)


@pytest.mark.parametrize("irqchip", ["split", "full"])
def test_who_injects_is_told_whether_the_local_apic_took_it(new_vm, irqchip):
    vm = new_vm("1M", irqchip=irqchip)
    vm.load("hlt")
    assert vm.cpu.inject_interrupt(0x40) is False
    vm.cpu.lapic.svr = 0x1FF
    assert vm.cpu.inject_interrupt(0x40) is True
    assert vm.cpu.lapic.irr == {0x40}


def test_without_a_local_apic_an_injected_interrupt_is_always_kept(vm):
    vm.load("hlt")
    assert vm.cpu.inject_interrupt(0x40) is True


@pytest.mark.parametrize(("vector", "code", "pushed"), [(6, None, None), (13, None, 0), (13, 0x58, 0x58), (14, 2, 2)])
def test_an_exception_comes_with_its_error_code(vm, vector, code, pushed):
    take = "mov rdi, [rsp]; out 0x20, al; hlt"
    guest(vm, "nop; hlt", {vector: take})
    at = vm.cpu.regs.rip
    vm.cpu.inject_exception(vector, code, **({"cr2": 0x1234_5678} if vector == 14 else {}))
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.stats.exits["PortOut"] == 1
    assert vm.cpu.regs.rdi == (at if pushed is None else pushed)
    assert vector != 14 or vm.cpu.cr2 == 0x1234_5678


def test_an_exception_can_be_injected_by_a_handler(vm):
    guest(vm, "out 0x10, al; mov esi, 7; hlt", {13: "mov rdi, [rsp + 8]; hlt"})
    vm.on_port(0x10, lambda exit: vm.cpu.inject_exception(13))
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.regs.rsi == 0
    assert vm.cpu.regs.rdi != 0


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((32,), {}, "32 is an interrupt"),
        ((2,), {}, "NMI"),
        ((6, 1), {}, "exception 6 has no error code"),
        ((13,), {"cr2": 1}, "cr2 is for page faults"),
    ],
)
def test_what_an_exception_does_not_have_is_refused(vm, args, kwargs, text):
    vm.load("hlt")
    with pytest.raises(ValueError, match=text):
        vm.cpu.inject_exception(*args, **kwargs)


def test_a_second_exception_is_refused_while_one_is_on_its_way(vm):
    vm.load("hlt")
    vm.cpu.inject_exception(6)
    with pytest.raises(ValueError, match="exception 6 is on its way into vCPU 0 already"):
        vm.cpu.inject_exception(13)


def test_without_interrupt_controllers_there_are_no_lines_and_no_messages(vm):
    with pytest.raises(ValueError, match=r'irqchip="split"'):
        vm.irq(5)
    with pytest.raises(ValueError, match="no interrupt controller"):
        vm.msi(0xFEE0_0000, 0x40)


@pytest.fixture(params=["split", "full"])
def chip(new_vm, request):
    """Make a VM with interrupt controllers whose local APIC is on."""
    return new_vm("1M", irqchip=request.param)


# Masks the PIC, where there is one, and switches the local APIC on.
ON = (
    "mov al, 0xff; out 0x21, al; out 0xa1, al; "
    "mov eax, 0xfee000f0; mov dword ptr [rax], 0x1ff; mov eax, 0xfee00080; mov dword ptr [rax], 0; "
)


def pin(entry, number=5):
    return (
        f"mov eax, {IOAPIC:#x}; mov dword ptr [rax], {0x10 + 2 * number}; mov dword ptr [rax + 0x10], {entry:#x}; "
        f"mov dword ptr [rax], {0x11 + 2 * number}; mov dword ptr [rax + 0x10], 0; "
    )


def counted(vm):
    return vm.memory.read_u32(0x8000)


INTERRUPTED = f"inc dword ptr [0x8000]; push rax; mov eax, {EOI:#x}; mov dword ptr [rax], 0; pop rax; iretq"


def test_a_message_is_an_interrupt(chip):
    guest(chip, ON + "sti; out 0x11, al; l: hlt; jmp l", {0x40: INTERRUPTED})
    ready = threading.Event()
    chip.on_port(0x11, lambda exit: ready.set())
    chip.start()
    assert ready.wait(60)
    for n in range(1, 4):
        assert chip.msi(0xFEE0_0000, 0x40)
        until(lambda n=n: counted(chip) == n)
    chip.cpu.inject_interrupt(0x40)
    until(lambda: counted(chip) == 4)
    assert chip.stop() == bj.Interrupted("stop")


def test_a_pulse_is_one_interrupt_of_an_edge_triggered_line(chip):
    guest(chip, ON + pin(0x41) + "sti; out 0x11, al; l: hlt; jmp l", {0x41: INTERRUPTED})
    ready = threading.Event()
    chip.on_port(0x11, lambda exit: ready.set())
    chip.start()
    assert ready.wait(60)
    line = chip.irq(5)
    for n in range(1, 6):
        line.pulse()
        until(lambda n=n: counted(chip) == n)
    time.sleep(0.02)
    assert (counted(chip), line.level, line.line) == (5, False, 5)


def test_a_level_interrupts_again_for_as_long_as_it_is_high(chip):
    guest(chip, ON + pin(0x8041) + "sti; out 0x11, al; l: hlt; jmp l", {0x41: "out 0x12, al; " + INTERRUPTED})
    line, ready = chip.irq(5), threading.Event()
    chip.on_port(0x11, lambda exit: ready.set())
    chip.on_port(0x12, lambda exit: line.lower() if counted(chip) == 4 else None)
    chip.start()
    assert ready.wait(60)
    line.raise_()
    assert line.level or counted(chip) >= 4
    until(lambda: counted(chip) >= 5)
    time.sleep(0.05)
    # The kernel's I/O APIC may have sent one more by the time that the line goes low.
    assert (counted(chip) in {5, 6}, line.level) == (True, False)


def test_the_end_of_a_level_is_an_exit_with_the_split_controller(new_vm):
    vm = new_vm("1M", irqchip="split")
    guest(vm, ON + pin(0x8041) + "sti; out 0x11, al; l: hlt; jmp l", {0x41: "out 0x12, al; " + INTERRUPTED})
    vm.on_port(0x12, lambda exit: vm.irq(5).lower())
    vm.run(timeout=60, until=bj.PortOut)
    vm.irq(5).raise_()
    assert vm.run(timeout=60, until=bj.IoapicEoi) == bj.IoapicEoi(0x41)


def test_an_nmi_reaches_a_vcpu_that_waits_in_the_kernel(chip):
    guest(chip, ON + "cli; out 0x11, al; hlt; out 0x12, al; hlt", {2: "inc dword ptr [0x8000]; iretq"})
    ready, woken = threading.Event(), threading.Event()
    chip.on_port(0x11, lambda exit: ready.set())
    chip.on_port(0x12, lambda exit: woken.set())
    chip.start()
    assert ready.wait(60)
    time.sleep(0.02)
    chip.cpu.inject_nmi()
    assert woken.wait(60)
    assert counted(chip) == 1


def test_a_line_that_is_none_is_refused(chip):
    with pytest.raises(ValueError, match="interrupt lines are 0 to 23, not 24"):
        chip.irq(24)
    with pytest.raises(ValueError, match="vectors from 16 on, not 3"):
        chip.cpu.inject_interrupt(3)


def test_lines_of_a_closed_machine_say_so(new_vm):
    vm = new_vm("1M", irqchip="split")
    line = vm.irq(5)
    vm.close()
    with pytest.raises(bj.ClosedError):
        line.pulse()
    assert "IrqLine 5" in repr(line)


def test_an_interrupt_reaches_no_vcpu_but_the_one_that_is_named(new_vm):
    vm = new_vm("1M", 256, irqchip="split")
    for cpu in vm.cpus:
        cpu.lapic.svr = 0x1FF
    vm.cpus[254].inject_interrupt(0x40)
    with pytest.raises(ValueError, match="vCPUs 0 to 254, not 255"):
        vm.cpus[255].inject_interrupt(0x41)
    assert {cpu.id: set(cpu.lapic.irr) for cpu in vm.cpus if cpu.lapic.irr} == {254: {0x40}}
