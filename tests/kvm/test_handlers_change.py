"""Handlers that come, go, sleep, raise or run something else while a guest runs.

A change takes effect before the next exit, whoever makes it: the handler itself, another one, or another thread.
"""

import threading
import time

import pytest
from tests.waiting import PATIENCE, until

import belljar as bj

FOREVER = "l: out 0x10, al; jmp l"


def test_a_handler_removes_itself(vm):
    vm.load("out 0x10, al; out 0x10, al; hlt")
    handle = vm.on_port(0x10, lambda exit: handle.remove())
    assert vm.run(timeout=60) == bj.Hlt()
    assert handle.hits == 1
    handle.remove()


def test_a_handler_adds_another_which_is_asked_at_the_next_exit(vm):
    vm.load("out 0x10, al; out 0x10, al; hlt")
    seen = []

    @vm.on_port(0x10)
    def first(exit):
        first.remove()
        vm.on_port(0x10, lambda exit: seen.append(exit))

    vm.run(timeout=60)
    assert seen == [bj.PortOut(0x10, 1, 0)]


def test_a_handler_disables_and_enables_another(vm):
    vm.load("; ".join(f"mov al, {n}; out 0x11, al; out 0x10, al" for n in (0, 1, 0)) + "; hlt")
    other = vm.on_port(0x10, lambda exit: None)
    vm.on_port(0x11, lambda exit: setattr(other, "enabled", exit.data == 1))
    vm.run(timeout=60)
    assert other.hits == 1


def test_a_disabled_handler_keeps_its_place(vm):
    vm.load("in al, 0x10; hlt")
    vm.on_port(0x10, lambda exit: 1)
    newer = vm.on_port(0x10, lambda exit: 2)
    newer.enabled = False
    assert not newer.enabled
    vm.run(timeout=60)
    assert vm.cpu.regs.rax & 0xFF == 1
    newer.enabled = True
    vm.cpu.regs.rip = 0x1000
    vm.run(timeout=60)
    assert vm.cpu.regs.rax & 0xFF == 2


def test_a_removed_handler_cannot_be_enabled(vm):
    handle = vm.on_port(0x10, print)
    handle.remove()
    assert not handle.enabled
    with pytest.raises(ValueError, match="removed"):
        handle.enabled = True


