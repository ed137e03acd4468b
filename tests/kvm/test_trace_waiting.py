"""Waiting for the records of a trace: its descriptor, asyncio, and reads that wait."""

import asyncio
import select
import time

import numpy as np
import pytest

import belljar as bj

COUNTING = "mov ecx, {}; xor eax, eax; l: out 0x10, al; inc eax; loop l; hlt"


@pytest.fixture
def counting(vm):
    """Make a guest that writes 0, 1, 2, ... to port 0x10, a thousand bytes."""
    vm.load(COUNTING.format(1000))
    return vm


def test_the_descriptor_is_readable_by_count(counting):
    trace = counting.trace(port=0x10, wake=1000)
    poller = select.poll()
    poller.register(trace, select.POLLIN)
    assert poller.poll(0) == []
    counting.run(timeout=10)
    assert poller.poll(1000) != []
    trace.read(10)
    assert poller.poll(0) == []
    trace.read()
    counting.load(COUNTING.format(1000))
    counting.run(timeout=10)
    assert poller.poll(1000) != []


def test_the_descriptor_is_readable_by_time(counting):
    trace = counting.trace(port=0x10, wake=5000, every=0.3)
    counting.run(timeout=10)
    assert select.select([trace], [], [], 5)[0] == [trace]
    assert len(trace.read()) == 1000
    assert select.select([trace], [], [], 0)[0] == []
    assert select.select([trace], [], [], 5)[0] == [trace]  # and again


def test_a_wait_sleeps_also_where_the_descriptor_is_readable(counting):
    trace = counting.trace(port=0x10, wake=1)
    trace.fileno()
    counting.run(timeout=10)
    begin = time.thread_time()
    assert not trace.wait(5000, timeout=0.3)
    assert time.thread_time() - begin < 0.15
    assert select.select([trace], [], [], 0)[0] == [trace]


def test_asyncio_reads_while_the_guest_runs(vm):
    vm.load(COUNTING.format(3000))
    trace = vm.trace(port=0x10, fields=["sequence"], capacity=100, wake=50, every=0.05)

    async def main():
        parts, loop = [], asyncio.get_running_loop()
        loop.add_reader(trace, lambda: parts.append(trace.read()))
        trace.read()
        end = await vm.run_async(timeout=30)
        loop.remove_reader(trace)
        return end, np.concatenate([*parts, trace.read()])

    end, records = asyncio.run(main())
    assert end == bj.Hlt() and (records["sequence"] == np.arange(3000)).all()


def test_a_read_waits_for_the_first_record(vm):
    vm.load("l: out 0x10, al; jmp l")
    trace = vm.trace(port=0x10)
    begin = time.monotonic()
    assert len(trace.read(timeout=0.1)) == 0 and time.monotonic() - begin >= 0.1
    vm.start()
    assert len(trace.read(timeout=10)) > 0
    vm.stop()
