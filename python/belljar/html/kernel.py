"""Pictures of a Linux kernel's tables: tasks, files, sockets, its log, its structures. They show values read before."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from belljar.html.parts import Markup, card, code, dim, fold, head, hexadecimal, join, pill, plural, tag
from belljar.html.parts import table as plain_table

if TYPE_CHECKING:
    from belljar._belljar import BtfStruct
    from belljar.linux import Linux, Messages, Table

MOST = 500
"""So many rows are shown."""

MOODS = {"R": "good", "Z": "bad", "X": "bad", "D": "warn", "LISTEN": "good", "ESTABLISHED": "good"}
LEVELS = {"emerg": "bad", "alert": "bad", "crit": "bad", "err": "bad", "warn": "warn"}


def _cell(name: str, value: object, how: str) -> Markup:
    if value is None or value == "":
        return join([])
    if how == "x" and isinstance(value, int):
        return hexadecimal(value)
    if name == "state":
        return pill(value, MOODS.get(str(value), ""))
    if isinstance(value, float):
        return tag("td", f"{value:.3f}", of="num")
    if isinstance(value, tuple):
        return join(value, ", ")
    return tag("td", value, of="num") if how else tag("b", value) if name == "name" else code(value)


def _partial(found: Table[Any]) -> Markup:
    return join(tag("div", pill("partial", "bad"), dim(f" {problem}")) for problem in found.problems)


def table(found: Table[Any]) -> Markup:
    """Show rows under a heading, and why some are missing."""
    columns = found.COLUMNS.items()
    rows = [[_cell(name, getattr(row, name), how) for name, how in columns] for row in found[:MOST]]
    more = dim(f"and {len(found) - MOST:,} more") if len(found) > MOST else ""
    return card(head(plural(len(found), found.TITLE)), plain_table(rows, list(found.COLUMNS)), more, _partial(found))


def messages(found: Messages) -> Markup:
    """Show the last lines of a kernel's log."""
    rows = [[dim(f"{m.time:.6f}"), pill(m.level, LEVELS.get(m.level, "")), code(m.text)] for m in found[-MOST:]]
    return card(head(plural(len(found), "message")), plain_table(rows), _partial(found))


def row(value: Any) -> Markup:
    """Show one row: its fields, one a line."""
    fields = (field for field in dataclasses.fields(value) if field.compare)
    rows = [[dim(field.name), _field(field.name, getattr(value, field.name))] for field in fields]
    return card(head(type(value).__name__), plain_table(rows))


def _field(name: str, value: object) -> Markup:
    if isinstance(value, float):
        return code(f"{value:.3f}")
    wide = isinstance(value, int) and not isinstance(value, bool) and value > 0xFFFF
    return _cell(name, value, "x" if wide or name in {"cr3", "flags", "address"} else "")


def linux(value: Linux) -> Markup:
    """Show which kernel it is, and where."""
    facts = [("base", hexadecimal(value.base)), ("slide", hexadecimal(value.slide))]
    facts += [("symbols", code(f"{len(value.symbols):,}"))]
    return card(head("Linux", value.version.release), plain_table([[dim(a), b] for a, b in facts]), dim(value.version))


def structure(value: BtfStruct) -> Markup:
    """Show a structure as C, to unfold if it is long."""
    text = tag("pre", repr(value))
    body = text if len(value) <= 24 else fold(plural(len(value), "member"), text)
    return card(head(f"{value.kind} {value.name}", plural(value.size, "byte")), body)
