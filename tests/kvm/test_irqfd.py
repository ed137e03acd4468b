"""Events that interrupt the guest when anybody writes them, without entering belljar."""

import gc
import os
import struct
import subprocess
import sys
import threading

import pytest
from tests.waiting import until

import belljar as bj

IDT, HANDLER, STACK, COUNT = 0x4000, 0x5000, 0x9000, 0x8000
IOAPIC, EOI, PIN = 0xFEC0_0000, 0xFEE0_00B0, 5
ONE = (1).to_bytes(8, "little")
# Masks the PIC, where there is one, and switches the local APIC on.
ON = (
    "mov al, 0xff; out 0x21, al; out 0xa1, al; "
    "mov eax, 0xfee000f0; mov dword ptr [rax], 0x1ff; mov eax, 0xfee00080; mov dword ptr [rax], 0; "
)
ROUTE = (
    f"mov eax, {IOAPIC:#x}; mov dword ptr [rax], {0x10 + 2 * PIN}; mov dword ptr [rax + 0x10], 0x41; "
    f"mov dword ptr [rax], {0x11 + 2 * PIN}; mov dword ptr [rax + 0x10], 0; "
)
INTERRUPTED = f"inc dword ptr [{COUNT:#x}]; push rax; mov eax, {EOI:#x}; mov dword ptr [rax], 0; pop rax; iretq"


class Guest:
    """A guest in the background that halts, and counts interrupts 0x40 and 0x41."""

    def __init__(self, vm):
        self.vm = vm
        vm.load(f"mov esp, {STACK}; {ON} {ROUTE} sti; out 0x11, al; l: hlt; jmp l")
        vm.memory.write(HANDLER, bj.asm(INTERRUPTED, at=HANDLER))
        for vector in (0x40, 0x41):
            gate = struct.pack("<HHBBHII", HANDLER, vm.cpu.cs.selector, 0, 0x8E, 0, 0, 0)
            vm.memory.write(IDT + 16 * vector, gate)
        vm.cpu.idt = (IDT, 0xFFF)
        self.expected = 0

    def start(self):
        ready = threading.Event()
        self.vm.on_port(0x11, lambda exit: ready.set())
        self.vm.start()
        assert ready.wait(60)

    def takes(self, interrupt):
        """Interrupt it once, and wait until it has counted that."""
        interrupt()
        self.expected += 1
        until(lambda: self.vm.memory.read_u32(COUNT) == self.expected, f"there were not {self.expected} interrupts")


@pytest.fixture(params=["split", "full"])
def guest(request, new_vm):
    return Guest(new_vm("1M", irqchip=request.param))


def test_a_write_to_the_event_of_a_line_interrupts_the_guest(guest):
    guest.start()
    event = guest.vm.irq(PIN).eventfd()
    for _ in range(3):
        guest.takes(lambda: os.write(event.fileno(), ONE))
    assert event.removed is False


def test_it_is_triggered_by_hand(guest):
    guest.start()
    with guest.vm.irq(PIN).eventfd() as event:
        guest.takes(event.trigger)
    with pytest.raises(ValueError, match="has been removed"):
        event.trigger()
    assert (event.removed, repr(event)) == (True, "<IrqEvent, removed>")
    event.remove()


def test_a_write_after_its_removal_interrupts_nobody(guest):
    guest.start()
    event, other = guest.vm.irq(PIN).eventfd(), guest.vm.msi_eventfd(0xFEE0_0000, 0x40)
    event.remove()
    os.write(event.fileno(), ONE)
    guest.takes(other.trigger)


def test_messages_and_lines_do_not_take_each_others_place(guest):
    before = guest.vm.msi_eventfd(0xFEE0_0000, 0x40)
    guest.start()
    line = guest.vm.irq(PIN).eventfd()
    after = guest.vm.msi_eventfd(0xFEE0_0000, 0x40)
    for event in (line, before, after, line):
        guest.takes(event.trigger)
    before.remove()
    for event in (after, line):
        guest.takes(event.trigger)
    guest.takes(guest.vm.irq(PIN).pulse)


def test_another_process_interrupts_the_guest(guest):
    guest.start()
    event = guest.vm.msi_eventfd(0xFEE0_0000, 0x40)
    code = "import os, sys; os.write(int(sys.argv[1]), (1).to_bytes(8, 'little'))"
    command = [sys.executable, "-c", code, str(event.fileno())]
    guest.takes(lambda: subprocess.run(command, pass_fds=[event.fileno()], check=True, timeout=20))


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
