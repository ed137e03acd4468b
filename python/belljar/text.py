"""Text that Python shows as it is: a dump of bytes, printed by merely naming it."""

from __future__ import annotations


class HexDump(str):
    """A dump of bytes. A string, except that its repr is the dump itself, as a prompt or a notebook shows it."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Show the lines, not one line of escapes."""
        return str(self)
