"""What a machine has done: exits by class, and where the time went. Values only; they never look at a machine."""

from __future__ import annotations

from dataclasses import dataclass, field

from belljar.shown import Shown


@dataclass(frozen=True)
class Stats(Shown):
    """What one vCPU, or all of a VM, have done up to one moment; ``b - a`` is what happened in between.

    ``exits`` counts by the class that ``run()`` returns and ``on_exit`` takes. ``guest``, ``native`` and ``handlers``
    are seconds: in KVM_RUN (the kernel's part of an exit included), in belljar's own code, and in Python handlers
    (waiting for the interpreter included). ``repairs`` counts instructions executed in place of a KVM that cannot.
    Times add up over vCPUs; they are measured by the time-stamp counter, ``native`` at one exit in sixteen once a run
    has made as many.
    """

    exits: dict[str, int] = field(default_factory=dict)
    guest: float = 0.0
    native: float = 0.0
    handlers: float = 0.0
    repairs: int = 0

    @property
    def total(self) -> int:
        """How many exits there were."""
        return sum(self.exits.values())

    def __sub__(self, other: Stats) -> Stats:
        """Return what happened between ``other`` and this."""
        if not isinstance(other, Stats):
            return NotImplemented
        counts = {name: count - other.exits.get(name, 0) for name, count in self.exits.items()}
        return Stats(
            {name: count for name, count in counts.items() if count},
            _seconds(self.guest - other.guest),
            _seconds(self.native - other.native),
            _seconds(self.handlers - other.handlers),
            self.repairs - other.repairs,
        )

    def __str__(self) -> str:
        """Show a table: times first, then exits, the most frequent first."""
        spent = self.guest + self.native + self.handlers
        rows = [("guest", self.guest), ("native", self.native), ("handlers", self.handlers)]
        lines = [f"{name:<10}{seconds:>12.6f} s{_share(seconds, spent):>8}" for name, seconds in rows]
        lines += [f"{'repairs':<10}{self.repairs:>12}"] if self.repairs else []
        most = sorted(self.exits.items(), key=lambda item: -item[1])
        return "\n".join([*lines, f"{'exits':<10}{self.total:>12}", *(f"  {name:<16}{n:>12}" for name, n in most)])


def _seconds(difference: float) -> float:
    """Return it without what floats add to whole nanoseconds."""
    return round(difference, 9)


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "-"
