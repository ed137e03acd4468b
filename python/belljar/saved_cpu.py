"""The vCPUs of a dump: what they held, under the names that a live vCPU has. They never change, and never run."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from belljar import bits
from belljar._belljar import Msrs, Registers, Segment
from belljar.descriptor import DescriptorTable
from belljar.shown import Shown

if TYPE_CHECKING:
    from belljar._belljar import Translation, VirtualMemory
    from belljar.dump import Dump
    from belljar.listing import Listing
    from belljar.mappings import Mappings
    from belljar.state import State

_SEGMENTS = frozenset(("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt"))
_FLAGS = frozenset(("present", "db", "s", "l", "g", "avl", "unusable"))
_PLAIN = frozenset(("cr2", "cr3", "cr8", "apic_base", "dr0", "dr1", "dr2", "dr3", "mp_state"))


class SavedRegisters(Mapping[str, int]):
    """The general registers, RIP and RFLAGS: ``regs.rip``, ``regs["eax"]``, ``dict(regs)``, as of a live vCPU."""

    NAMES = tuple(Registers.NAMES)

    def __init__(self, values: Mapping[str, int]) -> None:
        """Take the values by name."""
        self._values = {name: int(values[name]) for name in self.NAMES}

    def __getitem__(self, name: str) -> int:
        """Return a register, or a part of one (eax, ax, al, ah, r8d ...). KeyError for what is none."""
        if name in self._values:
            return self._values[name]
        whole, shift, width = _part(name)
        if whole not in self._values:
            raise KeyError(f"no register is named {name!r}; there are {', '.join(self.NAMES)}, and their parts")
        return self._values[whole] >> shift & (1 << width) - 1

    def __getattr__(self, name: str) -> int:
        """Return a register by its name."""
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(*error.args) from None

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: what was saved does not change."""
        if not name.startswith("_"):
            raise AttributeError(f"registers of a dump cannot be changed ({name}): they are what they were")
        super().__setattr__(name, value)

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self.NAMES)

    def __len__(self) -> int:
        """Count the registers."""
        return len(self.NAMES)

    def read(self) -> tuple[int, ...]:
        """Return all 18 values, in the order of NAMES."""
        return tuple(self._values.values())

    def as_dict(self) -> dict[str, int]:
        """Return all values by name."""
        return dict(self._values)

    def changed(self) -> None:
        """Return None: it is not known what changed before, and nothing will."""

    def __repr__(self) -> str:
        """Show three to a line."""
        cells = [f"{name:>6} {value:016x}" for name, value in self._values.items()]
        return "\n".join("  ".join(cells[at : at + 3]) for at in range(0, len(cells), 3))


class SavedMsrs(dict[str, int]):
    """Model-specific registers by name and, as of a live vCPU, by number: ``msr["LSTAR"]``, ``msr[0xC0000082]``."""

    def __missing__(self, key: object) -> int:
        """Return one that was asked for by its number, or in small letters."""
        number = key if isinstance(key, int) else None
        known = (
            [name for name, at in Msrs.names().items() if at == number] if number is not None else [str(key).upper()]
        )
        for name in [*known, "" if number is None else f"{number:#x}"]:
            if name in self:
                return self[name]
        close = difflib.get_close_matches(known[0], self, 3) if known and number is None else []
        like = f"; did you mean {', '.join(close)}?" if close else ": list(cpu.msr) has all that it tells of"
        shown = repr(key) if number is None else f"{number:#x}"
        raise KeyError(f"the file tells of no MSR {shown}{like}")


def _part(name: str) -> tuple[str, int, int]:
    """Return the whole register that `name` is a part of, how far up it begins, and its bits."""
    if name[:1] == "r" and name[-1:] in {"d", "w", "b"}:  # r8d, r8w, r8b
        return name[:-1], 0, {"d": 32, "w": 16, "b": 8}[name[-1]]
    if name.startswith("e"):  # eax, esi, eip, eflags
        return "r" + name[1:], 0, 32
    if len(name) == 2 and name[1] == "h":  # ah
        return f"r{name[0]}x", 8, 8
    if len(name) == 2 and name[1] == "l":  # al
        return f"r{name[0]}x", 0, 8
    if len(name) == 3 and name[2] == "l":  # sil, spl
        return f"r{name[:2]}", 0, 8
    return "r" + name, 0, 16  # ax, si, ip, flags


