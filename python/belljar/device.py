"""Devices written in Python: what a device declares, answers and keeps.

Connecting one to a machine is attachment.py's; named registers are register_device.py's. It never sees an address.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

from belljar._belljar import Action, MmioRead, MmioWrite, PortIn, PortOut
from belljar.shown import Shown
from belljar.wire import Wire

if TYPE_CHECKING:
    from belljar._belljar import VM, Handle

Place: TypeAlias = "int | range | Mapping[str, int | range]"
"""Where a device is: a first number, a range, or several of these by name."""

Answer: TypeAlias = "int | Action | None"
"""What a device may return for an access."""


class Wiring:
    """How one device is connected: the machine, the ranges, the handlers. attach() fills it; nobody else changes it."""

    def __init__(self, line: int | None) -> None:
        self.irq = Wire(line)
        self.lock = threading.RLock()
        self.vm: VM | None = None
        self.mode = ""
        self.ranges: tuple[Range, ...] = ()
        self.handles: dict[Range, tuple[Handle, Handle]] = {}
        self.current = threading.local()  # .exit, while an access is being answered


class Range:
    """One range of ports (`space` "port") or of guest-physical addresses ("mmio"), in the order first, length, name."""

    __slots__ = ("first", "length", "name", "space")

    def __init__(self, space: str, first: int, length: int, name: str = "") -> None:
        self.space, self.first, self.length, self.name = space, first, length, name

    @property
    def end(self) -> int:
        """The first number behind it."""
        return self.first + self.length

    def overlaps(self, other: Range) -> bool:
        """Do both have a number in common?"""
        return self.space == other.space and self.first < other.end and other.first < self.end

    def __repr__(self) -> str:
        one, several = ("port", "ports") if self.space == "port" else ("address", "addresses")
        where = f"{one} {self.first:#x}" if self.length == 1 else f"{several} {self.first:#x}..{self.end:#x}"
        return where + (f" ({self.name})" if self.name else "")


class Device(Shown):
    """A device written in Python: derive from it, say where it is, write ``read`` and ``write``, and ``vm.attach`` it.

    ``ports`` and ``mmio`` say where: ``range(0x3f8, 0x400)``, a single port, or several ranges by name:
    ``ports = {"data": 0x10, "control": range(0x20, 0x24)}``. An access goes to ``read_data``/``write_data`` if the
    device has such a method (``read_`` and the range's name), else to ``read_port`` or ``read_mmio``, else to ``read``.
    Offsets are in bytes from the beginning of that range; values are little-endian and unsigned.

    A device answers one access at a time, as on a bus: further vCPUs wait (on ``self.lock``, an RLock that code outside
    the device may take too; do not wait for the machine while holding it). ``concurrent = True`` turns that off.

    ``mode`` (or ``vm.attach(mode=...)``) says what becomes of native devices and handlers that are there already:

    * "instead": they see nothing. None from ``read`` reads as all ones.
    * "before": None from ``read`` or ``write`` passes the access on to them, anything else is the answer; bj.SKIP keeps
      a write from them. ``self.below`` asks them from inside ``read`` and ``write``.
    * "beside": they answer, and the device is told, by ``observe_read`` and ``observe_write``.

    The newest is asked first, so what is attached later, or registered by ``vm.on_port`` later, stands before a device.

    bj.STOP ends the run with this exit, bj.SKIP reads as all ones; what a method raises comes out of ``run()``.

    >>> import belljar as bj
    >>> class Dice(bj.Device):
    ...     ports = 0x10
    ...
    ...     def read(self, offset, size):
    ...         return 4  # chosen by fair dice roll
    >>> with bj.VM("1M") as vm:  # doctest: +SKIP
    ...     vm.attach(Dice())
    """

    ports: Place | None = None
    """Where its ports are."""

    mmio: Place | None = None
    """Where its guest-physical addresses are: nothing but this device may be there, above all no RAM."""

    bare_length: ClassVar[int] = 0
    """Bytes of a range that is given by its first number alone; 0 where that needs a range (ports: 1)."""

    width: int | None = None
    """Bytes of the only access that `read` and `write` know: wider ones are split, from the lowest address on, and
    narrower or unaligned ones read as all ones and are dropped. None: they get every access as the guest made it."""

    mode: str = "instead"
    """"instead", "before" or "beside" of what is there already."""

    concurrent: ClassVar[bool] = False
    """May several vCPUs be in `read` and `write` at once?"""

    _line: ClassVar[int | None] = None
    _wiring: Wiring

    if TYPE_CHECKING:
        irq: Any
    else:

        @property
        def irq(self) -> Wire:
            """Its interrupt line, a Wire. A class says ``irq = 5``, or ``vm.attach(irq=5)`` does."""
            return self.wiring.irq

        @irq.setter
        def irq(self, line: int | None) -> None:
            self.wiring.irq.line = line

    def __init_subclass__(cls, **options: Any) -> None:
        """Take `irq = 5` for the number of the line."""
        super().__init_subclass__(**options)
        if "irq" in cls.__dict__:
            cls._line = cls.__dict__["irq"]
            del cls.irq

    def __new__(cls, *_arguments: Any, **_options: Any) -> Self:
        """Make the wiring, whatever `__init__` a subclass writes."""
        self = super().__new__(cls)
        self._wiring = Wiring(cls._line)
        return self

    @property
    def wiring(self) -> Wiring:
        """How it is connected, which is vm.attach()'s business."""
        return self._wiring

    def read(self, offset: int, size: int) -> Answer:
        """Answer the guest's read of `size` bytes at `offset`. None (the default): see `mode`."""

    def write(self, offset: int, size: int, value: int) -> Answer:
        """Take the `size` bytes that the guest writes at `offset`. None (the default): see `mode`."""

    def observe_read(self, offset: int, size: int, value: int | None) -> Answer:
        """Beside another device: the guest has read `value` there. None where a handler behind stops the run."""

    def observe_write(self, offset: int, size: int, value: int) -> Answer:
        """Beside another device: the guest is about to write `value` there."""

    def reset(self) -> None:
        """Go back to the state after power-on. vm.attach() calls it."""

    def save(self) -> Any:
        """Return what a snapshot is to keep, as a value that can be pickled.

        By default: the attributes of the instance whose names do not begin with an underscore, copied, and the level
        of its interrupt line. A device that keeps other things overrides this together with `load`.
        """
        own = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return {"attributes": copy.deepcopy(own), "irq": self.wiring.irq.level}

    def load(self, state: Any) -> None:
        """Go back to what `save` returned."""
        if not isinstance(state, Mapping) or "attributes" not in state:
            raise TypeError(
                f"{type(self).__name__}.state is what a snapshot keeps, as save() returned it, not {state!r}; "
                "give an attribute of your own another name"
            )
        vars(self).update(copy.deepcopy(dict(state["attributes"])))
        self.wiring.irq.refresh(level=state["irq"])

    @property
    def state(self) -> Any:
        """What a snapshot keeps, see `save`; setting it is `load`."""
        with self.lock:
            return self.save()

    @state.setter
    def state(self, state: Any) -> None:
        with self.lock:
            self.load(state)

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Held while the device answers an access. Take it to see or change several things at once."""
        return self.wiring.lock

    @property
    def vm(self) -> VM:
        """The machine that it is attached to. ValueError if it is not."""
        if self.wiring.vm is None:
            raise ValueError(f"this {type(self).__name__} is not attached: vm.attach(device)")
        return self.wiring.vm

    @property
    def is_attached(self) -> bool:
        """Is it connected to a machine?"""
        vm = self.wiring.vm
        return vm is not None and vm.state != "closed"

    @property
    def exit(self) -> PortIn | PortOut | MmioRead | MmioWrite | None:
        """The access that this thread is answering, with its vCPU; None outside `read` and `write`."""
        found: PortIn | PortOut | MmioRead | MmioWrite | None = getattr(self.wiring.current, "exit", None)
        return found

    @property
    def below(self) -> Below:
        """What is behind the device in its place: older handlers and devices, and the native one."""
        return Below(self)

    def __repr__(self) -> str:
        wiring = self.wiring
        where = ", ".join(map(repr, wiring.ranges)) or ("no ranges" if wiring.vm else "not attached")
        line = "" if wiring.irq.line is None else f", irq {wiring.irq.line}{' high' if wiring.irq.level else ''}"
        return f"<{type(self).__name__} at {where}{line}>" if wiring.vm else f"<{type(self).__name__}, {where}{line}>"


class Below:
    """What is behind a device: reads and writes that the guest's access does not make, but the device does.

    Offsets are in the device's range, or in the one named `range` if it has several. ValueError outside of it.
    """

    def __init__(self, device: Device) -> None:
        self._wiring = device.wiring

    def read(self, offset: int, size: int = 1, *, range: str = "") -> int:  # noqa: A002  # what it is
        """Read as the guest would without the device. Nobody there: all ones.

        Where a handler behind wants the run to end, this reads as all ones, and the run ends as by vm.kick().
        """
        place, vm = self._find(range, offset, size)
        value = self._wiring.handles[place][0].pass_on(self._exit(place, offset, size, None))
        if isinstance(value, int):
            return value
        vm.kick()
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int, *, range: str = "") -> Action:  # noqa: A002
        """Write as the guest would without the device. Return the result from the device's own `write`.

        It is bj.SKIP, since the write is done, or bj.STOP where it is to end the run.
        """
        place, _ = self._find(range, offset, size)
        value &= (1 << 8 * size) - 1
        result = self._wiring.handles[place][1].pass_on(self._exit(place, offset, size, value))
        return Action.SKIP if isinstance(result, int) else result

    def _find(self, name: str, offset: int, size: int) -> tuple[Range, VM]:
        wiring = self._wiring
        found = [place for place in wiring.ranges if not name or place.name == name]
        if wiring.vm is None or len(found) != 1:
            names = ", ".join(repr(place.name) for place in wiring.ranges)
            raise ValueError(f"below needs one range of an attached device: range= {names or 'after vm.attach()'}")
        if offset < 0 or not 1 <= size <= 8 or offset + size > found[0].length:
            raise ValueError(f"{size} bytes at offset {offset:#x} are not in {found[0]}, or not 1 to 8")
        return found[0], wiring.vm

    def _exit(self, place: Range, offset: int, size: int, value: int | None) -> PortIn | PortOut | MmioRead | MmioWrite:
        access = getattr(self._wiring.current, "exit", None)
        at, vcpu = place.first + offset, access.vcpu if access else 0
        if place.space == "port":
            return PortIn(at, size, vcpu) if value is None else PortOut(at, size, value, vcpu)
        return MmioRead(at, size, vcpu) if value is None else MmioWrite(at, size, value, vcpu)
