"""What readers return: rows that print as a table, know whether they are all, and go to polars or pandas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, SupportsIndex, TypeVar, overload

from belljar.shown import Shown

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-not-found,import-untyped,unused-ignore]
    import polars as pl  # type: ignore[import-not-found,unused-ignore]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Row = TypeVar("Row")
Self_ = TypeVar("Self_", bound="Table[Any]")

WIDEST = 60


@dataclass(frozen=True)
class Partial:
    """Why a table is not whole: the reason, and the guest-virtual address at which reading ended."""

    reason: str
    address: int

    def __str__(self) -> str:
        """Return both as text."""
        return f"{self.reason} (at {self.address:#x})"


class Table(list[Row], Shown):
    """A list of rows that prints as a table. Its text ends with "partial: ..." if the guest's memory was not sound.

    ``partial`` is None, or the first of ``problems``: why rows or fields are missing, and where.
    """

    COLUMNS: ClassVar[dict[str, str]] = {}
    """The attributes of a row that are shown and exported: "" as text, "x" in hexadecimal, ">" to the right."""

    EXPORTED: ClassVar[tuple[str, ...]] = ()
    """The attributes that go into dataframes, where they are not those that are shown."""

    TITLE: ClassVar[str] = "row"

    def __init__(self, rows: Iterable[Row] = (), problems: Iterable[Partial] = ()) -> None:
        """Take rows, and what went wrong with others."""
        super().__init__(rows)
        self.problems = tuple(problems)

    @property
    def partial(self) -> Partial | None:
        """None for a whole table, else why it is not: see ``problems`` for all reasons."""
        return self.problems[0] if self.problems else None

    @overload
    def __getitem__(self, index: SupportsIndex) -> Row: ...
    @overload
    def __getitem__(self: Self_, index: slice) -> Self_: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        """Return a row, or a part of the table."""
        if isinstance(index, slice):
            return type(self)(super().__getitem__(index), self.problems)
        return super().__getitem__(index)

    def where(self, test: Callable[[Row], object]) -> Self:
        """Return the rows for which ``test`` holds, as such a table: ``tasks().where(lambda task: task.ppid == 1)``."""
        return type(self)((row for row in self if test(row)), self.problems)

    def cells(self, row: Row) -> list[str]:
        """Return what is shown of a row."""
        return [_shown(getattr(row, name), how) for name, how in self.COLUMNS.items()]

    def __repr__(self) -> str:
        """Return the rows as lines under a heading."""
        rows = [list(self.COLUMNS), *map(self.cells, self)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.COLUMNS))]
        hows = list(self.COLUMNS.values())
        lines = [
            "  ".join(c.rjust(w) if how else c.ljust(w) for c, w, how in zip(row, widths, hows, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, *(f"partial: {self.partial}" for _ in self.problems[:1])])

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows as dicts of plain values, as dataframes take them."""
        return [{name: _plain(getattr(row, name)) for name in self._exported()} for row in self]

    def _exported(self) -> list[str]:
        return list(self.EXPORTED or self.COLUMNS)

    def to_polars(self) -> pl.DataFrame:
        """Return it as a polars DataFrame. ModuleNotFoundError where polars is not installed: pip install polars."""
        import polars as pl

        wide = {name: pl.UInt64 for name, how in self.COLUMNS.items() if how == "x"}
        return pl.DataFrame(self.rows(), schema=self._exported(), schema_overrides=wide, infer_schema_length=None)

    def to_pandas(self) -> pd.DataFrame:
        """Return it as a pandas DataFrame. ModuleNotFoundError where pandas is not installed: pip install pandas."""
        import pandas as pd

        wide = {name: "UInt64" for name, how in self.COLUMNS.items() if how == "x"}
        return pd.DataFrame(self.rows(), columns=self._exported(), dtype=object).infer_objects().astype(wide)


def _shown(value: object, how: str) -> str:
    if value is None:
        return "-"
    if how == "x" and isinstance(value, int):
        return f"{value:#x}"
    if isinstance(value, float):
        return f"{value:.3f}"
    text = value if isinstance(value, str) else ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= WIDEST else text[: WIDEST - 3] + "..."


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
