"""Pictures of a whole VM and of its handlers. They never wait for it: a running VM shows what can be seen."""

from __future__ import annotations

from math import log2
from typing import TYPE_CHECKING

from belljar.errors import BelljarError, ClosedError
from belljar.html import memory
from belljar.html.exits import msr
from belljar.html.parts import Markup, card, code, dim, head, join, pill, plural, size, table, tag, title
from belljar.html.processor import lines, where

if TYPE_CHECKING:
    from collections.abc import Iterable

    from belljar._belljar import VCPU, VM, Handle, MemoryRange

MOODS = {"running": "good", "paused": "warn", "stopped": "", "closed": "bad"}
MOST = 8
"""So many vCPUs and handlers are shown."""


def vm(value: VM) -> Markup:
    """Show a VM: its state, vCPUs, memory map and handlers."""
    state = value.state
    name = join(["VM ", pill(state, MOODS.get(state, ""))])
    if state == "closed":
        return card(head(name, dim("its memory and its vCPUs have been given back")))
    cpus, found, handlers = value.cpus, memory.regions(value.memory), value.handlers
    ram = size(sum(r.size for r in found if r.kind == "RAM"))
    parts = [head(name, f"{plural(len(cpus), 'vCPU')}, {ram}"), *map(processor, cpus[:MOST]), _more(len(cpus))]
    if found:
        parts += [title("memory"), memory.strip(memory.used(memory.pieces(_ranges(value))))]
    if handlers:
        parts += [title("who answers in Python"), handler_rows(handlers[:MOST]), _more(len(handlers))]
    return card(*parts)


def _ranges(value: VM) -> Iterable[MemoryRange]:
    """Return what is where; nothing if the VM has been closed meanwhile."""
    try:
        return value.memory_map()
    except ClosedError:
        return []


def _more(count: int) -> Markup:
    return tag("div", dim(f"and {count - MOST} more")) if count > MOST else join([])


def processor(cpu: VCPU) -> Markup:
    """Show a vCPU inside the card of its VM: where it is, and what comes next."""
    try:
        return join([title(f"vCPU {cpu.id}"), where(cpu), lines(cpu.disasm(3), cpu.regs.rip)])
    except BelljarError as error:
        return join([title(f"vCPU {cpu.id}"), dim(error)])


def subject(handle: Handle) -> str:
    """Say what a handler is for."""
    span = handle.range
    if span is None:
        return "every exit" if handle.subject == "Exit" else f"{handle.subject} exits"
    first, last = span.start, span.stop - 1
    if handle.subject == "msr":
        return f"MSR {msr(first)}" if first == last else f"MSRs {first:#x} to {last:#x}"
    name = {"port": "port", "mmio": "address"}.get(handle.subject, handle.subject)
    return (
        f"{name} {first:#x}" if first == last else f"{name}{'es' if name == 'address' else 's'} {first:#x} to {last:#x}"
    )


def function(handle: Handle) -> Markup:
    """Name the function that a handler calls."""
    called = handle.function
    return code(getattr(called, "__name__", None) or repr(called)[:60])


def _state(handle: Handle) -> str:
    return "" if handle.enabled else "switched off"


def handler_rows(handlers: list[Handle]) -> Markup:
    """Show handlers, each with how often it was called, as a number and as a bar of its logarithm."""
    most = max(log2(h.hits + 1) for h in handlers) or 1
    bars = [tag("span", of="bar", style=f"width:{5 * log2(h.hits + 1) / most:.2f}em") for h in handlers]
    rows = [
        [
            subject(h),
            dim(h.access),
            function(h),
            tag("td", f"{h.hits:,}", of="num"),
            bar if h.hits else "",
            dim(_state(h)),
        ]
        for h, bar in zip(handlers, bars, strict=True)
    ]
    return table(rows, ["for", "access", "function", "calls", "", ""])


def handle(value: Handle) -> Markup:
    """Show one handler."""
    if value.function is None:
        return head("Handler", dim(f"for {subject(value)}: call it with a function, or use it as a decorator"))
    state = [pill("on", "good")] if value.enabled else [pill("removed or off")]
    called = join(["calls ", function(value), dim(f", so far {plural(value.hits, 'time')}")])
    return head(join(["Handler ", *state]), subject(value), called)
