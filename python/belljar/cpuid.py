"""What CPUID says, as data: of the host, of vCPUs, and of a table of one's own. It never executes the instruction.

>>> import belljar as bj
>>> table = bj.Cpuid({(7, 0): (0, 1 << 5, 0, 0)})
>>> table["avx2"], table[7].ebx
(True, 32)
>>> table["avx2"] = False
>>> table[7, 0].ebx
0
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, overload

from belljar.cpuid_features import ALIASES, FEATURES, INDEXED
from belljar.shown import Shown

if TYPE_CHECKING:
    from belljar._belljar import VCPU

Row: TypeAlias = "tuple[int, int | None, tuple[int, ...]]"
Key: TypeAlias = "str | int | tuple[int, int | None]"
Table: TypeAlias = "dict[tuple[int, int | None], CpuidWords]"

BRAND = (0x8000_0002, 0x8000_0003, 0x8000_0004)
BRAND_SIZE = 48

NUMBERED = ((1, 1, 0xFF00_0000), (0xB, 3, 0xFFFF_FFFF), (0x1F, 3, 0xFFFF_FFFF), (0x8000_001E, 0, 0xFFFF_FFFF))
"""Where a vCPU's APIC id is: leaf, word, bits (Intel SDM vol. 2, CPUID; AMD APM vol. 3, E.4.17)."""


class CpuidWords(NamedTuple):
    """What CPUID leaves in four registers, 32 bits each."""

    eax: int
    ebx: int
    ecx: int
    edx: int

    def __repr__(self) -> str:
        """Show them as the manual does."""
        return f"CpuidWords({', '.join(f'{name}={word:#010x}' for name, word in zip(self._fields, self, strict=True))})"


