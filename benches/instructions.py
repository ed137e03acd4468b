"""Counts the instructions that belljar spends on an exit, which noise cannot move, and compares with stored figures.

Callgrind counts what this very process does (on valgrind, with the exits of `synthetic.c`): two runs of different
length, whose difference is free of what a run costs at its ends. `instructions.json` has the figures by the version of
Python; a growth of more than 5 % fails.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import synthetic
from rows.guests import NOBODY, SCRATCH, exits
from rows.own_cost import FILTERS, UNUSED, add_filters, at_once, handler, has_filters

import belljar as bj

if TYPE_CHECKING:
    from collections.abc import Sequence

STORED = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.05
FEW, MANY = 1_000, 6_000
LONG = 100  # how many times fewer exits, where one takes that long
ROUNDS = 3  # the least counts: now and then a tick, or a growing table, falls into a run

MANY_FILTERS = f"port read whose {FILTERS:,} filters do not match"


@contextmanager
def handled() -> Iterator[bj.VM]:
    with at_once(NOBODY) as vm:
        vm.on_port(NOBODY, handler, access="r")
        yield vm


@contextmanager
def filtered(ports: Iterable[int]) -> Iterator[bj.VM]:
    with at_once(NOBODY) as vm:
        add_filters(vm, ports, as_filters=has_filters())
        yield vm


@contextmanager
def traced() -> Iterator[bj.VM]:
    with at_once(NOBODY) as vm:
        trace = vm.trace(port=NOBODY, capacity=MANY * 16)  # more than all runs record
        yield vm
        assert trace.dropped == 0


def kinds() -> dict[str, Callable[[], AbstractContextManager[bj.VM]]]:
    """What an exit can meet."""
    found = {
        "port read that nobody answers": lambda: at_once(NOBODY),
        "port read answered by the serial port": lambda: at_once(SCRATCH, serial=True),
        "port read answered by a Python handler": handled,
        f"port read beside {FILTERS:,} hooks on other ports": lambda: filtered(UNUSED),
    }
    if has_filters():
        found["port read whose filter does not match"] = lambda: filtered([NOBODY])
        found[MANY_FILTERS] = lambda: filtered([NOBODY] * FILTERS)
    if hasattr(bj.VM, "trace"):
        found["port read that is traced"] = traced
    return found


def counted(name: str, vm: bj.VM) -> None:
    """Have callgrind write down each run, as `name: exits`."""
    run, library = exits(vm), synthetic.library()
    fewer = LONG if name == MANY_FILTERS else 1
    run(MANY // fewer)  # warm
    for _ in range(ROUNDS):
        for count in (FEW // fewer, MANY // fewer):
            library.count_begin()
            run(count)
            library.count_end(f"{name}: {count}".encode())


def child() -> int:
    """The process on valgrind."""
    if not synthetic.library().counting():
        print(
            "instructions: the library was built without valgrind's headers, or this is not valgrind", file=sys.stderr
        )
        return 1
    for name, made in kinds().items():
        with made() as vm:
            counted(name, vm)
    return 0


def totals(folder: Path) -> dict[str, dict[int, int]]:
    """The least instructions that runs of so many exits took, by kind of exit."""
    found: dict[str, dict[int, int]] = {}
    for file in folder.iterdir():
        text = file.read_text()
        head = re.search(r"^desc: Trigger: Client Request: (.*): (\d+)$", text, re.MULTILINE)
        total = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
        if head and total:
            counts, exits_made = found.setdefault(head[1], {}), int(head[2])
            counts[exits_made] = min(int(total[1]), counts.get(exits_made, sys.maxsize))
    return found


def measured() -> dict[str, float]:
    """Instructions per exit, by kind of exit."""
    if not shutil.which("valgrind"):
        sys.exit("instructions: valgrind is needed (scripts/system-packages bench)")
    with tempfile.TemporaryDirectory() as folder:
        valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--quiet"]
        valgrind.append(f"--callgrind-out-file={folder}/out")
        environment = synthetic.environment() | {"PYTHONHASHSEED": "0"}
        subprocess.run([*valgrind, sys.executable, __file__, "--child"], env=environment, check=True)
        found = totals(Path(folder))
    return {name: per_exit(counts) for name, counts in found.items()}


def per_exit(counts: dict[int, int]) -> float:
    """What a longer run takes more than a shorter one, shared out among its exits."""
    few, many = sorted(counts)
    return round((counts[many] - counts[few]) / (many - few), 1)


def verdict(now: float, before: float | None) -> str:
    if before is None:
        return "NEW: store it with --update"
    growth = now / before - 1
    return f"{growth:+.1%}{' GROWN' if growth > TOLERANCE else ''}"


def compare(now: dict[str, float], before: dict[str, float]) -> int:
    """Print both; 1 if something has grown, or is not stored."""
    print(f"{'instructions per exit':<48} {'now':>8} {'stored':>8}")
    bad = 0
    for name in sorted(now.keys() | before.keys()):
        if name not in now:
            words, bad = "GONE: remove it with --update", 1
        else:
            words = verdict(now[name], before.get(name))
            bad |= "NEW" in words or "GROWN" in words
        print(f"{name:<48} {now.get(name, '-'):>8} {before.get(name, '-'):>8}  {words}")
    return int(bad)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="store what is counted now")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    wanted = parser.parse_args(words)
    if wanted.child:
        return child()
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    version = ".".join(platform.python_version_tuple()[:2])
    now = measured()
    outcome = compare(now, stored.get(version, {}))
    if wanted.update:
        STORED.write_text(json.dumps(stored | {version: now}, indent=2) + "\n")
        return 0
    if outcome:
        print("\nIf it is worth it: make instructions ARGS=--update, and commit instructions.json with the change.")
    return outcome


if __name__ == "__main__":
    sys.exit(main())
