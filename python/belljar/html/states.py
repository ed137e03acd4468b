"""Pictures of values of registers: named bits, whole states, what differs between two. They never ask a vCPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from belljar.bits import Bits
from belljar.html.parts import Markup, card, code, dim, fold, head, hexadecimal, join, plural, table, tag

if TYPE_CHECKING:
    from belljar.state import Change, Diff, State

WIDEST = 20
"""Hexadecimal digits of a value that a table shows in full: 80-bit registers fit."""


def pills(value: Bits, *, all_of_them: bool = False) -> Markup:
    """Show the fields of a register: those that are set, and faintly those that are not. Each tells what it means."""
    found = []
    for name, field in value.FIELDS.items():
        now, label = field.of(value), name.rstrip("_").upper()
        if now or all_of_them:
            shown = label if field.width == 1 else f"{label} {now}"
            found.append(tag("span", shown, of="flag" if now else "flag off", title=field.__doc__))
    return join(found, " ") or dim("none")


def bits(value: Bits) -> Markup:
    """Show a register of named bits, with all of them."""
    return head(join([type(value).__name__, " ", hexadecimal(int(value))]), pills(value, all_of_them=True))


def number(value: int | None) -> Markup:
    """Show a value, a long one cut in the middle."""
    if value is None:
        return dim("absent")
    digits = f"{value:x}"
    if len(digits) <= WIDEST:
        return code(f"{value:#x}")
    return tag("code", f"0x{digits[:8]}", dim("\N{HORIZONTAL ELLIPSIS}"), digits[-8:], title=f"{value:#x}")


def _which_bits(change: Change) -> Markup:
    named = str(change).rpartition("(")[2].rstrip(")") if str(change).endswith(")") else ""
    signs = [(name.lstrip("+-").upper(), name.startswith("-")) for name in named.split()]
    return join([tag("span", name, of="flag gone" if gone else "flag") for name, gone in signs], " ")


def change_rows(changes: list[Change]) -> Markup:
    """Show changes, one a row."""
    rows = [
        [code(c.name), number(c.before), dim("\N{RIGHTWARDS ARROW}"), number(c.after), _which_bits(c)] for c in changes
    ]
    return table(rows, ["", "before", "", "after", ""])


def diff(value: Diff) -> Markup:
    """Show what differs between two states."""
    if not value:
        return card(head("Nothing differs"))
    return card(head(plural(len(value), "change")), change_rows(value))


def state(value: State) -> Markup:
    """Show a whole state: the general registers, and the rest by sections, to unfold."""
    parts = [head("State", join(["of a vCPU at ", number(value["regs.rip"])]), dim(plural(len(value), "value")))]
    for title, names in value.sections().items():
        rows = [[code(name.removeprefix("regs.")), number(value[name]), _bits_of(value[name])] for name in names]
        if rows:
            parts.append(fold(f"{title} ({len(rows)})", table(rows)))
    return card(*parts)


def _bits_of(value: int) -> Markup:
    return pills(value) if isinstance(value, Bits) else join([])
