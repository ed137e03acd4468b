"""A Linux guest's own symbols as an ELF file: names and call stacks for gdb and its like where there is no vmlinux.

It owns the file's layout (System V ABI, chapters 4 and 5). It never writes code or data into it: the guest has them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEADER, SECTION, SYMBOL = "<16sHHIQQQIHHHHHH", "<IIQQQQIIQQ", "<IBBHQQ"
EXECUTABLE, X86_64, CURRENT = 2, 62, 1
CONTENT, SYMBOL_TABLE, STRING_TABLE, NO_BITS = 1, 2, 3, 8
WRITABLE, LOADED, CODE = 1, 2, 4
OBJECT, FUNCTION = 1, 2
GLOBAL = 1 << 4
ABSOLUTE = 0xFFF1


@dataclass(frozen=True)
class Part:
    """A stretch of the kernel's image, which becomes a section without content."""

    name: str
    start: int
    end: int
    flags: int

    @property
    def kind(self) -> int:
        """What symbols in it stand for."""
        return FUNCTION if self.flags & CODE else OBJECT


def parts(symbols: Any, base: int) -> list[Part]:
    """Return code and data of a kernel in turns, by the symbols that its linker script puts at their borders."""
    borders = [(base, ".text", CODE)]
    names = (("_etext", ".data", WRITABLE), ("_sinittext", ".init.text", CODE), ("_einittext", ".init.data", WRITABLE))
    for name, section, flags in names:
        if (at := symbols.get(name)) is not None and at > borders[-1][0]:
            borders.append((at, section, flags))
    end = symbols.get("_end") or max(symbols.values(), default=base) + 1
    ends = [start for start, *_ in borders[1:]] + [max(end, borders[-1][0] + 1)]
    return [Part(name, start, end, LOADED | flags) for (start, name, flags), end in zip(borders, ends, strict=True)]


def write(path: str | os.PathLike[str], symbols: Any, base: int, frames: bytes = b"") -> Path:
    """Write the symbols of the kernel at ``base``, and how to unwind it, to an ELF file; return its path."""
    sections = parts(symbols, base)
    names, table = bytearray(b"\0"), [struct.pack(SYMBOL, 0, 0, 0, 0, 0, 0)]
    rows = sorted(symbols.find("*"), key=lambda row: int(row[1]))
    local: list[bytes] = []
    shared: list[bytes] = []
    for (name, at), size in zip(rows, _sizes(at for _, at in rows), strict=True):
        where = next((i for i, part in enumerate(sections, 1) if part.start <= at < part.end), 0)
        kind = sections[where - 1].kind if where else 0
        is_global = symbols.kind(name).isupper()
        info = kind | (GLOBAL if is_global else 0)
        entry = struct.pack(SYMBOL, len(names), info, 0, where or ABSOLUTE, at, size if where else 0)
        names += name.encode() + b"\0"
        (shared if is_global else local).append(entry)
    content = [b"".join([*table, *local, *shared]), bytes(names), frames]
    made = Path(path)
    made.write_bytes(_file(sections, content, 1 + len(local)))
    return made


def _sizes(addresses: Iterable[int]) -> list[int]:
    """Return the distance from each address to the next other one."""
    sizes, after, size = [], None, 0
    for at in reversed(list(addresses)):
        if at != after:
            size = 0 if after is None else after - at
            after = at
        sizes.append(size)
    return sizes[::-1]


def _file(sections: list[Part], content: list[bytes], first_global: int) -> bytes:
    titles, places = bytearray(b"\0"), []
    for name in [*(part.name for part in sections), ".symtab", ".strtab", ".debug_frame", ".shstrtab"]:
        places.append(len(titles))
        titles += name.encode() + b"\0"
    content = [*content, bytes(titles)]
    offset, headers = struct.calcsize(HEADER), [bytes(struct.calcsize(SECTION))]
    for part, title in zip(sections, places, strict=False):
        size = part.end - part.start
        headers.append(struct.pack(SECTION, title, NO_BITS, part.flags, part.start, offset, size, 0, 0, 16, 0))
    strings = len(sections) + 2
    text, frames = (STRING_TABLE, 0, 0, 1, 0), (CONTENT, 0, 0, 8, 0)
    kinds = [(SYMBOL_TABLE, strings, first_global, 8, struct.calcsize(SYMBOL)), text, frames, text]
    for title, data, (kind, link, info, align, row) in zip(places[len(sections) :], content, kinds, strict=True):
        headers.append(struct.pack(SECTION, title, kind, 0, 0, offset, len(data), link, info, align, row))
        offset += len(data)
    identity = b"\x7fELF" + bytes([2, 1, CURRENT]) + bytes(9)
    sizes = (struct.calcsize(HEADER), 0, 0, struct.calcsize(SECTION), len(headers), len(headers) - 1)
    head = struct.pack(HEADER, identity, EXECUTABLE, X86_64, CURRENT, 0, 0, offset, 0, *sizes)
    return b"".join([head, *content, *headers])
