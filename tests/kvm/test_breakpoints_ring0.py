"""Breakpoints and steps in ring 0 beside what lives there: KVM's own ports, handlers of the guest's, interrupts."""

import struct

import pytest

import belljar as bj

IDT, HANDLERS, STACK, EOI = 0x4000, 0x5000, 0x9000, 0xFEE0_00B0
MODES = ["real", "protected", "long"]


def handles(vm, vector, text):
    """Put a handler of a vector into the guest."""
    at = HANDLERS + 0x100 * (vector & 0xF)
    vm.memory.write(at, bj.asm(text, at=at))
    gate = struct.pack("<HHBBHII", at & 0xFFFF, vm.cpu.cs.selector, 0, 0x8E, at >> 16, 0, 0)
    vm.memory.write(IDT + 16 * vector, gate)
    vm.cpu.idt = (IDT, 0xFFF)


@pytest.mark.parametrize("irqchip", [None, "split", "full"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("port", [0x20, 0x40, 0x61, 0x3F8])
def test_no_hit_is_lost_whatever_port_a_register_names(new_vm, irqchip, mode, port):
    vm = new_vm("1M", irqchip=irqchip)
    vm.load(bytes.fromhex("90 40 90 90 ebfa" if mode != "long" else "90 48ffc0 ebfa"), mode=mode, at=0x8000)
    vm.cpu.regs.rdx, vm.cpu.regs.rax = port, 0
    seen = []
    vm.on_exit(bj.PortIn, seen.append)
    with vm.breakpoint(0x8001, hw=False) as point:
        for n in range(4):
            assert vm.run(5) == bj.BreakpointHit(point.id, 0x8001)
            assert (vm.cpu.regs.rax, vm.cpu.regs.rdx, vm.cpu.regs.rip) == (n, port, 0x8001)
    assert vm.run(0.05) == bj.Timeout() and seen == []


@pytest.mark.parametrize("irqchip", [None, "full"])
def test_a_place_that_reads_a_port_of_kvms_own_is_noticed_otherwise(new_vm, irqchip):
    """push rax, and behind it the first byte of pop r8, 0x41: a port of the timer's."""
    vm = new_vm("1M", irqchip=irqchip)
    vm.load(bytes.fromhex("90 50 4158 ebfa"), mode="long", at=0x8000)
    vm.cpu.regs.rsp, vm.cpu.regs.rax, vm.cpu.regs.r8 = STACK, 7, 0
    handles(vm, 3, "hlt; nop; hlt")
    with vm.breakpoint(0x8001, hw=False) as point:
        assert point.mechanism in ("int3", "in", "gate")
        for n in range(4):
            assert vm.run(5) == bj.BreakpointHit(point.id, 0x8001)
            assert (vm.cpu.regs.rsp, vm.cpu.regs.r8, vm.cpu.cpl) == (STACK, 7 if n else 0, 0)
    assert vm.run(0.05) == bj.Timeout()


@pytest.mark.parametrize("irqchip", [None, "full"])
def test_the_guests_own_reads_of_ports_are_its_own(new_vm, irqchip):
    vm = new_vm("1M", irqchip=irqchip)
    vm.load("l: in al, 0x10; mov edx, 0x11; in al, dx; jmp l", at=0x8000)
    seen = []

    @vm.on_exit(bj.PortIn)
    def answer(exit):
        seen.append(exit.port)
        return len(seen)

    with vm.breakpoint(0x8002, hw=False) as point:
        for _ in range(3):
            assert isinstance(vm.run(5), bj.BreakpointHit)
            assert vm.cpu.regs.al == len(seen)
    assert seen == [0x10, 0x11] * 2 + [0x10] and point.hits == 3


@pytest.mark.needs(ring0_is_native=True, hardware_breakpoints_in_ring0=True, int3_exits_in_ring0=False)
def test_who_needs_a_debug_register_gets_one_that_another_can_do_without(new_vm):
    vm = new_vm("1M")
    vm.load(bytes.fromhex("90 48ffc0 90 90 90 ebf7"), mode="long", at=0x8000)
    points = [vm.breakpoint(0x8000 + n, lambda hit: None) for n in (0, 1, 4, 5, 6)]
    assert [point.mechanism for point in points] == ["hardware"] * 4 + ["in"]
    needs = vm.breakpoint(0x8007, hw=True)
    assert [point.mechanism for point in (*points, needs)] == ["in", *["hardware"] * 3, "in", "hardware"]
    for n in range(1, 5):
        assert vm.run(5) == bj.BreakpointHit(needs.id, 0x8007)
        assert [point.hits for point in points] == [n] * 5


@pytest.mark.parametrize("irqchip", ["split", "full"])
def test_a_step_takes_no_interrupt_and_the_next_run_does(new_vm, irqchip):
    vm = new_vm("1M", irqchip=irqchip)
    vm.load(f"mov esp, {STACK}; sti; nop; l: inc rcx; imul rax, rcx; jmp l", at=0x8000)
    handles(vm, 0x40, f"inc rbx; push rax; mov eax, {EOI:#x}; mov dword ptr [rax], 0; pop rax; iretq")
    vm.cpu.lapic.svr = 0x1FF
    vm.cpu.regs.rbx = vm.cpu.regs.rcx = 0
    vm.cpu.step(3, timeout=60)
    assert vm.msi(0xFEE0_0000, 0x40)
    first = vm.cpu.regs.rip
    for n in range(1, 10):
        assert isinstance(vm.cpu.step(3, timeout=60), bj.Stepped)
        assert (vm.cpu.regs.rip, vm.cpu.regs.rcx, vm.cpu.regs.rbx) == (first, n, 0)
    with vm.breakpoint(first, hw=False) as point:  # nor does getting past a breakpoint
        vm.cpu.step(timeout=60)
        assert vm.cpu.regs.rbx == 0
        assert vm.run(5) == bj.BreakpointHit(point.id, first)
    assert vm.cpu.regs.rbx == 1


def test_where_every_step_is_looked_at_interrupts_come(new_vm):
    vm = new_vm("1M", irqchip="split")
    vm.load(f"mov esp, {STACK}; sti; l: inc rcx; cmp rbx, 1; jb l; cli; hlt", at=0x8000)
    handles(vm, 0x40, f"inc rbx; push rax; mov eax, {EOI:#x}; mov dword ptr [rax], 0; pop rax; iretq")
    vm.cpu.lapic.svr = 0x1FF
    vm.cpu.regs.rbx = 0
    steps = []

    @vm.on_exit(bj.Stepped)
    def each(step):
        steps.append(step.address)
        if len(steps) == 20:
            vm.msi(0xFEE0_0000, 0x40)
        return bj.STOP if vm.cpu.regs.rbx == 1 else None

    assert isinstance(vm.run(10), bj.Stepped)
    assert any(HANDLERS <= at < STACK for at in steps)


@pytest.mark.parametrize("access", ["mov rax, [rcx]", "movdqu xmm0, [rcx]"])
def test_an_instruction_that_faults_is_one_hit_and_is_done_when_the_guest_comes_back(new_vm, access):
    vm = new_vm("1M")
    vm.load(f"mov esp, {STACK}; l: nop; {access}; inc rbx; jmp l", at=0x8000)
    handles(vm, 14, "add rsp, 8; mov ecx, 0x8800; inc rdx; iretq")
    vm.cpu.regs.rbx = vm.cpu.regs.rdx = 0
    vm.cpu.regs.rcx = 0x1234_5678_9000
    point = vm.breakpoint(0x8006, hw=False)
    for n in range(3):
        assert vm.run(5) == bj.BreakpointHit(point.id, 0x8006)
        assert (vm.cpu.regs.rbx, vm.cpu.regs.rdx, vm.cpu.regs.rip) == (n, n > 0, 0x8006)
    assert point.hits == 3


def test_a_trap_flag_of_the_guests_own_brings_it_its_exception_beside_breakpoints(new_vm):
    vm = new_vm("1M")
    vm.load(f"mov esp, {STACK}; nop; pushfq; or qword ptr [rsp], 0x100; popfq; nop; nop; hlt", at=0x8000)
    handles(vm, 1, "hlt; nop")
    point = vm.breakpoint(0x8005, hw=False)
    assert vm.run(5) == bj.BreakpointHit(point.id, 0x8005)
    assert vm.run(5) == bj.Hlt()
    rip, _, rflags = struct.unpack("<QQQ", vm.memory.read(vm.cpu.regs.rsp, 24))
    assert rflags & 0x100 and vm.memory.read(rip - 1, 1) == b"\x90"
