"""Seeing the system calls of a running Linux guest: a native trace of all of them, and Python at chosen ones.

It plants breakpoints where the kernel enters and leaves system calls, and never stops the guest by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from belljar.errors import KernelError
from belljar.expression import reg, virtual
from belljar.linux.calls import MOST_PARAMETERS, REGISTERS, Prototype, Syscall, Syscalls, error_name, text_of
from belljar.linux.tasks import numbered

if TYPE_CHECKING:
    from belljar._belljar import Breakpoint, BreakpointHit, Expression
    from belljar.linux import Linux
    from belljar.linux.tasks import Task
    from belljar.trace import Trace

TEXTS = 2
"""The strings of so many first parameters are recorded."""

MOST_TEXT = 128
_LEAVING = ("syscall_exit_to_user_mode",)
_COMM = 16


def current_task(linux: Linux) -> Expression:
    """Return the address of the running task as an expression: it holds while the vCPU is in the kernel."""
    at = linux.symbols.get("pcpu_hot")
    if at is not None and linux.btf.has("pcpu_hot", "current_task"):
        return virtual.u64(reg.gs_base + (at + linux.btf.offset("pcpu_hot", "current_task")))
    if (at := linux.symbols.get("current_task")) is not None:
        return virtual.u64(reg.gs_base + at)
    raise KernelError("the kernel has neither pcpu_hot nor current_task: it is not known which process runs")


def of_process(linux: Linux, pid: int | Task) -> Expression:
    """Return what holds while a process (any thread of it) has the vCPU."""
    return virtual.u32(current_task(linux) + linux.btf.offset("task_struct", "tgid")) == numbered(pid)


def _of(linux: Linux, pid: int | Task | None) -> Expression | None:
    return None if pid is None else of_process(linux, pid)


def both(left: Expression | None, right: Expression | None) -> Expression | None:
    """Return what holds where both do; None holds everywhere."""
    return right if left is None else left if right is None else left & right


def _chosen(linux: Linux, names: str | Iterable[str] | None) -> list[Prototype]:
    wanted = [names] if isinstance(names, str) else list(names or [])
    return [linux.prototypes.named(name) for name in wanted]


class SyscallTrace:
    """System calls of a guest, recorded natively while it runs; `linux.syscalls()` makes it.

    ``read()`` gives those that were made since the last one, each with its return, so that one that has not returned
    yet is given later (``read(pending=True)`` gives these, too). A context manager: at its end it records no more.
    """

    def __init__(
        self,
        linux: Linux,
        names: str | Iterable[str] | None,
        pid: int | Task | None,
        text: int,
        options: dict[str, Any],
    ) -> None:
        """Plant the two breakpoints, and begin to record."""
        if not 0 <= text <= MOST_TEXT or text % 8:
            raise ValueError(f"text={text}: strings are recorded in multiples of 8 bytes, up to {MOST_TEXT}")
        self.linux, self._text = linux, text
        self._entry = linux.symbols["do_syscall_64"]
        leaving = next((linux.symbols[name] for name in _LEAVING if name in linux.symbols), None)
        if leaving is None:
            raise KernelError(f"the kernel has no symbol {_LEAVING[0]}: where it leaves system calls is not known")
        self._by_number = {one.number: one for one in linux.prototypes}
        self._open: dict[int, Any] = {}
        numbers = [one.number for one in _chosen(linux, names)]
        regs = {
            name: virtual.u64(reg.rdi + linux.btf.offset("pt_regs", name)) for name in ("orig_ax", "ax", *REGISTERS)
        }
        when = both(_of(linux, pid), regs["orig_ax"].isin(numbers) if numbers else None)
        points = [self._entry, leaving]
        self.trace: Trace = linux.vm.trace(breakpoint=points, fields=self._fields(regs), when=when, **options)

    def _fields(self, regs: dict[str, Expression]) -> list[Any]:
        task = current_task(self.linux)
        at = self.linux.btf.offset
        comm = task + at("task_struct", "comm")
        fields: list[Any] = ["time", "vcpu", ("at", reg.rip), ("task", task)]
        fields += [("tid", virtual.u32(task + at("task_struct", "pid")))]
        fields += [("pid", virtual.u32(task + at("task_struct", "tgid")))]
        fields += [(f"comm{i}", virtual.u64(comm + 8 * i)) for i in range(_COMM // 8)]
        fields += [("number", regs["orig_ax"]), ("result", regs["ax"])]
        fields += [(f"word{i}", regs[name]) for i, name in enumerate(REGISTERS)]
        for parameter in range(TEXTS if self._text else 0):
            text = regs[REGISTERS[parameter]]
            fields += [(f"is{parameter}", virtual.u8(text) >= 0)]
            fields += [(f"text{parameter}_{i}", virtual.u64(text + 8 * i)) for i in range(self._text // 8)]
        return fields

    def read(self, wait: float | None = None, *, pending: bool = False) -> Syscalls:
        """Return what was recorded since the last read, in the order of the calls.

        Waits up to ``wait`` seconds for something if nothing is there. ``pending``: also calls that have not returned.
        """
        records = self.trace.read(timeout=wait)
        found = [call for call in (self._paired(record) for record in records) if call is not None]
        if pending:
            found += [self._made(started, None) for started in self._open.values()]
            self._open.clear()
        table = Syscalls(sorted(found, key=lambda call: call.time))
        table.lost = self.trace.dropped
        return table

    def _paired(self, record: Any) -> Syscall | None:
        task = int(record["task"])
        if int(record["at"]) == self._entry:
            self._open[task] = record
            return None
        started = self._open.pop(task, None)
        return None if started is None else self._made(started, record)

    def _made(self, record: Any, end: Any) -> Syscall:
        number = int(record["number"])
        prototype = self._by_number.get(number) or Prototype(number, f"syscall_{number}", None, 0)
        words = tuple(int(record[f"word{i}"]) for i in range(MOST_PARAMETERS))
        texts = {}
        for i, parameter in enumerate(prototype.takes[: TEXTS if self._text else 0]):
            if parameter.is_text and record[f"is{i}"]:
                texts[i] = text_of(prototype.takes, i, words, self._words(record, f"text{i}_", self._text))
        result = None if end is None else _signed(int(end["result"]))
        return Syscall(
            time=int(record["time"]),
            duration=None if end is None else int(end["time"]) - int(record["time"]),
            cpu=int(record["vcpu"]),
            pid=int(record["pid"]),
            tid=int(record["tid"]),
            comm=self._words(record, "comm", _COMM).split(b"\0", 1)[0].decode("utf-8", "backslashreplace"),
            prototype=prototype,
            words=words,
            texts=texts,
            result=result,
        )

    @staticmethod
    def _words(record: Any, name: str, size: int) -> bytes:
        return b"".join(int(record[f"{name}{i}"]).to_bytes(8, "little") for i in range(size // 8))

    def remove(self) -> None:
        """End it: its breakpoints are taken out. What was recorded can still be read."""
        self.trace.remove()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """End it."""
        self.remove()

    def __repr__(self) -> str:
        """Say what it has."""
        return f"<SyscallTrace: {len(self.trace)} of {self.trace.hits} records wait, two of a call>"


class Call:
    """A system call that is being made, as a handler sees it: the guest waits at its first instruction, or its last.

    ``result`` set at the entry means that the kernel does not do it: the process gets that result instead. Set at the
    return, it replaces the kernel's.
    """

    def __init__(self, linux: Linux, prototype: Prototype, cpu: Any, words: tuple[int, ...], returned: bool) -> None:
        """Take what the vCPU shows."""
        self.linux, self.prototype, self.cpu, self.words, self.has_returned = linux, prototype, cpu, words, returned

    @property
    def name(self) -> str:
        """The name of the call."""
        return self.prototype.name

    @property
    def args(self) -> dict[str, int]:
        """The arguments by name, as numbers; of a pointer, the address in the process: see `memory` and `text`."""
        return {p.name: p.value(word) for p, word in zip(self.prototype.takes, self.words, strict=False)}

    @property
    def memory(self) -> Any:
        """The process's memory at its own addresses."""
        return self.cpu.virtual

    def text(self, name: str, most: int = 4096) -> str:
        """Return the string that an argument points to. GuestMemoryError if it is not there."""
        return bytes(self.memory.read_cstring(self.args[name] % (1 << 64), most)).decode("utf-8", "backslashreplace")

    @property
    def task(self) -> Task:
        """The process that made it."""
        return self.linux.current(self.cpu.id)

    @property
    def result(self) -> int | None:
        """What it returns; None at the entry. Settable: -2 is the error ENOENT."""
        return _signed(self.cpu.regs.rax) if self.has_returned else None

    @result.setter
    def result(self, value: int) -> None:
        regs = self.cpu.regs
        regs.rax = value % (1 << 64)
        if not self.has_returned:
            regs.rip = self.memory.read_u64(regs.rsp)
            regs.rsp += 8
            self.has_returned = True

    @property
    def error(self) -> str | None:
        """The name of the error that it returns; None if it does not."""
        return None if self.result is None else error_name(self.result)

    def __repr__(self) -> str:
        """Show it as C does."""
        pairs = zip(self.prototype.takes, self.words, strict=False)
        text = f"{self.name}({', '.join(f'{p.name}={p.shown(word, None)}' for p, word in pairs)})"
        return f"<{text} = {self.result}>" if self.has_returned else f"<{text}>"


