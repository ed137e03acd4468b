"""What a row of the scoreboard consists of: the ways of doing the same thing, and how their times make a ratio.

It never measures and never knows what is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Work = Callable[[int], object]
Times = Sequence[float]


class UnavailableError(Exception):
    """A row that cannot be measured here, with the reason."""


def paired(times: Times) -> float:
    """The first as a multiple of the second."""
    ours, counterpart = times
    return ours / counterpart


def excess(times: Times) -> float:
    """What the first costs more than the second, as a multiple of the third."""
    ours, without, counterpart = times
    return (ours - without) / counterpart


@dataclass(frozen=True)
class Case:
    """Ways of doing the same `n` things: belljar's, its counterpart, and what else the ratio is made of."""

    row: str
    what: str
    target: float | None  # None: a comparison, which is reported and not judged
    ours: Work
    counterpart: Work
    without: Work | None = None  # what `ours` does beside what is measured
    ratio: Callable[[Times], float] | None = None
    bigger_is_better: bool = False
    on_threads: bool = False  # the work is done, or disturbed, by other threads: only the wall clock sees that

    @property
    def ways(self) -> tuple[Work, ...]:
        """In the order that `ratio_of` takes their times."""
        return (self.ours, self.counterpart) if self.without is None else (self.ours, self.without, self.counterpart)

    def ratio_of(self, times: Times) -> float:
        """What the times of one round come to."""
        if self.ratio is not None:
            return self.ratio(times)
        return paired(times) if self.without is None else excess(times)

    def is_met(self, ratio: float) -> bool | None:
        """Is `ratio` within the target? None where there is none."""
        if self.target is None:
            return None
        return ratio >= self.target if self.bigger_is_better else ratio <= self.target
