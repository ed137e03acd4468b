"""The types in a BTF blob as plain records, for those who make types of their own of them: drgn's, Volatility's.

It never follows a type further than it is asked to, and refuses a blob that does not hold together. The format is
that of Linux, Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from belljar.errors import ImageError

MAGIC = 0xEB9F
LARGEST = 64 << 20
"""Larger blobs are refused: a distribution's kernel has some 5 MB."""

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST = range(1, 11)
RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(11, 20)
MODIFIERS = frozenset((VOLATILE, CONST, RESTRICT, TYPE_TAG))
"""Kinds that only say more about another type."""

_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_WORDS = {2: struct.Struct("<II"), 3: struct.Struct("<III")}
_FIXED = {INT: 4, ARRAY: 12, VAR: 4, DECL_TAG: 4}
_EACH = {STRUCT: 12, UNION: 12, ENUM: 8, FUNC_PROTO: 8, DATASEC: 12, ENUM64: 12}


class Record(NamedTuple):
    """One type: its kind and name, and ``value``, its size in bytes or the number of the type that it refers to.

    ``length`` is how many members it has, ``flag`` its kind flag, ``at`` where in the blob that follows begins.
    """

    kind: int
    name: str
    value: int
    length: int
    flag: bool
    at: int


class Member(NamedTuple):
    """A member of a structure: the number of its type, its offset in bits, and its width in bits (0: no bit field)."""

    name: str
    type: int
    bit_offset: int
    bits: int


class Types:
    """All types of a blob, by number (0 is void) and by kind and name. ImageError for what is no BTF."""

    def __init__(self, blob: bytes) -> None:
        """Find where each type is."""
        self._blob = blob
        try:
            self._index()
        except (struct.error, IndexError) as error:
            raise ImageError(f"BTF: damaged: {error}") from None

    def _index(self) -> None:
        if len(self._blob) > LARGEST:
            raise ImageError(f"BTF: {len(self._blob):#x} bytes; at most {LARGEST:#x} are read")
        magic, version, _, header, types, size, strings, strings_size = _HEADER.unpack_from(self._blob)
        if magic != MAGIC or version != 1:
            raise ImageError(f"BTF: begins with {magic:#x}, version {version}, not {MAGIC:#x}, version 1")
        at, end = header + types, header + types + size
        self._strings = self._blob[header + strings : header + strings + strings_size]
        if end > len(self._blob) or len(self._strings) != strings_size:
            raise ImageError(f"BTF: its parts end beyond its {len(self._blob):#x} bytes")
        self._places = [0]
        self._by_name: dict[tuple[int, int], int] = {}
        unpack = _TYPE.unpack_from
        while at < end:
            name, info, _ = unpack(self._blob, at)
            kind, count = info >> 24 & 0x1F, info & 0xFFFF
            if not 1 <= kind <= ENUM64:
                raise ImageError(f"BTF: type {len(self._places)} is of the unknown kind {kind}")
            if name:
                self._by_name.setdefault((kind, name), len(self._places))
            self._places.append(at)
            at += 12 + _FIXED.get(kind, 0) + _EACH.get(kind, 0) * count
        if at != end:
            raise ImageError(f"BTF: its last type ends at {at:#x}, not at {end:#x}")
        self._named = {(kind, self.text(name)): number for (kind, name), number in reversed(self._by_name.items())}

    def __len__(self) -> int:
        """Count the types, void among them."""
        return len(self._places)

    def text(self, at: int) -> str:
        """Return the string at `at` of the string table."""
        end = self._strings.find(b"\0", at)
        if not 0 <= at < len(self._strings) or end < 0:
            raise ImageError(f"BTF: a name lies at {at:#x}, beyond the strings")
        return self._strings[at:end].decode("utf-8", "replace")

    def find(self, kind: int, name: str) -> int | None:
        """Return the number of the type of that kind and name; None if there is none."""
        return self._named.get((kind, name))

    def unnamed(self, kind: int, members: list[str]) -> int | None:
        """Return the number of the structure or union without a name that has just these members; None if none has."""
        for number in self.numbers(kind):
            record = self[number]
            if not record.name and record.length == len(members) and [m.name for m in self.members(record)] == members:
                return number
        return None

    def numbers(self, kind: int) -> Iterator[int]:
        """Go through the types of one kind."""
        for number in range(1, len(self)):
            if self._blob[self._places[number] + 7] & 0x1F == kind:
                yield number

    def __getitem__(self, number: int) -> Record:
        """Return a type by its number. ImageError for one that there is not."""
        if not 0 < number < len(self._places):
            raise ImageError(f"BTF: there is no type {number}")
        at = self._places[number]
        name, info, value = _TYPE.unpack_from(self._blob, at)
        return Record(info >> 24 & 0x1F, self.text(name), value, info & 0xFFFF, bool(info >> 31), at + 12)

    def _each(self, record: Record) -> Iterator[tuple[int, ...]]:
        words = _WORDS[_EACH[record.kind] // 4]
        return words.iter_unpack(self._blob[record.at : record.at + words.size * record.length])

    def members(self, record: Record) -> list[Member]:
        """Return the members of a structure or union."""
        found = []
        for name, number, word in self._each(record):
            bits, offset = (word >> 24, word & 0xFFFFFF) if record.flag else (0, word)
            found.append(Member(self.text(name), number, offset, bits))
        return found

    def enumerators(self, record: Record) -> list[tuple[str, int]]:
        """Return names and values of an enumeration."""
        wide = record.kind == ENUM64
        found = []
        for name, low, *high in self._each(record):
            bits, value = (64, low | high[0] << 32) if wide else (32, low)
            found.append((self.text(name), value - (1 << bits) if record.flag and value >> (bits - 1) else value))
        return found

    def parameters(self, record: Record) -> list[tuple[str, int]]:
        """Return names and types of a prototype's parameters; a last one of type 0 stands for any more."""
        return [(self.text(name), number) for name, number in self._each(record)]

    def array(self, record: Record) -> tuple[int, int]:
        """Return the type of an array's elements, and how many there are."""
        element, _, count = struct.unpack_from("<III", self._blob, record.at)
        return element, count

    def integer(self, record: Record) -> tuple[bool, bool, int]:
        """Return of an integer: is it signed, is it a truth value, and its width in bits."""
        (word,) = struct.unpack_from("<I", self._blob, record.at)
        return bool(word >> 24 & 1), bool(word >> 24 & 4), word & 0xFF

    def variables(self, section: str) -> dict[str, int]:
        """Return the types of the variables in a section (".data..percpu") by name."""
        number = self.find(DATASEC, section)
        if number is None:
            return {}
        records = (self[entry[0]] for entry in self._each(self[number]))
        return {record.name: record.value for record in records if record.kind == VAR}

    def bare(self, number: int) -> int:
        """Return the type without const, volatile and their like, and behind typedefs."""
        for _ in range(len(self)):
            if number == 0 or (record := self[number]).kind not in MODIFIERS | {TYPEDEF}:
                return number
            number = record.value
        raise ImageError(f"BTF: type {number} refers to itself")
