"""Kernel types for drgn, made of the BTF that the kernel carries: no DWARF, no debug package.

Types are made when drgn asks for them; it knows no offset and no size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import drgn

from belljar.btf_types import (
    ARRAY,
    CONST,
    ENUM,
    ENUM64,
    FLOAT,
    FUNC,
    FUNC_PROTO,
    FWD,
    INT,
    MODIFIERS,
    PTR,
    RESTRICT,
    STRUCT,
    TYPEDEF,
    UNION,
    VOLATILE,
    Record,
    Types,
)
from belljar.errors import ImageError
from belljar.kernel_variables import VARIABLES, members_of

_KINDS = {
    drgn.TypeKind.STRUCT: (STRUCT,),
    drgn.TypeKind.UNION: (UNION,),
    drgn.TypeKind.ENUM: (ENUM, ENUM64),
    drgn.TypeKind.TYPEDEF: (TYPEDEF,),
    drgn.TypeKind.INT: (INT,),
    drgn.TypeKind.BOOL: (INT,),
    drgn.TypeKind.FLOAT: (FLOAT,),
}
_QUALIFIERS = {
    CONST: drgn.Qualifiers.CONST,
    VOLATILE: drgn.Qualifiers.VOLATILE,
    RESTRICT: drgn.Qualifiers.RESTRICT,
}


class Finder:
    """Answers drgn's questions for types and objects from a kernel's BTF."""

    def __init__(self, prog: drgn.Program, types: Types, address: Callable[[str], int | None]) -> None:
        """Make types for `prog`; `address` tells where a symbol is."""
        self.prog, self.types, self.address = prog, types, address
        self._made: dict[int, drgn.Type] = {}
        self._making: set[int] = set()
        self._per_cpu = types.variables(".data..percpu")
        self._constants: dict[str, tuple[int, int]] | None = None

    def register(self) -> None:
        """Have drgn ask here, before anywhere else but its own finder of the kernel's macros."""
        self.prog.register_type_finder("belljar", self.find_type, enable_index=0)
        self.prog.register_object_finder("belljar", self.find_object, enable_index=1)

    def find_type(self, _: drgn.Program, kinds: Any, name: str, filename: str | None) -> drgn.Type | None:
        """Return the type that is one of `kinds` and has that name."""
        if filename:
            return None
        for kind, ours in _KINDS.items():
            for our in ours if kind in kinds else ():
                number = self.types.find(our, name)
                if number is not None and (found := self.make(number)).kind == kind:
                    return found
        return None

    def find_object(self, prog: drgn.Program, name: str, flags: Any, filename: str | None) -> drgn.Object | None:
        """Return the enumerator, function or variable of that name."""
        if filename:
            return None
        if flags & drgn.FindObjectFlags.CONSTANT and (found := self._constant(name)):
            return drgn.Object(prog, self.make(found[0]), value=found[1])
        number = self.types.find(FUNC, name) if flags & drgn.FindObjectFlags.FUNCTION else None
        if number is not None and (at := self.address(name)) is not None:
            return drgn.Object(prog, self.make(self.types[number].value), address=at)
        if flags & drgn.FindObjectFlags.VARIABLE and (kind := self._variable(name)) is not None:
            at = self.address(name)
            return None if at is None else drgn.Object(prog, kind, address=at)
        return None

    def _variable(self, name: str) -> drgn.Type | None:
        if name in self._per_cpu:
            return self.make(self._per_cpu[name])
        words = VARIABLES.get(name, "")
        if words.startswith("struct {"):
            number = self.types.unnamed(STRUCT, members_of(words))
            return None if number is None else self.make(number)
        try:
            found = self.prog.type(words) if words else None
            if found is None or found.kind != drgn.TypeKind.ARRAY or found.length is not None:
                return found
            each = drgn.sizeof(found.type)
            return self.prog.array_type(found.type, self.prog.symbol(name).size // each)
        except LookupError:
            return None

    def _constant(self, name: str) -> tuple[int, int] | None:
        if self._constants is None:
            enums = [n for kind in (ENUM, ENUM64) for n in self.types.numbers(kind)]
            self._constants = {
                text: (number, value) for number in enums for text, value in self.types.enumerators(self.types[number])
            }
        return self._constants.get(name)

    def make(self, number: int) -> drgn.Type:
        """Return drgn's type for the type `number`. ImageError for one that is made of itself."""
        if number not in self._made:
            if number in self._making or len(self._making) > 200:
                raise ImageError(f"BTF: type {number} is made of itself")
            self._making.add(number)
            try:
                self._made[number] = self._new(number)
            finally:
                self._making.discard(number)
        return self._made[number]

    def _new(self, number: int) -> drgn.Type:
        if number == 0:
            return self.prog.void_type()
        record = self.types[number]
        if record.kind in MODIFIERS:
            inner = self.make(record.value)
            more = _QUALIFIERS.get(record.kind, drgn.Qualifiers.NONE)
            return inner.qualified(inner.qualifiers | more)
        makers: dict[int, Callable[[Record], drgn.Type]] = {
            INT: self._integer,
            PTR: self._pointer,
            ARRAY: self._array,
            STRUCT: self._structure,
            UNION: self._structure,
            ENUM: self._enumeration,
            ENUM64: self._enumeration,
            FWD: self._forward,
            TYPEDEF: self._typedef,
            FUNC_PROTO: self._prototype,
            FLOAT: self._float,
        }
        if record.kind not in makers:
            raise ImageError(f"BTF: type {number} is of kind {record.kind}, and no type of a variable")
        return makers[record.kind](record)

    def _integer(self, record: Record) -> drgn.Type:
        signed, truth, _ = self.types.integer(record)
        if truth:
            return self.prog.bool_type(record.name, record.value)
        return self.prog.int_type(record.name, record.value, signed)

    def _pointer(self, record: Record) -> drgn.Type:
        return self.prog.pointer_type(self.make(record.value))

    def _array(self, record: Record) -> drgn.Type:
        element, count = self.types.array(record)
        # As C declares them, an array without elements at the end of a structure has no length.
        return self.prog.array_type(self.make(element), count or None)

    def _structure(self, record: Record) -> drgn.Type:
        make = self.prog.struct_type if record.kind == STRUCT else self.prog.union_type
        members = [
            drgn.TypeMember(self._later(m.type, m.bits), m.name or None, m.bit_offset)
            for m in self.types.members(record)
        ]
        return make(record.name or None, record.value, members)

    def _later(self, number: int, bits: int) -> Callable[[], Any]:
        """Return what makes a member's type once somebody looks at it: structures refer to each other in circles."""
        if bits:
            return lambda: drgn.Object(self.prog, self.make(number), bit_field_size=bits)
        return lambda: self.make(number)

    def _enumeration(self, record: Record) -> drgn.Type:
        values = [drgn.TypeEnumerator(name, value) for name, value in self.types.enumerators(record)]
        signed = any(value.value < 0 for value in values)
        word = self.prog.int_type("int" if signed else "unsigned int", record.value, signed)
        return self.prog.enum_type(record.name or None, word, values)

    def _forward(self, record: Record) -> drgn.Type:
        return (self.prog.union_type if record.flag else self.prog.struct_type)(record.name)

    def _typedef(self, record: Record) -> drgn.Type:
        return self.prog.typedef_type(record.name, self.make(record.value))

    def _prototype(self, record: Record) -> drgn.Type:
        parameters = self.types.parameters(record)
        more = bool(parameters) and parameters[-1] == ("", 0)
        shown = parameters[:-1] if more else parameters
        made = [drgn.TypeParameter(self._later(number, 0), name or None) for name, number in shown]
        return self.prog.function_type(self.make(record.value), made, more)

    def _float(self, record: Record) -> drgn.Type:
        return self.prog.float_type(record.name, record.value)
