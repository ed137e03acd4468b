"""Pictures of exits: what happened, in a sentence, and every field. They never ask a machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import belljar._belljar as native
from belljar.html import bits
from belljar.html.parts import Markup, code, dim, flags, head, join, pill, plural, tag, text

MOODS = {"Hlt": "good", "Timeout": "", "Interrupted": "", "Debug": "warn", "GuestException": "warn", "Reset": "warn"}
MOODS |= {"Shutdown": "bad", "InternalError": "bad", "FailEntry": "bad", "MemoryFault": "bad", "UnknownExit": "bad"}
MOODS |= {"BreakpointHit": "good", "WatchpointHit": "good", "Stepped": "good"}
MOODS |= {"BusLock": "warn", "Notify": "warn"}
SHOWN = 16
"""So many bytes of string I/O are shown."""

SYSTEM_EVENTS = {1: "shutdown", 2: "reset", 3: "crash", 4: "wakeup", 5: "suspend", 6: "SEV termination"}


def fields(exit: Any) -> list[tuple[str, object]]:
    """Return the fields of an exit, in the order in which it is made."""
    return [(name, getattr(exit, name)) for name in getattr(type(exit), "__match_args__", ())]


def msr(number: int) -> str:
    """Name an MSR, or give its number."""
    known = {index: name for name, index in native.Msrs.names().items()}
    return f"{known[number]} ({number:#x})" if number in known else f"{number:#x}"


def _exception(exit: native.GuestException) -> Markup:
    what = [f"{bits.exception(exit.vector)} at ", code(f"{exit.rip:#x}")]
    if exit.vector == 14:
        what += [", for address ", code(f"{exit.cr2:#x}"), " "]
        what += [flags(bits.names(exit.error_code or 0, bits.PAGE_FAULT))]
    elif exit.error_code is not None:
        what += [", error code ", code(f"{exit.error_code:#x}")]
    return join(what)


def _internal(exit: native.InternalError) -> Markup:
    if exit.suberror != 1 or not exit.instruction:
        return join([f"KVM gave up (suberror {exit.suberror}) at ", code(f"{exit.rip:#x}")])
    what = code(exit.disassembly or exit.instruction.hex(" "))
    return join(
        ["KVM cannot emulate ", what, " at ", code(f"{exit.rip:#x}"), " ", dim(code(exit.instruction.hex(" ")))]
    )


def _msr(exit: Any, verb: str) -> Markup:
    why = "a handler watches it" if exit.reason == "filter" else f"KVM calls it {exit.reason}"
    return join([verb, code(msr(exit.index)), dim(f" ({why})")])


def _watched(exit: native.WatchpointHit) -> str:
    verb, then = ("writes", f", then {exit.after:#x}") if exit.write else ("reads", "")
    return f"{verb} {plural(exit.size, 'byte')} at {exit.address:#x}: {exit.before:#x}{then}"


def _elements(exit: Any) -> str:
    return f"{plural(exit.count, 'element')} of {plural(exit.size, 'byte')}"


def _bytes(data: bytes) -> Markup:
    return dim(code(data[:SHOWN].hex(" ") + (" ..." if len(data) > SHOWN else "")))


def _hypercall(exit: native.Hypercall) -> Markup:
    arguments = ", ".join(f"{value:#x}" for value in exit.args[:4])
    return join([f"calls the hypervisor, number {exit.number} ", dim(code(f"({arguments})"))])


INTERRUPTIONS = {
    "until": "came to where it was to run until",
    "trace": "held: a trace has no room for more, and nobody reads it",
}

SENTENCES: dict[str, Callable[[Any], object]] = {
    "PortIn": lambda e: f"reads {plural(e.size, 'byte')} from port {e.port:#x}",
    "PortOut": lambda e: f"writes {e.data:#x} to port {e.port:#x} ({plural(e.size, 'byte')})",
    "PortStringIn": lambda e: f"reads {_elements(e)} from port {e.port:#x} into memory",
    "PortStringOut": lambda e: join([f"writes {_elements(e)} of memory to port {e.port:#x} ", _bytes(e.data)]),
    "MmioRead": lambda e: f"reads {plural(e.size, 'byte')} at address {e.address:#x}, which is no memory",
    "MmioWrite": lambda e: f"writes {e.data:#x} at address {e.address:#x} ({plural(e.size, 'byte')}), which is no RAM",
    "MsrRead": lambda e: _msr(e, "reads the MSR "),
    "MsrWrite": lambda e: join([_msr(e, "writes the MSR "), f": {e.data:#x}"]),
    "GuestException": _exception,
    "InternalError": _internal,
    "SystemEvent": lambda e: f"reports {SYSTEM_EVENTS.get(e.kind, f'event {e.kind}')}",
    "Interrupted": lambda e: INTERRUPTIONS.get(e.by, f"stopped by {e.by}()"),
    "Hypercall": _hypercall,
    "InterruptWindow": lambda _: "can take the interrupt that waits",
    "TprLowered": lambda e: f"lowered its task priority to {e.tpr}",
    "TprAccess": lambda e: f"{'writes' if e.is_write else 'reads'} its task priority at {e.rip:#x}",
    "IoapicEoi": lambda e: f"ended the service of interrupt {e.vector:#x}",
    "BreakpointHit": lambda e: f"comes to breakpoint {e.id} at {e.address:#x}",
    "WatchpointHit": _watched,
    "Stepped": lambda e: f"stepped to {e.address:#x}",
    "BusLock": lambda _: "locked the bus",
    "DirtyRingFull": lambda _: "the ring of dirty pages is full",
    "Hlt": lambda _: "halts",
    "Timeout": lambda _: "was still running when the time was over",
    "Shutdown": lambda _: "triple fault: the machine shut down",
    "Reset": lambda _: "resets the machine through its keyboard controller",
}


def _documented(exit: object) -> str:
    """Return the first line of the class's documentation: what is said of an exit that has no sentence here."""
    return (type(exit).__doc__ or "").strip().split("\n", 1)[0]


def _value(value: object) -> Markup:
    if isinstance(value, bool) or not isinstance(value, int):
        return text(value.hex(" ") if isinstance(value, bytes) else value)
    return code(f"{value:#x}" if value > 9 else value)


def exit(value: native.Exit) -> Markup:
    """Show an exit: its class, its sentence, and all its fields."""
    name = type(value).__name__
    told = SENTENCES.get(name, _documented)(value)
    given = [join([dim(f"{field}="), _value(content)], " ") for field, content in fields(value)]
    line = head(pill(name, MOODS.get(name, "mmio")), join([dim(f"vCPU {value.vcpu} "), told]))
    return join([line, tag("div", join(given, "  "), of="m dim") if given and name not in SENTENCES else ""])
