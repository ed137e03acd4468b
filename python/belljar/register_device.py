"""Devices as a map of named registers: finding them by offset, access rules, and the methods that accesses call.

What a register is says register.py; how it looks to Python, register_value.py. It never knows where the device is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

from belljar._belljar import Action
from belljar.device import Answer, Device
from belljar.register import Register
from belljar.register_table import as_html, as_text
from belljar.register_value import Cell, RegisterArray, RegisterValue


class RegisterDevice(Device):
    """A device that is a map of registers; the guest's accesses obey each register's rules.

    A wider access reaches all registers that it covers, the lowest first; a narrower one merges into its register, and
    runs its methods, too. Where no register is, reads are 0 and writes dropped, or with ``mode="before"`` passed on, so
    that a device may replace single registers of another one. Beside another device, the registers show what the guest
    has last written and read. reset() puts all registers to their reset values and lets the interrupt line go;
    snapshots keep registers, attributes and line.

    >>> import belljar as bj
    >>> class Timer(bj.RegisterDevice):
    ...     mmio = range(0xFEB0_0000, 0xFEB0_1000)
    ...     irq = 5
    ...     id = bj.Register(0x00, reset=0x1234, access="ro")
    ...     control = bj.Register(0x04, fields={"enable": bj.Field(0), "kick": bj.Field(1, access="pulse")})
    ...     status = bj.Register(0x08, fields={"done": bj.Field(0, access="w1c")})
    ...
    ...     @control.on_write
    ...     def start(self, value):
    ...         if self.control.enable and self.control.kick:
    ...             self.status.done = 1
    >>> timer = Timer()
    >>> timer.write(4, 4, 3)
    >>> timer.status.done, timer.read(4, 4)
    (1, 1)
    """

    layout: ClassVar[tuple[Register, ...]] = ()
    """The registers, in the order of their offsets."""

    _cells: list[Cell]
    _at: dict[int, Cell]  # by offset
    _bytes: dict[int, Cell]  # by the offset of each byte
    _values: dict[str, RegisterValue | RegisterArray]

    def __init_subclass__(cls, **options: Any) -> None:
        """Collect the registers of the class and its bases, and refuse those that cannot be."""
        super().__init_subclass__(**options)
        found: dict[str, Register] = {}
        for base in reversed(cls.__mro__):
            for name, value in vars(base).items():
                found.pop(name, None)
                if isinstance(value, Register):
                    found[name] = value
        for name in found:
            if hasattr(RegisterDevice, name):
                raise TypeError(f"a register cannot be called {name}: that is a device's own; take another name")
        cls.layout = tuple(sorted(found.values(), key=lambda register: register.offset))
        refuse_overlaps(cls.layout)
        cls.bare_length = max((register.end for register in cls.layout), default=0)

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        """Make the registers, whatever `__init__` a subclass writes."""
        self = super().__new__(cls, *arguments, **options)
        self._cells = [Cell(register, n) for register in cls.layout for n in range(register.count or 1)]
        self._at = {cell.offset: cell for cell in self._cells}
        self._bytes = {cell.offset + n: cell for cell in self._cells for n in range(cell.width)}
        for cell in self._cells:
            self._connect(cell)
        self._values = {}
        for register in cls.layout:
            values = [RegisterValue(cell, self.lock) for cell in self._cells if cell.register is register]
            self._values[register.name] = values[0] if register.count is None else RegisterArray(values)
        return self

    @property
    def registers(self) -> dict[str, RegisterValue | RegisterArray]:
        """The values by name, in the order of their offsets."""
        return self._values

    def _connect(self, cell: Cell) -> None:
        """Look up the methods that accesses call, a subclass's own if it overrides them."""
        register, first = cell.register, () if cell.register.count is None else (cell.index,)
        if register.read_hook is not None:
            on_read, _ = self._bound(register.read_hook)
            cell.on_read = (lambda: on_read(*first)) if first else on_read
        if register.write_hook is not None:
            on_write, takes = self._bound(register.write_hook)
            if takes > len(first) + 1:
                cell.on_write = lambda value, written: on_write(*first, value, written)
            else:
                cell.on_write = lambda value, _: on_write(*first, value)

    def _bound(self, function: Callable[..., Any]) -> tuple[Callable[..., Any], int]:
        bound = getattr(self, function.__name__, None)
        if not callable(bound):
            bound = function.__get__(self)
        return bound, len(inspect.signature(bound).parameters)

    def read(self, offset: int, size: int) -> Answer:
        """Answer the guest's read."""
        with self.lock:
            cell = self._at.get(offset)
            if cell is not None and cell.width == size:
                return self._read(cell, cell.ones)
            covered = list(self._covered(offset, size))
            if not covered:
                return None if self.wiring.mode == "before" else 0
            value = 0
            for cell, shift, lanes in covered:
                part = self._read(cell, lanes)
                if isinstance(part, Action):
                    return part
                value |= shifted(part & lanes, -shift)
            return value

    def write(self, offset: int, size: int, value: int) -> Answer:
        """Take the guest's write."""
        with self.lock:
            cell = self._at.get(offset)
            if cell is not None and cell.width == size:
                return self._write(cell, value, cell.ones)
            covered = list(self._covered(offset, size))
            answers = [self._write(cell, shifted(value, shift) & lanes, lanes) for cell, shift, lanes in covered]
            if Action.STOP in answers:
                return Action.STOP
            return self._done if covered else None

    def observe_read(self, offset: int, size: int, value: int | None) -> Answer:
        """Show what the guest has read from the device that this one stands beside."""
        if value is not None:
            self._mirror(offset, size, value)
        return None

    def observe_write(self, offset: int, size: int, value: int) -> Answer:
        """Show what the guest writes to the device that this one stands beside, and call the method for it."""
        answers = [cell.on_write(cell.value, part) for cell, part in self._mirror(offset, size, value) if cell.on_write]
        return Action.STOP if Action.STOP in answers else None

    def reset(self) -> None:
        """Put all registers to their reset values and let the interrupt line go."""
        with self.lock:
            for cell in self._cells:
                cell.value = cell.register.reset
            self.wiring.irq.lower()

    def save(self) -> Any:
        """Return registers by name, attributes and the level of the interrupt line."""
        with self.lock:
            values = {
                name: [int(one) for one in value] if isinstance(value, RegisterArray) else int(value)
                for name, value in self.registers.items()
            }
            return {**super().save(), "registers": values}

    def load(self, state: Any) -> None:
        """Go back to what `save` returned. Registers that it does not know get their reset values."""
        with self.lock:
            values = state.get("registers", {}) if isinstance(state, Mapping) else {}
            if unknown := values.keys() - self.registers.keys():
                raise ValueError(f"{type(self).__name__} has no register {', '.join(sorted(unknown))}")
            super().load(state)
            for cell in self._cells:
                cell.value = cell.register.reset
            for name, value in values.items():
                self.registers[name].set(value)

    @property
    def _done(self) -> Answer:
        """What says that a write has been taken: nobody behind is to see it."""
        return Action.SKIP if self.wiring.mode == "before" else None

    def _read(self, cell: Cell, lanes: int) -> int | Action:
        rules = cell.rules
        if cell.on_read is not None and (answer := cell.on_read()) is not None:
            if not isinstance(answer, Action):
                return int(answer) & cell.ones
            return answer
        value = cell.value & rules.readable
        if rules.rc:
            cell.value &= ~(rules.rc & lanes)
        return value

    def _write(self, cell: Cell, data: int, lanes: int) -> Answer:
        rules = cell.rules
        if rules.stored == lanes:
            cell.value = value = data
        else:
            cell.value = value = rules.written(cell.value, data, lanes)
        if cell.on_write is not None:
            try:
                answer = cell.on_write(value, data & lanes)
                if answer is not None and answer == Action.STOP:
                    return Action.STOP
            finally:
                cell.value &= ~(rules.pulse & lanes)
        elif rules.pulse:
            cell.value &= ~(rules.pulse & lanes)
        return self._done

    def _covered(self, offset: int, size: int) -> Iterator[tuple[Cell, int, int]]:
        """The registers that an access covers, how many bits the access begins below each, and the bits of each."""
        before = None
        for at in range(offset, offset + size):
            cell = self._bytes.get(at)
            if cell is not None and cell is not before:
                shift = 8 * (cell.offset - offset)
                yield cell, shift, shifted((1 << 8 * size) - 1, shift) & cell.ones
            before = cell

    def _mirror(self, offset: int, size: int, value: int) -> list[tuple[Cell, int]]:
        with self.lock:
            touched = [(cell, shifted(value, by) & lanes, lanes) for cell, by, lanes in self._covered(offset, size)]
            for cell, part, lanes in touched:
                cell.value = cell.value & ~lanes | part
        return [(cell, part) for cell, part, _ in touched]

    def __str__(self) -> str:
        return as_text(repr(self), self._cells)

    def _repr_html_(self) -> str:
        return as_html(repr(self), self._cells)


def refuse_overlaps(registers: tuple[Register, ...]) -> None:
    """Raise TypeError where two registers share a byte."""
    taken: dict[int, Register] = {}
    for register in registers:
        for first in range(register.offset, register.end, register.stride):
            for at in range(first, first + register.width):
                if (other := taken.setdefault(at, register)) is not register:
                    raise TypeError(f"{register} overlaps {other}")


def shifted(value: int, bits: int) -> int:
    """`value` moved down by `bits`, or up if they are negative."""
    return value >> bits if bits >= 0 else value << -bits
