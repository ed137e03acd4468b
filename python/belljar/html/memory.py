"""Pictures of guest memory: the map as a strip and a table. They never read what is in it."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2
from typing import TYPE_CHECKING

from belljar.errors import ClosedError
from belljar.html.parts import Markup, card, code, dim, head, join, pill, size, table, tag, title

if TYPE_CHECKING:
    from collections.abc import Iterable

    from belljar._belljar import Memory, MemoryMap, MemoryRange, Region

PAGE = 0x1000
MOST = 16
"""So many pieces are drawn; the table goes on."""


@dataclass(frozen=True)
class Piece:
    """A range of guest-physical addresses, and what is there: "RAM", "ROM", "device", "handler" or "hole"."""

    start: int
    stop: int
    kind: str
    name: str = ""

    @property
    def weight(self) -> float:
        """How wide it is drawn: a page is 1, and every doubling adds as much again; holes get half."""
        width = 1 + log2(max((self.stop - self.start) / PAGE, 1))
        return width / 2 if self.kind == "hole" else width


def pieces(ranges: Iterable[MemoryRange]) -> list[Piece]:
    """Return what is where, in order; handlers where they are in front of nothing."""
    found: list[Piece] = []
    for one in ranges:
        if one.kind != "handler" or not found or found[-1].stop <= one.start:
            found.append(Piece(one.start, one.end, one.kind, one.name))
    return found


def used(parts: list[Piece]) -> list[Piece]:
    """Return the pieces without the hole at the end."""
    return parts[:-1] if parts and parts[-1].kind == "hole" else parts


def strip(parts: list[Piece]) -> Markup:
    """Draw the map: each piece as wide as the logarithm of its size, with its first address."""
    boxes = []
    for piece in parts[:MOST]:
        label = size(piece.stop - piece.start)
        boxes.append(
            tag(
                "div",
                label if piece.kind == "hole" else piece.name or f"{piece.kind} {label}",
                tag("br"),
                dim(code(f"{piece.start:#x}")),
                of=piece.kind.lower(),
                style=f"flex-grow:{piece.weight:.2f}",
                title=f"{piece.kind} {piece.name}".rstrip() + f", {label}, {piece.start:#x} to {piece.stop - 1:#x}",
            )
        )
    return tag("div", tag("div", *boxes, of="strip"), of="scroll")


def region_rows(regions: Iterable[Region]) -> Markup:
    """Return the table of regions."""
    return table(
        [
            [pill(r.kind, r.kind.lower()), code(f"{r.start:#x}"), code(f"{r.start + r.size:#x}"), size(r.size)]
            for r in regions
        ],
        ["kind", "from", "up to", "size"],
    )


def regions(memory: Memory) -> list[Region]:
    """Return the regions; none where the VM is closed."""
    try:
        return list(memory.regions)
    except ClosedError:
        return []


def memory(value: Memory) -> Markup:
    """Show the memory of a VM: the map, and its regions."""
    found = regions(value)
    total = dim(size(sum(r.size for r in found)))
    if not found:
        return card(head("Memory", dim("nothing: the VM is closed, or has no memory")))
    return card(head("Memory", total), strip(spaced(found)), title("regions"), region_rows(found))


def spaced(found: Iterable[Region]) -> list[Piece]:
    """Return the regions as pieces, with the holes between."""
    at, whole = 0, []
    for one in found:
        if at < one.start:
            whole.append(Piece(at, one.start, "hole"))
        whole.append(Piece(one.start, one.start + one.size, one.kind))
        at = one.start + one.size
    return whole


def region(value: Region) -> Markup:
    """Show one region in one line."""
    span = join([code(f"{value.start:#x}"), " to ", code(f"{value.start + value.size:#x}")])
    return head(pill(value.kind, value.kind.lower()), span, size(value.size))


def range_rows(found: Iterable[MemoryRange]) -> Markup:
    """Return the table of a map; holes stand back."""
    rows = []
    for one in found:
        span = [code(f"{one.start:#x}"), code(f"{one.end - 1:#x}"), tag("td", size(one.size), of="num")]
        told = join([one.name, dim(one.detail)], ", " if one.name and one.detail else "")
        if one.kind == "hole":
            rows.append([dim("hole"), *map(dim, span[:2]), tag("td", dim(size(one.size)), of="num"), ""])
        else:
            rows.append([pill(one.kind, one.kind.lower()), *span, told])
    return table(rows, ["kind", "first", "last", "size", ""])


def memory_map(value: MemoryMap) -> Markup:
    """Show all guest-physical addresses: the map, and its ranges."""
    return card(head("Memory map"), strip(pieces(value)), title("ranges"), range_rows(value))


def memory_range(value: MemoryRange) -> Markup:
    """Show one range of the map in one line."""
    span = join([code(f"{value.start:#x}"), " to ", code(f"{value.end - 1:#x}")])
    return head(pill(value.kind, value.kind.lower()), span, size(value.size), value.name, dim(value.detail))
