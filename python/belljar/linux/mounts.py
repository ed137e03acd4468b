"""What is mounted where, in the mount namespace of a process. It never looks into a file system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from belljar.errors import KernelError
from belljar.linux.reading import TOP, Reading
from belljar.linux.table import KernelAddress, Row, Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import SimpleNamespace

    from belljar.linux.paths import Paths

CURSOR = 0x1000_0000
SUPER_FLAGS = {1: "ro", 0x10: "sync", 0x80: "dirsync", 0x40: "mand", 0x200_0000: "lazytime"}
MOUNT_FLAGS = {0x40: "ro", 1: "nosuid", 2: "nodev", 4: "noexec", 8: "noatime", 0x10: "nodiratime", 0x20: "relatime"}
"""SB_* and MNT_* of the kernel (include/linux/fs.h, mount.h), in the words of mount(8)."""


@dataclass(frozen=True, repr=False)
class Mount(Row):
    """A mount: ``source`` on ``target``, its file system's type and options, its number and that of its parent.

    ``options`` are those that the kernel itself knows (rw, nosuid, relatime, ...), without the file system's own.
    """

    id: int
    parent_id: int
    source: str
    target: str
    fstype: str
    options: str
    address: KernelAddress


class Mounts(Table[Mount]):
    """Mounts, which print as a table."""

    COLUMNS: ClassVar[dict[str, str]] = {
        "id": ">",
        "parent_id": ">",
        "source": "",
        "target": "",
        "fstype": "",
        "options": "",
        "address": "x",
    }
    TITLE = "mount"


def mounts(look: Reading, paths: Paths, nsproxy: int) -> list[Mount]:
    """Return the mounts of a `struct nsproxy`."""
    space = look.word(nsproxy + look.offset("nsproxy", "mnt_ns")) if nsproxy else None
    if not space:
        raise KernelError("this task has no mounts any more: it has ended", nsproxy)
    found = _members(look, paths, space)
    return [_mount(look, paths, *pair) for pair in found if not (pair[1].flags or 0) & CURSOR]


def _members(look: Reading, paths: Paths, space: int) -> Iterator[tuple[int, SimpleNamespace]]:
    """Yield the mounts of a namespace: a list in kernels before 6.8, a tree since."""
    if look.has("mnt_namespace", "list"):
        yield from look.chain(paths.mount_layout, space + look.offset("mnt_namespace", "list"))
        return
    root = look.word(space + look.offset("mnt_namespace", "mounts.rb_node")) or 0
    left, right = look.offset("rb_node", "rb_left"), look.offset("rb_node", "rb_right")
    for node in look.tree(root, left, right):
        address = (node - paths.mount_layout.offsets["node"]) % TOP
        record = paths.mount(address)
        if record is not None:
            yield address, record


def _mount(look: Reading, paths: Paths, address: int, record: SimpleNamespace) -> Mount:
    parent = paths.mount(record.parent)
    sb = paths.super(record.sb) if record.sb else None
    return Mount(
        id=record.id,
        parent_id=0 if parent is None else parent.id,
        source=look.text(record.source or 0) or "none",
        target=paths.path(address + paths.vfsmount, record.root),
        fstype="?" if sb is None else sb.fstype,
        options=options(0 if sb is None else sb.flags or 0, record.flags or 0),
        address=address,
    )


def options(superblock: int, mount: int) -> str:
    """Return the options in the order of /proc/mounts."""
    words = [word for bit, word in SUPER_FLAGS.items() if superblock & bit]
    words += [word for bit, word in MOUNT_FLAGS.items() if mount & bit and word not in words]
    return ",".join(words if "ro" in words else ["rw", *words])
