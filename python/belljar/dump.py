"""Guests in files: `vm.dump` writes one, `open_dump` reads one, and a `Dump` is looked at as a machine is.

A dump never runs. What is written to its memory is refused, and the file is never changed.

>>> vm.dump("guest.core")  # doctest: +SKIP
>>> with bj.open_dump("guest.core") as dump:  # doctest: +SKIP
...     print(dump.cpu.regs.rip, dump.memory.read(0x1000, 16))
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from belljar import _belljar, vmcoreinfo
from belljar._belljar import Memory, Symbols
from belljar.errors import BelljarError, ImageError, RunningError
from belljar.listing import names
from belljar.saved_cpu import SavedCPU
from belljar.shown import Shown
from belljar.state import State
from belljar.vmcoreinfo import VmCoreInfo

if TYPE_CHECKING:
    from belljar._belljar import VM, KernelSymbols, Translation, VirtualMemory

OURS = "BELLJAR"
ABOUT, SYMBOLS = 0x102, 0x103
"""Kinds of our own notes, beside 0x101 for a vCPU's state: what wrote the file, and the symbols that it knew."""
FORMATS = ("elf", "raw")
MOST_SPACES = 256
"""Address spaces whose walks are kept."""
LARGEST_KERNEL = 1 << 30
"""Bytes; there is no room for more at the addresses of Linux' image (Documentation/arch/x86/x86_64/mm.rst)."""


@dataclass(frozen=True)
class DumpNote:
    """A note of an ELF file: who defined it, which of theirs it is, and its bytes."""

    name: str
    kind: int
    data: bytes

    def __repr__(self) -> str:
        """Show how long it is."""
        return f"DumpNote(name={self.name!r}, kind={self.kind}, {len(self.data)} bytes)"


@dataclass(frozen=True)
class DumpInfo:
    """What a file says of itself.

    ``format`` is "ELF core", "LiME", "raw" or "made"; ``about`` what belljar wrote into it (its version, the host's
    quirks); ``segments`` has (address, size, virtual address, offset in the file, bytes in the file) of each stretch
    of memory.
    """

    path: str
    format: str
    about: dict[str, Any] = field(default_factory=dict)
    notes: tuple[DumpNote, ...] = ()
    segments: tuple[tuple[int, int, int, int, int], ...] = ()

    def note(self, name: str, kind: int | None = None) -> bytes | None:
        """Return the bytes of the first note of that name (and kind), or None."""
        return next((n.data for n in self.notes if n.name == name and kind in {None, n.kind}), None)


