"""Traces: exits that are recorded natively, and read as numpy arrays. They never run Python for an event."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt

from belljar._belljar import VM, ArrowBatch, Exit, Expression, Recorder, Watchpoint
from belljar.coverage import Coverage

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-not-found,import-untyped,unused-ignore]
    import polars as pl  # type: ignore[import-not-found,unused-ignore]
    import pyarrow as pa  # type: ignore[import-not-found,import-untyped,unused-ignore]

T = TypeVar("T")
Records: TypeAlias = npt.NDArray[np.void]
TraceField: TypeAlias = "str | Expression | tuple[str, Expression]"

ALWAYS = ("time", "vcpu", "kind")
BY_SUBJECT = {
    "port": ("port", "size", "data"),
    "mmio": ("address", "size", "data"),
    "msr": ("index", "data"),
    "exits": (),
    "breakpoint": ("id", "address"),
    "watch": ("id", "address", "size", "write", "before", "after", "rip"),
    "step": ("source", "size", "address"),
}
PLAIN = ("reg.", "exit.")


class Trace:
    """What ``vm.trace`` returns: a source of records, as numpy structured arrays of unsigned 64-bit fields.

    One reader at a time, on any thread, also while the guest runs. ``dtype`` names the fields. Arrays stay valid when
    the trace is removed and when the VM is closed. ``with`` removes the trace at the end, and so does forgetting it.

    What takes Arrow takes a trace as it is, and with it the records that wait: ``pyarrow.table(trace)``,
    ``polars.DataFrame(trace)``, ``duckdb.sql("select ... from trace")``. There, "kind" is a word, and what an exit has
    not is null.
    """

    KINDS: tuple[str, ...] = tuple(Recorder.kinds())
    """The names of the classes of exits, by the number in the field "kind": ``Trace.KINDS[record["kind"]]``."""

    def __init__(self, recorder: Recorder, names: Sequence[str], wake: int, every: float | None) -> None:
        """Hold the native part; made by ``vm.trace``."""
        self._recorder = recorder
        self.dtype: np.dtype[np.void] = np.dtype([(name, "<u8") for name in names])
        self._names = list(names)
        in_ring: Any = {"names": self._names, "formats": ["<u8"] * len(names), "itemsize": 8 * recorder.width}
        self._in_ring: np.dtype[np.void] = np.dtype(in_ring)
        self._alarm = (wake, every)
        self._owned: list[Any] = []
        self._steps: str | None = None
        self._is_all, self._covered = True, 0
        self._begun: set[int] = set()

    @classmethod
    def _of(  # noqa: PLR0917 - called by native code
        cls,
        vm: VM,
        subjects: tuple[Any, Any, Any, type[Exit] | tuple[type[Exit], ...] | None],
        debugged: tuple[Any, Any, bool, bool],
        access: Literal["r", "w", "rw"],
        fields: Sequence[TraceField] | None,
        when: Expression | None,
        capacity: int,
        policy: Literal["stop", "drop", "spill"],
        spill: str | PathLike[str] | None,
        alarm: tuple[int, float | None],
    ) -> Trace:
        """Make a trace: ``vm.trace`` does."""
        (port, mmio, msr, exits), (breakpoint_, watch, step, branch) = subjects, debugged
        named_subjects = (port, mmio, msr, exits, breakpoint_, watch, (step or branch) or None)
        given = [name for name, one in zip(BY_SUBJECT, named_subjects, strict=True) if one is not None]
        if not given:
            raise ValueError(
                "nothing to trace: give port=, mmio=, msr=, breakpoint=, watch=, step=, branch= or exits= "
                "(bj.Exit is every exit)"
            )
        if exits is not None and len(given) > 1:
            raise ValueError("exits= is for whole classes, also of ports, addresses and MSRs: give it alone")
        if capacity < 1:
            raise ValueError(f"a capacity of {capacity} records; at least 1")
        kinds = None if exits is None else list(dict.fromkeys(exits if isinstance(exits, tuple) else (exits,)))
        if kinds and Exit in kinds:
            kinds = [Exit]
        names, columns = _columns(fields if fields is not None else _usual(given))
        owned, points = _watched(vm, watch)
        try:
            points += _several(breakpoint_)
            steps = "branch" if branch else "step" if step else None
            path = None if spill is None else fspath(spill)
            recorder = Recorder(
                vm, port, mmio, msr, kinds, points, steps, access, columns, when, capacity, policy, path
            )
        except BaseException:
            for one in owned:
                one.remove()
            raise
        made = cls(recorder, names, *alarm)
        made._owned, made._steps, made._is_all = owned, steps, when is None
        return made

    def __del__(self) -> None:
        """Take away what was planted for the trace alone."""
        with suppress(Exception):
            for one in self._owned:
                one.remove()

    def __enter__(self) -> Self:
        """Return the trace."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Remove the trace."""
        self.remove()

    def __len__(self) -> int:
        """How many records wait to be read."""
        return self._recorder.waiting

    def __bool__(self) -> bool:
        """A trace is true, also an empty one."""
        return True

    @property
    def hits(self) -> int:
        """How many records have been made; kept when the trace has been removed."""
        return self._recorder.hits

    @property
    def dropped(self) -> int:
        """How many records were lost, with policy="drop" (or "spill", where the file could not be written)."""
        return self._recorder.dropped

    @property
    def spilled(self) -> int:
        """How many records went to the file, with policy="spill"."""
        return self._recorder.spilled

    @property
    def enabled(self) -> bool:
        """Does it record? Setting it takes effect before the next exit."""
        return self._recorder.enabled

    @enabled.setter
    def enabled(self, yes: bool) -> None:
        self._recorder.enabled = yes

    def remove(self) -> None:
        """Record no more, from the next exit on. What has been recorded can still be read."""
        self._recorder.remove()
        owned, self._owned = self._owned, []
        for one in owned:
            one.remove()

    def flush(self) -> None:
        """Have what was spilled reach its file, whose records ``np.fromfile(path, trace.dtype)`` reads."""
        self._recorder.flush()

    def read(self, most: int | None = None, timeout: float | None = None) -> Records:
        """Return the records that wait, at most ``most`` of them, as an array of their own; the oldest first.

        Of several vCPUs, they are in the order of their field "time" (without one: vCPU by vCPU). If none waits, it
        waits for the first one for ``timeout`` seconds, or returns an empty array (the default).
        """
        if timeout is not None:
            self._recorder.wait(1, timeout)
        return np.frombuffer(self._recorder.read(_most(most), len(self._names)), self.dtype)

    def wait(self, count: int = 1, timeout: float | None = None) -> bool:
        """Wait until ``count`` records wait; False after ``timeout`` seconds, or when the trace has been removed.

        No more than the capacity can ever wait: ask for less.
        """
        return self._recorder.wait(count, timeout)

    def take(self, most: int | None = None) -> Records | None:
        """Return records of one vCPU as they lie in the ring: read-only, without a copy; None if none waits.

        The guest cannot use their room until the array, and all that was made from it without a copy, is gone. Where an
        exit may lack one of the fields, each record is a word longer than ``dtype`` says: which of them it has.
        """
        batch = self._recorder.take(_most(most))
        return None if batch is None else np.frombuffer(cast("memoryview[int]", batch), self._in_ring)

    def batches(self, count: int = 4096, timeout: float | None = 0.1, *, follow: bool = False) -> Iterator[Records]:
        """Iterate over what is recorded, as take() returns it: arrays of up to ``count`` records.

        One comes when ``count`` records wait, or after ``timeout`` seconds with what there is. It ends when the guest
        is at rest and nothing is left; with ``follow=True`` only when the trace is removed or the VM closed. A vCPU
        whose ring is full waits for the loop, if that runs on another thread: keep what you compute, not the arrays.
        """
        return self._until_rest(self.take, count, timeout, follow)

    def arrow_batches(
        self, count: int = 65536, timeout: float | None = 0.1, *, follow: bool = False
    ) -> Iterator[ArrowBatch]:
        """Iterate over what is recorded, as batches() does, but as Arrow columns: copies, of all vCPUs by time.

        Each is taken by ``polars.DataFrame(batch)``, ``pyarrow.record_batch(batch)`` and their like.
        """

        def take(most: int) -> ArrowBatch | None:
            return self._recorder.arrow_batch(self._names, most)

        return self._until_rest(take, count, timeout, follow)

    def _until_rest(
        self, take: Callable[[int], T | None], count: int, timeout: float | None, follow: bool
    ) -> Iterator[T]:
        """Iterate over what ``take`` has, until the guest is at rest or (``follow``) no more can come."""
        recorder, most = self._recorder, _most(count)
        recorder.staying(True)
        try:
            while True:
                is_over = (
                    recorder.is_removed if follow else recorder.is_at_rest
                )  # first: what came before is seen below
                if not is_over:
                    recorder.wait(count, timeout)
                found = [take(most)]
                if is_over and found[0] is None:
                    return
                while found[0] is not None:
                    yield found.pop()  # type: ignore[misc]  # nothing here holds the array meanwhile
                    found.append(take(most))
        finally:
            recorder.staying(False)

    def __arrow_c_schema__(self) -> object:
        """Return the schema, for what takes Arrow."""
        return self._recorder.arrow_schema(self._names)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the records that wait, for what takes Arrow: those that are then read are taken from the trace.

        ``requested_schema`` is a wish, which is not granted.
        """
        return self._recorder.arrow_stream(self._names, _most(None))

    def fileno(self) -> int:
        """Return a descriptor for select, poll and asyncio's add_reader: readable as ``wake`` and ``every`` say.

        Reading the trace, even if nothing waits, has it be silent again.
        """
        return self._recorder.fileno(*self._alarm)

    def to_arrow(self, most: int | None = None) -> pa.Table:
        """Read as a pyarrow Table. ModuleNotFoundError where pyarrow is not installed: pip install pyarrow."""
        import pyarrow as pa

        return pa.table(_Waiting(self, most))

    def to_polars(self, most: int | None = None) -> pl.DataFrame:
        """Read as a polars DataFrame. ModuleNotFoundError where polars is not installed: pip install polars."""
        import polars as pl

        return pl.DataFrame(_Waiting(self, most))

    def to_pandas(self, most: int | None = None) -> pd.DataFrame:
        """Read as a pandas DataFrame. ModuleNotFoundError where pandas is not installed: pip install pandas.

        "kind" is categorical, and a column that an exit may lack has the type UInt64, which knows missing values.
        """
        import pandas as pd

        raw: Records = np.frombuffer(self._recorder.read(_most(most), self._recorder.width), self._in_ring)
        return pd.DataFrame({name: self._pandas_column(raw, n) for n, name in enumerate(self._names)})

    def _pandas_column(self, raw: Records, number: int) -> Any:
        """Return a column of records, with the word of what they have."""
        import pandas as pd

        values = np.ascontiguousarray(raw[self._names[number]])
        if self._recorder.is_kind(number):
            return pd.Categorical.from_codes(values.astype("i8"), list(self.KINDS))  # type: ignore[arg-type,unused-ignore]
        if self._recorder.is_sure(number):
            return values
        record: Any = ("<u8", (self._recorder.width,))
        words: npt.NDArray[np.uint64] = raw.view(np.dtype(record))
        is_missing = words[:, -1] >> np.uint64(number) & np.uint64(1) == 0
        return pd.arrays.IntegerArray(values, is_missing)

    def coverage(self, into: Coverage | None = None) -> Coverage:
        """Read as code that has been executed, of a trace with ``step=True`` or ``branch=True``; added to ``into``.

        ValueError for any other trace, and for one without the fields "source" and "size" (of branches, "address").
        """
        if self._steps is None:
            raise ValueError("coverage is of a trace of steps or branches: vm.trace(branch=True)")
        needed = ["source", "size"] + ["address"] * (self._steps == "branch")
        if missing := [name for name in needed if name not in self._names]:
            raise ValueError(f"coverage needs the fields {', '.join(needed)}; this trace has no {', '.join(missing)}")
        found = Coverage() if into is None else into
        if self._steps == "branch":
            self._cover_branches(found)
        else:
            found.add_steps(self.read())
        return found

    def _cover_branches(self, found: Coverage) -> None:
        """Add branches, and what was executed before the first and behind the last of them, where that is certain."""
        recorder, vcpus = self._recorder, "vcpu" in self._names or len(self._recorder.trails()) == 1
        is_whole = vcpus and self._is_all and recorder.hits - recorder.waiting == self._covered
        records = self.read()
        self._covered += len(records)
        trails = {vcpu: trail for vcpu, trail in enumerate(recorder.trails()) if trail is not None and is_whole}
        began = {vcpu: first for vcpu, (first, _) in trails.items() if vcpu not in self._begun}
        found.add_branches(records, began)
        if recorder.hits != self._covered:  # it runs, and may have gone elsewhere
            trails = {}
        branched = set(records["vcpu"].tolist()) if "vcpu" in self._names else {0} if len(records) else set()
        for vcpu, (_, now) in trails.items():
            found.add_straight(vcpu, now, None if vcpu in branched else began.get(vcpu))
        self._begun |= set(trails) | branched

    def __repr__(self) -> str:
        """Show the fields and how much waits."""
        state = " removed," if self._recorder.is_removed else ""
        lost = f", {self.dropped} dropped" if self.dropped else ""
        return f"<Trace of {', '.join(self.dtype.names or ())}:{state} {len(self)} of {self.hits} records wait{lost}>"


class _Waiting:
    """Some of the records that wait, for what takes Arrow."""

    def __init__(self, trace: Trace, most: int | None) -> None:
        self.trace, self.most = trace, _most(most)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.trace._recorder.arrow_stream(self.trace._names, self.most)  # noqa: SLF001 - a part of it


def _most(most: int | None) -> int:
    if most is None:
        return (1 << 64) - 1
    if most < 1:
        raise ValueError(f"at most {most} records asked; None is for all, and 1 is the least")
    return most


def _usual(given: Sequence[str]) -> list[str]:
    """Return the fields that are recorded where none are chosen."""
    return list(dict.fromkeys([*ALWAYS, *(name for subject in given for name in BY_SUBJECT[subject])]))


def _columns(chosen: Sequence[TraceField]) -> tuple[list[str], list[str | Expression]]:
    """Return the names of fields, and what they are of."""
    named = [_named(field) for field in chosen]
    names = [name for name, _ in named]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f'two fields are named {", ".join(sorted(twice))}: name one of them as ("name", expression)')
    return names, [column for _, column in named]


def _several(points: Any) -> list[Any]:
    """Return one or several as a list."""
    if points is None:
        return []
    return list(points) if isinstance(points, Sequence) and not isinstance(points, str) else [points]


def _watched(vm: VM, watch: Any) -> tuple[list[Watchpoint], list[Watchpoint]]:
    """Return watchpoints made for a trace alone, and all that it is of."""
    made: list[Watchpoint] = []
    found: list[Watchpoint] = []
    for one in _several(watch) if not _is_range(watch) else [watch]:
        if isinstance(one, Watchpoint):
            found.append(one)
        else:
            made.append(vm.on_watch(*(one if isinstance(one, tuple) else (one,))))  # without a function, a hit goes on
    return made, found + made


def _is_range(watch: Any) -> bool:
    """Is it one address with its size, and not several?"""
    return isinstance(watch, tuple) and len(watch) == 2 and all(isinstance(part, int) for part in watch)


def _named(field: Any) -> tuple[str, str | Expression]:
    """Return the name of a field, and what it is of."""
    match field:
        case str():
            return field, field
        case Expression():
            text = repr(field)
            plain = next((text.removeprefix(prefix) for prefix in PLAIN if text.startswith(prefix)), "")
            return (plain if plain.isidentifier() else text), field
        case (str() as name, Expression() as expression):
            return name, expression
    raise TypeError(f'a field is a name, an expression or ("name", expression), not {field!r}')
