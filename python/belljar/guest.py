"""The specimen: a small real kernel in the wheel, and readers of its structures.

:func:`specimen` makes a machine with it; the readers need nothing but ``vm.memory`` and ``vm.symbols``, and know no
offset: the guest itself says what its structures look like. Kernel addresses are guest-physical ones.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from belljar._belljar import VM
from belljar.shown import Shown

IMAGE = Path(__file__).parent / "specimen.elf"
"""The kernel, with its symbol table."""

MOST_TASKS = 256
PRESENT = 1
LARGE = 0x80
ADDRESS = 0x000F_FFFF_FFFF_F000
EXCEPTIONS = {0: "#DE divide error", 6: "#UD undefined instruction", 13: "#GP protection", 14: "#PF page fault"}


@dataclass(frozen=True)
class Member:
    """Where a member of one of the kernel's structures is: ``offset`` and ``size`` in bytes, and its ``kind``."""

    name: str
    kind: str
    offset: int
    size: int


def _with_hexadecimal(value: Fault | Task, *names: str) -> str:
    """Return the repr of a dataclass with some of its fields in hexadecimal."""
    pairs = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    words = (f"{name}={number:#x}" if name in names else f"{name}={number!r}" for name, number in pairs)
    return f"{type(value).__name__}({', '.join(words)})"


@dataclass(frozen=True)
class Fault:
    """Why a process was killed: the exception, its error code, CR2 (of a page fault), and the instruction."""

    vector: int
    error: int
    address: int
    rip: int

    def __repr__(self) -> str:
        """Show addresses in hexadecimal."""
        return _with_hexadecimal(self, "error", "address", "rip")

    def __str__(self) -> str:
        """Return it in words."""
        what = EXCEPTIONS.get(self.vector, f"exception {self.vector}")
        where = f" at address {self.address:#x}" if self.vector == 14 else ""
        return f"{what}{where}, error code {self.error:#x}, by the instruction at {self.rip:#x}"


@dataclass(frozen=True)
class Task(Shown):
    """A process of the specimen, as it was when it was read.

    ``rip`` and ``rsp`` are those of its last interruption: of the running one, the vCPU knows better. ``ticks`` counts
    the timer's interrupts that hit it, ``switches`` how often it was given the processor, ``address`` is that of its
    ``struct task``.
    """

    pid: int
    name: str
    state: str
    cr3: int
    rip: int
    rsp: int
    ticks: int
    syscalls: int
    switches: int
    page_faults: int
    address: int
    exit_code: int
    fault: Fault | None

    def __repr__(self) -> str:
        """Show addresses in hexadecimal."""
        return _with_hexadecimal(self, "cr3", "rip", "rsp", "address")


@dataclass(frozen=True)
class LogLine:
    """A line of the kernel's log: its number from 1 on, the tick at which it was written, and the text."""

    sequence: int
    tick: int
    text: str


class Tasks(list[Task], Shown):
    """A list of processes that prints as a table."""

    def __repr__(self) -> str:
        """One process a line."""
        lines = [f"{'pid':>4} {'name':<10} {'state':<8} {'ticks':>8} {'switches':>8} {'calls':>8}"]
        for task in self:
            counts = f"{task.ticks:>8} {task.switches:>8} {task.syscalls:>8}"
            lines.append(f"{task.pid:>4} {task.name:<10} {task.state:<8} {counts}")
            lines += [f"     {task.fault}"] if task.fault else []
        return "\n".join(lines)


class Log(list[LogLine], Shown):
    """Lines of the kernel's log, which prints as they were written."""

    def __repr__(self) -> str:
        """One line a line."""
        return "\n".join(f"{line.sequence:>4} [tick {line.tick}] {line.text}" for line in self)


