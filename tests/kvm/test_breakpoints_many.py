"""As many breakpoints as a program has blocks. That another one costs no more is proved where they are kept.

That is in src/debug and src/hook, by what a change touches.
"""

import time

import pytest

import belljar as bj

CODE = 0x100000
MANY = 1000 if bj.host.error is None and bj.host.quirks.ring0_is_native else 5000  # an emulated PC is slow


def a_slide(new_vm, mode):
    """Make a machine that slides through many instructions, and round again, by way of a port."""
    vm = new_vm("8M")
    jump = -(MANY + 7)
    vm.load(b"\x90" * MANY + b"\xe6\x11\xe9" + jump.to_bytes(4, "little", signed=True), mode=mode, at=CODE)
    return vm


@pytest.mark.parametrize("mode", ["long", "user"])
def test_each_of_many_breakpoints_is_hit_once_and_gone(new_vm, mode):
    vm = a_slide(new_vm, mode)
    vm.on_port(0x11, bj.STOP)
    points = [vm.breakpoint(CODE + n, once=True) for n in range(MANY)]
    for n in range(MANY):
        assert vm.run(5) == bj.BreakpointHit(points[n].id, CODE + n)
    assert isinstance(vm.run(5), bj.PortOut)
    assert vm.breakpoints == {} and {point.hits for point in points} == {1}
    assert isinstance(vm.run(5), bj.PortOut)


def test_many_with_handlers_are_planted_while_the_guest_runs(new_vm):
    vm = a_slide(new_vm, "user")
    seen = set()
    vm.start()
    points = [vm.breakpoint(CODE + n, lambda hit: seen.add(hit.address), once=True) for n in range(MANY)]
    end = time.monotonic() + 60
    while len(seen) < MANY and time.monotonic() < end:
        time.sleep(0.01)
    assert vm.state == "running"
    vm.stop()
    assert len(seen) == MANY and {point.hits for point in points} == {1}
    for point in points:
        point.remove()
    assert vm.handlers == []


def test_many_that_wait_for_their_page_are_planted_when_it_comes(new_vm):
    vm = a_slide(new_vm, "long")
    vm.memory.add(0x1000000, 0x2000)
    points = [vm.breakpoint(0x1000000 + n, physical=True, once=True) for n in range(MANY)]
    vm.memory.remove(0x1000000)
    assert all(point.pending for point in points)
    assert vm.run(0.1) == bj.Timeout()
    vm.memory.add(0x1000000, 0x2000)
    vm.memory.write(0x1000000, b"\x90" * MANY + b"\xf4")
    vm.cpu.regs.rip = 0x1000000
    for n in range(MANY):
        assert vm.run(5) == bj.BreakpointHit(points[n].id, 0x1000000 + n)
    assert vm.run(5) == bj.Hlt()
