# Generated from the built module by `make stubs`. Edit the Rust source, not this file.
"""
The native half of belljar: import `belljar` instead.
"""

from collections.abc import Callable, Coroutine, Iterable, Sequence
import collections.abc
import os
import typing

import numpy

from _typeshed import Incomplete, SupportsGetItem, SupportsLenAndGetItem
from belljar.bits import CR0, CR4, DR6, DR7, EFER, RFLAGS, XCR0
from belljar.cpuid import Cpuid
from belljar.descriptor import DescriptorTable
from belljar.device import Device
from belljar.events import Events
from belljar.linux import Linux
from belljar.mappings import Mappings
from belljar.page_entry import PageTableEntry
from belljar.profile import Profile
from belljar.state import State
from belljar.stats import Stats
from belljar.trace import Trace
from belljar.volatility import Session
from collections.abc import AsyncIterator, Generator, Iterator
from os import PathLike
from typing_extensions import CapsuleType
from typing import Any, Final, SupportsFloat, SupportsIndex, final
from typing_extensions import disjoint_base

__all__ = [
    "__version__",
    "Action",
    "ApResetHold",
    "ArrowBatch",
    "Batch",
    "Breakpoint",
    "BreakpointHit",
    "Btf",
    "BtfFunction",
    "BtfMember",
    "BtfStruct",
    "BusLock",
    "Console",
    "Debug",
    "DirtyRingFull",
    "Doorbell",
    "Exit",
    "Expression",
    "FailEntry",
    "FloatStack",
    "Fpu",
    "GdbServer",
    "GuestException",
    "Handle",
    "Hlt",
    "HyperV",
    "Hypercall",
    "Instruction",
    "InternalError",
    "InterruptWindow",
    "Interrupted",
    "IoapicEoi",
    "IrqEvent",
    "IrqLine",
    "Kernel",
    "KernelSymbols",
    "Lapic",
    "Mapping",
    "Memory",
    "MemoryFault",
    "MemoryMap",
    "MemoryRange",
    "MemoryRanges",
    "MmioRead",
    "MmioWrite",
    "MsrRead",
    "MsrWrite",
    "Msrs",
    "NativeHandler",
    "Notify",
    "PortIn",
    "PortOut",
    "PortStringIn",
    "PortStringOut",
    "Quirks",
    "Recorder",
    "Region",
    "Registers",
    "Reset",
    "Segment",
    "Shutdown",
    "Stepped",
    "Symbols",
    "SystemEvent",
    "Timeout",
    "TprAccess",
    "TprLowered",
    "Translation",
    "UnknownExit",
    "VCPU",
    "VM",
    "VectorRegisters",
    "VirtualMemory",
    "Watchpoint",
    "WatchpointHit",
    "Xen",
    "Zone",
    "capabilities",
    "disasm",
    "dump_read",
    "dump_write",
    "find_kernel",
    "hexdump",
    "probe",
    "saved_memory",
    "saved_virtual",
    "state_values",
    "supported_cpuid",
    "volatile_values",
]

__version__: Final[str]

@final
class Action:
    """
    What a handler may return beside data: stop the machine, or skip the default behaviour.
    """

    DENY: Final[Action]
    """
    Refuse an access to an MSR: the guest gets #GP, as of a register that is not there.
    """
    SKIP: Final[Action]
    """
    Do not do the default: drop a write, read all ones, go on after a halt.
    """
    STOP: Final[Action]
    """
    Do the default, then have run() return this exit.
    """
    def __eq__(self, value: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __int__(self, /) -> int: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __reduce__(self, /) -> "tuple[object, ...]":
        """
        Pickles as the attribute of its class.
        """
    def __repr__(self, /) -> str: ...

@final
class ApResetHold(Exit):
    """
    The guest waits for the reset of a processor (KVM_EXIT_AP_RESET_HOLD).
    """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, vcpu: SupportsIndex = 0) -> ApResetHold: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...

@final
class ArrowBatch:
    """
    Records of a trace as Arrow columns: what takes the PyCapsule interface (pyarrow, polars, duckdb, ...) takes it.

    It is a copy: their room in the ring is free again. Made by Trace.arrow_batches().
    """
    def __arrow_c_array__(self, /, requested_schema: Any | None = None) -> tuple[CapsuleType, CapsuleType]:
        """
        Schema and columns, for what takes Arrow. `requested_schema` is a wish, which is not granted.
        """
    def __arrow_c_schema__(self, /) -> CapsuleType:
        """
        Its schema, for what takes Arrow.
        """
    def __arrow_c_stream__(self, /, requested_schema: Any | None = None) -> CapsuleType:
        """
        Itself as a stream of one batch, for what takes Arrow.
        """
    def __len__(self, /) -> int:
        """
        How many records it holds.
        """
    def __repr__(self, /) -> str: ...

@final
class Batch:
    """
    Records in one piece, as a buffer. Their room in the ring is free again when nobody holds it any more.
    """

@final
class Breakpoint:
    """
    A breakpoint: what `vm.breakpoint()` returns. Use it as a context manager, or keep it to remove it later.
    """
    def __call__(self, /, *args: "object", **kwargs: "object") -> Any:
        """
        As a decorator, plants it with the function as its handler; afterwards, calls that.
        """
    def __enter__(self, /) -> Breakpoint: ...
    def __eq__(self, other: object, /) -> bool:
        """
        Are both the same breakpoint? A hit and vm.breakpoints make handles of their own.
        """
    def __exit__(self, /, *_exception: "object") -> None: ...
    def __hash__(self, /) -> int: ...
    def __repr__(self, /) -> str: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    @property
    def address(self, /) -> int:
        """
        The address: linear, or guest-physical with physical=True.
        """
    @property
    def cr3(self, /) -> int | None:
        """
        The address space that it is for (CR3 without its low 12 bits), or None.
        """
    @property
    def enabled(self, /) -> bool:
        """
        Is it planted (or pending)? Setting it takes the byte away, or puts it back.
        """
    @enabled.setter
    def enabled(self, /, yes: bool) -> None: ...
    @property
    def function(self, /) -> Any | None:
        """
        The function that is called at a hit, or None where a hit ends the run.
        """
    @property
    def hits(self, /) -> int:
        """
        How often it was hit, its filters holding; kept when it has been removed.
        """
    @property
    def id(self, /) -> int:
        """
        Its number, which its hits have as `id`.
        """
    @property
    def mechanism(self, /) -> str:
        """
        How hits are noticed: "int3" (a planted byte at which KVM exits), "hardware" (a debug register), "in" (a planted port
        read, ring 0), "gate" (a planted int3 whose #BP is caught at the guest's own handler), "shim" (the same in a guest of
        mode="user"); "pending" while its page is not mapped, or the guest has not run since.
        """
    @property
    def once(self, /) -> bool:
        """
        Is it removed at its first hit?
        """
    @property
    def pending(self, /) -> bool:
        """
        Is it not planted yet, its page not being mapped? It is tried again at every exit, and some 25 times a second.
        """
    @property
    def physical(self, /) -> bool:
        """
        Is the address guest-physical?
        """
    def remove(self, /) -> None:
        """
        Takes it away: it is not hit any more. Does nothing if it has been removed.
        """
    @property
    def seconds(self, /) -> float:
        """
        Seconds spent in the function so far.
        """
    @property
    def symbol(self, /) -> str | None:
        """
        The symbol that it was named by, or None.
        """
    @property
    def vcpu(self, /) -> int | None:
        """
        The number of the vCPU that it is for, or None.
        """
    @property
    def when(self, /) -> Expression | None:
        """
        Its filter, or None.
        """

@final
class BreakpointHit(Exit):
    """
    A vCPU is about to execute the instruction at a breakpoint; its RIP points there.

    A handler's None goes on, bj.STOP ends the run; a breakpoint without a handler ends the run. `id` is the Breakpoint's.
    """

    __match_args__: Final[tuple[str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, id: SupportsIndex, address: SupportsIndex, vcpu: SupportsIndex = 0) -> BreakpointHit: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def address(self, /) -> int:
        """
        Linear address of the instruction.
        """
    @property
    def breakpoint(self, /) -> Breakpoint | None:
        """
        The breakpoint, as vm.breakpoint() has returned it: `hit.breakpoint.remove()`.

        None of a hit that was pickled or made by hand, where the VM is gone, and of a breakpoint that a trace or gdb has planted.
        """
    @property
    def id(self, /) -> int:
        """
        The number of the breakpoint: its `id`.
        """
    @property
    def rip(self, /) -> int:
        """
        The same as `address`: linear, and so RIP but in code whose segment has a base.
        """

@final
class Btf:
    """
    The types of a Linux kernel, as the kernel itself carries them: structures, enumerations, function prototypes.

    `linux.btf` has those of a guest. `Btf(source)` reads them from bytes or a file (the section .BTF of a vmlinux, or
    /sys/kernel/btf/vmlinux); for those of a module, `base` is its kernel's. ImageError for what is no BTF.
    """
    def __len__(self, /) -> int: ...
    def __new__(cls, /, source: Any, base: Btf | None = None) -> Btf: ...
    def __repr__(self, /) -> str: ...
    def enum(self, /, name: str) -> Any:
        """
        The names and values of an enumeration. KeyError if there is none.
        """
    def find(self, /, pattern: str) -> Any:
        """
        The names of structures, unions, typedefs, enumerations and functions that fit a pattern of `*` and `?`, sorted.
        """
    def function(self, /, name: str) -> BtfFunction:
        """
        The prototype of a function: `function("do_sys_openat2").parameters`. KeyError if there is none.
        """
    def has(self, /, structure: str, path: str | None = None) -> bool:
        """
        Is there such a structure and, if `path` is given, such a member in it?
        """
    def member(self, /, structure: str, path: str) -> BtfMember:
        """
        The member that a path leads to: `member("task_struct", "se.sum_exec_runtime")`, `"pid_links[1].next"`.

        A path goes into structures and arrays, and never through a pointer. KeyError if there is none.
        """
    def offset(self, /, structure: str, path: str) -> int:
        """
        Where a member is, in bytes from the beginning of the structure. KeyError if there is none.
        """
    def size(self, /, name: str, path: str | None = None) -> int:
        """
        How many bytes a structure, typedef, enumeration or integer of that name has, or a member of a structure.

        KeyError if there is none, or it has no size.
        """
    def struct(self, /, name: str) -> BtfStruct:
        """
        The structure or union of that name (a typedef of one does, too). KeyError if there is none.
        """

@final
class BtfFunction:
    """
    A function: `parameters` as (name, type) in order, `returns` the type of what it returns, both as C writes them.
    """
    def __repr__(self, /) -> str: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    @property
    def _text(self, /) -> str: ...
    @property
    def name(self, /) -> str: ...
    @property
    def parameters(self, /) -> list[tuple[str, str]]: ...
    @property
    def returns(self, /) -> str: ...

@final
class BtfMember:
    """
    A member of a structure: `offset` in bytes from its beginning, `size` in bytes, `type` as C writes it.

    `bit_offset` is the offset in bits, `bits` the width of a bit field, else None. `size` is None for a type without one,
    `count` the number of elements of an array, else None.
    """
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __repr__(self, /) -> str: ...
    @property
    def _declaration(self, /) -> str: ...
    @property
    def bit_offset(self, /) -> int: ...
    @property
    def bits(self, /) -> int | None: ...
    @property
    def count(self, /) -> int | None: ...
    @property
    def name(self, /) -> str: ...
    @property
    def offset(self, /) -> int: ...
    @property
    def signed(self, /) -> bool: ...
    @property
    def size(self, /) -> int | None: ...
    @property
    def type(self, /) -> str: ...

@final
class BtfStruct:
    """
    A structure or union: `members` from first to last, those of anonymous ones in it among them; `size` in bytes.

    It is a mapping from names to members: `structure["comm"].offset`. Its text is C.
    """
    def __contains__(self, name: str, /) -> bool: ...
    def __getitem__(self, name: str, /) -> BtfMember: ...
    def __iter__(self, /) -> Iterator[str]: ...
    def __len__(self, /) -> int: ...
    def __repr__(self, /) -> str: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    def keys(self, /) -> list[str]:
        """
        The names of the members.
        """
    @property
    def kind(self, /) -> str:
        """
        "struct" or "union".
        """
    @property
    def members(self, /) -> list[BtfMember]:
        """
        The members, as in memory.
        """
    @property
    def name(self, /) -> str:
        """
        Its name, without "struct".
        """
    @property
    def size(self, /) -> int:
        """
        Its size in bytes.
        """

@final
class BusLock(Exit):
    """
    The guest locked the bus: an atomic access across cache lines, or to uncached memory. With VM(bus_lock=True).
    """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, vcpu: SupportsIndex = 0) -> BusLock: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...

@final
class Console:
    """
    The far end of a serial line: reads what the guest prints, and types.
    """
    def __repr__(self, /) -> str: ...
    @property
    def dropped(self, /) -> int:
        """
        How many bytes of output were dropped because nobody read them (the newest MiB is kept).
        """
    @property
    def listening(self, /) -> bool:
        """
        Has the guest asked to be interrupted when input comes? Linux does once a program reads the console; what is sent
        earlier may be lost, as on a real serial line.
        """
    def read(self, /, timeout: SupportsFloat | SupportsIndex | None = 0.0) -> bytes:
        """
        What the guest has printed since the last read; waits up to `timeout` seconds for something to come.
        """
    def read_until(self, /, text: "str | bytes", timeout: SupportsFloat | SupportsIndex | None = 10.0) -> str:
        """
        What the guest prints up to and including `text`, as text. Later output stays for the next read.

        Raises TimeoutError, with the end of what came, after `timeout` seconds or when the guest has stopped.
        """
    def send(self, /, data: "str | bytes") -> int:
        """
        Types `data` (text or bytes) into the guest; returns how many bytes there was room for.
        """

