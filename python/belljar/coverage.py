"""Which code has been executed, and how often: from traces of steps or of branches. It never runs a guest.

>>> import belljar as bj
>>> import numpy as np
>>> steps = np.array([(0x1000, 2), (0x1002, 3), (0x1000, 2)], [("source", "u8"), ("size", "u8")])
>>> coverage = bj.Coverage()
>>> coverage.add_steps(steps)
>>> [tuple(map(int, block)) for block in coverage.blocks]
[(4096, 2, 1), (4096, 5, 1)]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from belljar import drcov
from belljar.drcov import Module
from belljar.errors import ImageError
from belljar.shown import Shown

if TYPE_CHECKING:
    from belljar._belljar import Symbols

Records = npt.NDArray[np.void]
Numbers = npt.NDArray[np.uint64]

BLOCK = np.dtype([("start", "<u8"), ("size", "<u8"), ("count", "<u8")])
GAP = 16 << 20
"""Code that is farther apart than this is of two modules, where nobody names any."""
PAGE = 4096
LARGEST = 0xFFFF
"""Bytes of one block in a file."""


class SymbolCoverage(NamedTuple):
    """What was executed of one symbol."""

    name: str
    address: int
    hits: int
    """How often a block was entered that begins in it."""
    blocks: int
    """How many different ones."""
    covered: int
    """How many of its bytes have been executed."""
    size: int
    """How many it has; 0 where that is not known."""


class Coverage(Shown):
    """The code that has been executed: blocks of instructions one after the other, and how often each was entered.

    ``trace.coverage()`` makes one of a trace of steps or branches. Several are put together by ``|``, and compared by
    ``-`` (what only the first has executed) and ``&``. ``save(path)`` writes a drcov file, which Lighthouse and others
    load into a disassembler; ``Coverage.open(path)`` reads one.
    """

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __init__(self, blocks: Iterable[tuple[int, int]] = ()) -> None:
        """Take blocks as (start, size in bytes); each counts as entered once."""
        self._blocks = np.zeros(0, BLOCK)
        self._seen: Numbers = np.zeros(0, "<u8")
        self._open: dict[int, tuple[int, int]] = {}
        pairs = np.array(list(blocks), "<u8").reshape(-1, 2)
        self._add(pairs[:, 0], pairs[:, 1])
        self._saw(pairs[:, 0])

    def add_steps(self, records: Records) -> None:
        """Add records of steps: ``source`` is the address of an instruction that was executed, ``size`` its length.

        Those of several vCPUs are told apart by their field ``vcpu``. A block goes on over two calls.
        """
        for vcpu, mine in _by_vcpu(records):
            starts, sizes = _column(mine, "source"), _column(mine, "size")
            if len(starts):
                self._saw(starts)
                self._add_runs(vcpu, starts, starts + sizes)

    def add_branches(self, records: Records, began: Mapping[int, int] | None = None) -> None:
        """Add records of branches: from the instruction at ``source`` of ``size`` bytes to the one at ``address``.

        A block is what lies between the target of one branch and the end of the next one, on the same vCPU. The first
        one begins where ``began`` says, by vCPU; without it, only its last instruction is known.
        """
        for vcpu, mine in _by_vcpu(records):
            ends, targets = _column(mine, "source") + _column(mine, "size"), _column(mine, "address")
            if not len(ends):
                continue
            first = self._take_back(vcpu)
            begin = first if began is None else began.get(vcpu, first)
            begins = np.array([int(mine["source"][0]) if begin is None else begin], "<u8")
            starts = np.concatenate([begins, targets[:-1]])
            self._open[vcpu] = (int(targets[-1]), int(targets[-1]))
            is_block = (ends > starts) & (ends - starts < GAP)
            self._add(starts[is_block], (ends - starts)[is_block])
            self._saw(np.concatenate([starts[is_block], _column(mine, "source"), targets[-1:]]))

    def add_straight(self, vcpu: int, end: int, began: int | None = None) -> None:
        """Add what a vCPU has executed since its last branch, up to ``end``: it has not gone elsewhere since.

        Without a branch before it, from ``began`` on. When the next branch is added, the block grows to its end.
        """
        held = self._take_back(vcpu) if began is None else began
        if held is None or not held <= end < held + GAP:
            return
        self._open[vcpu] = (held, end)
        self._add(np.array([held], "<u8"), np.array([end - held], "<u8"))
        self._saw(np.array([held], "<u8"))

    def _take_back(self, vcpu: int) -> int | None:
        """Return where the block begins that a vCPU was in; what was counted of it is taken back."""
        held = self._open.pop(vcpu, None)
        if held is None:
            return None
        if held[1] > held[0]:
            self._forget(held[0], held[1] - held[0])
        return held[0]

    def _add_runs(self, vcpu: int, starts: Numbers, ends: Numbers) -> None:
        """Cut instructions into blocks, where one is not behind the one before."""
        cuts = np.flatnonzero(starts[1:] != ends[:-1]) + 1
        begins = np.concatenate([[0], cuts])
        lasts = np.concatenate([cuts - 1, [len(starts) - 1]])
        firsts, finals = starts[begins].copy(), ends[lasts]
        held = self._open.pop(vcpu, None)
        if held is not None and held[1] == int(firsts[0]):
            self._forget(held[0], held[1] - held[0])
            firsts[0] = held[0]
        self._open[vcpu] = (int(firsts[-1]), int(finals[-1]))
        self._add(firsts, finals - firsts)

    def _forget(self, start: int, size: int) -> None:
        """Take back one entry of a block that turned out to be longer."""
        at = (self._blocks["start"] == start) & (self._blocks["size"] == size)
        self._blocks["count"][at] -= np.uint64(1)
        self._blocks = self._blocks[self._blocks["count"] > 0]

    def _add(self, starts: Numbers, sizes: Numbers, counts: Numbers | None = None) -> None:
        more = np.zeros(len(starts), BLOCK)
        more["start"], more["size"], more["count"] = starts, sizes, 1 if counts is None else counts
        every = np.concatenate([self._blocks, more[more["size"] > 0]])
        keys, inverse = np.unique(every[["start", "size"]], return_inverse=True)
        merged = np.zeros(len(keys), BLOCK)
        merged["start"], merged["size"] = keys["start"], keys["size"]
        np.add.at(merged["count"], inverse, every["count"])
        self._blocks = merged

    def _saw(self, addresses: Numbers) -> None:
        self._seen = np.union1d(self._seen, addresses.astype("<u8"))

    @property
    def blocks(self) -> Records:
        """Every block: ``start``, ``size`` in bytes, and ``count``, how often it was entered; a copy, by address."""
        return self._blocks.copy()

    @property
    def addresses(self) -> Numbers:
        """Every address at which an instruction was seen to begin: of a trace of branches, the ends of blocks."""
        return self._seen.copy()

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """What has been executed, as (start, end) of bytes that lie together, in order."""
        found: list[tuple[int, int]] = []
        for start, size in zip(self._blocks["start"].tolist(), self._blocks["size"].tolist(), strict=True):
            if found and start <= found[-1][1]:
                found[-1] = (found[-1][0], max(found[-1][1], start + size))
            else:
                found.append((start, start + size))
        return found

    def __len__(self) -> int:
        """How many different blocks."""
        return len(self._blocks)

    def __bool__(self) -> bool:
        """Has anything been executed?"""
        return len(self) > 0

    def __contains__(self, address: int) -> bool:
        """Has the byte at this address been executed?"""
        start, size = self._blocks["start"], self._blocks["size"]
        return 0 <= address < 1 << 64 and bool(((start <= address) & (np.uint64(address) - start < size)).any())

    def __eq__(self, other: object) -> bool:
        """Have two executed the same blocks, however often?"""
        if not isinstance(other, Coverage):
            return NotImplemented
        return bool(np.array_equal(self._keys(), other._keys()))

    def _keys(self) -> Records:
        return np.ascontiguousarray(self._blocks[["start", "size"]])

    def _some(self, is_kept: npt.NDArray[np.bool_]) -> Coverage:
        made = Coverage()
        made._blocks = self._blocks[is_kept]
        made._saw(np.array([at for at in self._seen.tolist() if at in made], "<u8"))
        return made

    def __or__(self, other: Coverage) -> Coverage:
        """Return what both have executed together."""
        made = Coverage()
        for one in (self, other):
            made._add(one._blocks["start"], one._blocks["size"], one._blocks["count"])
            made._saw(one._seen)
        return made

    def __sub__(self, other: Coverage) -> Coverage:
        """Return the blocks that only this one has executed."""
        return self._some(~np.isin(self._keys(), other._keys()))

    def __and__(self, other: Coverage) -> Coverage:
        """Return the blocks that the other one has executed, too."""
        return self._some(np.isin(self._keys(), other._keys()))

    def by_symbol(self, symbols: Symbols | Mapping[str, int]) -> list[SymbolCoverage]:
        """Return what was executed of each symbol, the most often entered first. What lies in none is left out."""
        named = sorted((address, name) for name, address in symbols.items())
        if not named or not len(self._blocks):
            return []
        starts = np.array([address for address, _ in named], "<u8")
        place = np.searchsorted(starts, self._blocks["start"], "right").astype(np.int64) - 1
        found = []
        for at in np.unique(place[place >= 0]).tolist():
            address, name = named[at]
            size = symbols.size(name) if hasattr(symbols, "size") else 0
            end = address + size if size else named[at + 1][0] if at + 1 < len(named) else 1 << 64
            mine = self._blocks[(place == at) & (self._blocks["start"] < min(end, (1 << 64) - 1))]
            if len(mine):
                covered = _covered(self.ranges, address, end)
                found.append(SymbolCoverage(name, address, int(mine["count"].sum()), len(mine), covered, size))
        return sorted(found, key=lambda one: (-one.hits, one.address))

    def modules(self) -> list[Module]:
        """Return ranges of pages around what was executed, as modules: for a file, where nobody names any."""
        found: list[Module] = []
        for start, end in self.ranges:
            first, last = start // PAGE * PAGE, min(-(-end // PAGE) * PAGE, 1 << 64)
            if found and first - found[-1].end < GAP and last - found[-1].start <= 1 << 32:
                found[-1] = Module(found[-1].name, found[-1].start, max(found[-1].end, last))
            else:
                found.append(Module(f"guest-{first:x}", first, last))
        return found

    def save(self, path: str | PathLike[str], modules: Iterable[Module | tuple[str, int, int]] | None = None) -> None:
        """Write a drcov file. ``modules`` are (name, start, end): the name of the file that a disassembler has open.

        Without any, there is one for each area of code, "guest-" and its first address. What lies in none is left out.
        """
        given = self.modules() if modules is None else [m if isinstance(m, Module) else Module(*m) for m in modules]
        rows: list[tuple[int, int, int]] = []
        for start, size in zip(self._blocks["start"].tolist(), self._blocks["size"].tolist(), strict=True):
            which = next((n for n, module in enumerate(given) if start in module), None)
            if which is not None:
                offsets = range(0, size, LARGEST)
                rows += [(start - given[which].start + at, min(size - at, LARGEST), which) for at in offsets]
        drcov.write(path, given, np.array(rows, drcov.BLOCK))

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Coverage:
        """Read a drcov file, of any tool's. ImageError for one that is none, or names a module that it has not."""
        modules, blocks = drcov.read(path)
        if len(blocks) and int(blocks["module"].max()) >= len(modules):
            raise ImageError(f"drcov: a block is of module {int(blocks['module'].max())}, of {len(modules)}")
        bases = np.array([module.start for module in modules], "<u8")
        made = cls()
        if len(blocks):
            starts = bases[blocks["module"]] + blocks["offset"]
            made._add(starts, blocks["size"].astype("<u8"))
            made._saw(starts)
        return made

    def __repr__(self) -> str:
        """Say how much it is."""
        size = sum(end - start for start, end in self.ranges)
        return f"<Coverage of {size} bytes in {len(self)} blocks, entered {int(self._blocks['count'].sum())} times>"


def _column(records: Records, name: str) -> Numbers:
    return np.ascontiguousarray(records[name]).astype("<u8")


def _by_vcpu(records: Records) -> Iterable[tuple[int, Records]]:
    """Return the records of each vCPU."""
    if "vcpu" not in (records.dtype.names or ()):
        return [(0, records)]
    return [(int(vcpu), records[records["vcpu"] == vcpu]) for vcpu in np.unique(records["vcpu"])]


def _covered(ranges: list[tuple[int, int]], start: int, end: int) -> int:
    return sum(max(0, min(last, end) - max(first, start)) for first, last in ranges)
