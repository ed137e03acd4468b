"""Chosen members of one of the kernel's structures, read and decoded at once. It knows no structure itself."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from belljar.errors import KernelError

if TYPE_CHECKING:
    from belljar._belljar import Btf, BtfMember

Wanted = Mapping[str, "str | tuple[str, ...]"]
"""Names, and the paths of members: one, or several of which the first that a kernel has counts."""

CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}


@dataclass(frozen=True)
class _Bits:
    """Where a bit field lies in the bytes that were read for it."""

    name: str
    shift: int
    mask: int


class Layout:
    """The members of a structure that a reader wants, wherever this kernel has them.

    ``wanted`` names them: each by its path, or by several if kernels differ, of which the first that exists counts. One
    that this kernel has not is None in what is decoded; one in ``needed`` makes KernelError then.
    """

    def __init__(self, btf: Btf, structure: str, wanted: Wanted, needed: str = "") -> None:
        """Find the members, and make their decoders."""
        self.structure = structure
        self._missing: dict[str, Any] = {}
        self._bits: list[_Bits] = []
        found = {name: _first(btf, structure, paths) for name, paths in wanted.items()}
        for name in needed.split():
            if found[name] is None:
                raise KernelError(
                    f"this kernel's struct {structure} has no {wanted[name]}: it is not known how to read it"
                )
        self._missing = {name: None for name, member in found.items() if member is None}
        self.has = {name for name, member in found.items() if member is not None}
        self.offsets = {name: member.offset for name, member in found.items() if member is not None}
        self._decoders = self._made({name: member for name, member in found.items() if member is not None})

    def _made(self, found: dict[str, BtfMember]) -> list[tuple[struct.Struct, int, list[str]]]:
        """Put members that do not overlap into one decoder, and so on until all are in one."""
        places = sorted((member.offset, _width(member), name, member) for name, member in found.items())
        self.start = min((at for at, *_ in places), default=0)
        self.span = max((at + width for at, width, *_ in places), default=0) - self.start
        decoders = []
        while places:
            text, end, names, left = "<", 0, [], []
            for place in places:
                at, width, name, member = place
                at -= self.start
                if at < end or width == 0:
                    left += [place] if width else []
                    continue
                text += f"{at - end}x{_code(member, width)}"
                end = at + width
                names.append(name)
                self._bits += [_Bits(name, member.bit_offset % 8, (1 << member.bits) - 1)] if member.bits else []
            decoders.append((struct.Struct(text), 0, names))
            places = left
        return decoders

    def decode(self, content: bytes, at: int = 0) -> SimpleNamespace:
        """Return the members by name, from bytes that begin at the first of them."""
        values = dict(self._missing)
        for decoder, _, names in self._decoders:
            values.update(zip(names, decoder.unpack_from(content, at), strict=True))
        for bits in self._bits:
            values[bits.name] = values[bits.name] >> bits.shift & bits.mask
        return SimpleNamespace(**values)


def _first(btf: Btf, structure: str, paths: str | tuple[str, ...]) -> BtfMember | None:
    for path in (paths,) if isinstance(paths, str) else paths:
        if btf.has(structure, path):
            return btf.member(structure, path)
    return None


def _width(member: BtfMember) -> int:
    """Return how many bytes a member takes; of a bit field, those that it has bits in, as an integer."""
    if member.bits:
        needed = (member.bit_offset % 8 + member.bits + 7) // 8
        return next((width for width in CODES if width >= needed), 8)
    return member.size or 0


def _code(member: BtfMember, width: int) -> str:
    """Return what `struct` calls such a member: an integer, or bytes for anything else."""
    if member.count is not None or width not in CODES:
        return f"{width}s"
    return CODES[width].lower() if member.signed and not member.bits else CODES[width]
