"""Linux, as it runs in a guest: its processes, files, sockets, modules and log, read from memory. It never writes.

All that it knows of the kernel's structures comes from the guest itself (symbols and BTF): no profile is needed.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import cached_property
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from weakref import WeakKeyDictionary

from belljar.errors import BelljarError, KernelError
from belljar.linux import calls, files, log, maps, modules, mounts, sockets, symbol_file, tasks, tracing, unwinding
from belljar.linux.files import Files
from belljar.linux.known import Known, direct_map, find, read_btf
from belljar.linux.log import Messages
from belljar.linux.maps import Maps
from belljar.linux.modules import Modules
from belljar.linux.mounts import Mounts
from belljar.linux.paths import Paths
from belljar.linux.reading import TOP, Reading, decoded, space
from belljar.linux.sockets import Owners, Sockets
from belljar.linux.table import Partial
from belljar.linux.tasks import Task, Tasks, numbered
from belljar.linux.tracing import SyscallTrace
from belljar.linux.version import Version
from belljar.shown import Shown

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from belljar._belljar import VCPU, VM, Btf, Expression, Kernel
    from belljar.linux.calls import Prototypes
    from belljar.linux.tracing import Handler
    from belljar.saved_cpu import SavedCPU

MOST_ARGUMENTS = 1 << 20


class Linux(Shown):
    """The Linux kernel that runs in a guest: ``vm.linux``, or ``Linux(guest)`` for any VM or dump.

    It needs no profile: place and symbols are found in memory, and what structures look like is the kernel's own BTF.
    What it returns is of the moment of the call; pause the VM for tables that fit together. Damaged memory never hangs
    it: a table that is not whole says so in ``partial``. KernelError if no Linux runs there, or not yet.
    """

    _known_of: ClassVar[WeakKeyDictionary[Any, Known]] = WeakKeyDictionary()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, guest: Any, kernel: Any = None) -> None:
        """Look for the kernel in a guest's memory, or take one that was found (``bj.find_kernel``)."""
        self.guest, self._memory = guest, None
        self._known = kernel if isinstance(kernel, Known) else Known(find(guest) if kernel is None else kernel)

    @classmethod
    def of(cls, guest: Any) -> Linux:
        """Return the Linux of a guest, which is looked for once, and again when another kernel has been booted."""
        known = cls.known(guest)
        if known is not None:
            return known
        linux = cls(guest)
        with cls._lock:
            cls._known_of[guest] = linux._known
        return linux

    @classmethod
    def known(cls, guest: Any, check: bool = True) -> Linux | None:
        """Return the Linux of a guest, if it has been found before and (unless `check` is False) is still there."""
        with cls._lock:
            known = cls._known_of.get(guest)
        linux = None if known is None else cls(guest, known)
        return linux if linux is not None and (not check or linux.is_there()) else None

    @property
    def kernel(self) -> Kernel:
        """The kernel that was found: place, page tables, symbols, VMCOREINFO."""
        return self._known.kernel

    @property
    def base(self) -> int:
        """The guest-virtual address at which the kernel begins (its symbol ``_text``)."""
        return int(self.kernel.base)

    @property
    def slide(self) -> int:
        """How far KASLR has moved the kernel, in bytes."""
        return int(self.kernel.slide)

    @property
    def symbols(self) -> Any:
        """The kernel's symbols: a mapping from names to guest-virtual addresses."""
        return self._known.symbols

    def symbol_file(self, path: str | os.PathLike[str]) -> Path:
        """Write the symbols into an ELF file, where KASLR has moved them: names and stacks for gdb, with no vmlinux.

        For ``gdb kernel.elf``, or ``symbol-file kernel.elf`` in a gdb that is connected already. It knows names,
        and callers where the kernel keeps ORC tables (BTF, too); types and lines are in the debug package of a
        distribution. KernelError for a kernel that keeps no symbols (built without CONFIG_KALLSYMS).
        """
        if not len(self.symbols):
            raise KernelError("this kernel keeps no symbols (it was built without CONFIG_KALLSYMS)")
        return symbol_file.write(path, self.symbols, self.base, unwinding.debug_frame(self))

    @property
    def memory(self) -> Any:
        """All of the kernel's memory at its virtual addresses, whatever process runs: a VirtualMemory."""
        if self._memory is None:
            self._memory = space(self.guest, self.kernel.cr3)
        return self._memory

    @property
    def btf(self) -> Btf:
        """The types of the kernel, from its memory. KernelError if it was built without them."""
        if self._known.btf is None:
            self._known.btf = read_btf(self.symbols, self.memory)
        return self._known.btf

    @cached_property
    def version(self) -> Version:
        """What the kernel says of itself: the banner, and the parts of `uname`."""
        banner = self.kernel.banner
        name = self.symbols.get("init_uts_ns")
        parts = []
        with suppress(BelljarError, KeyError):
            look = self._look()
            fields = ("sysname", "nodename", "release", "version", "machine", "domainname")
            layout = look.layout("new_utsname", {field: field for field in fields}, "release")
            record = look.at(layout, (name or 0) + look.offset("uts_namespace", "name"))
            parts = [decoded(getattr(record, field)) for field in fields] if record is not None else []
        return Version(banner, *parts) if parts else Version.of(banner)

    def _look(self) -> Reading:
        return Reading(self.memory, self.btf, self.symbols, self._known.layouts)

    def _direct_map(self) -> int:
        if self._known.direct_map is None:
            self._known.direct_map = direct_map(self.kernel, self.memory)
        return self._known.direct_map

    def physical(self, address: int) -> int | None:
        """Return the guest-physical address of something that the kernel has in its map of all memory, else None."""
        at = address - self._direct_map()
        return at if 0 <= at < 1 << 52 else None

    def tasks(self, threads: bool = False) -> Tasks:
        """Return the processes, from old to new; with ``threads``, every thread of theirs.

        The idle task of each processor is not among them, as in `ps`.
        """
        look = self._look()
        found = tasks.tasks(self, look, tasks.records(look, threads))
        if not found:
            self._nothing(look, "the kernel has no processes yet, or its list of them is damaged")
        return Tasks(found, look.problems)

    def task(self, pid: int | Task) -> Task:
        """Return the process or thread with that number (of a task: it, as it is now). KernelError if there is none."""
        look, number = self._look(), numbered(pid)
        for threads in (False, True):
            found = [pair for pair in tasks.records(look, threads) if pair[1].pid == number]
            if found:
                return tasks.tasks(self, look, found)[0]
        damage = f" in what could be read of the list of tasks: {look.problems[0]}" if look.problems else ""
        raise KernelError(f"no task has the number {number}{damage}; linux.tasks(threads=True) lists all")

    def at(self, address: int) -> Task:
        """Return the task whose ``struct task_struct`` is at a guest-virtual address."""
        look = self._look()
        record = look.at(tasks.layout(look), address)
        if record is None:
            raise KernelError("there is no task: no memory", address % TOP)
        return tasks.tasks(self, look, [(address, record)])[0]

    def current(self, cpu: int | VCPU | SavedCPU = 0) -> Task:
        """Return the task that the processor ``cpu`` (or number ``cpu``) runs now; one with the pid 0 if it is idle."""
        number = cpu.id if hasattr(cpu, "id") else index(cpu)
        if not 0 <= number < len(self.guest.cpus):
            raise ValueError(f"there are {len(self.guest.cpus)} processors, from 0 on; {number} is none")
        look = self._look()
        offsets = self.symbols.get("__per_cpu_offset")
        offset = look.word(offsets + 8 * number) if offsets is not None else 0
        hot = self.symbols.get("pcpu_hot") if look.has("pcpu_hot", "current_task") else None
        place = look.symbol("current_task") if hot is None else hot + look.offset("pcpu_hot", "current_task")
        address = look.word(((offset or 0) + place) % TOP)
        if not address:
            raise KernelError(f"processor {number} has no current task: it does not run this kernel yet", place)
        return self.at(address)

    def modules(self) -> Modules:
        """Return the loaded modules, the newest first, as /proc/modules lists them."""
        look = self._look()
        return Modules(modules.modules(look), look.problems)

    def mounts(self, pid: int | Task | None = None) -> Mounts:
        """Return what is mounted, as the process ``pid`` (by default the first, init) sees it."""
        look = self._look()
        return Mounts(mounts.mounts(look, Paths(look), self._record(pid or 1).nsproxy or 0), look.problems)

    def files(self, pid: int | Task) -> Files:
        """Return the open files of a process, by descriptor."""
        look = self._look()
        return Files(files.open_files(look, Paths(look), self._record(pid).files or 0), look.problems)

    def maps(self, pid: int | Task) -> Maps:
        """Return the parts of a process's address space, as /proc/pid/maps lists them; none for a kernel thread."""
        look = self._look()
        mm = self._record(pid).mm
        return Maps(maps.maps(look, Paths(look), mm) if mm else (), look.problems)

    def sockets(self, pid: int | Task | None = None) -> Sockets:
        """Return the sockets that a process has open; by default those of all processes, and those that none has."""
        look = self._look()
        owners: Owners = {}
        for task in [self.task(pid)] if pid is not None else self.tasks():
            if task.record.files:
                sockets.open_in(look, task, owners)
        return Sockets(sockets.sockets(look, owners, pid is None), look.problems)

    def dmesg(self) -> Messages:
        """Return the kernel's log, from old to new."""
        look = self._look()
        return Messages(log.messages(look), look.problems)

    def cmdline(self, pid: int | Task) -> list[str]:
        """Return the arguments that a process was started with; none for a thread of the kernel."""
        return self._strings(pid, "arg_start", "arg_end")

    def environ(self, pid: int | Task) -> dict[str, str]:
        """Return the environment that a process was started with."""
        pairs = (text.partition("=") for text in self._strings(pid, "env_start", "env_end"))
        return {name: value for name, _, value in pairs if name}

    def _strings(self, pid: int | Task, start: str, end: str) -> list[str]:
        look, task = self._look(), self.task(pid)
        space = look.at(maps.mm_layout(look), task.record.mm) if task.record.mm else None
        if space is None or task.cr3 is None:
            return []
        first, last = getattr(space, start), getattr(space, end)
        size = min(max(last - first, 0), MOST_ARGUMENTS)
        try:
            content = task.memory.read(first, size)
        except BelljarError as error:
            raise KernelError(f"the arguments of process {task.pid} are not in memory: {error}", first) from error
        return [part.decode("utf-8", "backslashreplace") for part in content.rstrip(b"\0").split(b"\0")] if size else []

    @property
    def vm(self) -> VM:
        """The VM that it runs in. TypeError for the Linux of a dump, which does not run."""
        from belljar._belljar import VM

        if not isinstance(self.guest, VM):
            raise TypeError("this Linux lies in a dump and does nothing any more: only that of a VM makes events")
        return self.guest

    @property
    def prototypes(self) -> Prototypes:
        """The system calls that this kernel offers, with their parameters: the kernel's own table and metadata."""
        if self._known.prototypes is None:
            self._known.prototypes = calls.prototypes(self._look())
        return self._known.prototypes

    def syscalls(
        self,
        names: str | Iterable[str] | None = None,
        *,
        pid: int | Task | None = None,
        text: int = 64,
        capacity: int = 16384,
        policy: Literal["stop", "drop"] = "stop",
    ) -> SyscallTrace:
        """Record system calls, each with its return, from now on: natively, so that the guest waits for no Python.

        ``names`` says which ("openat", or several; by default all), ``pid`` of which process (all its threads). Of the
        strings and buffers that the first two parameters hand over, ``text`` bytes are recorded, as they are in memory
        when the call is made (a multiple of 8, up to 128). ``capacity`` counts records of each vCPU, two for a call;
        ``policy`` says what a full ring does, as in `vm.trace`.
        """
        return SyscallTrace(self, names, pid, text, {"capacity": capacity, "policy": policy})

    def runs(self, pid: int | Task) -> Expression:
        """Return what holds while a process (any thread of it) has the vCPU, in the kernel: for `when=`."""
        return tracing.of_process(self, pid)

    def on_syscall(
        self,
        name: str,
        handler: Handler | None = None,
        *,
        pid: int | Task | None = None,
        when: Expression | None = None,
        at_return: bool = False,
    ) -> Any:
        """Have ``handler(call)`` called where the kernel is about to do the system call ``name``, or has done it.

        The guest waits. ``call`` has the arguments by name, their strings, the task, and `result`, which may be set: at
        the entry that answers the call without the kernel, at the return it replaces what the kernel says. The
        handler's answer is that of a breakpoint: None goes on, bj.STOP ends the run. Without a handler it is a
        decorator. Returns the breakpoint.
        """
        if handler is None:
            return lambda function: self.on_syscall(name, function, pid=pid, when=when, at_return=at_return)
        return tracing.on_syscall(self, name, handler, pid=pid, when=when, at_return=at_return)

    def on_switch(self, handler: Callable[[Task, Task], object] | None = None, *, pid: int | Task | None = None) -> Any:
        """Have ``handler(before, after)`` called where the kernel switches from one task to another, on any processor.

        ``pid`` chooses switches to or from one process. Without a handler it is a decorator. Returns the breakpoint.
        """
        if handler is None:
            return lambda function: self.on_switch(function, pid=pid)
        return tracing.on_switch(self, handler, pid)

    def memory_of(self, task: Task) -> Any:
        """Return the memory of a task at its own addresses: a VirtualMemory. KernelError if it has none."""
        if task.cr3 is None:
            raise KernelError(
                f"{task.name} ({task.pid}) has no memory of its own: linux.memory is the kernel's", task.address
            )
        return space(self.guest, task.cr3)

    def parent_of(self, task: Task) -> Task | None:
        """Return the parent of a task, None for the first ones."""
        if not task.ppid or task.parent_address in {0, task.address}:
            return None
        return self.at(task.parent_address)

    def threads_of(self, task: Task) -> Tasks:
        """Return the threads of the process that a task belongs to."""
        look = self._look()
        signals = look.layout("signal_struct", {"head": "thread_head.next"}, "head")
        found = list(tasks.group(look, signals, task.record)) or [(task.address, task.record)]
        return Tasks(tasks.tasks(self, look, found), look.problems)

    def _record(self, pid: int | Task) -> Any:
        return self.task(pid).record

    @staticmethod
    def _nothing(look: Reading, reason: str) -> None:
        first = look.problems[0] if look.problems else Partial("", 0)
        raise KernelError(f"{reason}: {first}" if look.problems else reason, first.address)

    def is_there(self) -> bool:
        """Is this kernel still the one in memory? Not after the VM has booted another one."""
        banner = self.kernel.banner.encode()
        try:
            return bool(self.memory.read(self.symbols["linux_banner"], len(banner)) == banner)
        except (BelljarError, KeyError):
            return False

    def __repr__(self) -> str:
        """Show release and place."""
        return f"<Linux {self.version.release} at {self.base:#x}, slide {self.slide:#x}>"
