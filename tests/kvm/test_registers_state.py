"""The whole state of a vCPU as one value: compared, printed, carried about, put back."""

import contextlib
import pickle
import random

import pytest

import belljar as bj
from belljar.state import VOLATILE

# Computes in registers, general and vector, and shows where it is at each turn.
COMPUTE = """
    mov ecx, 8; mov rax, 1; movq xmm0, rax; movq xmm1, rax; fninit; fld1
turn:
    imul rax, rax, 31; add rax, rcx; movq xmm2, rax; pxor xmm0, xmm2; paddq xmm1, xmm0; fadd st(0), st(0)
    out 0x10, al
    dec ecx; jnz turn
    movq rbx, xmm0; movq rdx, xmm1; out 0x11, al
"""


def result(vm):
    """Run to the end."""
    while (stop := vm.run(timeout=60, max_exits=1)).port != 0x11:
        pass
    assert isinstance(stop, bj.PortOut)
    regs = vm.cpu.regs
    return regs.rax, regs.rbx, regs.rdx, regs.rcx, vm.cpu.fpu.st[0]


def half_way(vm):
    vm.load(COMPUTE, mode="user")
    for _ in range(4):
        vm.run(timeout=60, max_exits=1)
    assert vm.cpu.regs.ecx == 5
    return vm.cpu.state()


@pytest.mark.parametrize("irqchip", [None, "split", "full"])
def test_a_state_put_back_runs_on_as_before(new_vm, irqchip):
    vm = new_vm("1M", irqchip=irqchip)
    state = half_way(vm)
    first = result(vm)
    assert first[3:] == (0, 256.0)
    for _ in range(3):
        assert vm.cpu.restore(state) == []
        assert vm.cpu.state() == state
        assert result(vm) == first


def test_a_state_runs_on_in_another_vm_with_the_same_memory(new_vm):
    vm, other = new_vm("1M"), new_vm("1M")
    state = half_way(vm)
    other.load(COMPUTE, mode="user")
    other.memory.write(0, bytes(vm.memory[0:0x10_0000]))
    assert other.cpu.restore(pickle.loads(pickle.dumps(state))) == []
    assert other.cpu.state() == state
    assert result(other) == result(vm)


def test_two_states_of_a_stopped_vcpu_are_equal(new_vm):
    vm = new_vm("1M", irqchip="full")
    vm.load("hlt", mode="user")
    one, two = vm.cpu.state(), vm.cpu.state()
    assert one == two
    assert hash(one) == hash(two)
    assert one.diff(two) == []
    assert repr(one.diff(two)) == "no difference"
    assert set(one.diff(two, volatile=True).names) <= VOLATILE
    assert "msr.TSC" in one.diff(two, volatile=True).names


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("regs.rbx", lambda cpu: setattr(cpu.regs, "rbx", 5)),
        ("cr0", lambda cpu: setattr(cpu.cr0, "ts", True)),
        ("cr2", lambda cpu: setattr(cpu, "cr2", 0x1234)),
        ("efer", lambda cpu: setattr(cpu.efer, "sce", True)),
        ("fs.base", lambda cpu: setattr(cpu, "fs", cpu.fs.replace(base=0x5000))),
        ("idt.limit", lambda cpu: setattr(cpu, "idt", (cpu.idt[0], 0x7FF))),
        ("dr2", lambda cpu: setattr(cpu, "dr2", 0x5000)),
        ("dr7", lambda cpu: setattr(cpu.dr7, "l2", True)),
        ("xmm3", lambda cpu: cpu.fpu.xmm.__setitem__(3, 1 << 127)),
        ("st0", lambda cpu: cpu.fpu.st_raw.__setitem__(0, 1)),
        ("mxcsr", lambda cpu: setattr(cpu.fpu, "mxcsr", 0x3F80)),
        ("msr.LSTAR", lambda cpu: cpu.msr.__setitem__("LSTAR", 0x5000)),
        ("events.nmi_masked", lambda cpu: setattr(cpu, "events", bj.Events(nmi_masked=True))),
        ("lapic.lvt_timer", lambda cpu: setattr(cpu.lapic, "lvt_timer", 0x10031)),
        ("mp_state", lambda cpu: setattr(cpu, "mp_state", "halted")),
    ],
)
def test_each_kind_of_state_is_seen_and_put_back(new_vm, name, change):
    vm = new_vm("1M", irqchip="split")
    vm.load("hlt", mode="user")
    before = vm.cpu.state()
    change(vm.cpu)
    after = vm.cpu.state()
    assert before.diff(after).names == [name]
    assert after != before
    assert vm.cpu.restore(before) == []
    assert vm.cpu.state() == before
    vm.cpu.restore(after)
    assert before.diff(vm.cpu.state()).by_name()[name].after == after[name]


def test_a_difference_goes_from_this_state_to_the_other(vm):
    before = vm.cpu.state()
    vm.cpu.regs.rax = 5
    assert before.diff(vm.cpu.state()) == [("regs.rax", 0, 5)]
    assert str(vm.cpu.state().diff(before)) == "regs.rax: 0x5 -> 0x0"


def test_the_upper_halves_of_ymm_are_part_of_it(vm):
    vm.load("hlt", mode="user")
    if not vm.cpu.xcr0.avx:
        pytest.skip("this processor has no AVX")
    before = vm.cpu.state()
    vm.cpu.fpu.ymm[9] = 1 << 200
    assert before.diff(vm.cpu.state()).names == ["ymm9.high"]
    vm.cpu.restore(before)
    assert vm.cpu.fpu.ymm[9] == 0


