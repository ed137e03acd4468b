"""Pictures of a debugger's things: breakpoints, watchpoints, gdb's server, coverage, dumps. They touch no guest."""

from __future__ import annotations

from math import log2
from typing import TYPE_CHECKING

from belljar.html.memory import regions
from belljar.html.parts import Markup, card, code, dim, fold, head, hexadecimal, join, pill, plural, size, table, tag
from belljar.html.processor import where

if TYPE_CHECKING:
    from belljar._belljar import Breakpoint, GdbServer, Watchpoint
    from belljar.coverage import Coverage
    from belljar.dump import Dump

MOST = 50
"""So many ranges are shown."""


def _how(name: str, value: Breakpoint | Watchpoint, where_: Markup, *facts: object) -> Markup:
    state = pill("on", "good") if value.enabled else pill("removed or off")
    when = join([dim("when "), code(value.when)]) if value.when is not None else ""
    title = join([f"{name} {value.id} ", state])
    how = dim(value.mechanism) if value.enabled else ""
    return head(title, where_, *facts, when, how, plural(value.hits, "hit"))


def _named(value: Breakpoint | Watchpoint) -> Markup:
    return join([code(value.symbol), " "]) if value.symbol is not None else join([])


def breakpoint_(value: Breakpoint) -> Markup:
    """Show where a breakpoint is, how its hits are noticed, and how many there were."""
    return _how("Breakpoint", value, join([_named(value), hexadecimal(value.address)]))


def watchpoint(value: Watchpoint) -> Markup:
    """Show what a watchpoint watches, how its hits are noticed, and how many there were."""
    verbs = {"r": "reads", "w": "writes", "x": "execution"}
    kind = "virtual" if value.virtual else "physical"
    span = join([_named(value), hexadecimal(value.address), dim(f" {kind}, {plural(value.size, 'byte')}")])
    return _how("Watchpoint", value, span, ", ".join(verbs[letter] for letter in value.access))


def gdb_server(value: GdbServer) -> Markup:
    """Show how gdb is connected, and whether it is."""
    if value.closed:
        return head(join(["gdb server ", pill("closed")]))
    state = pill("connected", "good") if value.connected else pill("waits for gdb", "warn")
    return head(join(["gdb server ", state]), code(value.command))


def coverage(value: Coverage) -> Markup:
    """Show how much has been executed, and where."""
    blocks = value.blocks
    ranges = value.ranges
    total = sum(end - start for start, end in ranges)
    facts = [plural(len(value), "block"), size(total), f"entered {plural(int(blocks['count'].sum()), 'time')}"]
    counts = {int(block["start"]): int(block["count"]) for block in blocks}
    most = log2(max(counts.values(), default=1) + 1)
    rows = []
    for start, end in ranges[:MOST]:
        entered = max((count for at, count in counts.items() if start <= at < end), default=0)
        bar = tag("span", of="bar", style=f"width:{5 * log2(entered + 1) / most:.2f}em")
        sizes = [tag("td", text, of="num") for text in (size(end - start), f"{entered:,}")]
        rows.append([hexadecimal(start), hexadecimal(end), *sizes, bar])
    listed = table(rows, ("from", "to", "size", "most often", ""))
    more = dim(f"and {plural(len(ranges) - MOST, 'range')} more") if len(ranges) > MOST else ""
    return card(head("Coverage", *facts), fold(plural(len(ranges), "range"), listed, more) if rows else "")


def dump(value: Dump) -> Markup:
    """Show what a dump holds: its file, its memory, and where its vCPUs were."""
    total = sum(region.size for region in value.memory.regions)
    facts = [code(value.info.path) if value.info.path else "", value.info.format, size(total)]
    rows = [[dim(f"vCPU {cpu.id}"), where(cpu)] for cpu in value.cpus]  # type: ignore[arg-type]  # it has what that reads
    memory = table([[hexadecimal(r.start), hexadecimal(r.end), size(r.size), r.kind] for r in regions(value.memory)])
    return card(head("Dump", *facts), table(rows) if rows else dim("no vCPUs"), fold("memory", memory))
