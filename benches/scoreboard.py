"""Measures belljar against bare counterparts in the same process, and says which targets it meets.

Both sides of a row run in alternating blocks of at most 50 ms; what counts is the median of the paired ratios, given
with its quartiles. Absolute times are printed for orientation only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rows import ROWS, Case

import belljar as bj

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rows import Work

REPORT = Path(__file__).parent.parent / "build" / "bench" / "scoreboard.json"
BLOCK_NS = 20_000_000  # what a block aims at
LONGEST_BLOCK_NS = 50_000_000
PAIRS = 51
QUICK_PAIRS = 21


@dataclass(frozen=True)
class Result:
    """A row as it was measured."""

    row: str
    what: str
    target: float
    q1: float
    median: float
    q3: float
    ours_ns: float
    counterpart_ns: float
    pairs: int
    per_block: int
    too_long: int

    @property
    def met(self) -> bool:
        return self.median <= self.target


def timed(work: Work, count: int) -> int:
    begin = time.perf_counter_ns()
    work(count)
    return time.perf_counter_ns() - begin


def fitting(case: Case) -> int:
    """How often both sides can do their work in one block; warms them up on the way."""
    count = 1
    while True:
        slower = max(timed(case.ours, count), timed(case.counterpart, count))
        if slower > BLOCK_NS / 4:
            return max(1, count * BLOCK_NS // slower)
        count *= 2


def measure(case: Case, pairs: int) -> Result:
    """Alternate the two sides, and who begins."""
    count = fitting(case)
    ours: list[int] = []
    theirs: list[int] = []
    for pair in range(pairs):
        for side in (0, 1) if pair % 2 else (1, 0):
            (ours if side else theirs).append(timed(case.ours if side else case.counterpart, count))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    q1, median, q3 = statistics.quantiles(ratios, n=4, method="inclusive")
    return Result(
        row=case.row,
        what=case.what,
        target=case.target,
        q1=q1,
        median=median,
        q3=q3,
        ours_ns=statistics.median(ours) / count,
        counterpart_ns=statistics.median(theirs) / count,
        pairs=pairs,
        per_block=count,
        too_long=sum(block > LONGEST_BLOCK_NS for block in ours + theirs),
    )


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def quirks() -> dict[str, bool]:
    """What this KVM does otherwise than documented."""
    answers = bj.host.quirks.answers() if bj.host.quirks else []
    return {name: value for name, value, documented, _ in answers if value != documented}


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": sys.version,
        "load": os.getloadavg(),
        "kvm": quirks(),
    }


def shown(ns: float) -> str:
    for unit, size in (("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.2f} {unit}"
    return f"{ns:.0f} ns"


HEADER = f"{'row':<16} {'ratio':>6} {'[q1 .. q3]':>18} {'target':>7} {'verdict':<7} {'belljar':>10} {'bare':>10}  what"


def line(result: Result) -> str:
    quartiles = f"[{result.q1:.3f} .. {result.q3:.3f}]"
    verdict = "met" if result.met else "MISSED"
    times = f"{shown(result.ours_ns):>10} {shown(result.counterpart_ns):>10}"
    note = f" ({result.too_long} blocks were longer than 50 ms)" if result.too_long else ""
    return (
        f"{result.row:<16} {result.median:>6.3f} {quartiles:>18} {result.target:>7.2f} {verdict:<7} {times}  "
        f"{result.what}{note}"
    )


def row_numbers(text: str) -> list[int]:
    numbers = [int(word) for word in text.split(",")]
    unknown = [n for n in numbers if n not in ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there are rows {', '.join(map(str, ROWS))}; not {unknown[0]}")
    return numbers


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=row_numbers, default=list(ROWS), metavar="1,2", help="only these rows")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PAIRS} pairs of blocks instead of {PAIRS}")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a target is missed")
    return parser.parse_args(words)


def report(results: list[Result]) -> None:
    rows = [asdict(result) | {"met": result.met} for result in results]
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")


def main(words: Sequence[str] | None = None) -> int:
    wanted = arguments(words)
    if bj.host.error is not None:
        print(f"nothing can be measured here: {bj.host.error}", file=sys.stderr)
        return 2
    print(
        f"{cpu_model()}, Linux {platform.release()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )
    print(f"KVM differs from its documentation in: {', '.join(quirks()) or 'nothing'}\n\n{HEADER}")
    results = []
    for number in wanted.rows:
        for case in ROWS[number]():
            results.append(measure(case, QUICK_PAIRS if wanted.quick else PAIRS))
            print(line(results[-1]), flush=True)
    report(results)
    missed = [result.row for result in results if not result.met]
    print(f"\n{len(results) - len(missed)} of {len(results)} targets met; written to {REPORT}")
    return 1 if missed and wanted.strict else 0


if __name__ == "__main__":
    sys.exit(main())
