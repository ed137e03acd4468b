# Generated from the built module by `make stubs`. Edit the Rust source, not this file.
"""
The native half of belljar: import `belljar` instead.
"""

from _typeshed import Incomplete, SupportsGetItem, SupportsLenAndGetItem
from typing import Any, Final, SupportsFloat, SupportsIndex, final
from typing_extensions import disjoint_base

__all__ = [
    "__version__",
    "Action",
    "Console",
    "Debug",
    "Exit",
    "FailEntry",
    "GuestException",
    "Handle",
    "Hlt",
    "Instruction",
    "InternalError",
    "Interrupted",
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
    "Region",
    "Registers",
    "Reset",
    "Segment",
    "Shutdown",
    "SystemEvent",
    "Timeout",
    "UnknownExit",
    "VCPU",
    "VM",
    "capabilities",
    "disasm",
    "probe",
]

__version__: Final[str]

@final
class Action:
    """
    What a handler may return beside data: stop the machine, or skip the default behaviour.
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
class Console:
    """
    The far end of a serial line: reads what the guest prints, and types.
    """
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

@disjoint_base
class Exit:
    """
    Why a vCPU came out of the guest: the base of all exits.
    """
    @property
    def vcpu(self, /) -> int:
        """
        The vCPU that made the exit, from 0 on.
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
    @property
    def enabled(self, /) -> bool:
        """
        Is the handler called? Setting it takes effect before the next exit.
        """
    @enabled.setter
    def enabled(self, /, yes: bool) -> None: ...
    @property
    def hits(self, /) -> int:
        """
        How often the handler has been called; kept when it has been removed.
        """
    def remove(self, /) -> None:
        """
        Removes the handler, before the next exit. Does nothing if it has been removed.
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
class Instruction:
    """
    One decoded instruction: where it is, its bytes, and its text in Intel syntax.
    """
    def __eq__(self, value: object, /) -> bool: ...
    def __len__(self, /) -> int: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __repr__(self, /) -> str: ...
    def __str__(self, /) -> str: ...
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
class Interrupted(Exit):
    """
    Somebody stopped the machine: by "kick", "pause", "stop" or "close".
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
class Memory:
    """
    The guest's physical memory. Addresses are guest-physical bytes; integers are little-endian.

    Reading or writing where no RAM or ROM is raises GuestMemoryError. Works while the guest runs, too.
    """
    def __getitem__(self, index: Any, /) -> Any: ...
    def __repr__(self, /) -> str: ...
    def __setitem__(self, index: Any, value: Any, /) -> None: ...
    def add(self, /, at: SupportsIndex, size: Any, *, rom: bool = False, data: Any | None = None) -> Region:
        """
        Adds RAM (or ROM, which the guest cannot write) of `size` bytes at `at`, both multiples of 0x1000.

        `data` is written at its beginning. Overlaps and addresses past 2**52 raise RangeError.
        """
    def load(self, /, source: Any, at: SupportsIndex) -> int:
        """
        Writes a file (its path), or bytes, at `at`; returns how many bytes that were.
        """
    def read(self, /, at: SupportsIndex, size: SupportsIndex) -> bytes:
        """
        `size` bytes from `at` on, as a copy.
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
    @property
    def regions(self, /) -> list[Region]:
        """
        The regions of RAM and ROM, in the order of their addresses.
        """
    def view(
        self, /, at: SupportsIndex = 0, size: SupportsIndex | None = None, *, writable: bool = False
    ) -> memoryview:
        """
        A live memoryview of `size` bytes from `at` on (by default to the end of the region): no copy, both see changes.

        The VM cannot be closed while it, or an array made of it, is alive. `np.asarray(memory.view())` is free.
        """
    def write(self, /, at: SupportsIndex, data: Any) -> None:
        """
        Writes `data` (bytes, or anything with the buffer protocol) at `at`. ROM can be written from here, too.
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
    """
    def __getitem__(self, which: Any, /) -> int: ...
    def __setitem__(self, which: Any, value: SupportsIndex, /) -> None: ...
    @staticmethod
    def names() -> "dict[str, int]":
        """
        The names that belljar knows, with their numbers.
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
class Quirks:
    """
    How this KVM behaves, found out by running mini-guests: one yes-or-no attribute per question.
    """
    def __repr__(self, /) -> str: ...
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
class Region:
    """
    One region of memory: `start` and `size` in bytes, `kind` "RAM" or "ROM".
    """
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __repr__(self, /) -> str: ...
    @property
    def kind(self, /) -> str: ...
    @property
    def size(self, /) -> int: ...
    @property
    def start(self, /) -> int: ...

