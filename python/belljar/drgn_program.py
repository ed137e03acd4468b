"""drgn on a guest: `vm.drgn()` gives a drgn.Program that reads its memory, live or out of a dump.

Of a Linux guest it knows symbols (kallsyms) and types (BTF) by what the guest itself carries. It never writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from belljar import _belljar
from belljar.btf_types import LARGEST, Types
from belljar.errors import BelljarError, HostError
from belljar.vmcoreinfo import VmCoreInfo

if TYPE_CHECKING:
    import drgn

    from belljar._belljar import VM, Memory
    from belljar.dump import Dump

PAGE = 4096
PT_REGS = (
    *("r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di", "orig_ax"),
    *("ip", "cs", "flags", "sp", "ss"),
)
"""The members of Linux' struct pt_regs, in their order (arch/x86/include/asm/ptrace.h)."""


def program(guest: VM | Dump) -> drgn.Program:
    """Return a drgn.Program on `guest`; see VM.drgn. HostError where drgn is not installed."""
    try:
        import drgn
    except ImportError:
        raise HostError("drgn is not installed", "pip install drgn, or belljar[forensics]") from None
    info = guest.vmcoreinfo or _told(guest)
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    reader = Reader(guest.memory)
    for region in guest.memory.regions:
        prog.add_memory_segment(region.start, region.size, reader, physical=True)
    if info is None:
        _plain(prog, guest)
    else:
        _linux(prog, guest, info, reader)
    prog.cache["belljar"] = guest
    return prog


def _told(guest: VM | Dump) -> VmCoreInfo | None:
    """Return what drgn needs of a VMCOREINFO, for a kernel that was built without; None where no Linux runs."""
    try:
        kernel = _belljar.find_kernel(guest.memory, [cpu.cr3 for cpu in guest.cpus])
    except BelljarError:
        return None
    tables = kernel.symbols.get("init_top_pgt") or kernel.symbols.get("swapper_pg_dir") or 0
    lines = [
        f"OSRELEASE={kernel.release}",
        "PAGESIZE=4096",
        f"SYMBOL(swapper_pg_dir)={tables:x}",
        f"SYMBOL(_stext)={kernel.base:x}",
        f"KERNELOFFSET={kernel.slide:x}",
        f"NUMBER(phys_base)={kernel.phys_base - (1 << 64) if kernel.phys_base >> 63 else kernel.phys_base}",
        f"NUMBER(pgtable_l5_enabled)={int(kernel.levels == 5)}",
    ]
    return VmCoreInfo("\n".join(lines).encode()) if tables else None


class Reader:
    """What drgn reads physical memory by. With ``pages``, each page is read once: for tables that do not change."""

    def __init__(self, memory: Memory) -> None:
        """Read `memory`, as it is at each moment."""
        self._memory = memory
        self.pages: dict[int, bytes] | None = None

    def __call__(self, address: int, count: int, _offset: int, _physical: bool) -> bytes:
        """Return physical memory. drgn.FaultError where there is none."""
        import drgn

        at = address % PAGE
        try:
            if self.pages is None or at + count > PAGE:
                return self._memory.read(address, count)
            if address - at not in self.pages:
                self.pages[address - at] = self._memory.read(address - at, PAGE)
            return self.pages[address - at][at : at + count]
        except BelljarError as error:
            raise drgn.FaultError(str(error), address) from None


def _virtual(guest: VM | Dump) -> Any:
    import drgn

    def read(address: int, count: int, _offset: int, _physical: bool) -> bytes:
        try:
            return bytes(guest.cpus[0].virtual.read(address, count))
        except BelljarError as error:
            raise drgn.FaultError(str(error), address) from None

    return read


def _plain(prog: drgn.Program, guest: VM | Dump) -> None:
    """Have `prog` read virtual addresses as the first vCPU does, and know the symbols of the image that was booted."""
    if guest.cpus:
        prog.add_memory_segment(0, (1 << 64) - 1, _virtual(guest), physical=False)
    table = guest.symbols
    if len(table):
        _symbols(prog, [(name, at, table.size(name)) for name, at in table.items()])


def _symbols(prog: drgn.Program, symbols: list[tuple[str, int, int]]) -> None:
    import drgn

    kinds = drgn.SymbolBinding.GLOBAL, drgn.SymbolKind.UNKNOWN
    index = drgn.SymbolIndex([drgn.Symbol(name, at, max(size, 1), *kinds) for name, at, size in symbols])
    prog.register_symbol_finder("belljar", index, enable_index=0)


def _linux(prog: drgn.Program, guest: VM | Dump, info: VmCoreInfo, reader: Reader) -> None:
    """Have `prog` be a Linux kernel: its page tables, symbols and types."""
    from belljar.drgn_types import Finder

    prog.set_linux_kernel_custom(info.raw, is_live=not hasattr(guest, "info"))
    reader.pages = {}  # drgn reads the names letter by letter
    try:
        _kallsyms(prog, guest)
    finally:
        reader.pages = None
    _image(prog)

    def address(name: str) -> int | None:
        try:
            return int(prog.symbol(name).address)
        except LookupError:
            return None

    start, stop = address("__start_BTF"), address("__stop_BTF")
    if start is not None and stop is not None and 0 < stop - start <= LARGEST:
        Finder(prog, Types(prog.read(start, stop - start)), address).register()


def _image(prog: drgn.Program) -> None:
    """Have `prog` know where the kernel's image is: it then unwinds stacks by the ORC tables in the guest's memory."""
    try:
        first, end = (int(prog.symbol(name).address) for name in ("_text", "_end"))
    except LookupError:
        return
    prog.main_module("kernel", create=True).address_range = (first, end)


def drgn_registers(prog: drgn.Program, cpu: int = 0) -> drgn.Object:
    """Return the registers of a vCPU as drgn's ``struct pt_regs``: ``prog.stack_trace(bj.drgn_registers(prog, 0))``.

    They are of the moment of the call: pause the VM. `prog` is one that ``vm.drgn()`` or ``dump.drgn()`` has returned.
    """
    import drgn

    cpus = prog.cache["belljar"].cpus
    if not 0 <= cpu < len(cpus):
        raise ValueError(f"the guest has {len(cpus)} vCPUs, from 0 on; {cpu} is none")
    vcpu = cpus[cpu]
    other = {"cs": vcpu.cs.selector, "ss": vcpu.ss.selector, "orig_ax": (1 << 64) - 1}  # no system call
    words = {name: getattr(vcpu.regs, name if name[0] == "r" else f"r{name}") for name in PT_REGS if name not in other}
    try:
        kind = prog.type("struct pt_regs")
    except LookupError:
        word = prog.type("unsigned long")
        members = [drgn.TypeMember(word, name, bit_offset=64 * n) for n, name in enumerate(PT_REGS)]
        kind = prog.struct_type("pt_regs", 8 * len(PT_REGS), members)
    return drgn.Object(prog, kind, value={name: int(value) for name, value in (words | other).items()})


def _kallsyms(prog: drgn.Program, guest: VM | Dump) -> None:
    """Have `prog` know the kernel's symbols: by VMCOREINFO, which tells their place since Linux 6.0, or found."""
    import drgn
    from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms

    try:
        prog.register_symbol_finder("kallsyms", load_vmlinux_kallsyms(prog), enable_index=0)
    except (LookupError, ValueError, OSError, drgn.MissingDebugInfoError, drgn.FaultError):
        symbols = _belljar.find_kernel(guest.memory, [cpu.cr3 for cpu in guest.cpus]).symbols
        _symbols(prog, [(name, at, symbols.size(name)) for name, at in symbols.items()])
