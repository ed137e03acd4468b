"""The kernel's memory for the readers: structures, lists, strings and trees, with an end to each.

It never raises for what is only damaged: a `Reading` notes it with its address, and the table that comes of it says so.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from belljar.errors import BelljarError, KernelError, RunningError
from belljar.linux.layout import Layout, Wanted
from belljar.linux.table import Partial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import SimpleNamespace

    from belljar._belljar import Btf, BtfMember

MOST_ITEMS = 1 << 16
"""So many members of one list are followed."""

MOST_READS = 1 << 20
"""So many structures are read for one table: far more than any guest has, and an end to what a forged one can ask."""

MOST_PROBLEMS = 16
PRICE = MOST_READS // 256
"""A problem counts as so many reads, so that memory of which nothing is sound is soon left alone."""

MOST_BYTES = 1 << 25
"""No single thing of a kernel's is larger; a forged one may be, in page tables that name one page over and over."""

PAGE = 0x1000
TOP = 1 << 64


class Layouts(dict[str, Layout]):
    """The decoders of one kernel's structures by name, and what was asked of its types before."""

    def __init__(self) -> None:
        """Start with nothing known."""
        super().__init__()
        self.answers: dict[tuple[str, str], bool] = {}


class Reading:
    """One look at the kernel's memory: what it reads and what was wrong there."""

    def __init__(self, memory: Any, btf: Btf, symbols: Any, layouts: Layouts) -> None:
        """Read ``memory``, a VirtualMemory in the kernel's address space."""
        self.memory, self.btf, self.symbols = memory, btf, symbols
        self.problems: list[Partial] = []
        self._layouts = layouts
        self._left = MOST_READS
        self._noted = 0

    def problem(self, reason: str, address: int) -> None:
        """Note what is wrong; the first few of them are kept."""
        self._left -= PRICE
        self._noted += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Partial(reason, address % TOP))

    def symbol(self, *names: str) -> int:
        """Return the address of the first of these symbols that this kernel has."""
        for name in names:
            address = self.symbols.get(name)
            if address is not None:
                return int(address)
        raise KernelError(f"the kernel has no symbol {' or '.join(names)}: it was built without what is asked for")

    def has(self, structure: str, path: str) -> bool:
        """Return whether this kernel's structure has such a member."""
        key = structure, path
        if key not in self._layouts.answers:
            self._layouts.answers[key] = self.btf.has(structure, path)
        return self._layouts.answers[key]

    def member(self, structure: str, path: str) -> BtfMember:
        """Return a member of a structure; KernelError if this kernel has none such."""
        try:
            return self.btf.member(structure, path)
        except KeyError as error:
            raise KernelError(f"this kernel's types do not say where that is: {error.args[0]}") from error

    def offset(self, structure: str, path: str) -> int:
        """Return where a member is, in bytes."""
        return int(self.member(structure, path).offset)

    def size(self, structure: str, path: str | None = None) -> int:
        """Return how many bytes a structure has, or a member of it."""
        try:
            return int(self.btf.size(structure, path))
        except KeyError as error:
            raise KernelError(f"this kernel's types do not say how large that is: {error.args[0]}") from error

    def _may(self, count: int, address: int) -> bool:
        """Return whether so many more may be read."""
        if self._left <= 0:
            self.problem("there is more than any kernel has: the rest is not read", address)
            return False
        self._left -= count
        return True

    def layout(self, structure: str, wanted: Wanted, needed: str = "", name: str = "") -> Layout:
        """Return the decoder of these members; it is made once for each kernel."""
        key = name or structure
        if key not in self._layouts:
            self._layouts[key] = Layout(self.btf, structure, wanted, needed)
        return self._layouts[key]

    def bytes(self, address: int, size: int) -> bytes | None:
        """Return bytes of the kernel's memory; None, and a problem, where there is none."""
        if not self._may(1 + size // PAGE, address):
            return None
        if size > MOST_BYTES:
            self.problem(f"{size:#x} bytes in a row are more than any kernel has", address)
            return None
        try:
            return bytes(self.memory.read(address % TOP, size))
        except (BelljarError, OverflowError, MemoryError):
            self.problem("no memory", address)
            return None

    def word(self, address: int, size: int = 8) -> int | None:
        """Return an unsigned integer."""
        content = self.bytes(address, size)
        return None if content is None else int.from_bytes(content, "little")

    def text(self, address: int, most: int = 256) -> str | None:
        """Return a C string of at most ``most`` bytes; None for NULL, and for what cannot be read."""
        if address == 0:
            return None
        content = b""
        while len(content) < most and b"\0" not in content:
            at = address + len(content)
            part = self.bytes(at, min(most - len(content), PAGE - at % PAGE))
            if part is None:
                return None
            content += part
        return decoded(content)

    def at(self, layout: Layout, address: int) -> SimpleNamespace | None:
        """Return what a layout wants of the structure at an address; None, and a problem, if it cannot be read."""
        content = self.bytes(address + layout.start, layout.span)
        return None if content is None else layout.decode(content)

    def many(self, layout: Layout, addresses: Iterable[int]) -> dict[int, SimpleNamespace]:
        """Return the same of many addresses, by address; NULL and what cannot be read are left out."""
        wanted = sorted({address for address in addresses if address})
        at_once = max(MOST_BYTES // max(layout.span, 1), 1)
        found: dict[int, SimpleNamespace] = {}
        for i in range(0, len(wanted), at_once):
            found |= self._some(layout, wanted[i : i + at_once])
        return found

    def _some(self, layout: Layout, wanted: list[int]) -> dict[int, SimpleNamespace]:
        if layout.span > MOST_BYTES or not self._may(len(wanted) * (1 + layout.span // PAGE), wanted[0]):
            return {}
        try:
            array = self.memory.read_many([(a + layout.start) % TOP for a in wanted], f"V{layout.span}")
            content = array.tobytes()
            return {a: layout.decode(content, i * layout.span) for i, a in enumerate(wanted)}
        except (BelljarError, OverflowError, MemoryError):
            single = ((address, self.at(layout, address)) for address in wanted)
            return {address: found for address, found in single if found is not None}

    def pointers(self, address: int, count: int) -> list[int]:
        """Return an array of pointers; empty if it cannot be read."""
        content = self.bytes(address, 8 * count)
        return [] if content is None else list(memoryview(content).cast("Q"))

    def chain(
        self, layout: Layout, head: int, link: str = "next", back: str | None = None
    ) -> Iterator[tuple[int, SimpleNamespace]]:
        """Yield the structures of a `struct list_head` at ``head``; ``link`` is the member that goes on.

        Where the list breaks off, ``back`` is the member that goes the other way: what is behind the damage is then
        reached from the list's end.
        """
        offset, noted, seen = layout.offsets[link], self._noted, set()
        for address, record in self._follow(layout, self.word(head), lambda r: int(getattr(r, link)), offset, {head}):
            seen.add(address)
            yield address, record
        if back is None or self._noted == noted:
            return
        behind = []
        last = self.word(head + 8)
        for address, record in self._follow(layout, last, lambda r: int(getattr(r, back)), offset, {head}):
            if address in seen:
                break
            behind.append((address, record))
        yield from reversed(behind)

    def hlist(self, layout: Layout, first: int | None, link: str = "next") -> Iterator[tuple[int, SimpleNamespace]]:
        """Yield the structures of a hash chain, which ends with NULL or (of the "nulls" kind) an odd number."""
        offset = layout.offsets[link]
        yield from self._follow(layout, first, lambda record: int(getattr(record, link)), offset, {0})

    def _follow(
        self, layout: Layout, at: int | None, following: Callable[[SimpleNamespace], int], offset: int, ends: set[int]
    ) -> Iterator[tuple[int, SimpleNamespace]]:
        seen: set[int] = set()
        while at is not None and at not in ends and not at & 1:
            if at in seen or len(seen) >= MOST_ITEMS:
                return self.problem(f"a list of struct {layout.structure} goes in circles or has no end", at)
            if at < PAGE:
                return self.problem(f"a list of struct {layout.structure} leads to nowhere", at)
            seen.add(at)
            record = self.at(layout, at - offset)
            if record is None:
                return None
            yield (at - offset) % TOP, record
            at = following(record)
        return None

    def tree(self, root: int, left: int, right: int) -> list[int]:
        """Return the nodes of a red-black tree in order: the address of each `struct rb_node`."""
        found: list[int] = []
        seen: set[int] = set()
        stack: list[tuple[int, bool]] = [(root, False)]
        while stack:
            node, entered = stack.pop()
            if node == 0:
                continue
            if entered:
                found.append(node)
                continue
            if node in seen or len(seen) >= MOST_ITEMS:
                self.problem("a tree goes in circles or has no end", node)
                break
            seen.add(node)
            children = [self.word(node + left), self.word(node + right)]
            stack += [(children[1] or 0, False), (node, True), (children[0] or 0, False)]
        return found


def decoded(content: bytes) -> str:
    """Return the text up to a zero byte; what is no UTF-8 is shown as such."""
    return content.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def unique(values: Sequence[Any]) -> list[Any]:
    """Return each value once, in the order of its first."""
    return list(dict.fromkeys(values))


def space(guest: Any, cr3: int) -> Any:
    """Return the address space at ``cr3`` of a guest, whichever of its vCPUs may be asked how it translates.

    In a handler that is the one that waits for it. Where all of them run, they are held for that moment.
    """
    with suppress(RunningError):
        return guest.virtual(cr3)
    for cpu in range(1, len(guest.cpus)):
        with suppress(RunningError):
            return guest.virtual(cr3, cpu=cpu)
    guest.pause()
    try:
        return guest.virtual(cr3)
    finally:
        guest.resume()
