"""Symbol tables for Volatility 3 (its intermediate format, JSON), made of what a Linux guest carries: BTF, kallsyms.

It never asks for a debug package. Addresses are those of the running kernel, so that nothing is to be moved for KASLR.
"""

from __future__ import annotations

import bisect
import datetime as dt
import json
from collections.abc import Iterable
from typing import Any

from belljar.btf_types import (
    ARRAY,
    ENUM,
    ENUM64,
    FLOAT,
    FUNC_PROTO,
    FWD,
    INT,
    MODIFIERS,
    PTR,
    STRUCT,
    TYPEDEF,
    UNION,
    Record,
    Types,
)
from belljar.errors import ImageError
from belljar.kernel_variables import VARIABLES, members_of

FORMAT = "6.2.0"
VOID = {"kind": "base", "name": "void"}
DEEPEST = 64
MOST_ELEMENTS = 1 << 16
"""An array of which only the beginning is known has at most so many."""


class Table:
    """What is in a symbol table: ``document()`` returns it, as JSON has it."""

    def __init__(self, types: Types, symbols: Iterable[tuple[str, int]], banner: bytes, version: str = "0") -> None:
        """Take a kernel's types, its symbols, and its banner (``linux_banner``, with its zero)."""
        self.types, self.symbols, self.banner, self.version = types, list(symbols), banner, version
        self.base: dict[str, Any] = {"void": _integer(0, False, "void"), "pointer": _integer(8, False, "int")}
        self.user: dict[str, Any] = {}
        self.enums: dict[str, Any] = {}

    def document(self) -> dict[str, Any]:
        """Return the whole table."""
        for number in range(1, len(self.types)):
            record = self.types[number]
            if record.kind in {STRUCT, UNION}:
                self.user.setdefault(self._name(record, number), self._structure(record))
            elif record.kind in {ENUM, ENUM64}:
                self.enums.setdefault(self._name(record, number), self._enumeration(record))
            elif record.kind in {INT, FLOAT}:
                self._base(record)
        producer = {
            "name": "belljar",
            "version": self.version,
            "datetime": dt.datetime.now(dt.UTC).isoformat(),
        }
        return {
            "metadata": {"format": FORMAT, "producer": producer, "linux": {"symbols": [], "types": []}},
            "base_types": self.base,
            "user_types": self.user,
            "enums": self.enums,
            "symbols": self._symbols(),
        }

    def to_bytes(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(self.document(), separators=(",", ":")).encode()

    def _name(self, record: Record, number: int) -> str:
        return record.name or f"unnamed_{number:x}"

    def _base(self, record: Record) -> str:
        signed, truth, _ = self.types.integer(record) if record.kind == INT else (True, False, 0)
        kind = "float" if record.kind == FLOAT else "bool" if truth else "char" if record.name == "char" else "int"
        self.base.setdefault(record.name, _integer(record.value, signed, kind))
        return record.name

    def _structure(self, record: Record) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for place, member in enumerate(self.types.members(record)):
            offset, kind = member.bit_offset // 8, self.type(member.type)
            if member.bits:
                size = self._size(member.type)
                offset = member.bit_offset // (8 * size) * size
                position = member.bit_offset - 8 * offset
                kind = {"kind": "bitfield", "bit_position": position, "bit_length": member.bits, "type": kind}
            field = {"type": kind, "offset": offset}
            fields[member.name or f"unnamed_field_{place}"] = field if member.name else {**field, "anonymous": True}
        return {"size": record.value, "fields": fields, "kind": "struct" if record.kind == STRUCT else "union"}

    def _size(self, number: int) -> int:
        number = self.types.bare(number)
        record = self.types[number]
        return record.value or 1 if record.kind in {INT, ENUM, ENUM64} else 1

    def _enumeration(self, record: Record) -> dict[str, Any]:
        base = f"enum_{record.value}"
        self.base.setdefault(base, _integer(record.value, record.flag, "int"))
        return {"size": record.value, "base": base, "constants": dict(self.types.enumerators(record))}

    def type(self, number: int, deep: int = 0) -> dict[str, Any]:
        """Return the description of a type."""
        if deep > DEEPEST:
            raise ImageError(f"BTF: type {number} is made of itself")
        if number == 0:
            return VOID
        record = self.types[number]
        if record.kind in MODIFIERS | {TYPEDEF}:
            return self.type(record.value, deep + 1)
        if record.kind == PTR:
            return {"kind": "pointer", "subtype": self.type(record.value, deep + 1)}
        if record.kind == ARRAY:
            element, count = self.types.array(record)
            return {"kind": "array", "count": count, "subtype": self.type(element, deep + 1)}
        if record.kind in {INT, FLOAT}:
            return {"kind": "base", "name": self._base(record)}
        if record.kind == FUNC_PROTO:
            return {"kind": "function"}
        if record.kind == FWD:
            kind = UNION if record.flag else STRUCT
            return (
                _reference("union" if record.flag else "struct", record.name)
                if self.types.find(kind, record.name)
                else VOID
            )
        kind_name = {STRUCT: "struct", UNION: "union", ENUM: "enum", ENUM64: "enum"}.get(record.kind)
        if kind_name is None:
            raise ImageError(f"BTF: a variable or member of type {number}, which is none")
        return _reference(kind_name, self._name(record, number))

    def _symbols(self) -> dict[str, Any]:
        import base64

        found: dict[str, Any] = {}
        for name, address in self.symbols:
            found.setdefault(name, {"address": address})
        first, end = (found.get(name, {"address": 0})["address"] for name in ("_stext", "_etext"))
        for symbol in found.values():
            if first <= symbol["address"] < end:
                symbol["type"] = VOID  # code; of a variable without a type, Volatility says the name
        places = sorted({symbol["address"] for symbol in found.values()})
        for name, words in VARIABLES.items():
            kind = self._fitting(words, _room(places, found[name]["address"])) if name in found else None
            if kind is not None:
                found[name]["type"] = kind
        for name, number in self.types.variables(".data..percpu").items():
            if name in found:
                found[name]["type"] = self.type(number)
        text = {"kind": "array", "count": len(self.banner), "subtype": {"kind": "base", "name": "char"}}
        constant = base64.b64encode(self.banner).decode()
        at = found.get("linux_banner", {"address": 0})["address"]
        found["linux_banner"] = {"type": text, "address": at, "constant_data": constant}
        return found

    def _fitting(self, words: str, room: int) -> dict[str, Any] | None:
        """Return the type of a variable that has `room` bytes up to the next symbol; None where it does not fit."""
        kind = self.parsed(words)
        if kind is None:
            return None
        if kind["kind"] == "array" and not kind["count"]:
            size = self.size_of(kind["subtype"])
            kind["count"] = min(room // size, MOST_ELEMENTS) if size else 0
        return kind if self.size_of(kind) <= room else None

    def size_of(self, kind: dict[str, Any]) -> int:
        """Return how many bytes something of that type has; 0 where that is not known."""
        match kind["kind"]:
            case "pointer":
                return 8
            case "array":
                return int(kind["count"]) * self.size_of(kind["subtype"])
            case "struct" | "union":
                return int(self.user.get(kind["name"], {"size": 0})["size"])
            case "enum":
                return int(self.enums.get(kind["name"], {"size": 0})["size"])
            case "base":
                return int(self.base.get(kind["name"], {"size": 0})["size"])
        return 0

    def parsed(self, words: str) -> dict[str, Any] | None:
        """Return the type that a declaration such as "struct net *[3]" means, or None if the kernel has it not."""
        name, bracket, length = words.partition("[")
        if bracket:
            inner = self.parsed(name.rstrip())
            count = int(length.rstrip("]") or 0)
            return None if inner is None else {"kind": "array", "count": count, "subtype": inner}
        if name.endswith("*"):
            inner = self.parsed(name[:-1].rstrip())
            return None if inner is None else {"kind": "pointer", "subtype": inner}
        if name == "void":
            return VOID
        if name.startswith("struct {"):
            number = self.types.unnamed(STRUCT, members_of(name))
            return None if number is None else self.type(number)
        bare = name.removeprefix("const ").removeprefix("volatile ")
        for prefix, kind in (("struct ", STRUCT), ("union ", UNION), ("enum ", ENUM)):
            if bare.startswith(prefix):
                number = self.types.find(kind, bare.removeprefix(prefix))
                return None if number is None else self.type(number)
        spelled = {"unsigned long": "long unsigned int", "long": "long int"}.get(bare, bare)
        number = self.types.find(INT, spelled) or self.types.find(TYPEDEF, spelled)
        return None if number is None else self.type(number)


def _room(places: list[int], at: int) -> int:
    """Return how far it is from `at` to the next symbol: all that there can be, for the last one."""
    after = bisect.bisect_right(places, at)
    return places[after] - at if after < len(places) else MOST_ELEMENTS


def _integer(size: int, signed: bool, kind: str) -> dict[str, Any]:
    return {"size": size, "signed": signed, "kind": kind, "endian": "little"}


def _reference(kind: str, name: str) -> dict[str, Any]:
    return {"kind": kind, "name": name}
