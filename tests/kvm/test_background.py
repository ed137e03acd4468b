"""Running on threads of the machine's own: start, pause, resume, stop, join.

What a handler raises there comes out of whoever waits.
"""

import sys
import threading
import time

import pytest
from tests.waiting import PATIENCE, until

import belljar as bj

SPIN = "l: inc rbx; jmp l"


class OurError(Exception):
    pass


def test_the_state_tells_where_a_machine_is_in_its_life(vm):
    vm.load("l: out 0x10, al; jmp l")
    assert vm.state == "stopped"
    with pytest.raises(ValueError, match=r"this VM is stopped: start\(\) it"):
        vm.resume()
    vm.run(max_exits=1)
    assert vm.state == "paused"
    vm.resume()
    assert vm.state == "running"
    with pytest.raises(ValueError, match="this VM is running already"):
        vm.resume()
    vm.pause()
    assert vm.state == "paused"
    vm.resume()
    vm.stop()
    assert vm.state == "stopped"
    vm.load("hlt")
    vm.start()
    vm.join()
    assert vm.state == "paused"
    vm.stop()
    assert vm.state == "stopped"


def test_join_hands_out_the_exit(vm):
    vm.load("mov ebx, 42; hlt")
    vm.start()
    assert vm.join(timeout=60) == bj.Hlt()
    assert vm.cpu.regs.rbx == 42


def test_the_state_says_what_the_machine_does(vm):
    assert vm.state == "stopped"
    vm.load(SPIN, mode="user")
    vm.start()
    assert vm.state == "running"
    vm.pause()
    assert vm.state == "paused"
    vm.resume()
    assert vm.state == "running"
    assert vm.stop() == bj.Interrupted("stop")
    assert vm.state == "stopped"
    vm.close()
    assert vm.state == "closed"


def test_pause_holds_the_guest_and_resume_goes_on(vm):
    vm.load(SPIN, mode="user")
    vm.start()

    def has_counted_from(rbx):
        vm.resume()
        time.sleep(0.02)
        vm.pause()
        return vm.cpu.regs.rbx > rbx

    vm.pause()
    until(lambda: has_counted_from(0))
    held = vm.cpu.regs.rbx
    time.sleep(0.02)
    assert vm.cpu.regs.rbx == held
    until(lambda: has_counted_from(held))


@pytest.mark.parametrize("vcpus", [1, 2])
def test_a_guest_that_is_paused_as_soon_as_it_is_resumed_gets_on(new_vm, vcpus):
    vm = new_vm("2M", vcpus=vcpus)
    for n in range(vcpus):
        vm.load(SPIN, at=0x4000 * (n + 1), vcpu=n)
    seen = [0] * vcpus
    for _ in range(10):
        vm.start()
        vm.pause()
        now = [cpu.regs.rbx for cpu in vm.cpus]
        assert all(b > a for a, b in zip(seen, now, strict=True))
        seen = now


def test_registers_can_be_changed_while_paused(vm):
    vm.load("l: test rcx, rcx; jz l; out 0x10, al", mode="user")
    vm.on_port(0x10, lambda exit: bj.STOP)
    vm.start()
    time.sleep(0.01)
    vm.pause()
    vm.cpu.regs.rcx = 1
    vm.resume()
    assert isinstance(vm.join(timeout=60), bj.PortOut)


def test_a_paused_machine_may_go_on_in_the_foreground(vm):
    vm.load(SPIN, mode="user")
    vm.start()
    vm.pause()
    assert vm.run(timeout=0.01) == bj.Timeout()
    assert vm.state == "paused"


def test_a_guest_that_stops_by_itself_can_be_started_again(vm):
    vm.load("hlt; hlt; hlt")
    for _ in range(3):
        vm.start()
        assert vm.join(timeout=60) == bj.Hlt()
    assert vm.cpu.regs.rip == 0x1003


def test_stop_hands_out_the_exit_of_a_guest_that_had_stopped_by_itself(vm):
    vm.load("hlt")
    vm.start()
    until(lambda: vm.state != "running")
    assert vm.stop() == bj.Hlt()


def test_stop_and_pause_of_a_machine_that_does_not_run_do_nothing(vm):
    assert vm.stop() is None
    assert vm.pause() is None
    assert vm.state == "stopped"


def test_resume_and_join_need_something_to_go_on_with(vm):
    with pytest.raises(ValueError, match="this VM is stopped"):
        vm.resume()
    with pytest.raises(ValueError, match="background"):
        vm.join()


def test_join_waits_no_longer_than_its_timeout(vm):
    vm.load(SPIN, mode="user")
    vm.start()
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="still runs"):
        vm.join(timeout=0.1)
    assert 0.1 <= time.monotonic() - began < PATIENCE, "the guest runs for ever"
    assert vm.state == "running"


def test_join_lets_other_threads_run(vm):
    vm.load(SPIN, mode="user")
    vm.start()
    threading.Timer(0.05, vm.kick).start()
    assert vm.join(timeout=60) == bj.Interrupted("kick")


