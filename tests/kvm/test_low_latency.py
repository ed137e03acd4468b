"""The switch interval, lowered while handlers must not wait for long."""

import os
import sys
import threading

import pytest

import belljar as bj

LOOP = "mov ecx, 20; l: out 0x10, al; mov eax, 3000000; m: dec eax; jnz m; dec ecx; jnz l; out 0x11, al"
"""Calls a handler every millisecond or so: in between, the thread that computes comes to its turn."""


@pytest.fixture(autouse=True)
def restored():
    before = sys.getswitchinterval()
    yield
    assert sys.getswitchinterval() == before


def test_the_interval_is_lowered_and_comes_back():
    before = sys.getswitchinterval()
    with bj.low_latency():
        assert sys.getswitchinterval() == pytest.approx(1e-4)
    assert sys.getswitchinterval() == before


def test_it_comes_back_when_something_is_raised():
    with pytest.raises(KeyError), bj.low_latency(2e-4):
        raise KeyError


def test_the_shortest_of_several_holds_whatever_order_they_end_in():
    before = sys.getswitchinterval()
    one, two = bj.low_latency(1e-3), bj.low_latency(1e-4)
    one.__enter__()
    two.__enter__()
    assert sys.getswitchinterval() == pytest.approx(1e-4)
    one.__exit__(None, None, None)
    assert sys.getswitchinterval() == pytest.approx(1e-4)
    two.__exit__(None, None, None)
    assert sys.getswitchinterval() == before


def test_it_never_makes_it_longer():
    before = sys.getswitchinterval()
    with bj.low_latency(1.0):
        assert sys.getswitchinterval() == before


def test_a_function_may_be_decorated():
    @bj.low_latency(3e-4)
    def work():
        return sys.getswitchinterval()

    assert work() == pytest.approx(3e-4)
    assert work() == pytest.approx(3e-4)


@pytest.mark.parametrize("interval", [0, -1.0, float("nan")])
def test_an_interval_is_above_zero(interval):
    with pytest.raises(ValueError, match="above 0"), bj.low_latency(interval):
        pass


def test_threads_may_have_low_latency_at_the_same_time():
    def work():
        for _ in range(200):
            with bj.low_latency(1e-4):
                assert sys.getswitchinterval() == pytest.approx(1e-4)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="nobody waits without a GIL")
@pytest.mark.skipif(os.cpu_count() == 1, reason="one processor: the guest waits for the busy thread anyway")
def test_a_handler_beside_a_busy_thread_is_called_sooner(vm):
    handle = vm.on_port(0x10, lambda exit: None)
    vm.on_port(0x11, bj.STOP)
    stop = threading.Event()

    def compute():
        while not stop.is_set():
            pass

    def waited():
        before = handle.seconds
        vm.load(LOOP, mode="user")
        vm.run(timeout=60)
        return handle.seconds - before

    def is_sooner():
        slow = sum(waited() for _ in range(5))
        with bj.low_latency():
            return sum(waited() for _ in range(5)) < slow / 3

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        assert any(is_sooner() for _ in range(5))  # on a busy machine, others take longer than the threads here
    finally:
        stop.set()
        thread.join()
