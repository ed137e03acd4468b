"""How results are shown: as lines of a table, and as JSON with the machine that they come from. It measures nothing."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import belljar as bj

if TYPE_CHECKING:
    from measure import Result

HEADER = f"{'row':<18} {'ratio':>6} {'[q1 .. q3]':>18} {'target':>8} {'verdict':<7} {'belljar':>10} {'other':>10}  what"
VERDICTS = {True: "met", False: "MISSED", None: ""}


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


def heading() -> str:
    """The machine in two lines."""
    python, load = platform.python_version(), os.getloadavg()[0]
    return (
        f"{cpu_model()}, Linux {platform.release()}, Python {python}, load {load:.1f}\n"
        f"KVM differs from its documentation in: {', '.join(quirks()) or 'nothing'}"
    )


def shown(ns: float) -> str:
    for unit, size in (("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.2f} {unit}"
    return f"{ns:.0f} ns" if ns >= 100 else f"{ns:.1f} ns"


def aim(result: Result) -> str:
    """The target, and on which side of it is good."""
    if result.target is None:
        return ""
    return f"{'>=' if result.bigger_is_better else '<='} {result.target:.2f}"


def line(result: Result) -> str:
    quartiles = f"[{result.q1:.3f} .. {result.q3:.3f}]"
    times = f"{shown(result.ours_ns):>10} {shown(result.counterpart_ns):>10}"
    note = f" ({result.too_long} blocks were longer than 50 ms)" if result.too_long else ""
    return (
        f"{result.row:<18} {result.median:>6.3f} {quartiles:>18} {aim(result):>8} {VERDICTS[result.met]:<7} {times}  "
        f"{result.what}{note}"
    )


def write(path: Path, results: list[Result], missing: dict[str, str]) -> None:
    """As JSON; `missing` is why rows were not measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "rows": [asdict(result) for result in results], "missing": missing}
    path.write_text(json.dumps(content, indent=2) + "\n")
