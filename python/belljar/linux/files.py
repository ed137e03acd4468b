"""Open files of a process: descriptors, paths, kinds. It never reads what is in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from belljar.linux.paths import KINDS, Paths
from belljar.linux.table import KernelAddress, Row, Table

if TYPE_CHECKING:
    from types import SimpleNamespace

    from belljar.linux.layout import Wanted
    from belljar.linux.reading import Reading

MOST_DESCRIPTORS = 1 << 16
FILE: Wanted = {
    "mnt": ("f_path.mnt", "__f_path.mnt"),
    "dentry": ("f_path.dentry", "__f_path.dentry"),
    "inode": "f_inode",
    "flags": "f_flags",
    "pos": "f_pos",
    "private": "private_data",
}
ACCESS = {0: "r", 1: "w", 2: "rw"}


@dataclass(frozen=True, repr=False)
class File(Row):
    """An open file: its descriptor ``fd``, the ``path`` that /proc shows, and its ``kind``.

    ``kind`` is "regular", "directory", "character", "block", "socket", "pipe", "link" or "anonymous". ``flags`` are
    those of open(2) (``access`` is "r", "w" or "rw"), ``pos`` the offset in bytes, ``inode`` the inode's number,
    ``fstype`` the file system; ``address`` is that of its ``struct file``.
    """

    fd: int
    path: str
    kind: str
    flags: int
    pos: int
    inode: int
    fstype: str
    address: KernelAddress

    @property
    def access(self) -> str:
        """How it was opened: "r", "w" or "rw"."""
        return ACCESS.get(self.flags & 3, "?")


class Files(Table[File]):
    """Open files, which print as a table."""

    COLUMNS: ClassVar[dict[str, str]] = {
        "fd": ">",
        "access": "",
        "kind": "",
        "path": "",
        "pos": ">",
        "inode": ">",
        "flags": "x",
        "address": "x",
    }
    TITLE = "open file"


def descriptors(look: Reading, files: int) -> dict[int, int]:
    """Return the addresses of the `struct file` of a `struct files_struct`, by descriptor."""
    table = look.word(files + look.offset("files_struct", "fdt")) if files else None
    found = look.at(look.layout("fdtable", {"most": "max_fds", "fd": "fd"}, "most fd"), table) if table else None
    if found is None:
        return {}
    if found.most > MOST_DESCRIPTORS:
        look.problem(f"a table of {found.most} descriptors", table or 0)
    pointers = look.pointers(found.fd, min(found.most, MOST_DESCRIPTORS))
    return {fd: address for fd, address in enumerate(pointers) if address}


def open_files(look: Reading, paths: Paths, files: int) -> list[File]:
    """Return the open files of a `struct files_struct`."""
    numbers = descriptors(look, files)
    records = look.many(look.layout("file", FILE, "inode dentry flags"), numbers.values())
    inodes = look.many(
        look.layout("inode", {"mode": "i_mode", "number": "i_ino"}, "mode number"), (r.inode for r in records.values())
    )
    return [
        _file(paths, fd, address, records[address], inodes.get(records[address].inode))
        for fd, address in numbers.items()
        if address in records
    ]


def _file(paths: Paths, fd: int, address: int, record: SimpleNamespace, inode: SimpleNamespace | None) -> File:
    mode, number = (0, 0) if inode is None else (inode.mode, inode.number)
    fstype = paths.fstype(record.dentry)
    kind = "anonymous" if fstype == "anon_inodefs" else KINDS.get(mode >> 12, "unknown")
    path = name(paths, record.mnt, record.dentry, fstype, number)
    return File(fd, path, kind, record.flags, record.pos or 0, number, fstype, address)


def name(paths: Paths, mnt: int, dentry: int, fstype: str, inode: int) -> str:
    """Return what /proc shows for an open file: a path, or what stands for one."""
    if fstype in {"sockfs", "pipefs"}:
        return f"{'socket' if fstype == 'sockfs' else 'pipe'}:[{inode}]"
    if fstype == "anon_inodefs":
        entry = paths.dentry(dentry)
        return f"anon_inode:{'?' if entry is None else entry.text}"
    return paths.path(mnt, dentry)
