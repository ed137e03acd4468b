"""Symbol tables for Volatility 3 (its intermediate format, JSON), made of what a Linux guest carries: BTF, kallsyms.

It never asks for a debug package. Addresses are those of the running kernel, so that nothing is to be moved for KASLR.
"""

from __future__ import annotations

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
from belljar.kernel_variables import VARIABLES

FORMAT = "6.2.0"
VOID = {"kind": "base", "name": "void"}
DEEPEST = 64


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
            found.setdefault(name, {"type": VOID, "address": address})
        for name, words in VARIABLES.items():
            if name in found and (kind := self.parsed(words)) is not None:
                found[name]["type"] = kind
        text = {"kind": "array", "count": len(self.banner), "subtype": {"kind": "base", "name": "char"}}
        constant = base64.b64encode(self.banner).decode()
        at = found.get("linux_banner", {"address": 0})["address"]
        found["linux_banner"] = {"type": text, "address": at, "constant_data": constant}
        return found

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
        bare = name.removeprefix("const ").removeprefix("volatile ")
        for prefix, kind in (("struct ", STRUCT), ("union ", UNION), ("enum ", ENUM)):
            if bare.startswith(prefix):
                number = self.types.find(kind, bare.removeprefix(prefix))
                return None if number is None else self.type(number)
        spelled = {"unsigned long": "long unsigned int", "long": "long int"}.get(bare, bare)
        number = self.types.find(INT, spelled) or self.types.find(TYPEDEF, spelled)
        return None if number is None else self.type(number)


def _integer(size: int, signed: bool, kind: str) -> dict[str, Any]:
    return {"size": size, "signed": signed, "kind": kind, "endian": "little"}


def _reference(kind: str, name: str) -> dict[str, Any]:
    return {"kind": kind, "name": name}
