"""Running in the foreground, and everything that ends a run: limits, kicks, signals.

The background is in test_background.py.
"""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from tests.waiting import PATIENCE, quickest, until

import belljar as bj

SPIN = [
    ("real", "l: jmp l"),
    ("protected", "l: jmp l"),
    ("long", "l: jmp l"),
    ("user", "l: jmp l"),
    ("long", "l: out 0x10, al; jmp l"),
]
spinning = pytest.mark.parametrize(("mode", "code"), SPIN, ids=["real", "protected", "long", "user", "long with exits"])
SOON = 0.1  # seconds within which a guest that never exits must come out


def once_running(vm, what):
    """Have a thread do something while a guest runs; return it, and the list in which it notes when it began."""
    begun = []

    def do():
        until(lambda: vm.state == "running")
        time.sleep(0.05)
        begun.append(time.monotonic())
        what()

    thread = threading.Thread(target=do)
    thread.start()
    return thread, begun


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def usable(vm):
    vm.load("mov ebx, 42; hlt")
    return vm.run(timeout=60) == bj.Hlt() and vm.cpu.regs.rbx == 42


@spinning
@pytest.mark.parametrize("timeout", [0, 0.001, 0.05, 0.2])
def test_a_timeout_ends_a_guest_that_never_does(vm, mode, code, timeout):
    vm.load(code, mode=mode)

    def late():
        began = time.monotonic()
        assert vm.run(timeout=timeout) == bj.Timeout()
        return time.monotonic() - began - timeout

    assert 0 <= quickest(late, SOON) < SOON
    assert usable(vm)


def test_a_guest_goes_on_after_a_timeout(vm):
    vm.load("l: inc rbx; jmp l", mode="user")
    vm.run(timeout=0.02)
    first = vm.cpu.regs.rbx
    vm.run(timeout=0.02)
    assert vm.cpu.regs.rbx > first > 0


def test_a_guest_that_ends_in_time_does_not_time_out(vm):
    vm.load("hlt; hlt")
    began = time.monotonic()
    assert vm.run(timeout=1000) == vm.run(timeout=float("inf")) == bj.Hlt()
    assert time.monotonic() - began < 100


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan"), -float("inf")])
def test_a_timeout_that_means_nothing_is_refused(vm, timeout):
    with pytest.raises(ValueError, match="timeout is a number of seconds"):
        vm.run(timeout=timeout)


@pytest.mark.parametrize("timeout", ["1", [], object()])
def test_a_timeout_that_is_no_number_is_a_type_error(vm, timeout):
    with pytest.raises(TypeError):
        vm.run(timeout=timeout)


def test_max_exits_counts_exits_and_hands_out_the_last_after_its_answer(vm):
    vm.load("mov ecx, 10; l: in al, 0x10; dec ecx; jnz l; hlt")
    handle = vm.on_port(0x10, lambda exit: 7)
    assert vm.run(max_exits=3) == bj.PortIn(0x10, 1)
    assert (handle.hits, vm.cpu.regs.rcx, vm.cpu.regs.rax & 0xFF) == (3, 8, 7)
    assert vm.run(max_exits=100) == bj.Hlt()
    assert handle.hits == 10