class SavedCPU(Shown):
    """One vCPU of a dump, with the attributes of a live one: ``regs``, ``cr0``, ``cr3``, ``cs``, ``idt``, ``msr`` ...

    What the file does not tell of is zero: a core file of another program's has no MSRs and no vector registers.
    """

    def __init__(self, dump: Dump, number: int, state: State) -> None:
        """Show `state`, which vCPU `number` of `dump` was in."""
        self._dump = dump
        self._state = state
        self.id = number

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: what was saved does not change."""
        if name in _SEGMENTS or name in _PLAIN or name in bits.REGISTERS or name in {"regs", "rflags", "gdt", "idt"}:
            raise AttributeError(f"registers of a dump cannot be changed ({name}): they are what they were")
        super().__setattr__(name, value)

    def state(self) -> State:
        """Return everything that this vCPU held, as one value."""
        return self._state

    @property
    def regs(self) -> SavedRegisters:
        """The general registers, RIP and RFLAGS."""
        return SavedRegisters({name: self._state[f"regs.{name}"] for name in SavedRegisters.NAMES})

    @property
    def rflags(self) -> bits.RFLAGS:
        """RFLAGS by name."""
        return bits.RFLAGS(self._state["regs.rflags"])

    @property
    def msr(self) -> SavedMsrs:
        """The model-specific registers that the file tells of, by name or number."""
        return SavedMsrs({name[4:]: int(value) for name, value in self._state.items() if name.startswith("msr.")})

    @property
    def gdt(self) -> DescriptorTable:
        """GDTR: its base and limit."""
        return DescriptorTable(self._state["gdt.base"], self._state["gdt.limit"])

    @property
    def idt(self) -> DescriptorTable:
        """IDTR: its base and limit."""
        return DescriptorTable(self._state["idt.base"], self._state["idt.limit"])

    @property
    def cpl(self) -> int:
        """The privilege level, 0 to 3."""
        return self._state["ss.dpl"]

    @property
    def bits(self) -> int:
        """16, 32 or 64: what the code segment makes of instructions."""
        long = self._state["efer"] >> 10 & 1 and self._state["cs.l"]
        return 64 if long else 32 if self._state["cs.db"] else 16

    def __getattr__(self, name: str) -> Any:
        """Return a register by its name: segments, control and debug registers, XCR0."""
        if name in _SEGMENTS:
            keys = [key for key in self._state if key.startswith(f"{name}.")]
            fields: dict[str, Any] = {key.rpartition(".")[2]: int(self._state[key]) for key in keys}
            return Segment(**{field: bool(v) if field in _FLAGS else v for field, v in fields.items()})
        if name in bits.REGISTERS or name in _PLAIN:
            return self._state[name]
        raise AttributeError(f"a vCPU of a dump has no {name!r}: state() has all that it held")

    @property
    def virtual(self) -> VirtualMemory:
        """The memory of the address space that this vCPU was in."""
        return self._dump.virtual(cpu=self.id)

    def translate(
        self, at: int | str, *, write: bool = False, user: bool | None = None, execute: bool = False
    ) -> Translation:
        """Return where the virtual address `at` leads, or why nowhere. See VCPU.translate."""
        return self.virtual.translate(at, write=write, user=user, execute=execute)

    def mappings(self, *args: Any, **kwargs: Any) -> Mappings:
        """Return all mapped ranges. See VCPU.mappings."""
        return self.virtual.mappings(*args, **kwargs)

    def disasm(self, count: int = 1, *, at: int | str | None = None) -> Listing:
        """Return the next `count` instructions at the instruction pointer (or at `at`), as far as they are mapped."""
        if at is not None:
            return cast("Listing", self.virtual.disasm(at, count, bits=self.bits))
        base = 0 if self.bits == 64 else int(self._state["cs.base"])
        return cast("Listing", self.virtual.disasm(base + int(self._state["regs.rip"]), count, bits=self.bits))

    def __dir__(self) -> list[str]:
        """Name the registers, too."""
        return sorted({*super().__dir__(), *_SEGMENTS, *_PLAIN, *bits.REGISTERS})

    def __repr__(self) -> str:
        """Show where it was."""
        return f"<SavedCPU {self.id} at {self._state['regs.rip']:#x}, {self.bits} bits, ring {self.cpl}>"
