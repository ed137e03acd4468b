"""The value of one register of one device, as Python sees it: an integer that lives, with its fields as attributes.

It is the side of the hardware: reading has no effects, and writing knows no access rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from belljar.register import Field, Register


class Cell:
    """What one register holds in one device, and whom accesses by the guest call."""

    __slots__ = ("index", "offset", "on_read", "on_write", "ones", "register", "rules", "value", "width")

    def __init__(self, register: Register, index: int) -> None:
        self.register, self.index = register, index
        self.offset = register.offset + index * register.stride
        self.width, self.ones, self.rules = register.width, register.ones, register.rules
        self.value = register.reset
        self.on_write: Callable[[int, int], Any] | None = None
        self.on_read: Callable[[], Any] | None = None


class RegisterValue:
    """The value of a register: ``card.status & 1``, ``int(card.status)``, ``card.status.done``.

    It is the value of now, whenever it is asked. A number that is set (``card.status.done = 1``) is cut to the width of
    the register or field, as by wires. Every change holds the device's lock.
    """

    __slots__ = ("_cell", "_lock")

    _cell: Cell
    _lock: AbstractContextManager[Any]

    def __init__(self, cell: Cell, lock: AbstractContextManager[Any]) -> None:
        object.__setattr__(self, "_cell", cell)
        object.__setattr__(self, "_lock", lock)

    def set(self, value: Any) -> None:
        """Set the whole register."""
        with self._lock:
            self._cell.value = number(value) & self._cell.ones

    def fields(self) -> dict[str, int]:
        """The values of all fields by name, in the order of their declaration."""
        value = int(self)
        return {name: value >> field.low & field.ones for name, field in self._cell.register.fields.items()}

    def __getattr__(self, name: str) -> int:
        field = self._field(name)
        value = self._cell.value >> field.low & field.ones
        if field.enum is not None and value in field.enum._value2member_map_:
            return field.enum(value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        field, cell = self._field(name), self._cell
        with self._lock:
            cell.value = cell.value & ~field.mask | (number(value) & field.ones) << field.low

    def _field(self, name: str) -> Field:
        register = self._cell.register
        if (field := register.fields.get(name)) is not None:
            return field
        known = ", ".join(register.fields) or "none"
        raise AttributeError(f"register {register.name} has no field {name}; its fields: {known}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._cell.register.fields]

    def __int__(self) -> int:
        return self._cell.value

    __index__ = __int__

    def __bool__(self) -> bool:
        return self._cell.value != 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int | RegisterValue) and self._cell.value == int(other)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __lt__(self, other: int | RegisterValue) -> bool:
        return int(self) < int(other)

    def __le__(self, other: int | RegisterValue) -> bool:
        return int(self) <= int(other)

    def __gt__(self, other: int | RegisterValue) -> bool:
        return int(self) > int(other)

    def __ge__(self, other: int | RegisterValue) -> bool:
        return int(self) >= int(other)

    def __invert__(self) -> int:
        return ~self._cell.value & self._cell.ones

    def __and__(self, other: int | RegisterValue) -> int:
        return int(self) & int(other)

    def __or__(self, other: int | RegisterValue) -> int:
        return int(self) | int(other)

    def __xor__(self, other: int | RegisterValue) -> int:
        return int(self) ^ int(other)

    def __add__(self, other: int | RegisterValue) -> int:
        return int(self) + int(other)

    def __mul__(self, other: int | RegisterValue) -> int:
        return int(self) * int(other)

    __rand__, __ror__, __rxor__, __radd__, __rmul__ = __and__, __or__, __xor__, __add__, __mul__

    def __sub__(self, other: int | RegisterValue) -> int:
        return int(self) - int(other)

    def __rsub__(self, other: int) -> int:
        return other - int(self)

    def __mod__(self, other: int | RegisterValue) -> int:
        return int(self) % int(other)

    def __floordiv__(self, other: int | RegisterValue) -> int:
        return int(self) // int(other)

    def __lshift__(self, other: int | RegisterValue) -> int:
        return int(self) << int(other)

    def __rlshift__(self, other: int) -> int:
        return other << int(self)

    def __rshift__(self, other: int | RegisterValue) -> int:
        return int(self) >> int(other)

    def __rrshift__(self, other: int) -> int:
        return other >> int(self)

    def __format__(self, spec: str) -> str:
        return format(int(self), spec)

    def __repr__(self) -> str:
        cell = self._cell
        many = "" if cell.register.count is None else f"[{cell.index}]"
        fields = "".join(f" {name}={value:#x}" for name, value in self.fields().items())
        return f"<{cell.register.name}{many} {cell.value:#0{2 * cell.width + 2}x}{fields}>"


class RegisterArray:
    """The values of an array of registers: ``card.buffers[3]``, ``card.buffers[3] = 1``, iteration, ``len``."""

    def __init__(self, values: list[RegisterValue]) -> None:
        self._values = values

    def set(self, values: Any) -> None:
        """Set all of them."""
        values = list(values)
        if len(values) != len(self._values):
            raise ValueError(f"this array has {len(self._values)} registers, not {len(values)}")
        for register, value in zip(self._values, values, strict=True):
            register.set(value)

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[RegisterValue]:
        return iter(self._values)

    def __getitem__(self, index: int) -> RegisterValue:
        return self._values[index]

    def __setitem__(self, index: int, value: Any) -> None:
        self._values[index].set(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list | tuple | RegisterArray) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"[{', '.join(map(repr, self._values))}]"


def number(value: Any) -> int:
    """An integer, or what stands for one."""
    if hasattr(value, "__index__"):
        return int(value.__index__())
    raise TypeError(f"a register holds an integer, not {value!r}")
