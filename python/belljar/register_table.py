"""A device's registers as a table, for a terminal; `belljar.html` draws its rows. Looking at it changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from belljar.register_value import Cell

HEADINGS = ("offset", "register", "access", "value", "fields")

MOST = 16
"""Registers of one array that are shown."""


def rows(cells: Iterable[Cell]) -> list[tuple[str, str, str, str, list[tuple[str, str]]]]:
    """Offset, name, access, value and fields of each register, and of a long array its beginning."""
    return [
        (
            f"{cell.offset:#04x}",
            cell.register.name + ("" if cell.register.count is None else f"[{cell.index}]"),
            ", ".join(cell.register.accesses()),
            f"{cell.value:#0{2 * cell.width + 2}x}" if cell.index < MOST else "...",
            fields(cell) if cell.index < MOST else [],
        )
        for cell in cells
        if cell.index <= MOST
    ]


def fields(cell: Cell) -> list[tuple[str, str]]:
    """Each field's name (with its access where that is its own) and value."""
    found = []
    for name, field in cell.register.fields.items():
        value = cell.value >> field.low & field.ones
        known = field.enum is not None and value in field.enum._value2member_map_
        shown = (
            field.enum(value).name if field.enum is not None and known else f"{value:#x}" if value > 9 else f"{value}"
        )
        own = field.access if field.access and len(cell.register.accesses()) > 1 else None
        found.append((f"{name} ({own})" if own else name, shown))
    return found


def as_text(title: str, cells: Iterable[Cell]) -> str:
    """A table of columns, under `title`."""
    body = [(*row, ", ".join(f"{name}={value}" for name, value in fields)) for *row, fields in rows(cells)]
    lines = [HEADINGS, *body]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    shown = ("  ".join(part.ljust(width) for part, width in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "\n".join([title, *shown])
