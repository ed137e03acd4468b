"""Where a run ends: until a class of exits, until a condition holds, exit by exit, and awaited."""

import asyncio
import time

import pytest

import belljar as bj

LOOP = "l: inc rbx; out 0x10, al; in al, 0x11; jmp l"


@pytest.fixture
def busy(vm):
    """Make a guest that writes one port and reads another for ever."""
    vm.load(LOOP)
    return vm


def test_until_a_class_of_exits_ends_the_run_after_its_answer(busy):
    busy.on_port(0x11, lambda exit: 0x42)
    assert busy.run(timeout=60, until=bj.PortIn) == bj.PortIn(0x11, 1)
    assert busy.cpu.regs.rax & 0xFF == 0x42
    assert busy.run(timeout=60, until=bj.PortIn) == bj.PortIn(0x11, 1)
    assert busy.cpu.regs.rbx == 2


def test_until_one_of_several_classes(busy):
    assert busy.run(timeout=60, until=(bj.Hlt, bj.PortIn)) == bj.PortIn(0x11, 1)


def test_a_run_until_any_exit_ends_at_each(busy):
    assert [type(busy.run(timeout=60, until=bj.Exit)) for _ in range(4)] == [bj.PortOut, bj.PortIn] * 2


def test_until_a_function_says_so_after_an_exit(busy):
    end = busy.run(timeout=60, until=lambda exit: isinstance(exit, bj.PortIn) and busy.cpu.regs.rbx == 10)
    assert end == bj.PortIn(0x11, 1)
    assert busy.cpu.regs.rbx == 10


def test_until_is_asked_with_none_where_the_guest_makes_no_exits(vm):
    vm.load("l: inc qword ptr [0x3000]; jmp l", mode="user")
    end = vm.run(timeout=10, until=lambda exit: exit is None and vm.memory.read_u64(0x3000) > 1000)
    assert end == bj.Interrupted("until")
    assert vm.memory.read_u64(0x3000) > 1000
    assert vm.run(timeout=0.05) == bj.Timeout()


def test_what_until_raises_comes_out_of_run(busy):
    with pytest.raises(ZeroDivisionError):
        busy.run(timeout=60, until=lambda exit: 1 / 0)
    assert busy.run(timeout=60, until=bj.PortIn) == bj.PortIn(0x11, 1)


@pytest.mark.parametrize("until", [5, "PortIn", (bj.PortIn, 5), int, bj.Timeout])
def test_until_is_nothing_else(busy, until):
    with pytest.raises(TypeError, match=r"until|on_exit|Timeout"):
        busy.run(timeout=60, until=until)


def test_one_vcpu_runs_until_too(new_vm):
    vm = new_vm("1M", 2)
    vm.load(LOOP, vcpu=1)
    assert vm.cpus[1].run(timeout=60, until=bj.PortIn) == bj.PortIn(0x11, 1, vcpu=1)


def test_exits_are_iterated_up_to_the_one_that_ends_the_run(vm):
    vm.load("out 0x10, al; mov eax, [0x40000000]; hlt")
    assert list(vm.exits(timeout=60)) == [bj.PortOut(0x10, 1, 0), bj.MmioRead(0x4000_0000, 4), bj.Hlt()]


def test_the_guest_is_stopped_in_the_body_of_the_iteration(busy):
    for n, exit in enumerate(busy.exits(bj.PortIn, timeout=60), 1):
        assert isinstance(exit, bj.PortIn)
        assert busy.cpu.regs.rbx == n
        busy.cpu.regs.rcx = n
        if n == 3:
            break
    assert (busy.cpu.regs.rbx, busy.cpu.regs.rcx, busy.state) == (3, 3, "paused")


def test_exits_of_some_classes_go_on_after_a_halt_that_was_asked_for(vm):
    vm.load("mov ecx, 3; l: hlt; loop l; int3", mode="real")
    halts = [exit for exit, _ in zip(vm.exits(bj.Hlt, timeout=60), range(3), strict=False)]
    assert halts == [bj.Hlt()] * 3


def test_an_iteration_ends_with_its_time(busy):
    *_, last = busy.exits(bj.Hlt, timeout=0.05)
    assert last == bj.Timeout()


def test_an_iteration_takes_classes_of_exits_only(busy):
    with pytest.raises(TypeError, match="class of exits"):
        busy.exits(5)


def test_a_run_can_be_awaited_beside_others(new_vm):
    async def main():
        machines = [new_vm("1M") for _ in range(8)]
        for vm in machines:
            vm.load("mov ecx, 100000; l: dec ecx; jnz l; hlt", mode="long")
        return await asyncio.gather(*(vm.run_async(timeout=60) for vm in machines))

    assert asyncio.run(main()) == [bj.Hlt()] * 8


