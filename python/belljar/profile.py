"""Where a machine's time went, handler by handler. Values only, of public attributes; they never run a guest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from belljar.shown import Shown
from belljar.stats import Stats

if TYPE_CHECKING:
    from belljar._belljar import VM, Handle


@dataclass(frozen=True)
class HandlerTime:
    """One handler: what it is for, its function's name, how often it was called, and the seconds that took."""

    subject: str
    name: str
    hits: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Profile(Shown):
    """Where the time went up to one moment: ``stats``, and ``handlers`` in the order in which they were registered.

    ``vm.profile() - before`` is what happened since ``before``; handlers that have been removed since are not in it.
    """

    stats: Stats = field(default_factory=Stats)
    handlers: tuple[HandlerTime, ...] = ()

    @classmethod
    def of(cls, vm: VM) -> Profile:
        """Take the profile of ``vm``: what ``vm.profile()`` does."""
        return cls(vm.stats, tuple(_time(handle) for handle in vm.handlers))

    def __sub__(self, other: Profile) -> Profile:
        """Return what happened between ``other`` and this."""
        if not isinstance(other, Profile):
            return NotImplemented
        before = dict(zip(_keys(other.handlers), other.handlers, strict=True))
        parts = []
        for key, now in zip(_keys(self.handlers), self.handlers, strict=True):
            then = before.get(key, HandlerTime(now.subject, now.name))
            seconds = max(0.0, round(now.seconds - then.seconds, 9))
            parts.append(HandlerTime(now.subject, now.name, now.hits - then.hits, seconds))
        return Profile(self.stats - other.stats, tuple(parts))

    def __str__(self) -> str:
        """Show the times, then handlers, the most expensive first."""
        most = sorted(self.handlers, key=lambda one: -one.seconds)
        rows = [f"  {one.seconds:>11.6f} s {one.hits:>10} x  {one.subject}: {one.name}" for one in most]
        return "\n".join([str(self.stats), *(["by handler", *rows] if rows else [])])


def _keys(handlers: tuple[HandlerTime, ...]) -> list[tuple[str, str, int]]:
    """Tell handlers of one name apart by their order."""
    seen: dict[tuple[str, str], int] = {}
    keys = []
    for one in handlers:
        place = seen[one.subject, one.name] = seen.get((one.subject, one.name), -1) + 1
        keys.append((one.subject, one.name, place))
    return keys


def _time(handle: Handle) -> HandlerTime:
    where = handle.range
    place = "" if where is None else f" {where.start:#x}" + (f"..{where.stop:#x}" if len(where) > 1 else "")
    name = getattr(handle.function, "__qualname__", None) or repr(handle.function)
    return HandlerTime(handle.subject + place, str(name), handle.hits, handle.seconds)
