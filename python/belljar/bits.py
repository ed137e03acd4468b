"""Registers whose bits have names: CR0, CR4, EFER, RFLAGS, DR6, DR7 and XCR0.

Each is an int, the value of one moment, whose bits read by name. One that was read from a vCPU sets by name too:

>>> import belljar as bj
>>> bj.bits.CR0(0x80000011)
CR0(0x80000011: pe et pg)
>>> bj.bits.CR0(0x80000011).wp
False
>>> bj.bits.RFLAGS(0x3202).iopl
3
>>> cpu.cr0.wp = False  # doctest: +SKIP

This module never touches a vCPU but through the attribute that a register was read from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self, overload

from belljar.shown import Shown

if TYPE_CHECKING:
    from belljar._belljar import VCPU


class Field:
    """Some bits of a register: ``first`` is the lowest, ``width`` how many; ``name`` is theirs in the register."""

    def __init__(self, first: int, width: int, doc: str) -> None:
        """Say where the bits are and what they mean."""
        self.first = first
        self.width = width
        self.name = ""
        self.__doc__ = doc

    def __set_name__(self, owner: type[Bits], name: str) -> None:
        """Take the attribute's name."""
        self.name = name

    @property
    def mask(self) -> int:
        """The bits, as a mask."""
        return ((1 << self.width) - 1) << self.first

    def of(self, value: int) -> int:
        """Read the bits out of ``value``."""
        return (value & self.mask) >> self.first

    def merged(self, value: int, new: int) -> int:
        """Return ``value`` with the bits set to ``new``. ValueError for what does not fit into them."""
        if not 0 <= new < 1 << self.width:
            fits = "True or False" if self.width == 1 else f"0 to {(1 << self.width) - 1}"
            raise ValueError(f"{self.name} takes {fits}, not {new!r}")
        return value & ~self.mask | new << self.first

    @overload
    def __get__(self, register: None, owner: type[Bits]) -> Self: ...
    @overload
    def __get__(self, register: Bits, owner: type[Bits]) -> int: ...
    def __get__(self, register: Bits | None, owner: type[Bits]) -> Self | int:
        """Read the bits of this register."""
        return self if register is None else self.of(int(register))

    def __set__(self, register: Bits, value: int) -> None:
        """Set the bits in the vCPU that this register was read from."""
        register.update(**{self.name: value})


class Flag(Field):
    """One bit of a register, which is True or False."""

    def __init__(self, first: int, doc: str) -> None:
        """Say where the bit is and what it means."""
        super().__init__(first, 1, doc)

    @overload
    def __get__(self, register: None, owner: type[Bits]) -> Self: ...
    @overload
    def __get__(self, register: Bits, owner: type[Bits]) -> bool: ...
    def __get__(self, register: Bits | None, owner: type[Bits]) -> Self | bool:
        """Read the bit of this register."""
        return self if register is None else bool(self.of(int(register)))


class Bits(int, Shown):
    """A register as an int with named bits. It keeps the value of the moment in which it was read.

    Setting a bit reads the register of the vCPU anew, changes that bit alone, and writes it; this value stays as it is.
    """

    FIELDS: ClassVar[dict[str, Field]] = {}
    """The fields by name, from the lowest bit on."""

    ONES: ClassVar[int] = 0
    """Bits without a name that are always set; repr leaves them out."""

    _attribute: ClassVar[str] = ""
    _cpu: VCPU | None

    def __init_subclass__(cls) -> None:
        """Collect the fields of a register."""
        fields = [field for field in vars(cls).values() if isinstance(field, Field)]
        cls.FIELDS = {field.name: field for field in sorted(fields, key=lambda field: field.first)}
        cls._attribute = cls.__name__.lower()

    def __new__(cls, value: int = 0) -> Self:
        """Make one by hand: it belongs to no vCPU. ValueError for what is not 64 bits."""
        if not 0 <= value < 1 << 64:
            raise ValueError(f"{cls.__name__} has 64 bits; {value:#x} does not fit")
        made = super().__new__(cls, value)
        made.__dict__["_cpu"] = None
        return made

    @classmethod
    def _of(cls, value: int, cpu: VCPU) -> Self:
        made = cls(value)
        made.__dict__["_cpu"] = cpu
        return made

    def replace(self, **fields: int) -> Self:
        """Return the same value with some fields changed: ``cpu.cr0 = cpu.cr0.replace(pg=True, wp=True)``."""
        value = int(self)
        for name, new in fields.items():
            if name not in self.FIELDS:
                raise AttributeError(self._unknown(name))
            value = self.FIELDS[name].merged(value, new)
        return type(self)(value)

    def as_dict(self) -> dict[str, int | bool]:
        """Return every field by name."""
        return {name: getattr(self, name) for name in self.FIELDS}

    def update(self, **fields: int) -> None:
        """Set several fields in the vCPU at once: ``cpu.cr0.update(pg=True, wp=True)``."""
        if (cpu := self._cpu) is None:
            name = type(self).__name__
            raise AttributeError(
                f"this {name} belongs to no vCPU: set the bit through one (cpu.{self._attribute}), "
                "or make another value with replace()"
            )
        setattr(cpu, self._attribute, getattr(cpu, self._attribute).replace(**fields))

    def _unknown(self, name: str) -> str:
        return f"{type(self).__name__} has no field {name!r}; there are {', '.join(self.FIELDS)}"

    if not TYPE_CHECKING:  # or every name would pass the type checker

        def __getattr__(self, name: str) -> Any:
            """Say which fields there are."""
            raise AttributeError(self._unknown(name))

        def __setattr__(self, name: str, value: int) -> None:
            """Set a field; refuse what is none."""
            if name not in self.FIELDS:
                raise AttributeError(self._unknown(name))
            super().__setattr__(name, value)

    def __repr__(self) -> str:
        """Show the value, and what is set in it."""
        left, shown = int(self) & ~self.ONES, []
        for name, field in self.FIELDS.items():
            if value := field.of(int(self)):
                shown.append(name.rstrip("_") if field.width == 1 else f"{name}={value}")
            left &= ~field.mask
        if left:
            shown.append(f"others={left:#x}")
        return f"{type(self).__name__}({int(self):#x}{': ' if shown else ''}{' '.join(shown)})"

    __str__ = __repr__

    def __reduce__(self) -> tuple[type[Self], tuple[int]]:
        """Travel as a value, without the vCPU."""
        return type(self), (int(self),)

    def __copy__(self) -> Self:
        """Return itself: it never changes."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the same value, without the vCPU."""
        return type(self)(int(self))


