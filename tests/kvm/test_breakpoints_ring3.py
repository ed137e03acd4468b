"""Breakpoints in ring 3 beside what the guest does there itself: its own #DB, its own faults, code of 32 bits."""

import struct

import pytest

import belljar as bj

CODE, DATA, GDT = 0x10000, 0x20000, 0x30000
NOWHERE = 0x1234_5678_9000
TRAPPED = "pushfq; or qword ptr [rsp], 0x100; popfq; nop; rcr rax, 0; nop; nop"  # from the first nop on, step by step
TRAP_FLAG = 0x100


def guest(new_vm, code):
    """Make a vCPU in ring 3 whose exceptions go to handlers in the guest that belljar does not know."""
    vm = new_vm("4M", vcpus=2)
    vm.load(code, mode="user", at=CODE)
    vm.cpus[1].restore(vm.cpu.state())
    return vm, vm.cpus[1]


def instruction(vm, number):
    """Return the address of an instruction, counted from 0."""
    return [one.address for one in bj.disasm(vm.memory.read(CODE, 64), at=CODE)][number]


def delivered(vm, cpu):
    """Run to the guest's own handler, and return where the exception came from and the flags there."""
    vm.on_port(0xF4, lambda exit: None)
    exit = cpu.run(5)
    assert exit == bj.Hlt(vcpu=1) and cpu.cpl == 0, exit
    rip, _, rflags = struct.unpack("<QQQ", vm.memory.read(cpu.regs.rsp, 24))
    return rip, rflags


@pytest.mark.parametrize("planted", ["before", "at the instruction", "at one that is stepped"])
def test_a_trap_flag_of_the_guests_own_brings_it_its_exception_beside_breakpoints(new_vm, planted):
    vm, cpu = guest(new_vm, TRAPPED)
    number = {"before": 0, "at the instruction": 3, "at one that is stepped": 4}[planted]
    at = instruction(vm, number)
    point = vm.breakpoint(at, vcpu=1, hw=False)
    if planted != "at one that is stepped":
        assert cpu.run(5) == bj.BreakpointHit(point.id, at, vcpu=1)
    rip, rflags = delivered(vm, cpu)
    assert (rip, rflags & TRAP_FLAG) == (instruction(vm, 4), TRAP_FLAG)
    assert point.hits == (planted != "at one that is stepped")


@pytest.mark.needs(hardware_breakpoints_in_ring3=True)
def test_a_trap_flag_of_the_guests_own_brings_it_its_exception_beside_a_debug_register(new_vm):
    vm, cpu = guest(new_vm, TRAPPED)
    vm.breakpoint(CODE + 0x100, vcpu=1, hw=True)
    rip, rflags = delivered(vm, cpu)
    assert (rip, rflags & TRAP_FLAG) == (instruction(vm, 4), TRAP_FLAG)


@pytest.mark.needs(hardware_breakpoints_in_ring3=True)
def test_a_debug_register_of_the_guests_own_brings_it_its_exception_beside_planted_bytes(new_vm):
    vm, cpu = guest(new_vm, "nop; nop; nop; nop")
    cpu.dr7, cpu.dr0 = 0x402, CODE + 2
    point = vm.breakpoint(CODE + 1, vcpu=1, hw=False)
    assert cpu.run(5) == bj.BreakpointHit(point.id, CODE + 1, vcpu=1)
    assert delivered(vm, cpu)[0] == CODE + 2


def test_code_of_32_bits_is_stopped_at_and_goes_on(new_vm):
    vm, cpu = guest(new_vm, bytes.fromhex("90 40 90 90 ebfa"))  # inc eax, in 32 bits
    base, limit = cpu.gdt.base, cpu.gdt.limit
    table = vm.memory.read(base, limit + 1) + struct.pack("<Q", 0x00CF_FB00_0000_FFFF)  # flat code of ring 3
    vm.memory.write(GDT, table)
    cpu.gdt = (GDT, len(table) - 1)
    selector = len(table) - 8 | 3
    cpu.cs = bj.Segment(base=0, limit=0xFFFF_FFFF, selector=selector, type=0xB, dpl=3, db=True, l=False, g=True)
    cpu.regs.rax = 0
    point = vm.breakpoint(CODE + 1, vcpu=1, hw=False)
    for n in range(3):
        assert cpu.run(5) == bj.BreakpointHit(point.id, CODE + 1, vcpu=1)
        assert (cpu.regs.rax, cpu.regs.rip, cpu.cpl) == (n, CODE + 1, 3)
        assert (cpu.cs.selector, cpu.cs.l, cpu.cs.db) == (selector, False, True)


@pytest.mark.parametrize("access", ["mov rax, [rcx]", "movq xmm0, [rcx]"])
def test_an_instruction_that_faults_is_one_hit_and_is_done_when_the_guest_comes_back(new_vm, access):
    vm = new_vm("4M")
    vm.load(f"nop; {access}; inc rbx; ud2", mode="user", at=CODE)
    vm.cpu.regs.rcx, vm.cpu.regs.rbx = NOWHERE, 0
    point = vm.breakpoint(CODE + 1, hw=False)
    assert vm.run(5) == bj.BreakpointHit(point.id, CODE + 1)
    fault = vm.run(5)
    assert isinstance(fault, bj.GuestException), fault
    assert (fault.vector, fault.rip, fault.cr2, vm.cpu.regs.rip) == (14, CODE + 1, NOWHERE, CODE + 1)
    assert vm.cpu.regs.rflags & TRAP_FLAG == 0
    vm.cpu.regs.rcx = DATA
    end = vm.run(5)
    assert isinstance(end, bj.GuestException) and end.vector == 6, end
    assert (vm.cpu.regs.rbx, point.hits) == (1, 1)
    vm.cpu.regs.rip = CODE  # and the next time it is one again
    assert vm.run(5) == bj.BreakpointHit(point.id, CODE + 1)
