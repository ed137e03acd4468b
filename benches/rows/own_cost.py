"""The rows on an exit that costs nothing: what belljar adds, with neither processor nor kernel in the figure."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import synthetic
from case import Case, UnavailableError

import belljar as bj
from rows.guests import MODES, NOBODY, SCRATCH, exits, polling

FILTERS = 1000
BATCH = 16_384  # records that are read at once
UNUSED = range(0x2000, 0x2000 + FILTERS)


@contextmanager
def at_once(port: int, *, serial: bool = False) -> Iterator[bj.VM]:
    """A machine whose every exit is a read of `port`, and costs nothing."""
    with polling("real", port, serial=serial) as (vm, descriptor), synthetic.exits_at_once(descriptor, port):
        yield vm


def handler(exit: Any) -> int:
    return exit.port  # type: ignore[no-any-return]


def an_exit() -> bj.Exit:
    """What a handler is called with."""
    with at_once(NOBODY) as vm:
        return vm.run(max_exits=1)


def python_call() -> Iterator[Case]:
    argument = an_exit()
    with at_once(NOBODY) as vm, at_once(SCRATCH, serial=True) as native:
        vm.on_port(NOBODY, handler, access="r")
        what = "synthetic exit answered by Python - by the serial port / the same function called by a loop in C"
        yield Case("3", what, 1.5, exits(vm), synthetic.calls(handler, argument), without=exits(native))


def has_filters() -> bool:
    """Do hooks take `when=`?"""
    return "when" in inspect.signature(bj.VM.on_port).parameters


def add_filters(vm: bj.VM, ports: Iterable[int], *, as_filters: bool) -> None:
    """A hook on each port; `as_filters`: each with an expression of its own that never holds."""
    for n, port in enumerate(ports):
        when = {"when": bj.exit.size == 0x100 + n} if as_filters else {}
        vm.on_port(port, handler, access="r", **when)


def filters() -> Iterator[Case]:
    kind = "filters" if has_filters() else "hooks"
    where = f"{FILTERS:,} {kind} on other ports / with none"
    with at_once(NOBODY) as vm, at_once(NOBODY) as none:
        add_filters(vm, UNUSED, as_filters=has_filters())
        yield Case("5", f"synthetic exit with {where}", 1.01, exits(vm), exits(none))
    for mode in MODES:
        with polling(mode, NOBODY) as (vm, _), polling(mode, NOBODY) as (none, _):
            add_filters(vm, UNUSED, as_filters=has_filters())
            yield Case(f"5 {mode}", f"port exit in {mode} mode with {where}", 1.01, exits(vm), exits(none))
            if has_filters():
                add_filters(vm, [NOBODY], as_filters=True)
                what = f"port exit in {mode} mode whose filter does not match / with none"
                yield Case(f"5 {mode}, same port", what, 1.01, exits(vm), exits(none))
    if has_filters():
        with polling("real", NOBODY) as (vm, _), polling("real", NOBODY) as (none, _):
            add_filters(vm, [NOBODY] * FILTERS, as_filters=True)
            what = f"port exit in real mode with {FILTERS:,} filters on its port, none of which matches / with none"
            yield Case("5 real, all on it", what, 1.01, exits(vm), exits(none))
    if not has_filters():
        raise UnavailableError("filters: VM.on_port takes no when= yet, hooks on other ports were measured instead")


def traced() -> Iterator[Case]:
    if not hasattr(bj.VM, "trace"):
        raise UnavailableError("VM.trace does not exist yet")
    with at_once(NOBODY) as vm, at_once(NOBODY) as native:
        yield from consumed(vm, native)


def consumed(vm: Any, native: bj.VM) -> Iterator[Case]:
    """Exits whose records numpy sums up, less exits, over calls of a function that does nothing."""
    trace, run = vm.trace(port=NOBODY, capacity=4 * BATCH), exits(vm)

    def ours(count: int) -> None:
        for done in range(0, count, BATCH):
            some = min(count - done, BATCH)
            run(some)
            records = trace.read()
            assert len(records) == some, f"{len(records)} records of {some} exits"
            records["data"].sum()

    def nothing(_argument: object) -> None:
        pass

    what = "synthetic exit traced and consumed in numpy - exit / a Python function that does nothing, called from C"
    yield Case("6", what, 0.3, ours, synthetic.calls(nothing, None), without=exits(native))