Handler = Callable[[Call], object]


def on_syscall(
    linux: Linux, name: str, handler: Handler, *, pid: int | Task | None, when: Expression | None, at_return: bool
) -> Breakpoint:
    """Have ``handler`` called where the kernel begins to do a system call, or has done it."""
    prototype = linux.prototypes.named(name)
    offsets = [linux.btf.offset("pt_regs", register) for register in REGISTERS]
    vm = linux.vm

    def words(cpu: Any) -> tuple[int, ...]:
        regs = cpu.regs.rdi
        return tuple(cpu.virtual.read_u64(regs + offset) for offset in offsets)

    def entered(hit: BreakpointHit) -> object:
        cpu = vm.cpus[hit.vcpu]
        call = Call(linux, prototype, cpu, words(cpu), returned=False)
        if not at_return:
            return handler(call)
        stack = cpu.regs.rsp
        back = cpu.virtual.read_u64(stack)

        def returned(_: Any) -> object:
            call.has_returned = True
            return handler(call)

        vm.breakpoint(back, returned, when=reg.rsp == stack + 8, once=True)
        return None

    return vm.breakpoint(prototype.address, entered, when=both(_of(linux, pid), when))


def on_switch(linux: Linux, handler: Callable[[Task, Task], object], pid: int | Task | None) -> Breakpoint:
    """Have ``handler`` called with both tasks at `__switch_to`, whose parameters they are."""
    vm, when = linux.vm, None
    if pid is not None:
        of = linux.btf.offset("task_struct", "tgid")
        number = numbered(pid)
        when = (virtual.u32(reg.rdi + of) == number) | (virtual.u32(reg.rsi + of) == number)

    def switching(hit: BreakpointHit) -> object:
        regs = vm.cpus[hit.vcpu].regs
        return handler(linux.at(regs.rdi), linux.at(regs.rsi))

    return vm.breakpoint(linux.symbols["__switch_to"], switching, when=when)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word
