"""The parts of a process's address space, from the kernel's own list of them. It never reads what is in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from belljar.linux.reading import MOST_ITEMS, PAGE, TOP, Reading
from belljar.linux.table import KernelAddress, Row, Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import SimpleNamespace

    from belljar.linux.layout import Layout, Wanted
    from belljar.linux.paths import Paths

VMA: Wanted = {
    "start": "vm_start",
    "end": "vm_end",
    "flags": ("vm_flags", "__vm_flags"),
    "pgoff": "vm_pgoff",
    "file": "vm_file",
    "ops": "vm_ops",
    "private": "vm_private_data",
    "anon_name": "anon_name",
    "next": "vm_next",
}
MM: Wanted = {
    "pgd": "pgd",
    "list": "mmap",
    "tree": "mm_mt.ma_root",
    "brk": "brk",
    "start_brk": "start_brk",
    "stack": "start_stack",
    "arg_start": "arg_start",
    "arg_end": "arg_end",
    "env_start": "env_start",
    "env_end": "env_end",
    "vdso": "context.vdso",
}
NODE_TYPES = {1: "maple_range_64", 2: "maple_range_64", 3: "maple_arange_64"}
"""The kernel's enum maple_type: leaf, inner node, inner node that knows its gaps."""

LEAF = 1
DEEPEST = 32


@dataclass(frozen=True, repr=False)
class Map(Row):
    """A part of an address space: ``start`` to ``end`` (not in it), permissions "rwxp", and what is mapped.

    ``path`` is the file's, or "[heap]", "[stack]", "[vdso]", "[vvar]", "[anon:name]", or "". ``offset`` is that in the
    file, in bytes. ``perms`` ends with "p" for a private part and "s" for a shared one.
    """

    start: int
    end: int
    perms: str
    offset: int
    inode: int
    path: str
    address: KernelAddress

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.end - self.start


class Maps(Table[Map]):
    """Parts of an address space, which print as a table."""

    COLUMNS: ClassVar[dict[str, str]] = {
        "start": "x",
        "end": "x",
        "perms": "",
        "offset": "x",
        "inode": ">",
        "path": "",
    }
    TITLE = "mapping"

    def at(self, address: int) -> Map | None:
        """Return the part that holds an address, or None."""
        return next((part for part in self if part.start <= address < part.end), None)


def mm_layout(look: Reading) -> Layout:
    """Return the decoder of `struct mm_struct`."""
    return look.layout("mm_struct", MM, "pgd", name="mm_struct.all")


def maps(look: Reading, paths: Paths, mm: int) -> list[Map]:
    """Return the parts of a `struct mm_struct`, in the order of their addresses."""
    space = look.at(mm_layout(look), mm)
    if space is None:
        return []
    wanted = look.layout("vm_area_struct", VMA, "start end flags")
    found = sorted(_areas(look, wanted, space), key=lambda pair: pair[1].start)
    special = look.symbols.get("special_mapping_vmops")
    files = look.many(_file(look), (record.file for _, record in found))
    known = _Space(look, paths, space, special)
    return [_map(known, files.get(record.file), address, record) for address, record in found]


@dataclass(frozen=True)
class _Space:
    """An address space, and what else the names of its parts come from."""

    look: Reading
    paths: Paths
    record: SimpleNamespace
    special: int | None


def _file(look: Reading) -> Layout:
    wanted: Wanted = {
        "mnt": ("f_path.mnt", "__f_path.mnt"),
        "dentry": ("f_path.dentry", "__f_path.dentry"),
        "inode": "f_inode",
    }
    return look.layout("file", wanted, "mnt dentry inode", name="file.path")


def _areas(look: Reading, wanted: Layout, space: SimpleNamespace) -> Iterator[tuple[int, SimpleNamespace]]:
    if space.list is not None and "next" in wanted.has:
        yield from _linked(look, wanted, space.list)
        return
    addresses = list(dict.fromkeys(maple(look, space.tree or 0)))
    for address, record in look.many(wanted, addresses).items():
        if record.start < record.end:
            yield address, record
        else:
            look.problem("a part of an address space that ends before it begins", address)


