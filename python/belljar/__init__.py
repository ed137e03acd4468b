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

from belljar import bits, boot, guest
from belljar._belljar import (
    VCPU,
    VM,
    Action,
    ApResetHold,
    Breakpoint,
    BreakpointHit,
    BusLock,
    Console,
    Debug,
    DirtyRingFull,
    Doorbell,
    Exit,
    Expression,
    FailEntry,
    FloatStack,
    Fpu,
    GdbServer,
    GuestException,
    Handle,
    Hlt,
    Hypercall,
    HyperV,
    Instruction,
    InternalError,
    Interrupted,
    InterruptWindow,
    IoapicEoi,
    IrqEvent,
    IrqLine,
    Lapic,
    Memory,
    MemoryFault,
    MemoryMap,
    MemoryRange,
    MmioRead,
    MmioWrite,
    MsrRead,
    Msrs,
    MsrWrite,
    NativeHandler,
    Notify,
    PortIn,
    PortOut,
    PortStringIn,
    PortStringOut,
    Quirks,
    Region,
    Registers,
    Reset,
    Segment,
    Shutdown,
    Stepped,
    Symbols,
    SystemEvent,
    Timeout,
    TprAccess,
    TprLowered,
    UnknownExit,
    VectorRegisters,
    Watchpoint,
    WatchpointHit,
    Xen,
    Zone,
    __version__,
    disasm,
    hexdump,
)
from belljar.assembly import asm
from belljar.descriptor import DescriptorTable
from belljar.device import Below, Device
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
from belljar.expression import exit, mem, reg
from belljar.guest import specimen
from belljar.host import Host, host
from belljar.latency import low_latency
from belljar.listing import Listing
from belljar.native import NativeExit, Verdict, include, native
from belljar.profile import HandlerTime, Profile
from belljar.register import Field, Register
from belljar.register_device import RegisterDevice
from belljar.register_value import RegisterArray, RegisterValue
from belljar.state import State
from belljar.stats import Stats
from belljar.trace import Trace
from belljar.wire import Wire

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
    "ApResetHold",
    "BelljarError",
    "Below",
    "Breakpoint",
    "BreakpointHit",
    "BusLock",
    "ClosedError",
    "Console",
    "Debug",
    "DescriptorTable",
    "Device",
    "DirtyRingFull",
    "Doorbell",
    "Events",
    "Exit",
    "Expression",
    "FailEntry",
    "Field",
    "FloatStack",
    "Fpu",
    "GdbServer",
    "GuestException",
    "GuestMemoryError",
    "Handle",
    "HandlerTime",
    "Hlt",
    "Host",
    "HostError",
    "HyperV",
    "Hypercall",
    "ImageError",
    "Instruction",
    "InternalError",
    "InterruptWindow",
    "Interrupted",
    "IoapicEoi",
    "IrqEvent",
    "IrqLine",
    "Lapic",
    "Listing",
    "Memory",
    "MemoryFault",
    "MemoryMap",
    "MemoryRange",
    "MmioRead",
    "MmioWrite",
    "MsrRead",
    "MsrWrite",
    "Msrs",
    "NativeExit",
    "NativeHandler",
    "Notify",
    "PortIn",
    "PortOut",
    "PortStringIn",
    "PortStringOut",
    "Profile",
    "Quirks",
    "RangeError",
    "Region",
    "Register",
    "RegisterArray",
    "RegisterDevice",
    "RegisterError",
    "RegisterValue",
    "Registers",
    "Reset",
    "RunningError",
    "Segment",
    "Shutdown",
    "State",
    "Stats",
    "Stepped",
    "Symbols",
    "SystemEvent",
    "Timeout",
    "TprAccess",
    "TprLowered",
    "Trace",
    "UnknownExit",
    "VectorRegisters",
    "Verdict",
    "Watchpoint",
    "WatchpointHit",
    "Wire",
    "Xen",
    "Zone",
    "__version__",
    "asm",
    "bits",
    "boot",
    "disasm",
    "exit",
    "guest",
    "hexdump",
    "host",
    "include",
    "low_latency",
    "mem",
    "native",
    "reg",
    "specimen",
]
