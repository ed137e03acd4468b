"""What readers return: rows that print as a table, know whether they are all, and go to polars or pandas."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, NewType, Self, SupportsIndex, TypeAlias, TypeVar, get_args, overload

from belljar.shown import Shown

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-not-found,import-untyped,unused-ignore]
    import polars as pl  # type: ignore[import-not-found,unused-ignore]
    import pyarrow as pa  # type: ignore[import-not-found,import-untyped,unused-ignore]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    KernelAddress: TypeAlias = int
else:
    KernelAddress = NewType("KernelAddress", int)  # an int would be 63 bits to polars.DataFrame(table)

Line = TypeVar("Line")
Self_ = TypeVar("Self_", bound="Table[Any]")

WIDEST = 60
WIDE = "unsigned"
"""The kind of a column of addresses: 64 bits without a sign."""
TELLING = ("name", "path", "target", "local", "text")
HEXADECIMAL = frozenset(("address", "start", "end", "offset", "base", "size", "flags"))


@dataclass(frozen=True)
class Partial:
    """Why a table is not whole: the reason, and the guest-virtual address at which reading ended."""

    reason: str
    address: int

    def __str__(self) -> str:
        """Return both as text."""
        return f"{self.reason} (at {self.address:#x})"


class Row(Shown):
    """A row of a table, which shows what are addresses, sizes of memory and flags in hexadecimal."""

    def __repr__(self) -> str:
        """Name each field."""
        shown = ((f.name, getattr(self, f.name)) for f in fields(self) if f.repr)  # type: ignore[arg-type]  # rows are
        return f"{type(self).__name__}({', '.join(f'{name}={_hexed(name, value)}' for name, value in shown)})"


class Table(list[Line], Shown):
    """A list of rows that prints as a table. Its text ends with "partial: ..." if the guest's memory was not sound.

    ``partial`` is None, or the first of ``problems``: why rows or fields are missing, and where.
    """

    COLUMNS: ClassVar[dict[str, str]] = {}
    """The attributes of a row that are shown and exported: "" as text, "x" in hexadecimal, ">" to the right."""

    EXPORTED: ClassVar[tuple[str, ...]] = ()
    """The attributes that go into dataframes, where they are not those that are shown."""

    TITLE: ClassVar[str] = "row"

    NAMED: ClassVar[str] = ""
    """The attribute by which one row is found, where no two have the same: ``table["name"]``."""

    def __init__(self, rows: Iterable[Line] = (), problems: Iterable[Partial] = ()) -> None:
        """Take rows, and what went wrong with others."""
        super().__init__(rows)
        self.problems = tuple(problems)

    @property
    def partial(self) -> Partial | None:
        """None for a whole table, else why it is not: see ``problems`` for all reasons."""
        return self.problems[0] if self.problems else None

    @overload
    def __getitem__(self, index: SupportsIndex | str) -> Line: ...
    @overload
    def __getitem__(self: Self_, index: slice) -> Self_: ...
    def __getitem__(self, index: SupportsIndex | str | slice) -> Any:
        """Return a row by its position (or its name, where rows have one of their own), or a part of the table."""
        if isinstance(index, str):
            return self._named(index)
        if isinstance(index, slice):
            return type(self)(super().__getitem__(index), self.problems)
        return super().__getitem__(index)

    def _named(self, name: str) -> Line:
        if not self.NAMED:
            texts = [column for column, how in self.COLUMNS.items() if not how]
            like = next((column for column in texts if column in TELLING), texts[0])
            raise TypeError(
                f"rows of {self.TITLE}s are counted, and have no names of their own: "
                f"table.where(lambda row: row.{like} == {name!r}) has those that fit"
            )
        names = {str(getattr(row, self.NAMED)): row for row in self}
        if name in names:
            return names[name]
        close = difflib.get_close_matches(name, names, 5, 0.5) or sorted(one for one in names if name in one)[:5]
        raise KeyError(f"no {self.TITLE} {name!r}" + (f"; did you mean {', '.join(close)}?" if close else ""))

    def where(self, test: Callable[[Line], object]) -> Self:
        """Return the rows for which ``test`` holds, as such a table: ``tasks().where(lambda task: task.ppid == 1)``."""
        return type(self)((row for row in self if test(row)), self.problems)

    def cells(self, row: Line) -> list[str]:
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

        kinds: dict[str, Any] = {"int": pl.Int64, "float": pl.Float64, "str": pl.String, "bool": pl.Boolean}
        kinds |= {f"tuple[{kind}, ...]": pl.List(inner) for kind, inner in kinds.items()} | {WIDE: pl.UInt64}
        return pl.DataFrame([pl.Series(n, values, kinds.get(kind)) for n, (kind, values) in self._columns().items()])

    def to_arrow(self) -> pa.Table:
        """Return it as a pyarrow Table. ModuleNotFoundError where pyarrow is not installed: pip install pyarrow."""
        import pyarrow as pa

        kinds: dict[str, Any] = {"int": pa.int64(), "float": pa.float64(), "str": pa.string(), "bool": pa.bool_()}
        kinds |= {f"tuple[{kind}, ...]": pa.list_(inner) for kind, inner in kinds.items()} | {WIDE: pa.uint64()}
        return pa.table({name: pa.array(values, kinds.get(kind)) for name, (kind, values) in self._columns().items()})

    def _columns(self) -> dict[str, tuple[str, list[Any]]]:
        """Return each column: what it is of, and its values. A number that a guest has forged may be None."""
        found: dict[str, tuple[str, list[Any]]] = {}
        for name, kind in self._kinds().items():
            values: list[Any] = [_plain(getattr(row, name)) for row in self]
            if kind == "int" and any(v is not None and not -1 << 63 <= v < 1 << 63 for v in values):
                kind = WIDE  # noqa: PLW2901 # of this column alone
            if kind == WIDE:
                values = [v if v is not None and 0 <= v < 1 << 64 else None for v in values]
            found[name] = kind, values
        return found

    def _kinds(self) -> dict[str, str]:
        """Return the types of columns by their names, as they are written: also for a table that has no rows."""
        row = next((a for base in type(self).__orig_bases__ for a in get_args(base)), None)  # type: ignore[attr-defined]
        hints = {**getattr(row, "__annotations__", {})}
        for name in self._exported():
            getter = getattr(getattr(row, name, None), "fget", None)
            hints[name] = hints.get(name, getattr(getter, "__annotations__", {}).get("return", ""))
        kinds = {name: str(hints[name]).removesuffix(" | None") for name in self._exported()}
        return kinds | {name: WIDE for name, how in self.COLUMNS.items() if how == "x" and name in kinds}

    def to_pandas(self) -> pd.DataFrame:
        """Return it as a pandas DataFrame. ModuleNotFoundError where pandas is not installed: pip install pandas."""
        import pandas as pd

        columns = self._columns()
        wide = {name: "UInt64" for name, (kind, _) in columns.items() if kind == WIDE}
        table = pd.DataFrame({name: values for name, (_, values) in columns.items()}, dtype=object)
        return table.infer_objects().astype(wide)


def _hexed(name: str, value: object) -> str:
    return f"{value:#x}" if name in HEXADECIMAL and isinstance(value, int) else repr(value)


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
