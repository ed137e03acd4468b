"""Events that interrupt the guest when anybody writes them, without entering belljar."""

import gc
import os
import struct
import subprocess
import sys
import threading

import pytest

import belljar as bj

IDT, HANDLERS, STACK = 0x4000, 0x5000, 0x9000
IOAPIC, EOI, PIN = 0xFEC0_0000, 0xFEE0_00B0, 5
ONES = (1).to_bytes(8, "little")
COUNT = f"inc rbx; push rax; mov eax, {EOI:#x}; mov dword ptr [rax], 0; pop rax; iretq"
OPEN = "sti; l: inc rcx; out 0x80, al; cmp rbx, rdx; jb l; cli; hlt"
ROUTE = f"""
    mov edi, {IOAPIC:#x}
    mov dword ptr [rdi], {0x10 + 2 * PIN + 1:#x}
    mov dword ptr [rdi + 0x10], 0
    mov dword ptr [rdi], {0x10 + 2 * PIN:#x}
    mov dword ptr [rdi + 0x10], 0x40
"""
APIC = "mov eax, 0xfee000f0; mov dword ptr [rax], 0x1ff; "


def guest(vm, code, vectors=(0x40,)):
    """Load `code` with handlers that count in RBX."""
    vm.load(f"mov esp, {STACK}; {APIC} {code}")
    selector = vm.cpu.cs.selector
    vm.memory.write(HANDLERS, bj.asm(COUNT, at=HANDLERS))
    gate = struct.pack("<HHBBHII", HANDLERS & 0xFFFF, selector, 0, 0x8E, HANDLERS >> 16, 0, 0)
    for vector in vectors:
        vm.memory.write(IDT + 16 * vector, gate)
    vm.cpu.idt = (IDT, 0xFFF)
    return vm


@pytest.fixture(params=["split", "full"])
def chip(request, new_vm):
    return new_vm("1M", irqchip=request.param)


def each_time(vm, act):
    """Act at every second exit of OPEN's loop, so that the guest takes each interrupt on its own."""
    state = {"taken": -1}

    def handler(exit):
        if vm.cpu.regs.rbx != state["taken"]:
            state["taken"] = vm.cpu.regs.rbx
            act()

    vm.on_port(0x80, handler)


def until_counted(vm, number):
    end = vm.run(timeout=20, until=lambda exit: vm.cpu.regs.rbx >= number if exit else False)
    assert isinstance(end, bj.PortOut | bj.Hlt | bj.Interrupted), end
    assert vm.cpu.regs.rbx == number


def test_a_write_to_the_event_of_a_line_interrupts_the_guest(chip):
    guest(chip, ROUTE + "mov edx, 3; " + OPEN)
    event = chip.irq(PIN).eventfd()
    each_time(chip, lambda: os.write(event.fileno(), ONES))
    until_counted(chip, 3)
    assert event.removed is False


def test_it_is_triggered_by_hand(chip):
    guest(chip, ROUTE + "mov edx, 1; " + OPEN)
    with chip.irq(PIN).eventfd() as event:
        each_time(chip, event.trigger)
        until_counted(chip, 1)
    with pytest.raises(ValueError, match="has been removed"):
        event.trigger()
    assert (event.removed, repr(event)) == (True, "<IrqEvent, removed>")
    event.remove()


def test_an_event_sends_a_message(chip):
    guest(chip, "mov edx, 2; " + OPEN)
    event = chip.msi_eventfd(0xFEE0_0000, 0x40)
    each_time(chip, event.trigger)
    until_counted(chip, 2)


def test_messages_and_lines_do_not_take_each_others_place(chip):
    message = chip.msi_eventfd(0xFEE0_0000, 0x40)
    guest(chip, ROUTE + "mov edx, 2; " + OPEN)
    line = chip.irq(PIN).eventfd()
    second = chip.msi_eventfd(0xFEE0_0000, 0x40)
    turns = iter([line, message, second, line])
    each_time(chip, lambda: next(turns).trigger())
    chip.cpu.regs.rdx = 4
    vm_wants_four(chip)
    until_counted(chip, 4)


def vm_wants_four(vm):
    vm.memory.write(0x1000, vm.memory.read(0x1000, 0x200).replace(b"\xba\x02\0\0\0", b"\xba\x04\0\0\0"))


def test_a_line_that_was_pulled_by_hand_still_works_beside_messages(chip):
    message = chip.msi_eventfd(0xFEE0_0000, 0x40)
    guest(chip, ROUTE + "mov edx, 2; " + OPEN)
    turns = iter([chip.irq(PIN).pulse, message.trigger])
    each_time(chip, lambda: next(turns)())
    until_counted(chip, 2)


def test_another_process_interrupts_the_guest(new_vm):
    vm = guest(new_vm("1M", irqchip="split"), "mov edx, 1; " + OPEN)
    event = vm.msi_eventfd(0xFEE0_0000, 0x40)
    code = "import os, sys; os.write(int(sys.argv[1]), (1).to_bytes(8, 'little'))"
    each_time(
        vm,
        lambda: subprocess.run(
            [sys.executable, "-c", code, str(event.fileno())], pass_fds=[event.fileno()], check=True, timeout=20
        ),
    )
    until_counted(vm, 1)


def test_another_thread_wakes_a_guest_that_halts(new_vm):
    vm = guest(new_vm("1M", irqchip="split"), "l: sti; hlt; cli; cmp rbx, 3; jb l; out 0x81, al")
    event, step = vm.msi_eventfd(0xFEE0_0000, 0x40), threading.Event()

    def send():
        while not step.wait(0.02):
            event.trigger()

    thread = threading.Thread(target=send)
    thread.start()
    end = vm.run(timeout=20, until=bj.PortOut)
    step.set()
    thread.join()
    assert end.port == 0x81


def test_an_event_that_is_gone_leaves_no_route_behind(new_vm):
    vm = new_vm("1M", irqchip="split")
    for _ in range(1100):
        vm.msi_eventfd(0xFEE0_0000, 0x40)
    gc.collect()
    kept = [vm.msi_eventfd(0xFEE0_0000, 0x40) for _ in range(100)]
    assert len({event.fileno() for event in kept}) == 100


def test_a_vm_without_interrupt_controllers_has_none(vm):
    with pytest.raises(ValueError, match="no interrupt controller"):
        vm.msi_eventfd(0xFEE0_0000, 0x40)


def test_a_closed_vm_has_none(new_vm):
    vm = new_vm("1M", irqchip="split")
    line, event = vm.irq(PIN), vm.msi_eventfd(0xFEE0_0000, 0x40)
    vm.close()
    event.remove()
    for make in (line.eventfd, lambda: vm.msi_eventfd(0xFEE0_0000, 0x40)):
        with pytest.raises(bj.ClosedError):
            make()
