"""Names of bits and numbers of the x86 architecture, for reading. They never decide anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from belljar._belljar import Segment

RFLAGS = {0: "CF", 2: "PF", 4: "AF", 6: "ZF", 7: "SF", 8: "TF", 9: "IF", 10: "DF", 11: "OF", 14: "NT", 16: "RF"}
RFLAGS |= {17: "VM", 18: "AC", 19: "VIF", 20: "VIP", 21: "ID"}
"""Intel SDM vol. 1, 3.4.3."""

CR0 = {0: "PE", 1: "MP", 2: "EM", 3: "TS", 4: "ET", 5: "NE", 16: "WP", 18: "AM", 29: "NW", 30: "CD", 31: "PG"}
CR4 = {0: "VME", 1: "PVI", 2: "TSD", 3: "DE", 4: "PSE", 5: "PAE", 6: "MCE", 7: "PGE", 8: "PCE", 9: "OSFXSR"}
CR4 |= {10: "OSXMMEXCPT", 11: "UMIP", 12: "LA57", 13: "VMXE", 14: "SMXE", 16: "FSGSBASE", 17: "PCIDE", 18: "OSXSAVE"}
CR4 |= {20: "SMEP", 21: "SMAP", 22: "PKE", 23: "CET", 24: "PKS"}
"""Intel SDM vol. 3, 2.5."""

EFER = {0: "SCE", 8: "LME", 10: "LMA", 11: "NXE", 12: "SVME", 13: "LMSLE", 14: "FFXSR", 15: "TCE"}
"""AMD APM vol. 2, 3.1.7."""

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


def rflags(value: int) -> list[str]:
    """Name the flags that are set. Bit 1 always is; IOPL is a number of two bits."""
    level = value >> 12 & 3
    return names(value & ~0x3002, RFLAGS) + ([f"IOPL {level}"] if level else [])


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
