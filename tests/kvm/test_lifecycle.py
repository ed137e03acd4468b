"""From making a machine to closing it: who may, who waits, and what is refused meanwhile.

That nothing stays behind is in test_leaks.py.
"""

import threading
import time

import numpy as np
import pytest
from tests.waiting import PATIENCE, until

import belljar as bj

SPIN = "l: jmp l"


def test_a_machine_shows_what_it_is_and_does(vm):
    assert repr(vm).startswith("<VM 1 vcpu, 1 MiB, stopped at ")
    vm.load("nop; hlt")
    assert repr(vm) == "<VM 1 vcpu, 1 MiB, stopped at 0x1000>"
    vm.close()
    assert repr(vm) == "<VM closed>"


def test_with_closes_also_by_an_exception():
    with pytest.raises(ZeroDivisionError), bj.VM("1M") as vm:
        1 // 0  # noqa: B018
    assert vm.state == "closed"


def test_close_may_be_called_again(vm):
    vm.close()
    vm.close()
    with pytest.raises(bj.ClosedError), vm:
        vm.run()


def test_several_machines_live_side_by_side(new_vm):
    machines = [new_vm("1M") for _ in range(5)]
    for n, vm in enumerate(machines):
        vm.load(f"mov ebx, {n}; hlt")
    machines[2].close()
    for n in (0, 1, 3, 4):
        assert machines[n].run(timeout=60) == bj.Hlt()
        assert machines[n].cpu.regs.rbx == n


def test_a_new_machine_needs_no_argument():
    with bj.VM() as vm:
        assert vm.memory.regions[0].size == 64 << 20


@pytest.mark.parametrize("wrong", ["all", "kernel", 5])
def test_an_irqchip_that_is_none_is_refused(wrong):
    with pytest.raises((ValueError, TypeError)):
        bj.VM("1M", irqchip=wrong)


@pytest.mark.parametrize("irqchip", [None, "split", "full"])
def test_every_irqchip_can_be_made(new_vm, irqchip):
    vm = new_vm("1M", irqchip=irqchip)
    vm.load("out 0x77, al; l: jmp l")
    vm.on_port(0x77, lambda exit: bj.STOP)
    assert isinstance(vm.run(timeout=60), bj.PortOut)


def test_a_timer_without_the_controller_that_it_interrupts_is_refused():
    with pytest.raises(ValueError, match=r'pit=True .* irqchip="full"'):
        bj.VM("1M", pit=True)


CALLS = {
    "run": lambda vm: vm.run(),
    "start": lambda vm: vm.start(),
    "resume": lambda vm: vm.resume(),
    "load": lambda vm: vm.load(b"\xf4"),
    "boot": lambda vm: vm.boot(b"\x7fELF"),
    "cpu.run": lambda vm: vm.cpu.run(),
    "regs": lambda vm: vm.cpu.regs.rax,
    "set regs": lambda vm: setattr(vm.cpu.regs, "rax", 1),
    "cr3": lambda vm: vm.cpu.cr3,
    "msr": lambda vm: vm.cpu.msr["EFER"],
    "disasm": lambda vm: vm.cpu.disasm(),
    "read": lambda vm: vm.memory.read(0, 1),
    "read_u64": lambda vm: vm.memory.read_u64(0),
    "write": lambda vm: vm.memory.write(0, b"x"),
    "slice": lambda vm: vm.memory[0:1],
    "view": lambda vm: vm.memory.view(),
    "regions": lambda vm: vm.memory.regions,
    "memory_map": lambda vm: vm.memory_map(),
    "add": lambda vm: vm.memory.add(2**32, 0x1000),
    "on_port": lambda vm: vm.on_port(0x10, print),
    "on_mmio": lambda vm: vm.on_mmio(0x4000_0000, print),
    "on_msr": lambda vm: vm.on_msr(0x10, print),
    "on_exit": lambda vm: vm.on_exit(bj.Hlt, print),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_closed_machine_says_so(vm, call):
    vm.close()
    with pytest.raises(bj.ClosedError, match="closed"):
        call(vm)


def test_what_is_harmless_still_works_on_a_closed_machine(vm):
    handle = vm.on_port(0x10, print)
    vm.close()
    vm.kick()
    assert vm.stop() is None
    assert (vm.state, handle.hits, repr(vm.memory)) == ("closed", 0, "<Memory of a closed VM>")
    handle.remove()
    assert "closed" in repr(vm.cpu)
    assert "closed" in repr(vm.cpu.regs)


@pytest.mark.parametrize("make", [lambda vm: vm.memory.view(), lambda vm: np.asarray(vm.memory.view())[0x100:0x200]])
def test_a_machine_with_live_views_stays_open_and_usable(vm, make):
    vm.load("hlt; hlt")
    view = make(vm)
    with pytest.raises(BufferError, match=r"1 view\(s\) of guest memory are live"):
        vm.close()
    assert vm.run(timeout=60) == bj.Hlt()
    assert view[0] == 0
    del view
    vm.close()


def test_a_closing_that_was_refused_does_not_end_the_run(vm):
    vm.load(SPIN, mode="user")
    view = vm.memory.view()
    vm.start()
    with pytest.raises(BufferError):
        vm.close()
    assert vm.state == "running"
    view.release()
    vm.close()


def test_closing_from_eight_threads_at_once():
    for _ in range(10):
        vm = bj.VM("1M")
        vm.load(SPIN, mode="user")
        vm.start()
        barrier, failures = threading.Barrier(8), []

        def close(vm=vm, barrier=barrier, failures=failures):
            barrier.wait()
            try:
                vm.close()
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is a failure
                failures.append(error)

        threads = [threading.Thread(target=close) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert (failures, vm.state, [t for t in threads if t.is_alive()]) == ([], "closed", [])


def test_closing_ends_a_run_on_another_thread(vm):
    vm.load(SPIN, mode="user")

    def close():
        until(lambda: vm.state == "running")
        vm.close()

    thread = threading.Thread(target=close)
    thread.start()
    assert vm.run(timeout=PATIENCE) == bj.Interrupted("close")
    thread.join()
    assert vm.state == "closed"
    with pytest.raises(bj.ClosedError):
        vm.run()


def test_closing_ends_the_background_and_a_wait_for_it(vm):
    vm.load(SPIN, mode="user")
    vm.start()
    timer = threading.Timer(0.05, vm.close)
    timer.start()
    assert vm.join(timeout=PATIENCE) == bj.Interrupted("close")
    timer.join()


def test_closing_waits_for_a_handler(vm):
    vm.load("out 0x10, al; hlt")
    order = []

    @vm.on_port(0x10)
    def slow(exit):
        order.append("begin")
        time.sleep(0.2)
        order.append("end")

    vm.start()
    until(lambda: order)
    vm.close()
    assert order == ["begin", "end"]


def test_a_handler_of_another_machine_may_close_this_one(vm, new_vm):
    other = new_vm("1M")
    other.load(SPIN, mode="user")
    other.start()
    vm.load("out 0x10, al; hlt")
    vm.on_port(0x10, lambda exit: other.close())
    assert vm.run(timeout=10) == bj.Hlt()
    assert other.state == "closed"


def test_a_machine_that_could_not_be_made_leaves_the_next_one_alone(new_vm):
    for _ in range(3):
        with pytest.raises(ValueError, match="vCPUs"):
            bj.VM("1M", 0)
    vm = new_vm("1M")
    vm.load(b"\xf4")
    assert vm.run(timeout=60) == bj.Hlt()
