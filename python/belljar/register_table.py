"""A device's registers as a table, for a terminal and for a notebook. Looking at it changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from belljar.register_value import Cell

HEADINGS = ("offset", "register", "access", "value", "fields")

LINE = "border:0;border-bottom:1px solid color-mix(in srgb,currentColor 20%,transparent)"
CELL = f"padding:0.15em 0.8em;text-align:left;{LINE}"
TABLE = "border-collapse:collapse;background:none;color:inherit;font-variant-numeric:tabular-nums"


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


def as_html(title: str, cells: Iterable[Cell]) -> str:
    """The same as an HTML table, in the page's own colours."""
    head = "".join(f'<th style="{CELL};font-weight:600;opacity:0.7">{heading}</th>' for heading in HEADINGS)
    body = "".join(f"<tr style='background:none'>{html_row(row)}</tr>" for row in rows(cells))
    caption = (
        f'<caption style="caption-side:top;text-align:left;color:inherit;padding:0.3em 0.8em">{escape(title)}</caption>'
    )
    return f'<table style="{TABLE}">{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def html_row(row: tuple[str, str, str, str, list[tuple[str, str]]]) -> str:
    """The cells of one register."""
    offset, name, access, value, parts = row
    shown = " &nbsp; ".join(
        f'<span style="opacity:0.7">{escape(part)}</span>&nbsp;<b style="{weight(it)}">{escape(it)}</b>'
        for part, it in parts
    )
    code = f'<code style="background:none;color:inherit">{value}</code>'
    place = f'<code style="background:none;color:inherit">{offset}</code>'
    return "".join(f'<td style="{CELL}">{part}</td>' for part in (place, f"<b>{escape(name)}</b>", access, code, shown))


def weight(value: str) -> str:
    """How a field's value is printed: what is 0 stands back."""
    return "font-weight:400;opacity:0.5" if value == "0" else "font-weight:600"
