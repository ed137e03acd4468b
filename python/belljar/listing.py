"""Instructions in a row, as a list that prints one of them a line. It never decodes anything."""

from __future__ import annotations

from collections.abc import Iterable

from belljar._belljar import Instruction


class Listing(list[Instruction]):
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

    def __repr__(self) -> str:
        """One instruction a line: the mark, the address, the bytes, the text."""
        return "\n".join(
            f"{'>' if line.address == self.here else ' '} {line.address:#6x}  {line.bytes.hex():<20} {line.text}"
            for line in self
        )

    def _repr_html_(self) -> str:
        """Return the listing as a notebook shows it."""
        from belljar.html import show

        return show(self)
