"""Pictures of what guests are made of: processes, logs, symbols. They show values that were read before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from belljar.html.figures import bar
from belljar.html.parts import Markup, card, code, dim, fold, head, hexadecimal, join, pill, plural, table, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from belljar._belljar import Symbols
    from belljar.guest import Log, Task, Tasks

MOODS = {"running": "good", "ready": "warn", "faulted": "bad"}
HEADER = ("pid", "name", "state", "ticks", "", "switches", "system calls", "page faults", "cr3")
MOST = 200
"""So many lines and symbols are shown."""


def _number(value: int) -> Markup:
    return tag("td", f"{value:,}", of="num")


def task_rows(found: Sequence[Task]) -> Markup:
    """Show processes, one a row, with how often the timer met each as a bar."""
    most = max((task.ticks for task in found), default=0)
    rows = []
    for task in found:
        counts = [_number(task.ticks), bar(task.ticks, most), _number(task.switches), _number(task.syscalls)]
        named = [_number(task.pid), tag("b", task.name), pill(task.state, MOODS.get(task.state, ""))]
        rows.append([*named, *counts, _number(task.page_faults), hexadecimal(task.cr3)])
    return join([table(rows, HEADER), *map(_end, found)])


def _end(value: Task) -> Markup:
    told = value.fault or (f"ended with {value.exit_code}" if value.state == "zombie" else "")
    return tag("div", dim(f"{value.name} ({value.pid}): {told}")) if told else join([])


def tasks(found: Tasks) -> Markup:
    """Show a list of processes."""
    return card(head(plural(len(found), "process") if len(found) == 1 else f"{len(found)} processes"), task_rows(found))


def task(value: Task) -> Markup:
    """Show one process, with where it was when it was last interrupted."""
    where = join([dim("rip "), hexadecimal(value.rip), dim("  rsp "), hexadecimal(value.rsp)])
    return card(head(f"{value.name} ({value.pid})", where), task_rows([value]))


def log(lines: Log) -> Markup:
    """Show the kernel's log."""
    shown = lines[-MOST:]
    return card(table([[dim(line.sequence), dim(f"tick {line.tick}"), code(line.text)] for line in shown]))


def symbols(value: Symbols) -> Markup:
    """Show how many symbols there are and, to unfold, the first of them."""
    listed = value.items()[:MOST]
    rows = [
        [hexadecimal(at, 16), code(name), dim(plural(value.size(name), "byte") if value.size(name) else "")]
        for name, at in listed
    ]
    more = dim(f"and {len(value) - MOST:,} more") if len(value) > MOST else ""
    return card(head("Symbols", dim(f"{len(value):,}")), fold("By address", table(rows), more) if rows else "")
