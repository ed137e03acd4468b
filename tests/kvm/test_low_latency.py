"""The switch interval, lowered while handlers must not wait for long."""

import os
import sys
import threading
import time

import pytest

import belljar as bj

LOOP = "mov ecx, 60; l: out 0x10, al; dec ecx; jnz l; hlt"


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
    vm.on_port(0x10, lambda exit: None)
    stop = threading.Event()

    def compute():
        while not stop.is_set():
            pass

    def spent():
        vm.load(LOOP)
        before = time.perf_counter()
        assert vm.run(timeout=60) == bj.Hlt()
        return time.perf_counter() - before

    def is_sooner():
        slow = spent()
        with bj.low_latency():
            return spent() < slow / 2

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        assert any(is_sooner() for _ in range(10))  # on a busy machine, others take longer than the threads here
    finally:
        stop.set()
        thread.join()
