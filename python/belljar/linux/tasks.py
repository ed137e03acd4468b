"""Processes and threads of the guest: the kernel's list of tasks, what they may and where they live. It only reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar, cast

from belljar.linux.reading import Reading, decoded
from belljar.linux.table import KernelAddress, Table
from belljar.shown import Shown

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import SimpleNamespace

    from belljar.linux import Linux
    from belljar.linux.files import Files
    from belljar.linux.layout import Layout, Wanted
    from belljar.linux.maps import Maps
    from belljar.linux.mounts import Mounts
    from belljar.linux.sockets import Sockets

KTHREAD = 0x0020_0000
"""PF_KTHREAD of the kernel's include/linux/sched.h."""

STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "disk sleep",
    "T": "stopped",
    "t": "traced",
    "X": "dead",
    "Z": "zombie",
    "P": "parked",
    "I": "idle",
}
"""The letters of `ps`, in the kernel's own words (fs/proc/array.c)."""

_LETTERS = ((0x20, "Z"), (0x10, "X"), (0x80, "X"), (0x40, "P"), (8, "t"), (4, "T"), (2, "D"), (1, "S"))
_IDLE = 0x402
NAMESPACES = {"uts": "uts_ns", "ipc": "ipc_ns", "mnt": "mnt_ns", "pid": "pid_ns_for_children", "net": "net_ns"}
NAMESPACES |= {"cgroup": "cgroup_ns", "time": "time_ns"}

TASK: Wanted = {
    "state": ("__state", "state"),
    "exit_state": "exit_state",
    "flags": "flags",
    "on_cpu": "on_cpu",
    "cpu": ("thread_info.cpu", "cpu"),
    "pid": "pid",
    "tgid": "tgid",
    "comm": "comm",
    "mm": "mm",
    "parent": "real_parent",
    "cred": ("real_cred", "cred"),
    "nsproxy": "nsproxy",
    "start": ("start_time", "real_start_time"),
    "next": "tasks.next",
    "prev": "tasks.prev",
    "thread_next": "thread_node.next",
    "signal": "signal",
    "files": "files",
    "fs": "fs",
    "stack": "stack",
    "kthread": "worker_private",
}


