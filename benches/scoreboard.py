"""Measures belljar against bare counterparts in the same process, and says which targets it meets.

Both sides of a row run in alternating blocks of at most 50 ms; what counts is the median of the paired ratios, given
with its quartiles. Absolute times are printed for orientation only.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import plot
import report
import synthetic
from case import Case, UnavailableError
from measure import Clock, Result, measure
from rows import ROWS, Row

import belljar as bj

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = Path(__file__).parent.parent / "build" / "bench"
PAIRS = 51
QUICK_PAIRS = 21


def row_names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there are rows {', '.join(ROWS)}; not {unknown[0]}")
    return names


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=row_names, default=list(ROWS), metavar="1,2", help="only these rows")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PAIRS} pairs of blocks instead of {PAIRS}")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="by the CPU time of this thread, on a machine with other work (not 7, 16, gdb)",
    )
    parser.add_argument("--once", action="store_true", help="do everything once and measure nothing")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the JSON and the plot go")
    return parser.parse_args(words)


def cases(name: str, row: Row, missing: dict[str, str]) -> Iterator[Case]:
    """The cases of a row; what cannot be measured here is said aloud."""
    try:
        yield from row()
    except UnavailableError as reason:
        missing[name] = str(reason)
        print(f"{name:<18} NOT MEASURED: {reason}", flush=True)


def once(names: list[str]) -> int:
    """Do what each case does, once."""
    missing: dict[str, str] = {}
    for name in names:
        for case in cases(name, ROWS[name], missing):
            for work in case.ways:
                work(1)
            print(f"{case.row:<18} works: {case.what}", flush=True)
    return 0


def all_of(names: list[str], pairs: int, clock: Clock, missing: dict[str, str]) -> list[Result]:
    results = []
    for name in names:
        for case in cases(name, ROWS[name], missing):
            results.append(measure(case, pairs, clock))
            print(report.line(results[-1]), flush=True)
    return results


def main(words: Sequence[str] | None = None) -> int:
    wanted = arguments(words)
    if bj.host.error is not None:
        print(f"nothing can be measured here: {bj.host.error}", file=sys.stderr)
        return 2
    if not synthetic.is_preloaded():
        synthetic.start_over()
    if wanted.once:
        return once(wanted.rows)
    print(f"{report.heading()}\n\n{report.HEADER}")
    missing: dict[str, str] = {}
    clock = time.thread_time_ns if wanted.cpu_time else time.perf_counter_ns
    results = all_of(wanted.rows, QUICK_PAIRS if wanted.quick else PAIRS, clock, missing)
    report.write(wanted.folder / "scoreboard.json", results, missing)
    if results:
        plot.draw(wanted.folder / "scoreboard.svg", results)
    judged = [result for result in results if result.met is not None]
    missed = [result.row for result in judged if not result.met]
    print(
        f"\n{len(judged) - len(missed)} of {len(judged)} targets met; scoreboard.json and .svg are in {wanted.folder}"
    )
    return 1 if missed and wanted.strict else 0


if __name__ == "__main__":
    sys.exit(main())
