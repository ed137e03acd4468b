"""VMCOREINFO: what a Linux kernel says of itself to those who read its memory. Found in the guest's memory, and read.

It never asks a symbol table, and believes the guest only as far as the text can be read.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from belljar._belljar import Memory

HEADER = struct.Struct("<III")
NAME = b"VMCOREINFO\0\0"
LONGEST = 1 << 16
"""The kernel writes at most a page."""
KERNEL_MAP = 0xFFFF_FFFF_8000_0000
"""Where the kernel image is mapped: __START_KERNEL_map (Linux, Documentation/x86/x86_64/mm.rst)."""


class VmCoreInfo(dict[str, str]):
    """The lines of a VMCOREINFO note by their keys: ``info["OSRELEASE"]``, ``info.symbol("init_uts_ns")``.

    ``raw`` is the text as the kernel wrote it, ``address`` the guest-physical address of the note (None for one that
    came out of a file).
    """

    def __init__(self, raw: bytes, address: int | None = None) -> None:
        """Read the lines of ``raw``; what is no ``key=value`` is left out."""
        self.raw = raw
        self.address = address
        lines = raw.partition(b"\0")[0].decode("utf-8", "replace").splitlines()
        super().__init__((key, value) for key, equals, value in (line.partition("=") for line in lines) if equals)

    @property
    def release(self) -> str:
        """The kernel's version, as ``uname -r`` gives it."""
        return self.get("OSRELEASE", "")

    def symbol(self, name: str) -> int | None:
        """Return the virtual address of a symbol, or None if it is not told."""
        return _number(self.get(f"SYMBOL({name})"), 16)

    def number(self, name: str) -> int | None:
        """Return a NUMBER, or None if it is not told."""
        return _number(self.get(f"NUMBER({name})"), 10)

    def offset(self, member: str) -> int | None:
        """Return the offset of a member of a structure ("page.flags"), or None if it is not told."""
        return _number(self.get(f"OFFSET({member})"), 10)

    def size(self, name: str) -> int | None:
        """Return the size of a structure, or None if it is not told."""
        return _number(self.get(f"SIZE({name})"), 10)

    @property
    def slide(self) -> int | None:
        """By how much KASLR has moved the kernel, in bytes, or None if it is not told."""
        return _number(self.get("KERNELOFFSET"), 16)

    @property
    def phys_base(self) -> int:
        """What is to be added to an address in the kernel image, less KERNEL_MAP, to get the guest-physical one."""
        return self.number("phys_base") or 0

    @property
    def page_table(self) -> int | None:
        """Guest-physical address of the kernel's own top page table, or None if it is not told."""
        top = self.symbol("init_top_pgt") or self.symbol("swapper_pg_dir")
        return None if top is None or top < KERNEL_MAP else (top - KERNEL_MAP + self.phys_base) & (1 << 52) - 1

    def __repr__(self) -> str:
        """Show the release and how much is told."""
        return f"<VmCoreInfo of Linux {self.release}, {len(self)} values>"


def _number(text: str | None, base: int) -> int | None:
    try:
        return None if text is None else int(text, base)
    except ValueError:
        return None


def find(memory: Memory) -> VmCoreInfo | None:
    """Return the VMCOREINFO note that a Linux guest keeps in its memory, or None if there is none.

    Of several (those of kernels that ran there before), the longest counts.
    """
    found = []
    for at in memory.search(NAME + b"OSRELEASE=", limit=64):
        if at < HEADER.size:
            continue
        start = at - HEADER.size
        name, size, _ = HEADER.unpack(memory.read(start, HEADER.size))
        if name == len(NAME) - 1 and size <= LONGEST and at + len(NAME) + size <= _end(memory, at):
            found.append(VmCoreInfo(memory.read(at + len(NAME), size).rstrip(b"\0"), start))
    return max(found, key=lambda info: len(info.raw), default=None)


def _end(memory: Memory, at: int) -> int:
    """Return one past the last address of the region that holds ``at``."""
    return next((region.end for region in memory.regions if region.start <= at < region.end), 0)
