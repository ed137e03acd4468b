"""The kernel's log, as `dmesg` shows it: the ring buffer of kernels since 5.10, and the one before. It never waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from belljar.errors import KernelError
from belljar.linux.table import Table
from belljar.shown import Shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from belljar.linux.reading import Reading

MOST_BITS = 25
"""The kernel's own limit for log_buf_len is 2**25 bytes (CONFIG_LOG_BUF_SHIFT)."""

WORD = (1 << 64) - 1
LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")


@dataclass(frozen=True)
class Message(Shown):
    """A line of the kernel's log: number, ``time`` in seconds since boot, ``level`` ("err", "info", ...), and text."""

    sequence: int
    time: float
    level: str
    facility: int
    text: str

    def __str__(self) -> str:
        """Return it as dmesg prints it: to the microsecond, which has not passed yet."""
        seconds, rest = divmod(round(self.time * 1e9), 10**9)
        return f"[{seconds:5}.{rest // 1000:06}] {self.text}"


class Messages(Table[Message]):
    """Lines of the kernel's log, which print as dmesg does."""

    COLUMNS: ClassVar[dict[str, str]] = {"sequence": ">", "time": ">", "level": "", "facility": ">", "text": ""}
    TITLE = "message"

    def __repr__(self) -> str:
        """One message a line."""
        lines = ["".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(line)) for line in self]
        return "\n".join([*lines, *(f"partial: {self.partial}" for _ in self.problems[:1])])


def messages(look: Reading) -> list[Message]:
    """Return the kernel's log, from old to new."""
    if "prb" in look.symbols:
        return list(_ring(look))
    if "log_buf" in look.symbols and look.has("printk_log", "len"):
        return list(_records(look))
    raise KernelError("this kernel has no log buffer that is known: neither the symbol prb nor log_buf")


def _ring(look: Reading) -> Iterator[Message]:
    """Read the ring of descriptors and that of texts (kernel/printk/printk_ringbuffer.h)."""
    wanted = {
        "bits": "desc_ring.count_bits",
        "descs": "desc_ring.descs",
        "infos": "desc_ring.infos",
        "head": "desc_ring.head_id",
        "tail": "desc_ring.tail_id",
        "text_bits": "text_data_ring.size_bits",
        "text": "text_data_ring.data",
    }
    layout = look.layout("printk_ringbuffer", wanted, "bits descs infos head tail text_bits text")
    address = look.word(look.symbol("prb")) or 0
    ring = look.at(layout, address)
    if ring is None or max(ring.bits, ring.text_bits) > MOST_BITS:
        raise KernelError("the kernel's log is not set up yet, or damaged", address)
    content = look.bytes(ring.text, 1 << ring.text_bits)
    tail, head = _number(ring.tail), _number(ring.head)
    count = 1 << ring.bits
    if content is None or (head - tail & (WORD >> 2)) >= count:
        raise KernelError("the kernel's log is damaged: its head and tail are too far apart", address)
    yield from _finished(look, ring, tail, head, content)


def _number(value: int | bytes) -> int:
    """Return an atomic_long_t as a number."""
    return int.from_bytes(value, "little") if isinstance(value, bytes) else value & WORD


def _finished(look: Reading, ring: object, tail: int, head: int, content: bytes) -> Iterator[Message]:
    desc = look.layout("prb_desc", {"state": "state_var", "begin": "text_blk_lpos.begin", "next": "text_blk_lpos.next"})
    wanted = {"seq": "seq", "time": "ts_nsec", "length": "text_len", "facility": "facility", "level": "level"}
    info = look.layout("printk_info", wanted, "seq time length")
    sizes = look.size("prb_desc"), look.size("printk_info")
    count = 1 << ring.bits  # type: ignore[attr-defined]
    ids = [tail + i & (WORD >> 2) for i in range((head - tail & (WORD >> 2)) + 1)]
    places = [(ring.descs + i % count * sizes[0], ring.infos + i % count * sizes[1]) for i in ids]  # type: ignore[attr-defined]
    descs = look.many(desc, (place for place, _ in places))
    infos = look.many(info, (place for _, place in places))
    for number, (at, at_info) in zip(ids, places, strict=True):
        found, what = descs.get(at), infos.get(at_info)
        if found is None or what is None:
            continue
        state = _number(found.state)
        if state & (WORD >> 2) != number or state >> 62 not in {1, 2}:
            continue
        level = LEVELS[what.level] if what.level is not None else "info"
        text = block(content, found.begin, found.next, what.length)
        yield Message(what.seq, what.time / 1e9, level, what.facility or 0, text)


def block(content: bytes, begin: int, end: int, length: int) -> str:
    """Return the text of a data block: behind the number of its descriptor, at the ring's start if it would not fit."""
    if begin & 1 or end & 1:
        return ""
    size = len(content)
    start, stop = begin % size, end % size
    if begin // size != (end - 1) // size:
        start = 0
    room = (stop - start if stop > start else size - start) - 8
    return content[start + 8 : start + 8 + max(min(length, room), 0)].decode("utf-8", "backslashreplace")


def _records(look: Reading) -> Iterator[Message]:
    """Read the log of kernels before 5.10: records of any length in a row, a record without length at the wrap."""
    wanted = {"time": "ts_nsec", "length": "len", "text": "text_len", "facility": "facility", "level": "level"}
    layout = look.layout("printk_log", wanted, "time length text")
    start, size = look.word(look.symbol("log_buf")) or 0, look.word(look.symbol("log_buf_len"), 4) or 0
    at, end = (look.word(look.symbol(name), 4) or 0 for name in ("log_first_idx", "log_next_idx"))
    header = look.size("printk_log")
    content = look.bytes(start, min(size, 1 << MOST_BITS)) or b""
    for number in range(len(content) // max(header, 1)):
        if at == end or at + header > len(content):
            return
        record = layout.decode(content, at + layout.start)
        if record.length == 0:
            at = 0
            continue
        text = content[at + header : at + header + record.text].decode("utf-8", "backslashreplace")
        yield Message(number, record.time / 1e9, LEVELS[record.level or 0], record.facility or 0, text)
        at += record.length