@dataclass(frozen=True)
class Task(Shown):
    """A process or thread of the guest, as it was when it was read.

    ``pid`` is the number of the thread, ``tgid`` that of its process. ``state`` is the letter of `ps` (``state_word``
    says it in words), ``flags`` are the kernel's PF_*. ``cr3`` is the guest-physical address of its page tables (the
    kernel's of the two that page-table isolation makes), None for threads of the kernel (``kthread``) and for
    zombies. ``start_time`` is in seconds since boot, ``on_cpu`` the processor that runs it or None, ``namespaces`` the
    inode numbers by kind, ``address`` that of its ``struct task_struct``.
    """

    pid: int
    tgid: int
    comm: str
    state: str
    ppid: int
    uid: int | None
    gid: int | None
    cr3: int | None
    kthread: bool
    on_cpu: int | None
    start_time: float
    flags: int
    address: KernelAddress
    namespaces: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    # Not annotated, so that they are no fields: dataframes made of tasks are of what is above.
    linux = cast("Linux | None", None)
    parent_address = 0
    full_name = ""
    record = cast("Any", None)

    @property
    def state_word(self) -> str:
        """The state in words: "running", "sleeping", "zombie", ..."""
        return STATES.get(self.state, "unknown")

    @property
    def name(self) -> str:
        """The name as `ps` shows it: that of a thread of the kernel in brackets, and whole if the kernel keeps it."""
        return f"[{self.full_name or self.comm}]" if self.kthread else self.comm

    @property
    def _kernel(self) -> Linux:
        if self.linux is None:
            raise TypeError("this Task was made by hand: it belongs to no kernel")
        return self.linux

    @property
    def memory(self) -> Any:
        """Its memory at its own addresses, a VirtualMemory. KernelError for a thread of the kernel, which has none."""
        return self._kernel.memory_of(self)

    @property
    def files(self) -> Files:
        """What it has open, as ``linux.files(pid)``."""
        return self._kernel.files(self.pid)

    @property
    def maps(self) -> Maps:
        """The parts of its address space, as ``linux.maps(pid)``."""
        return self._kernel.maps(self.pid)

    @property
    def sockets(self) -> Sockets:
        """The sockets that it has open, as ``linux.sockets(pid)``."""
        return self._kernel.sockets(self.pid)

    @property
    def mounts(self) -> Mounts:
        """What is mounted as it sees it, as ``linux.mounts(pid)``."""
        return self._kernel.mounts(self.pid)

    @property
    def cmdline(self) -> list[str]:
        """The arguments that it was started with, as ``linux.cmdline(pid)``."""
        return self._kernel.cmdline(self.pid)

    @property
    def environ(self) -> dict[str, str]:
        """The environment that it was started with, as ``linux.environ(pid)``."""
        return self._kernel.environ(self.pid)

    @property
    def parent(self) -> Task | None:
        """The process that started it, or that adopted it, as it is now; None for the first."""
        return self._kernel.parent_of(self)

    @property
    def children(self) -> Tasks:
        """The processes whose parent it is, as they are now."""
        found = self._kernel.tasks()
        return Tasks((task for task in found if task.ppid == self.tgid), found.problems)

    @property
    def threads(self) -> Tasks:
        """The threads of its process, itself among them, as they are now."""
        return self._kernel.threads_of(self)

    def __repr__(self) -> str:
        """Show addresses in hexadecimal."""
        cr3 = "None" if self.cr3 is None else f"{self.cr3:#x}"
        return f"<Task {self.pid} {self.name} {self.state} uid={self.uid} cr3={cr3} at {self.address:#x}>"


def numbered(task: int | Task) -> int:
    """Return the number that names a task, as any integer (numpy's, say) or as the task itself."""
    try:
        return task.pid if isinstance(task, Task) else index(task)
    except TypeError:
        raise TypeError(
            f"a task is named by its number, not {task!r}: "
            f"[task for task in linux.tasks() if task.comm == {task!r}] has those of that name"
        ) from None


class Tasks(Table[Task]):
    """A list of processes that prints as a table."""

    COLUMNS: ClassVar[dict[str, str]] = {
        "pid": ">",
        "tgid": ">",
        "ppid": ">",
        "uid": ">",
        "state": "",
        "on_cpu": ">",
        "name": "",
        "cr3": "x",
        "start_time": ">",
        "address": "x",
    }
    TITLE = "task"


def layout(look: Reading) -> Layout:
    """Return the decoder of `struct task_struct`."""
    return look.layout("task_struct", TASK, "pid tgid comm mm state next parent")


def letter(state: int, exit_state: int) -> str:
    """Return the letter that `ps` shows for a task's state."""
    value = state | exit_state
    if not exit_state and state & _IDLE == _IDLE:
        return "I"
    return next((letter for bit, letter in _LETTERS if value & bit), "R")


def records(look: Reading, threads: bool) -> list[tuple[int, SimpleNamespace]]:
    """Return every process (and thread) of the kernel's list, from old to new."""
    members = layout(look)
    head = look.symbol("init_task") + members.offsets["next"]
    found = list(look.chain(members, head, back="prev"))
    if not threads:
        return found
    signals = look.layout("signal_struct", {"head": "thread_head.next"}, "head")
    everyone: list[tuple[int, SimpleNamespace]] = []
    for address, record in found:
        everyone += list(group(look, signals, record)) or [(address, record)]
    return everyone


def group(look: Reading, signals: Layout, record: SimpleNamespace) -> Iterable[tuple[int, SimpleNamespace]]:
    """Yield the threads of one process."""
    return look.chain(layout(look), record.signal + signals.offsets["head"], "thread_next") if record.signal else ()


