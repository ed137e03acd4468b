"""belljar: a whole KVM machine (VM, vCPUs, memory, devices) in Python's hands, on an unpatched kernel.

>>> import belljar as bj
>>> with bj.VM() as vm:  # doctest: +SKIP
...     vm.load(bytes([0xB0, 42, 0xE6, 0x10, 0xF4]), mode="real")  # mov al, 42; out 0x10, al; hlt
...     seen = []
...     with vm.on_port(0x10, lambda exit: seen.append(exit.data)):
...         print(vm.run(), seen)
Hlt(vcpu=0) [42]
"""

from __future__ import annotations

from belljar import bits, boot
from belljar._belljar import (
    VCPU,
    VM,
    Action,
    Console,
    Debug,
    Exit,
    FailEntry,
    FloatStack,
    Fpu,
    GuestException,
    Handle,
    Hlt,
    Instruction,
    InternalError,
    Interrupted,
    Lapic,
    Memory,
    MemoryFault,
    MmioRead,
    MmioWrite,
    MsrRead,
    Msrs,
    MsrWrite,
    PortIn,
    PortOut,
    Quirks,
    Region,
    Registers,
    Reset,
    Segment,
    Shutdown,
    SystemEvent,
    Timeout,
    UnknownExit,
    VectorRegisters,
    __version__,
    disasm,
)
from belljar.assembly import asm
from belljar.errors import (
    BelljarError,
    ClosedError,
    GuestMemoryError,
    HostError,
    ImageError,
    RangeError,
    RegisterError,
    RunningError,
)
from belljar.events import Events
from belljar.host import Host, host
from belljar.state import State

STOP = Action.STOP
"""A handler returns it to stop the machine after the default behaviour; run() then returns the exit."""

SKIP = Action.SKIP
"""A handler returns it to prevent the default behaviour: drop a write, read all ones, go on after a halt."""

__all__ = [
    "SKIP",
    "STOP",
    "VCPU",
    "VM",
    "Action",
    "BelljarError",
    "ClosedError",
    "Console",
    "Debug",
    "Events",
    "Exit",
    "FailEntry",
    "FloatStack",
    "Fpu",
    "GuestException",
    "GuestMemoryError",
    "Handle",
    "Hlt",
    "Host",
    "HostError",
    "ImageError",
    "Instruction",
    "InternalError",
    "Interrupted",
    "Lapic",
    "Memory",
    "MemoryFault",
    "MmioRead",
    "MmioWrite",
    "MsrRead",
    "MsrWrite",
    "Msrs",
    "PortIn",
    "PortOut",
    "Quirks",
    "RangeError",
    "Region",
    "RegisterError",
    "Registers",
    "Reset",
    "RunningError",
    "Segment",
    "Shutdown",
    "State",
    "SystemEvent",
    "Timeout",
    "UnknownExit",
    "VectorRegisters",
    "__version__",
    "asm",
    "bits",
    "boot",
    "disasm",
    "host",
]
