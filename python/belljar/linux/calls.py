"""System calls of a Linux guest as values: which there are, what they take, and one that was made. It plants nothing.

Names, parameters and types come from the guest itself: its system-call table, and the metadata that it keeps for its
own tracer (CONFIG_FTRACE_SYSCALLS). No number is known by heart.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from belljar.linux.table import KernelAddress, Table
from belljar.shown import Shown

if TYPE_CHECKING:
    from belljar.linux.reading import Reading

MOST_CALLS = 1024
"""More entries of a system-call table are not read."""

MOST_PARAMETERS = 6
REGISTERS = ("di", "si", "dx", "r10", "r8", "r9")
"""Where the parameters of a system call are in `struct pt_regs` (x86-64 System V ABI, A.2.1)."""

_IMPLEMENTATION = re.compile(r"(?:__x64_)?sys_(\w+)")
_MOST_ERROR = 4095
_HEXADECIMAL = 0x10000


@dataclass(frozen=True)
class Parameter:
    """A parameter of a system call: its name, and its type as C writes it."""

    name: str
    type: str

    @property
    def is_text(self) -> bool:
        """Is it the address of a string, or of bytes, that the process hands over?"""
        return self.type == "const char *"

    def value(self, word: int) -> int:
        """Return the number that a register holds: of an `int` its low half, with its sign."""
        if "*" in self.type:
            return word
        bits = {"int": 32, "u32": 32, "umode_t": 16, "short": 16, "char": 8}
        width = next((bits[part] for part in reversed(self.type.split()) if part in bits), 64)
        word &= (1 << width) - 1
        is_signed = self.type.split()[-1:] in (["int"], ["long"], ["loff_t"], ["off_t"]) and "unsigned" not in self.type
        return word - (1 << width) if is_signed and word >> (width - 1) else word

    def shown(self, word: int, text: bytes | None) -> str:
        """Return a value as people read it."""
        if text is not None:
            return _quoted(text)
        value = self.value(word)
        if "*" in self.type:
            return f"{value:#x}" if value else "NULL"
        if self.type == "umode_t":
            return f"{value:#o}"
        if value == -100 and self.name.endswith("dfd"):
            return "AT_FDCWD"
        return f"{value:#x}" if abs(value) >= _HEXADECIMAL else str(value)


@dataclass(frozen=True)
class Prototype(Shown):
    """A system call that the kernel offers: number, name, parameters, and where its implementation is.

    ``parameters`` is None where the kernel keeps no metadata of it: then all six registers are shown.
    """

    number: int
    name: str
    parameters: tuple[Parameter, ...] | None
    address: KernelAddress

    @property
    def takes(self) -> tuple[Parameter, ...]:
        """Its parameters; six words if they are not known."""
        if self.parameters is None:
            return tuple(Parameter(f"arg{i}", "unsigned long") for i in range(MOST_PARAMETERS))
        return self.parameters

    @property
    def declaration(self) -> str:
        """It as C declares it."""
        inside = ", ".join(f"{p.type}{'' if p.type.endswith('*') else ' '}{p.name}" for p in self.takes)
        return f"{self.name}({inside})"

    def __repr__(self) -> str:
        """Show the declaration."""
        return f"<{self.number} {self.declaration} at {self.address:#x}>"


class Prototypes(Table[Prototype]):
    """The system calls that a kernel offers: by position as a list, and by name: ``prototypes["openat"]``."""

    COLUMNS: ClassVar[dict[str, str]] = {"number": ">", "declaration": "", "address": "x"}
    TITLE = "system call"
    NAMED = "name"

    def named(self, name: str) -> Prototype:
        """Return the system call of that name. KeyError if there is none."""
        return self[name]


def prototypes(look: Reading) -> Prototypes:
    """Read the kernel's system-call table, and the metadata of its calls where there are any."""
    start = look.symbol("sys_call_table")
    count = min(look.symbols.size("sys_call_table") // 8, MOST_CALLS)
    known = dict(_metadata(look, count))
    found = []
    for number, address in enumerate(look.pointers(start, count)):
        name = _name(look, address)
        if name is None and number in known:
            name = known[number][0]
        if name is not None and name != "ni_syscall":
            found.append(Prototype(number, name, known[number][1] if number in known else None, address))
    return Prototypes(found, look.problems)


def _name(look: Reading, address: int) -> str | None:
    place = look.symbols.lookup(address)
    match = _IMPLEMENTATION.fullmatch(place[0]) if place is not None and place[1] == 0 else None
    return match[1] if match else None


def _metadata(look: Reading, count: int) -> Iterator[tuple[int, tuple[str, tuple[Parameter, ...]]]]:
    """Yield number, name and parameters, as far as the kernel keeps them."""
    table = look.symbols.get("syscalls_metadata")
    array = look.word(table) if table is not None and look.btf.has("syscall_metadata") else None
    if not array:
        return
    wanted = {"name": "name", "count": "nb_args", "types": "types", "names": "args"}
    layout = look.layout("syscall_metadata", wanted, "name count types names")
    pointers = look.pointers(array, count)
    records = look.many(layout, pointers)
    for number, pointer in enumerate(pointers):
        record = records.get(pointer)
        name = look.text(record.name) if record is not None else None
        if record is None or name is None or not 0 <= record.count <= MOST_PARAMETERS:
            continue
        types = look.pointers(record.types, record.count) if record.count else []
        names = look.pointers(record.names, record.count) if record.count else []
        pairs = [(look.text(name), look.text(kind)) for name, kind in zip(names, types, strict=False)]
        parameters = tuple(Parameter(name or "?", kind or "unsigned long") for name, kind in pairs)
        yield number, (name.removeprefix("sys_"), parameters)


def error_name(result: int) -> str | None:
    """Return the name of the error that a result is, such as "ENOENT"; None for a result that is none."""
    if not -_MOST_ERROR <= result < 0:
        return None
    return errno.errorcode.get(-result, f"error {-result}")


@dataclass(frozen=True)
class Syscall(Shown):
    """A system call that a process of the guest made.

    ``time`` and ``duration`` are in nanoseconds (CLOCK_MONOTONIC of the host); ``result`` is None for one that has not
    returned, or never does. ``words`` are the registers, ``texts`` what strings and buffers held when the call was
    made, by the number of the parameter.
    """

    time: int
    duration: int | None
    cpu: int
    pid: int
    tid: int
    comm: str
    prototype: Prototype
    words: tuple[int, ...] = field(repr=False)
    texts: dict[int, bytes] = field(repr=False, hash=False)
    result: int | None = None

    @property
    def name(self) -> str:
        """The name of the call."""
        return self.prototype.name

    @property
    def args(self) -> dict[str, Any]:
        """The arguments by name: numbers, and bytes for strings and buffers that were there to be read."""
        pairs = enumerate(zip(self.prototype.takes, self.words, strict=False))
        return {p.name: self.texts.get(i, p.value(word)) for i, (p, word) in pairs}

    @property
    def error(self) -> str | None:
        """The name of the error that it ended with, such as "ENOENT"; None if it did not."""
        return None if self.result is None else error_name(self.result)

    @property
    def call(self) -> str:
        """It as `strace` shows it: `openat(AT_FDCWD, "/etc/passwd", 0, 0)`."""
        pairs = enumerate(zip(self.prototype.takes, self.words, strict=False))
        return f"{self.name}({', '.join(p.shown(word, self.texts.get(i)) for i, (p, word) in pairs)})"

    @property
    def outcome(self) -> str:
        """The result in words: a number, an address, "-1 ENOENT", or "?" where there is none."""
        if self.result is None:
            return "?"
        if self.error is not None:
            return f"-1 {self.error}"
        return f"{self.result:#x}" if abs(self.result) >= _HEXADECIMAL else str(self.result)

    @property
    def microseconds(self) -> float | None:
        """How long it took, in microseconds of the host's clock."""
        return None if self.duration is None else self.duration / 1000

    def __repr__(self) -> str:
        """Show it as strace does, with its process."""
        return f"<{self.comm}[{self.tid}] {self.call} = {self.outcome}>"


class Syscalls(Table[Syscall]):
    """System calls in the order in which they were made; ``lost`` counts records that a full ring dropped."""

    COLUMNS: ClassVar[dict[str, str]] = {
        "tid": ">",
        "comm": "",
        "call": "",
        "outcome": "",
        "microseconds": ">",
    }
    EXPORTED = ("time", "duration", "cpu", "pid", "tid", "comm", "name", "call", "result", "error")
    TITLE = "system call"
    NAMED = "name"
    lost = 0


def text_of(parameters: tuple[Parameter, ...], index: int, words: tuple[int, ...], content: bytes) -> bytes:
    """Return what of ``content`` belongs to a parameter: its length if a count follows it, else up to the zero."""
    after = parameters[index + 1] if index + 1 < len(parameters) else None
    if after is not None and after.type == "size_t":
        return content[: after.value(words[index + 1])]
    return content.split(b"\0", 1)[0]


def _quoted(text: bytes) -> str:
    shown = "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else _escaped(byte) for byte in text)
    return f'"{shown}"'


def _escaped(byte: int) -> str:
    return {9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 92: "\\\\"}.get(byte, f"\\x{byte:02x}")