class CR0(Bits):
    """Control register 0 (Intel SDM vol. 3, 2.5)."""

    pe = Flag(0, "Protection enable.")
    mp = Flag(1, "Monitor coprocessor: WAIT obeys TS.")
    em = Flag(2, "Emulation: x87 instructions raise #NM.")
    ts = Flag(3, "Task switched: the next x87 or SSE instruction raises #NM.")
    et = Flag(4, "Extension type: always set.")
    ne = Flag(5, "Numeric error: x87 errors raise #MF.")
    wp = Flag(16, "Write protect: ring 0 may not write read-only pages.")
    am = Flag(18, "Alignment mask: RFLAGS.AC counts in ring 3.")
    nw = Flag(29, "Not write-through.")
    cd = Flag(30, "Cache disable.")
    pg = Flag(31, "Paging.")


class CR4(Bits):
    """Control register 4 (Intel SDM vol. 3, 2.5)."""

    vme = Flag(0, "Virtual-8086 extensions.")
    pvi = Flag(1, "Protected-mode virtual interrupts.")
    tsd = Flag(2, "Time-stamp disable: RDTSC in ring 0 only.")
    de = Flag(3, "Debugging extensions.")
    pse = Flag(4, "Page size extensions.")
    pae = Flag(5, "Physical address extension.")
    mce = Flag(6, "Machine-check enable.")
    pge = Flag(7, "Page global enable.")
    pce = Flag(8, "RDPMC in every ring.")
    osfxsr = Flag(9, "FXSAVE and SSE.")
    osxmmexcpt = Flag(10, "SSE errors raise #XM.")
    umip = Flag(11, "SGDT, SIDT, SLDT, SMSW, STR in ring 0 only.")
    la57 = Flag(12, "Linear addresses of 57 bits.")
    vmxe = Flag(13, "VMX.")
    smxe = Flag(14, "SMX.")
    fsgsbase = Flag(16, "RDFSBASE and its like in every ring.")
    pcide = Flag(17, "Process-context identifiers.")
    osxsave = Flag(18, "XSAVE, XGETBV and what XCR0 enables.")
    kl = Flag(19, "Key locker.")
    smep = Flag(20, "Ring 0 may not execute pages of ring 3.")
    smap = Flag(21, "Ring 0 may not access pages of ring 3, unless RFLAGS.AC.")
    pke = Flag(22, "Protection keys of ring 3.")
    cet = Flag(23, "Control-flow enforcement.")
    pks = Flag(24, "Protection keys of ring 0.")
    uintr = Flag(25, "User interrupts.")
    lass = Flag(27, "Linear address-space separation.")
    lam_sup = Flag(28, "Ring 0 may keep data in the upper bits of its addresses.")
    fred = Flag(32, "Flexible return and event delivery.")


class EFER(Bits):
    """The extended feature enable register (AMD APM vol. 2, 3.1.7)."""

    sce = Flag(0, "SYSCALL and SYSRET.")
    lme = Flag(8, "Long mode enable.")
    lma = Flag(10, "Long mode active.")
    nxe = Flag(11, "No-execute enable.")
    svme = Flag(12, "SVM.")
    lmsle = Flag(13, "Segment limits in long mode.")
    ffxsr = Flag(14, "Fast FXSAVE.")
    tce = Flag(15, "Translation cache extension.")
    mcommit = Flag(17, "MCOMMIT.")
    intwb = Flag(18, "Interruptible WBINVD.")
    uaie = Flag(20, "Upper address ignore.")
    autoibrs = Flag(21, "Automatic IBRS.")