@final
class Registers:
    """
    The general registers, RIP and RFLAGS of one vCPU, live: reading asks the vCPU, writing sets it.
    """

    NAMES: Final[list[str]]
    """
    The names, in the order of read() and write().
    """
    def __getitem__(self, name: str, /) -> int: ...
    def __repr__(self, /) -> str: ...
    def __setitem__(self, name: str, value: SupportsIndex, /) -> None: ...
    def as_dict(self, /) -> "dict[str, int]":
        """
        All values by name, as a copy.
        """
    @property
    def r10(self, /) -> int:
        """
        The 64 bits of R10.
        """
    @r10.setter
    def r10(self, /, value: SupportsIndex) -> None: ...
    @property
    def r11(self, /) -> int:
        """
        The 64 bits of R11.
        """
    @r11.setter
    def r11(self, /, value: SupportsIndex) -> None: ...
    @property
    def r12(self, /) -> int:
        """
        The 64 bits of R12.
        """
    @r12.setter
    def r12(self, /, value: SupportsIndex) -> None: ...
    @property
    def r13(self, /) -> int:
        """
        The 64 bits of R13.
        """
    @r13.setter
    def r13(self, /, value: SupportsIndex) -> None: ...
    @property
    def r14(self, /) -> int:
        """
        The 64 bits of R14.
        """
    @r14.setter
    def r14(self, /, value: SupportsIndex) -> None: ...
    @property
    def r15(self, /) -> int:
        """
        The 64 bits of R15.
        """
    @r15.setter
    def r15(self, /, value: SupportsIndex) -> None: ...
    @property
    def r8(self, /) -> int:
        """
        The 64 bits of R8.
        """
    @r8.setter
    def r8(self, /, value: SupportsIndex) -> None: ...
    @property
    def r9(self, /) -> int:
        """
        The 64 bits of R9.
        """
    @r9.setter
    def r9(self, /, value: SupportsIndex) -> None: ...
    @property
    def rax(self, /) -> int:
        """
        The 64 bits of Rax.
        """
    @rax.setter
    def rax(self, /, value: SupportsIndex) -> None: ...
    @property
    def rbp(self, /) -> int:
        """
        The 64 bits of Rbp.
        """
    @rbp.setter
    def rbp(self, /, value: SupportsIndex) -> None: ...
    @property
    def rbx(self, /) -> int:
        """
        The 64 bits of Rbx.
        """
    @rbx.setter
    def rbx(self, /, value: SupportsIndex) -> None: ...
    @property
    def rcx(self, /) -> int:
        """
        The 64 bits of Rcx.
        """
    @rcx.setter
    def rcx(self, /, value: SupportsIndex) -> None: ...
    @property
    def rdi(self, /) -> int:
        """
        The 64 bits of Rdi.
        """
    @rdi.setter
    def rdi(self, /, value: SupportsIndex) -> None: ...
    @property
    def rdx(self, /) -> int:
        """
        The 64 bits of Rdx.
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
        The 64 bits of Rflags.
        """
    @rflags.setter
    def rflags(self, /, value: SupportsIndex) -> None: ...
    @property
    def rip(self, /) -> int:
        """
        The 64 bits of Rip.
        """
    @rip.setter
    def rip(self, /, value: SupportsIndex) -> None: ...
    @property
    def rsi(self, /) -> int:
        """
        The 64 bits of Rsi.
        """
    @rsi.setter
    def rsi(self, /, value: SupportsIndex) -> None: ...
    @property
    def rsp(self, /) -> int:
        """
        The 64 bits of Rsp.
        """
    @rsp.setter
    def rsp(self, /, value: SupportsIndex) -> None: ...
    def update(self, /, **values: "int") -> None:
        """
        Sets some registers by name: `regs.update(rax=1, rip=0x1000)`.
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
    def __ne__(self, value: object, /) -> bool: ...
    def __new__(
        cls,
        /,
        *,
        base: SupportsIndex = 0,
        limit: SupportsIndex = 0,
        selector: SupportsIndex = 0,
        type: SupportsIndex = 0,
        present: bool = True,
        dpl: SupportsIndex = 0,
        db: bool = False,
        s: bool = True,
        l: bool = False,
        g: bool = False,
        avl: bool = False,
        unusable: bool = False,
    ) -> Segment: ...
    def __repr__(self, /) -> str: ...
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
    def dpl(self, /) -> int:
        """
        Descriptor privilege level.
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
class UnknownExit(Exit):
    """
    An exit reason that this version does not know.
    """

    __match_args__: Final[tuple[str]]
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, reason: SupportsIndex, vcpu: SupportsIndex = 0) -> UnknownExit: ...
    def __reduce__(self, /) -> "tuple[type, tuple[object, ...]]":
        """
        Pickles as the class and its arguments.
        """
    def __repr__(self, /) -> str: ...
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
    def cr0(self, /) -> int:
        """
        CR0: protection, paging, write protect (Intel SDM vol. 3, 2.5).
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
    def cr4(self, /) -> int:
        """
        CR4: extensions (Intel SDM vol. 3, 2.5).
        """
    @cr4.setter
    def cr4(self, /, value: SupportsIndex) -> None: ...
    @property
    def cr8(self, /) -> int:
        """
        CR8: task priority, 0 to 15.
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
    def disasm(self, /, count: SupportsIndex = 1) -> list[Instruction]:
        """
        The next `count` instructions at the instruction pointer, as far as they are mapped.
        """
    @property
    def ds(self, /) -> Segment:
        """
        The data segment DS.
        """
    @ds.setter
    def ds(self, /, value: Segment) -> None: ...
    @property
    def efer(self, /) -> int:
        """
        EFER: long mode, NX, SYSCALL (AMD APM vol. 2, 3.1.7).
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
    def fs(self, /) -> Segment:
        """
        The data segment FS.
        """
    @fs.setter
    def fs(self, /, value: Segment) -> None: ...
    @property
    def gdt(self, /) -> tuple[int, int]:
        """
        GDTR as (base, limit).
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
    def idt(self, /) -> tuple[int, int]:
        """
        IDTR as (base, limit).
        """
    @idt.setter
    def idt(self, /, value: tuple[SupportsIndex, SupportsIndex]) -> None: ...
    @property
    def ldt(self, /) -> Segment:
        """
        The local descriptor table register.
        """
    @ldt.setter
    def ldt(self, /, value: Segment) -> None: ...
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
    def run(
        self, /, timeout: SupportsFloat | SupportsIndex | None = None, max_exits: SupportsIndex | None = None
    ) -> "Exit":
        """
        Runs this vCPU alone, on this thread: as VM.run.
        """
    @property
    def ss(self, /) -> Segment:
        """
        The stack segment; its dpl is the privilege level.
        """
    @ss.setter
    def ss(self, /, value: Segment) -> None: ...
    @property
    def tr(self, /) -> Segment:
        """
        The task register.
        """
    @tr.setter
    def tr(self, /, value: Segment) -> None: ...

