"""Pictures of address spaces: where an address leads, and what is mapped. They never read a page table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from belljar.html.parts import Markup, card, code, dim, flags, head, hexadecimal, join, pill, plural, size, table, tag

if TYPE_CHECKING:
    from belljar._belljar import Mapping, Translation
    from belljar.mappings import Mappings

MOST = 100
"""So many ranges are shown; the list has all."""


def translation(value: Translation) -> Markup:
    """Show where an address leads, and the entries on the way."""
    if value.gpa is None or value.page_size is None:
        where = pill("leads nowhere", "bad")
    else:
        where = join([code(f"{value.gpa:#x}"), dim(f"{size(value.page_size)} page"), flags(value.flags)], " ")
    why = pill(value.fault, "bad") if value.fault else ""
    error = dim(f"#PF error code {value.error_code:#x}") if value.error_code is not None else ""
    rows = [(level, hexadecimal(at), hexadecimal(entry, 16)) for level, at, entry in value.entries]
    walk = table(rows, ("level", "entry at", "value")) if rows else dim(f"paging: {value.paging}")
    return card(head(join([code(f"{value.gva:#x}"), " \N{RIGHTWARDS ARROW} "]), where, why, error), walk)


def mappings(value: Mappings) -> Markup:
    """Show what an address space maps, one range a row."""
    rows = [_row(one) for one in value[:MOST]]
    more = dim(f"and {len(value) - MOST} more") if len(value) > MOST else ""
    cut = pill(f"cut short: {value.cut}", "warn") if value.cut else ""
    top = head(plural(len(value), "range"), size(value.size), cut)
    return card(top, table(rows, ("start", "end", "size", "rights", "page", "gpa")), more)


def mapping(value: Mapping) -> Markup:
    """Show one range."""
    return card(table([_row(value)], ("start", "end", "size", "rights", "page", "gpa")))


def _row(one: Mapping) -> list[Markup]:
    names = [name for name in ("writable", "user", "executable") if getattr(one, name)]
    where = join([hexadecimal(one.gpa), "" if one.contiguous else dim(" and elsewhere")])
    sizes = [tag("td", size(number), of="num") for number in (one.size, one.page_size)]
    return [hexadecimal(one.start, 16), hexadecimal(one.end, 16), sizes[0], flags(names), sizes[1], where]
