"""Nothing stays behind: descriptors, threads, mappings and Python objects of machines that are gone.

Each test counts before and after.
"""

import gc
import re
import time
import weakref
from pathlib import Path

import pytest
from tests.waiting import until

import belljar as bj

SIZE = 0x1230000  # of RAM: a number that no other mapping has


def threads():
    return {task.name: (task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}


def descriptors():
    return sorted(
        str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink() and "kvm" in str(fd.readlink())
    )


def mappings():
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(part, 16) for part in re.match(r"(\w+)-(\w+)", line).groups())
        if "kvm" in line or last - first == SIZE:
            found.append(line)
    return found


def everything():
    """Counted when it has come to rest: a thread that has been joined is listed for a moment longer."""
    gc.collect()
    last, same = None, 0
    while same < 5:
        now = counted()
        last, same = now, same + 1 if now == last else 0
        time.sleep(0.002)
    return last


def counted():
    return (
        len(list(Path("/proc/self/fd").iterdir())),
        descriptors(),
        set(threads().values()),
        len(threads()),
        mappings(),
    )


def live_through(vm, how):
    vm.load("out 0x10, al; l: jmp l", mode="user")
    vm.on_port(0x10, lambda exit: None)
    vm.memory.add(2**32, 0x4000)
    with vm.memory.view() as view:
        assert view[0] == 0
    if how == "foreground":
        assert vm.run(timeout=0.001) == bj.Timeout()
    elif how == "background":
        vm.start()
    elif how == "failed":
        vm.on_port(0x10, lambda exit: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            vm.run()


@pytest.mark.parametrize("how", ["never run", "foreground", "background", "failed"])
@pytest.mark.parametrize("irqchip", [None, "split"])
def test_fifty_machines_leave_nothing_behind(how, irqchip):
    bj.VM(SIZE, 2, irqchip=irqchip, serial=True, i8042=True).close()
    before = everything()
    for n in range(50):
        with bj.VM(SIZE, 2, irqchip=irqchip, serial=True, i8042=True) as vm:
            live_through(vm, how)
            assert n > 0 or everything()[1:] != before[1:]
    assert everything() == before


@pytest.mark.parametrize("how", ["never run", "foreground", "background"])
def test_a_machine_that_nobody_closes_is_cleared_away_with_its_last_reference(how):
    before = everything()
    vm = bj.VM(SIZE)
    live_through(vm, how)
    assert mappings() != before[-1]
    del vm
    assert everything() == before


def test_a_machine_in_a_cycle_with_its_handler_is_collected():
    before = everything()
    vm, handles = bj.VM(SIZE), []
    handles.append(vm.on_port(0x10, lambda exit, vm=vm, handles=handles: (vm, handles)))
    gone = [weakref.ref(vm), weakref.ref(handles[0])]
    del vm, handles
    gc.collect()
    assert [ref() for ref in gone] == [None, None]
    assert everything() == before


def test_a_running_machine_in_a_cycle_with_its_handler_is_collected():
    before = everything()
    vm = bj.VM(SIZE)
    vm.on_port(0x10, lambda exit, vm=vm: vm.cpu.regs.rax and None)
    vm.load("l: out 0x10, al; jmp l")
    vm.start()
    gone = weakref.ref(vm)
    del vm
    until(lambda: gc.collect() >= 0 and gone() is None)
    until(lambda: everything() == before)


@pytest.mark.parametrize("how", ["removed", "closed", "cleared by with"])
def test_a_handler_is_let_go(vm, how):
    def handler(exit):
        return None

    gone = weakref.ref(handler)
    handle = vm.on_port(0x10, handler)
    vm.load("out 0x10, al; hlt")
    vm.run(timeout=60)
    del handler
    if how == "removed":
        handle.remove()
    elif how == "closed":
        vm.close()
    else:
        with handle:
            pass
    del handle
    gc.collect()
    assert gone() is None


def test_handlers_that_come_and_go_leave_nothing_behind(vm):
    refs = []
    for _ in range(100):
        handler = lambda exit: None  # noqa: E731
        refs.append(weakref.ref(handler))
        vm.on_port(0x10, handler).remove()
    del handler
    gc.collect()
    assert [ref for ref in refs if ref() is not None] == []


def test_an_exception_of_a_handler_is_not_kept(vm):
    class OurError(Exception):
        pass

    vm.load("l: out 0x10, al; jmp l")

    @vm.on_port(0x10)
    def handler(exit):
        raise OurError

    vm.start()
    try:
        vm.join(timeout=60)
    except OurError as error:
        gone = weakref.ref(error)
    gc.collect()
    assert gone() is None


def test_a_view_keeps_its_machine_and_lets_it_go():
    vm = bj.VM(SIZE)
    view = vm.memory.view()
    gone = weakref.ref(vm)
    del vm
    gc.collect()
    assert gone() is not None
    assert view[0] == 0
    view.release()
    del view
    gc.collect()
    assert gone() is None


PARTS = {
    "cpu": lambda vm: vm.cpu,
    "registers": lambda vm: vm.cpu.regs,
    "msrs": lambda vm: vm.cpu.msr,
    "memory": lambda vm: vm.memory,
    "console": lambda vm: vm.console,
    "view": lambda vm: vm.memory.view(),
}


@pytest.mark.parametrize("part_of", PARTS.values(), ids=PARTS)
def test_a_handler_that_holds_a_part_of_its_machine_keeps_nothing_alive(part_of):
    vm = bj.VM(SIZE, serial=True)
    part = part_of(vm)
    vm.on_port(0x10, lambda exit, part=part: None)
    gone = weakref.ref(vm)
    del vm, part
    gc.collect()
    assert gone() is None