def test_what_a_handler_raises_comes_out_of_the_await(busy):
    busy.on_port(0x10, lambda exit: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(busy.run_async(timeout=60))


async def running(vm):
    """Wait until a machine runs."""
    async with asyncio.timeout(60):
        while vm.state != "running":
            await asyncio.sleep(0.001)


def test_a_cancelled_run_stops_and_can_go_on(busy):
    async def main():
        task = asyncio.create_task(busy.run_async())
        await running(busy)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return busy.cpu.regs.rbx

    before = asyncio.run(main())
    assert busy.state == "paused"
    assert busy.run(timeout=60, until=bj.PortIn) == bj.PortIn(0x11, 1)
    assert before <= busy.cpu.regs.rbx <= before + 1


def test_a_run_that_is_cancelled_twice_has_stopped_when_the_task_ends(busy):
    busy.on_port(0x10, lambda exit: time.sleep(0.2))

    async def main():
        task = asyncio.create_task(busy.run_async())
        await running(busy)
        task.cancel()
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return busy.state

    assert asyncio.run(main()) == "paused"


def test_a_run_that_is_cancelled_at_once_stops_too(busy):
    async def main():
        task = asyncio.create_task(busy.run_async())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert busy.state in {"paused", "stopped"}


def test_an_awaited_run_ends_where_it_should(busy):
    assert asyncio.run(busy.run_async(timeout=60, until=bj.PortIn)) == bj.PortIn(0x11, 1)


def test_a_stop_from_a_handler_stops_all_vcpus_between_two_instructions(new_vm):
    vm = new_vm("1M", 3)
    for n in range(3):
        vm.load(f"l: inc rbx; mov [{0x8000 + 8 * n}], rbx; out 0x{10 + n}, al; jmp l", vcpu=n, at=0x1000 * (n + 1))
    vm.on_port(0x12, lambda exit: bj.STOP if vm.cpus[2].regs.rbx == 50 else None)
    for _ in range(3):
        end = vm.run(timeout=20)
        assert end == bj.PortOut(0x12, 1, 0, vcpu=2)
        before = [cpu.regs.rbx for cpu in vm.cpus]
        stored = [vm.memory.read_u64(0x8000 + 8 * n) for n in range(3)]
        # Each is between two instructions: what it counted is stored, or is the next thing it stores.
        assert all(rbx - at in {0, 1} for rbx, at in zip(before, stored, strict=True))
        time.sleep(0.02)
        assert [cpu.regs.rbx for cpu in vm.cpus] == before
        vm.cpus[2].regs.rbx = 0


def test_no_exit_of_several_vcpus_is_lost_to_the_iteration(new_vm):
    vm = new_vm("1M", 2)
    for _ in range(100):
        for cpu in range(2):
            vm.load("out 0x10, al; l: jmp l", vcpu=cpu, at=0x1000 * (cpu + 1))
        run = vm.exits(bj.PortOut, timeout=60)
        assert {next(run).vcpu, next(run).vcpu} == {0, 1}


def test_exits_beside_the_one_that_ended_a_run_can_be_asked_for(new_vm):
    vm = new_vm("1M", 2)
    for _ in range(50):
        for cpu in range(2):
            vm.load("out 0x10, al; hlt", vcpu=cpu, at=0x1000 * (cpu + 1))
        ends = [vm.run(timeout=60), *vm.other_exits]
        assert 1 <= len(ends) <= 2
        assert {type(exit) for exit in ends} == {bj.Hlt}
        assert len({exit.vcpu for exit in ends}) == len(ends)


ACROSS = "mov rbx, 0x10000ffe; mov [rbx], eax; hlt"


def test_the_second_half_of_an_access_ends_a_run_too(vm):
    vm.load(ACROSS)
    end = vm.run(timeout=60, until=lambda exit: isinstance(exit, bj.MmioWrite) and exit.address >= 0x1000_1000)
    assert end == bj.MmioWrite(0x1000_1000, 2, 0)
    assert vm.run(timeout=60) == bj.Hlt()


def test_the_halves_of_an_access_are_both_iterated_and_counted(vm):
    vm.load(ACROSS)
    came = list(vm.exits(bj.MmioWrite, timeout=60))
    assert came == [bj.MmioWrite(0x1000_0FFE, 2, 0), bj.MmioWrite(0x1000_1000, 2, 0), bj.Hlt()]
    assert vm.stats.exits == {"MmioWrite": 2, "Hlt": 1}
