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

from belljar import bits, boot, guest, linux
from belljar._belljar import (
    VCPU,
    VM,
    Action,
    ApResetHold,
    ArrowBatch,
    Breakpoint,
    BreakpointHit,
    Btf,
    BtfFunction,
    BtfMember,
    BtfStruct,
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
    Kernel,
    KernelSymbols,
    Lapic,
    Mapping,
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
    Translation,
    UnknownExit,
    VectorRegisters,
    VirtualMemory,
    Watchpoint,
    WatchpointHit,
    Xen,
    Zone,
    __version__,
    disasm,
    find_kernel,
    hexdump,
)
from belljar.assembly import asm
from belljar.coverage import Coverage
from belljar.cpuid import Cpuid, CpuidWords
from belljar.descriptor import DescriptorTable
from belljar.device import Below, Device
from belljar.drcov import Module
from belljar.drgn_program import drgn_registers
from belljar.dump import Dump, DumpInfo, DumpNote, open_dump
from belljar.errors import (
    BelljarError,
    ClosedError,
    GuestMemoryError,
    HostError,
    ImageError,
    KernelError,
    RangeError,
    RegisterError,
    RunningError,
)
from belljar.events import Events
from belljar.expression import exit, mem, reg, virtual
from belljar.guest import specimen
from belljar.host import Host, host
from belljar.latency import low_latency
from belljar.listing import Listing
from belljar.mappings import Mappings
from belljar.native import NativeExit, Verdict, include, native
from belljar.page_entry import PageTableEntry
from belljar.profile import HandlerTime, Profile
from belljar.register import Field, Register
from belljar.register_device import RegisterDevice
from belljar.register_value import RegisterArray, RegisterValue
from belljar.saved_cpu import SavedCPU, SavedRegisters
from belljar.state import State
from belljar.stats import Stats
from belljar.trace import Trace
from belljar.vmcoreinfo import VmCoreInfo
from belljar.wire import Wire

STOP = Action.STOP
"""A handler returns it to stop the machine after the default behaviour; run() then returns the exit."""

DENY = Action.DENY
"""A handler of an MSR returns it to refuse the access: the guest gets #GP, as of a register that is not there."""

SKIP = Action.SKIP
"""A handler returns it to prevent the default behaviour: drop a write, read all ones, go on after a halt."""

__all__ = [
    "DENY",
    "SKIP",
    "STOP",
    "VCPU",
    "VM",
    "Action",
    "ApResetHold",
    "ArrowBatch",
    "BelljarError",
    "Below",
    "Breakpoint",
    "BreakpointHit",
    "Btf",
    "BtfFunction",
    "BtfMember",
    "BtfStruct",
    "BusLock",
    "ClosedError",
    "Console",
    "Coverage",
    "Cpuid",
    "CpuidWords",
    "Debug",
    "DescriptorTable",
    "Device",
    "DirtyRingFull",
    "Doorbell",
    "Dump",
    "DumpInfo",
    "DumpNote",
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
    "Kernel",
    "KernelError",
    "KernelSymbols",
    "Lapic",
    "Listing",
    "Mapping",
    "Mappings",
    "Memory",
    "MemoryFault",
    "MemoryMap",
    "MemoryRange",
    "MmioRead",
    "MmioWrite",
    "Module",
    "MsrRead",
    "MsrWrite",
    "Msrs",
    "NativeExit",
    "NativeHandler",
    "Notify",
    "PageTableEntry",
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
    "SavedCPU",
    "SavedRegisters",
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
    "Translation",
    "UnknownExit",
    "VectorRegisters",
    "Verdict",
    "VirtualMemory",
    "VmCoreInfo",
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
    "drgn_registers",
    "exit",
    "find_kernel",
    "guest",
    "hexdump",
    "host",
    "include",
    "linux",
    "low_latency",
    "mem",
    "native",
    "open_dump",
    "reg",
    "specimen",
    "virtual",
]
