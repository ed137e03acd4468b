"""Traces: exits that are recorded natively, and read as numpy arrays. They never run Python for an event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from belljar._belljar import VM, Exit, Expression, Recorder

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-not-found,import-untyped,unused-ignore]
    import polars as pl  # type: ignore[import-not-found,unused-ignore]

Records: TypeAlias = npt.NDArray[np.void]
TraceField: TypeAlias = "str | Expression | tuple[str, Expression]"

ALWAYS = ("time", "vcpu", "kind")
BY_SUBJECT = {
    "port": ("port", "size", "data"),
    "mmio": ("address", "size", "data"),
    "msr": ("index", "data"),
    "exits": (),
}
PLAIN = ("reg.", "exit.")


class Trace:
    """What ``vm.trace`` returns: a source of records, as numpy structured arrays of unsigned 64-bit fields.

    One reader at a time, on any thread, also while the guest runs. ``dtype`` names the fields. Arrays stay valid when
    the trace is removed and when the VM is closed. ``with`` removes the trace at the end, and so does forgetting it.
    """

    KINDS: tuple[str, ...] = tuple(Recorder.kinds())
    """The names of the classes of exits, by the number in the field "kind": ``Trace.KINDS[record["kind"]]``."""

    def __init__(self, recorder: Recorder, names: Sequence[str], wake: int, every: float | None) -> None:
        """Hold the native part; made by ``vm.trace``."""
        self._recorder = recorder
        self.dtype: np.dtype[np.void] = np.dtype([(name, "<u8") for name in names])
        self._alarm = (wake, every)

    @classmethod
    def _of(  # noqa: PLR0917 - called by native code
        cls,
        vm: VM,
        port: int | range | None,
        mmio: int | range | None,
        msr: str | int | range | None,
        exits: type[Exit] | tuple[type[Exit], ...] | None,
        access: Literal["r", "w", "rw"],
        fields: Sequence[TraceField] | None,
        when: Expression | None,
        capacity: int,
        policy: Literal["stop", "drop", "spill"],
        spill: str | PathLike[str] | None,
        wake: int,
        every: float | None,
    ) -> Trace:
        """Make a trace: ``vm.trace`` does."""
        subjects = {"port": port, "mmio": mmio, "msr": msr, "exits": exits}
        given = [name for name, subject in subjects.items() if subject is not None]
        if not given:
            raise ValueError("nothing to trace: give port=, mmio=, msr= or exits= (bj.Exit is every exit)")
        if exits is not None and len(given) > 1:
            raise ValueError("exits= is for whole classes, also of ports, addresses and MSRs: give it alone")
        if capacity < 1:
            raise ValueError(f"a capacity of {capacity} records; at least 1")
        kinds = None if exits is None else list(dict.fromkeys(exits if isinstance(exits, tuple) else (exits,)))
        if kinds and Exit in kinds:
            kinds = [Exit]
        chosen = fields if fields is not None else _usual(given)
        named = [_named(field) for field in chosen]
        names = [name for name, _ in named]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(
                f'two fields are named {", ".join(sorted(twice))}: name one of them as ("name", expression)'
            )
        path = None if spill is None else fspath(spill)
        columns = [column for _, column in named]
        recorder = Recorder(vm, port, mmio, msr, kinds, access, columns, when, capacity, policy, path)
        return cls(recorder, names, wake, every)

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
        return np.frombuffer(self._recorder.read(_most(most)), self.dtype)

    def wait(self, count: int = 1, timeout: float | None = None) -> bool:
        """Wait until ``count`` records wait; False after ``timeout`` seconds, or when the trace has been removed.

        No more than the capacity can ever wait: ask for less.
        """
        return self._recorder.wait(count, timeout)

    def take(self, most: int | None = None) -> Records | None:
        """Return records of one vCPU as they lie in the ring: read-only, without a copy; None if none waits.

        The guest cannot use their room until the array, and all that was made from it without a copy, is gone.
        """
        batch = self._recorder.take(_most(most))
        return None if batch is None else np.frombuffer(cast("memoryview[int]", batch), self.dtype)

    def batches(self, count: int = 4096, timeout: float | None = 0.1, *, follow: bool = False) -> Iterator[Records]:
        """Iterate over what is recorded, as take() returns it: arrays of up to ``count`` records.

        One comes when ``count`` records wait, or after ``timeout`` seconds with what there is. It ends when the guest
        is at rest and nothing is left; with ``follow=True`` only when the trace is removed or the VM closed. A vCPU
        whose ring is full waits for the loop, if that runs on another thread: keep what you compute, not the arrays.
        """
        recorder = self._recorder
        recorder.staying(True)
        try:
            while True:
                is_over = (
                    recorder.is_removed if follow else recorder.is_at_rest
                )  # first: what came before is seen below
                if not is_over:
                    recorder.wait(count, timeout)
                found = [self.take(count)]
                if is_over and found[0] is None:
                    return
                while found[0] is not None:
                    yield found.pop()  # type: ignore[misc]  # nothing here holds the array meanwhile
                    found.append(self.take(count))
        finally:
            recorder.staying(False)

    def fileno(self) -> int:
        """Return a descriptor for select, poll and asyncio's add_reader: readable as ``wake`` and ``every`` say.

        Reading the trace, even if nothing waits, has it be silent again.
        """
        return self._recorder.fileno(*self._alarm)

    def to_polars(self, most: int | None = None) -> pl.DataFrame:
        """Read as a polars DataFrame. ModuleNotFoundError where polars is not installed."""
        import polars as pl

        records = self.read(most)
        return pl.DataFrame({name: np.ascontiguousarray(records[name]) for name in self.dtype.names or ()})

    def to_pandas(self, most: int | None = None) -> pd.DataFrame:
        """Read as a pandas DataFrame. ModuleNotFoundError where pandas is not installed."""
        import pandas as pd

        return pd.DataFrame(self.read(most))

    def __repr__(self) -> str:
        """Show the fields and how much waits."""
        state = " removed," if self._recorder.is_removed else ""
        lost = f", {self.dropped} dropped" if self.dropped else ""
        return f"<Trace of {', '.join(self.dtype.names or ())}:{state} {len(self)} of {self.hits} records wait{lost}>"


def _most(most: int | None) -> int:
    if most is None:
        return (1 << 64) - 1
    if most < 1:
        raise ValueError(f"at most {most} records asked; None is for all, and 1 is the least")
    return most


def _usual(given: Sequence[str]) -> list[str]:
    """Return the fields that are recorded where none are chosen."""
    return list(dict.fromkeys([*ALWAYS, *(name for subject in given for name in BY_SUBJECT[subject])]))


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
