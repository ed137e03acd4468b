"""Doorbells: writes that KVM counts, so that no exit comes of them."""

import asyncio
import gc
import os
import select
import threading
import time
from pathlib import Path

import pytest

import belljar as bj

SHIM = 0xF4  # boot::bare::SHIM_PORT
THOUSAND = "mov ecx, 1000; l: out 0x80, al; dec ecx; jnz l; hlt"


def test_a_thousand_writes_are_counted_without_an_exit(vm):
    vm.load(THOUSAND)
    with vm.doorbell(port=0x80) as bell:
        assert vm.run(timeout=10) == bj.Hlt()
        assert vm.stats.exits == {"Hlt": 1}
        assert (bell.read(), bell.read()) == (1000, 0)


def test_writes_of_ring_3_ring(vm):
    vm.load("mov dx, 0x80; out dx, al; out dx, eax; int3", mode="user")
    with vm.doorbell(port=0x80) as bell:
        assert vm.run(timeout=10).vector == 3
        assert bell.read() == 2


def test_writes_to_an_address_without_memory_ring(vm):
    vm.load("mov ecx, 100; l: mov [0x40000000], al; mov [0x40000000], rax; dec ecx; jnz l; hlt")
    with vm.doorbell(gpa=0x4000_0000) as bell:
        vm.run(timeout=10)
        assert bell.read() == 200
    assert vm.stats.exits == {"Hlt": 1}


def test_a_write_beside_it_does_not_ring(vm):
    vm.load("out 0x81, al; out 0x7f, al; hlt")
    with vm.doorbell(port=0x80) as bell:
        vm.run(timeout=10)
        assert bell.read() == 0
    assert vm.stats.exits == {"PortOut": 2, "Hlt": 1}


def test_only_writes_of_its_size_ring(vm):
    vm.load("out 0x80, al; out 0x80, ax; out 0x80, eax; hlt")
    with vm.doorbell(0x80, size=2) as bell:
        vm.run(timeout=10)
        assert bell.read() == 1
    assert vm.stats.exits["PortOut"] == 2


def test_several_doorbells_share_a_port_by_their_values(vm):
    vm.load("mov eax, 1; out 0x80, eax; mov al, 2; out 0x80, al; out 0x80, ax; mov al, 3; out 0x80, al; hlt")
    others = []
    vm.on_port(0x80, lambda exit: others.append(exit.data))
    one, two = vm.doorbell(0x80, value=1), vm.doorbell(0x80, value=2)
    assert vm.run(timeout=10) == bj.Hlt()
    assert (one.read(), two.read(), others) == (1, 2, [3])


def test_what_handlers_and_devices_had_comes_back_to_them_afterwards(new_vm):
    vm = new_vm("1M", serial=True)
    vm.load("mov dx, 0x3f8; mov al, 65; l: out dx, al; hlt; jmp l")
    seen = []
    vm.on_port(0x3F8, lambda exit: seen.append(exit.data))
    with vm.doorbell(0x3F8) as bell:
        vm.run(timeout=10)
        assert (bell.read(), seen, vm.console.read(0)) == (1, [], b"")
    vm.run(timeout=10)
    assert (bell.read(), seen, vm.console.read(0)) == (0, [65], b"A")


def test_reads_still_come_to_their_handler(vm):
    vm.load("out 0x80, al; in al, 0x80; hlt")
    vm.on_port(0x80, lambda exit: 7)
    with vm.doorbell(0x80) as bell:
        vm.run(timeout=10)
        assert (bell.read(), vm.cpu.regs.rax & 0xFF) == (1, 7)


def test_two_that_the_same_writes_ring_are_refused(vm):
    first = vm.doorbell(0x80, value=1)
    for arguments in ({"value": 1}, {"value": 1, "size": 2}, {}):
        with pytest.raises(ValueError, match="port 0x80 has a doorbell that these writes ring already"):
            vm.doorbell(0x80, **arguments)
    vm.doorbell(0x80, value=2).remove()
    assert not vm.doorbell(0x80, value=2).removed
    first.remove()


def test_one_that_nobody_holds_any_more_is_gone(vm):
    vm.load("out 0x80, al; hlt")
    vm.doorbell(0x80)
    gc.collect()
    vm.run(timeout=10)
    assert vm.stats.exits == {"PortOut": 1, "Hlt": 1}


