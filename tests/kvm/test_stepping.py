"""Single steps, over calls, out of functions, up to an address."""

import struct

import pytest

import belljar as bj

MODES = ["long", "user"]
F, G, END = 0x20, 0x30, 8


def program():
    """call f; inc rbx; jmp $. f: inc rax; call g; inc rax; ret. g: inc rdx; ret."""
    code = bytearray(64)
    code[0:10] = b"\xe8" + struct.pack("<i", F - 5) + bytes.fromhex("48ffc3 ebfe")
    code[F : F + 12] = bytes.fromhex("48ffc0 e8") + struct.pack("<i", G - F - 8) + bytes.fromhex("48ffc0 c3")
    code[G : G + 4] = bytes.fromhex("48ffc2 c3")
    return bytes(code)


@pytest.fixture(params=MODES)
def cpu(vm, request):
    vm.load(program(), mode=request.param)
    vm.cpu.regs.rax = vm.cpu.regs.rbx = vm.cpu.regs.rdx = 0
    return vm.cpu


def test_a_step_is_one_instruction_and_n_are_n(cpu):
    at = cpu.regs.rip
    assert cpu.step(timeout=60) == bj.Stepped(at + F)
    assert cpu.step(2, timeout=60) == bj.Stepped(at + G)
    assert (cpu.regs.rip, cpu.regs.rax, cpu.regs.rflags & 0x100) == (at + G, 1, 0)
    with pytest.raises(ValueError, match="at least one"):
        cpu.step(0)


def test_a_call_is_stepped_over_as_a_whole(cpu):
    at = cpu.regs.rip
    assert cpu.step_over(timeout=60) == bj.Stepped(at + 5)
    assert (cpu.regs.rax, cpu.regs.rdx) == (2, 1)
    assert cpu.step_over(timeout=60) == bj.Stepped(at + END)


def test_stepping_out_ends_behind_the_call(cpu):
    at = cpu.regs.rip
    cpu.step(timeout=60)
    assert cpu.step_out(timeout=60) == bj.Stepped(at + 5)
    assert (cpu.regs.rax, cpu.regs.rdx) == (2, 1)


def test_running_until_an_address_leaves_nothing_behind(cpu, vm):
    at = cpu.regs.rip
    assert cpu.run_until(at + G, timeout=60) == bj.Stepped(at + G)
    assert vm.memory.read(at, 64) == program()
    assert vm.run(0.05) == bj.Timeout()


def test_a_breakpoint_inside_a_call_that_is_stepped_over_ends_the_step(cpu, vm):
    at = cpu.regs.rip
    with vm.breakpoint(at + G) as point:
        assert cpu.step_over(timeout=60) == bj.BreakpointHit(point.id, at + G)
        assert cpu.step(timeout=60) == bj.Stepped(at + G + 3)


def test_a_step_that_halts_or_takes_too_long_ends_as_a_run_does(new_vm):
    vm = new_vm("1M")
    vm.load(bytes.fromhex("f4"), mode="long")
    assert isinstance(vm.cpu.step(timeout=60), bj.Hlt | bj.Stepped)
    vm = new_vm("1M")
    vm.load(bytes.fromhex("90 ebfe"), mode="long")
    assert vm.cpu.run_until(0x5000, timeout=0.05) == bj.Timeout()


def test_a_repeated_instruction_is_stepped_over_as_a_whole(vm):
    vm.load(bytes.fromhex("f3aa 90 ebfe"), mode="long")  # rep stosb
    cpu = vm.cpu
    cpu.regs.rcx, cpu.regs.rdi, at = 100, 0x8000, cpu.regs.rip
    assert cpu.step_over(timeout=60) == bj.Stepped(at + 2)
    assert (cpu.regs.rcx, cpu.regs.rdi) == (0, 0x8064)


def test_a_port_access_is_a_step_after_its_handler(vm):
    vm.load(bytes.fromhex("e610 90 ebfe"), mode="long")
    seen = []
    vm.on_port(0x10, lambda exit: seen.append(exit.data))
    assert vm.cpu.step(timeout=60) == bj.Stepped(0x1002)
    assert len(seen) == 1


def test_a_handler_of_steps_sees_each_and_goes_on(cpu, vm):
    at, seen = cpu.regs.rip, []

    @vm.on_exit(bj.Stepped)
    def each(step):
        seen.append(step.address - at)
        return bj.STOP if len(seen) == 5 else None

    assert vm.run(5) == bj.Stepped(at + F + 8)
    assert seen == [F, F + 3, G, G + 3, F + 8]
    each.remove()
    assert vm.run(0.05) == bj.Timeout()


def test_a_trace_records_each_step(cpu, vm):
    at = cpu.regs.rip
    with vm.trace(exits=bj.Stepped, fields=["address"]) as trace:
        assert cpu.run_until(at + END, timeout=60) == bj.Stepped(at + END)
        assert [row["address"] - at for row in trace.read()][:4] == [F, F + 3, G, G + 3]


def test_what_a_step_leaves_in_kvm_does_not_outlive_it(cpu, vm):
    cpu.step(3, timeout=60)
    assert vm.run(0.05) == bj.Timeout()
    assert cpu.regs.rflags & 0x100 == 0


@pytest.fixture
def specimen():
    with bj.specimen(quantum=1) as vm:
        vm.start()
        vm.console.read_until("line 2 at tick", timeout=30)
        vm.pause()
        yield vm


def test_a_guest_with_processes_goes_on_unharmed_when_it_has_been_stepped(specimen):
    # Interrupts and system calls push the flags of a stepped process; its trap flag must not come back with them.
    for _ in range(12):
        with specimen.trace(branch=True) as branches:
            specimen.run(timeout=0.2)
        assert branches.hits > 0
        specimen.run(timeout=0.1)
    assert [task.name for task in bj.guest.tasks(specimen) if task.fault] == []
    assert bj.guest.interrupts(specimen).get(1, 0) == 0


def test_a_guest_goes_on_unharmed_from_steps_of_a_process(specimen):
    # A step may begin with a page fault or an interrupt that is on its way.
    for _ in range(40):
        for _ in range(5):
            specimen.cpu.step(timeout=60)
        specimen.run(timeout=0.02)
    assert [task.name for task in bj.guest.tasks(specimen) if task.fault] == []
    assert bj.guest.interrupts(specimen).get(1, 0) == 0


@pytest.mark.needs(
    ring0_is_native=True, hardware_breakpoints_in_ring3=True
)  # elsewhere it is one step with its handler
def test_a_trace_goes_through_interrupts_and_leaves_time_for_what_they_interrupt(specimen):
    with specimen.trace(step=True, fields=["address", bj.reg.cpl]) as steps:
        specimen.run(timeout=2)
        rows = steps.read()
    came = (rows["cpl"][1:] == 0) & (rows["cpl"][:-1] == 3)
    assert came.sum() >= 5
    handlers = set(rows["address"][1:][came])
    assert len(handlers) <= 8  # the first instructions of handlers, whatever they interrupted
    assert 0.2 < (rows["cpl"] == 3).mean() < 0.95