def test_leaving_a_with_block_removes_the_handler_also_by_an_exception(vm):
    vm.load("out 0x10, al; hlt")
    with pytest.raises(RuntimeError), vm.on_port(0x10, lambda exit: 1 // 0):
        raise RuntimeError
    assert vm.run(timeout=60) == bj.Hlt()


def test_another_thread_adds_and_removes_handlers_while_the_guest_runs(vm):
    vm.load(FOREVER, mode="user")
    vm.start()
    for _ in range(20):
        called = threading.Event()
        with vm.on_port(0x10, lambda exit, called=called: called.set()) as handle:
            assert called.wait(PATIENCE)
        after = handle.hits
        time.sleep(0.002)
        assert handle.hits - after <= 1, "at most the call that was under way"
    vm.stop()


def test_another_thread_switches_a_handler_while_the_guest_runs(vm):
    vm.load(FOREVER, mode="user")
    handle = vm.on_port(0x10, lambda exit: None)
    vm.start()
    until(lambda: handle.hits)
    handle.enabled = False
    vm.pause()  # the call that was under way has come back
    still = handle.hits
    vm.resume()
    before = vm.stats.total
    until(lambda: vm.stats.total > before + 10)
    assert handle.hits == still
    vm.stop()


@pytest.mark.parametrize("verb", ["run", "join", "start", "close"])
def test_what_a_handler_must_not_do_is_a_running_error_and_the_vm_goes_on(vm, verb):
    vm.load("out 0x10, al; hlt")
    handle = vm.on_port(0x10, lambda exit: getattr(vm, verb)())
    with pytest.raises(bj.RunningError, match=r"handler|running"):
        vm.run(timeout=60)
    handle.remove()
    assert vm.run(timeout=60) == bj.Hlt()


def test_a_handler_must_not_run_its_own_vcpu(vm):
    vm.load("out 0x10, al; hlt")
    vm.on_port(0x10, lambda exit: vm.cpu.run())
    with pytest.raises(bj.RunningError):
        vm.run(timeout=60)


def test_a_handler_may_ignore_the_running_error(vm):
    vm.load("out 0x10, al; out 0x10, al; hlt")

    @vm.on_port(0x10)
    def stubborn(exit):
        with pytest.raises(bj.RunningError):
            vm.close()

    assert vm.run(timeout=60) == bj.Hlt()
    assert stubborn.hits == 2


def test_a_handler_may_stop_and_kick_its_own_run(vm):
    vm.load(FOREVER)
    handle = vm.on_port(0x10, lambda exit: vm.stop())
    assert vm.run(timeout=60) == bj.Interrupted("stop")
    handle.remove()
    vm.on_port(0x10, lambda exit: vm.kick())
    assert vm.run(timeout=60) == bj.Interrupted("kick")


def test_a_handler_that_sleeps_delays_the_guest_and_the_timeout_still_holds(vm):
    vm.load(FOREVER)
    handle = vm.on_port(0x10, lambda exit: time.sleep(0.3) if handle.hits == 1 else None)
    began = time.monotonic()
    assert vm.run(timeout=0.1) == bj.Timeout()
    assert time.monotonic() - began >= 0.3
    began = time.monotonic()
    assert vm.run(timeout=0.1) == bj.Timeout()
    assert time.monotonic() - began >= 0.1


def test_a_handler_runs_another_vm(vm, new_vm):
    inner = new_vm("1M")
    inner.load("in al, 0x20; add al, 1; out 0x21, al; hlt")
    inner.on_port(0x20, lambda exit: 41)
    vm.load("in al, 0x10; hlt")

    @vm.on_port(0x10)
    def ask(exit):
        answers = []
        with inner.on_port(0x21, lambda exit: answers.append(exit.data)):
            assert inner.run(timeout=60) == bj.Hlt()
        return answers[0]

    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.regs.rax & 0xFF == 42


def test_the_outer_run_keeps_its_timeout_when_a_handler_runs_another_vm(vm, new_vm):
    inner = new_vm("1M")
    inner.load("l: jmp l", mode="user")
    vm.load("out 0x10, al; l: jmp l", mode="user")
    vm.on_port(0x10, lambda exit: print(inner.run(timeout=0.05)))
    began = time.monotonic()
    assert vm.run(timeout=0.3) == bj.Timeout()
    assert time.monotonic() - began >= 0.3


def test_a_kick_reaches_the_outer_run_while_a_handler_runs_another_vm(vm, new_vm):
    inner = new_vm("1M")
    inner.load("l: jmp l", mode="user")
    vm.load(FOREVER)
    vm.on_port(0x10, lambda exit: inner.run(timeout=0.2) and None)
    timer = threading.Timer(0.05, vm.kick)
    timer.start()
    assert vm.run(timeout=60) == bj.Interrupted("kick")
    timer.join()


def test_two_machines_may_call_each_other_through_handlers(vm, new_vm):
    other = new_vm("1M")
    other.load("out 0x10, al; hlt")
    vm.load("out 0x10, al; hlt")
    other.on_port(0x10, lambda exit: vm.run())
    vm.on_port(0x10, lambda exit: other.run() and None)
    with pytest.raises(bj.RunningError):
        vm.run(timeout=60)
    assert (vm.state, other.state) == ("paused", "paused")


def test_a_handler_reads_and_writes_guest_memory(vm):
    vm.load("mov dword ptr [0x8000], 20; out 0x10, al; mov ebx, [0x8004]; hlt")

    @vm.on_port(0x10)
    def twice(exit):
        vm.memory.write_u32(0x8004, vm.memory.read_u32(0x8000) * 2)

    vm.run(timeout=60)
    assert vm.cpu.regs.rbx == 40


def test_a_handler_adds_memory_that_the_guest_then_has(vm):
    vm.load("mov byte ptr [0x200000], 1; mov byte ptr [0x200000], 2; hlt")
    missing = vm.on_mmio(0x20_0000, lambda exit: vm.memory.add(0x20_0000, 0x1000) and None)
    assert vm.run(timeout=60) == bj.Hlt()
    assert (missing.hits, vm.memory.read_u8(0x20_0000)) == (1, 2)


def test_handlers_of_one_machine_do_not_hear_of_another(vm, new_vm):
    other = new_vm("1M")
    heard = vm.on_port(0x10, print)
    other.load("out 0x10, al; hlt")
    assert other.run(timeout=60) == bj.Hlt()
    assert heard.hits == 0


@pytest.mark.parametrize("verb", ["stop", "kick", "pause"])
def test_what_a_handler_raises_comes_out_though_the_run_was_ending(vm, verb):
    vm.load(FOREVER)

    def handler(exit):
        getattr(vm, verb)()
        raise LookupError

    vm.on_port(0x10, handler)
    with pytest.raises(LookupError):
        vm.run(timeout=60)
    vm.start()
    with pytest.raises(LookupError):
        vm.join(timeout=60)


def test_an_access_of_two_parts_completes_when_a_handler_fails(vm):
    vm.load("mov ecx, [0x40000ffe]; hlt; mov ebx, 7; hlt", mode="protected")

    def fail(exit):
        raise LookupError

    handle = vm.on_mmio(0x4000_0000, fail, size=0x2000)
    with pytest.raises(LookupError):
        vm.run(timeout=60)
    assert (handle.hits, vm.cpu.regs.rcx, vm.cpu.regs.rip) == (1, 0xFFFF_FFFF, 0x1006)
    vm.cpu.regs.rip = 0x1007
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.regs.rbx == 7
