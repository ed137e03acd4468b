"""The book-keeping of the stress: every exception has a number and comes out once. It never touches a machine."""

from __future__ import annotations

import collections
import itertools

import belljar as bj

# What may come out of calls that race with each other.
EXPECTED = (
    bj.ClosedError,
    bj.RunningError,
    bj.GuestMemoryError,
    BufferError,
    ConnectionError,  # of our own debugger, which the other side leaves
    TimeoutError,
    ValueError,
)


class OurError(Exception):
    """An exception of a handler, with its number."""


class OurInterrupt(KeyboardInterrupt):
    """A Ctrl-C, with its number."""


class Book:
    """Which exceptions were raised, and which came out."""

    def __init__(self):
        self.numbers = itertools.count()
        self.kinds = collections.Counter()
        self.raised = collections.deque()  # their append is atomic
        self.came_out = collections.deque()
        self.wrong = collections.deque()
        self.done = collections.Counter()

    def exception(self, kind):
        """Return a new exception, which the caller raises at once."""
        number = next(self.numbers)
        self.raised.append(number)
        return kind(number)

    def take(self, error):
        """Book an exception that has come out."""
        self.kinds[type(error).__name__] += 1
        if isinstance(error, OurError | OurInterrupt):
            self.came_out.append(error.args[0])
        elif not isinstance(error, EXPECTED):
            self.wrong.append(f"{type(error).__name__}: {error}")
        if isinstance(error.__context__, OurError | OurInterrupt):
            self.take(error.__context__)  # a second Ctrl-C struck in an `__exit__`: Python shows both

    def faults(self):
        """Say what does not add up."""
        counts = collections.Counter(self.came_out)
        yield from sorted(set(self.wrong))
        if lost := sorted(set(self.raised) - set(counts)):
            yield f"{len(lost)} of {len(self.raised)} exceptions are lost: {lost[:10]}"
        if doubled := [number for number, count in counts.items() if count > 1]:
            yield f"{len(doubled)} exceptions came out more than once: {doubled[:10]}"
        if invented := sorted(set(counts) - set(self.raised)):
            yield f"exceptions that nobody raised: {invented[:10]}"