class Cpuid(Shown):
    """A table of CPUID leaves: by number, by number and subleaf, and by the names of features.

    ``table[7]`` and ``table[7, 0]`` are words (``CpuidWords``), ``table["avx2"]`` is true or false; the names are those
    of /proc/cpuinfo. ``cpu.cpuid`` and ``vm.cpuid`` are live: what is set in them is set in the vCPU, until it first
    runs (RegisterError from then on). ``bj.host.cpuid`` is what the host offers; ``bj.Cpuid(...)`` is a copy of one,
    to change and to give to ``VM(cpuid=...)``. Iterating gives (leaf, subleaf): None for one that does not count.
    """

    __hash__ = None  # type: ignore[assignment]  # its contents change

    def __init__(self, leaves: Cpuid | Mapping[int | tuple[int, int | None], Sequence[int]] | None = None) -> None:
        """Take a copy of a table, or leaves by number: ``{1: (eax, ebx, ecx, edx), (7, 0): ...}``."""
        self._cpus: Sequence[VCPU] = ()
        self._rows: Table = {}
        for key, words in leaves.items() if leaves is not None else ():
            leaf, subleaf = (key, 0 if key in INDEXED else None) if isinstance(key, int) else key
            self._rows[_number(leaf, "leaf"), subleaf] = _words(words)

    @classmethod
    def _of(cls, cpus: Sequence[VCPU]) -> Cpuid:
        """Make the live table of vCPUs: it shows the first one's."""
        made = cls()
        made._cpus = cpus
        return made

    def _now(self) -> Table:
        """Return what the table holds now."""
        return _table(self._cpus[0].cpuid_leaves()) if self._cpus else self._rows

    def _change(self, how: Mapping[Key, object]) -> None:
        """Set what ``how`` says, in all vCPUs or here."""
        if not self._cpus:
            _shape(self._rows, how)
        for cpu in self._cpus:
            change = shaped if len(self._cpus) > 1 else _shaped
            wanted: Any = change(cpu.cpuid_leaves(), how)
            cpu.set_cpuid_leaves(wanted)
            _tell_what_kvm_keeps(cpu, wanted)

    @overload
    def __getitem__(self, key: int | tuple[int, int | None]) -> CpuidWords: ...
    @overload
    def __getitem__(self, key: str) -> bool: ...
    def __getitem__(self, key: Key) -> CpuidWords | bool:
        """Return a leaf's words, or whether there is a feature. KeyError for a leaf or a name that there is none."""
        rows = self._now()
        if isinstance(key, str):
            leaf, subleaf, word, bit = _feature(key)
            words = rows.get((leaf, subleaf))
            return words is not None and bool(words[word] >> bit & 1)
        return rows[_place(rows, key)]

    def __setitem__(self, key: Key, value: Sequence[int] | bool) -> None:
        """Set a leaf's words (all four), or a feature (true or false).

        Some KVMs give a guest features whatever they are told: that is logged as a warning, and reading it shows it.
        """
        self._change({key: value})

    def __delitem__(self, key: int | tuple[int, int | None]) -> None:
        """Take a leaf away: the guest reads zeros (of a number beyond the last leaf, what the manual says)."""
        self._change({key: None})

    def update(self, how: Mapping[Key, object] | Cpuid) -> None:
        """Set several at once: leaves, features, "brand" and "vendor", as ``VM(cpuid=...)`` takes them."""
        self._change(dict(how.items()))

    def __contains__(self, key: object) -> bool:
        """Is there such a leaf? Of a name: is it one that belljar knows?"""
        if isinstance(key, str):
            return ALIASES.get(key, key) in FEATURES
        rows = self._now()
        return key in rows or (key, None) in rows or (key, 0) in rows

    def __iter__(self) -> Iterator[tuple[int, int | None]]:
        """Iterate over (leaf, subleaf), in order."""
        return iter(sorted(self._now(), key=_order))

    def __len__(self) -> int:
        """How many leaves and subleaves it has."""
        return len(self._now())

    def keys(self) -> list[tuple[int, int | None]]:
        """Return (leaf, subleaf) of each, in order."""
        return list(self)

    def items(self) -> list[tuple[tuple[int, int | None], CpuidWords]]:
        """Return each leaf with its words, in order: a copy."""
        return sorted(self._now().items(), key=lambda item: _order(item[0]))

    def __eq__(self, other: object) -> bool:
        """Do two tables hold the same?"""
        return isinstance(other, Cpuid) and self._now() == other._now()

    @property
    def features(self) -> dict[str, bool]:
        """Every feature that belljar has a name for, and whether it is there: a copy."""
        return _features(self._now())

    @property
    def flags(self) -> list[str]:
        """The names of the features that are there, sorted: what /proc/cpuinfo lists."""
        return sorted(name for name, there in self.features.items() if there)

    @property
    def vendor(self) -> str:
        """The vendor's name of leaf 0, such as "GenuineIntel"; settable, 12 characters at most."""
        words = self._now().get((0, None))
        if words is None:
            return ""
        return _text(b"".join(word.to_bytes(4, "little") for word in (words.ebx, words.edx, words.ecx)))

    @vendor.setter
    def vendor(self, name: str) -> None:
        self._change({"vendor": name})

    @property
    def brand(self) -> str:
        """The processor's name of leaves 0x80000002 to 0x80000004; settable, 48 characters at most."""
        rows = self._now()
        words = [word for leaf in BRAND for word in rows.get((leaf, None), ())]
        return _text(b"".join(word.to_bytes(4, "little") for word in words))

    @brand.setter
    def brand(self, name: str) -> None:
        self._change({"brand": name})

    @property
    def signature(self) -> tuple[int, int, int]:
        """Family, model and stepping of leaf 1 (Intel SDM vol. 2, CPUID, "version information")."""
        words = self._now().get((1, None))
        eax = words.eax if words else 0
        family, model = eax >> 8 & 0xF, eax >> 4 & 0xF
        if family in {6, 15}:
            model |= eax >> 12 & 0xF0
        return family + (eax >> 20 & 0xFF if family == 15 else 0), model, eax & 0xF

    def diff(self, other: Cpuid) -> dict[tuple[int, int | None], tuple[CpuidWords | None, CpuidWords | None]]:
        """Return the leaves that differ: (leaf, subleaf) to (here, there), None where one has it not."""
        mine, theirs = self._now(), other._now()
        keys = sorted(mine.keys() | theirs.keys(), key=_order)
        return {key: (mine.get(key), theirs.get(key)) for key in keys if mine.get(key) != theirs.get(key)}

    def __repr__(self) -> str:
        """One leaf a line, as `cpuid -r` prints it."""
        lines = [f"{'leaf':>10} {'sub':>3}  {'eax':>8} {'ebx':>8} {'ecx':>8} {'edx':>8}"]
        for (leaf, subleaf), words in self.items():
            sub = "" if subleaf is None else f"{subleaf:x}"
            lines.append(f"{leaf:#10x} {sub:>3}  {' '.join(f'{word:08x}' for word in words)}")
        return "\n".join(lines)


def host_table(rows: Iterable[Row]) -> Cpuid:
    """Return the core's rows as a table of its own."""
    return Cpuid({(leaf, subleaf): CpuidWords(*words) for leaf, subleaf, words in rows})


def shaped(rows: Iterable[Row], how: Mapping[Key, object] | Cpuid) -> list[Row]:
    """Return one of several vCPUs' rows with what ``how`` says changed, but for the vCPU's own number."""
    before = list(rows)
    after = _table(_shaped(before, how))
    for leaf, subleaf, words in before:
        for word, mask in ((n, m) for number, n, m in NUMBERED if number == leaf):
            if (leaf, subleaf) in after:
                changed = list(after[leaf, subleaf])
                changed[word] = changed[word] & ~mask | words[word] & mask
                after[leaf, subleaf] = CpuidWords(*changed)
    return _rows(after)


def _shaped(rows: Iterable[Row], how: Mapping[Key, object] | Cpuid) -> list[Row]:
    """Return rows with what ``how`` says changed; a whole table takes their place."""
    if isinstance(how, Cpuid):
        return _rows(dict(how.items()))
    if not isinstance(how, Mapping):
        raise TypeError(f'CPUID is changed by a mapping such as {{"avx2": False}}, or by a bj.Cpuid, not by {how!r}')
    table = _table(rows)
    _shape(table, how)
    return _rows(table)