def test_a_difference_says_which_bits(vm):
    vm.load("hlt", mode="long")
    before = vm.cpu.state()
    vm.cpu.cr0.ts = True
    vm.cpu.cr0.ne = not vm.cpu.cr0.ne
    vm.cpu.rflags.iopl = 3
    shown = str(before.diff(vm.cpu.state()))
    assert "regs.rflags: 0x2 -> 0x3002 (iopl=3)" in shown
    assert "+ts" in shown
    assert "ne" in shown


def test_a_state_is_a_mapping_of_names(vm):
    vm.load("hlt", mode="user")
    state = vm.cpu.state()
    assert state["regs.rip"] == 0x1000
    assert state["cr0"].pg
    assert state["cs.selector"] == vm.cpu.cs.selector
    assert {"xmm0", "msr.TSC", "dr7", "gdt.base"} <= set(state)
    assert "nothing" not in state
    assert len(state) == len(list(state)) == len(dict(state))
    with pytest.raises(KeyError, match=r"do you mean .*regs\.rip"):
        state["rip"]


def test_a_state_prints_in_sections(new_vm):
    vm = new_vm("1M", irqchip="split")
    vm.load("hlt", mode="user")
    vm.cpu.fpu.xmm[3] = 0xABCD
    text = str(vm.cpu.state())
    for line in ("-- general", "-- segments and tables", "-- MSRs", "-- local APIC", "xmm3  0xabcd", "pe"):
        assert line in text
    assert len(text.splitlines()) < 100
    assert repr(vm.cpu.state()).startswith("<State at 0x1000, CR0(")


def test_a_state_can_be_stored(vm):
    vm.load("hlt", mode="user")
    state = vm.cpu.state()
    assert bj.State.from_bytes(state.to_bytes()) == state
    for bad in (b"", b"x" * 100, state.to_bytes()[:-8], state.to_bytes() + bytes(8)):
        with pytest.raises(ValueError, match="no state of a vCPU"):
            bj.State.from_bytes(bad)


def test_a_state_that_kvm_refuses_is_an_error_and_the_vcpu_goes_on(vm):
    vm.load("hlt", mode="user")
    good = vm.cpu.state()
    paging_without_protection = (0x8000_0000).to_bytes(8, "little")
    bad = bj.State(good.to_bytes().replace(good["cr0"].to_bytes(8, "little"), paging_without_protection, 1))
    assert good.diff(bad).names == ["cr0"]
    with pytest.raises(bj.RegisterError):
        vm.cpu.restore(bad)
    assert vm.cpu.restore(good) == []
    assert vm.cpu.state() == good


def test_a_state_does_not_fit_where_the_interrupt_controller_differs(vm, new_vm):
    other = new_vm("1M", irqchip="split")
    for state, cpu in ((vm.cpu.state(), other.cpu), (other.cpu.state(), vm.cpu)):
        with pytest.raises(ValueError, match="irqchip="):
            cpu.restore(state)


def test_a_state_is_seen_but_not_put_back_in_a_handler(vm):
    vm.load(COMPUTE, mode="user")
    states = []

    @vm.on_port(0x10)
    def door(exit):
        states.append(vm.cpu.state())
        vm.cpu.restore(states[0])

    with pytest.raises(bj.RunningError, match=r"restore\(\) from inside a handler"):
        vm.run(timeout=60)
    assert states[0]["regs.rcx"] == 8


def test_taking_a_state_does_not_disturb_the_guest(vm):
    vm.load(COMPUTE, mode="user")
    undisturbed = result(vm)
    vm.load(COMPUTE, mode="user")
    seen = []
    vm.on_port(0x10, lambda exit: seen.append(vm.cpu.state()["regs.rcx"]))
    assert result(vm) == undisturbed
    assert seen == [8, 7, 6, 5, 4, 3, 2, 1]


def test_a_running_vcpu_has_no_state_to_take(vm):
    vm.load(b"\xeb\xfe", mode="user")
    state = vm.cpu.state()
    vm.start()
    try:
        with pytest.raises(bj.RunningError):
            vm.cpu.state()
        with pytest.raises(bj.RunningError):
            vm.cpu.restore(state)
    finally:
        vm.stop()


def test_a_paused_machine_gives_a_state_and_takes_it_back(vm):
    vm.load("turn: inc rax; paddq xmm0, xmm1; jmp turn", mode="user")
    vm.cpu.fpu.xmm[1] = 1
    vm.start()
    vm.pause()
    state = vm.cpu.state()
    vm.resume()
    vm.pause()
    changed = state.diff(vm.cpu.state())
    assert {"regs.rax", "xmm0"} <= set(changed.names)
    assert vm.cpu.restore(state) == []
    assert vm.cpu.state() == state
    vm.resume()
    vm.stop()
    turns = vm.cpu.regs.rax - state["regs.rax"]
    assert abs(turns - (vm.cpu.fpu.xmm[0] - state["xmm0"])) <= 1


def test_no_damaged_state_harms_more_than_the_guest(vm):
    vm.load(COMPUTE, mode="user")
    good = vm.cpu.state()
    chance = random.Random(4)
    for _ in range(80):
        damaged = bytearray(good.to_bytes())
        for _ in range(chance.randrange(1, 4)):
            damaged[chance.randrange(chance.choice([800, len(damaged)]))] = chance.randrange(256)
        with contextlib.suppress(ValueError, bj.HostError):  # RegisterError is a ValueError
            vm.cpu.restore(bj.State(damaged))
            vm.run(timeout=0.02, max_exits=1)
    assert vm.cpu.restore(good) == []
    assert vm.cpu.state() == good
    vm.load(COMPUTE, mode="user")  # a guest gone astray may have written anywhere
    assert result(vm)[3:] == (0, 256.0)
