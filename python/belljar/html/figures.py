"""Pictures of statistics: where the time went, and how often what happened. They never look at a machine."""

from __future__ import annotations

from math import log2
from typing import TYPE_CHECKING

from belljar.html.parts import Markup, card, dim, head, join, plural, table, tag, title

if TYPE_CHECKING:
    from belljar.profile import Profile
    from belljar.stats import Stats

UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "\N{MICRO SIGN}s"))
TIMES = (("guest", "guest", "ram"), ("native", "belljar", "rom"), ("handlers", "Python handlers", "mmio"))
WIDEST = 9
"""Width of the longest bar, in em."""


def seconds(value: float) -> str:
    """Say how long, in the unit in which that is a short number."""
    for unit, name in UNITS:
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value * 1e6:.2g} {UNITS[-1][1]}" if value else "0"


def bar(value: float, most: float, of: str = "") -> Markup:
    """Draw a bar, the longest one for ``most``; nothing for 0."""
    return (
        tag("span", of=f"bar {of}".rstrip(), style=f"width:{WIDEST * value / most:.2f}em")
        if value and most
        else join([])
    )


def stats(value: Stats) -> Markup:
    """Show statistics: the time as one bar, exits as a table of bars of their logarithms."""
    return card(*_statistics(value))


def _statistics(value: Stats) -> list[Markup]:
    spent = {field: max(getattr(value, field), 0.0) for field, _, _ in TIMES}
    whole = sum(spent.values())
    facts = [plural(value.total, "exit"), seconds(whole)]
    if value.repairs:
        facts.append(plural(value.repairs, "instruction") + " repaired")
    parts = [head("Statistics", *facts)]
    if whole:
        pieces = [
            tag("span", of=kind, style=f"flex-grow:{spent[field] / whole:.4f}", title=f"{name} {seconds(spent[field])}")
            for field, name, kind in TIMES
        ]
        words = [
            tag(
                "span",
                tag("span", of=f"dot {kind}"),
                f"{name} {seconds(spent[field])} ",
                dim(f"{spent[field] / whole:.1%}"),
            )
            for field, name, kind in TIMES
        ]
        parts += [tag("div", *pieces, of="gauge"), tag("div", *words, of="legend")]
    if value.exits:
        parts += [title("exits"), exit_rows(value.exits)]
    return parts


def profile(value: Profile) -> Markup:
    """Show a profile: its statistics, and handlers as a table of bars, the most expensive first."""
    parts = _statistics(value.stats)
    if value.handlers:
        ordered = sorted(value.handlers, key=lambda one: -one.seconds)
        most = ordered[0].seconds
        rows = [
            [one.subject, one.name, tag("td", f"{one.hits:,}", of="num"), seconds(one.seconds), bar(one.seconds, most)]
            for one in ordered
        ]
        parts += [title("handlers"), table(rows)]
    return card(*parts)


def exit_rows(exits: dict[str, int]) -> Markup:
    """Show how often each class of exits happened, the most frequent first."""
    most = log2(max(exits.values()) + 1)
    ordered = sorted(exits.items(), key=lambda item: -item[1])
    return table([[name, tag("td", f"{n:,}", of="num"), bar(log2(n + 1), most)] for name, n in ordered])