@final
class VM:
    """
    A whole virtual machine: memory, vCPUs, devices, and who answers its exits.

    `memory` is bytes or a string such as "64M" (RAM from address 0 on; None for none); `vcpus` counts; `irqchip` is
    None, "split" or "full"; `serial`, `i8042` and `pit` add these devices. Raises HostError where there is no KVM.
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
    ) -> VM: ...
    def __repr__(self, /) -> str: ...
    def boot(
        self, /, image: Any, *, initrd: Any | None = None, cmdline: str = "", tables: bool = True
    ) -> tuple[str, int]:
        """
        Loads a kernel image (bzImage, vmlinux, ELF, Multiboot 1) and has vCPU 0 begin at its entry.

        Returns the format and the entry point. Raises ImageError for a file that is none of these or is damaged.
        """
    def close(self, /) -> None:
        """
        Ends all runs and gives everything back: descriptors, threads, mappings. May be called again, from any thread.

        Refused from a handler of this VM (RunningError) and while views of its memory are live (BufferError). What a handler
        raised in the background and no join(), stop() or start() has handed out goes to sys.unraisablehook.
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
    def cpus(self, /) -> list[VCPU]:
        """
        All vCPUs, in the order of their numbers.
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
    def load(self, /, code: Any, mode: str = "long", *, at: SupportsIndex = 4096, vcpu: SupportsIndex = 0) -> None:
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
    def on_exit(self, /, kind: "type[Exit] | None" = None, handler: Any | None = None) -> Handle:
        """
        Has `handler(exit)` see all exits of one class, such as bj.Hlt; bj.Exit (the default) is every class.

        None keeps the default behaviour, bj.SKIP goes on where the machine would have stopped.
        """
    def on_mmio(
        self,
        /,
        address: "int | range",
        handler: Any | None = None,
        *,
        size: SupportsIndex | None = None,
        access: str = "rw",
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
    ) -> Handle:
        """
        Has `handler(exit)` answer accesses to model-specific registers: a name such as "LSTAR", a number, or a range.

        For a write, None lets it happen, bj.SKIP drops it, and an integer is written instead.
        """
    def on_port(
        self,
        /,
        port: "int | range",
        handler: Any | None = None,
        *,
        size: SupportsIndex | None = None,
        access: str = "rw",
    ) -> Handle:
        """
        Has `handler(exit)` answer accesses to ports: a port, or a range of them, or a first one and a `size`.

        `access` is "r", "w" or "rw", seen from the guest. The guest waits. Returns a Handle, which is a decorator if no
        handler is given. For a read, an integer is what the guest gets; None answers as without the handler, bj.SKIP drops
        a write, bj.STOP ends the run with this exit.
        """
    def pause(self, /) -> None:
        """
        Holds a guest that start() set going, between two instructions. In a handler, it asks and does not wait.
        """
    def resume(self, /) -> None:
        """
        Goes on after pause().
        """
    def run(
        self, /, timeout: SupportsFloat | SupportsIndex | None = None, max_exits: SupportsIndex | None = None
    ) -> "Exit":
        """
        Runs the guest on this thread until something stops it, and returns that exit.

        `timeout` is in seconds (then a Timeout comes back); `max_exits` counts exits, and the last one comes back after
        it has been answered. What a handler raises comes out here, and so does KeyboardInterrupt; the VM stays usable.
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
        """
    def stop(self, /) -> "Exit | None":
        """
        Ends a run, in the background or on another thread, and returns the exit that ended it (None if it was not
        running in the background).
        """

def capabilities() -> tuple[list[tuple[str, int, str]], int]:
    """
    Opens /dev/kvm and says what it offers: (name, value, what for) per capability, and the most vCPUs. HostError if not.
    """

def disasm(
    code: Any, at: SupportsIndex = 0, bits: SupportsIndex = 64, count: SupportsIndex | None = None
) -> list[Instruction]:
    """
    Decodes `code` as instructions of `bits` (16, 32 or 64) that lie at `at`, at most `count` of them.

    Bytes that are no instruction become "(bad)", one byte each.
    """

def probe() -> Quirks:
    """
    How this KVM behaves; probed at the first call. HostError where there is none.
    """
