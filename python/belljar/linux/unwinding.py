"""How to unwind a Linux guest's stack, out of the kernel's own ORC tables: the call frame information that gdb reads.

It owns the translation (arch/x86/kernel/unwind_orc.c; DWARF 4, 6.4). It never unwinds anything.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from belljar.errors import BelljarError

if TYPE_CHECKING:
    from belljar.linux.linux import Linux

LARGEST = 64 << 20
MOST_ROWS = 256
"""Rows of a description: a reader goes through them one by one."""

RDX, RDI, RBP, RSP, R10, R13, RIP = 1, 5, 6, 7, 10, 13, 16
REGISTERS = {2: RDX, 3: RDI, 4: RBP, 5: RSP, 6: R10, 7: R13}
BP_INDIRECT, SP_INDIRECT = 8, 9
UNDEFINED, PREVIOUS_SP, BP = 0, 1, 4
CALL, REGS, PARTIAL, END = "call", "regs", "partial", "end"
IP_IN_REGS, SP_IN_REGS, BP_IN_REGS = 128, 152, 32
"""Offsets in struct pt_regs (arch/x86/include/asm/ptrace.h)."""

Row = tuple[str, bytes]
"""What a row is about, and how it is written."""


def debug_frame(linux: Linux) -> bytes:
    """Return a .debug_frame of the kernel; nothing if it keeps no such tables, or damaged ones."""
    with suppress(BelljarError, LookupError, ValueError, TypeError):
        return b"".join(_frames(*_tables(linux)))
    return b""


def _tables(linux: Linux) -> tuple[list[int], list[Row | None]]:
    """Return where each row begins, in ascending order, and the row."""
    places = _content(linux, "__start_orc_unwind_ip", "__stop_orc_unwind_ip", "<i4")
    words = _content(linux, "__start_orc_unwind", "__stop_orc_unwind", "<u2").reshape(len(places), 3)
    own = linux.symbols["__start_orc_unwind_ip"] - linux.base
    starts = places.astype(np.int64) + np.arange(len(places)) * 4 + own  # each is relative to its own place
    order = np.argsort(starts, kind="stable")
    bits = {member.name: (member.bit_offset - 32, member.bits) for member in linux.btf.struct("orc_entry").members}
    rows: dict[tuple[int, ...], Row | None] = {}
    found = []
    for words_of in ((int(sp), int(bp), int(flags)) for sp, bp, flags in words[order].tolist()):
        if words_of not in rows:
            rows[words_of] = _row(*words_of, bits)
        found.append(rows[words_of])
    return [linux.base + start for start in starts[order].tolist()], found


def _content(linux: Linux, first: str, end: str, kind: str) -> Any:
    start, stop = linux.symbols[first], linux.symbols[end]
    if not 0 < stop - start <= LARGEST:
        raise ValueError("the tables are damaged")
    return np.frombuffer(linux.memory.read(start, stop - start), kind)


def _row(sp: int, bp: int, flags: int, bits: dict[str, tuple[int, int | None]]) -> Row | None:
    """Return what an ORC entry says, in DWARF's words; None for code of which nothing is known."""

    def part(name: str) -> int:
        at, size = bits.get(name, (0, 0))
        return flags >> at & ((1 << (size or 0)) - 1)

    sp, bp = (word - (word >> 15 << 16) for word in (sp, bp))
    if "end" in bits:  # until Linux 6.3
        kind = END if part("end") else {0: CALL, 1: REGS, 2: PARTIAL}.get(part("type"))
    else:
        kind = {1: END, 2: CALL, 3: REGS, 4: PARTIAL}.get(part("type"))
    if kind == END:
        return END, bytes([0x0C, RSP, 8, 0x07, RIP])  # RIP is undefined: nobody called this
    frame = _frame(part("sp_reg"), sp)
    if kind is None or frame is None:
        return None
    if kind == REGS:
        return kind, frame + _saved(RIP, IP_IN_REGS) + _saved(RSP, SP_IN_REGS) + _saved(RBP, BP_IN_REGS)
    if kind == PARTIAL:
        return kind, frame + _saved(RIP, 0) + _saved(RSP, SP_IN_REGS - IP_IN_REGS) + bytes([0x08, RBP])
    return kind, frame + _saved(RIP, -8) + _base(part("bp_reg"), bp)


def _frame(register: int, offset: int) -> bytes | None:
    """Where the stack was before the call (DW_CFA_def_cfa_sf, DW_CFA_def_cfa_expression)."""
    if register == BP_INDIRECT:
        return _expression(b"\x0f", bytes([0x70 + RBP]) + _signed(offset) + b"\x06")
    if register == SP_INDIRECT:
        return _expression(b"\x0f", bytes([0x70 + RSP, 0, 0x06, 0x11]) + _signed(offset) + b"\x22")
    if register not in REGISTERS or offset % 8:
        return None
    return bytes([0x12, REGISTERS[register]]) + _signed(offset // -8)


def _base(register: int, offset: int) -> bytes:
    """Where RBP was saved, or that it is still the same."""
    if register == PREVIOUS_SP and offset % 8 == 0:
        return _saved(RBP, offset)
    if register == BP:
        return _expression(bytes([0x10, RBP]), bytes([0x70 + RBP]) + _signed(offset))
    return bytes([0x08, RBP])


def _saved(register: int, offset: int) -> bytes:
    """Say that `register` was saved so far from where the stack was (DW_CFA_offset_extended_sf)."""
    return bytes([0x11, register]) + _signed(offset // -8)


def _expression(what: bytes, block: bytes) -> bytes:
    return what + bytes([len(block)]) + block


def _signed(number: int) -> bytes:
    """LEB128."""
    coded = bytearray()
    while not -64 <= number < 64:
        coded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*coded, number & 0x7F])


@cache
def _advance(distance: int) -> bytes:
    if distance < 0x40:
        return bytes([0x40 | distance])
    return b"\x04" + distance.to_bytes(4, "little")


def _frames(starts: list[int], rows: list[Row | None]) -> Iterator[bytes]:
    """Yield what is common to calls, and to interrupts; then descriptions of a stretch of code each."""
    common = [_entry(struct.pack("<I", 0xFFFFFFFF) + b"\1" + name + bytes([1, 0x78, RIP])) for name in (b"\0", b"S\0")]
    yield from common
    interrupts = len(common[0])
    at = 0
    while at < len(rows) - 1:
        row, first = rows[at], at
        if row is None:
            at += 1
            continue
        code = bytearray()
        while at < len(rows) - 1 and at - first < MOST_ROWS and (this := rows[at]) is not None and this[0] == row[0]:
            code += (_advance(min(starts[at] - starts[at - 1], 0xFFFFFFFF)) if at > first else b"") + this[1]
            at += 1
        owner = 0 if row[0] in {CALL, END} else interrupts
        yield _entry(struct.pack("<IQQ", owner, starts[first], starts[at] - starts[first]) + code)


def _entry(content: bytes) -> bytes:
    """An entry with its length; the rest of its last word does nothing (DW_CFA_nop)."""
    content += bytes(-(len(content) + 4) % 8)
    return struct.pack("<I", len(content)) + content
