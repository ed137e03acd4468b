"""Pictures of what is connected to a machine: devices in Python, their registers, interrupt lines, local APICs.

They read what a device holds, as its hardware would; no access is made, so nothing happens.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from belljar.errors import BelljarError
from belljar.html.parts import Markup, card, code, dim, head, hexadecimal, join, pill, table, tag
from belljar.register_table import rows

if TYPE_CHECKING:
    from belljar._belljar import IrqLine, Lapic
    from belljar.device import Device
    from belljar.register_device import RegisterDevice

REGISTERS: tuple[str, ...] = ("id", "version", "tpr", "apr", "ppr", "ldr", "dfr", "svr", "esr", "lvt_cmci")
REGISTERS += ("icr_low", "icr_high", "lvt_timer", "lvt_thermal", "lvt_pmc", "lvt_lint0", "lvt_lint1", "lvt_error")
REGISTERS += ("timer_initial", "timer_current", "timer_divide")
"""Those of a local APIC, in the order of their offsets, without the three that are a bit for each vector."""


def _head(value: Device) -> Markup:
    wiring = value.wiring
    where = [code(repr(place)) for place in wiring.ranges]
    connected = pill(wiring.mode, "good") if value.is_attached else pill("not attached")
    return head(join([type(value).__name__, " ", connected]), *where, line(wiring.irq.line, high=wiring.irq.level))


def line(number: int | None, *, high: bool) -> Markup:
    """Show an interrupt line and its level."""
    if number is None:
        return join([])
    return join([f"interrupt line {number} ", pill("high", "warn") if high else pill("low")])


def device(value: Device) -> Markup:
    """Show a device: where it is, and its interrupt line."""
    return card(_head(value), tag("div", dim(_documented(value))))


def _documented(value: Device) -> str:
    own = type(value).__dict__.get("__doc__") or ""
    return own.strip().split("\n", 1)[0]


def register_device(value: RegisterDevice) -> Markup:
    """Show a device with its registers and their fields; what is 0 stands back."""
    found = []
    for offset, name, access, now, fields in rows(value.cells()):
        shown = now if now == "..." else hexadecimal(int(now, 16), len(now) - 2)
        parts = [_field(part, it) for part, it in fields]
        found.append([code(offset), tag("b", name), dim(access), shown, join(parts)])
    return card(_head(value), table(found, ["offset", "register", "access", "value", "fields"], of="m"))


def _field(name: str, value: str) -> Markup:
    return tag(
        "span", name, " ", value if value == "0" else tag("b", value), of="field dim" if value == "0" else "field"
    )


def irq_line(value: IrqLine) -> Markup:
    """Show an interrupt line of a machine."""
    try:
        return head(line(value.line, high=value.level))
    except BelljarError as error:
        return head(f"interrupt line {value.line}", dim(error))


def lapic(value: Lapic) -> Markup:
    """Show the registers of a local APIC, with the vectors that wait and that are in service."""
    try:
        vectors = {"in service": value.isr, "waiting": value.irr}
        listed = [[code(name), hexadecimal(value[name], 8)] for name in REGISTERS]
    except (BelljarError, ValueError) as error:
        return card(head("Local APIC", dim(error)))
    facts = [join([f"{name} ", *[pill(f"{v:#x}", "warn") for v in sorted(of)]]) for name, of in vectors.items() if of]
    half, blank = (len(listed) + 1) // 2, [join([]), join([])]
    both = [[*left, *right] for left, right in zip_longest(listed[:half], listed[half:], fillvalue=blank)]
    return card(head("Local APIC", *facts), table(both))