def specimen(
    memory: str | int = "16M",
    *,
    card: bool = True,
    quiet: bool = False,
    processes: Iterable[str] | None = None,
    tick: float = 0.004,
    quantum: int = 2,
) -> VM:
    """Make a VM with the specimen kernel loaded, ready to ``start()`` or ``run()``; its console is ``vm.console``.

    Its processes are "printer", "compute", "courier" and "rogue": ``processes`` names those to start. ``card`` puts the
    test card on the bus. A ``quiet`` kernel logs in its memory only, and not to port 0xe9. ``tick`` is the period
    of its timer in seconds, ``quantum`` how many ticks a process has until it is the next one's turn.

    >>> import belljar as bj
    >>> with bj.specimen() as vm:  # doctest: +SKIP
    ...     vm.start()
    ...     print(vm.console.read_until("at tick"))
    line 1 at tick
    """
    if not 0.0005 <= tick <= 1:
        raise ValueError(f"a tick of {tick} s; the specimen takes 0.0005 to 1 s")
    if not 1 <= quantum <= 1_000_000:
        raise ValueError(f"a quantum of {quantum} ticks; at least 1")
    vm = VM(memory, irqchip="split", serial=True)
    try:
        vm.boot(IMAGE)
        options = {"tick_ns": round(tick * 1e9), "quantum": quantum, "quiet": int(quiet)}
        if processes is not None:
            options["processes"] = _mask(vm, processes)
        at, fields = vm.symbols["boot_options"], layout(vm)["boot_options"]
        for name, value in options.items():
            vm.memory.write_u64(at + fields[name].offset, value)
        if card:
            _attach_card(vm)
    except BaseException:
        vm.close()
        raise
    return vm


def _attach_card(vm: VM) -> None:
    from belljar.testcard import TestCard

    vm.attach(TestCard())


def _mask(vm: VM, processes: Iterable[str]) -> int:
    known = programs(vm)
    mask = 0
    for name in [processes] if isinstance(processes, str) else processes:
        if name not in known:
            raise ValueError(f"no process {name!r} in the specimen; it has {', '.join(known)}")
        mask |= 1 << known.index(name)
    return mask


def layout(vm: VM) -> dict[str, dict[str, Member]]:
    """Return what the kernel's structures look like, as its own table says: fields by structure and name."""
    structures: dict[str, dict[str, Member]] = {}
    table = vm.memory.read(vm.symbols["layout"], vm.symbols.size("layout"))
    for structure, name, kind, offset, size in struct.iter_unpack("<16s16s8sII", table):
        if not structure.strip(b"\0"):
            break
        fields = structures.setdefault(_text(structure), {})
        fields[_text(name)] = Member(_text(name), _text(kind), offset, size)
    return structures


def read(vm: VM, structure: str, address: int) -> dict[str, Any]:
    """Return the fields of the ``structure`` ("task", "regs", "log_line", ...) at ``address``, by name."""
    return _record(vm, _fields(layout(vm), structure), address)


def programs(vm: VM) -> list[str]:
    """Return the names of the programs that the kernel can start, in its order."""
    fields = _fields(layout(vm), "program")
    start, size = vm.symbols["programs"], _size(fields)
    ends = range(start, start + vm.symbols.size("programs"), size)
    return [_record(vm, fields, at)["name"] for at in ends]


def tasks(vm: VM) -> Tasks:
    """Return the kernel's list of processes: the idle one (process 0) first, then the others from old to new.

    Ended ones stay in it for a while, as "zombie" or "faulted". Pause the VM for a list that is of one moment.
    """
    known, states = layout(vm), _names(vm, "state_names", 12)
    return Tasks(_task(vm, known, states, address) for address in _addresses(vm, known))


def current(vm: VM) -> Task:
    """Return the process that has the processor."""
    return _task(vm, layout(vm), _names(vm, "state_names", 12), vm.memory.read_u64(vm.symbols["current"]))


def log(vm: VM) -> Log:
    """Return what the kernel's log holds, from old to new: its last 64 lines."""
    fields = _fields(layout(vm), "log_line")
    start, size = vm.symbols["log_lines"], _size(fields)
    lines = [_record(vm, fields, at) for at in range(start, start + vm.symbols.size("log_lines"), size)]
    lines = [line for line in lines if line["sequence"]]
    return Log(LogLine(**line) for line in sorted(lines, key=lambda line: int(line["sequence"])))


def board(vm: VM) -> dict[str, int]:
    """Return the words of the notice board, which kernel, processes and host share, by name."""
    start, size = vm.symbols["board"], 0x1000
    words = [(name, at) for name, at in vm.symbols.items() if start <= at < start + size and vm.symbols.size(name)]
    return {name: vm.memory.read_u64(at) for name, at in words}


def interrupts(vm: VM) -> dict[int, int]:
    """Return how often each interrupt and exception came, by vector; those that never came are left out."""
    start, size = vm.symbols["interrupts"], vm.symbols.size("interrupts")
    counts = enumerate(struct.unpack(f"<{size // 8}Q", vm.memory.read(start, size)))
    return {vector: count for vector, count in counts if count}