class Dump(Shown):
    """A guest that is only looked at: ``memory``, ``cpus``, ``symbols`` and the rest, under the names that a VM has.

    ``bj.open_dump`` makes one from a file, ``Dump.of`` one for a test. Its memory is the file, mapped: opening takes no
    time and no memory. Do not make the file shorter meanwhile: touching what is gone kills this process (SIGBUS).
    """

    def __init__(self, memory: Memory, cpus: Sequence[State], info: DumpInfo, symbols: Symbols | None = None) -> None:
        """Take what was opened."""
        self.memory = memory
        self.info = info
        self.cpus = [SavedCPU(self, number, state) for number, state in enumerate(cpus)]
        self._symbols = Symbols.of([]) if symbols is None else symbols
        self._spaces: dict[tuple[int | None, int], tuple[Any, VirtualMemory]] = {}

    @classmethod
    def of(
        cls,
        memory: Mapping[int, bytes],
        cpus: Sequence[State] = (),
        symbols: Mapping[str, int] | Symbols | None = None,
    ) -> Dump:
        """Make a dump of these bytes at these guest-physical addresses: ``Dump.of({0x1000: b"..."})``. For tests.

        Memory comes in whole pages; what the bytes do not fill is zero.
        """
        made = cls(_belljar.saved_memory(dict(memory)), cpus, DumpInfo("", "made"))
        if symbols is not None:
            made.symbols = symbols
        return made

    @property
    def cpu(self) -> SavedCPU:
        """The first vCPU. ValueError where the file tells of none."""
        if not self.cpus:
            raise ValueError("this dump tells of no vCPU: give their states, as in open_dump(path, cpus=[state])")
        return self.cpus[0]

    @property
    def symbols(self) -> Symbols:
        """The symbols that listings name. Assign a `Symbols`, the path of an ELF file, or names with addresses."""
        return self._symbols

    @symbols.setter
    def symbols(self, new: Symbols | KernelSymbols | str | os.PathLike[str] | Mapping[str, int]) -> None:
        if isinstance(new, Symbols):
            self._symbols = new
        elif hasattr(new, "items"):
            self._symbols = Symbols.of([(name, address, 0) for name, address in new.items()])
        else:
            self._symbols = Symbols(os.fspath(new))

    def virtual(self, cr3: int | None = None, *, cpu: int = 0) -> VirtualMemory:
        """Return the memory of the address space whose tables are at `cr3`, in the paging mode of vCPU `cpu`.

        Without a `cr3`, that of the vCPU. ValueError where the dump tells of no vCPU: nothing says the mode then.
        """
        if not 0 <= cpu < len(self.cpus):
            if not self.cpus:
                _ = self.cpu  # says what to do
            raise ValueError(f"the dump has {len(self.cpus)} vCPUs, from 0 on; {cpu} is none")
        known = names(self, check=False)
        kept = self._spaces.get((cr3, cpu))
        if kept is None or kept[0] is not known:  # one that is kept has walked its tables already
            state = self.cpus[cpu].state().to_bytes()
            kept = known, _belljar.saved_virtual(self.memory, state, cr3, known)
            if len(self._spaces) >= MOST_SPACES:
                self._spaces.clear()
            self._spaces[cr3, cpu] = kept
        return kept[1]

    def translate(self, at: int | str, cr3: int | None = None, **checks: Any) -> Translation:
        """Return where the virtual address `at` leads, by the tables at `cr3` (by default the first vCPU's)."""
        return self.virtual(cr3).translate(at, **checks)

    @cached_property
    def vmcoreinfo(self) -> VmCoreInfo | None:
        """What a Linux kernel says of itself, by the file's VMCOREINFO note or the one in memory; else None."""
        note = self.info.note("VMCOREINFO")
        return VmCoreInfo(note) if note else vmcoreinfo.find(self.memory)

    @property
    def linux(self) -> Any:
        """The Linux kernel in it, as VM.linux."""
        from belljar.linux import Linux

        return Linux.of(self)

    def drgn(self) -> Any:
        """Return a drgn.Program of the guest, as VM.drgn does."""
        from belljar.drgn_program import program

        return program(self)

    def volatility(self) -> Any:
        """Return a Volatility 3 session on the guest, as VM.volatility does."""
        from belljar.volatility import Session

        return Session(self)

    def dump(self, path: str | os.PathLike[str], *, format: str = "elf") -> None:  # noqa: A002 # as VM.dump
        """Write it into another file, as VM.dump does: an ELF core file of what came as a LiME file, say."""
        dump(self, path, format)

    def close(self) -> None:
        """Let go of the file. The file is unmapped when nobody refers to the memory any more."""
        self.memory = _belljar.saved_memory({})
        self.cpus = []
        self._spaces.clear()

    def __getattr__(self, name: str) -> Any:
        """Say of what only a VM has that there is none."""
        if not name.startswith("_") and hasattr(_belljar.VM, name):
            raise AttributeError(f"a dump has no {name}: it does not run, and is not changed; it is only looked at")
        raise AttributeError(f"'Dump' object has no attribute {name!r}")

    def __enter__(self) -> Self:
        """Return the dump."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Show what it is."""
        size = sum(region.size for region in self.memory.regions)
        where = f" {self.info.path}" if self.info.path else ""
        return f"<Dump{where} ({self.info.format}): {len(self.cpus)} vCPUs, {size >> 10} KiB>"


def open_dump(
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002 # the word for it, everywhere
    *,
    cpus: Sequence[State] | None = None,
) -> Dump:
    """Open a guest in a file: ours, QEMU's dump-guest-memory (ELF), Linux' /proc/vmcore, LiME, raw memory.

    The format is found by the file's first bytes; ``format="raw"`` says that it is memory from address 0 on and nothing
    else (as QEMU's pmemsave writes it), which is also known by a file of registers beside it, path + ".json". `cpus`
    gives states that the file does not have, or replaces its own. ImageError for a file that is none of these, or is
    damaged.
    """
    path = os.fspath(path)
    if format not in {None, *FORMATS, "lime"}:
        raise ValueError(f'the format of a dump is "elf", "lime" or "raw" (None: found out), not {format!r}')
    beside = _beside(path) if format in {None, "raw"} else None
    raw = [tuple(place) for place in beside["regions"]] if beside else [] if format == "raw" else None
    kind, memory, notes, states, segments = _belljar.dump_read(path, raw)
    if format is not None and not kind.lower().startswith(format):
        raise ImageError(f"{path} is a file of the format {kind}, not {format}")
    info = DumpInfo(path, kind, {}, tuple(DumpNote(*note) for note in notes), tuple(segments))
    about, symbols = beside or _json(info.note(OURS, ABOUT)), None
    object.__setattr__(info, "about", {k: v for k, v in about.items() if k not in {"cpus", "symbols", "regions"}})
    table = about.get("symbols") or _json(info.note(OURS, SYMBOLS)).get("symbols")
    if table:
        symbols = Symbols.of([(str(name), int(at), int(size)) for name, at, size in table])
    if beside:
        states = [base64.b64decode(state) for state in beside["cpus"]]
    return Dump(memory, [State(s) for s in states] if cpus is None else cpus, info, symbols)