@final
class Debug(Exit):
    """
    A breakpoint, watchpoint or single step (KVM_EXIT_DEBUG).
    """

    __match_args__: Final[tuple[str, str, str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(
        cls,
        /,
        exception: SupportsIndex,
        pc: SupportsIndex,
        dr6: SupportsIndex,
        dr7: SupportsIndex,
        vcpu: SupportsIndex = 0,
    ) -> Debug: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def dr6(self, /) -> int:
        """
        DR6 at the exit.
        """
    @property
    def dr7(self, /) -> int:
        """
        DR7 at the exit.
        """
    @property
    def exception(self, /) -> int:
        """
        Vector: 1 for #DB, 3 for #BP.
        """
    @property
    def pc(self, /) -> int:
        """
        Linear address.
        """

@final
class DirtyRingFull(Exit):
    """
    The ring of dirty pages is full (KVM_EXIT_DIRTY_RING_FULL).
    """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, vcpu: SupportsIndex = 0) -> DirtyRingFull: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...

@final
class Doorbell:
    """
    A place whose writes KVM counts, without an exit: `vm.doorbell(port=0x80)`.

    It can be waited for by wait() from any thread, by `await bell` and `async for count in bell`, and by select or epoll
    (fileno()). A context manager that removes it.
    """
    def __aiter__(self, /) -> AsyncIterator[int]:
        """
        Yields counts of 1 and more as they come, until the doorbell is removed or its VM closed.
        """
    def __await__(self, /) -> Generator[Any, Any, int]:
        """
        Waits as wait() does, while the event loop runs on.
        """
    def __enter__(self, /) -> Doorbell: ...
    def __exit__(self, /, *_exception: "object") -> None: ...
    def __repr__(self, /) -> str: ...
    def fileno(self, /) -> int:
        """
        The eventfd, readable when the bell has rung; it is closed when the last reference to this object is gone.

        Reading eight bytes from it (os.eventfd_read) is read().
        """
    @property
    def gpa(self, /) -> int | None:
        """
        The guest-physical address, or None for a port.
        """
    @property
    def port(self, /) -> int | None:
        """
        The port, or None for an address.
        """
    def read(self, /) -> int:
        """
        How often it has rung since it was last read; 0 if it has not. Does not wait.
        """
    def remove(self, /) -> None:
        """
        Has these writes exit again. Who waits is woken. Does nothing if it has been removed.
        """
    @property
    def removed(self, /) -> bool:
        """
        Has it been removed, or its VM closed?
        """
    def wait(self, /, timeout: SupportsFloat | SupportsIndex | None = None) -> int:
        """
        Waits until it has rung, and returns how often since it was last read; 0 after `timeout` seconds.

        ValueError once it has been removed, or its VM closed, and every ring has been read. Several threads may wait: each
        ring is counted by one of them.
        """

@disjoint_base
class Exit:
    """
    Why a vCPU came out of the guest: the base of all exits.
    """
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    @property
    def vcpu(self, /) -> int:
        """
        The vCPU that made the exit, from 0 on.
        """

@final
class Expression:
    """
    An unsigned 64-bit value, or a truth, to be computed from a guest; arithmetic wraps as the processor's does.

    Made of bj.reg, bj.mem, bj.exit and integers. Compare with `== != < <= > >=` (unsigned), combine truths with `& | ~` (and
    in parentheses: they bind tighter than comparisons), ask `.isin([...])`. Of two integers, `&` and `|` combine the bits; if one
    of them is a truth, the other one is as well: an integer that is not 0. `~` is always the truth that the other one does not hold.
    What the guest has not (the exit no such field, an address no memory) makes what is computed from it absent, too; a comparison
    with it does not hold, `~` of that does; so it is with what is divided by 0. `and`, `or` and `not` cannot be kept for later and raise TypeError. At most 4096 parts, 200 deep:
    ValueError.
    """
    def __add__(self, other: object, /) -> Expression: ...
    def __and__(self, other: object, /) -> Expression: ...
    def __bool__(self, /) -> bool: ...
    def __eq__(self, other: object, /) -> Expression: ...  # type: ignore[override]
    def __floordiv__(self, other: object, /) -> Expression: ...
    def __ge__(self, other: object, /) -> Expression: ...
    def __gt__(self, other: object, /) -> Expression: ...
    def __invert__(self, /) -> Expression: ...
    def __le__(self, other: object, /) -> Expression: ...
    def __lshift__(self, other: object, /) -> Expression: ...
    def __lt__(self, other: object, /) -> Expression: ...
    def __mod__(self, other: object, /) -> Expression: ...
    def __mul__(self, other: object, /) -> Expression: ...
    def __ne__(self, other: object, /) -> Expression: ...  # type: ignore[override]
    def __or__(self, other: object, /) -> Expression: ...
    def __radd__(self, other: object, /) -> Expression: ...
    def __rand__(self, other: object, /) -> Expression: ...
    def __repr__(self, /) -> str: ...
    def __rfloordiv__(self, other: object, /) -> Expression: ...
    def __rlshift__(self, other: object, /) -> Expression: ...
    def __rmod__(self, other: object, /) -> Expression: ...
    def __rmul__(self, other: object, /) -> Expression: ...
    def __ror__(self, other: object, /) -> Expression: ...
    def __rrshift__(self, other: object, /) -> Expression: ...
    def __rshift__(self, other: object, /) -> Expression: ...
    def __rsub__(self, other: object, /) -> Expression: ...
    def __rxor__(self, other: object, /) -> Expression: ...
    def __sub__(self, other: object, /) -> Expression: ...
    def __xor__(self, other: object, /) -> Expression: ...
    @staticmethod
    def field(name: str) -> Expression:
        """
        A field of the exit at hand: what bj.exit.port is.
        """
    @staticmethod
    def fields() -> list[str]:
        """
        The names of the fields that exits have.
        """
    def holds(self, /, vm: "VM | None" = None, exit: "Exit | None" = None) -> bool:
        """
        Does it hold now in `vm`, or with `exit` at hand: is it there, and not 0? Otherwise as value().
        """
    def isin(self, /, values: "Iterable[int]") -> Expression:
        """
        Is the value one of these integers? A range may be as long as it likes, from 0 on; else at most 65536 of them.
        """
    @staticmethod
    def memory(bits: "int", address: "Expression | int") -> Expression:
        """
        Guest-physical memory of 8, 16, 32 or 64 bits at `address`, little-endian: what bj.mem.u64(address) is.
        """
    @staticmethod
    def register(name: str) -> Expression:
        """
        A general register, or a part of one: what bj.reg.rax is.
        """
    def value(self, /, vm: "VM | None" = None, exit: "Exit | None" = None) -> int | None:
        """
        The value now in `vm`, or with `exit` at hand, on its vCPU; None where it is absent. A truth is 0 or 1.

        The VM is to be stopped, or this a handler of it, if registers are asked for (RunningError).
        """
    @staticmethod
    def virtual(bits: "int", address: "Expression | int") -> Expression:
        """
        The same at an address as the exit's vCPU sees it, through its page tables: what bj.virtual.u64(address) is.
        """

@final
class FailEntry(Exit):
    """
    The processor refused the guest's state (KVM_EXIT_FAIL_ENTRY).
    """

    __match_args__: Final[tuple[str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, reason: SupportsIndex, cpu: SupportsIndex, vcpu: SupportsIndex = 0) -> FailEntry: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def cpu(self, /) -> int:
        """
        Host CPU on which it happened.
        """
    @property
    def reason(self, /) -> int:
        """
        The hardware's reason.
        """

@final
class FloatStack:
    """
    The x87 stack as floats, live. They are rounded to 64 bits; `st_raw` has all 80.
    """
    def __getitem__(self, index: SupportsIndex, /) -> float: ...
    def __len__(self, /) -> int: ...
    def __repr__(self, /) -> str: ...
    def __setitem__(self, index: SupportsIndex, value: SupportsFloat | SupportsIndex, /) -> None: ...

@final
class Fpu:
    """
    The floating-point and vector registers of one vCPU, live: reading asks the vCPU (one ioctl), writing sets it (two).
    """
    def __repr__(self, /) -> str: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    @property
    def components(self, /) -> dict[str, tuple[int, int]]:
        """
        Where the parts of `raw` beyond x87 and SSE lie: their name in XCR0 ("avx", "opmask") -> (offset, length in bytes).
        """
    @property
    def fcw(self, /) -> int:
        """
        The x87 control word.
        """
    @fcw.setter
    def fcw(self, /, value: Any) -> None: ...
    @property
    def fdp(self, /) -> int:
        """
        The address of the last x87 operand.
        """
    @fdp.setter
    def fdp(self, /, value: Any) -> None: ...
    @property
    def fip(self, /) -> int:
        """
        The address of the last x87 instruction.
        """
    @fip.setter
    def fip(self, /, value: Any) -> None: ...
    @property
    def fop(self, /) -> int:
        """
        The opcode of the last x87 instruction.
        """
    @fop.setter
    def fop(self, /, value: Any) -> None: ...
    @property
    def fsw(self, /) -> int:
        """
        The x87 status word; bits 11 to 13 are the top of the stack.
        """
    @fsw.setter
    def fsw(self, /, value: Any) -> None: ...
    @property
    def ftw(self, /) -> int:
        """
        The abridged x87 tag word: a bit for each physical register in use (Intel SDM vol. 1, 10.5.1).
        """
    @ftw.setter
    def ftw(self, /, value: Any) -> None: ...
    @property
    def k(self, /) -> VectorRegisters:
        """
        The masks K0 to K7, as integers of 64 bits; none without AVX-512.
        """
    @property
    def mxcsr(self, /) -> int:
        """
        MXCSR: rounding and exceptions of SSE. RegisterError for reserved bits.
        """
    @mxcsr.setter
    def mxcsr(self, /, value: Any) -> None: ...
    @property
    def pkru(self, /) -> int:
        """
        PKRU: the rights of each protection key. ValueError where the processor has none.
        """
    @pkru.setter
    def pkru(self, /, value: Any) -> None: ...
    @property
    def raw(self, /) -> bytes:
        """
        The whole XSAVE area in its standard form, as bytes; setting takes as many.
        """
    @raw.setter
    def raw(self, /, value: Any) -> None: ...
    @property
    def st(self, /) -> FloatStack:
        """
        ST(0) to ST(7) as floats, the top of the stack first. A register that is set is in use.
        """
    @property
    def st_raw(self, /) -> VectorRegisters:
        """
        ST(0) to ST(7) as integers of 80 bits: what the registers hold, exactly. Their low 64 bits are MM0 to MM7.
        """
    @property
    def xmm(self, /) -> VectorRegisters:
        """
        XMM0 on, as integers of 128 bits: `fpu.xmm[0]`.
        """
    @property
    def ymm(self, /) -> VectorRegisters:
        """
        YMM0 on, as integers of 256 bits; none without AVX.
        """
    @property
    def zmm(self, /) -> VectorRegisters:
        """
        ZMM0 on, as integers of 512 bits; none without AVX-512.
        """

@final
class GdbServer:
    """
    A server for gdb, as vm.gdbserver() makes it. It serves until it or its VM is closed, one client after another.
    """
    def __enter__(self, /) -> GdbServer: ...
    def __exit__(self, /, *_exception: "object") -> None: ...
    def __repr__(self, /) -> str: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    @property
    def address(self, /) -> str:
        """
        What gdb's `target remote` takes: "127.0.0.1:1234", or the path of a Unix socket.
        """
    def close(self, /) -> None:
        """
        Ends it: a client that is connected is told that the guest is gone, breakpoints are removed, and the guest goes on.
        """
    @property
    def closed(self, /) -> bool:
        """
        Has it ended? It ends with its VM, too.
        """
    @property
    def command(self, /) -> str:
        """
        The command that connects gdb.
        """
    @property
    def connected(self, /) -> bool:
        """
        Is a client connected now, with the guest in its hands?
        """
    @property
    def port(self, /) -> int | None:
        """
        The TCP port; None for a Unix socket.
        """
    def wait(self, /, timeout: SupportsFloat | SupportsIndex | None = None) -> None:
        """
        Waits until a client is connected and the guest is held. TimeoutError after `timeout` seconds.
        """

@final
class GuestException(Exit):
    """
    An exception of code loaded with mode="user". The vCPU is back where it happened: change registers and run on.
    """

    __match_args__: Final[tuple[str, str, str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(
        cls,
        /,
        vector: SupportsIndex,
        error_code: SupportsIndex | None,
        rip: SupportsIndex,
        cr2: SupportsIndex,
        vcpu: SupportsIndex = 0,
    ) -> GuestException: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def cr2(self, /) -> int:
        """
        The address that faulted, for vector 14.
        """
    @property
    def error_code(self, /) -> int | None:
        """
        For the vectors that have one, else None.
        """
    @property
    def rip(self, /) -> int:
        """
        The faulting instruction (or the next one, for traps).
        """
    @property
    def vector(self, /) -> int:
        """
        0 to 255 (Intel SDM vol. 3, 6.3).
        """

@final
class Handle:
    """
    A registered handler. Use it as a decorator, as a context manager, or keep it to remove the handler later.
    """
    def __call__(self, /, *args: "object", **kwargs: "object") -> Any:
        """
        As a decorator, registers the function; afterwards, calls it.
        """
    def __enter__(self, /) -> Handle: ...
    def __exit__(self, /, *_exception: "object") -> None: ...
    def __repr__(self, /) -> str: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    @property
    def access(self, /) -> str:
        """
        "r", "w" or "rw", seen from the guest.
        """
    @property
    def enabled(self, /) -> bool:
        """
        Is the handler called? Setting it takes effect before the next exit.
        """
    @enabled.setter
    def enabled(self, /, yes: bool) -> None: ...
    @property
    def function(self, /) -> Any | None:
        """
        The function that is called; None for a handle that waits for one.
        """
    @property
    def hits(self, /) -> int:
        """
        How often the handler has been called; kept when it has been removed.
        """
    def pass_on(self, /, exit: "PortIn | PortOut | MmioRead | MmioWrite") -> "int | Action":
        """
        Has `exit` answered as if this handler and those asked before it were not there, while the guest waits.

        For handlers of ports and memory. The result is what the handler may return in turn: an integer for a read,
        bj.SKIP for a write that has been done, bj.STOP where a handler behind stops the run (nothing is read or written
        then until the handler returns it). Raises ValueError if the handler has been removed.
        """
    @property
    def range(self, /) -> range | None:
        """
        The ports, addresses or MSR numbers that it is for; None for a handler of whole classes.
        """
    def remove(self, /) -> None:
        """
        Removes the handler, before the next exit. Does nothing if it has been removed.
        """
    @property
    def seconds(self, /) -> float:
        """
        Seconds spent in the function so far; kept when it has been removed. Native handlers take none that is counted.
        """
    @property
    def subject(self, /) -> str:
        """
        What the handler is for: "port", "mmio", "msr", "breakpoint", "watchpoint", or the class of exits as a word, such as "Hlt"; "Exit" is every class.
        """
    @property
    def when(self, /) -> Expression | None:
        """
        Its filter: it is called for exits at which this holds. None where it is called for all.
        """

@final
class Hlt(Exit):
    """
    The guest executed HLT, and no in-kernel interrupt controller waits for the next interrupt.
    """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, vcpu: SupportsIndex = 0) -> Hlt: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...

@final
class HyperV(Exit):
    """
    What the guest asks of Hyper-V that KVM leaves to user space (KVM_EXIT_HYPERV).
    """

    __match_args__: Final[tuple[str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(
        cls, /, kind: SupportsIndex, data: SupportsGetItem[int, SupportsIndex], vcpu: SupportsIndex = 0
    ) -> HyperV: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def data(self, /) -> list[int]:
        """
        The words that follow, as KVM laid them out.
        """
    @property
    def kind(self, /) -> int:
        """
        KVM_EXIT_HYPERV_*.
        """

@final
class Hypercall(Exit):
    """
    A hypercall that KVM leaves to user space (Linux, Documentation/virt/kvm/x86/hypercalls.rst).

    A handler's integer is what the guest gets in RAX; without one, the call fails with -1000 (KVM_ENOSYS).
    """

    __match_args__: Final[tuple[str, str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(
        cls,
        /,
        number: SupportsIndex,
        args: SupportsLenAndGetItem[SupportsIndex],
        long_mode: bool,
        vcpu: SupportsIndex = 0,
    ) -> Hypercall: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def args(self, /) -> list[int]:
        """
        RBX, RCX, RDX, RSI and two that x86 does not use.
        """
    @property
    def long_mode(self, /) -> bool:
        """
        Made in 64-bit mode.
        """
    @property
    def number(self, /) -> int:
        """
        KVM_HC_*: 12 is MAP_GPA_RANGE.
        """

@final
class Instruction:
    """
    One decoded instruction: where it is, its bytes, and its text in Intel syntax.

    Where symbols are known, `symbol` names the place that it is at, and `target_symbol` the one that it refers to.
    """
    def __eq__(self, value: object, /) -> bool: ...
    def __len__(self, /) -> int: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __repr__(self, /) -> str: ...
    def __str__(self, /) -> str: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    @property
    def address(self, /) -> int:
        """
        Where it is.
        """
    @property
    def bytes(self, /) -> bytes:
        """
        Its bytes.
        """
    @property
    def symbol(self, /) -> str | None:
        """
        Where it is, as "name" or "name+0x12".
        """
    @property
    def target(self, /) -> int | None:
        """
        The address that it refers to: where a call or a jump goes, or the memory that is reached relative to RIP.
        """
    @property
    def target_symbol(self, /) -> str | None:
        """
        What `target` is, as "name" or "name+0x12".
        """
    @property
    def text(self, /) -> str:
        """
        Its text.
        """

@final
class InternalError(Exit):
    """
    KVM could not go on, most often because it cannot emulate an instruction (KVM_EXIT_INTERNAL_ERROR).
    """

    __match_args__: Final[tuple[str, str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __getnewargs_ex__(self, /) -> "tuple[tuple[object, ...], dict[str, object]]":
        """
        Pickles as the arguments that it is made by.
        """
    def __hash__(self, /) -> int: ...
    def __new__(
        cls,
        /,
        suberror: SupportsIndex,
        rip: SupportsIndex,
        instruction: SupportsGetItem[int, SupportsIndex] = ...,
        *,
        bits: SupportsIndex = 64,
        data: SupportsGetItem[int, SupportsIndex] = ...,
        vcpu: SupportsIndex = 0,
    ) -> InternalError: ...
    def __repr__(self, /) -> str: ...
    @property
    def bits(self, /) -> int:
        """
        16, 32 or 64.
        """
    @property
    def data(self, /) -> list[int]:
        """
        KVM's data words.
        """
    @property
    def disassembly(self, /) -> str:
        """
        The instruction as text; empty where KVM gave no bytes.
        """
    @property
    def instruction(self, /) -> bytes:
        """
        The bytes that KVM gave up on; empty where it gave none.
        """
    @property
    def rip(self, /) -> int:
        """
        The instruction pointer.
        """
    @property
    def suberror(self, /) -> int:
        """
        KVM_INTERNAL_ERROR_*; 1 is an instruction that KVM cannot emulate.
        """

@final
class InterruptWindow(Exit):
    """
    The guest can take an interrupt now that cpu.inject_interrupt() has queued; it gets it next.
    """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, vcpu: SupportsIndex = 0) -> InterruptWindow: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...

@final
class Interrupted(Exit):
    """
    Somebody stopped the machine: by "kick", "pause", "stop" or "close"; or what it ran until holds: by "until";
    or a trace has no room for another record, and nobody reads it: by "trace".
    """

    __match_args__: Final[tuple[str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, by: str, vcpu: SupportsIndex = 0) -> Interrupted: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def by(self, /) -> str:
        """
        Who.
        """

@final
class IoapicEoi(Exit):
    """
    The guest ended the service of a level-triggered interrupt that came through the split irqchip's I/O APIC.
    """

    __match_args__: Final[tuple[str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, vector: SupportsIndex, vcpu: SupportsIndex = 0) -> IoapicEoi: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def vector(self, /) -> int:
        """
        Its vector.
        """

@final
class IrqEvent:
    """
    An event that interrupts the guest without entering belljar: `vm.irq(5).eventfd()`, `vm.msi_eventfd(address, data)`.

    Whoever writes an integer of eight bytes to fileno() interrupts: any thread, and any process that has got the descriptor
    (os.eventfd_write, a device of another program). A context manager that removes it.
    """
    def __enter__(self, /) -> IrqEvent: ...
    def __exit__(self, /, *_exception: "object") -> None: ...
    def __repr__(self, /) -> str: ...
    def fileno(self, /) -> int:
        """
        The eventfd; it is closed when the last reference to this object is gone.
        """
    def remove(self, /) -> None:
        """
        Disconnects the event from the VM. Does nothing if that has been done.
        """
    @property
    def removed(self, /) -> bool:
        """
        Has it been removed?
        """
    def trigger(self, /) -> None:
        """
        Interrupts the guest. ValueError once the event has been removed.
        """

@final
class IrqLine:
    """
    An interrupt line (GSI) of a VM with interrupt controllers. From any thread, also while the guest runs.
    """
    def __repr__(self, /) -> str: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    def eventfd(self, /) -> IrqEvent:
        """
        An event whose every write is a pulse of the line, made by KVM itself (irqfd). Keep it: an event that is gone pulls
        nothing.

        For a line that the guest has programmed as edge-triggered; on a masked pin it is lost. ValueError once the VM is closed.
        """
    @property
    def level(self, /) -> bool:
        """
        Is the line high? Setting it is raise_() or lower().
        """
    @level.setter
    def level(self, /, high: bool) -> None: ...
    @property
    def line(self, /) -> int:
        """
        The number of the line, 0 to 23.
        """
    def lower(self, /) -> None:
        """
        Makes the line low.
        """
    def pulse(self, /) -> None:
        """
        Makes the line high and low again: one interrupt, where the guest has programmed the line as edge-triggered.
        """
    def raise_(self, /) -> None:
        """
        Makes the line high, and leaves it so.
        """

@final
class Kernel:
    """
    A Linux kernel in guest memory, as `find_kernel` finds it.
    """
    def __repr__(self, /) -> str: ...
    @property
    def banner(self, /) -> str:
        """
        What it says at boot: "Linux version 6.1.0 ...". Empty for a kernel that keeps no symbols of data.
        """
    @property
    def base(self, /) -> int:
        """
        The guest-virtual address of its first byte, `_text`.
        """
    @property
    def cr3(self, /) -> int:
        """
        A CR3 under which all of the kernel is mapped, whatever runs: that of `init_top_pgt`.
        """
    @property
    def gpa(self, /) -> int:
        """
        The guest-physical address of its first byte.
        """
    @property
    def levels(self, /) -> int:
        """
        The levels of its page tables: 4 or 5.
        """
    @property
    def phys_base(self, /) -> int:
        """
        The kernel's own `phys_base`: what is at `address` of its image lies at `address - 0xffffffff80000000 + phys_base`,
        modulo 2**64.
        """
    def physical(self, /, address: SupportsIndex) -> int:
        """
        The guest-physical address of what is at `address` of the kernel's image: its code, data and BSS, but nothing
        that it has allocated.
        """
    @property
    def release(self, /) -> str:
        """
        Its release, as `uname -r` says it.
        """
    @property
    def slide(self, /) -> int:
        """
        How far KASLR has moved its addresses, in bytes; 0 without KASLR.
        """
    @property
    def symbols(self, /) -> KernelSymbols:
        """
        Its symbols.
        """
    @property
    def vmcoreinfo(self, /) -> dict[str, str]:
        """
        The same as a dict of strings: "OSRELEASE", "SYMBOL(init_uts_ns)", "KERNELOFFSET", ...
        """
    @property
    def vmcoreinfo_text(self, /) -> str:
        """
        What the kernel tells readers of its dumps (VMCOREINFO), as text: a line per name and value. Empty for a kernel
        that was built without CONFIG_CRASH_DUMP.
        """

@final
class KernelSymbols:
    """
    The symbols of a running kernel: a mapping from names to addresses, as the guest's code uses them.

    It has the verbs of `Symbols`. They come from the kernel's own memory (kallsyms), moved as KASLR has moved them. Of
    several symbols with one name, the global one counts, else the lowest; `find` gives all of them. Sizes are distances
    to the next symbol. What each CPU has its own of is counted from the beginning of a CPU's area, up to Linux 6.14.
    """
    def __contains__(self, name: Any, /) -> bool: ...
    def __getitem__(self, name: str, /) -> int: ...
    def __iter__(self, /) -> Iterator[str]: ...
    def __len__(self, /) -> int: ...
    def __repr__(self, /) -> str: ...
    def at(self, /, address: SupportsIndex) -> str | None:
        """
        What lies at `address`, as "name+0x12" or "name", or None for what is not the kernel's.
        """
    @property
    def complete(self, /) -> bool:
        """
        Could every symbol be read? If not, the guest's tables are damaged, and some are missing here.
        """
    def find(self, /, pattern: Any) -> list[tuple[str, int]]:
        """
        Names and addresses of all symbols that fit `pattern`: text in which `*` stands for any characters and `?` for
        one, or a compiled regular expression, which may match anywhere in a name.
        """
    def get(self, /, name: str, default: SupportsIndex | None = None) -> int | None:
        """
        The address of `name`, or `default` if there is no such symbol.
        """
    def items(self, /) -> list[tuple[str, int]]:
        """
        Names and addresses, in the order of the addresses.
        """
    def keys(self, /) -> list[str]:
        """
        The names, in the order of their addresses.
        """
    def kind(self, /, name: str) -> str:
        """
        The letter that nm gives the symbol `name`: "T" or "t" for code, "D", "d", "B", "b", "R", "r" for data; small for
        what only its own file knows. KeyError if there is none of that name.
        """
    def lookup(self, /, address: SupportsIndex) -> tuple[str, int] | None:
        """
        What lies at `address`: name of the symbol and distance from its beginning, or None for what is not the kernel's.
        """
    def size(self, /, name: str) -> int:
        """
        How many bytes there are from `name` to the next symbol. KeyError if there is none of that name.
        """
    def values(self, /) -> list[int]:
        """
        The addresses, in ascending order.
        """

@final
class Lapic:
    """
    The registers of the local APIC (Intel SDM vol. 3, table 11-1), by name, or by offset: `lapic.tpr`, `lapic[0x80]`.

    Reading is one ioctl; writing is two, and sets the register as it is stored: it has no effects of a guest's write.
    """
    def __getitem__(self, which: Any, /) -> int: ...
    def __repr__(self, /) -> str: ...
    def __setitem__(self, which: Any, value: SupportsIndex, /) -> None: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    def as_dict(self, /) -> "dict[str, int | frozenset[int]]":
        """
        All registers by name, as a copy; `isr`, `tmr` and `irr` as sets of vectors.
        """
    @property
    def dfr(self, /) -> int:
        """
        Destination format.
        """
    @dfr.setter
    def dfr(self, /, value: SupportsIndex) -> None: ...
    @property
    def esr(self, /) -> int:
        """
        Error status.
        """
    @esr.setter
    def esr(self, /, value: SupportsIndex) -> None: ...
    @property
    def icr_high(self, /) -> int:
        """
        The last inter-processor interrupt: destination.
        """
    @icr_high.setter
    def icr_high(self, /, value: SupportsIndex) -> None: ...
    @property
    def icr_low(self, /) -> int:
        """
        The last inter-processor interrupt: vector, delivery mode.
        """
    @icr_low.setter
    def icr_low(self, /, value: SupportsIndex) -> None: ...
    @property
    def id(self, /) -> int:
        """
        The APIC id, in the top byte (all 32 bits in x2APIC mode).
        """
    @id.setter
    def id(self, /, value: SupportsIndex) -> None: ...
    @property
    def irr(self, /) -> frozenset[int]:
        """
        The vectors that were requested and wait.
        """
    @property
    def isr(self, /) -> frozenset[int]:
        """
        The vectors in service.
        """
    @property
    def ldr(self, /) -> int:
        """
        Logical destination.
        """
    @ldr.setter
    def ldr(self, /, value: SupportsIndex) -> None: ...
    @property
    def lvt_error(self, /) -> int:
        """
        The error interrupt's entry.
        """
    @lvt_error.setter
    def lvt_error(self, /, value: SupportsIndex) -> None: ...
    @property
    def lvt_lint0(self, /) -> int:
        """
        LINT0: the PIC, if it is wired as PCs do.
        """
    @lvt_lint0.setter
    def lvt_lint0(self, /, value: SupportsIndex) -> None: ...
    @property
    def lvt_lint1(self, /) -> int:
        """
        LINT1: NMI, if it is wired as PCs do.
        """
    @lvt_lint1.setter
    def lvt_lint1(self, /, value: SupportsIndex) -> None: ...
    @property
    def lvt_pmc(self, /) -> int:
        """
        The performance counters' entry.
        """
    @lvt_pmc.setter
    def lvt_pmc(self, /, value: SupportsIndex) -> None: ...
    @property
    def lvt_thermal(self, /) -> int:
        """
        The thermal sensor's entry.
        """
    @lvt_thermal.setter
    def lvt_thermal(self, /, value: SupportsIndex) -> None: ...
    @property
    def lvt_timer(self, /) -> int:
        """
        The timer's vector and mode; bit 16 masks it.
        """
    @lvt_timer.setter
    def lvt_timer(self, /, value: SupportsIndex) -> None: ...
    @property
    def page(self, /) -> bytes:
        """
        The 1024 bytes that hold the registers, as a copy; setting takes as many.
        """
    @page.setter
    def page(self, /, value: Any) -> None: ...
    @property
    def ppr(self, /) -> int:
        """
        Processor priority: the higher of the task's and the interrupt's in service.
        """
    @ppr.setter
    def ppr(self, /, value: SupportsIndex) -> None: ...
    @property
    def svr(self, /) -> int:
        """
        Spurious vector; bit 8 enables the APIC.
        """
    @svr.setter
    def svr(self, /, value: SupportsIndex) -> None: ...
    @property
    def timer_current(self, /) -> int:
        """
        What the timer has counted down to.
        """
    @timer_current.setter
    def timer_current(self, /, value: SupportsIndex) -> None: ...
    @property
    def timer_divide(self, /) -> int:
        """
        The timer's divider, encoded.
        """
    @timer_divide.setter
    def timer_divide(self, /, value: SupportsIndex) -> None: ...
    @property
    def timer_initial(self, /) -> int:
        """
        What the timer counts down from; 0 stops it.
        """
    @timer_initial.setter
    def timer_initial(self, /, value: SupportsIndex) -> None: ...
    @property
    def tmr(self, /) -> frozenset[int]:
        """
        The vectors that were raised by a level.
        """
    @property
    def tpr(self, /) -> int:
        """
        Task priority: interrupts at or below it wait.
        """
    @tpr.setter
    def tpr(self, /, value: SupportsIndex) -> None: ...
    @property
    def version(self, /) -> int:
        """
        The version, and the number of LVT entries.
        """
    @version.setter
    def version(self, /, value: SupportsIndex) -> None: ...

@final
class Mapping:
    """
    A range of virtual addresses with the same permissions, in pages of one size.

    `gpa` is where its first page lies; if `contiguous`, the others follow it.
    """
    def __contains__(self, address: SupportsIndex, /) -> bool: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __repr__(self, /) -> str: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    @property
    def contiguous(self, /) -> bool:
        """
        The pages lie one behind the other in physical memory.
        """
    @property
    def end(self, /) -> int:
        """
        One past the last address.
        """
    @property
    def executable(self, /) -> bool:
        """
        Instructions may be fetched from it.
        """
    @property
    def gpa(self, /) -> int:
        """
        The guest-physical address of the first page.
        """
    @property
    def page_size(self, /) -> int:
        """
        Bytes of a page.
        """
    @property
    def size(self, /) -> int:
        """
        Length in bytes.
        """
    @property
    def start(self, /) -> int:
        """
        The first address.
        """
    @property
    def user(self, /) -> bool:
        """
        Ring 3 may touch it.
        """
    @property
    def writable(self, /) -> bool:
        """
        Writes are allowed.
        """

@final
class Memory:
    """
    The guest's physical memory. Addresses are guest-physical bytes; integers are little-endian.

    Reading or writing where no RAM or ROM is raises GuestMemoryError. Works while the guest runs, too.
    """
    def __getitem__(self, index: Any, /) -> Any: ...
    def __repr__(self, /) -> str: ...
    def __setitem__(self, index: Any, value: Any, /) -> None: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    def add(
        self,
        /,
        at: SupportsIndex,
        size: Any | None = None,
        *,
        rom: bool = False,
        data: Any | None = None,
        file: Any | None = None,
        offset: SupportsIndex = 0,
        shared: bool = False,
        huge: Any = ...,
    ) -> Region:
        """
        Adds RAM, or with rom=True ROM, of `size` bytes at `at`, both multiples of 0x1000.

        The guest's writes to ROM change nothing, and come to vm.on_mmio(..., access="w"); Python may write to it.
        `data` is written at its beginning, and gives the size if there is no other. Overlaps with memory or a native
        device, and addresses past 2**52, raise RangeError.

        `file` (a path, a descriptor, or something with fileno()) is mapped, from `offset` on, instead of zeroes; the size is
        then by default what is left of the file, rounded up to pages. Writes stay in the VM, or with shared=True reach the
        file and whoever else maps it (os.memfd_create shares memory between processes). Do not make a mapped file
        shorter: touching what is gone kills this process (SIGBUS).

        huge=True asks the host for pages of 2 MiB where it finds some; "2M" and "1G" take reserved ones, or raise
        HostError.
        """
    def compare(self, /, at: SupportsIndex, other: Any, size: SupportsIndex | None = None) -> "int | None":
        """
        Where the memory at `at` first differs from `other`, in bytes from `at`, or None if it is the same.

        `other` is bytes, or the address of other memory (then `size` is needed).
        """
    def copy(self, /, at: SupportsIndex, source: SupportsIndex, size: SupportsIndex) -> None:
        """
        Copies `size` bytes to `at` from `source`. The two may overlap.
        """
    def fill(self, /, at: SupportsIndex, size: SupportsIndex, value: Any | None = None) -> None:
        """
        Fills `size` bytes from `at` on with `value`: a byte (0 to 255; by default 0), or bytes that are
        repeated.
        """
    def hexdump(
        self, /, at: SupportsIndex, size: SupportsIndex = ..., width: SupportsIndex = 16, *, squeeze: bool = True
    ) -> "str":
        """
        `size` bytes from `at` on as text: address, hexadecimal, characters. `??` is where no memory is.

        `width` is bytes per line. Lines that repeat the one before are one `*`, except the last; all of them with
        squeeze=False.
        """
    def load(self, /, source: Any, at: SupportsIndex) -> int:
        """
        Writes a file (its path), or bytes, at `at`; returns how many bytes that were.
        """
    def read(self, /, at: SupportsIndex, size: SupportsIndex) -> bytes:
        """
        `size` bytes from `at` on, as a copy.
        """
    def read_array(self, /, at: SupportsIndex, count: SupportsIndex, dtype: Any | None = None) -> Any:
        """
        `count` items from `at` on as a numpy array of its own: `read_array(0x1000, 512, "<u8")` for 64-bit words.

        `dtype` is numpy's, structured ones too; bytes by default. `write` puts an array back; `view` makes no copy.
        """
    def read_cstring(
        self, /, at: SupportsIndex, most: SupportsIndex = 4096, encoding: str | None = None, errors: str = "strict"
    ) -> "bytes | str":
        """
        The C string at `at`: the bytes up to a zero byte, or `most` bytes if none of them is zero (as strnlen counts).

        With an `encoding` whose only zero byte is the end ("utf-8", "latin-1") it is decoded to str; `errors` is as for
        bytes.decode. GuestMemoryError if memory ends before the zero and before `most`.
        """
    def read_ctypes(self, /, at: SupportsIndex, kind: Any) -> Any:
        """
        The ctypes object at `at`, as a copy: `read_ctypes(0x1000, Header)` for a Structure, Union, array or plain type.

        What `write_ctypes` writes back. A pointer in it is the guest's: never follow it with ctypes, which would
        look in this process.
        """
    def read_i16(self, /, at: SupportsIndex) -> int:
        """
        The 16-bit signed integer at `at`.
        """
    def read_i32(self, /, at: SupportsIndex) -> int:
        """
        The 32-bit signed integer at `at`.
        """
    def read_i64(self, /, at: SupportsIndex) -> int:
        """
        The 64-bit signed integer at `at`.
        """
    def read_i8(self, /, at: SupportsIndex) -> int:
        """
        The signed byte at `at`.
        """
    def read_many(self, /, addresses: Any, dtype: Any | None = None) -> Any:
        """
        The values at many `addresses`, which need no order, as a numpy array of its own and of their shape.

        `addresses` is an array of 64-bit integers (the fast way), or any iterable of integers. `dtype` is numpy's, by
        default "<u8", a 64-bit word: `read_many(base + 8 * np.arange(512))`; or a number of bytes, for so many of them in
        one more dimension. An address without memory is a
        GuestMemoryError. Other threads run meanwhile, the guest too: each value is read once, but not all at one moment.
        """
    def read_struct(self, /, at: SupportsIndex, format: str) -> "tuple[Any, ...]":
        """
        The values at `at` that `format` of the struct module describes: `read_struct(0x1000, "<QI8s")`.

        Begin the format with "<": without it there is padding between members, as a C compiler puts it.
        """
    def read_u16(self, /, at: SupportsIndex) -> int:
        """
        The 16-bit unsigned integer at `at`.
        """
    def read_u32(self, /, at: SupportsIndex) -> int:
        """
        The 32-bit unsigned integer at `at`.
        """
    def read_u64(self, /, at: SupportsIndex) -> int:
        """
        The 64-bit unsigned integer at `at`.
        """
    def read_u8(self, /, at: SupportsIndex) -> int:
        """
        The byte at `at`.
        """
    def read_utf16(self, /, at: SupportsIndex, most: SupportsIndex = 4096, errors: str = "strict") -> "str":
        """
        The UTF-16 string at `at`, little-endian, up to a zero code unit, or `most` code units if none of them is zero.

        `errors` is as for bytes.decode: half a surrogate pair is a UnicodeDecodeError unless it says otherwise.
        GuestMemoryError if memory ends before the zero and before `most`.
        """
    @property
    def regions(self, /) -> list[Region]:
        """
        The regions of RAM and ROM, in the order of their addresses.
        """
    def remove(self, /, at: SupportsIndex) -> Region:
        """
        Removes the region that begins at `at`, and returns what it was. Its contents are gone, unless a file has them.

        The guest's accesses then come to vm.on_mmio. RunningError while the VM runs (pause() it), BufferError while a
        view of the region is live.
        """
    def search(
        self,
        /,
        pattern: Any,
        start: SupportsIndex = ...,
        end: SupportsIndex | None = None,
        *,
        limit: SupportsIndex | None = None,
        align: SupportsIndex = 1,
    ) -> list[int]:
        """
        The addresses where `pattern` is found, in order: bytes, or text in hexadecimal with `?` for any digit
        ("48 8b ?? c3").

        Looks in all RAM and ROM from `start` up to `end`, in virtual memory in all that is mapped; a match may go from one
        region or page into the next where they touch, and matches may overlap. `limit` ends the search after so many (without it, more than 4 million are a
        ValueError), `align` keeps those at multiples of it. Other
        threads run meanwhile, the guest too, and Ctrl-C ends it.
        """
    def search_many(
        self,
        /,
        patterns: Any,
        start: SupportsIndex = ...,
        end: SupportsIndex | None = None,
        *,
        limit: SupportsIndex | None = None,
        align: SupportsIndex = 1,
    ) -> list[tuple[int, int]]:
        """
        Where any of several `patterns` (bytes) is found: tuples of the address and the number of the pattern, in order.

        One pass finds all of them, whatever their number (Aho-Corasick), overlapping matches too. Otherwise as search;
        `limit` counts matches in the order of their ends.
        """
    def view(
        self, /, at: SupportsIndex = ..., size: SupportsIndex | None = None, *, writable: bool = False
    ) -> memoryview:
        """
        A live memoryview of `size` bytes from `at` on (by default to the end of the region): no copy, both see changes.

        The VM cannot be closed, nor the region removed, while it, or an array made of it, is alive.
        `np.asarray(memory.view())` is free.
        """
    def write(self, /, at: SupportsIndex, data: Any) -> None:
        """
        Writes `data` (bytes, or anything with the buffer protocol: a numpy array, a ctypes object) at `at`. ROM can be written from here, too.
        """
    def write_cstring(self, /, at: SupportsIndex, text: Any, encoding: str = "utf-8") -> int:
        """
        Writes `text` (bytes, or str encoded as `encoding`) and a zero byte at `at`; returns how many bytes that were.
        """
    def write_ctypes(self, /, at: SupportsIndex, value: Any) -> int:
        """
        Writes a ctypes object (a Structure, for example) at `at`; returns how many bytes that were.
        """
    def write_i16(self, /, at: SupportsIndex, value: SupportsIndex) -> None:
        """
        Sets the 16-bit signed integer at `at`.
        """
    def write_i32(self, /, at: SupportsIndex, value: SupportsIndex) -> None:
        """
        Sets the 32-bit signed integer at `at`.
        """
    def write_i64(self, /, at: SupportsIndex, value: SupportsIndex) -> None:
        """
        Sets the 64-bit signed integer at `at`.
        """
    def write_i8(self, /, at: SupportsIndex, value: SupportsIndex) -> None:
        """
        Sets the signed byte at `at`.
        """
    def write_struct(self, /, at: SupportsIndex, format: str, *values: "object") -> int:
        """
        Writes `values` at `at`, laid out by `format` of the struct module; returns how many bytes that were.
        """
    def write_u16(self, /, at: SupportsIndex, value: SupportsIndex) -> None:
        """
        Sets the 16-bit unsigned integer at `at`.
        """
    def write_u32(self, /, at: SupportsIndex, value: SupportsIndex) -> None:
        """
        Sets the 32-bit unsigned integer at `at`.
        """
    def write_u64(self, /, at: SupportsIndex, value: SupportsIndex) -> None:
        """
        Sets the 64-bit unsigned integer at `at`.
        """
    def write_u8(self, /, at: SupportsIndex, value: SupportsIndex) -> None:
        """
        Sets the byte at `at`.
        """

@final
class MemoryFault(Exit):
    """
    A guest-physical address that KVM could not resolve (KVM_EXIT_MEMORY_FAULT).
    """

    __match_args__: Final[tuple[str, str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(
        cls, /, flags: SupportsIndex, address: SupportsIndex, length: SupportsIndex, vcpu: SupportsIndex = 0
    ) -> MemoryFault: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def address(self, /) -> int:
        """
        First byte, guest-physical.
        """
    @property
    def flags(self, /) -> int:
        """
        Flags of the exit.
        """
    @property
    def length(self, /) -> int:
        """
        Bytes.
        """

@final
class MemoryMap:
    """
    What is where in a guest's physical address space: a sequence of MemoryRange, in the order of their addresses.

    Handlers come after what they are in front of. Its text is a table.
    """
    def __contains__(self, what: Any, /) -> bool:
        """
        Does something answer at that address (memory, a device, a handler)? Or is it one of the ranges?
        """
    def __getitem__(self, index: SupportsIndex, /) -> MemoryRange: ...
    def __iter__(self, /) -> MemoryRanges: ...
    def __len__(self, /) -> int: ...
    def __repr__(self, /) -> str: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    def at(self, /, address: SupportsIndex) -> list[MemoryRange]:
        """
        The ranges that hold `address`: memory, a device or a hole, and the handlers in front of it.
        """

@final
class MemoryRange:
    """
    One range of guest-physical addresses: `start`, `last` (both in it), and what answers there.

    `kind` is "RAM", "ROM", "device" (native, or the kernel's), "handler" (of on_mmio) or "hole"; `name` the device's, the
    handler's or the file's; `detail` more in words. `region` is that of RAM and ROM.
    """
    def __contains__(self, address: SupportsIndex, /) -> bool: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __repr__(self, /) -> str: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    @property
    def detail(self, /) -> str: ...
    @property
    def end(self, /) -> int:
        """
        One past the last address.
        """
    @property
    def kind(self, /) -> str: ...
    @property
    def last(self, /) -> int: ...
    @property
    def name(self, /) -> str: ...
    @property
    def region(self, /) -> Region | None: ...
    @property
    def size(self, /) -> int:
        """
        Length in bytes.
        """
    @property
    def start(self, /) -> int: ...

@final
class MemoryRanges:
    """
    What iterates over a MemoryMap.
    """
    def __iter__(self, /) -> MemoryRanges: ...
    def __next__(self, /) -> MemoryRange: ...

@final
class MmioRead(Exit):
    """
    The guest reads a guest-physical address that no memory backs.
    """

    __match_args__: Final[tuple[str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, address: SupportsIndex, size: SupportsIndex, vcpu: SupportsIndex = 0) -> MmioRead: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def address(self, /) -> int:
        """
        First byte, guest-physical.
        """
    @property
    def size(self, /) -> int:
        """
        Bytes: 1 to 8.
        """

@final
class MmioWrite(Exit):
    """
    The guest writes a guest-physical address that no memory backs, or ROM.
    """

    __match_args__: Final[tuple[str, str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(
        cls, /, address: SupportsIndex, size: SupportsIndex, data: SupportsIndex, vcpu: SupportsIndex = 0
    ) -> MmioWrite: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def address(self, /) -> int:
        """
        First byte, guest-physical.
        """
    @property
    def data(self, /) -> int:
        """
        What is written, little-endian, zero-extended.
        """
    @property
    def size(self, /) -> int:
        """
        Bytes: 1 to 8.
        """

@final
class MsrRead(Exit):
    """
    The guest reads an MSR that a handler watches (reason "filter"), or that KVM does not have ("unknown", "invalid").
    """

    __match_args__: Final[tuple[str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, index: SupportsIndex, reason: str, vcpu: SupportsIndex = 0) -> MsrRead: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def index(self, /) -> int:
        """
        MSR number.
        """
    @property
    def reason(self, /) -> str:
        """
        "filter", "unknown" or "invalid".
        """

@final
class MsrWrite(Exit):
    """
    The guest writes an MSR that a handler watches (reason "filter"), or that KVM refuses ("unknown", "invalid").
    """

    __match_args__: Final[tuple[str, str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(
        cls, /, index: SupportsIndex, data: SupportsIndex, reason: str, vcpu: SupportsIndex = 0
    ) -> MsrWrite: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def data(self, /) -> int:
        """
        What is written.
        """
    @property
    def index(self, /) -> int:
        """
        MSR number.
        """
    @property
    def reason(self, /) -> str:
        """
        "filter", "unknown" or "invalid".
        """

@final
class Msrs:
    """
    The model-specific registers of one vCPU, by name or number. KeyError for one that it does not have.

    Iterating gives those that hold its state, as KVM lists them, by their names (numbers where belljar knows none);
    all are read together. Others can be read and written too.
    """
    def __contains__(self, which: Any, /) -> bool: ...
    def __getitem__(self, which: Any, /) -> int: ...
    def __iter__(self, /) -> Iterator[str | int]: ...
    def __len__(self, /) -> int: ...
    def __repr__(self, /) -> str: ...
    def __setitem__(self, which: Any, value: SupportsIndex, /) -> None: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    def get(self, /, which: "str | int", default: "Any" = None) -> "Any":
        """
        The register `which`, or `default` if this vCPU does not have it.
        """
    def items(self, /) -> "list[tuple[str | int, int]]":
        """
        The same, with their values.
        """
    def keys(self, /) -> "list[str | int]":
        """
        The names (numbers where there is none) of those that hold the vCPU's state.
        """
    @staticmethod
    def names() -> "dict[str, int]":
        """
        The names that belljar knows, with their numbers.
        """
    def read(self, /) -> "dict[str | int, int]":
        """
        The same as a dict: a copy.
        """

@final
class NativeHandler:
    """
    A C function that answers exits, with all that keeps it alive: what `bj.native()` returns.
    """
    def __new__(
        cls,
        /,
        address: SupportsIndex,
        user_data: SupportsIndex,
        owners: "tuple[object, ...]",
        fallback: Any | None,
        registers: bool,
    ) -> NativeHandler: ...
    def __repr__(self, /) -> str: ...
    @property
    def address(self, /) -> int:
        """
        Where the function is.
        """
    @property
    def fallback(self, /) -> Any | None:
        """
        Who answers in Python where the function says so.
        """
    @property
    def registers(self, /) -> bool:
        """
        Does it see the general registers?
        """
    @property
    def user_data(self, /) -> int:
        """
        What it gets beside the exit: an address, or 0.
        """

@final
class Notify(Exit):
    """
    The guest kept interrupts out for longer than VM(notify_window=...) cycles (KVM_EXIT_NOTIFY).
    """

    __match_args__: Final[tuple[str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, flags: SupportsIndex, vcpu: SupportsIndex = 0) -> Notify: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def flags(self, /) -> int:
        """
        KVM_NOTIFY_*: 1 if the guest's state is lost.
        """

@final
class PortIn(Exit):
    """
    The guest reads an I/O port; a handler's integer is what it gets.
    """

    __match_args__: Final[tuple[str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, port: SupportsIndex, size: SupportsIndex, vcpu: SupportsIndex = 0) -> PortIn: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def port(self, /) -> int:
        """
        Port number, 0 to 0xffff.
        """
    @property
    def size(self, /) -> int:
        """
        Bytes: 1, 2 or 4.
        """

@final
class PortOut(Exit):
    """
    The guest writes an I/O port.
    """

    __match_args__: Final[tuple[str, str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(
        cls, /, port: SupportsIndex, size: SupportsIndex, data: SupportsIndex, vcpu: SupportsIndex = 0
    ) -> PortOut: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def data(self, /) -> int:
        """
        What is written, zero-extended.
        """
    @property
    def port(self, /) -> int:
        """
        Port number, 0 to 0xffff.
        """
    @property
    def size(self, /) -> int:
        """
        Bytes: 1, 2 or 4.
        """

@final
class PortStringIn(Exit):
    """
    The guest reads several elements from an I/O port into memory (REP INS): offered whole, then one by one.

    A handler's bytes are the data, `size * count` of them; an integer is what each element gets.
    """

    __match_args__: Final[tuple[str, str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(
        cls, /, port: SupportsIndex, size: SupportsIndex, count: SupportsIndex, vcpu: SupportsIndex = 0
    ) -> PortStringIn: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def count(self, /) -> int:
        """
        Elements; KVM hands a long string over in parts.
        """
    @property
    def port(self, /) -> int:
        """
        Port number, 0 to 0xffff.
        """
    @property
    def size(self, /) -> int:
        """
        Bytes of one element: 1, 2 or 4.
        """

@final
class PortStringOut(Exit):
    """
    The guest writes several elements of memory to an I/O port (REP OUTS): offered whole, then one by one.
    """

    __match_args__: Final[tuple[str, str, str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(
        cls,
        /,
        port: SupportsIndex,
        size: SupportsIndex,
        count: SupportsIndex,
        data: SupportsGetItem[int, SupportsIndex],
        vcpu: SupportsIndex = 0,
    ) -> PortStringOut: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def count(self, /) -> int:
        """
        Elements; KVM hands a long string over in parts.
        """
    @property
    def data(self, /) -> bytes:
        """
        All elements in order, `size * count` bytes.
        """
    @property
    def port(self, /) -> int:
        """
        Port number, 0 to 0xffff.
        """
    @property
    def size(self, /) -> int:
        """
        Bytes of one element: 1, 2 or 4.
        """

@final
class Quirks:
    """
    How this KVM behaves, found out by running mini-guests: one yes-or-no attribute per question.
    """
    def __repr__(self, /) -> str: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    def answers(self, /) -> list[tuple[str, bool, bool, str]]:
        """
        Every answer: name, value, the documented value, and what follows where the two differ.
        """
    @property
    def cpuid_masks_hold(self, /) -> bool:
        """
        A CPUID feature that was masked out stays hidden from ring 3.
        """
    @property
    def hardware_breakpoints_in_ring0(self, /) -> bool:
        """
        Hardware execution breakpoints exit in ring 0.
        """
    @property
    def hardware_breakpoints_in_ring3(self, /) -> bool:
        """
        Hardware execution breakpoints exit in ring 3.
        """
    @property
    def hardware_watchpoints(self, /) -> bool:
        """
        Hardware data watchpoints exit.
        """
    @property
    def hypercalls(self, /) -> bool:
        """
        A guest kernel may call the hypervisor by vmcall or vmmcall.
        """
    @property
    def int3_exits_in_ring0(self, /) -> bool:
        """
        int3 in ring 0 exits as a debug exit when breakpoints are asked for.
        """
    @property
    def int3_exits_in_ring3(self, /) -> bool:
        """
        int3 in ring 3 exits as a debug exit when breakpoints are asked for.
        """
    @property
    def int_n_in_ring3(self, /) -> bool:
        """
        `int n` in ring 3 reaches the guest's handler for every n.
        """
    @property
    def out_advances_rip(self, /) -> bool:
        """
        RIP already points behind an OUT instruction while its exit is handled.
        """
    @property
    def paging_32bit(self, /) -> bool:
        """
        32-bit paging (without PAE) works.
        """
    @property
    def port_map_in_ring3(self, /) -> bool:
        """
        Ring 3 may use the ports that the I/O map of its task-state segment allows.
        """
    @property
    def ring0_is_native(self, /) -> bool:
        """
        Ring 0 runs every instruction of the processor; else only those that KVM's emulator knows.
        """
    @property
    def single_step_in_ring0(self, /) -> bool:
        """
        Single stepping exits after each instruction in ring 0.
        """
    @property
    def single_step_in_ring3(self, /) -> bool:
        """
        Single stepping exits after each instruction in ring 3.
        """
    @property
    def syscall_enters_ring0(self, /) -> bool:
        """
        SYSCALL in ring 3 enters ring 0.
        """

@final
class Recorder:
    """
    What a trace is told by: hooks that record, and where to.
    """
    def __new__(
        cls,
        /,
        vm: "VM",
        port: Any | None,
        mmio: Any | None,
        msr: Any | None,
        exits: SupportsGetItem[int, Any] | None,
        points: SupportsGetItem[int, Any],
        steps: str | None,
        access: str,
        columns: SupportsGetItem[int, Any],
        when: Any | None,
        capacity: SupportsIndex,
        policy: str,
        spill: str | PathLike[str] | None,
    ) -> Recorder: ...
    def arrow_batch(self, /, names: SupportsGetItem[int, str], most: SupportsIndex) -> ArrowBatch | None:
        """
        At most `most` records as Arrow columns, or None.
        """
    def arrow_schema(self, /, names: SupportsGetItem[int, str]) -> CapsuleType:
        """
        The Arrow schema of its records, as a capsule.
        """
    def arrow_stream(self, /, names: SupportsGetItem[int, str], most: SupportsIndex) -> CapsuleType:
        """
        The records that wait, at most `most`, as a capsule of an Arrow stream, which takes them while it is read.
        """
    @property
    def dropped(self, /) -> int: ...
    @property
    def enabled(self, /) -> bool: ...
    @enabled.setter
    def enabled(self, /, yes: bool) -> None: ...
    def fileno(self, /, count: SupportsIndex, every: SupportsFloat | SupportsIndex | None) -> int:
        """
        A descriptor that is readable when `count` records wait, or `every` seconds.
        """
    def flush(self, /) -> None:
        """
        Has what was spilled reach its file.
        """
    @property
    def hits(self, /) -> int: ...
    @property
    def is_at_rest(self, /) -> bool:
        """
        Can no record come unless the VM is run again?
        """
    def is_kind(self, /, number: SupportsIndex) -> bool:
        """
        Is the field of this number the kind of exit?
        """
    @property
    def is_removed(self, /) -> bool:
        """
        Has it been removed, or its VM closed?
        """
    def is_sure(self, /, number: SupportsIndex) -> bool:
        """
        Has every record the field of this number?
        """
    @staticmethod
    def kinds() -> list[str]:
        """
        The names of the classes of exits, by the number in the field "kind".
        """
    def read(self, /, most: SupportsIndex, words: SupportsIndex) -> bytearray:
        """
        A copy of at most `most` records of all vCPUs, in the order of their times; little-endian, `words` of each record.
        """
    def remove(self, /) -> None:
        """
        Records no more.
        """
    @property
    def spilled(self, /) -> int: ...
    def staying(self, /, yes: bool) -> None:
        """
        A reader begins to stay, or leaves.
        """
    def synthesize(self, /, count: SupportsIndex, vcpu: SupportsIndex) -> None:
        """
        Records `count` made-up writes of 0, 1, 2, ... to port 0x10 by `vcpu`, on this thread, as a run would.

        For tests and measurements. A run knows the time of an exit anyway: here it is made up, too. It waits where the ring is full. Must not be called while that vCPU runs.
        """
    def take(self, /, most: SupportsIndex) -> Batch | None:
        """
        Without a copy: a buffer of at most `most` records of one vCPU, or None.
        """
    def trails(self, /) -> list[tuple[int, int] | None]:
        """
        By vCPU: the first instruction that was stepped, and where the steps have led to; None before the first.
        """
    def wait(self, /, count: SupportsIndex, timeout: SupportsFloat | SupportsIndex | None = None) -> bool:
        """
        Waits until `count` records wait; False after `timeout` seconds, and once no more can come.
        """
    @property
    def waiting(self, /) -> int: ...
    @property
    def width(self, /) -> int:
        """
        64-bit words per record, as take() hands them out: one per field, and one more where some may be missing.
        """

@final
class Region:
    """
    One region of memory: `start`, `end` (one past the last address) and `size` in bytes, `kind` "RAM" or "ROM".

    `file`, `offset` and `shared` say which file it shows; `huge` is "transparent", "2M" or "1G" where huge pages were asked
    for.
    """
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __repr__(self, /) -> str: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    @property
    def end(self, /) -> int: ...
    @property
    def file(self, /) -> str | None: ...
    @property
    def huge(self, /) -> str | None: ...
    @property
    def kind(self, /) -> str: ...
    @property
    def offset(self, /) -> int: ...
    @property
    def shared(self, /) -> bool: ...
    @property
    def size(self, /) -> int: ...
    @property
    def start(self, /) -> int: ...

@final
class Registers:
    """
    The general registers, RIP and RFLAGS of one vCPU, live: reading asks the vCPU, writing sets it.

    Also a mapping: `regs["al"]`, `dict(regs)`, `regs.update(kept)`.
    """

    NAMES: Final[list[str]]
    """
    The names, in the order of read() and write().
    """
    def __contains__(self, name: str, /) -> bool: ...
    def __getitem__(self, name: str, /) -> int: ...
    def __iter__(self, /) -> Iterator[str]: ...
    def __len__(self, /) -> int: ...
    def __repr__(self, /) -> str: ...
    def __setitem__(self, name: str, value: SupportsIndex, /) -> None: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    @property
    def ah(self, /) -> int:
        """
        The part that is called ah (u8). Writing does to the rest what the processor does.
        """
    @ah.setter
    def ah(self, /, value: SupportsIndex) -> None: ...
    @property
    def al(self, /) -> int:
        """
        The part that is called al (u8). Writing does to the rest what the processor does.
        """
    @al.setter
    def al(self, /, value: SupportsIndex) -> None: ...
    def as_dict(self, /) -> "dict[str, int]":
        """
        All values by name, as a copy.
        """
    @property
    def ax(self, /) -> int:
        """
        The part that is called ax (u16). Writing does to the rest what the processor does.
        """
    @ax.setter
    def ax(self, /, value: SupportsIndex) -> None: ...
    @property
    def bh(self, /) -> int:
        """
        The part that is called bh (u8). Writing does to the rest what the processor does.
        """
    @bh.setter
    def bh(self, /, value: SupportsIndex) -> None: ...
    @property
    def bl(self, /) -> int:
        """
        The part that is called bl (u8). Writing does to the rest what the processor does.
        """
    @bl.setter
    def bl(self, /, value: SupportsIndex) -> None: ...
    @property
    def bp(self, /) -> int:
        """
        The part that is called bp (u16). Writing does to the rest what the processor does.
        """
    @bp.setter
    def bp(self, /, value: SupportsIndex) -> None: ...
    @property
    def bpl(self, /) -> int:
        """
        The part that is called bpl (u8). Writing does to the rest what the processor does.
        """
    @bpl.setter
    def bpl(self, /, value: SupportsIndex) -> None: ...
    @property
    def bx(self, /) -> int:
        """
        The part that is called bx (u16). Writing does to the rest what the processor does.
        """
    @bx.setter
    def bx(self, /, value: SupportsIndex) -> None: ...
    @property
    def ch(self, /) -> int:
        """
        The part that is called ch (u8). Writing does to the rest what the processor does.
        """
    @ch.setter
    def ch(self, /, value: SupportsIndex) -> None: ...
    def changed(self, /) -> "dict[str, tuple[int, int]] | None":
        """
        What has changed since the vCPU was last run: name -> (before, now). It includes what Python has set since.

        None where that is not known: it has not run, or nobody looked at its registers before it did. From the first
        call on they are kept.
        """
    @property
    def cl(self, /) -> int:
        """
        The part that is called cl (u8). Writing does to the rest what the processor does.
        """
    @cl.setter
    def cl(self, /, value: SupportsIndex) -> None: ...
    @property
    def cx(self, /) -> int:
        """
        The part that is called cx (u16). Writing does to the rest what the processor does.
        """
    @cx.setter
    def cx(self, /, value: SupportsIndex) -> None: ...
    @property
    def dh(self, /) -> int:
        """
        The part that is called dh (u8). Writing does to the rest what the processor does.
        """
    @dh.setter
    def dh(self, /, value: SupportsIndex) -> None: ...
    @property
    def di(self, /) -> int:
        """
        The part that is called di (u16). Writing does to the rest what the processor does.
        """
    @di.setter
    def di(self, /, value: SupportsIndex) -> None: ...
    @property
    def dil(self, /) -> int:
        """
        The part that is called dil (u8). Writing does to the rest what the processor does.
        """
    @dil.setter
    def dil(self, /, value: SupportsIndex) -> None: ...
    @property
    def dl(self, /) -> int:
        """
        The part that is called dl (u8). Writing does to the rest what the processor does.
        """
    @dl.setter
    def dl(self, /, value: SupportsIndex) -> None: ...
    @property
    def dx(self, /) -> int:
        """
        The part that is called dx (u16). Writing does to the rest what the processor does.
        """
    @dx.setter
    def dx(self, /, value: SupportsIndex) -> None: ...
    @property
    def eax(self, /) -> int:
        """
        The part that is called eax (u32). Writing does to the rest what the processor does.
        """
    @eax.setter
    def eax(self, /, value: SupportsIndex) -> None: ...
    @property
    def ebp(self, /) -> int:
        """
        The part that is called ebp (u32). Writing does to the rest what the processor does.
        """
    @ebp.setter
    def ebp(self, /, value: SupportsIndex) -> None: ...
    @property
    def ebx(self, /) -> int:
        """
        The part that is called ebx (u32). Writing does to the rest what the processor does.
        """
    @ebx.setter
    def ebx(self, /, value: SupportsIndex) -> None: ...
    @property
    def ecx(self, /) -> int:
        """
        The part that is called ecx (u32). Writing does to the rest what the processor does.
        """
    @ecx.setter
    def ecx(self, /, value: SupportsIndex) -> None: ...
    @property
    def edi(self, /) -> int:
        """
        The part that is called edi (u32). Writing does to the rest what the processor does.
        """
    @edi.setter
    def edi(self, /, value: SupportsIndex) -> None: ...
    @property
    def edx(self, /) -> int:
        """
        The part that is called edx (u32). Writing does to the rest what the processor does.
        """
    @edx.setter
    def edx(self, /, value: SupportsIndex) -> None: ...
    @property
    def eflags(self, /) -> int:
        """
        The part that is called eflags (u32). Writing does to the rest what the processor does.
        """
    @eflags.setter
    def eflags(self, /, value: SupportsIndex) -> None: ...
    @property
    def eip(self, /) -> int:
        """
        The part that is called eip (u32). Writing does to the rest what the processor does.
        """
    @eip.setter
    def eip(self, /, value: SupportsIndex) -> None: ...
    @property
    def esi(self, /) -> int:
        """
        The part that is called esi (u32). Writing does to the rest what the processor does.
        """
    @esi.setter
    def esi(self, /, value: SupportsIndex) -> None: ...
    @property
    def esp(self, /) -> int:
        """
        The part that is called esp (u32). Writing does to the rest what the processor does.
        """
    @esp.setter
    def esp(self, /, value: SupportsIndex) -> None: ...
    @property
    def flags(self, /) -> int:
        """
        The part that is called flags (u16). Writing does to the rest what the processor does.
        """
    @flags.setter
    def flags(self, /, value: SupportsIndex) -> None: ...
    @property
    def ip(self, /) -> int:
        """
        The part that is called ip (u16). Writing does to the rest what the processor does.
        """
    @ip.setter
    def ip(self, /, value: SupportsIndex) -> None: ...
    def keys(self, /) -> list[str]:
        """
        The names, as NAMES has them.
        """
    @property
    def r10(self, /) -> int:
        """
        R10, 64 bits.
        """
    @r10.setter
    def r10(self, /, value: SupportsIndex) -> None: ...
    @property
    def r10b(self, /) -> int:
        """
        The part that is called r10b (u8). Writing does to the rest what the processor does.
        """
    @r10b.setter
    def r10b(self, /, value: SupportsIndex) -> None: ...
    @property
    def r10d(self, /) -> int:
        """
        The part that is called r10d (u32). Writing does to the rest what the processor does.
        """
    @r10d.setter
    def r10d(self, /, value: SupportsIndex) -> None: ...
    @property
    def r10w(self, /) -> int:
        """
        The part that is called r10w (u16). Writing does to the rest what the processor does.
        """
    @r10w.setter
    def r10w(self, /, value: SupportsIndex) -> None: ...
    @property
    def r11(self, /) -> int:
        """
        R11, 64 bits.
        """
    @r11.setter
    def r11(self, /, value: SupportsIndex) -> None: ...
    @property
    def r11b(self, /) -> int:
        """
        The part that is called r11b (u8). Writing does to the rest what the processor does.
        """
    @r11b.setter
    def r11b(self, /, value: SupportsIndex) -> None: ...
    @property
    def r11d(self, /) -> int:
        """
        The part that is called r11d (u32). Writing does to the rest what the processor does.
        """
    @r11d.setter
    def r11d(self, /, value: SupportsIndex) -> None: ...
    @property
    def r11w(self, /) -> int:
        """
        The part that is called r11w (u16). Writing does to the rest what the processor does.
        """
    @r11w.setter
    def r11w(self, /, value: SupportsIndex) -> None: ...
    @property
    def r12(self, /) -> int:
        """
        R12, 64 bits.
        """
    @r12.setter
    def r12(self, /, value: SupportsIndex) -> None: ...
    @property
    def r12b(self, /) -> int:
        """
        The part that is called r12b (u8). Writing does to the rest what the processor does.
        """
    @r12b.setter
    def r12b(self, /, value: SupportsIndex) -> None: ...
    @property
    def r12d(self, /) -> int:
        """
        The part that is called r12d (u32). Writing does to the rest what the processor does.
        """
    @r12d.setter
    def r12d(self, /, value: SupportsIndex) -> None: ...
    @property
    def r12w(self, /) -> int:
        """
        The part that is called r12w (u16). Writing does to the rest what the processor does.
        """
    @r12w.setter
    def r12w(self, /, value: SupportsIndex) -> None: ...
    @property
    def r13(self, /) -> int:
        """
        R13, 64 bits.
        """
    @r13.setter
    def r13(self, /, value: SupportsIndex) -> None: ...
    @property
    def r13b(self, /) -> int:
        """
        The part that is called r13b (u8). Writing does to the rest what the processor does.
        """
    @r13b.setter
    def r13b(self, /, value: SupportsIndex) -> None: ...
    @property
    def r13d(self, /) -> int:
        """
        The part that is called r13d (u32). Writing does to the rest what the processor does.
        """
    @r13d.setter
    def r13d(self, /, value: SupportsIndex) -> None: ...
    @property
    def r13w(self, /) -> int:
        """
        The part that is called r13w (u16). Writing does to the rest what the processor does.
        """
    @r13w.setter
    def r13w(self, /, value: SupportsIndex) -> None: ...
    @property
    def r14(self, /) -> int:
        """
        R14, 64 bits.
        """
    @r14.setter
    def r14(self, /, value: SupportsIndex) -> None: ...
    @property
    def r14b(self, /) -> int:
        """
        The part that is called r14b (u8). Writing does to the rest what the processor does.
        """
    @r14b.setter
    def r14b(self, /, value: SupportsIndex) -> None: ...
    @property
    def r14d(self, /) -> int:
        """
        The part that is called r14d (u32). Writing does to the rest what the processor does.
        """
    @r14d.setter
    def r14d(self, /, value: SupportsIndex) -> None: ...
    @property
    def r14w(self, /) -> int:
        """
        The part that is called r14w (u16). Writing does to the rest what the processor does.
        """
    @r14w.setter
    def r14w(self, /, value: SupportsIndex) -> None: ...
    @property
    def r15(self, /) -> int:
        """
        R15, 64 bits.
        """
    @r15.setter
    def r15(self, /, value: SupportsIndex) -> None: ...
    @property
    def r15b(self, /) -> int:
        """
        The part that is called r15b (u8). Writing does to the rest what the processor does.
        """
    @r15b.setter
    def r15b(self, /, value: SupportsIndex) -> None: ...
    @property
    def r15d(self, /) -> int:
        """
        The part that is called r15d (u32). Writing does to the rest what the processor does.
        """
    @r15d.setter
    def r15d(self, /, value: SupportsIndex) -> None: ...
    @property
    def r15w(self, /) -> int:
        """
        The part that is called r15w (u16). Writing does to the rest what the processor does.
        """
    @r15w.setter
    def r15w(self, /, value: SupportsIndex) -> None: ...
    @property
    def r8(self, /) -> int:
        """
        R8, 64 bits.
        """
    @r8.setter
    def r8(self, /, value: SupportsIndex) -> None: ...
    @property
    def r8b(self, /) -> int:
        """
        The part that is called r8b (u8). Writing does to the rest what the processor does.
        """
    @r8b.setter
    def r8b(self, /, value: SupportsIndex) -> None: ...
    @property
    def r8d(self, /) -> int:
        """
        The part that is called r8d (u32). Writing does to the rest what the processor does.
        """
    @r8d.setter
    def r8d(self, /, value: SupportsIndex) -> None: ...
    @property
    def r8w(self, /) -> int:
        """
        The part that is called r8w (u16). Writing does to the rest what the processor does.
        """
    @r8w.setter
    def r8w(self, /, value: SupportsIndex) -> None: ...
    @property
    def r9(self, /) -> int:
        """
        R9, 64 bits.
        """
    @r9.setter
    def r9(self, /, value: SupportsIndex) -> None: ...
    @property
    def r9b(self, /) -> int:
        """
        The part that is called r9b (u8). Writing does to the rest what the processor does.
        """
    @r9b.setter
    def r9b(self, /, value: SupportsIndex) -> None: ...
    @property
    def r9d(self, /) -> int:
        """
        The part that is called r9d (u32). Writing does to the rest what the processor does.
        """
    @r9d.setter
    def r9d(self, /, value: SupportsIndex) -> None: ...
    @property
    def r9w(self, /) -> int:
        """
        The part that is called r9w (u16). Writing does to the rest what the processor does.
        """
    @r9w.setter
    def r9w(self, /, value: SupportsIndex) -> None: ...
    @property
    def rax(self, /) -> int:
        """
        RAX, 64 bits.
        """
    @rax.setter
    def rax(self, /, value: SupportsIndex) -> None: ...
    @property
    def rbp(self, /) -> int:
        """
        RBP, 64 bits.
        """
    @rbp.setter
    def rbp(self, /, value: SupportsIndex) -> None: ...
    @property
    def rbx(self, /) -> int:
        """
        RBX, 64 bits.
        """
    @rbx.setter
    def rbx(self, /, value: SupportsIndex) -> None: ...
    @property
    def rcx(self, /) -> int:
        """
        RCX, 64 bits.
        """
    @rcx.setter
    def rcx(self, /, value: SupportsIndex) -> None: ...
    @property
    def rdi(self, /) -> int:
        """
        RDI, 64 bits.
        """
    @rdi.setter
    def rdi(self, /, value: SupportsIndex) -> None: ...
    @property
    def rdx(self, /) -> int:
        """
        RDX, 64 bits.
        """
    @rdx.setter
    def rdx(self, /, value: SupportsIndex) -> None: ...
    def read(self, /) -> "tuple[int, ...]":
        """
        All 18 values at once, in the order of NAMES.
        """
    @property
    def rflags(self, /) -> int:
        """
        RFLAGS, 64 bits.
        """
    @rflags.setter
    def rflags(self, /, value: SupportsIndex) -> None: ...
    @property
    def rip(self, /) -> int:
        """
        RIP, 64 bits.
        """
    @rip.setter
    def rip(self, /, value: SupportsIndex) -> None: ...
    @property
    def rsi(self, /) -> int:
        """
        RSI, 64 bits.
        """
    @rsi.setter
    def rsi(self, /, value: SupportsIndex) -> None: ...
    @property
    def rsp(self, /) -> int:
        """
        RSP, 64 bits.
        """
    @rsp.setter
    def rsp(self, /, value: SupportsIndex) -> None: ...
    @property
    def si(self, /) -> int:
        """
        The part that is called si (u16). Writing does to the rest what the processor does.
        """
    @si.setter
    def si(self, /, value: SupportsIndex) -> None: ...
    @property
    def sil(self, /) -> int:
        """
        The part that is called sil (u8). Writing does to the rest what the processor does.
        """
    @sil.setter
    def sil(self, /, value: SupportsIndex) -> None: ...
    @property
    def sp(self, /) -> int:
        """
        The part that is called sp (u16). Writing does to the rest what the processor does.
        """
    @sp.setter
    def sp(self, /, value: SupportsIndex) -> None: ...
    @property
    def spl(self, /) -> int:
        """
        The part that is called spl (u8). Writing does to the rest what the processor does.
        """
    @spl.setter
    def spl(self, /, value: SupportsIndex) -> None: ...
    def update(self, kept: "dict[str, int] | None" = None, /, **values: "int") -> None:
        """
        Sets some registers by name: `regs.update(rax=1, rip=0x1000)`, or those of a mapping such as `as_dict()` returns.
        """
    def write(self, /, values: SupportsLenAndGetItem[SupportsIndex]) -> None:
        """
        Sets all 18 values at once, in the order of NAMES.
        """

@final
class Reset(Exit):
    """
    The guest pulled the reset line of its keyboard controller.
    """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, vcpu: SupportsIndex = 0) -> Reset: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...

@final
class Segment:
    """
    A segment register with its hidden part (Intel SDM vol. 3, 3.4.5).
    """
    def __eq__(self, value: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __new__(
        cls,
        /,
        *,
        base: SupportsIndex = ...,
        limit: SupportsIndex = ...,
        selector: SupportsIndex = ...,
        type: SupportsIndex = ...,
        present: bool = True,
        dpl: SupportsIndex = ...,
        db: bool = False,
        s: bool = True,
        l: bool = False,
        g: bool = False,
        avl: bool = False,
        unusable: bool = False,
    ) -> Segment: ...
    def __reduce__(self, /) -> "tuple[Any, ...]": ...
    def __repr__(self, /) -> str: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    @property
    def avl(self, /) -> bool:
        """
        For the system's own use.
        """
    @property
    def base(self, /) -> int:
        """
        Linear address of the first byte.
        """
    @property
    def db(self, /) -> bool:
        """
        32-bit default operand.
        """
    @property
    def descriptor(self, /) -> bytes:
        """
        The 8 bytes that load into this segment register. What they cannot hold is left out: the selector, the upper half
        of a base of 64 bits.
        """
    @property
    def dpl(self, /) -> int:
        """
        Descriptor privilege level.
        """
    @staticmethod
    def from_descriptor(descriptor: "bytes | int", selector: SupportsIndex = ...) -> Segment:
        """
        The segment that 8 bytes of a descriptor table describe, or an integer of 64 bits.
        """
    @property
    def g(self, /) -> bool:
        """
        The limit counts pages in the descriptor.
        """
    @property
    def l(self, /) -> bool:
        """
        64-bit code.
        """
    @property
    def limit(self, /) -> int:
        """
        The last byte's offset.
        """
    @property
    def present(self, /) -> bool:
        """
        Present.
        """
    def replace(self, /, **fields: "int") -> Any:
        """
        The same with some fields changed: `cpu.cs = cpu.cs.replace(dpl=3)`.
        """
    @property
    def s(self, /) -> bool:
        """
        Code or data; else a system segment.
        """
    @property
    def selector(self, /) -> int:
        """
        The visible part.
        """
    @property
    def type(self, /) -> int:
        """
        The descriptor type, 0 to 15.
        """
    @property
    def unusable(self, /) -> bool:
        """
        Nothing is loaded: a null selector.
        """

@final
class Shutdown(Exit):
    """
    Triple fault, or a VM that cannot be entered any more (KVM_EXIT_SHUTDOWN).
    """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, vcpu: SupportsIndex = 0) -> Shutdown: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...

@final
class Stepped(Exit):
    """
    One instruction has been executed by cpu.step() or one of its relatives, or under a trace of steps.
    """

    __match_args__: Final[tuple[str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, address: SupportsIndex, vcpu: SupportsIndex = 0) -> Stepped: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def address(self, /) -> int:
        """
        Linear address of the next instruction.
        """
    @property
    def rip(self, /) -> int:
        """
        The same as `address`: linear, and so RIP but in code whose segment has a base.
        """

@final
class Symbols:
    """
    The symbols of an ELF file: a mapping from names to addresses, as the guest's code uses them.

    `Symbols(image)` reads any ELF file (a path, or bytes); `vm.symbols` has those of the image that `vm.boot()` loaded. A
    file without a symbol table has none. Of several symbols with one name, the global one counts, else the lowest.
    """
    def __contains__(self, name: Any, /) -> bool: ...
    def __getitem__(self, name: str, /) -> int: ...
    def __iter__(self, /) -> Iterator[str]: ...
    def __len__(self, /) -> int: ...
    def __new__(cls, /, image: Any) -> Symbols: ...
    def __repr__(self, /) -> str: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    def at(self, /, address: SupportsIndex) -> str | None:
        """
        What lies at `address`, as "name+0x12" or "name", or None.
        """
    def find(self, /, pattern: str) -> list[tuple[str, int]]:
        """
        Names and addresses of all symbols that fit `pattern`, in which `*` stands for any characters and `?` for one.
        """
    def get(self, /, name: str, default: SupportsIndex | None = None) -> int | None:
        """
        The address of `name`, or `default` if there is no such symbol.
        """
    def items(self, /) -> list[tuple[str, int]]:
        """
        Names and addresses, in the order of the addresses.
        """
    def keys(self, /) -> list[str]:
        """
        The names, in the order of their addresses.
        """
    def lookup(self, /, address: SupportsIndex) -> tuple[str, int] | None:
        """
        What lies at `address`: name of the symbol and distance from its beginning, or None.
        """
    @staticmethod
    def of(symbols: "Iterable[tuple[str, int, int]]") -> Symbols:
        """
        A table of other symbols: (name, address, size), the size 0 where it is not known.
        """
    def size(self, /, name: str) -> int:
        """
        How many bytes the symbol `name` has; 0 if the file does not say. KeyError if there is none.
        """
    def values(self, /) -> list[int]:
        """
        The addresses, in ascending order.
        """

@final
class SystemEvent(Exit):
    """
    Shutdown, reset or crash that the guest reported to the hypervisor.
    """

    __match_args__: Final[tuple[str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(
        cls, /, kind: SupportsIndex, data: SupportsGetItem[int, SupportsIndex], vcpu: SupportsIndex = 0
    ) -> SystemEvent: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def data(self, /) -> list[int]:
        """
        Its data words.
        """
    @property
    def kind(self, /) -> int:
        """
        KVM_SYSTEM_EVENT_*: 1 shutdown, 2 reset, 3 crash.
        """

@final
class Timeout(Exit):
    """
    The time given to run() is over; the guest goes on with the next run().
    """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, vcpu: SupportsIndex = 0) -> Timeout: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...

@final
class TprAccess(Exit):
    """
    The guest accessed the task priority register of its local APIC, and that is reported (KVM_EXIT_TPR_ACCESS).
    """

    __match_args__: Final[tuple[str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, rip: SupportsIndex, is_write: bool, vcpu: SupportsIndex = 0) -> TprAccess: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def is_write(self, /) -> bool:
        """
        Written, not read.
        """
    @property
    def rip(self, /) -> int:
        """
        The instruction.
        """

@final
class TprLowered(Exit):
    """
    The guest lowered its task priority, where no local APIC is in the kernel (KVM_EXIT_SET_TPR).
    """

    __match_args__: Final[tuple[str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, tpr: SupportsIndex, vcpu: SupportsIndex = 0) -> TprLowered: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def tpr(self, /) -> int:
        """
        CR8, 0 to 15.
        """

@final
class Translation:
    """
    Where a virtual address leads, what the tables allow there, and every entry on the way; or where and why the walk ended.

    True if it translates (and the access that was asked for is allowed). `entries` have the level (1 is the last
    table), the entry's guest-physical address, and its value.
    """
    def __bool__(self, /) -> bool: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __repr__(self, /) -> str: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    @property
    def accessed(self, /) -> bool:
        """
        The page has been used.
        """
    @property
    def cr3(self, /) -> int:
        """
        CR3 of the address space.
        """
    @property
    def dirty(self, /) -> bool:
        """
        The page has been written.
        """
    @property
    def entries(self, /) -> list[PageTableEntry]:
        """
        The entries that the walk has read, from the root on: each is (level, gpa, value).
        """
    @property
    def error_code(self, /) -> int | None:
        """
        The error code that the processor would push with the page fault; None if there would be none.

        An address that is not canonical is a general protection instead, and has none.
        """
    @property
    def executable(self, /) -> bool:
        """
        No entry on the way forbids execution.
        """
    @property
    def fault(self, /) -> str | None:
        """
        Why it does not translate, or why the access is denied, in words; None if nothing is in the way.
        """
    @property
    def fault_level(self, /) -> int | None:
        """
        The level at which the walk ended (1 is the last table); None if it came to a page, or never began.
        """
    @property
    def flags(self, /) -> list[str]:
        """
        The names of all that is set: "writable", "user", "executable", "global", "accessed", "dirty".
        """
    @property
    def gpa(self, /) -> int | None:
        """
        The guest-physical address that it leads to; None if nothing is mapped there.
        """
    @property
    def gva(self, /) -> int:
        """
        The virtual address that was asked for.
        """
    @property
    def is_global(self, /) -> bool:
        """
        The page is marked global.
        """
    @property
    def page_size(self, /) -> int | None:
        """
        Bytes of the page: 0x1000, 0x200000, 0x400000 or 0x40000000; None if nothing is mapped.
        """
    @property
    def paging(self, /) -> str:
        """
        How addresses are translated: "off", "32-bit", "PAE", "4-level" or "5-level".
        """
    @property
    def protection_key(self, /) -> int | None:
        """
        The page's protection key, where CR4.PKE or CR4.PKS is set.
        """
    @property
    def user(self, /) -> bool:
        """
        Every entry on the way lets ring 3 in.
        """
    @property
    def writable(self, /) -> bool:
        """
        Every entry on the way allows writes.
        """

@final
class UnknownExit(Exit):
    """
    An exit reason that this version does not know: its number, and the first words of what came with it.
    """

    __match_args__: Final[tuple[str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(
        cls, /, reason: SupportsIndex, data: SupportsGetItem[int, SupportsIndex], vcpu: SupportsIndex = 0
    ) -> UnknownExit: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def data(self, /) -> list[int]:
        """
        64-bit words from struct kvm_run, as KVM laid them out.
        """
    @property
    def reason(self, /) -> int:
        """
        KVM_EXIT_*.
        """

@final
class VCPU:
    """
    One vCPU. Its state may be read and written while the VM is stopped, and in handlers of its own exits.
    """
    def __repr__(self, /) -> str: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    @property
    def apic_base(self, /) -> int:
        """
        The APIC base MSR.
        """
    @apic_base.setter
    def apic_base(self, /, value: SupportsIndex) -> None: ...
    @property
    def cpl(self, /) -> int:
        """
        The privilege level, 0 to 3.
        """
    @property
    def cpuid(self, /) -> Cpuid:
        """
        What the guest's CPUID instruction says, as a table of leaves: `cpu.cpuid["avx2"] = False` before the first run.

        From the first run on it is fixed (RegisterError). Not all KVMs have the guest see it: bj.host.quirks.cpuid_masks_hold.
        """
    def cpuid_leaves(self, /) -> list[tuple[int, int | None, tuple[int, int, int, int]]]:
        """
        Every leaf: its number, its subleaf where that counts, and EAX, EBX, ECX, EDX.
        """
    @property
    def cr0(self, /) -> CR0:
        """
        CR0: protection, paging, write protect, by name (Intel SDM vol. 3, 2.5): `cpu.cr0.wp = False`.
        """
    @cr0.setter
    def cr0(self, /, value: SupportsIndex) -> None: ...
    @property
    def cr2(self, /) -> int:
        """
        CR2: the linear address of the last page fault.
        """
    @cr2.setter
    def cr2(self, /, value: SupportsIndex) -> None: ...
    @property
    def cr3(self, /) -> int:
        """
        CR3: guest-physical address of the root page table.
        """
    @cr3.setter
    def cr3(self, /, value: SupportsIndex) -> None: ...
    @property
    def cr4(self, /) -> CR4:
        """
        CR4: extensions, by name (Intel SDM vol. 3, 2.5).
        """
    @cr4.setter
    def cr4(self, /, value: SupportsIndex) -> None: ...
    @property
    def cr8(self, /) -> int:
        """
        CR8: task priority, 0 to 15. ValueError for another value.
        """
    @cr8.setter
    def cr8(self, /, value: SupportsIndex) -> None: ...
    @property
    def cs(self, /) -> Segment:
        """
        The code segment, hidden part included.
        """
    @cs.setter
    def cs(self, /, value: Segment) -> None: ...
    def disasm(self, /, count: SupportsIndex = ..., *, at: SupportsIndex | str | None = None) -> "list[Instruction]":
        """
        The next `count` instructions at the instruction pointer, as far as they are mapped, with the names in vm.symbols, or those
        of the Linux kernel once vm.linux has been asked for.

        With `at`, a virtual address or a symbol ("do_exit+0x10"), those that lie there, as virtual.disasm(at, count) gives.
        """
    @property
    def dr0(self, /) -> int:
        """
        DR0: the linear address of the guest's own breakpoint 0.
        """
    @dr0.setter
    def dr0(self, /, value: SupportsIndex) -> None: ...
    @property
    def dr1(self, /) -> int:
        """
        DR1: the linear address of the guest's own breakpoint 1.
        """
    @dr1.setter
    def dr1(self, /, value: SupportsIndex) -> None: ...
    @property
    def dr2(self, /) -> int:
        """
        DR2: the linear address of the guest's own breakpoint 2.
        """
    @dr2.setter
    def dr2(self, /, value: SupportsIndex) -> None: ...
    @property
    def dr3(self, /) -> int:
        """
        DR3: the linear address of the guest's own breakpoint 3.
        """
    @dr3.setter
    def dr3(self, /, value: SupportsIndex) -> None: ...
    @property
    def dr6(self, /) -> DR6:
        """
        DR6: what the last debug exception was for, by name (Intel SDM vol. 3, 18.2.3).
        """
    @dr6.setter
    def dr6(self, /, value: SupportsIndex) -> None: ...
    @property
    def dr7(self, /) -> DR7:
        """
        DR7: which of the guest's own breakpoints are on, by name (Intel SDM vol. 3, 18.2.4): `cpu.dr7.l0 = True`.
        """
    @dr7.setter
    def dr7(self, /, value: SupportsIndex) -> None: ...
    @property
    def ds(self, /) -> Segment:
        """
        The data segment DS.
        """
    @ds.setter
    def ds(self, /, value: Segment) -> None: ...
    @property
    def efer(self, /) -> EFER:
        """
        EFER: long mode, NX, SYSCALL, by name (AMD APM vol. 2, 3.1.7).
        """
    @efer.setter
    def efer(self, /, value: SupportsIndex) -> None: ...
    @property
    def es(self, /) -> Segment:
        """
        The data segment ES.
        """
    @es.setter
    def es(self, /, value: Segment) -> None: ...
    @property
    def events(self, /) -> Events:
        """
        What is on its way into the guest: exception, interrupt, NMI, SMI. A value; assign one to set them all.
        """
    @events.setter
    def events(self, /, value: Any) -> None: ...
    @property
    def fpu(self, /) -> Fpu:
        """
        The x87, SSE, AVX and AVX-512 registers, live: `cpu.fpu.xmm[0]`.
        """
    @property
    def fs(self, /) -> Segment:
        """
        The data segment FS.
        """
    @fs.setter
    def fs(self, /, value: Segment) -> None: ...
    @property
    def gdt(self, /) -> DescriptorTable:
        """
        GDTR: its base and limit.
        """
    @gdt.setter
    def gdt(self, /, value: tuple[SupportsIndex, SupportsIndex]) -> None: ...
    @property
    def gs(self, /) -> Segment:
        """
        The data segment GS.
        """
    @gs.setter
    def gs(self, /, value: Segment) -> None: ...
    @property
    def id(self, /) -> int:
        """
        The vCPU's number, from 0 on.
        """
    @property
    def idt(self, /) -> DescriptorTable:
        """
        IDTR: its base and limit.
        """
    @idt.setter
    def idt(self, /, value: tuple[SupportsIndex, SupportsIndex]) -> None: ...
    def inject_exception(
        self, /, vector: SupportsIndex, error_code: SupportsIndex | None = None, *, cr2: SupportsIndex | None = None
    ) -> None:
        """
        Has the vCPU take exception `vector` (0 to 31) before its next instruction, while it is stopped or in its handlers.

        `error_code` is for the vectors that have one (0 if none is given), `cr2` for page faults (vector 14). ValueError for
        what such an exception does not have, and while another one is on its way.
        """
    def inject_interrupt(self, /, vector: SupportsIndex) -> bool:
        """
        Interrupts the vCPU with `vector` as soon as it takes interrupts, which belljar waits for. From any thread.

        A VM without interrupt controllers gets it whatever its vector (it ends a HLT); else it goes through the local
        APIC, which delivers vectors from 16 on. False if that does not take it: it is switched off (bit 8 of
        `cpu.lapic.svr`) until the guest switches it on.
        """
    def inject_nmi(self, /) -> None:
        """
        Sends the vCPU a non-maskable interrupt. From any thread; `cpu.events` shows it on its way.
        """
    @property
    def lapic(self, /) -> Lapic:
        """
        The local APIC, live. ValueError for a VM whose local APICs are not in the kernel.
        """
    @property
    def ldt(self, /) -> Segment:
        """
        The local descriptor table register.
        """
    @ldt.setter
    def ldt(self, /, value: Segment) -> None: ...
    def mappings(
        self, /, start: SupportsIndex = ..., end: SupportsIndex | None = None, *, physical: bool = False
    ) -> Mappings:
        """
        All that is mapped in the address space that this vCPU is in, from `start` up to `end`: as VirtualMemory.mappings.
        """
    @property
    def mp_state(self, /) -> str:
        """
        "runnable", "uninitialized", "init_received", "halted" or "sipi_received" (KVM_GET_MP_STATE).

        Without an interrupt controller in the kernel it is always "runnable", and no other can be set.
        """
    @mp_state.setter
    def mp_state(self, /, value: str) -> None: ...
    @property
    def msr(self, /) -> Msrs:
        """
        Model-specific registers by name or number: `cpu.msr["LSTAR"]`, `cpu.msr[0x10]`.
        """
    @property
    def register_ioctls(self, /) -> int:
        """
        How many ioctls were spent on registers since the vCPU was made. In handlers that is one at the first look
        of all: from then on registers go through the area that KVM synchronises (KVM_CAP_SYNC_REGS).
        """
    @property
    def regs(self, /) -> Registers:
        """
        The general registers, RIP and RFLAGS, live.
        """
    def restore(self, /, state: "State", *, counters: bool = False) -> list[str]:
        """
        Puts a state back that this vCPU had, or one of another VM of the same kind. Memory stays as it is.

        What counts by itself (the TSC above all) goes on, unless `counters` is true. Returns the names of those MSRs that
        KVM would not set; usually none. Raises RegisterError for a state that KVM refuses, which may then be half put back,
        ValueError for one of another kind of VM or processor, RunningError inside a handler.
        """
    @property
    def rflags(self, /) -> RFLAGS:
        """
        RFLAGS by name: `cpu.rflags.zf`. The plain integer is `cpu.regs.rflags`.
        """
    @rflags.setter
    def rflags(self, /, value: SupportsIndex) -> None: ...
    def run(
        self,
        /,
        timeout: SupportsFloat | SupportsIndex | None = None,
        max_exits: SupportsIndex | None = None,
        *,
        until: "type[Exit] | tuple[type[Exit], ...] | Expression | Callable[[Exit | None], object] | None" = None,
    ) -> "Exit":
        """
        Runs this vCPU alone, on this thread: as VM.run.
        """
    def run_until(self, /, address: "int | str", *, timeout: SupportsFloat | SupportsIndex | None = None) -> "Exit":
        """
        Runs this vCPU alone up to `address` (or a symbol), by a breakpoint of its own. Otherwise as step().
        """
    def set_cpuid_leaves(
        self,
        /,
        leaves: SupportsGetItem[
            int,
            tuple[
                SupportsIndex, SupportsIndex | None, tuple[SupportsIndex, SupportsIndex, SupportsIndex, SupportsIndex]
            ],
        ],
    ) -> None:
        """
        Sets every leaf. RegisterError once the vCPU has run, and for what KVM refuses.
        """
    @property
    def ss(self, /) -> Segment:
        """
        The stack segment; its dpl is the privilege level.
        """
    @ss.setter
    def ss(self, /, value: Segment) -> None: ...
    def state(self, /) -> State:
        """
        Everything that this vCPU holds, as one value: compare it, print it, pickle it, put it back with restore().

        Inside a handler of a port or memory access it is the state before that access completes.
        """
    @property
    def stats(self, /) -> Stats:
        """
        What this vCPU has done: as VM.stats.
        """
    def step(self, /, n: SupportsIndex = ..., *, timeout: SupportsFloat | SupportsIndex | None = None) -> "Exit":
        """
        Executes `n` instructions on this vCPU alone, and returns Stepped, or whatever exit ended the run before.

        A breakpoint at the instruction where it begins is passed; others are hit as ever. On a KVM that does not step in the
        ring at hand, the guest's own #DB handler is trapped. Raises HostError where there is no way. `timeout` is in seconds.
        """
    def step_out(self, /, *, timeout: SupportsFloat | SupportsIndex | None = None) -> "Exit":
        """
        Runs until the function at hand has returned: calls as a whole, everything else instruction by instruction.
        """
    def step_over(self, /, *, timeout: SupportsFloat | SupportsIndex | None = None) -> "Exit":
        """
        Executes one instruction; a call, or a repeated string instruction, as a whole. Otherwise as step().
        """
    @property
    def tr(self, /) -> Segment:
        """
        The task register.
        """
    @tr.setter
    def tr(self, /, value: Segment) -> None: ...
    def translate(
        self, /, at: SupportsIndex | str, *, write: bool = False, user: bool | None = None, execute: bool = False
    ) -> Translation:
        """
        Where the virtual (linear) address `at` leads, or why nowhere.

        With write, user or execute the access is checked as the processor would check this vCPU's (Intel SDM vol. 3, 4.6:
        CR0.WP, SMEP, SMAP with RFLAGS.AC; not protection keys): by ring 3 if `user`, by ring 0 if user=False, by default in
        the ring that it is in. Without any of them, what is mapped translates.
        """
    @property
    def tsc(self, /) -> int:
        """
        The time-stamp counter as the guest would read it now; it counts on while the vCPU is stopped.

        Setting raises ValueError where KVM leaves it as it was.
        """
    @tsc.setter
    def tsc(self, /, value: SupportsIndex) -> None: ...
    @property
    def tsc_khz(self, /) -> int:
        """
        Ticks of the TSC per millisecond.
        """
    @property
    def virtual(self, /) -> VirtualMemory:
        """
        The memory of the address space that this vCPU is in, whichever that is at each call.
        """
    @property
    def waiting_interrupts(self, /) -> list[int]:
        """
        The vectors that inject_interrupt() has queued and the guest has not been able to take, the next one first.
        """
    @property
    def xcr0(self, /) -> XCR0:
        """
        XCR0: the state components that XSAVE handles, by name (Intel SDM vol. 1, 13.3): `cpu.xcr0.avx`.
        """
    @xcr0.setter
    def xcr0(self, /, value: SupportsIndex) -> None: ...

@final
class VM:
    """
    A whole virtual machine: memory, vCPUs, devices, and who answers its exits.

    `memory` is bytes or a string such as "64M" (RAM from address 0 on; None for none); `vcpus` counts; `irqchip` is
    None, "split" or "full"; `serial`, `i8042` and `pit` add these devices; `huge` is as for memory.add. With `bus_lock`, a
    guest that locks the bus exits (BusLock); with `notify_window`, one that keeps interrupts out for so many cycles (Notify). `cpuid` changes what the guest's CPUID says: {"avx2": False, "brand": "Mine", (7, 0): (0, 0, 0, 0)}.
    Raises HostError where there is no KVM, or where the processor does not offer such an exit.
    """
    def __enter__(self, /) -> VM: ...
    def __exit__(self, /, *_exception: "object") -> None: ...
    def __new__(
        cls,
        /,
        memory: Incomplete = ...,
        vcpus: SupportsIndex = 1,
        *,
        irqchip: str | None = None,
        serial: bool = False,
        i8042: bool = False,
        pit: bool = False,
        huge: Any = ...,
        bus_lock: bool = False,
        notify_window: SupportsIndex | None = None,
        cpuid: "collections.abc.Mapping[str | int | tuple[int, int], object] | None" = None,
    ) -> VM: ...
    def __repr__(self, /) -> str: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    def attach(
        self,
        /,
        device: Any,
        *,
        ports: "int | range | dict[str, int | range] | None" = None,
        mmio: "int | range | dict[str, int | range] | None" = None,
        at: "int | None" = None,
        irq: "int | None" = None,
        mode: "str | None" = None,
        reset: bool = True,
    ) -> Any:
        """
        Connects a bj.Device: from the next exit on, it answers the ports and addresses that it declares.

        `ports`, `mmio` and `irq` replace what the device declares, `at` moves its one range. `mode` is "instead" (of
        whatever is there), "before" (None from the device passes the access on) or "beside" (it only observes). It is
        reset first unless `reset` is False. Returns the device. Raises ValueError if it is attached already, RangeError
        where RAM or another Python device is in the way.
        """
    def boot(
        self, /, image: Any, *, initrd: Any | None = None, cmdline: str = "", tables: bool = True
    ) -> tuple[str, int]:
        """
        Loads a kernel image (bzImage, vmlinux, ELF, Multiboot 1) and has vCPU 0 begin at its entry.

        Returns the format and the entry point; `vm.symbols` then has the image's symbol table. Raises ImageError for a file that is none of these or is damaged.
        """
    def breakpoint(
        self,
        /,
        where: "int | str",
        handler: "Callable[[BreakpointHit], object] | NativeHandler | None" = None,
        *,
        when: "Expression | None" = None,
        cr3: "int | None" = None,
        hw: "bool | None" = None,
        once: bool = False,
        vcpu: "int | None" = None,
        physical: bool = False,
    ) -> "Breakpoint":
        """
        Has the run end, or `handler(hit)` called, whenever a vCPU is about to execute the instruction at `where`.

        `where` is a linear address or a symbol ("name", "name+0x10"). The handler sees a BreakpointHit with RIP at the
        instruction, and may change registers and memory; None goes on, bj.STOP ends the run. Without a handler, a hit ends
        the run: the next run goes on behind it. `when` is an expression and `cr3` an address space, both compared natively;
        `vcpu` is a vCPU's number; `once` removes it at its first hit. `hw=True` takes one of the four debug registers,
        `hw=False` none; by default whatever this KVM has in that ring is used, and `.mechanism` says which. With `physical=True` the
        address is guest-physical, however the guest maps it. Raises HostError where this KVM has no way.
        """
    @property
    def breakpoints(self, /) -> dict[int, Breakpoint]:
        """
        The breakpoints that there are, by number, which their hits have as `id`: `vm.breakpoints[hit.id].remove()`.

        Those of traces and of gdb are not among them.
        """
    @property
    def clock(self, /) -> int:
        """
        The guest's clock (kvmclock) in nanoseconds, which runs on while the VM is stopped. Settable.
        """
    @clock.setter
    def clock(self, /, nanoseconds: SupportsIndex) -> None: ...
    def close(self, /) -> None:
        """
        Ends all runs and gives everything back: descriptors, threads, mappings. May be called again, from any thread.

        Refused from a handler of this VM (RunningError) and while views of its memory are live (BufferError). What a handler
        raised in the background and no join(), stop() or start() has handed out goes to sys.unraisablehook.
        """
    def coalesced(
        self,
        /,
        port: "int | range | None" = None,
        mmio: "int | range | None" = None,
        *,
        size: SupportsIndex | None = None,
        handler: "Callable[[list[tuple[int, int, int]]], object] | None" = None,
        limit: SupportsIndex = 1048576,
    ) -> Zone:
        """
        Has KVM queue the guest's writes to ports, or to addresses without memory (`mmio`), without an exit for each
        (KVM_REGISTER_COALESCED_MMIO). Returns a Zone, whose read() takes them; keep it: without a handler, one that is
        gone is removed.

        The place is a number, a range, or a first number and a `size`. `handler(writes)` is handed them as read() returns
        them, in their order, on the thread of a vCPU: before whatever exit comes next, at the latest when KVM's queue of 169
        is full; while it works, another vCPU may go on. What it raises comes out of run(). Without a handler they wait for
        read(), up to `limit` of them; later ones are lost. Other handlers and devices at the place see no such write; reads
        exit as ever. The write for which the queue has no room is an exit that the zone takes. RangeError where another zone
        or RAM is.
        """
    @property
    def console(self, /) -> Console:
        """
        The far end of the serial line. ValueError for a VM without one.
        """
    @property
    def cpu(self, /) -> VCPU:
        """
        The first vCPU.
        """
    @property
    def cpuid(self, /) -> Cpuid:
        """
        The CPUID of all vCPUs as one table: it shows the first one's, and what is set in it is set for all.
        """
    @property
    def cpus(self, /) -> list[VCPU]:
        """
        All vCPUs, in the order of their numbers.
        """
    def detach(self, /, device: Any) -> None:
        """
        Disconnects a device: from the next exit on, what was behind it answers. ValueError if it is not attached here.
        """
    @property
    def devices(self, /) -> tuple[Device, ...]:
        """
        The devices that attach() has connected, oldest first.
        """
    def doorbell(
        self,
        /,
        port: SupportsIndex | None = None,
        gpa: SupportsIndex | None = None,
        *,
        size: SupportsIndex | None = None,
        value: SupportsIndex | None = None,
    ) -> Doorbell:
        """
        Has KVM count the guest's writes to a port, or to a guest-physical address `gpa` without memory: no exit, no
        handler (KVM_IOEVENTFD). Returns a Doorbell; keep it, since one that is gone is removed.

        `size` is the width of a write in bytes, 0 or None for any; `value` has only writes of it ring (by default of any
        width that holds it), so that several doorbells share a place. What is written is not kept. Handlers and devices at
        the place see such writes no more; they still see reads and writes that do not ring. ValueError where another
        doorbell is rung by the same writes; RangeError for RAM.
        """
    def drgn(self, /) -> "Any":
        """
        A drgn.Program on this guest, which reads its memory as it is at each moment.

        Of a Linux guest it knows symbols and types by what the kernel itself carries (kallsyms, BTF), so that
        `prog["init_task"].comm` and drgn's helpers work without any debug package. Of another guest it knows the
        symbols of the image that was booted, and reads virtual addresses as the first vCPU does. HostError without drgn.
        """
    def dump(self, /, path: "str | os.PathLike[str]", *, format: "str" = "elf") -> None:
        """
        Writes the guest into a file: see belljar.dump.dump.

        `format` is "elf" (an ELF core file, which bj.open_dump, crash, drgn and Volatility read) or "raw" (memory alone,
        with the registers in a second file, path + ".json"). A VM that runs in the background is paused meanwhile.
        """
    def exits(self, /, *kinds: "type[Exit]", timeout: SupportsFloat | SupportsIndex | None = None) -> "Iterator[Exit]":
        """
        Runs the guest on this thread, exit by exit: `for exit in vm.exits(): ...`, the guest being stopped in the body.

        Yields each exit of the classes `kinds` (by default all) after it has been answered, and at last the one that ended
        the run: one that is none of these, or by default one after which the machine does not go on by itself (Hlt,
        Shutdown, Timeout ...). Who wants to answer uses a handler. `timeout` is in seconds, for the whole iteration.
        """
    def gdbserver(
        self,
        /,
        port: SupportsIndex = ...,
        host: str = "127.0.0.1",
        *,
        wait: bool = False,
        path: str | PathLike[str] | None = None,
    ) -> GdbServer:
        """
        Serves gdb: `gdb -ex "target remote :1234" vmlinux`. Returns at once, unless it is to `wait` for a client.

        Listens at TCP `port` of `host` (0: a free one, which `.port` tells), or at the Unix socket `path`. The guest is held
        while a client is connected, until gdb has it go on; vCPUs are gdb's threads. Where nothing runs the guest, gdb's
        `continue` does so in the background. With `wait`, it returns once gdb is connected, and running the guest is left to
        the program: vm.run() begins, and waits until gdb has it go on. Who reaches the port has the whole guest.
        """
    @property
    def handlers(self, /) -> list[Handle]:
        """
        The handlers that are registered, oldest first: handles, as `on_port` and the others return them.
        """
    def irq(self, /, line: SupportsIndex) -> IrqLine:
        """
        Interrupt line `line` (0 to 23): ISA numbers, which reach the I/O APIC's pin and, with irqchip="full", the PIC.

        ValueError for a VM without interrupt controllers.
        """
    def join(self, /, timeout: SupportsFloat | SupportsIndex | None = None) -> "Exit":
        """
        Waits until the guest that start() set going stops by itself, and returns the exit that stopped it.

        Raises TimeoutError after `timeout` seconds, and what a handler raised.
        """
    def kick(self, /) -> None:
        """
        Gets the guest out of a run, from any thread: that run returns Interrupted. Does nothing if none is on.
        """
    @property
    def linux(self, /) -> Linux:
        """
        The Linux kernel that runs in the guest: its tasks, files, sockets, modules, log. See `belljar.linux.Linux`.

        It is looked for once, and again after another kernel was booted. Raises KernelError if there is none, or none yet.
        """
    def load(self, /, code: Any, mode: str = "long", *, at: SupportsIndex = ..., vcpu: SupportsIndex = ...) -> None:
        """
        Puts `code` (bytes, or assembly text for bj.asm) at guest-physical `at` and has a vCPU begin there.

        `mode` is "real", "protected", "long" or "user"; the host builds segments and tables at the end of RAM. In "user"
        mode the code runs in ring 3, and its exceptions come out of run() as GuestException.
        """
    @property
    def memory(self, /) -> Memory:
        """
        The guest's physical memory.
        """
    def memory_map(self, /) -> MemoryMap:
        """
        What is where in the guest's physical address space: RAM, ROM, devices, handlers of on_mmio, and holes.

        Up to the last address that the host lets a guest have. A value of this moment: later changes are not in it.
        """
    def msi(self, /, address: SupportsIndex, data: SupportsIndex) -> bool:
        """
        Sends a message-signalled interrupt (Intel SDM vol. 3, 11.11); returns whether a vCPU took it.

        `address` is 0xfee00000 with the destination in bits 12 to 19, `data` has the vector in its low byte. ValueError for a
        VM without interrupt controllers.
        """
    def msi_eventfd(self, /, address: SupportsIndex, data: SupportsIndex) -> IrqEvent:
        """
        An event whose every write sends that message, made by KVM itself. Keep it: an event that is gone sends nothing.
        """
    def on_breakpoint(
        self,
        /,
        where: "int | str",
        *,
        when: "Expression | None" = None,
        cr3: "int | None" = None,
        hw: "bool | None" = None,
        once: bool = False,
        vcpu: "int | None" = None,
        physical: bool = False,
    ) -> "Breakpoint":
        """
        As breakpoint(), as a decorator: `@vm.on_breakpoint("do_exit")`. It is planted once it has its function.
        """
    def on_exit(
        self, /, kind: "type[Exit] | None" = None, handler: Any | None = None, *, when: "Expression | None" = None
    ) -> Handle:
        """
        Has `handler(exit)` see all exits of one class, such as bj.Hlt; bj.Exit (the default) is every class.

        None keeps the default behaviour, bj.SKIP goes on where the machine would have stopped; `when` is as for on_port.
        """
    def on_mmio(
        self,
        /,
        address: "int | range",
        handler: Any | None = None,
        *,
        size: SupportsIndex | None = None,
        access: str = "rw",
        when: "Expression | None" = None,
    ) -> Handle:
        """
        Has `handler(exit)` answer accesses to guest-physical addresses that no RAM backs, and with access="w" to ROM.

        Otherwise as on_port.
        """
    def on_msr(
        self,
        /,
        msr: "str | int | range",
        handler: Any | None = None,
        *,
        size: SupportsIndex | None = None,
        access: str = "rw",
        when: "Expression | None" = None,
    ) -> Handle:
        """
        Has `handler(exit)` answer accesses to model-specific registers: a name such as "LSTAR", a number, or a range.

        For a write, None lets it happen, bj.SKIP drops it, and an integer is written instead. bj.DENY refuses an access:
        the guest gets #GP, as of a register that is not there. Where the answer is always the same action, it may be the
        handler itself, and no Python runs: `vm.on_msr("LSTAR", bj.DENY, access="w")`.
        """
    def on_port(
        self,
        /,
        port: "int | range",
        handler: Any | None = None,
        *,
        size: SupportsIndex | None = None,
        access: str = "rw",
        strings: bool = False,
        when: "Expression | None" = None,
    ) -> Handle:
        """
        Has `handler(exit)` answer accesses to ports: a port, or a range of them, or a first one and a `size`.

        `access` is "r", "w" or "rw", seen from the guest. The guest waits. Returns a Handle, which is a decorator if no
        handler is given. For a read, an integer is what the guest gets; None answers as without the handler, bj.SKIP drops
        a write, bj.STOP ends the run with this exit. String instructions come element by element; with `strings=True`,
        whole, as PortStringIn (answered by bytes) and PortStringOut. `when` is a filter, an expression such as `bj.reg.rax == 5`: an
        exit at which it does not hold goes on as if there were no handler, without Python being called.
        """
    def on_watch(
        self,
        /,
        address: "int | str",
        size: SupportsIndex = ...,
        *,
        access: "typing.Literal['r', 'w', 'rw', 'x', 'rwx']" = "w",
        virtual: bool = False,
        when: "Expression | None" = None,
        cr3: SupportsIndex | None = None,
        once: bool = False,
        hw: bool | None = None,
    ) -> Watchpoint:
        """
        As watch, for use as a decorator: the watch begins at once, and the function that it decorates is its handler.

        Until it has one, a hit goes on.
        """
    @property
    def other_exits(self, /) -> list[Any]:
        """
        The exits that had been answered when the last run ended, and would have ended it too: those of other vCPUs at the
        same moment, and the rest of an instruction with several accesses. run() returns one of them, which is not here.
        """
    def pause(self, /) -> None:
        """
        Holds a guest that start() set going, between two instructions. In a handler, it asks and does not wait.

        A vCPU that was set going less than a millisecond ago and has not come out of the guest yet gets that time first: a
        guest that is resumed and paused in a tight loop gets on.
        """
    def profile(self, /) -> Profile:
        """
        Where the time went since the VM was made: its stats, and calls and seconds of each handler. A value of this moment;
        `vm.profile() - before` is what happened since `before`.
        """
    def resume(self, /) -> None:
        """
        Goes on in the background after pause(), run(), or a run that ended by itself.

        ValueError in another state: start() begins.
        """
    def run(
        self,
        /,
        timeout: SupportsFloat | SupportsIndex | None = None,
        max_exits: SupportsIndex | None = None,
        *,
        until: "type[Exit] | tuple[type[Exit], ...] | Expression | Callable[[Exit | None], object] | None" = None,
    ) -> "Exit":
        """
        Runs the guest on this thread until something stops it, and returns that exit.

        `timeout` is in seconds (then a Timeout comes back); `max_exits` counts exits, and the last one comes back after
        it has been answered. `until` is a class of exits, or a tuple of them, one of which ends the run after it has been
        answered; or an expression such as `bj.reg.rax == 5`, computed natively at each answered exit, or a function, asked with it, and both without one (None)
        some 25 times a second: the run ends when it holds. What a handler raises comes out here, and so does KeyboardInterrupt; the VM stays usable.
        """
    def run_async(
        self,
        /,
        timeout: SupportsFloat | SupportsIndex | None = None,
        max_exits: SupportsIndex | None = None,
        *,
        until: "type[Exit] | tuple[type[Exit], ...] | Expression | Callable[[Exit | None], object] | None" = None,
    ) -> "Coroutine[object, object, Exit]":
        """
        Runs the guest on a thread of its own: `exit = await vm.run_async(timeout=1)`, otherwise as run().

        Handlers and `until` are called on that thread. Cancelling the task stops the guest, between two instructions.
        """
    def start(self, /) -> None:
        """
        Runs the guest on threads of its own, one per vCPU, and returns at once: join() waits, stop() ends it.

        Raises what a handler raised in the last such run, if nobody has asked for it.
        """
    @property
    def state(self, /) -> str:
        """
        "stopped", "running", "paused" or "closed".

        Stopped: it has not run, or stop() ended its run in the background. Paused: it is held between two instructions,
        after pause(), after run(), or after a run that ended by itself; resume() or another run goes on.
        """
    @property
    def stats(self, /) -> Stats:
        """
        What the vCPUs have done since the VM was made: exits by class, seconds in the guest, in belljar and in handlers.

        A value of this moment, also while the guest runs; the difference of two says what happened in between.
        """
    def stop(self, /) -> "Exit | None":
        """
        Ends a run, in the background or on another thread, and returns the exit that ended it (None if it was not
        running in the background).
        """
    @property
    def symbols(self, /) -> Symbols:
        """
        The symbols of the image that `boot()` loaded; none if it has no symbol table, or nothing was booted.
        """
    def trace(
        self,
        /,
        *,
        port: "int | range | None" = None,
        mmio: "int | range | None" = None,
        msr: "str | int | range | None" = None,
        exits: "type[Exit] | tuple[type[Exit], ...] | None" = None,
        breakpoint: "int | str | Breakpoint | Sequence[int | str | Breakpoint] | None" = None,
        watch: "int | str | tuple[int, int] | object | None" = None,
        step: bool = False,
        branch: bool = False,
        access: "typing.Literal['r', 'w', 'rw']" = "rw",
        fields: "Sequence[str | Expression | tuple[str, Expression]] | None" = None,
        when: "Expression | None" = None,
        capacity: SupportsIndex = 65536,
        policy: "typing.Literal['stop', 'drop', 'spill']" = "stop",
        spill: "str | os.PathLike[str] | None" = None,
        wake: SupportsIndex = 1,
        every: SupportsFloat | SupportsIndex | None = None,
    ) -> Trace:
        """
        Records accesses natively, with no Python per event; returns a Trace, which is read as numpy arrays.

        `port`, `mmio` and `msr` are as for on_port, on_mmio and on_msr, and may be combined; `exits` is a class of exits or a
        tuple of them. `breakpoint` is an address or a symbol, or several: it is planted for the trace, and stops nobody; `watch`
        likewise is what vm.watch takes, or (address, size). Handles that vm.breakpoint and vm.watch returned may be given, too. With
        `step=True` each instruction is recorded, at the price of an exit each; with `branch=True` those that go elsewhere
        than to the next one: "source" and "size" are of the instruction, "address" is where it went. A read is recorded with its answer, after the handlers; anything else before them. `when` is an
        expression: only exits at which it holds are recorded.

        `fields` are names ("time" in nanoseconds of time.monotonic_ns(), "sequence", the exit's "kind", its own fields such
        as "vcpu", "port" and "data", and registers), expressions, or pairs of a name and an expression; what an exit has
        not is 0. Each vCPU has a ring of `capacity` records. When it is full, policy "stop" has
        the vCPU wait for a reader on another thread, or ends the run with Interrupted("trace") if there is none, so that
        nothing is lost; "drop" counts what is lost; "spill" writes it to the file `spill`. The trace's fileno() is
        readable when `wake` records wait, and `every` so many seconds.
        """
    def translate(
        self,
        /,
        at: SupportsIndex | str,
        cr3: SupportsIndex | None = None,
        *,
        write: bool = False,
        user: bool | None = None,
        execute: bool = False,
    ) -> Translation:
        """
        Where the virtual address `at` leads, by the tables at `cr3` (by default the first vCPU's), or why nowhere.

        With write, user or execute the access is checked, too. See VCPU.translate.
        """
    def virtual(self, /, cr3: SupportsIndex | None = None, *, cpu: SupportsIndex = ...) -> VirtualMemory:
        """
        The memory of the address space whose tables are at `cr3`, in the paging mode of vCPU `cpu`; without a `cr3`,
        whatever that vCPU is in.
        """
    @property
    def vmcoreinfo(self, /) -> Any:
        """
        What a Linux guest says of itself to those who read its memory, or None for another guest: found anew each time.
        """
    def volatility(self, /) -> Session:
        """
        Volatility 3 on this guest: `vm.volatility().run("linux.pslist.PsList")`. HostError without volatility3.
        """
    def watch(
        self,
        /,
        address: "int | str",
        size: SupportsIndex = ...,
        handler: "Callable[[WatchpointHit], object] | NativeHandler | None" = None,
        *,
        access: "typing.Literal['r', 'w', 'rw', 'x', 'rwx']" = "w",
        virtual: bool = False,
        when: "Expression | None" = None,
        cr3: SupportsIndex | None = None,
        once: bool = False,
        hw: bool | None = None,
    ) -> Watchpoint:
        """
        Watches `size` bytes of guest memory from `address` on: the guest's accesses to them are WatchpointHits.

        `access` is "w" (writes), "r", "rw", "x" (instructions in the range) or "rwx", seen from the guest. `address` is
        guest-physical; with `virtual=True` it is linear, and so is a symbol ("name", "name+0x10"); it is translated once, as vCPU 0 (in a handler: its
        vCPU) does, or through the tables at `cr3`; what is watched is the memory found there, however it is reached.
        `handler(exit)` is asked about each hit, after the access; None goes on, bj.STOP ends the run. Without a handler a hit
        ends the run. `when` is an expression: accesses at which it does not hold are no hits. With `once` the first hit is the last.
        `hw=False` never takes a debug register, `hw=True` nothing else. Any number, any size, while the VM runs, too.
        Raises GuestMemoryError where there is no memory.
        """
    @property
    def watchpoints(self, /) -> dict[int, Watchpoint]:
        """
        The watchpoints that there are, by number, which their hits have as `id`.
        """

@final
class VectorRegisters:
    """
    Registers of one kind, live: integers by index, or all at once as an array.
    """
    def __getitem__(self, index: SupportsIndex, /) -> int: ...
    def __iter__(self, /) -> Iterator[int]: ...
    def __len__(self, /) -> int: ...
    def __repr__(self, /) -> str: ...
    def __setitem__(self, index: SupportsIndex, value: Any, /) -> None: ...
    def as_array(self, /, dtype: "Any" = None) -> "Any":
        """
        A copy of all of them as a numpy array: one row for each register, its lowest element first.

        `dtype` is that of the elements: `fpu.xmm.as_array("float32")` has the shape (16, 4). Not for `st_raw`, whose
        ten bytes have no such type.
        """

@final
class VirtualMemory:
    """
    The guest's memory by virtual (linear) address, through its page tables. Integers are little-endian.

    `cpu.virtual` and `vm.virtual()` follow the vCPU's CR3, whatever that is at each call; `vm.virtual(cr3)` stays in one
    address space, also while the guest runs. What is not mapped raises GuestMemoryError with the address. A write is a
    debugger's: it heeds no permission of the guest's, and sets no accessed or dirty bit.

    `at` may also be a symbol, as for vm.breakpoint: "jiffies", "do_exit+0x10"; KeyError if there is none of that name.
    """
    def __getitem__(self, index: Any, /) -> Any: ...
    def __repr__(self, /) -> str: ...
    def __setitem__(self, index: Any, value: Any, /) -> None: ...
    def compare(self, /, at: SupportsIndex | str, other: Any, size: SupportsIndex | None = None) -> "int | None":
        """
        Where the memory at `at` first differs from `other`, in bytes from `at`, or None if it is the same.

        `other` is bytes, or the address of other memory of this address space (then `size` is needed).
        """
    @property
    def cr3(self, /) -> int:
        """
        CR3 of the address space: where its tables begin, and flags.
        """
    def disasm(
        self,
        /,
        at: SupportsIndex | str,
        count: SupportsIndex = ...,
        *,
        bits: SupportsIndex | None = None,
        symbols: Any | None = None,
    ) -> "list[Instruction]":
        """
        `count` instructions from `at` on, as far as they are mapped, with the names that `symbols` has: by default
        vm.symbols.

        `bits` is 16, 32 or 64, by default as the vCPU's code segment says, and 64 in a fixed address space of 4 or 5 levels.
        """
    def fill(self, /, at: SupportsIndex | str, size: SupportsIndex, value: Any | None = None) -> None:
        """
        Fills `size` bytes from `at` on with `value`: a byte (0 to 255; by default 0), or bytes that are
        repeated.
        """
    def hexdump(
        self, /, at: SupportsIndex | str, size: SupportsIndex = ..., width: SupportsIndex = 16, *, squeeze: bool = True
    ) -> "str":
        """
        `size` bytes from `at` on as text: address, hexadecimal, characters. `??` is where no memory is.

        `width` is bytes per line. Lines that repeat the one before are one `*`, except the last; all of them with
        squeeze=False.
        """
    def mappings(
        self, /, start: SupportsIndex = ..., end: SupportsIndex | None = None, *, physical: bool = False
    ) -> Mappings:
        """
        All that is mapped from `start` up to `end`: a list of Mapping in the order of addresses, and a table.

        Neighbours with the same permissions and page size are one range; with physical=True a range also ends where the next
        page lies elsewhere. Tables that lead into each other without end cost no more than a bounded time: then the list is
        a beginning, and its `cut` says why.
        """
    @property
    def paging(self, /) -> str:
        """
        How addresses are translated: "off", "32-bit", "PAE", "4-level" or "5-level".
        """
    def read(self, /, at: SupportsIndex | str, size: SupportsIndex) -> bytes:
        """
        `size` bytes from `at` on, as a copy.
        """
    def read_array(self, /, at: SupportsIndex | str, count: SupportsIndex, dtype: Any | None = None) -> Any:
        """
        `count` items from `at` on as a numpy array of its own: `read_array(0x1000, 512, "<u8")` for 64-bit words.

        `dtype` is numpy's, structured ones too; bytes by default. `write` puts an array back; `view` makes no copy.
        """
    def read_cstring(
        self,
        /,
        at: SupportsIndex | str,
        most: SupportsIndex = 4096,
        encoding: str | None = None,
        errors: str = "strict",
    ) -> "bytes | str":
        """
        The C string at `at`: the bytes up to a zero byte, or `most` bytes if none of them is zero (as strnlen counts).

        With an `encoding` whose only zero byte is the end ("utf-8", "latin-1") it is decoded to str; `errors` is as for
        bytes.decode. GuestMemoryError if memory ends before the zero and before `most`.
        """
    def read_ctypes(self, /, at: SupportsIndex | str, kind: Any) -> Any:
        """
        The ctypes object at `at`, as a copy: `read_ctypes(0x1000, Header)` for a Structure, Union, array or plain type.

        What `write_ctypes` writes back. A pointer in it is the guest's: never follow it with ctypes, which would
        look in this process.
        """
    def read_i16(self, /, at: SupportsIndex | str) -> int:
        """
        The 16-bit signed integer at `at`.
        """
    def read_i32(self, /, at: SupportsIndex | str) -> int:
        """
        The 32-bit signed integer at `at`.
        """
    def read_i64(self, /, at: SupportsIndex | str) -> int:
        """
        The 64-bit signed integer at `at`.
        """
    def read_i8(self, /, at: SupportsIndex | str) -> int:
        """
        The signed byte at `at`.
        """
    def read_many(self, /, addresses: Any, dtype: Any | None = None) -> Any:
        """
        The values at many `addresses`, which need no order, as a numpy array of its own and of their shape.

        `addresses` is an array of 64-bit integers (the fast way), or any iterable of integers. `dtype` is numpy's, by
        default "<u8", a 64-bit word: `read_many(base + 8 * np.arange(512))`; or a number of bytes, for so many of them in
        one more dimension. An address without memory is a
        GuestMemoryError. Other threads run meanwhile, the guest too: each value is read once, but not all at one moment.
        """
    def read_struct(self, /, at: SupportsIndex | str, format: str) -> "tuple[Any, ...]":
        """
        The values at `at` that `format` of the struct module describes: `read_struct(0x1000, "<QI8s")`.

        Begin the format with "<": without it there is padding between members, as a C compiler puts it.
        """
    def read_u16(self, /, at: SupportsIndex | str) -> int:
        """
        The 16-bit unsigned integer at `at`.
        """
    def read_u32(self, /, at: SupportsIndex | str) -> int:
        """
        The 32-bit unsigned integer at `at`.
        """
    def read_u64(self, /, at: SupportsIndex | str) -> int:
        """
        The 64-bit unsigned integer at `at`.
        """
    def read_u8(self, /, at: SupportsIndex | str) -> int:
        """
        The byte at `at`.
        """
    def read_utf16(self, /, at: SupportsIndex | str, most: SupportsIndex = 4096, errors: str = "strict") -> "str":
        """
        The UTF-16 string at `at`, little-endian, up to a zero code unit, or `most` code units if none of them is zero.

        `errors` is as for bytes.decode: half a surrogate pair is a UnicodeDecodeError unless it says otherwise.
        GuestMemoryError if memory ends before the zero and before `most`.
        """
    def search(
        self,
        /,
        pattern: Any,
        start: SupportsIndex = ...,
        end: SupportsIndex | None = None,
        *,
        limit: SupportsIndex | None = None,
        align: SupportsIndex = 1,
    ) -> list[int]:
        """
        The addresses where `pattern` is found, in order: bytes, or text in hexadecimal with `?` for any digit
        ("48 8b ?? c3").

        Looks in all RAM and ROM from `start` up to `end`, in virtual memory in all that is mapped; a match may go from one
        region or page into the next where they touch, and matches may overlap. `limit` ends the search after so many (without it, more than 4 million are a
        ValueError), `align` keeps those at multiples of it. Other
        threads run meanwhile, the guest too, and Ctrl-C ends it.
        """
    def search_many(
        self,
        /,
        patterns: Any,
        start: SupportsIndex = ...,
        end: SupportsIndex | None = None,
        *,
        limit: SupportsIndex | None = None,
        align: SupportsIndex = 1,
    ) -> list[tuple[int, int]]:
        """
        Where any of several `patterns` (bytes) is found: tuples of the address and the number of the pattern, in order.

        One pass finds all of them, whatever their number (Aho-Corasick), overlapping matches too. Otherwise as search;
        `limit` counts matches in the order of their ends.
        """
    def translate(
        self, /, at: SupportsIndex | str, *, write: bool = False, user: bool | None = None, execute: bool = False
    ) -> Translation:
        """
        Where `at` leads, or why nowhere.

        With write, user or execute the access is checked, too, by ring 3 if `user`, else by ring 0; without any of them,
        what is mapped translates. See VCPU.translate.
        """
    def write(self, /, at: SupportsIndex | str, data: Any) -> None:
        """
        Writes `data` (bytes, or anything with the buffer protocol: a numpy array, a ctypes object) at `at`. ROM can be written from here, too.
        """
    def write_cstring(self, /, at: SupportsIndex | str, text: Any, encoding: str = "utf-8") -> int:
        """
        Writes `text` (bytes, or str encoded as `encoding`) and a zero byte at `at`; returns how many bytes that were.
        """
    def write_ctypes(self, /, at: SupportsIndex | str, value: Any) -> int:
        """
        Writes a ctypes object (a Structure, for example) at `at`; returns how many bytes that were.
        """
    def write_i16(self, /, at: SupportsIndex | str, value: SupportsIndex) -> None:
        """
        Sets the 16-bit signed integer at `at`.
        """
    def write_i32(self, /, at: SupportsIndex | str, value: SupportsIndex) -> None:
        """
        Sets the 32-bit signed integer at `at`.
        """
    def write_i64(self, /, at: SupportsIndex | str, value: SupportsIndex) -> None:
        """
        Sets the 64-bit signed integer at `at`.
        """
    def write_i8(self, /, at: SupportsIndex | str, value: SupportsIndex) -> None:
        """
        Sets the signed byte at `at`.
        """
    def write_struct(self, /, at: SupportsIndex | str, format: str, *values: "object") -> int:
        """
        Writes `values` at `at`, laid out by `format` of the struct module; returns how many bytes that were.
        """
    def write_u16(self, /, at: SupportsIndex | str, value: SupportsIndex) -> None:
        """
        Sets the 16-bit unsigned integer at `at`.
        """
    def write_u32(self, /, at: SupportsIndex | str, value: SupportsIndex) -> None:
        """
        Sets the 32-bit unsigned integer at `at`.
        """
    def write_u64(self, /, at: SupportsIndex | str, value: SupportsIndex) -> None:
        """
        Sets the 64-bit unsigned integer at `at`.
        """
    def write_u8(self, /, at: SupportsIndex | str, value: SupportsIndex) -> None:
        """
        Sets the byte at `at`.
        """

@final
class Watchpoint:
    """
    A watched range of guest memory. Keep it to remove the watch later, or use it as a context manager.
    """
    def __call__(self, /, *args: "object", **kwargs: "object") -> Any:
        """
        As a decorator, makes the function its handler; afterwards, calls it.
        """
    def __enter__(self, /) -> Watchpoint: ...
    def __eq__(self, other: object, /) -> bool:
        """
        Are both the same watchpoint? A hit and vm.watchpoints make handles of their own.
        """
    def __exit__(self, /, *_exception: "object") -> None: ...
    def __hash__(self, /) -> int: ...
    def __repr__(self, /) -> str: ...
    def _repr_html_(self, /) -> str:
        """
        The value as a notebook shows it.
        """
    @property
    def access(self, /) -> str:
        """
        "r", "w", "rw", "x" or "rwx", seen from the guest.
        """
    @property
    def address(self, /) -> int:
        """
        The first address watched, as it was given.
        """
    @property
    def cr3(self, /) -> int | None:
        """
        The tables that its linear address was translated by, as they were given, or None.
        """
    @property
    def enabled(self, /) -> bool:
        """
        Are there hits? Settable; what is switched off keeps its pages trapped, and so slow.
        """
    @enabled.setter
    def enabled(self, /, yes: bool) -> None: ...
    @property
    def function(self, /) -> Any | None:
        """
        The function that is called at a hit, or None.
        """
    @property
    def hits(self, /) -> int:
        """
        How often it was hit; kept when it has been removed.
        """
    @property
    def id(self, /) -> int:
        """
        Its number, which its hits carry.
        """
    @property
    def mechanism(self, /) -> str:
        """
        How accesses are noticed: "debug register", "memory trap (read-only page)" or "memory trap (hole)".
        """
    @property
    def once(self, /) -> bool:
        """
        Is it removed at its first hit?
        """
    def remove(self, /) -> None:
        """
        Watches no more, from the next entry into the guest on; does nothing if it has been removed.

        With the last watchpoint of a page, accesses to it are as fast as before.
        """
    @property
    def seconds(self, /) -> float:
        """
        Seconds spent in the function so far.
        """
    @property
    def size(self, /) -> int:
        """
        How many bytes are watched.
        """
    @property
    def symbol(self, /) -> str | None:
        """
        The symbol that it was named by, or None.
        """
    @property
    def virtual(self, /) -> bool:
        """
        Is the address a linear one?
        """
    @property
    def when(self, /) -> Expression | None:
        """
        Its filter, or None.
        """

@final
class WatchpointHit(Exit):
    """
    The guest accessed what a watchpoint watches; otherwise as a BreakpointHit.
    """

    __match_args__: Final[tuple[str, str, str, str, str, str, str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(
        cls,
        /,
        id: SupportsIndex,
        address: SupportsIndex,
        gpa: SupportsIndex | None,
        size: SupportsIndex,
        write: bool,
        before: SupportsIndex,
        after: SupportsIndex,
        rip: SupportsIndex,
        vcpu: SupportsIndex = 0,
    ) -> WatchpointHit: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def address(self, /) -> int:
        """
        The first byte accessed: linear or guest-physical, as the watchpoint was given.
        """
    @property
    def after(self, /) -> int:
        """
        What is there now; of a read, the same.
        """
    @property
    def before(self, /) -> int:
        """
        What was there before, little-endian.
        """
    @property
    def gpa(self, /) -> int | None:
        """
        The same, guest-physical; None where it is not known.
        """
    @property
    def id(self, /) -> int:
        """
        The number of the watchpoint: its `id`.
        """
    @property
    def rip(self, /) -> int:
        """
        Linear address of the instruction; of the next one where the processor reports the access after it (debug registers).
        """
    @property
    def size(self, /) -> int:
        """
        Bytes: 1 to 8.
        """
    @property
    def watchpoint(self, /) -> Watchpoint | None:
        """
        The watchpoint, as vm.watch() has returned it: `hit.watchpoint.remove()`.

        None of a hit that was pickled or made by hand, where the VM is gone, and of a watchpoint that gdb has planted.
        """
    @property
    def write(self, /) -> bool:
        """
        Written, not read or executed.
        """

@final
class Xen(Exit):
    """
    What the guest asks of Xen that KVM leaves to user space (KVM_EXIT_XEN).
    """

    __match_args__: Final[tuple[str, str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(
        cls, /, kind: SupportsIndex, data: SupportsGetItem[int, SupportsIndex], vcpu: SupportsIndex = 0
    ) -> Xen: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
    @property
    def data(self, /) -> list[int]:
        """
        The words that follow, as KVM laid them out.
        """
    @property
    def kind(self, /) -> int:
        """
        KVM_EXIT_XEN_*.
        """

@final
class Zone:
    """
    Ports or addresses whose writes KVM queues, without an exit for each: `vm.coalesced(port=0x80)`.

    A context manager that removes it.
    """
    def __enter__(self, /) -> Zone: ...
    def __exit__(self, /, *_exception: "object") -> None: ...
    def __repr__(self, /) -> str: ...
    def array(self, /) -> "numpy.typing.NDArray[numpy.void]":
        """
        As read(), as a numpy array with the fields address (u8), data (u8) and size (u1).
        """
    @property
    def lost(self, /) -> int:
        """
        How many writes were lost because `limit` of them waited and nobody read them.
        """
    @property
    def range(self, /) -> range:
        """
        The ports or guest-physical addresses.
        """
    def read(self, /) -> "list[tuple[int, int, int]]":
        """
        Takes the writes that wait, oldest first: a list of (address, size in bytes, data), as the guest made them.

        From any thread, also while the guest runs, and after remove().
        """
    def remove(self, /) -> None:
        """
        Has these writes exit again. What was queued before can still be read. Does nothing if it has been removed.
        """
    @property
    def removed(self, /) -> bool:
        """
        Has it been removed, or its VM closed?
        """

def capabilities() -> tuple[list[tuple[str, int, str]], int]:
    """
    Opens /dev/kvm and says what it offers: (name, value, what for) per capability, and the most vCPUs. HostError if not.
    """

def disasm(
    code: Any,
    at: SupportsIndex = 0,
    bits: SupportsIndex = 64,
    count: SupportsIndex | None = None,
    *,
    symbols: Any | None = None,
) -> "list[Instruction]":
    """
    Decodes `code` as instructions of `bits` (16, 32 or 64) that lie at `at`, at most `count` of them.

    Bytes that are no instruction become "(bad)", one byte each. Prints one instruction a line, with the names that
    `symbols` (such as vm.symbols) has for places and targets.
    """

def dump_read(
    path: str | PathLike[str], raw: SupportsGetItem[int, tuple[SupportsIndex, SupportsIndex, bool]] | None = None
) -> "tuple[str, Memory, list[tuple[str, int, bytes]], list[bytes], list[tuple[int, int, int, int, int]]]":
    """
    What a dump has: kind of file, memory, notes, states, and its segments (address, size, virtual address, offset, size in the file).
    """

def dump_write(
    memory: Memory,
    path: str | PathLike[str],
    states: "list[bytes]",
    notes: "list[tuple[str, int, bytes]]",
    direct_map: "int | None" = None,
    kernel: "tuple[int, int, int] | None" = None,
    *,
    raw: bool = False,
) -> "None":
    """
    Writes `memory`, the states of the vCPUs and other notes as an ELF core file; or with raw=True the memory alone.

    `direct_map` is where the guest sees address 0, and `kernel` (address, length, virtual address) memory that it sees
    elsewhere.
    """

def find_kernel(memory: "Memory | VM | object", cr3: SupportsGetItem[int, SupportsIndex] = ...) -> Kernel:
    """
    Finds the Linux kernel that runs in `memory`, without any profile. A VM or a dump will do, too.

    `cr3` are those of the vCPUs, if they are known: the kernel is looked for first where they map it; without them, or if
    it is not there, in all of memory. Raises KernelError if there is none, or none that its own page tables map. Other
    threads run meanwhile, the guest too, and Ctrl-C ends it.
    """

def hexdump(data: Any, start: SupportsIndex = ..., width: SupportsIndex = 16, *, squeeze: bool = True) -> "str":
    """
    Bytes as text: address (from `start` on), hexadecimal, characters; `width` bytes per line.

    Lines that repeat the one before are one `*`, except the last; all of them with squeeze=False.
    """

def probe() -> Quirks:
    """
    How this KVM behaves; probed at the first call. HostError where there is none.
    """

def saved_memory(parts: "dict[int, bytes]") -> Memory:
    """
    Memory of these bytes at these addresses, in whole pages: what they do not fill is zero.
    """

def saved_virtual(
    memory: Memory, state: bytes, cr3: SupportsIndex | None = None, symbols: "object" = None
) -> VirtualMemory:
    """
    The memory of the address space whose tables are at `cr3`, in the paging mode that `state` says; without one, its own.
    """

def state_values(encoded: bytes) -> "dict[str, int]":
    """
    The values of an encoded state, by name: what bj.State shows.
    """

def supported_cpuid() -> list[tuple[int, int | None, tuple[int, int, int, int]]]:
    """
    The CPUID leaves that a guest may be given here, as KVM tells them. HostError where there is none.
    """

def volatile_values() -> list[str]:
    """
    The names of values that change while a vCPU is stopped.
    """