@pytest.mark.parametrize("verb", ["run", "start"])
def test_a_machine_that_runs_cannot_be_started_again(vm, verb):
    vm.load(SPIN, mode="user")
    vm.start()
    with pytest.raises(bj.RunningError):
        getattr(vm, verb)()
    with pytest.raises(bj.RunningError):
        vm.cpu.run()
    assert vm.state == "running"


@pytest.mark.parametrize("wait", ["join", "stop", "pause"])
def test_what_a_handler_raises_comes_out_of_who_waits_with_its_traceback(vm, wait):
    error = OurError()

    def handler(exit):
        raise error

    vm.load("out 0x10, al; hlt")
    handle = vm.on_port(0x10, handler)
    vm.start()
    until(lambda: vm.state != "running")
    with pytest.raises(OurError) as raised:
        getattr(vm, wait)()
    assert raised.value is error
    assert raised.traceback[-1].name == "handler"
    handle.remove()
    assert vm.run(timeout=60) == bj.Hlt()


def test_handlers_of_the_background_run_on_threads_of_the_machine(vm):
    vm.load("out 0x10, al; hlt")
    threads = []
    vm.on_port(0x10, lambda exit: threads.append(threading.get_native_id()))
    vm.start()
    vm.join(timeout=60)
    vm.cpu.regs.rip = 0x1000
    vm.run(timeout=60)
    assert len(threads) == 2
    assert threads[0] != threads[1] == threading.get_native_id()


@pytest.mark.parametrize(("verb", "by"), [("pause", "pause"), ("stop", "stop"), ("kick", "kick")])
def test_a_handler_of_the_background_asks_for_its_end_and_does_not_wait(vm, verb, by):
    vm.load("l: out 0x10, al; jmp l")
    vm.on_port(0x10, lambda exit: getattr(vm, verb)() and None)
    vm.start()
    assert vm.join(timeout=60) == bj.Interrupted(by)


@pytest.mark.parametrize("verb", ["close", "join", "run"])
def test_what_a_handler_of_the_background_must_not_do_comes_out_of_join(vm, verb):
    vm.load("l: out 0x10, al; jmp l")
    vm.on_port(0x10, lambda exit: getattr(vm, verb)())
    vm.start()
    with pytest.raises(bj.RunningError):
        vm.join(timeout=60)


def test_memory_can_be_read_and_written_while_the_guest_runs(vm):
    vm.load("l: mov eax, [0x8000]; mov [0x8004], eax; jmp l", mode="user")
    vm.start()
    for value in range(1, 50):
        vm.memory.write_u32(0x8000, value)
        until(lambda value=value: vm.memory.read_u32(0x8004) == value)


def test_memory_can_be_added_while_the_guest_runs(vm):
    vm.load("l: mov eax, [0x200000]; cmp eax, 42; jne l; out 0x10, al", mode="user")
    vm.on_port(0x10, lambda exit: bj.STOP)
    vm.start()
    vm.memory.add(0x20_0000, 0x1000, data=b"\x2a")
    assert isinstance(vm.join(timeout=60), bj.PortOut)


def test_starting_and_stopping_a_hundred_times(vm):
    vm.load(SPIN, mode="user")
    for _ in range(100):
        vm.start()
        assert vm.stop() == bj.Interrupted("stop")


def test_pausing_from_several_threads_at_once(vm):
    vm.load(SPIN, mode="user")
    vm.start()
    threads = [threading.Thread(target=vm.pause) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert vm.state == "paused"


def test_join_does_not_take_the_outcome_of_a_run_in_the_foreground(vm):
    vm.load(SPIN, mode="user")
    refused = []

    def join():
        until(lambda: vm.state == "running")
        with pytest.raises(ValueError, match="background"):
            vm.join()
        refused.append(True)

    thread = threading.Thread(target=join)
    thread.start()
    assert vm.run(timeout=0.3) == bj.Timeout()
    thread.join()
    assert refused == [True]


def failing(vm):
    """Have a background run end by an exception that nobody has asked for."""
    vm.load("out 0x10, al; l: jmp l", mode="real")
    handle = vm.on_port(0x10, lambda exit: 1 / 0)
    vm.start()
    until(lambda: vm.state == "paused")
    handle.remove()


@pytest.mark.parametrize("again", ["start", "resume", "run"])
def test_an_exception_that_nobody_has_asked_for_comes_out_of_the_next_run(vm, again):
    failing(vm)
    with pytest.raises(ZeroDivisionError):
        getattr(vm, again)()
    assert vm.run(timeout=0.05) == bj.Timeout(), "and only once"


def test_closing_shows_an_exception_that_nobody_has_asked_for(vm, monkeypatch):
    shown = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: shown.append(what.exc_type))
    failing(vm)
    vm.close()
    assert shown == [ZeroDivisionError]


def test_handlers_in_the_background_share_what_their_thread_keeps(vm):
    vm.load("l: out 0x10, al; jmp l")
    own, counts = threading.local(), []

    def handler(exit):
        own.calls = getattr(own, "calls", 0) + 1
        counts.append(own.calls)

    vm.on_port(0x10, handler)
    vm.start()
    until(lambda: len(counts) >= 5)
    vm.stop()
    assert counts[:5] == [1, 2, 3, 4, 5]
