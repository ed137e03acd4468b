"""Breakpoints a few instructions from each other: belljar executes the way between them itself, and nobody can tell."""

import threading
import time

import pytest

import belljar as bj

CODE = 0x10000
MODES = ["long", "user"]
STEPPED = "rcr rax, 0"  # which is not executed here
LOOP = f"l: {STEPPED}; inc rbx; mov [0x20000], rbx; push rbx; pop rcx; cmp rbx, 1000000; jne l"


def loaded(new_vm, mode, text=LOOP):
    vm = new_vm("4M")
    vm.load(text, mode=mode, at=CODE)
    vm.cpu.regs.rax = vm.cpu.regs.rbx = vm.cpu.regs.rcx = 0
    return vm


@pytest.mark.parametrize("mode", MODES)
def test_what_lies_between_is_executed_each_time(new_vm, mode):
    vm = loaded(new_vm, mode)
    every, some = vm.breakpoint(CODE, lambda hit: None), vm.breakpoint(CODE, when=bj.reg.rbx % 100 == 99)
    for n in range(99, 1000, 100):
        assert vm.run(10) == bj.BreakpointHit(some.id, CODE)
        regs = vm.cpu.regs
        assert (regs.rbx, regs.rcx, vm.memory.read_u64(0x20000), regs.rip, every.hits) == (n, n, n, CODE, n + 1)
        assert regs.rflags & 0x100 == 0


@pytest.mark.parametrize("mode", MODES)
def test_time_and_others_end_the_run_though_it_never_goes_far(new_vm, mode):
    vm = loaded(new_vm, mode, f"l: {STEPPED}; inc rbx; jmp l")
    point = vm.breakpoint(CODE, when=bj.reg.rsp == 1)
    begun = time.monotonic()
    assert vm.run(0.1) == bj.Timeout()
    assert time.monotonic() - begun < 5 and vm.cpu.regs.rbx > 10
    kicker = threading.Timer(0.1, vm.kick)
    kicker.start()
    assert vm.run(10) == bj.Interrupted("kick")
    kicker.join()
    vm.start()
    time.sleep(0.05)
    assert vm.stop() == bj.Interrupted("stop")
    assert point.hits == 0
    before = vm.cpu.regs.rbx
    point.remove()
    vm.run(0.1)
    assert vm.cpu.regs.rbx > before


@pytest.mark.parametrize("mode", MODES)
def test_each_of_several_is_hit_in_turn_and_none_that_has_gone(new_vm, mode):
    vm = loaded(new_vm, mode, f"l: {STEPPED}; inc rbx; nop; {STEPPED}; nop; jmp l")
    places = [one.address for one in bj.disasm(vm.memory.read(CODE, 32), at=CODE)]
    points = [vm.breakpoint(places[n]) for n in (0, 2, 3)]
    for _ in range(3):
        for point in points:
            assert vm.run(5) == bj.BreakpointHit(point.id, point.address)
    points.pop(1).remove()
    points.append(vm.breakpoint(places[1], once=True))
    order = [places[0], places[1], places[3], places[0], places[3]]
    assert [vm.run(5).address for _ in order] == order


@pytest.mark.parametrize("mode", MODES)
def test_a_step_from_one_ends_before_the_next_instruction(new_vm, mode):
    vm = loaded(new_vm, mode)
    vm.breakpoint(CODE)
    for n in range(3):
        assert isinstance(vm.run(5), bj.BreakpointHit)
        assert vm.cpu.step(timeout=5) == bj.Stepped(CODE + 4)
        assert vm.cpu.step(timeout=5) == bj.Stepped(CODE + 7) and vm.cpu.regs.rbx == n + 1


@pytest.mark.parametrize("mode", MODES)
def test_what_is_watched_on_the_way_is_seen(new_vm, mode):
    vm = loaded(new_vm, mode)
    point = vm.breakpoint(CODE, lambda hit: None)
    for _ in range(5):
        vm.run(5, max_exits=1)
    watch = vm.watch(0x20000)
    before = vm.cpu.regs.rbx
    seen = [hit.after for hit in (vm.run(5) for _ in range(3))]
    assert seen == [before + 1, before + 2, before + 3] and watch.hits == 3 and point.hits >= 7


@pytest.mark.parametrize("mode", MODES)
def test_a_port_on_the_way_is_accessed_as_often_as_the_guest_does(new_vm, mode):
    vm = loaded(new_vm, mode, f"l: {STEPPED}; inc rbx; mov al, bl; out 0x10, al; jmp l")
    point = vm.breakpoint(CODE, lambda hit: None)
    written = []

    @vm.on_port(0x10)
    def note(exit):
        written.append(exit.data)
        return bj.STOP if len(written) == 50 else None

    vm.run(10)
    assert written == list(range(1, 51)) and point.hits == 50