class RFLAGS(Bits):
    """The flags (Intel SDM vol. 1, 3.4.3)."""

    ONES = 2

    cf = Flag(0, "Carry.")
    pf = Flag(2, "Parity.")
    af = Flag(4, "Auxiliary carry.")
    zf = Flag(6, "Zero.")
    sf = Flag(7, "Sign.")
    tf = Flag(8, "Trap: #DB after each instruction.")
    if_ = Flag(9, "Interrupts are taken.")
    df = Flag(10, "Direction: string instructions go down.")
    of = Flag(11, "Overflow.")
    iopl = Field(12, 2, "I/O privilege level: rings up to it may use every port, cli and sti.")
    nt = Flag(14, "Nested task.")
    rf = Flag(16, "Resume: the next instruction breakpoint is passed.")
    vm = Flag(17, "Virtual-8086 mode.")
    ac = Flag(18, "Alignment check, and access control under SMAP.")
    vif = Flag(19, "Virtual interrupt flag.")
    vip = Flag(20, "Virtual interrupt pending.")
    id = Flag(21, "CPUID is there.")


class DR6(Bits):
    """What the last debug exception was for (Intel SDM vol. 3, 18.2.3)."""

    ONES = 0xFFFE_07F0

    b0 = Flag(0, "Breakpoint 0 was met.")
    b1 = Flag(1, "Breakpoint 1 was met.")
    b2 = Flag(2, "Breakpoint 2 was met.")
    b3 = Flag(3, "Breakpoint 3 was met.")
    bld = Flag(11, "Clear: a bus lock.")
    bd = Flag(13, "A debug register was about to be accessed.")
    bs = Flag(14, "Single step.")
    bt = Flag(15, "Task switch.")
    rtm = Flag(16, "Clear: inside a transaction.")


class DR7(Bits):
    """Which breakpoints are on, and for what (Intel SDM vol. 3, 18.2.4).

    ``rw`` is 0 for execution, 1 for writes, 2 for ports, 3 for reads and writes; ``len`` is 0 for 1 byte, 1 for 2,
    3 for 4, 2 for 8.
    """

    ONES = 0x400

    l0 = Flag(0, "Breakpoint 0, in this task.")
    g0 = Flag(1, "Breakpoint 0, in every task.")
    l1 = Flag(2, "Breakpoint 1, in this task.")
    g1 = Flag(3, "Breakpoint 1, in every task.")
    l2 = Flag(4, "Breakpoint 2, in this task.")
    g2 = Flag(5, "Breakpoint 2, in every task.")
    l3 = Flag(6, "Breakpoint 3, in this task.")
    g3 = Flag(7, "Breakpoint 3, in every task.")
    le = Flag(8, "Exact, in this task.")
    ge = Flag(9, "Exact, in every task.")
    rtm = Flag(11, "Debugging of transactions.")
    gd = Flag(13, "Accesses to debug registers raise #DB.")
    rw0 = Field(16, 2, "What breakpoint 0 waits for.")
    len0 = Field(18, 2, "How long breakpoint 0 is.")
    rw1 = Field(20, 2, "What breakpoint 1 waits for.")
    len1 = Field(22, 2, "How long breakpoint 1 is.")
    rw2 = Field(24, 2, "What breakpoint 2 waits for.")
    len2 = Field(26, 2, "How long breakpoint 2 is.")
    rw3 = Field(28, 2, "What breakpoint 3 waits for.")
    len3 = Field(30, 2, "How long breakpoint 3 is.")


class XCR0(Bits):
    """The state components that XSAVE handles and the guest may use (Intel SDM vol. 1, 13.3)."""

    x87 = Flag(0, "x87: always set.")
    sse = Flag(1, "XMM registers and MXCSR.")
    avx = Flag(2, "YMM registers. Needs sse.")
    bndregs = Flag(3, "MPX bounds.")
    bndcsr = Flag(4, "MPX configuration.")
    opmask = Flag(5, "AVX-512 masks. The three of AVX-512 go together, and need avx.")
    zmm_hi256 = Flag(6, "The upper halves of ZMM0 to ZMM15.")
    hi16_zmm = Flag(7, "ZMM16 to ZMM31.")
    pkru = Flag(9, "Protection keys.")
    cet_u = Flag(11, "Control-flow enforcement of ring 3.")
    cet_s = Flag(12, "Control-flow enforcement of rings 0 to 2.")
    tilecfg = Flag(17, "AMX tile configuration.")
    tiledata = Flag(18, "AMX tiles.")
    apx = Flag(19, "The sixteen more registers of APX.")


REGISTERS: dict[str, type[Bits]] = {kind.__name__.lower(): kind for kind in (CR0, CR4, EFER, RFLAGS, DR6, DR7, XCR0)}
"""The classes, by the name of their register."""
