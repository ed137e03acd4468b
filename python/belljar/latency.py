"""How long a handler waits for the interpreter while other Python threads compute. It never changes a running guest."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

INTERVAL = 1e-4

_lock = threading.Lock()
_wanted: list[float] = []
_before: list[float] = []


@contextlib.contextmanager
def low_latency(interval: float = INTERVAL) -> Iterator[None]:
    """Have busy Python threads hand over the interpreter every `interval` seconds, instead of every 5 ms.

    A context manager, and a decorator (``@bj.low_latency()``), for the whole process (sys.setswitchinterval): a handler
    that finds another thread computing waits that long before it is called. Several may be on at once, in any threads:
    the shortest interval holds until it is left, and the one from before the first comes back with the last. Computing
    threads lose a little to the switching. On a free-threaded Python, nobody waits and this changes nothing.

    >>> with bj.low_latency():
    ...     vm.run()
    """
    if not interval > 0:
        message = f"interval is a number of seconds above 0, not {interval!r}"
        raise ValueError(message)
    with _lock:
        if not _wanted:
            _before.append(sys.getswitchinterval())
        _wanted.append(interval)
        _set()
    try:
        yield
    finally:
        with _lock:
            _wanted.remove(interval)
            _set()
            if not _wanted:
                _before.clear()


def _set() -> None:
    sys.setswitchinterval(min(_wanted + _before))