def tasks(linux: Linux, look: Reading, found: list[tuple[int, SimpleNamespace]]) -> list[Task]:
    """Return tasks from what was read of them; page tables, credentials and namespaces are read for all at once."""
    mms = look.many(look.layout("mm_struct", {"pgd": "pgd"}, "pgd"), (r.mm for _, r in found))
    creds = look.many(look.layout("cred", {"uid": "uid", "gid": "gid"}), (r.cred or 0 for _, r in found))
    spaces = _namespaces(look, (r.nsproxy or 0 for _, r in found))
    pids = {address: record.tgid for address, record in found}
    for address, record in look.many(layout(look), {r.parent for _, r in found} - set(pids)).items():
        pids[address] = record.tgid
    known = _Known(linux, mms, creds, spaces, pids, _full_names(look, found))
    return [_task(known, address, record) for address, record in found]


@dataclass(frozen=True)
class _Known:
    """What was read for many tasks at once: by the address of each structure."""

    linux: Linux
    mms: dict[int, SimpleNamespace]
    creds: dict[int, SimpleNamespace]
    spaces: dict[int, dict[str, int]]
    pids: dict[int, int]
    names: dict[int, str]


def _task(known: _Known, address: int, record: SimpleNamespace) -> Task:
    mm, cred = known.mms.get(record.mm), known.creds.get(record.cred)
    kthread = bool(record.flags & KTHREAD)
    task = Task(
        pid=record.pid,
        tgid=record.tgid,
        comm=decoded(record.comm),
        state=letter(record.state, record.exit_state or 0),
        ppid=known.pids.get(record.parent, 0),
        uid=None if cred is None else cred.uid,
        gid=None if cred is None else cred.gid,
        cr3=None if mm is None or kthread else known.linux.physical(mm.pgd),
        kthread=kthread,
        on_cpu=record.cpu if record.on_cpu else None,
        start_time=(record.start or 0) / 1e9,
        flags=record.flags,
        address=address,
        namespaces=dict(known.spaces.get(record.nsproxy, {})),
    )
    more = {"linux": known.linux, "parent_address": record.parent, "record": record}
    for name, value in {**more, "full_name": known.names.get(address, "")}.items():
        object.__setattr__(task, name, value)
    return task


def _full_names(look: Reading, found: list[tuple[int, SimpleNamespace]]) -> dict[int, str]:
    """Return the names of threads of the kernel that are longer than ``comm`` is, by task."""
    if not look.has("kthread", "full_name"):
        return {}
    mine = {record.kthread: address for address, record in found if record.flags & KTHREAD and record.kthread}
    kthreads = look.many(look.layout("kthread", {"name": "full_name"}, "name"), mine)
    texts = {mine[at]: look.text(kthread.name, 64) for at, kthread in kthreads.items() if kthread.name}
    return {address: text for address, text in texts.items() if text}


def _namespaces(look: Reading, proxies: Iterable[int]) -> dict[int, dict[str, int]]:
    """Return the inode numbers of namespaces by kind, for each `struct nsproxy`."""
    wanted = look.layout("nsproxy", NAMESPACES)
    found = look.many(wanted, proxies)
    inums: dict[str, dict[int, SimpleNamespace]] = {}
    for kind in NAMESPACES:
        structure = {"mnt": "mnt_namespace", "net": "net", "uts": "uts_namespace"}.get(kind, f"{kind}_namespace")
        if look.has(structure, "ns.inum"):
            inner = look.layout(structure, {"inum": "ns.inum"}, "inum", name=f"{structure}.inum")
            inums[kind] = look.many(inner, {getattr(proxy, kind) or 0 for proxy in found.values()})
    return {
        address: {kind: by[getattr(proxy, kind)].inum for kind, by in inums.items() if getattr(proxy, kind) in by}
        for address, proxy in found.items()
    }
