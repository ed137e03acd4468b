"""Names of files as the guest's processes see them: up to the root of all mounts. It never reads a disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from belljar.linux.reading import Reading, decoded

if TYPE_CHECKING:
    from types import SimpleNamespace

    from belljar.linux.layout import Wanted

DEEPEST = 256
LONGEST = 4096
KINDS = {0o14: "socket", 0o12: "link", 0o10: "regular", 0o6: "block", 0o4: "directory", 0o2: "character", 0o1: "pipe"}
"""Of the type bits of a file's mode (inode(7)), divided by 0o10000."""

MOUNT: Wanted = {
    "parent": "mnt_parent",
    "mountpoint": "mnt_mountpoint",
    "root": "mnt.mnt_root",
    "sb": "mnt.mnt_sb",
    "flags": "mnt.mnt_flags",
    "id": "mnt_id",
    "source": "mnt_devname",
    "next": "mnt_list.next",
    "node": ("mnt_node", "mnt_list"),
}


class Paths:
    """Paths of one look at the kernel: what was read once is kept."""

    def __init__(self, look: Reading) -> None:
        """Start with nothing known."""
        self.look = look
        wanted = {"parent": "d_parent", "name": "d_name.name", "length": "d_name.len", "sb": "d_sb"}
        wanted |= {"inode": "d_inode", "hashed": "d_hash.pprev"}
        self._dentry = look.layout("dentry", wanted, "parent name")
        self.mount_layout = look.layout("mount", MOUNT, "parent mountpoint root")
        self.vfsmount = look.offset("mount", "mnt")
        self._types = look.layout("super_block", {"type": "s_type", "dev": "s_dev", "flags": "s_flags"}, "type")
        self._dentries: dict[int, SimpleNamespace | None] = {}
        self._mounts: dict[int, SimpleNamespace | None] = {}
        self._names: dict[int, str] = {}
        self._supers: dict[int, SimpleNamespace | None] = {}

    def dentry(self, address: int) -> SimpleNamespace | None:
        """Return a directory entry, with its name as text."""
        if address not in self._dentries:
            found = self.look.at(self._dentry, address) if address else None
            if found is not None:
                content = self.look.bytes(found.name, min(found.length or 256, LONGEST)) or b"?"
                found.text = decoded(content)
            self._dentries[address] = found
        return self._dentries[address]

    def mount(self, address: int) -> SimpleNamespace | None:
        """Return the `struct mount` at an address."""
        if address not in self._mounts:
            self._mounts[address] = self.look.at(self.mount_layout, address)
        return self._mounts[address]

    def super(self, address: int) -> SimpleNamespace | None:
        """Return a superblock: flags, device, and its file system's name as `fstype`."""
        if address not in self._supers:
            found = self.look.at(self._types, address) if address else None
            if found is not None:
                found.fstype = self._type_name(found.type)
            self._supers[address] = found
        return self._supers[address]

    def _type_name(self, kind: int) -> str:
        if kind not in self._names:
            name = self.look.word(kind + self.look.offset("file_system_type", "name")) if kind else 0
            self._names[kind] = self.look.text(name or 0, 64) or "?"
        return self._names[kind]

    def fstype(self, dentry: int) -> str:
        """Return the name of the file system that a directory entry belongs to."""
        entry = self.dentry(dentry)
        sb = None if entry is None or not entry.sb else self.super(entry.sb)
        return "?" if sb is None else str(sb.fstype)

    def path(self, vfsmount: int, dentry: int) -> str:
        """Return the path of a `struct path`, from the root of all mounts."""
        parts: list[str] = []
        at = vfsmount - self.vfsmount if vfsmount else 0
        mount = self.mount(at) if at else None
        first, start = self.dentry(dentry), dentry
        for _ in range(DEEPEST):
            entry = self.dentry(dentry)
            if entry is None:
                parts.append("?")
                break
            if mount is not None and dentry == mount.root:
                if mount.parent == at:
                    break
                dentry, at = mount.mountpoint, mount.parent
                mount = self.mount(at)
                continue
            if entry.parent == dentry:
                break
            parts.append(entry.text)
            dentry = entry.parent
        else:
            self.look.problem("a path goes in circles or has no end", dentry)
        gone = first is not None and first.hashed == 0 and first.parent != start
        return "/" + "/".join(reversed(parts)) + (" (deleted)" if gone else "")
