"""Handlers on model-specific registers: watch, fake, change, drop, refuse.

Only the MSRs that a handler names come out of the guest; KVM answers the others itself.
"""

import pytest

import belljar as bj

TSC_AUX, KERNEL_GS_BASE, LSTAR = 0xC000_0103, 0xC000_0102, 0xC000_0082
READ = f"mov ecx, {KERNEL_GS_BASE}; rdmsr; hlt"
WRITE = f"mov ecx, {KERNEL_GS_BASE}; mov eax, 0x5000; mov edx, 0x12; wrmsr; hlt"


def value(vm):
    return (vm.cpu.regs.rdx & 0xFFFF_FFFF) << 32 | vm.cpu.regs.rax & 0xFFFF_FFFF


@pytest.mark.parametrize("which", ["KERNEL_GS_BASE", KERNEL_GS_BASE, range(KERNEL_GS_BASE, KERNEL_GS_BASE + 1)])
def test_a_read_is_seen_and_goes_on(vm, which):
    vm.load(READ)
    vm.cpu.msr["KERNEL_GS_BASE"] = 0x7_0000_4000
    seen = []
    vm.on_msr(which, seen.append)
    assert vm.run(timeout=60) == bj.Hlt()
    assert (seen, value(vm)) == ([bj.MsrRead(KERNEL_GS_BASE, "filter")], 0x7_0000_4000)


def test_a_read_is_faked(vm):
    vm.load(READ)
    vm.on_msr("KERNEL_GS_BASE", lambda exit: 0x1122_3344_5566_7788)
    assert vm.run(timeout=60) == bj.Hlt()
    assert value(vm) == 0x1122_3344_5566_7788
    assert vm.cpu.msr["KERNEL_GS_BASE"] == 0


def test_a_write_is_seen_and_goes_on(vm):
    vm.load(WRITE)
    seen = []
    vm.on_msr("KERNEL_GS_BASE", seen.append, access="w")
    assert vm.run(timeout=60) == bj.Hlt()
    assert seen == [bj.MsrWrite(KERNEL_GS_BASE, 0x12_0000_5000, "filter")]
    assert vm.cpu.msr["KERNEL_GS_BASE"] == 0x12_0000_5000


def test_a_write_is_dropped(vm):
    vm.load(WRITE)
    vm.on_msr("KERNEL_GS_BASE", lambda exit: bj.SKIP)
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.msr["KERNEL_GS_BASE"] == 0


def test_another_value_is_written(vm):
    vm.load(WRITE)
    vm.on_msr("KERNEL_GS_BASE", lambda exit: exit.data + 1)
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.msr["KERNEL_GS_BASE"] == 0x12_0000_5001


def test_a_value_that_the_register_refuses_is_a_fault_of_the_guest(vm):
    vm.load(WRITE)
    vm.cpu.idt = (0, 0)
    vm.on_msr("KERNEL_GS_BASE", lambda exit: 0x8000_0000_0000_0000, access="w")
    assert vm.run(timeout=60) == bj.Shutdown()
    assert vm.cpu.msr["KERNEL_GS_BASE"] == 0


@pytest.mark.parametrize(("access", "seen"), [("r", ["MsrRead"]), ("w", ["MsrWrite"]), ("rw", ["MsrWrite", "MsrRead"])])
def test_the_direction_is_seen_from_the_guest(vm, access, seen):
    vm.load(WRITE.removesuffix("hlt") + READ)
    kinds = []
    vm.on_msr("KERNEL_GS_BASE", lambda exit: kinds.append(type(exit).__name__), access=access)
    assert vm.run(timeout=60) == bj.Hlt()
    assert kinds == seen
    assert value(vm) == 0x12_0000_5000


def test_other_registers_stay_with_kvm(vm):
    vm.load(f"mov ecx, {LSTAR}; rdmsr; hlt")
    watch = vm.on_msr("KERNEL_GS_BASE", lambda exit: None)
    assert vm.run(timeout=60) == bj.Hlt()
    assert watch.hits == 0


def test_a_register_that_no_processor_has_can_be_made_up(vm):
    vm.load("mov ecx, 0x12345678; rdmsr; add eax, 1; wrmsr; hlt")
    written = []
    vm.on_msr(0x1234_5678, lambda exit: written.append(exit.data) or bj.SKIP, access="w")
    vm.on_msr(0x1234_5678, lambda exit: 41, access="r")
    assert vm.run(timeout=60) == bj.Hlt()
    assert written == [42]


def test_a_register_that_nobody_knows_is_a_fault_of_the_guest(vm):
    vm.load("mov ecx, 0x12345678; rdmsr; hlt")
    vm.cpu.idt = (0, 0)
    watch = vm.on_msr(0x1234_5678, lambda exit: None)
    assert vm.run(timeout=60) == bj.Shutdown()
    assert watch.hits == 1


@pytest.mark.parametrize("code", [READ, WRITE])
@pytest.mark.parametrize("handler", [bj.DENY, lambda exit: bj.DENY])
def test_an_access_is_denied(vm, code, handler):
    vm.load(code)
    vm.cpu.idt = (0, 0)  # what it raises is a shutdown
    handle = vm.on_msr("KERNEL_GS_BASE", handler)
    trace = vm.trace(msr="KERNEL_GS_BASE")
    assert vm.run(timeout=60) == bj.Shutdown()
    assert handle.hits == 1 and vm.cpu.msr["KERNEL_GS_BASE"] == 0
    assert trace.hits == 1


