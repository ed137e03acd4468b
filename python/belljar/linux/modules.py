"""Loaded modules of the kernel. It never reads their code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from belljar.linux.reading import Reading, decoded
from belljar.linux.table import KernelAddress, Row, Table

if TYPE_CHECKING:
    from types import SimpleNamespace

    from belljar.linux.layout import Wanted

STATES = ("Live", "Loading", "Unloading", "Unformed")
"""The kernel's enum module_state, in the words of /proc/modules."""

MODULE: Wanted = {
    "name": "name",
    "state": "state",
    "next": "list.next",
    "prev": "list.prev",
    "base": ("core_layout.base", "mem[0].base"),
    "size": "core_layout.size",
    "references": "refcnt",
    "users": "source_list.next",
    "taints": "taints",
    "version": "version",
}


@dataclass(frozen=True, repr=False)
class Module(Row):
    """A loaded module: where its code begins (``base``), its ``size`` in bytes, and which modules use it.

    ``state`` is as in /proc/modules, ``references`` counts its users, ``taints`` are the kernel's bits, ``address`` is
    that of its ``struct module``.
    """

    name: str
    size: int
    references: int
    used_by: tuple[str, ...]
    state: str
    base: KernelAddress
    taints: int
    version: str
    address: KernelAddress


class Modules(Table[Module]):
    """Loaded modules, which print as a table."""

    COLUMNS: ClassVar[dict[str, str]] = {
        "name": "",
        "size": ">",
        "references": ">",
        "used_by": "",
        "state": "",
        "base": "x",
        "version": "",
        "address": "x",
    }
    TITLE = "module"
    NAMED = "name"


def modules(look: Reading) -> list[Module]:
    """Return the modules of the kernel's list, the newest first."""
    wanted = look.layout("module", MODULE, "name next base")
    found = list(look.chain(wanted, look.symbol("modules"), back="prev"))
    names = {address: decoded(record.name) for address, record in found}
    return [_module(look, names, address, record) for address, record in found]


def _module(look: Reading, names: dict[int, str], address: int, record: SimpleNamespace) -> Module:
    users = _users(look, names, address) if "users" in look.layout("module", {}).has else ()
    count = int.from_bytes(record.references, "little") if isinstance(record.references, bytes) else record.references
    return Module(
        name=names[address],
        size=record.size if record.size is not None else _size(look, address),
        references=max((count or 1) - 1, 0),
        used_by=users,
        state=STATES[record.state] if (record.state or 0) < len(STATES) else "?",
        base=record.base,
        taints=record.taints or 0,
        version=(look.text(record.version, 64) or "") if record.version else "",
        address=address,
    )


def _size(look: Reading, address: int) -> int:
    """Return the sum of a module's parts, as kernels from 6.4 on have them."""
    count = look.member("module", "mem").count or 0
    step = (look.size("module", "mem") or 0) // max(count, 1)
    first = address + look.offset("module", "mem[0].size")
    return sum(look.word(first + i * step, 4) or 0 for i in range(min(count, 16)))


def _users(look: Reading, names: dict[int, str], address: int) -> tuple[str, ...]:
    use = look.layout("module_use", {"next": "source_list.next", "source": "source"}, "next source")
    head = address + look.offset("module", "source_list")
    return tuple(names.get(record.source, "?") for _, record in look.chain(use, head))
