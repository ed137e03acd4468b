"""Connects devices to machines: where they are, what is in the way, and the handlers that bring accesses to them.

It never knows what a device does. VM.attach and VM.detach call it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from belljar._belljar import Action
from belljar.device import Answer, Device, Place, Range
from belljar.errors import RangeError

if TYPE_CHECKING:
    from belljar._belljar import VM, Handle

MODES = ("instead", "before", "beside")
LIMITS = {"port": 2**16, "mmio": 2**64}
SKIP = Action.SKIP
LINES = 24
"""How many interrupt lines a machine has: the pins of its I/O APIC."""

_attaching = threading.RLock()  # from the look at what is there until the device is


def attach(
    vm: VM,
    devices: list[Device],
    device: Any,
    *,
    ports: Place | None = None,
    mmio: Place | None = None,
    at: int | None = None,
    irq: int | None = None,
    mode: str | None = None,
    reset: bool = True,
) -> Device:
    """Connect `device` to `vm`, whose attached devices are `devices`. See VM.attach."""
    if not isinstance(device, Device):
        hint = ": make one, as in vm.attach(Card())" if isinstance(device, type) else ""
        raise TypeError(f"attach takes a bj.Device, not {device!r}{hint}")
    mode = device.mode if mode is None else mode
    if mode not in MODES:
        raise ValueError(f'mode is "instead", "before" or "beside", not {mode!r}')
    if device.width not in {None, 1, 2, 4, 8}:
        raise ValueError(f"the width of a device is 1, 2, 4 or 8 bytes, or None for all of them, not {device.width!r}")
    line = device.wiring.irq.line if irq is None else irq
    if line is not None and not 0 <= line < LINES:
        raise ValueError(f"the interrupt line of a device is 0 to {LINES - 1}, not {line}")
    with device.lock:
        release_from_closed(device)
        ranges = moved(places(device, ports, mmio), at)
        look_for_room(vm, devices, ranges, mode)
        if irq is not None:
            device.wiring.irq.line = irq
        if reset:
            device.reset()  # not under the lock of all machines: it may wait for another device
        with _attaching:
            release_from_closed(device)
            look_for_room(vm, devices, ranges, mode)
            connect(vm, device, ranges, mode)
            devices.append(device)
    attached: Device = device
    return attached


def detach(vm: VM, devices: list[Device], device: Device) -> None:
    """Disconnect `device` from `vm`. See VM.detach."""
    with device.lock, _attaching:  # an access that is being answered ends first
        if device.wiring.vm is not vm:
            raise ValueError(f"{device!r} is not attached to this VM")
        devices[:] = [other for other in devices if other is not device]
        disconnect(device)


def release_from_closed(device: Device) -> None:
    """Refuse a device that is attached, unless its machine is gone."""
    vm = device.wiring.vm
    if vm is not None and vm.state != "closed":
        raise ValueError(f"{device!r} is attached already: detach it first, or make another one")
    if vm is not None:
        disconnect(device)


def connect(vm: VM, device: Device, ranges: tuple[Range, ...], mode: str) -> None:
    """Register the handlers of all ranges, or none."""
    wiring = device.wiring
    wiring.vm, wiring.mode, wiring.ranges = vm, mode, ranges
    try:
        wiring.irq.connect(vm)
        for place in ranges:
            on = vm.on_port if place.space == "port" else vm.on_mmio
            handles = [on(place.first, size=place.length, access=access) for access in "rw"]
            wiring.handles[place] = (handles[0], handles[1])
            handles[1](writer(device, place))
            handles[0](reader(device, place, handles[0]))
    except BaseException:
        disconnect(device)
        raise


def disconnect(device: Device) -> None:
    """Take the handlers away and let the interrupt line go."""
    wiring = device.wiring
    handles, wiring.handles = wiring.handles, {}
    for handle in (handle for pair in handles.values() for handle in pair):
        handle.remove()
    try:
        wiring.irq.disconnect()
    finally:
        wiring.vm, wiring.ranges = None, ()


def places(device: Device, ports: Place | None, mmio: Place | None) -> tuple[Range, ...]:
    """All ranges of `device`, where the arguments replace what it declares."""
    ports = device.ports if ports is None else ports
    mmio = device.mmio if mmio is None else mmio
    return (*ranges_of("port", ports, device.bare_length or 1), *ranges_of("mmio", mmio, device.bare_length))


def ranges_of(space: str, place: Place | None, length: int) -> Iterator[Range]:
    """Yield the ranges that `place` names; `length` is that of a bare number."""
    if place is None:
        return
    named = place if isinstance(place, Mapping) else {"": place}
    for name, where in named.items():
        if isinstance(where, range) and where.step == 1 and where:
            found = Range(space, where.start, len(where), name)
        elif isinstance(where, int) and length:
            found = Range(space, where, length, name)
        else:
            what, single = ("ports", "a single port, ") if space == "port" else ("mmio", "")
            raise ValueError(
                f"{what} takes a range such as range(0x1000, 0x2000), {single}or a dict of these, not {where!r}"
            )
        if found.first < 0 or found.end > LIMITS[space]:
            raise RangeError(f"{found} are not all in 0..{LIMITS[space] - 1:#x}")
        yield found


def moved(ranges: tuple[Range, ...], at: int | None) -> tuple[Range, ...]:
    """The one range, now beginning `at`."""
    if at is None:
        return ranges
    if len(ranges) != 1:
        raise ValueError(f"at= moves the one range of a device; this one has {len(ranges)}: give ports= or mmio=")
    old = ranges[0]
    return tuple(ranges_of(old.space, {old.name: range(at, at + old.length)}, 0))


def look_for_room(vm: VM, devices: list[Device], ranges: tuple[Range, ...], mode: str) -> None:
    """Refuse ranges where RAM would answer, or two devices would."""
    for place in ranges:
        for region in vm.memory.regions:
            if place.overlaps(Range("mmio", region.start, region.size)):
                raise RangeError(f"{place}: {region.kind} from {region.start:#x} on is in the way and would answer")
        for other in devices if mode == "instead" else ():
            if other.wiring.mode == mode and any(place.overlaps(taken) for taken in other.wiring.ranges):
                raise RangeError(f'{place} are taken by {other!r}: detach it, or attach with mode="before"')
    for index, place in enumerate(ranges):
        if any(place.overlaps(other) for other in ranges[:index]):
            raise RangeError(f"{place} overlap another range of the same device")


def method(device: Device, verb: str, place: Range) -> Any:
    """The method of `device` for one verb and range: by the range's name, by its space, or the plain one."""
    for name in (f"{verb}_{place.name}", f"{verb}_{place.space}"):
        if (found := getattr(device, name, None)) is not None:
            return found
    return getattr(device, verb)


