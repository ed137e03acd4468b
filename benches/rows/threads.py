"""The rows on threads: Python at work beside a guest, and two machines at once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from case import Case, Times, Work

from rows.guests import MODES, NOBODY, exits, polling, twice


class Spinner:
    """A Python thread that computes while it is asked to."""

    def __init__(self) -> None:
        self.wanted, self.is_over = threading.Event(), False
        self.thread = threading.Thread(target=self.spin, daemon=True)
        self.thread.start()

    def spin(self) -> None:
        while not self.is_over:
            self.wanted.wait()
            while self.wanted.is_set() and not self.is_over:
                pass

    def beside(self, work: Work) -> Work:
        """`work` while it spins."""

        def both(count: int) -> None:
            self.wanted.set()
            try:
                work(count)
            finally:
                self.wanted.clear()

        return both

    def stop(self) -> None:
        self.is_over = True
        self.wanted.set()
        self.thread.join()


@contextmanager
def quick_switches() -> Iterator[None]:
    """Coming back from a run into Python takes up to a switch interval, once per run: it is not what is measured."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def rate(times: Times) -> float:
    """Exits per second of the first, as a multiple of the second's."""
    return times[1] / times[0]


def busy_python() -> Iterator[Case]:
    spinner = Spinner()
    try:
        for mode in MODES:
            with polling(mode, NOBODY) as (vm, _), quick_switches():
                what = f"exits per second of a {mode} mode guest beside a spinning Python thread / alone"
                run = exits(vm)
                yield Case(
                    f"7 {mode}",
                    what,
                    0.97,
                    spinner.beside(run),
                    run,
                    ratio=rate,
                    bigger_is_better=True,
                    on_threads=True,
                )
    finally:
        spinner.stop()


def throughput(times: Times) -> float:
    """Two machines do twice as much in their time as one does in its."""
    return 2 * times[1] / times[0]


def at_once(pool: ThreadPoolExecutor, works: list[Work]) -> Work:
    """Each of `works` on a thread of its own."""

    def run(count: int) -> None:
        for done in [pool.submit(work, count) for work in works]:
            done.result()

    return run


def two_machines() -> Iterator[Case]:
    for mode in MODES:
        with (
            twice(mode, NOBODY) as (one, one_in_c),
            twice(mode, NOBODY) as (two, two_in_c),
            ThreadPoolExecutor(2) as pool,
        ):
            both, alone = at_once(pool, [exits(one), exits(two)]), at_once(pool, [exits(one)])
            what = f"exits per second of two {mode} mode guests on two threads / of one"
            yield Case(f"16 {mode}", what, 1.9, both, alone, ratio=throughput, bigger_is_better=True, on_threads=True)
            others = at_once(pool, [partial(other.run, answer=0xFF) for other in (one_in_c, two_in_c)])
            what = f"two {mode} mode guests on two threads / two KVM_RUN loops in C on two threads"
            yield Case(f"16 {mode}, C", what, None, both, others, on_threads=True)
