"""Where the kernel keeps the markers of its table of symbols: what VMCOREINFO leaves out of the rest.

It never reads a symbol: those are found natively (`bj.find_kernel`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from belljar.errors import BelljarError

if TYPE_CHECKING:
    from belljar._belljar import VirtualMemory

CHUNK = 256
"""Names for each marker (Linux, scripts/kallsyms.c)."""
LARGEST = 16 << 20
"""Bytes of names; a distribution's kernel has some 2 MB."""


def markers(memory: VirtualMemory, told: Mapping[str, int]) -> int | None:
    """Return the address of ``kallsyms_markers``, which follow the names, or None where it is not clear.

    ``told`` has the addresses of ``kallsyms_names``, ``kallsyms_num_syms`` and ``kallsyms_token_table``.
    """
    try:
        names, number, after = (told[f"kallsyms_{name}"] for name in ("names", "num_syms", "token_table"))
        content = memory.read(names, after - names) if 0 < after - names <= LARGEST else b""
        places = _chunks(content, memory.read_u32(number))
    except (BelljarError, KeyError):
        return None
    at = -(-places[-1] // 8) * 8 if places else len(content)
    first = [int.from_bytes(content[at + 4 * n : at + 4 * n + 4], "little") for n in range(2)]
    return names + at if first == places[:2] and len(places) > 2 else None


def _chunks(content: bytes, count: int) -> list[int]:
    """Return where each chunk of names begins, and where the last name ends; nothing for names that do not fit."""
    at, places = 0, []
    for name in range(count):
        if name % CHUNK == 0:
            places.append(at)
        if at + 1 >= len(content):
            return []
        length = content[at]
        # A length from 128 on takes two bytes (Linux 6.1 and later).
        at += 1 + length if length < 0x80 else 2 + (length & 0x7F | content[at + 1] << 7)
    return [*places, at]