def one_at_a_time(device: Device) -> contextlib.AbstractContextManager[Any]:
    """What to hold while the device answers."""
    return contextlib.nullcontext() if device.concurrent else device.lock


def reader(device: Device, place: Range, handle: Handle) -> Callable[[Any], Answer]:
    """Make the handler of reads."""
    wiring, lock = device.wiring, one_at_a_time(device)
    beside, nobody = wiring.mode == "beside", SKIP if wiring.mode == "instead" else None
    read = method(device, "observe_read" if beside else "read", place)
    if device.width is not None and not beside:
        read = narrowed_read(read, device.width)
    current, first, length = wiring.current, place.first, place.length
    address = "port" if place.space == "port" else "address"

    def on_read(exit: Any) -> Answer:
        offset, size = getattr(exit, address) - first, exit.size
        if offset + size > length:
            return nobody
        with lock:
            if wiring.vm is None:  # detached while this access was on its way
                return None
            current.exit = exit
            try:
                answer: Answer = read(offset, size)
            finally:
                current.exit = None
        return nobody if answer is None else answer

    def on_read_beside(exit: Any) -> Answer:
        offset, size = getattr(exit, address) - first, exit.size
        if offset + size > length:
            return None
        answer: Answer = handle.pass_on(exit)
        with lock:
            if (vm := wiring.vm) is None:
                return answer
            current.exit = exit
            try:
                opinion = read(offset, size, answer if isinstance(answer, int) else None)
            finally:
                current.exit = None
        if opinion == Action.STOP:
            vm.kick()  # the value has been read: it counts, and the run ends after it
        return answer

    return named(on_read_beside if beside else on_read, device)


def writer(device: Device, place: Range) -> Callable[[Any], Answer]:
    """Make the handler of writes."""
    wiring, lock = device.wiring, one_at_a_time(device)
    beside, nobody = wiring.mode == "beside", SKIP if wiring.mode == "instead" else None
    write = method(device, "observe_write" if beside else "write", place)
    if device.width is not None and not beside:
        write = narrowed_write(write, device.width)
    current, first, length = wiring.current, place.first, place.length
    address = "port" if place.space == "port" else "address"

    def on_write(exit: Any) -> Answer:
        offset, size = getattr(exit, address) - first, exit.size
        if offset + size > length:
            return nobody
        with lock:
            if wiring.vm is None:
                return None
            current.exit = exit
            try:
                answer: Answer = write(offset, size, exit.data)
            finally:
                current.exit = None
        if beside:
            return answer if answer == Action.STOP else None
        return nobody if answer is None else answer

    return named(on_write, device)


def named(handler: Callable[[Any], Answer], device: Device) -> Callable[[Any], Answer]:
    """Show the device's name where handlers are listed."""
    handler.__name__ = type(device).__name__
    return handler


def narrowed_read(read: Callable[[int, int], Answer], width: int) -> Callable[[int, int], Answer]:
    """Make accesses of `width` bytes of what the guest reads."""

    def read_in_width(offset: int, size: int) -> Answer:
        if size == width and offset % width == 0:
            return read(offset, size)
        if size % width or offset % width:
            return SKIP
        parts = [read(at, width) for at in range(offset, offset + size, width)]
        if all(part is None for part in parts) or Action.STOP in parts:
            return Action.STOP if Action.STOP in parts else None
        ones = (1 << 8 * width) - 1
        values = [part & ones if isinstance(part, int) else ones for part in parts]
        return sum(part << 8 * width * n for n, part in enumerate(values))

    return read_in_width


def narrowed_write(write: Callable[[int, int, int], Answer], width: int) -> Callable[[int, int, int], Answer]:
    """Make accesses of `width` bytes of what the guest writes."""

    def write_in_width(offset: int, size: int, value: int) -> Answer:
        if size == width and offset % width == 0:
            return write(offset, size, value)
        if size % width or offset % width:
            return SKIP
        answers = [write(offset + at, width, value >> 8 * at & (1 << 8 * width) - 1) for at in range(0, size, width)]
        if Action.STOP in answers:
            return Action.STOP
        return next((answer for answer in answers if answer is not None), None)

    return write_in_width
