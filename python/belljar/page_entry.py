"""An entry of a page table, as a walk has read it. It never reads a table.

>>> PageTableEntry(1, 0x5008, 0x61003)
PageTableEntry(level=1, gpa=0x5008, value=0x61003)
"""

from __future__ import annotations

from typing import NamedTuple


class PageTableEntry(NamedTuple):
    """An entry of a page table: its ``level`` (1 is the last table), where it lies (``gpa``), and its ``value``.

    ``vm.translate(at).entries`` has those on the way to an address. The bits of the value are in Intel SDM vol. 3, 4.5.
    """

    level: int
    gpa: int
    value: int

    def __repr__(self) -> str:
        """Show address and value in hexadecimal."""
        return f"PageTableEntry(level={self.level}, gpa={self.gpa:#x}, value={self.value:#x})"