def _beside(path: str) -> dict[str, Any] | None:
    """Return what the file of registers beside a raw file says; None if there is none."""
    try:
        text = Path(path + ".json").read_text("utf-8")
    except OSError:
        return None
    try:
        found = json.loads(text)
        if found["format"] == "belljar raw" and isinstance(found["regions"], list) and isinstance(found["cpus"], list):
            return dict(found)
    except (ValueError, KeyError, TypeError) as error:
        raise ImageError(f"{path}.json is damaged: {error}") from None
    return None


def _json(data: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(data or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def dump(guest: VM | Dump, path: str | os.PathLike[str], format: str = "elf") -> None:  # noqa: A002 # as VM.dump
    """Write `guest` into the file `path`, see VM.dump. The file appears when it is complete.

    Zeroes become holes: the file takes the room of what the guest has touched. OSError where the disk is full.
    """
    if format not in FORMATS:
        raise ValueError(f'a dump is written as "elf" or "raw", not {format!r}')
    path = os.fspath(path)
    with _at_rest(guest), _completed(path) as part:
        states = [cpu.state().to_bytes() for cpu in guest.cpus]
        if format == "raw":
            _belljar.dump_write(guest.memory, part, [], [], raw=True)
            Path(path + ".json").write_text(json.dumps(_description(guest, states)), "utf-8")
            return
        info = guest.vmcoreinfo if isinstance(guest, Dump) else vmcoreinfo.find(guest.memory)
        notes = [("VMCOREINFO", 0, info.raw)] if info else []
        about, symbols = _about(guest), _symbols(guest)
        notes += [(OURS, ABOUT, json.dumps(about).encode()), (OURS, SYMBOLS, json.dumps({"symbols": symbols}).encode())]
        _belljar.dump_write(guest.memory, part, states, notes, _direct_map(guest, info), _kernel(guest, info))


def _about(guest: VM | Dump) -> dict[str, Any]:
    """Return what wrote the file."""
    from belljar.host import host

    if isinstance(guest, Dump) and guest.info.about:
        return guest.info.about
    known = host.quirks if host.error is None else None
    quirks = {} if known is None else {name: getattr(known, name) for name in dir(known) if not name.startswith("_")}
    quirks = {name: answer for name, answer in quirks.items() if isinstance(answer, bool)}
    return {"belljar": _belljar.__version__, "quirks": quirks}


def _symbols(guest: VM | Dump) -> list[tuple[str, int, int]]:
    table = guest.symbols
    return [(name, address, table.size(name)) for name, address in table.items()]


def _description(guest: VM | Dump, states: list[bytes]) -> dict[str, Any]:
    """Return what lies beside a raw file."""
    regions = [(region.start, region.size, region.kind == "ROM") for region in guest.memory.regions]
    cpus = [base64.b64encode(state).decode() for state in states]
    return {"format": "belljar raw", **_about(guest), "regions": regions, "cpus": cpus, "symbols": _symbols(guest)}


def _direct_map(guest: VM | Dump, info: VmCoreInfo | None) -> int | None:
    """Return where a Linux kernel maps guest-physical address 0 (its page_offset_base), or None if that is not clear.

    An array that the kernel has in its direct map tells it; KASLR moves that map in steps of 1 GiB.
    """
    array, tables = (info.symbol("mem_section"), info.page_table) if info else (None, None)
    if array is None or tables is None or not guest.cpus:
        return None
    try:
        found = guest.translate(array, tables)
    except ValueError:
        return None
    base = 1 if found.gpa is None else array - found.gpa
    return base if base % (1 << 30) == 0 else None


def _kernel(guest: VM | Dump, info: VmCoreInfo | None) -> tuple[int, int, int] | None:
    """Return where a Linux kernel's image is, its length and virtual address, where gdb looks for variables."""
    if info is None:
        return None
    try:
        found = _belljar.find_kernel(guest.memory, [int(cpu.cr3) for cpu in guest.cpus])
    except BelljarError:
        return None
    end = -(-(found.symbols.get("_end") or 0) // 0x1000) * 0x1000
    return (found.gpa, end - found.base, found.base) if 0 < end - found.base <= LARGEST_KERNEL else None


@contextlib.contextmanager
def _at_rest(guest: VM | Dump) -> Iterator[None]:
    """Have the guest stand still: one that runs in the background is paused, and goes on afterwards."""
    pauses = False
    try:
        for cpu in guest.cpus:
            cpu.state()
    except RunningError:
        assert not isinstance(guest, Dump)
        guest.pause()
        if guest.state == "running":
            raise
        pauses = True
    try:
        yield
    finally:
        if pauses and not isinstance(guest, Dump) and guest.state == "paused":
            guest.resume()


@contextlib.contextmanager
def _completed(path: str) -> Iterator[str]:
    """Yield the name to write to, beside `path`: it takes its place when it is complete, and is gone if never."""
    if Path(path).exists() and not Path(path).is_file():
        yield path
        return
    part = f"{path}.{os.getpid()}.part"
    try:
        yield part
        Path(part).replace(path)
    except OSError as error:
        if error.filename == part:
            error.filename = path
        raise
    finally:
        Path(part).unlink(missing_ok=True)
