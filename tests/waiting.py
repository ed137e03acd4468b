"""How tests wait: for a condition, with a deadline that only a hang reaches. It never waits a fixed time for a guest.

The same tests run on hardware, on busy machines, and in an emulated PC that is 50 times slower.
"""

import time

PATIENCE = 60
"""Seconds: far longer than anything takes, shorter than pytest's own limit."""


def until(condition, what="it never came", seconds=PATIENCE):
    """Wait for a condition; return what it gave."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.001)
    return value


def quickest(measure, enough, tries=10):
    """Return the shortest of several times, in seconds, or the first that is short enough.

    What else this machine has to do can make any of them long, and is none of the test's business.
    """
    best = float("inf")
    for _ in range(tries):
        best = min(best, measure())
        if best < enough:
            break
    return best
