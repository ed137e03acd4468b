"""Coverage files as DynamoRIO's drcov writes them and Lighthouse, bncov and their like read them.

It knows modules and blocks as numbers, and never a guest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt

from belljar.errors import ImageError

MOST_MODULES = 1 << 16
BLOCK = np.dtype([("offset", "<u4"), ("size", "<u2"), ("module", "<u2")])
TEXT_BLOCK = re.compile(rb"module\[\s*(\d+)\]:\s*0x([0-9a-fA-F]+),\s*(\d+)")


@dataclass(frozen=True)
class Module:
    """A range of addresses under a name: what a coverage file's offsets count from. ``end`` is one past the last."""

    name: str
    start: int
    end: int

    def __post_init__(self) -> None:
        """Refuse what a file cannot hold."""
        if not 0 <= self.start < self.end <= 1 << 64:
            raise ValueError(f"a module is a range of addresses, not {self.start:#x} to {self.end:#x}")
        if self.end - self.start > 1 << 32:
            raise ValueError(f"the module {self.name} has more than 4 GiB, which a coverage file cannot count")
        if not self.name or any(sign in self.name for sign in ",\n\r"):
            raise ValueError(f"a module's name is one line without a comma, not {self.name!r}")

    def __contains__(self, address: int) -> bool:
        """Does it have this address?"""
        return self.start <= address < self.end


def write(path: str | PathLike[str], modules: Sequence[Module], blocks: npt.NDArray[np.void]) -> None:
    """Write a file of version 2, with a module table of version 2: the one that every reader knows."""
    lines = ["DRCOV VERSION: 2", "DRCOV FLAVOR: drcov", f"Module Table: version 2, count {len(modules)}"]
    lines.append("Columns: id, base, end, entry, path")
    lines += [f"{n:3}, {m.start:#018x}, {m.end:#018x}, {0:#018x}, {m.name}" for n, m in enumerate(modules)]
    lines.append(f"BB Table: {len(blocks)} bbs")
    with open(path, "wb") as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
        file.write(blocks.astype(BLOCK).tobytes())


def read(path: str | PathLike[str]) -> tuple[list[Module], npt.NDArray[np.void]]:
    """Read modules and blocks of a file, of any of its versions. ImageError for one that is none."""
    reader = _Reader(Path(path).read_bytes())
    return reader.modules, reader.blocks


class _Reader:
    """Goes through a file line by line."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        version = self._value("DRCOV VERSION")
        if version not in {"2", "3"}:
            raise ImageError(f"drcov: version {version}; 2 and 3 are known")
        self._value("DRCOV FLAVOR")
        self.modules, names = [], self._table()
        for _ in range(self._count):
            self.modules.append(self._module(names))
        blocks, _, _unit = self._value("BB Table").partition(" ")
        self.blocks = self._blocks(self._number(blocks, 10))

    def _line(self) -> str:
        end = self._data.find(b"\n", self._at)
        if end < 0:
            raise ImageError("drcov: the file ends in its header")
        line, self._at = self._data[self._at : end], end + 1
        return line.decode("utf-8", "replace").strip()

    def _value(self, name: str) -> str:
        line = self._line()
        if not line.startswith(f"{name}: "):
            raise ImageError(f"drcov: {name!r} is to come, not {line[:60]!r}")
        return line.partition(": ")[2]

    @staticmethod
    def _number(text: str, base: int) -> int:
        try:
            return int(text, base)
        except ValueError:
            raise ImageError(f"drcov: a number is to come, not {text[:60]!r}") from None

    def _table(self) -> list[str]:
        """Read the head of the module table; return the names of its columns."""
        found = re.fullmatch(r"(?:version (\d+), count )?(\d+)", self._value("Module Table"))
        if found is None or int(found[2]) > MOST_MODULES:
            raise ImageError("drcov: the module table says no count, or too many")
        self._count = int(found[2])
        return ["id", "size", "path"] if found[1] is None else self._value("Columns").split(", ")

    def _module(self, names: list[str]) -> Module:
        line = self._line()
        parts = [part.strip() for part in line.split(",", len(names) - 1)]
        if len(parts) != len(names):
            raise ImageError(f"drcov: {len(names)} columns are to come, not {line[:60]!r}")
        row = dict(zip(names, parts, strict=True))
        start = self._number(row.get("base", row.get("start", "0")), 16)
        end = self._number(row["end"], 16) if "end" in row else start + self._number(row.get("size", "0"), 10)
        try:
            return Module(row.get("path", "").replace(",", "_") or "unnamed", start, end)
        except ValueError as error:
            raise ImageError(f"drcov: {error}") from None

    def _blocks(self, count: int) -> npt.NDArray[np.void]:
        rest = self._data[self._at :]
        if rest.startswith(b"module id"):
            rows = [(int(at, 16), int(size), int(which)) for which, at, size in TEXT_BLOCK.findall(rest)]
            if len(rows) != count or any(at >> 32 or size >> 16 or which >> 16 for at, size, which in rows):
                raise ImageError(f"drcov: {count} blocks are to come, not {len(rows)}, or one is none")
            return np.array(rows, BLOCK)
        if len(rest) < count * BLOCK.itemsize:
            raise ImageError(f"drcov: {count} blocks are to come, and {len(rest)} bytes are left")
        return np.frombuffer(rest, BLOCK, count)
