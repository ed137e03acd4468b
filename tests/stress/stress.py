"""Sixty-four machines, many threads and a Ctrl-C at any moment: nothing crashes, hangs, leaks, or loses an exception.

It counts what is there before and after; it never looks inside belljar. Exits with status 1 and says what went wrong.

    python -X dev tests/stress/stress.py [--seconds 60] [--machines 64] [--threads 8] [--seed 1]

Each exception that a handler or a signal raises has a number of its own, which must come out once: of a call, or of
sys.unraisablehook. The random numbers are seeded; what the threads make of them is not.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import sys
import time
import warnings
from pathlib import Path

from chaos import SIZE, Chaos

MALLOC_HEAP = 64 << 20  # glibc's heaps of threads begin at multiples of this, and are of any length
PATIENCE = 60
MOST_GROWTH = 96 << 20  # of resident memory, in bytes: a small part of the guest RAM that comes and goes


def held():
    """Count what must be the same at the end as at the beginning."""
    maps = []
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        span, _, _, _, _, *name = line.split()
        first, last = (int(part, 16) for part in span.split("-"))
        if "kvm" in line or (not name and (last - first) % SIZE == 0 and first % MALLOC_HEAP):
            maps.append(line)
    fds = sorted(str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink())
    return {
        "descriptors": [name for name in fds if "/proc/" not in name],
        "threads": sorted((task / "comm").read_text(encoding="utf-8") for task in Path("/proc/self/task").iterdir()),
        "mappings": maps,
    }


def resident():
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def settled(before):
    """Wait for the threads of dropped machines; return what is held then."""
    deadline = time.monotonic() + 5
    while True:
        gc.collect()
        if (now := held()) == before or time.monotonic() > deadline:
            return now
        time.sleep(0.05)


def stress(options):
    """Yield what went wrong."""
    book = None

    def unraisable(what):
        book.kinds["shown"] += 1
        book.take(what.exc_value)

    warm = Chaos(2, 2, 0.5, options.seed)  # what is made once in a process
    book, sys.unraisablehook = warm.book, unraisable
    warm.run()
    del warm
    gc.collect()
    before, size = held(), resident()
    chaos = Chaos(options.machines, options.threads, options.seconds, options.seed)
    book = chaos.book
    chaos.run()
    refs = chaos.refs
    machines, calls = next(chaos.made), sum(book.done.values())
    del chaos
    after = settled(before)
    yield from book.faults()
    for what, there in after.items():
        if len(there) > len(before[what]):
            yield f"{what} left behind: {len(there)}, before {len(before[what])}: {there}"
    if alive := [ref() for ref in refs if ref() is not None]:
        yield f"{len(alive)} of {len(refs)} objects are not let go: {alive[:3]}"
    if (grown := resident() - size) > MOST_GROWTH:
        yield f"resident memory grew by {grown >> 20} MiB over {machines} machines"
    if not calls or not book.raised:
        yield "nothing happened"
    print(f"{machines} machines, {calls} calls, {len(book.raised)} exceptions, {grown >> 20} MiB more resident memory")
    print("calls:", dict(book.done.most_common()))
    print("came out:", dict(book.kinds.most_common()))


def main():
    parser = argparse.ArgumentParser(description="stress belljar")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--machines", type=int, default=64)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sys.setswitchinterval(0.0005)
    # A Ctrl-C may strike between the making of a socket and its `with`.
    warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)
    faulthandler.dump_traceback_later(options.seconds + PATIENCE, exit=True)
    faults = list(stress(options))
    faulthandler.cancel_dump_traceback_later()
    for fault in faults:
        print(f"stress: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
