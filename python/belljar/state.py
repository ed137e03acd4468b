"""All that one vCPU holds, as a value that can be compared, printed, pickled and put back. It never touches a vCPU.

>>> before = cpu.state()  # doctest: +SKIP
>>> vm.run(timeout=1)  # doctest: +SKIP
Hlt(vcpu=0)
>>> before.diff(cpu.state())  # doctest: +SKIP
regs.rax: 0x0 -> 0x2a
regs.rip: 0x1000 -> 0x1008
>>> cpu.restore(before)  # doctest: +SKIP
[]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from belljar import _belljar
from belljar._belljar import Segment
from belljar.bits import REGISTERS, Bits
from belljar.shown import Shown

VOLATILE = frozenset(_belljar.volatile_values())
"""Values that change while the vCPU is stopped: the TSC and other counters, the LAPIC timer's count."""

_SECTIONS = (
    ("general", ("regs.",)),
    ("segments and tables", ("cs.", "ds.", "es.", "fs.", "gs.", "ss.", "tr.", "ldt.", "gdt.", "idt.")),
    ("control", ("cr", "efer", "apic_base", "xcr0")),
    ("debug", ("dr",)),
    ("x87, SSE, AVX", ("f", "mxcsr", "st", "xmm", "ymm", "zmm", "k", "pkru", "xsave.")),
    ("MSRs", ("msr.",)),
    ("local APIC", ("lapic.",)),
    ("events", ("events.", "mp_state")),
)


def _segment(fields: dict[str, Any]) -> Segment:
    """Make a segment again, after a journey."""
    return Segment(**fields)


def _named(name: str, value: int) -> Bits | None:
    """Return ``value`` as a register of named bits, if ``name`` is one."""
    kind = REGISTERS.get(name.removeprefix("regs.").removeprefix("msr.").lower())
    return None if kind is None else kind(value)


def _bits(value: Bits) -> str:
    """Return the bits that are set, for a line."""
    return repr(value).partition(": ")[2].rstrip(")")


class Change(NamedTuple):
    """A value that differs: in the state that was asked, and in the other one; None where one of them has it not."""

    name: str
    before: int | None
    after: int | None

    def __str__(self) -> str:
        """Show both values, and which named bits differ."""
        before, after = ("absent" if v is None else f"{v:#x}" for v in (self.before, self.after))
        return f"{self.name}: {before} -> {after}{self._flags()}"

    def _flags(self) -> str:
        old, new = (None if v is None else _named(self.name, v) for v in (self.before, self.after))
        if old is None or new is None:
            return ""
        signs = {name: (f.of(old), f.of(new)) for name, f in old.FIELDS.items() if f.of(old) != f.of(new)}
        shown = [
            f"{'+' if now else '-'}{name.rstrip('_')}" if old.FIELDS[name].width == 1 else f"{name}={now}"
            for name, (_, now) in signs.items()
        ]
        return f" ({' '.join(shown)})" if shown else ""


class Diff(list[Change], Shown):
    """What differs between two states, in the order in which a state lists it; ``by_name`` finds one."""

    @property
    def names(self) -> list[str]:
        """The names of what differs."""
        return [change.name for change in self]

    def by_name(self) -> dict[str, Change]:
        """Return the changes by name."""
        return {change.name: change for change in self}

    def __repr__(self) -> str:
        """Show a line for each change."""
        return "\n".join(map(str, self)) or "no difference"


class State(Mapping[str, int], Shown):
    """One vCPU's whole state: a mapping of names ("regs.rip", "cr0", "cs.base", "xmm3", "msr.LSTAR") to integers.

    Two states are equal if all is equal but what counts by itself (``belljar.state.VOLATILE``). ``cpu.state()`` makes
    one, ``cpu.restore()`` puts it back. Bytes of a state last as long as this version of belljar.
    """

    __slots__ = ("__dict__", "_encoded")

    def __init__(self, encoded: bytes) -> None:
        """Take what to_bytes() returned. ValueError for other bytes."""
        self._encoded = bytes(encoded)
        _ = self._values

    @classmethod
    def from_bytes(cls, encoded: bytes) -> State:
        """Return the state that to_bytes() stored. ValueError for bytes that are none."""
        return cls(encoded)

    def to_bytes(self) -> bytes:
        """Return the state as bytes, to keep."""
        return self._encoded

    @cached_property
    def _values(self) -> dict[str, int]:
        return _belljar.state_values(self._encoded)

    @cached_property
    def _lasting(self) -> dict[str, int]:
        return {name: value for name, value in self._values.items() if name not in VOLATILE}

    def __getitem__(self, name: str) -> int:
        """Return a value by name, as a register of named bits where it is one."""
        if name not in self._values:
            from difflib import get_close_matches

            near = get_close_matches(name, self._values, 4, 0.5)
            raise KeyError(f"a state has no {name!r}" + (f": do you mean {', '.join(near)}?" if near else ""))
        value = self._values[name]
        bits = _named(name, value)
        return value if bits is None else bits

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a value of that name."""
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._values)

    def __len__(self) -> int:
        """Count the values."""
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        """Compare all but what counts by itself."""
        return self._lasting == other._lasting if isinstance(other, State) else NotImplemented

    def __hash__(self) -> int:
        """Hash what is compared."""
        return hash(frozenset(self._lasting.items()))

    def diff(self, after: State, *, volatile: bool = False) -> Diff:
        """Return what became different in ``after``, a later state: ``before.diff(after)`` has (name, before, after).

        With ``volatile`` also what counts by itself.
        """
        names = [*self, *(name for name in after if name not in self)]
        pairs = ((name, self._values.get(name), after._values.get(name)) for name in names)
        changes = (Change(*pair) for pair in pairs if pair[1] != pair[2])
        return Diff(change for change in changes if volatile or change.name not in VOLATILE)

    def __reduce__(self) -> tuple[type[State], tuple[bytes]]:
        """Travel as bytes."""
        return type(self), (self._encoded,)

    def __repr__(self) -> str:
        """Show where the vCPU was."""
        rip, mode = self._values["regs.rip"], _named("cr0", self._values["cr0"])
        return f"<State at {rip:#x}, {mode}, {len(self)} values>"

    def sections(self) -> dict[str, list[str]]:
        """Return the names of what is not zero (and of all general registers), by section, for tables."""
        found: dict[str, list[str]] = {}
        left = [name for name, value in self._values.items() if value or name.startswith("regs.")]
        for title, prefixes in _SECTIONS:
            found[title] = [name for name in left if name.startswith(prefixes)]
            left = [name for name in left if not name.startswith(prefixes)]
        return found

    def __str__(self) -> str:
        """Show everything that is not zero, in sections."""
        parts = []
        for title, names in self.sections().items():
            lines = self._segments(names) if title.startswith("segments") else map(self._line, names)
            parts += ["\n".join([f"-- {title}", *lines])] if names else []
        return "\n".join(parts)

    def _segments(self, names: list[str]) -> list[str]:
        rows: dict[str, list[str]] = {}
        for name in names:
            register, _, field = name.partition(".")
            if self._values[name]:
                rows.setdefault(register, []).append(f"{field}={self._values[name]:#x}")
        return [f"{register:>26}  {' '.join(fields)}" for register, fields in rows.items()]

    def _line(self, name: str) -> str:
        value = self._values[name]
        bits = _named(name, value)
        return f"{name:>26}  {value:#x}" + (f"  {_bits(bits)}" if bits is not None else "")