def test_a_value_that_is_refused_leaves_none_of_its_widths_behind(vm):
    with vm.doorbell(0x80, value=1, size=4), pytest.raises(ValueError, match="already"):
        vm.doorbell(0x80, value=1)
    vm.doorbell(0x80, value=1)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({}, ValueError, "port= or gpa="),
        ({"port": 1, "gpa": 1}, ValueError, "port= or gpa="),
        ({"port": 1, "size": 3}, ValueError, "1, 2, 4 or 8 bytes"),
        ({"port": 1, "size": 8}, ValueError, "at most 4"),
        ({"port": 1, "size": 1, "value": 256}, ValueError, "no write of that size is 0x100"),
        ({"port": 1, "value": 2**32}, ValueError, "no write"),
        ({"gpa": 0x1000}, bj.RangeError, "overlaps RAM"),
        ({"port": SHIM}, bj.RangeError, "reports exceptions"),
        ({"port": 65536}, OverflowError, "out of range"),
    ],
)
def test_what_cannot_ring_is_refused(vm, arguments, error, words):
    with pytest.raises(error, match=words):
        vm.doorbell(**arguments)


def test_it_is_waited_for_while_the_guest_runs(vm):
    vm.load("l: in al, 0x10; cmp al, 1; jne l; out 0x80, al; m: jmp m", mode="user")
    go = threading.Event()
    vm.on_port(0x10, lambda exit: int(go.is_set()))
    bell = vm.doorbell(0x80)
    assert bell.wait(0) == 0
    vm.start()
    assert bell.wait(0.05) == 0
    go.set()
    assert bell.wait(60) == 1
    vm.stop()


def test_one_hung_while_the_guest_runs_rings(vm):
    vm.load("l: out 0x80, al; jmp l")
    vm.start()
    assert vm.doorbell(0x80).wait(60) > 0
    vm.stop()


def test_its_descriptor_is_an_eventfd(vm):
    vm.load(THOUSAND)
    bell = vm.doorbell(0x80)
    assert select.select([bell], [], [], 0)[0] == []
    vm.run(timeout=10)
    assert select.select([bell], [], [], 0)[0] == [bell]
    assert int.from_bytes(os.read(bell.fileno(), 8), "little") == 1000
    assert bell.read() == 0


def test_tasks_await_it_while_the_event_loop_runs(vm):
    vm.load(THOUSAND)
    bell, other = vm.doorbell(0x80), vm.doorbell(0x81)

    async def main():
        waiting, idle = asyncio.create_task(rung()), asyncio.create_task(asyncio.wait_for(other, 0.05))
        assert await vm.run_async(timeout=10) == bj.Hlt()
        while bell_total() < 1000:
            await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.TimeoutError):
            await idle

    counts = []

    def bell_total():
        return sum(counts)

    async def rung():
        while True:
            counts.append(await bell)

    asyncio.run(main())
    assert (bell_total(), bell.read()) == (1000, 0)


def test_an_asynchronous_loop_ends_when_it_is_removed(vm):
    vm.load(THOUSAND)
    bell = vm.doorbell(0x80)

    async def main():
        counts = []
        loop = asyncio.create_task(consume(counts))
        await vm.run_async(timeout=10)
        await asyncio.sleep(0.05)
        bell.remove()
        await asyncio.wait_for(loop, 10)
        return counts

    async def consume(counts):
        async for count in bell:
            counts.append(count)

    assert sum(asyncio.run(main())) == 1000


@pytest.mark.parametrize("end", ["remove", "close"])
def test_who_waits_is_woken_when_it_goes(new_vm, end):
    vm = new_vm("1M")
    bell = vm.doorbell(0x80)
    ends = []

    def wait():
        try:
            bell.wait()
        except ValueError as error:
            ends.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.02)
    bell.remove() if end == "remove" else vm.close()
    thread.join(60)
    assert ends == ["this doorbell has been removed, or its VM closed"]
    assert (bell.removed, bell.read(), repr(bell)) == (True, 0, "<Doorbell at port 0x80, removed>")
    bell.remove()
    with pytest.raises(ValueError, match="removed"):
        asyncio.run(asyncio.wait_for(bell, 10))


def test_rings_from_before_its_removal_are_still_counted(vm):
    vm.load(THOUSAND)
    with vm.doorbell(0x80) as bell:
        vm.run(timeout=10)
    assert (bell.wait(), bell.read()) == (1000, 0)


def test_a_closed_vm_has_none(new_vm):
    vm = new_vm("1M")
    vm.close()
    with pytest.raises(bj.ClosedError):
        vm.doorbell(0x80)


def test_removed_doorbells_leave_no_descriptors(new_vm):
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    vm = new_vm("1M")
    before = descriptors()
    for _ in range(100):
        with vm.doorbell(0x80):
            pass
    assert descriptors() == before


def test_a_forked_child_leaves_it_alone(vm):
    vm.load(THOUSAND)
    bell = vm.doorbell(0x80)
    if (child := os.fork()) == 0:
        bell.remove()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert bell.read() == 0
    vm.run(timeout=10)
    assert bell.read() == 1000
