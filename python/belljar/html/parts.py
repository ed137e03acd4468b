"""Small pieces of HTML: text, numbers, tables, pills. They escape what they are given, and never know what it means."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


class Markup(str):
    """Text that is HTML already; everything else is escaped on its way."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Escape ``value``, unless it is markup."""
    if isinstance(value, Markup):
        return value
    return Markup(
        escape("".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in str(value)))
    )


def join(parts: Iterable[object], between: str = "") -> Markup:
    """Put pieces in a row."""
    return Markup(between.join(text(part) for part in parts))


def tag(name: str, *parts: object, of: str = "", **attributes: object) -> Markup:
    """Return an element of class ``of``; an attribute of None is left out."""
    given = {"class": of or None} | attributes
    inside = "".join(f' {key}="{escape(str(value))}"' for key, value in given.items() if value is not None)
    return Markup(f"<{name}{inside}>" if name == "br" else f"<{name}{inside}>{join(parts)}</{name}>")


def code(value: object) -> Markup:
    """Return text in the fixed-width font."""
    return tag("code", value)


def dim(value: object) -> Markup:
    """Return text that stands back."""
    return tag("span", value, of="dim")


def pill(value: object, mood: str = "") -> Markup:
    """Return a rounded label, coloured by ``mood``: "good", "warn", "bad", or a kind of memory."""
    return tag("span", value, of=f"pill {mood or 'calm'}")


def flags(names: Iterable[str]) -> Markup:
    """Return the names of set bits, one label each."""
    return join(tag("span", name, of="flag") for name in names) or dim("none")


def title(value: str) -> Markup:
    """Return the heading of a part of a card."""
    return tag("h4", value)


def head(name: object, *facts: object) -> Markup:
    """Return the first line of a card: what it is, and facts beside it."""
    return tag("div", tag("b", name), *[tag("span", fact) for fact in facts if fact], of="head")


def card(*parts: object) -> Markup:
    """Return a bordered box."""
    return tag("div", *parts, of="card")


def table(rows: Iterable[Sequence[object]], header: Sequence[str] = (), of: str = "") -> Markup:
    """Return a table; a cell that is a `td` already stays one."""
    top = tag("thead", tag("tr", *[tag("th", name) for name in header])) if header else ""
    body = tag("tbody", *[tag("tr", *[_cell(cell) for cell in row]) for row in rows])
    return tag("div", tag("table", top, body, of=of), of="scroll")


def _cell(value: object) -> Markup:
    return value if isinstance(value, Markup) and value.startswith("<td") else tag("td", value)


def fold(summary: str, *parts: object) -> Markup:
    """Return something to unfold."""
    return tag("details", tag("summary", summary), *parts)


def hexadecimal(value: int, digits: int = 0) -> Markup:
    """Return a number in hexadecimal; with ``digits``, padded by zeros that stand back."""
    if not digits:
        return code(f"{value:#x}")
    plain = f"{value:x}"
    return tag("code", tag("span", "0" * (digits - len(plain)), of="zero"), plain)


def size(count: int) -> str:
    """Say how many bytes, in the largest unit in which that is a short number."""
    amount, unit = float(count), UNITS[0]
    for unit in UNITS:
        if amount < 1024 or unit == UNITS[-1]:
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if amount == int(amount) else f"{amount:.1f} {unit}"


def plural(count: int, thing: str) -> str:
    """Say how many things."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
