"""Named registers as hardware people write them: offset, reset value, access, fields. Declarations and pure arithmetic.

They never hold a value: each device has its own, in register_device.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from belljar.register_device import RegisterDevice
    from belljar.register_value import RegisterArray, RegisterValue

Hook = TypeVar("Hook", bound=Callable[..., Any])

ACCESS = {
    "rw": "read and write",
    "ro": "read only: writes are ignored",
    "wo": "write only: reads as 0",
    "rc": "read only, and a read clears it",
    "w1c": "write 1 to clear",
    "w1s": "write 1 to set",
    "w1t": "write 1 to toggle",
    "w0c": "write 0 to clear",
    "pulse": "write 1 to trigger: `on_write` sees it, reads as 0",
}
"""The kinds of access, seen from the guest."""


class Field:
    """Bits of a register: ``Field(3)`` one bit, ``Field("7:4")`` or ``Field(4, width=4)`` several.

    ``reset`` is the value after reset, ``access`` one of "rw", "ro", "wo", "rc" (a read clears), "w1c", "w1s", "w1t"
    (write 1 to clear, set, toggle), "w0c" and "pulse" (write 1 to trigger, reads as 0); by default the register's.
    ``enum`` is an IntEnum that names the values.
    """

    def __init__(
        self,
        bits: int | str,
        *,
        width: int = 1,
        reset: int = 0,
        access: str | None = None,
        enum: type[IntEnum] | None = None,
        doc: str = "",
    ) -> None:
        if isinstance(bits, str):
            if not (match := re.fullmatch(r"\s*(\d+)\s*(?::\s*(\d+)\s*)?", bits)):
                raise ValueError(f'the bits of a field are a number or "high:low", not {bits!r}')
            high, low = int(match[1]), int(match[2] or match[1])
            bits, width = min(low, high), abs(high - low) + 1
        if bits < 0 or width < 1:
            raise ValueError(f"a field begins at bit 0 or above and is at least 1 wide, not {bits}, {width}")
        self.low, self.width, self.reset, self.access, self.enum, self.doc = bits, width, reset, access, enum, doc
        self.ones = (1 << width) - 1
        self.mask = self.ones << bits
        checked_access(access)
        if not 0 <= reset <= self.ones:
            raise ValueError(f"the reset value {reset:#x} does not fit into {width} bits")

    def __repr__(self) -> str:
        high = self.low + self.width - 1
        return f"<Field {high}:{self.low}>" if self.width > 1 else f"<Field {self.low}>"


def checked_access(access: str | None) -> None:
    """Raise ValueError for what is no kind of access."""
    if access is not None and access not in ACCESS:
        raise ValueError(f"access is one of {', '.join(ACCESS)}, not {access!r}")


@dataclass(slots=True)
class Rules:
    """Which bits of a register follow which rule, as masks. Bits in none of them are read-only."""

    stored: int = 0
    readable: int = 0
    rc: int = 0
    w1c: int = 0
    w1s: int = 0
    w1t: int = 0
    w0c: int = 0
    pulse: int = 0

    def add(self, access: str, mask: int) -> None:
        """Put the bits of `mask` under `access`."""
        if access in {"rw", "wo"}:
            self.stored |= mask
        elif access != "ro":
            setattr(self, access, getattr(self, access) | mask)
        if access not in {"wo", "pulse"}:
            self.readable |= mask

    def written(self, old: int, data: int, lanes: int) -> int:
        """The value after `data` has been written to the bits `lanes`; "pulse" bits are still set in it."""
        stored = (self.stored | self.pulse) & lanes
        new = old & ~stored | data & stored
        new &= ~(data & self.w1c & lanes)
        new |= data & self.w1s & lanes
        new ^= data & self.w1t & lanes
        return new & ~(~data & self.w0c & lanes)


class Register:
    """A register of a RegisterDevice: ``control = bj.Register(0x08, fields={"enable": bj.Field(0)})``.

    ``offset`` is in bytes, ``width`` 1, 2, 4 or 8 bytes. ``access`` is as for Field. ``reset`` is the value after
    reset, to which the fields add theirs. ``mask`` says which bits exist: by default those of the fields, or all if
    there are none; the others keep their reset value and ignore writes. ``count`` and ``stride`` (in bytes; by default
    the width) make an array of it: ``card.buffers[3]``.

    From Python, ``card.control`` is the value, an integer in every respect, with fields as attributes;
    ``card.control = 3`` and ``card.control.enable = 1`` set it from the hardware's side, where no access rule holds.
    """

    def __init__(
        self,
        offset: int,
        *,
        reset: int = 0,
        access: str = "rw",
        width: int = 4,
        fields: Mapping[str, Field] | None = None,
        mask: int | None = None,
        count: int | None = None,
        stride: int | None = None,
        doc: str = "",
    ) -> None:
        if width not in {1, 2, 4, 8}:
            raise ValueError(f"a register is 1, 2, 4 or 8 bytes wide, not {width}")
        checked_access(access)
        self.offset, self.width, self.access, self.doc = offset, width, access, doc
        self.fields = dict(fields or {})
        self.ones = (1 << 8 * width) - 1
        self.mask = self._implemented(mask)
        self.reset = self._after_reset(reset)
        self.rules = self._rules()
        self.count, self.stride = count, width if stride is None else stride
        if offset < 0 or (count is not None and count < 1) or self.stride < width:
            raise ValueError(
                f"registers at {offset}, {count} of them, {self.stride} bytes apart, overlap or are nowhere"
            )
        self.name = ""
        self.write_hook: Callable[..., Any] | None = None
        self.read_hook: Callable[..., Any] | None = None

    @property
    def end(self) -> int:
        """The first byte behind it, and behind its last copy."""
        return self.offset + ((self.count or 1) - 1) * self.stride + self.width

    def accesses(self) -> list[str]:
        """The kinds of access that its bits have: the register's own, if any bit has it, and those of its fields."""
        kinds = dict.fromkeys(bits.access or self.access for bits in self.fields.values())
        covered = sum(bits.mask for bits in self.fields.values())
        own = [self.access] if self.mask & ~covered or self.access in kinds or not kinds else []
        return [*own, *(kind for kind in kinds if kind not in own)]

    def on_write(self, function: Hook) -> Hook:
        """Decorate a method to be called after the guest has written the register: ``def start(self, value)``.

        `value` is the register as it is now, with the "pulse" bits that were written. A second parameter gets what the
        guest wrote (0 in bytes that it did not), and in an array the index comes first. What it returns counts only if
        it is bj.STOP.
        """
        self._refuse_if_named()
        self.write_hook = function
        return function

    def on_read(self, function: Hook) -> Hook:
        """Decorate a method to be called before the guest reads the register: ``def count(self)``.

        In an array, it gets the index. An integer that it returns is what the guest reads; with None it reads the
        register, which the method may have set.
        """
        self._refuse_if_named()
        self.read_hook = function
        return function

    def __set_name__(self, owner: type, name: str) -> None:
        """Take the attribute's name."""
        if not self.name:
            self.name = name

    @overload
    def __get__(self, device: None, owner: type) -> Register: ...
    @overload
    def __get__(self, device: RegisterDevice, owner: type) -> Any: ...
    def __get__(self, device: RegisterDevice | None, owner: type) -> Register | RegisterValue | RegisterArray:
        """On a device, its value; on the class, the register itself."""
        return self if device is None else device.registers[self.name]

    def __set__(self, device: RegisterDevice, value: Any) -> None:
        """Set the value, as the hardware does."""
        device.registers[self.name].set(value)

    def _refuse_if_named(self) -> None:
        if self.name:
            raise TypeError(
                f"{self.name} belongs to a finished class: override the method that it calls, or declare it again"
            )

    def _implemented(self, mask: int | None) -> int:
        union = 0
        for name, bits in self.fields.items():
            if name in {"set", "fields"} or name.startswith("_"):
                raise ValueError(f"a field cannot be called {name}: that is a register's own; take another name")
            if bits.mask & union or bits.mask & ~self.ones:
                raise ValueError(f"field {name} {bits} overlaps another one, or the end of {8 * self.width} bits")
            union |= bits.mask
        if mask is None:
            return union if self.fields else self.ones
        if (mask | union) & ~self.ones or union & ~mask:
            raise ValueError(f"mask {mask:#x} must cover all fields and fit into {8 * self.width} bits")
        return mask

    def _after_reset(self, reset: int) -> int:
        if not 0 <= reset <= self.ones:
            raise ValueError(f"the reset value {reset:#x} does not fit into {self.width} bytes")
        for bits in self.fields.values():
            reset |= bits.reset << bits.low
        return reset

    def _rules(self) -> Rules:
        rules = Rules()
        plain = self.mask
        for bits in self.fields.values():
            rules.add(bits.access or self.access, bits.mask)
            plain &= ~bits.mask
        rules.add(self.access, plain)
        rules.add("ro", self.ones & ~self.mask)
        return rules

    def __repr__(self) -> str:
        many = "" if self.count is None else f"[{self.count}]"
        return f"<Register {self.name or '?'}{many} at {self.offset:#x}, {8 * self.width} bits, {self.access}>"