def _table(rows: Iterable[Row]) -> Table:
    return {(leaf, subleaf): CpuidWords(*words) for leaf, subleaf, words in rows}


def _rows(table: Table) -> list[Row]:
    return [(leaf, subleaf, tuple(words)) for (leaf, subleaf), words in table.items()]


def _features(table: Table) -> dict[str, bool]:
    found = {}
    for name, (leaf, subleaf, word, bit) in FEATURES.items():
        words = table.get((leaf, subleaf))
        found[name] = words is not None and bool(words[word] >> bit & 1)
    return found


def _tell_what_kvm_keeps(cpu: VCPU, wanted: Iterable[Row]) -> None:
    """Log the features that a KVM gives its guests whatever it is told."""
    asked, given = _features(_table(wanted)), _features(_table(cpu.cpuid_leaves()))
    kept = [name for name, there in given.items() if there and not asked[name]]
    if kept:
        what = ", ".join(kept)
        logging.getLogger("belljar").warning("vCPU %d: this KVM does not leave these features out: %s", cpu.id, what)


def _shape(rows: Table, how: Mapping[Key, object]) -> None:
    for key, value in how.items():
        if key == "brand":
            _set_brand(rows, str(value))
        elif key == "vendor":
            _set_vendor(rows, str(value))
        elif isinstance(key, str):
            _set_feature(rows, key, is_there=bool(value))
        elif value is None:
            del rows[_place(rows, key)]
        else:
            rows[_new_place(rows, key)] = _words(value)


def _set_feature(rows: Table, name: str, *, is_there: bool) -> None:
    leaf, subleaf, word, bit = _feature(name)
    words = list(rows.get((leaf, subleaf), (0, 0, 0, 0)))
    words[word] = words[word] & ~(1 << bit) | is_there << bit
    rows[leaf, subleaf] = CpuidWords(*words)


def _set_vendor(rows: Table, name: str) -> None:
    ebx, edx, ecx = (int.from_bytes(_bytes(name, 12)[at : at + 4], "little") for at in (0, 4, 8))
    rows[0, None] = CpuidWords(rows[0, None].eax if (0, None) in rows else 1, ebx, ecx, edx)


def _set_brand(rows: Table, name: str) -> None:
    text = _bytes(name, BRAND_SIZE)
    words = [int.from_bytes(text[at : at + 4], "little") for at in range(0, BRAND_SIZE, 4)]
    for n, leaf in enumerate(BRAND):
        rows[leaf, None] = CpuidWords(*words[4 * n : 4 * n + 4])


def _bytes(name: str, size: int) -> bytes:
    text = name.encode("latin-1", "replace")
    if len(text) > size:
        raise ValueError(f"{name!r} has {len(text)} characters; at most {size} fit")
    return text.ljust(size, b"\0")


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode("latin-1").strip()


def _feature(name: str) -> tuple[int, int | None, int, int]:
    found = FEATURES.get(ALIASES.get(name.lower(), name.lower()))
    if found is None:
        near = difflib.get_close_matches(name.lower(), [*FEATURES, *ALIASES], 3)
        hint = f"; is it {' or '.join(near)}?" if near else "; belljar.Cpuid().features has all names"
        raise KeyError(f"no feature is named {name!r}{hint}")
    return found


def _place(rows: Mapping[tuple[int, int | None], object], key: int | tuple[int, int | None]) -> tuple[int, int | None]:
    """Return the place of a leaf that is there."""
    place = _new_place(rows, key)
    if place not in rows:
        leaf, subleaf = place
        raise KeyError(f"no CPUID leaf {leaf:#x}{'' if subleaf is None else f', subleaf {subleaf}'}")
    return place


def _new_place(
    rows: Mapping[tuple[int, int | None], object], key: int | tuple[int, int | None]
) -> tuple[int, int | None]:
    """Return where a leaf belongs: without a subleaf where that does not count."""
    leaf, subleaf = (key, None) if isinstance(key, int) else key
    leaf = _number(leaf, "leaf")
    if (leaf, None) in rows and not subleaf:
        return leaf, None
    if subleaf is None:
        return leaf, 0 if leaf in INDEXED or (leaf, 0) in rows else None
    return leaf, _number(subleaf, "subleaf")


def _number(value: int, what: str) -> int:
    if not 0 <= value < 1 << 32:
        raise ValueError(f"a CPUID {what} is 0 to 0xffffffff, not {value:#x}")
    return value


def _words(value: object) -> CpuidWords:
    """Return four words. TypeError or ValueError for what is not."""
    if not isinstance(value, Sequence) or len(value) != 4 or isinstance(value, (str, bytes)):
        raise TypeError(f"a CPUID leaf is four numbers, (eax, ebx, ecx, edx), not {value!r}")
    return CpuidWords(*(_number(int(word), "word") for word in value))


def _order(key: tuple[int, int | None]) -> tuple[int, int]:
    return key[0], -1 if key[1] is None else key[1]
