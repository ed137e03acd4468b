"""The rows of the scoreboard by their numbers: what is measured, against what, and how small the ratio is to be.

A row is a generator of cases, whose machines live while it is suspended. It raises UnavailableError where it cannot be
measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from case import Case

from rows import breakpoints, debuggers, inspection, machines, others, own_cost, threads

Row = Callable[[], Iterator[Case]]

ROWS: dict[str, Row] = {
    "1": machines.native_exit,
    "2": machines.python_exit,
    "3": own_cost.python_call,
    "4": machines.register_exit,
    "5": own_cost.filters,
    "6": own_cost.traced,
    "7": threads.busy_python,
    "12": inspection.search,
    "13": inspection.scattered,
    "14": machines.life,
    "16": threads.two_machines,
    "17": breakpoints.unmatched,
    "unicorn": others.unicorn,
    "gdb": debuggers.conditional,
}
