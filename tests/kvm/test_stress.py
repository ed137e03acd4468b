"""Everything at once, from several threads, for a few seconds: nothing hangs, crashes, or comes out as a wrong error.

The random numbers are seeded; what the threads make of them is not.
"""

import contextlib
import faulthandler
import gc
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import belljar as bj

SECONDS = 3
PATIENCE = 30

GUESTS = {
    "exits": "l: out 0x10, al; in al, 0x11; mov [0x40000000], eax; mov eax, [0x40000004]; jmp l",
    "strings": "cld; l: mov edx, 0x10; mov esi, 0x8000; mov ecx, 40; rep outsb; mov edx, 0x11; mov edi, 0x8000;"
    " mov ecx, 40; rep insb; jmp l",
    "spins": "l: inc ebx; jmp l",
    "halts": "l: hlt; jmp l",
}
# What may come out of calls that race with each other.
EXPECTED = (bj.ClosedError, bj.RunningError, BufferError, TimeoutError, ValueError, ZeroDivisionError)


@pytest.fixture(autouse=True)
def dump_if_it_hangs():
    faulthandler.dump_traceback_later(PATIENCE * 2, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def handler_of(vm, rng):
    def handler(exit):
        match rng.randrange(60):
            case 0:
                return bj.STOP
            case 1:
                return 1 // 0
            case 2:
                vm.kick()
            case 3:
                time.sleep(0.001)
            case 4:
                gc.collect(0)
            case 5:
                vm.cpus[exit.vcpu].regs.rbx += 1
            case 6:
                with contextlib.suppress(bj.RunningError):
                    vm.close()
            case 7:
                vm.stop()
        return None

    return handler


def actions(vm):
    def in_foreground():
        vm.run(timeout=0.02)

    def one_vcpu():
        vm.cpus[-1].run(timeout=0.02, max_exits=10)

    def waits():
        vm.join(timeout=0.01)

    def looks():
        return repr(vm), vm.cpu.regs.rip, vm.memory.read(0x1000, 8), vm.cpu.disasm()

    def views():
        with vm.memory.view(0x8000, 16, writable=True) as view:
            view[0] = 1

    def changes_handlers():
        with vm.on_port(0x12, print), vm.on_msr("LSTAR", print):
            pass

    return [
        in_foreground,
        one_vcpu,
        vm.start,
        vm.pause,
        vm.resume,
        vm.stop,
        vm.kick,
        waits,
        looks,
        views,
        changes_handlers,
    ]


# What handlers raise and nobody joins is shown at the end: as it should be.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("guest", GUESTS)
@pytest.mark.parametrize("vcpus", [1, 2])
def test_threads_that_start_stop_look_and_close_at_random(guest, vcpus):
    rng = random.Random(f"{guest} {vcpus}")
    deadline = time.monotonic() + SECONDS / 2
    wrong = []
    while time.monotonic() < deadline and not wrong:
        vm = bj.VM("1M", vcpus)
        for vcpu in range(vcpus):
            vm.load(GUESTS[guest], mode="protected", vcpu=vcpu)
        vm.on_port(0x10, handler_of(vm, rng), size=2)
        vm.on_mmio(0x4000_0000, handler_of(vm, rng), size=8)
        end = time.monotonic() + 0.2

        def act(seed, vm=vm, end=end):
            mine = random.Random(seed)
            while time.monotonic() < end:
                try:
                    mine.choice(actions(vm))()
                except EXPECTED:
                    pass
                except BaseException as error:  # noqa: BLE001 - whatever else it is, it is a failure
                    wrong.append(error)

        threads = [threading.Thread(target=act, args=(rng.random(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        if rng.randrange(2):
            time.sleep(0.1)
            with contextlib.suppress(BufferError):
                vm.close()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a call hangs"
        vm.close()
        assert vm.state == "closed"
    assert wrong == []


# `make stress` does the same with 64 machines for a minute.
@pytest.mark.parametrize("option", ["dev", "faulthandler"])
def test_nothing_crashes_hangs_leaks_or_is_lost(option):
    script = Path(__file__).parents[1] / "stress" / "stress.py"
    command = [sys.executable, "-X", option, script, "--seconds", str(SECONDS), "--machines", "16"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""


def test_machines_dropped_while_their_handlers_run():
    deadline = time.monotonic() + SECONDS / 2
    while time.monotonic() < deadline:
        vm = bj.VM("1M", 2)
        regs = vm.cpu.regs
        for vcpu in range(2):
            vm.load(GUESTS["exits"], mode="protected", vcpu=vcpu)

        @vm.on_port(0x10)
        def handler(exit, vm=vm, regs=regs):
            gc.collect(0)

        vm.start()
        time.sleep(0.002)
        del vm, regs, handler
        gc.collect()