def test_a_denied_access_is_a_general_protection_fault(vm):
    vm.load(READ)
    handler = bj.asm("mov ebx, 0x6b; hlt")
    vm.memory.write(0x9000, handler)
    gate = (0x9000).to_bytes(2, "little") + vm.cpu.cs.selector.to_bytes(2, "little") + b"\0\x8e" + bytes(10)
    vm.memory.write(0x8000 + 13 * 16, gate)
    vm.cpu.idt = (0x8000, 0xFFF)
    vm.cpu.regs.rsp = 0xF000
    vm.on_msr("KERNEL_GS_BASE", bj.DENY)
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.regs.rbx == 0x6B
    assert vm.memory.read_u64(vm.cpu.regs.rsp) == 0  # the error code
    assert vm.memory.read_u64(vm.cpu.regs.rsp + 8) == 0x1000 + len(bj.asm(READ.removesuffix("; rdmsr; hlt")))


def test_only_some_accesses_are_denied(vm):
    vm.load(WRITE)
    vm.on_msr("KERNEL_GS_BASE", bj.DENY, access="w", when=bj.exit.data == 1)
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.msr["KERNEL_GS_BASE"] == 0x12_0000_5000


def test_what_was_denied_has_no_data_in_a_table(vm):
    vm.load(READ)
    vm.cpu.idt = (0, 0)
    vm.on_msr("KERNEL_GS_BASE", bj.DENY)
    trace = vm.trace(msr="KERNEL_GS_BASE", fields=["index", "data"])
    vm.run(timeout=60)
    assert trace.to_polars().rows() == [(KERNEL_GS_BASE, None)]


def test_an_action_is_a_handler_that_needs_no_python(vm):
    vm.load(WRITE)
    with vm.on_msr("KERNEL_GS_BASE", bj.SKIP) as handle:
        assert vm.run(timeout=60) == bj.Hlt()
    assert handle.function is bj.SKIP and handle.hits == 1 and vm.cpu.msr["KERNEL_GS_BASE"] == 0


def test_only_msrs_can_be_denied(vm):
    vm.load("out 0x10, al; hlt")
    for subject in (lambda: vm.on_port(0x10, bj.DENY), lambda: vm.on_exit(bj.Hlt, bj.DENY)):
        with pytest.raises(TypeError, match="refuses accesses to MSRs alone"):
            subject()
    with pytest.raises(TypeError, match="refuses accesses to MSRs alone"):
        vm.breakpoint(0x1000, bj.DENY)
    assert vm.handlers == [] and vm.breakpoints == {}
    vm.on_port(0x10, lambda exit: bj.DENY)
    with pytest.raises(TypeError, match="is none: bj"):
        vm.run(timeout=60)


def test_stop_answers_and_stops(vm):
    vm.load(READ)
    vm.cpu.msr["KERNEL_GS_BASE"] = 0x4000
    vm.on_msr("KERNEL_GS_BASE", lambda exit: bj.STOP)
    assert vm.run(timeout=60) == bj.MsrRead(KERNEL_GS_BASE, "filter")
    assert value(vm) == 0x4000
    assert vm.run(timeout=60) == bj.Hlt()


def test_removing_the_handler_gives_the_register_back_to_kvm(vm):
    vm.load(READ)
    with vm.on_msr("KERNEL_GS_BASE", lambda exit: 1) as handle:
        assert vm.run(timeout=60) == bj.Hlt()
    assert (value(vm), handle.hits) == (1, 1)
    vm.cpu.regs.rip = 0x1000
    assert vm.run(timeout=60) == bj.Hlt()
    assert (value(vm), handle.hits) == (0, 1)


def test_a_handler_can_be_added_while_the_guest_runs(vm):
    vm.load(f"mov ecx, {KERNEL_GS_BASE}; l: rdmsr; test eax, eax; jz l; hlt")
    vm.start()
    vm.on_msr("KERNEL_GS_BASE", lambda exit: 1)
    assert vm.join(timeout=10) == bj.Hlt()


def test_what_a_handler_raises_comes_out(vm):
    vm.load(READ)
    with vm.on_msr("KERNEL_GS_BASE", lambda exit: 1 // 0), pytest.raises(ZeroDivisionError):
        vm.run(timeout=60)
    vm.load("mov ebx, 3; hlt")
    assert vm.run(timeout=60) == bj.Hlt()


@pytest.mark.parametrize("code", [READ, WRITE])
def test_a_handler_rewrites_rip(vm, code):
    vm.load(code.replace("hlt", "mov ebx, 1; hlt; there: mov ebx, 2; hlt"))
    behind = len(bj.asm(code.replace("hlt", "mov ebx, 1; hlt")))

    @vm.on_msr("KERNEL_GS_BASE")
    def jump(exit):
        vm.cpu.regs.rip = 0x1000 + behind
        vm.cpu.regs.rsi = 9

    assert vm.run(timeout=60) == bj.Hlt()
    assert (vm.cpu.regs.rbx, vm.cpu.regs.rsi) == (2, 9)


def test_many_registers_can_be_watched(vm):
    handles = [vm.on_msr(0x100 + 0x10 * n, lambda exit, n=n: n, size=4) for n in range(40)]
    vm.load("mov ecx, 0x100; l: rdmsr; add ebx, eax; add ecx, 0x10; cmp ecx, 0x380; jne l; hlt")
    assert vm.run(timeout=60) == bj.Hlt()
    assert (vm.cpu.regs.rbx, {h.hits for h in handles}) == (sum(range(40)), {1})


def test_a_name_that_is_none_is_a_key_error(vm):
    with pytest.raises(KeyError, match="LSTAR"):
        vm.on_msr("NOPE", print)


def test_a_whole_space_of_registers_can_be_watched(vm):
    vm.load(READ)
    seen = []
    vm.on_msr(range(0xC000_0000, 0xC000_2000), seen.append)
    assert vm.run(timeout=60) == bj.Hlt()
    assert seen == [bj.MsrRead(KERNEL_GS_BASE, "filter")]
