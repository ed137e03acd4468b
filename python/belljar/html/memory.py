"""Pictures of guest memory: the map as a strip and a table. They never read what is in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import log2
from typing import TYPE_CHECKING

from belljar.html.parts import Markup, card, code, dim, head, join, pill, size, table, tag, title

if TYPE_CHECKING:
    from belljar._belljar import Handle, Memory, Region

PAGE = 0x1000
MOST = 16
"""So many pieces are drawn; the table goes on."""


@dataclass(frozen=True)
class Piece:
    """A range of guest-physical addresses, and what is there: "RAM", "ROM", "MMIO" (a handler answers) or "hole"."""

    start: int
    stop: int
    kind: str

    @property
    def weight(self) -> float:
        """How wide it is drawn: a page is 1, and every doubling adds as much again; holes get half."""
        width = 1 + log2(max((self.stop - self.start) / PAGE, 1))
        return width / 2 if self.kind == "hole" else width


def pieces(regions: Iterable[Region], handlers: Iterable[Handle] = ()) -> list[Piece]:
    """Return what is where, in order and with the holes between."""
    found = [Piece(region.start, region.start + region.size, region.kind) for region in regions]
    for handler in handlers:
        if handler.subject == "mmio" and handler.range is not None:
            span = handler.range
            if not any(p.start < span.stop and span.start < p.stop for p in found):
                found.append(Piece(span.start, span.stop, "MMIO"))
    at, whole = 0, []
    for piece in sorted(found, key=lambda p: p.start):
        if at < piece.start:
            whole.append(Piece(at, piece.start, "hole"))
        whole.append(piece)
        at = piece.stop
    return whole


def strip(parts: list[Piece]) -> Markup:
    """Draw the map: each piece as wide as the logarithm of its size, with its first address."""
    boxes = []
    for piece in parts[:MOST]:
        label = size(piece.stop - piece.start)
        boxes.append(
            tag(
                "div",
                label if piece.kind == "hole" else f"{piece.kind} {label}",
                tag("br"),
                dim(code(f"{piece.start:#x}")),
                of=piece.kind.lower(),
                style=f"flex-grow:{piece.weight:.2f}",
                title=f"{piece.kind} {piece.start:#x} to {piece.stop:#x}",
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
    return list(memory.regions)


def memory(value: Memory) -> Markup:
    """Show the memory of a VM: the map, and its regions."""
    found = regions(value)
    total = dim(size(sum(r.size for r in found)))
    if not found:
        return card(head("Memory", dim("nothing: the VM is closed, or has no memory")))
    return card(head("Memory", total), strip(pieces(found)), title("regions"), region_rows(found))


def region(value: Region) -> Markup:
    """Show one region in one line."""
    span = join([code(f"{value.start:#x}"), " to ", code(f"{value.start + value.size:#x}")])
    return head(pill(value.kind, value.kind.lower()), span, size(value.size))
