"""What is found out about a kernel once, and stays so while it runs: its place, its types, its map of all memory.

It never looks at what the kernel does, and never keeps a guest.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from belljar._belljar import Btf, Kernel, find_kernel
from belljar.errors import BelljarError, KernelError
from belljar.linux.reading import Layouts

if TYPE_CHECKING:
    from belljar.linux.calls import Prototypes

MOST_BTF = 64 << 20
DIRECT_MAP = {4: 0xFFFF_8880_0000_0000, 5: 0xFF11_0000_0000_0000}
"""Where all of memory is mapped, by levels of page tables, unless KASLR moves it (Documentation/x86/x86_64/mm.rst)."""


@dataclass
class Known:
    """What was found out about a kernel, and stays so while it runs. It refers to no guest, so that it keeps none."""

    kernel: Kernel
    layouts: Layouts = field(default_factory=Layouts)
    btf: Btf | None = None
    direct_map: int | None = None
    prototypes: Prototypes | None = None

    @cached_property
    def symbols(self) -> Any:
        """The kernel's symbols: one object for all who look."""
        return self.kernel.symbols


def find(guest: Any) -> Kernel:
    """Find the kernel in a guest's memory, which need not stand still. KernelError if there is none."""
    roots = []
    for cpu in guest.cpus:
        with suppress(BelljarError):
            roots.append(int(cpu.cr3))
    return find_kernel(guest.memory, roots)


def read_btf(symbols: Any, memory: Any) -> Btf:
    """Return the types of a kernel, from its memory. KernelError if it was built without them."""
    start, stop = symbols.get("__start_BTF"), symbols.get("__stop_BTF")
    if start is None or stop is None:
        raise KernelError(
            "this kernel carries no BTF (it was built without CONFIG_DEBUG_INFO_BTF), so nothing says what its "
            "structures look like. Its version and symbols are known; for more, open it with vm.drgn() and the "
            "kernel's debug information"
        )
    if not 0 < stop - start <= MOST_BTF:
        raise KernelError(f"the kernel's BTF would have {stop - start} bytes: its symbols are damaged", start)
    try:
        return Btf(memory.read(start, stop - start))
    except (BelljarError, ValueError) as error:
        raise KernelError(f"the kernel's BTF cannot be read: {error}", start) from error


def direct_map(kernel: Kernel, memory: Any) -> int:
    """Return the guest-virtual address at which a kernel maps guest-physical address 0."""
    at, usual = kernel.symbols.get("page_offset_base"), DIRECT_MAP[5 if kernel.levels == 5 else 4]
    return usual if at is None else int(memory.read_u64(at))