def _linked(look: Reading, wanted: Layout, first: int) -> Iterator[tuple[int, SimpleNamespace]]:
    at, seen = first, set[int]()
    while at:
        record = look.at(wanted, at)
        if at in seen or len(seen) >= MOST_ITEMS or record is None:
            return look.problem("the list of an address space's parts goes in circles or to nowhere", at)
        seen.add(at)
        yield at, record
        at = record.next
    return None


def maple(look: Reading, root: int) -> Iterator[int]:
    """Yield what a maple tree holds, in order (include/linux/maple_tree.h: the type of a node is in its address)."""
    seen: set[int] = set()
    stack: list[tuple[int, int, int, int]] = [(root, 0, TOP - 1, 0)]
    while stack:
        entry, low, high, depth = stack.pop()
        if entry & 3 != 2 or entry < 4096:
            if entry:
                yield entry
            continue
        node, kind = entry & ~0xFF, entry >> 3 & 0xF
        if node in seen or len(seen) >= MOST_ITEMS or depth > DEEPEST or kind not in NODE_TYPES:
            look.problem("the tree of an address space's parts is damaged", entry)
            continue
        seen.add(node)
        slots = list(_slots(look, node, kind, low, high))
        if kind == LEAF:
            yield from (slot for slot, _, _ in slots if slot)
        else:
            stack += [(slot, first, last, depth + 1) for slot, first, last in reversed(slots) if slot]


def _slots(look: Reading, node: int, kind: int, low: int, high: int) -> Iterator[tuple[int, int, int]]:
    """Yield what a node has for each range: the slot, the first index and the last."""
    structure = NODE_TYPES[kind]
    wanted = look.layout(structure, {"pivots": "pivot", "slots": "slot"}, "pivots slots")
    record = look.at(wanted, node)
    if record is None:
        return
    pivots, slots = (list(memoryview(part).cast("Q")) for part in (record.pivots, record.slots))
    first = low
    for i, slot in enumerate(slots):
        last = pivots[i] if i < len(pivots) else high
        if last > high or (last == 0 and i > 0):
            last = high
        yield slot, first, last
        if last >= high:
            return
        first = last + 1


def _map(known: _Space, file: SimpleNamespace | None, address: int, record: SimpleNamespace) -> Map:
    if file is None:
        return Map(record.start, record.end, perms(record.flags), 0, 0, _name(known, record), address)
    inode = known.look.word(file.inode + known.look.offset("inode", "i_ino")) or 0
    path = known.paths.path(file.mnt, file.dentry)
    return Map(record.start, record.end, perms(record.flags), record.pgoff * PAGE, inode, path, address)


def perms(flags: int) -> str:
    """Return VM_READ, VM_WRITE, VM_EXEC and VM_MAYSHARE as /proc does."""
    letters = "".join(letter if flags >> bit & 1 else "-" for bit, letter in enumerate("rwx"))
    return letters + ("s" if flags & 0x80 else "p")


def _name(known: _Space, record: SimpleNamespace) -> str:
    """Return what a part without a file is for."""
    look, space = known.look, known.record
    if known.special is not None and record.ops == known.special and record.private:
        pointer = look.word(record.private + look.offset("vm_special_mapping", "name"))
        return look.text(pointer or 0, 32) or ""
    if space.vdso and record.start == space.vdso:
        return "[vdso]"
    if record.start <= (space.brk or 0) and record.end >= (space.start_brk or TOP):
        return "[heap]"
    if record.start <= (space.stack or 0) <= record.end:
        return "[stack]"
    return _anonymous(look, record.anon_name)


def _anonymous(look: Reading, name: int | None) -> str:
    """Return the name that a process gave (prctl(2), PR_SET_VMA), if any."""
    if not name or not look.has("anon_vma_name", "name"):
        return ""
    text = look.text(name + look.offset("anon_vma_name", "name"), 80)
    return f"[anon:{text}]" if text else ""