def test_max_exits_works_without_handlers(vm):
    vm.load("l: out 0x10, al; inc al; jmp l")
    assert [vm.run(max_exits=1).data for _ in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize(("most", "error"), [(0, ValueError), (-1, OverflowError), (1.5, TypeError)])
def test_max_exits_is_at_least_one(vm, most, error):
    with pytest.raises(error):
        vm.run(max_exits=most)


@spinning
def test_a_kick_from_another_thread_ends_a_run_soon(vm, mode, code):
    vm.load(code, mode=mode)

    def late():
        thread, begun = once_running(vm, vm.kick)
        assert vm.run(timeout=PATIENCE) == bj.Interrupted("kick")
        took = time.monotonic() - begun[0]
        thread.join()
        return took

    assert quickest(late, SOON) < SOON
    assert usable(vm)


def test_a_kick_of_a_machine_that_does_not_run_does_nothing(vm):
    vm.kick()
    assert usable(vm)
    vm.kick()
    assert usable(vm)


def test_stop_from_another_thread_ends_a_run(vm):
    vm.load("l: jmp l", mode="user")
    once_running(vm, vm.stop)
    assert vm.run(timeout=PATIENCE) == bj.Interrupted("stop")


def test_a_kick_reaches_a_run_at_any_moment(vm):
    vm.load("l: jmp l", mode="user")
    for n in range(100):
        over = threading.Event()

        def kick(over=over, n=n):
            time.sleep(0.0001 * (n % 10))
            while not over.wait(0.001):
                vm.kick()

        thread = threading.Thread(target=kick)
        thread.start()
        assert vm.run(timeout=PATIENCE) == bj.Interrupted("kick")
        over.set()
        thread.join()


@spinning
def test_ctrl_c_ends_a_guest_that_never_does_within_100_ms(vm, mode, code):
    vm.load(code, mode=mode)

    def late():
        thread, sent = once_running(vm, interrupt)
        with pytest.raises(KeyboardInterrupt):
            vm.run()
        took = time.monotonic() - sent[0]
        thread.join()
        assert vm.state == "paused"
        return took

    assert quickest(late, SOON) < SOON
    assert usable(vm)


def test_ctrl_c_ends_a_handler_and_comes_out_of_run(vm):
    vm.load("out 0x10, al; hlt")
    timers = []

    @vm.on_port(0x10)
    def endless(exit):
        timers.append(threading.Timer(0.1, interrupt))
        timers[0].start()
        time.sleep(1000)

    with pytest.raises(KeyboardInterrupt):
        vm.run()
    timers[0].join()


def test_ctrl_c_ends_a_wait_for_the_background_and_the_guest_runs_on(vm):
    vm.load("l: jmp l", mode="user")
    vm.start()
    timer = threading.Timer(0.1, interrupt)

    def wait():
        timer.start()
        vm.join(timeout=PATIENCE)

    with pytest.raises(KeyboardInterrupt):
        wait()
    timer.join()
    assert vm.state == "running"
    assert vm.stop() == bj.Interrupted("stop")


def test_a_program_that_runs_a_guest_dies_of_ctrl_c_as_usual(tmp_path):
    code = "import belljar as bj; vm = bj.VM('1M'); vm.load('l: jmp l', 'user'); print('running', flush=True); vm.run()"
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with program:
        assert program.stdout.readline() == "running\n"
        time.sleep(0.1)
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=PATIENCE)
    assert program.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_other_signal_handlers_of_python_run_while_the_guest_does(vm):
    vm.load("l: jmp l", mode="user")
    called = []

    def handler(number, frame):
        called.append(number)
        vm.kick()

    old = signal.signal(signal.SIGUSR1, handler)
    thread, _ = once_running(vm, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    try:
        assert vm.run(timeout=PATIENCE) == bj.Interrupted("kick")
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, old)
    assert called == [signal.SIGUSR1]


def test_the_interpreter_is_free_while_a_guest_runs(vm):
    vm.load("l: jmp l", mode="user")

    def count():
        until(lambda: vm.state == "running")
        for _ in range(20):
            time.sleep(0.001)
        vm.kick()

    thread = threading.Thread(target=count)
    thread.start()
    assert vm.run(timeout=PATIENCE) == bj.Interrupted("kick")
    thread.join()


def test_a_second_run_from_another_thread_is_refused(vm):
    vm.load("l: jmp l", mode="user")
    errors = []

    def run():
        until(lambda: vm.state == "running")
        for verb in (vm.run, vm.start, vm.cpu.run):
            with pytest.raises(bj.RunningError):
                verb()
            errors.append(verb)
        vm.kick()

    thread = threading.Thread(target=run)
    thread.start()
    assert vm.run(timeout=PATIENCE) == bj.Interrupted("kick")
    thread.join()
    assert len(errors) == 3


def test_registers_of_a_running_vcpu_are_out_of_reach(vm):
    vm.load("l: jmp l", mode="user")
    vm.start()
    for touch in (
        lambda: vm.cpu.regs.rax,
        lambda: setattr(vm.cpu.regs, "rax", 1),
        lambda: vm.cpu.cr3,
        lambda: vm.cpu.msr["EFER"],
    ):
        with pytest.raises(bj.RunningError, match="pause"):
            touch()
    with pytest.raises(bj.RunningError):
        vm.load(b"\xf4")
    assert "running" in repr(vm.cpu)
    assert "running" in repr(vm)
    vm.stop()
    assert vm.cpu.regs.rip == 0x1000
