"""Names of bits and numbers of the x86 architecture, for reading. They never decide anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from belljar._belljar import Segment

PAGE_FAULT = {0: "protection", 1: "write", 2: "user", 3: "reserved bit", 4: "fetch", 5: "protection key"}
"""The error code of a page fault; Intel SDM vol. 3, 4.7."""

EXCEPTIONS: tuple[str, ...] = (
    "#DE divide error",
    "#DB debug",
    "NMI",
    "#BP breakpoint",
    "#OF overflow",
    "#BR bound range",
)
EXCEPTIONS += ("#UD invalid opcode", "#NM no x87", "#DF double fault", "coprocessor overrun", "#TS invalid TSS")
EXCEPTIONS += ("#NP segment not present", "#SS stack fault", "#GP general protection", "#PF page fault", "reserved")
EXCEPTIONS += ("#MF x87 error", "#AC alignment check", "#MC machine check", "#XM SIMD error", "#VE virtualization")
EXCEPTIONS += ("#CP control protection",)
"""By vector; Intel SDM vol. 3, 6.3."""

SYSTEM_SEGMENTS = {1: "16-bit TSS", 2: "LDT", 3: "16-bit TSS, busy", 9: "TSS", 11: "TSS, busy"}
"""Intel SDM vol. 3, table 3-2."""


def names(value: int, bits: Mapping[int, str]) -> list[str]:
    """Name the bits that are set; a set bit without a name is its number."""
    return [bits.get(bit, f"bit {bit}") for bit in range(value.bit_length()) if value >> bit & 1]


def exception(vector: int) -> str:
    """Name an exception by its vector."""
    return EXCEPTIONS[vector] if vector < len(EXCEPTIONS) else f"interrupt {vector}"


def segment(value: Segment, *, is_system: bool = False) -> str:
    """Say what a segment is; Intel SDM vol. 3, 3.4.5."""
    if not value.present:
        return "not present"
    kind = value.type
    if is_system or not getattr(value, "s", True):
        return SYSTEM_SEGMENTS.get(kind, f"system segment of type {kind}")
    if kind & 8:
        width = 64 if value.l else 32 if value.db else 16
        return f"{width}-bit code{', readable' if kind & 2 else ''}{', conforming' if kind & 4 else ''}"
    return f"data{', writable' if kind & 2 else ', read-only'}{', expands down' if kind & 4 else ''}"
