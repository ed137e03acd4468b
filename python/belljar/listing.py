"""Instructions in a row, as a list that prints one of them a line. It never decodes anything."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex, overload

from belljar._belljar import Instruction
from belljar.shown import Shown


class Listing(list[Instruction], Shown):
    """A list of instructions that prints as a listing, with the one at ``here`` (the vCPU's RIP, say) marked.

    >>> import belljar as bj
    >>> bj.disasm(bytes([0xB0, 42, 0xF4]), at=0x1000)
      0x1000  b02a                 mov al, 0x2a
      0x1002  f4                   hlt
    """

    def __init__(self, instructions: Iterable[Instruction] = (), here: int | None = None) -> None:
        """Take the instructions, in the order in which they are to be shown."""
        super().__init__(instructions)
        self.here = here

    @overload
    def __getitem__(self, index: SupportsIndex) -> Instruction: ...
    @overload
    def __getitem__(self, index: slice) -> Listing: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Instruction | Listing:
        """Return an instruction, or a part of the listing."""
        if isinstance(index, slice):
            return Listing(super().__getitem__(index), self.here)
        return super().__getitem__(index)

    def __repr__(self) -> str:
        """One instruction a line: the mark, the address, the bytes, the text; names where they are known."""
        lines = []
        for number, one in enumerate(self):
            if name := label(self, number):
                lines.append(f"{name}:")
            target = f" <{one.target_symbol}>" if one.target_symbol else ""
            mark = ">" if one.address == self.here else " "
            lines.append(f"{mark} {one.address:#6x}  {one.bytes.hex():<20} {one.text}{target}")
        return "\n".join(lines)


def names(guest: Any, check: bool = True) -> Any:
    """Return what names places in the listings of a guest: the symbols of its image, else those of its Linux kernel.

    The kernel's are taken where it has been found before (``guest.linux``); it is not looked for. Without `check`,
    it is taken to be there still.
    """
    own, linux = guest.symbols, sys.modules.get("belljar.linux.linux")
    known = linux.Linux.known(guest, check) if linux is not None and not len(own) else None
    return own if known is None else known.symbols


def label(listing: Sequence[Instruction], number: int) -> str | None:
    """Return the name to put before an instruction: where a symbol begins, and where the listing does."""
    symbol = listing[number].symbol
    return symbol if symbol and (number == 0 or "+" not in symbol) else None
