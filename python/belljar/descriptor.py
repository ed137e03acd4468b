"""GDTR and IDTR as a value: where a descriptor table lies. It never reads a table.

>>> DescriptorTable(0x7000, 0x2F)
DescriptorTable(base=0x7000, limit=0x2f)
"""

from __future__ import annotations

from typing import NamedTuple


class DescriptorTable(NamedTuple):
    """A descriptor-table register (Intel SDM vol. 3, 2.4): ``base``, a linear address, and ``limit``, its last offset.

    ``cpu.gdt`` and ``cpu.idt`` return it, and take any such pair.
    """

    base: int
    limit: int

    def __repr__(self) -> str:
        """Show both in hexadecimal."""
        return f"DescriptorTable(base={self.base:#x}, limit={self.limit:#x})"
