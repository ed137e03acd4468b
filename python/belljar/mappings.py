"""All that page tables map, as a list that prints as a table. It never reads a page table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from belljar._belljar import Mapping
from belljar.shown import Shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pandas as pd  # type: ignore[import-not-found,import-untyped,unused-ignore]
    import polars as pl  # type: ignore[import-not-found,unused-ignore]

MOST = 64
"""So many rows are printed; the list has all."""

COLUMNS = ("start", "end", "size", "gpa", "contiguous", "page_size", "writable", "user", "executable")
UNITS = {0x1000: "4K", 0x200000: "2M", 0x400000: "4M", 0x40000000: "1G"}


class Mappings(list[Mapping], Shown):
    """The ranges that an address space maps, in the order of their addresses: a list of Mapping that prints as a table.

    ``cut`` is None if it is all of them; otherwise it says why the tables were not followed further, and the list is
    only a beginning.
    """

    def __init__(self, ranges: Iterable[Mapping] = (), cut: str | None = None) -> None:
        """Take the ranges, and why there may be more."""
        super().__init__(ranges)
        self.cut = cut

    @classmethod
    def _of(cls, ranges: list[Mapping], cut: str | None) -> Mappings:
        return cls(ranges, cut)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Mapping: ...
    @overload
    def __getitem__(self, index: slice) -> Mappings: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Mapping | Mappings:
        """Return a range, or a part of the list."""
        if isinstance(index, slice):
            return Mappings(super().__getitem__(index), self.cut)
        return super().__getitem__(index)

    @property
    def size(self) -> int:
        """How many bytes are mapped."""
        return sum(one.size for one in self)

    def at(self, address: int) -> Mapping | None:
        """Return the range that ``address`` is in, or None."""
        return next((one for one in self if address in one), None)

    def __contains__(self, value: object) -> bool:
        """Is an address mapped? Or is a range among them?"""
        return self.at(value) is not None if isinstance(value, int) else super().__contains__(value)

    def where(self, test: Callable[[Mapping], object]) -> Mappings:
        """Return the ranges for which ``test`` holds: ``where(lambda one: one.writable and one.executable)``."""
        return Mappings((one for one in self if test(one)), self.cut)

    def __repr__(self) -> str:
        """One range a line."""
        digits = max((len(f"{one.end:x}") for one in self[:MOST]), default=8)
        lines = [f"{'start':<{digits + 2}}  {'end':<{digits + 2}}  rights  {'page':>4}  gpa"]
        lines += [_line(one, digits) for one in self[:MOST]]
        if len(self) > MOST:
            lines.append(f"and {len(self) - MOST} more")
        if self.cut:
            lines.append(f"cut short: {self.cut}")
        return "\n".join(lines)

    def columns(self) -> dict[str, list[Any]]:
        """Return the columns by name. An end of 2**64, which no 64-bit integer holds, is None."""
        table: dict[str, list[Any]] = {name: [getattr(one, name) for one in self] for name in COLUMNS}
        table["end"] = [end if end < 1 << 64 else None for end in table["end"]]
        return table

    def to_polars(self) -> pl.DataFrame:
        """Return a polars DataFrame. ModuleNotFoundError where polars is not installed: pip install polars."""
        import polars as pl

        return pl.DataFrame(
            self.columns(),
            schema=dict(zip(COLUMNS, [*[pl.UInt64] * 4, pl.Boolean, pl.UInt64, *[pl.Boolean] * 3], strict=True)),
        )

    def to_pandas(self) -> pd.DataFrame:
        """Return a pandas DataFrame. ModuleNotFoundError where pandas is not installed: pip install pandas."""
        import pandas as pd

        kinds = dict(
            zip(COLUMNS, ["uint64", "UInt64", "uint64", "uint64", "bool", "uint64", *["bool"] * 3], strict=True)
        )
        return pd.DataFrame(self.columns(), dtype=object).astype(kinds)


def rights(one: Mapping) -> str:
    """Say what is allowed: "rwxu" is a page of ring 3's that it may write and execute."""
    return f"r{'w' if one.writable else '-'}{'x' if one.executable else '-'}{'u' if one.user else '-'}"


def _line(one: Mapping, digits: int) -> str:
    where = f"{one.gpa:#x}{'' if one.contiguous else ' ...'}"
    return f"0x{one.start:0{digits}x}  0x{one.end:0{digits}x}  {rights(one)}    {UNITS[one.page_size]:>4}  {where}"
