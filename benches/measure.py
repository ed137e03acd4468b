"""Measures cases: all ways of a case in alternating blocks of one process, and the median of their paired ratios.

It never prints, and never decides what is measured.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from case import Case, Work

Clock = Callable[[], int]  # nanoseconds

BLOCK_NS = 20_000_000  # what a block aims at
LONGEST_BLOCK_NS = 50_000_000


@dataclass(frozen=True)
class Result:
    """A row as it was measured."""

    row: str
    what: str
    target: float | None
    bigger_is_better: bool
    met: bool | None
    q1: float
    median: float
    q3: float
    ours_ns: float
    counterpart_ns: float
    pairs: int
    per_block: int
    too_long: int


def timed(work: Work, count: int, clock: Clock) -> int:
    begin = clock()
    work(count)
    return clock() - begin


def fitting(case: Case, clock: Clock) -> int:
    """How often each way can do its work in one block; warms them up on the way."""
    count = 1
    while True:
        slowest = max(timed(work, count, clock) for work in case.ways)
        if slowest > BLOCK_NS / 4:
            return max(1, count * BLOCK_NS // slowest)
        count *= 2


def rounds(case: Case, pairs: int, count: int, clock: Clock) -> list[list[int]]:
    """The times of each way, round by round; each round begins with another one."""
    ways = case.ways
    found = []
    for number in range(pairs):
        times = [0] * len(ways)
        for step in range(len(ways)):
            at = (number + step) % len(ways)
            times[at] = timed(ways[at], count, clock)
        found.append(times)
    return found


def measure(case: Case, pairs: int, clock: Clock | None = None) -> Result:
    """Alternate the ways, and which of them begins; by the wall clock, unless another one is given."""
    clock = time.perf_counter_ns if clock is None or case.on_threads else clock
    count = fitting(case, clock)
    gc.collect()
    gc.disable()  # a collection would land in whichever way runs at the time
    try:
        found = rounds(case, pairs, count, clock)
    finally:
        gc.enable()
    ratios = [case.ratio_of(times) for times in found]
    q1, median, q3 = statistics.quantiles(ratios, n=4, method="inclusive")
    return Result(
        row=case.row,
        what=case.what,
        target=case.target,
        bigger_is_better=case.bigger_is_better,
        met=case.is_met(median),
        q1=q1,
        median=median,
        q3=q3,
        ours_ns=statistics.median(times[0] for times in found) / count,
        counterpart_ns=statistics.median(times[-1] for times in found) / count,
        pairs=pairs,
        per_block=count,
        too_long=sum(block > LONGEST_BLOCK_NS for times in found for block in times),
    )