def orders(vm: VM) -> list[str]:
    """Return what the rogue can be told to do, by number."""
    return _names(vm, "rogue_order_names", 20)


def order(vm: VM, what: str) -> None:
    """Tell the rogue to misbehave: one of :func:`orders`, such as "write_null" or "divide_by_zero".

    What kills it is in the ``fault`` of its :class:`Task`; the kernel starts a new one 50 ticks later.
    """
    known = orders(vm)
    if what not in known:
        raise ValueError(f"the rogue knows no order {what!r}; it knows {', '.join(known)}")
    vm.memory.write_u64(vm.symbols["rogue_orders"], known.index(what))


def translate(vm: VM, cr3: int, address: int) -> int | None:
    """Return the guest-physical address of ``address`` in the page tables at ``cr3``; None if nothing is there."""
    table = cr3 & ADDRESS
    for shift in (39, 30, 21, 12):
        entry = vm.memory.read_u64(table + 8 * (address >> shift & 0x1FF))
        if not entry & PRESENT:
            return None
        table = entry & ADDRESS
        if shift == 12 or (shift < 39 and entry & LARGE):
            below = (1 << shift) - 1
            return (table & ~below) | (address & below)
    return None


def read_user(vm: VM, task: Task, address: int, size: int) -> bytes:
    """Return ``size`` bytes of a process's memory at its own ``address``; LookupError where it has none."""
    content = b""
    while len(content) < size:
        at = address + len(content)
        physical = translate(vm, task.cr3, at)
        if physical is None:
            raise LookupError(f"{task.name} ({task.pid}) has no memory at {at:#x}")
        content += vm.memory.read(physical, min(size - len(content), 0x1000 - at % 0x1000))
    return content


def _addresses(vm: VM, known: dict[str, dict[str, Member]]) -> Iterator[int]:
    """Yield where the list's members are, up to a number that no sound list has."""
    first, link = vm.symbols["init_task"], known["task"]["next"].offset
    at = first
    for _ in range(MOST_TASKS):
        yield at
        at = vm.memory.read_u64(at + link)
        if at == first:
            return


def _task(vm: VM, known: dict[str, dict[str, Member]], states: list[str], address: int) -> Task:
    task = _record(vm, known["task"], address)
    regs = _record(vm, known["regs"], address + known["task"]["frame"].offset)
    state = states[task["state"]] if task["state"] < len(states) else f"unknown ({task['state']})"
    same = {name: task[name] for name in ("pid", "name", "cr3", "ticks", "syscalls", "switches", "page_faults")}
    fault = Fault(*(task[f"fault_{part}"] for part in ("vector", "error", "address", "rip")))
    return Task(
        **same,
        state=state,
        rip=regs["rip"],
        rsp=regs["rsp"],
        address=address,
        exit_code=task["exit_code"],
        fault=fault if state == "faulted" else None,
    )


def _fields(known: dict[str, dict[str, Member]], structure: str) -> dict[str, Member]:
    if structure not in known:
        raise KeyError(f"no structure {structure!r} in the specimen; it has {', '.join(known)}")
    return known[structure]


def _size(fields: dict[str, Member]) -> int:
    return max(field.offset + field.size for field in fields.values())


def _record(vm: VM, fields: dict[str, Member], address: int) -> dict[str, Any]:
    content = vm.memory.read(address, _size(fields))
    return {field.name: _value(field, content[field.offset : field.offset + field.size]) for field in fields.values()}


def _value(field: Member, content: bytes) -> int | str | bytes:
    if field.kind == "text":
        return _text(content)
    return int.from_bytes(content, "little") if field.kind in {"u64", "ptr"} else content


def _text(content: bytes) -> str:
    return content.split(b"\0")[0].decode("ascii", "replace")


def _names(vm: VM, symbol: str, width: int) -> list[str]:
    """Return a table of names, which the kernel or a process has among its constants."""
    at = vm.symbols[symbol]
    if at >= vm.symbols["user_start"]:
        at += vm.symbols["user_load"] - vm.symbols["user_start"]
    content = vm.memory.read(at, vm.symbols.size(symbol))
    return [_text(content[at : at + width]) for at in range(0, len(content), width)]
