"""Volatility 3 on a guest: `vm.volatility()`, a layer that reads guest memory, and locations that begin with belljar://.

Importing this module has Volatility know the scheme. Of a Linux guest the symbol table is made of what the guest itself
carries, so that none has to be found. It never writes to the guest.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import itertools
import shutil
import tempfile
import urllib.request
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from belljar import _belljar
from belljar.btf_types import LARGEST, Types
from belljar.errors import GuestMemoryError, HostError
from belljar.isf import Table
from belljar.kallsyms import markers

try:
    from volatility3 import framework, plugins
    from volatility3.framework import contexts, exceptions, interfaces
    from volatility3.framework.configuration import requirements
    from volatility3.framework.layers import intel, resources
    from volatility3.framework.symbols import linux, metadata
    from volatility3.framework.symbols.linux import network
except ImportError:
    raise HostError("volatility3 is not installed", "pip install volatility3, or belljar[forensics]") from None

if TYPE_CHECKING:
    from belljar._belljar import VM, Memory
    from belljar.dump import Dump

SCHEME = "belljar"
PRIMARY, PHYSICAL, KERNEL = "primary", "memory_layer", "kernel"
_guests: weakref.WeakValueDictionary[str, Session] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)


class GuestFile(io.RawIOBase):
    """A guest's physical memory as a file: byte n is at guest-physical address n, and zero where no memory is."""

    def __init__(self, memory: Memory) -> None:
        """Read `memory`."""
        super().__init__()
        self._memory = memory
        self._at = 0
        self._end = max((region.end for region in memory.regions), default=0)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the address that is read next."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an address."""
        self._at = max(offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence], 0)
        return self._at

    def readinto(self, into: Any) -> int:
        """Fill `into` as far as memory goes."""
        size = max(min(len(into), self._end - self._at), 0)
        into[:size] = _padded(self._memory, self._at, size)
        self._at += size
        return size


def _padded(memory: Memory, at: int, size: int) -> bytes:
    """Return what is at `at`, with zeroes where no memory is."""
    try:
        return memory.read(at, size)
    except GuestMemoryError:
        data = bytearray(size)
    for region in memory.regions:
        start, end = max(region.start, at), min(region.end, at + size)
        if start < end:
            data[start - at : end - at] = memory.read(start, end - start)
    return bytes(data)


class GuestLayer(interfaces.layers.DataLayerInterface):  # type: ignore[misc]
    """A layer of Volatility's that reads a guest's physical memory, as it is at each moment."""

    def __init__(
        self, context: Any, config_path: str, name: str, memory: Memory | None = None, metadata: Any = None
    ) -> None:
        """Read `memory`; by default that of the session whose location the configuration names."""
        super().__init__(context, config_path, name, metadata)
        self._memory = _guests[self.config["location"]].guest.memory if memory is None else memory

    @property
    def maximum_address(self) -> int:
        """The last address of memory."""
        return max((region.end for region in self._memory.regions), default=1) - 1

    @property
    def minimum_address(self) -> int:
        """The first address."""
        return min((region.start for region in self._memory.regions), default=0)

    def is_valid(self, offset: int, length: int = 1) -> bool:
        """Tell whether all of it is memory."""
        at, end = offset, offset + length
        for region in self._memory.regions:
            if region.start <= at < region.end:
                at = region.end
        return at >= end

    def read(self, offset: int, length: int, pad: bool = False) -> bytes:
        """Return guest-physical memory; with `pad`, zeroes where there is none."""
        if pad:
            return _padded(self._memory, offset, length)
        try:
            return self._memory.read(offset, length)
        except GuestMemoryError as error:
            raise exceptions.InvalidAddressException(self.name, offset, str(error)) from None

    def write(self, offset: int, data: bytes) -> None:
        """Refuse: it is looked at, not changed."""
        raise NotImplementedError("a guest is not written to by way of Volatility: use vm.memory.write")

    @classmethod
    def get_requirements(cls) -> list[Any]:
        """Say what the configuration has to have."""
        return [requirements.StringRequirement(name="location", description="belljar://NUMBER of a session")]


class FiveLevels(intel.LinuxIntel32e):  # type: ignore[misc]
    """Page tables of five levels, for kernels that run with them (Intel SDM vol. 3, 4.5)."""

    _maxvirtaddr = 57
    _structure = (("page map layer 5", 9, False), *intel.Intel32e._structure)  # noqa: SLF001 # meant for subclasses


class Kernel(linux.LinuxKernelIntermedSymbols):  # type: ignore[misc]
    """The kernel's symbol table, with all that plugins expect of one."""

    @classmethod
    def of(cls, context: Any, file: Path, layer: Any) -> Kernel:
        """Return the table in `file`, for the kernel that `layer` shows."""
        # Not held against the schema: that takes minutes, where jsonschema is installed.
        where, mask = file.as_uri(), layer.address_mask
        context.config["symbols.symbol_mask"] = mask  # before the table is made, which takes what is there
        made = cls(context, "symbols", name="linux", isf_url=where, validate=False, symbol_mask=mask)
        network.NetSymbols.apply(made)  # linux.ip leaves that to plugins that have run before
        return made

    @property
    def producer(self) -> Any:
        """Whose table it is like: some plugins refuse any that dwarf2json has not made, whatever is in it."""
        return metadata.ProducerMetadata({"name": "dwarf2json", "version": "0.9.0"})


class BelljarHandler(resources.VolatilityHandler):  # type: ignore[misc]
    """Has Volatility open belljar://NUMBER, a session's location, wherever it takes one."""

    @classmethod
    def non_cached_schemes(cls) -> list[str]:
        """Say that a guest's memory is never copied into the cache."""
        return [SCHEME]

    @staticmethod
    def default_open(request: urllib.request.Request) -> IO[bytes] | None:
        """Open a session's memory; None for another scheme's."""
        if request.type != SCHEME:
            return None
        session = _guests.get(request.full_url.rstrip("/"))
        if session is None:
            raise ValueError(f"{request.full_url} is no session: it lives as long as what vm.volatility() returned")
        return io.BufferedReader(GuestFile(session.guest.memory), 1 << 16)


class Session:
    """Volatility 3 on one guest: ``run("linux.pslist.PsList")`` returns rows, ``context`` is Volatility's own.

    Files that a plugin writes (``dump=True``, linux.pagecache.RecoverFs) go into the folder ``output``, once it is set.

    ``location`` ("belljar://1") opens the memory in Volatility's own programs, while this lives. The symbol table of a
    Linux guest is made when a plugin first needs it, in some seconds. ``isf(path)`` stores it for others.
    """

    def __init__(self, guest: VM | Dump) -> None:
        """Look at `guest`."""
        framework.require_interface_version(2, 0, 0)
        framework.import_files(plugins, ignore_errors=True)
        self.guest = guest
        self.location = f"{SCHEME}://{next(_numbers)}"
        self.context = contexts.Context()
        _guests[self.location] = self
        self.context.config[f"{PHYSICAL}.location"] = self.location
        self.context.add_layer(GuestLayer(self.context, PHYSICAL, PHYSICAL, guest.memory))
        self.output: str | Path | None = None
        self.files: list[Path] = []
        """What plugins have written, the newest last."""
        self.partial: list[dict[str, Any]] = []
        """The rows that came before the plugin that ran last has failed."""

    def isf(self, path: str | Path | None = None) -> bytes:
        """Return the symbol table of the Linux guest, as Volatility reads it (JSON), and write it to `path`.

        KernelError where no Linux with symbols is found, ImageError where it has no types (BTF).
        """
        kernel = _belljar.find_kernel(self.guest.memory, [cpu.cr3 for cpu in self.guest.cpus])
        told = {key[7:-1]: value for key, value in kernel.vmcoreinfo.items() if key.startswith("SYMBOL(kallsyms")}
        symbols = {**{name: int(at, 16) for name, at in told.items()}, **dict(kernel.symbols.items())}
        if (at := markers(self.guest.virtual(kernel.cr3), symbols)) is not None:
            symbols.setdefault("kallsyms_markers", at)
        start, stop = symbols.get("__start_BTF", 0), symbols.get("__stop_BTF", 0)
        memory = self.guest.virtual(kernel.cr3)
        if not 0 < stop - start <= LARGEST:
            raise HostError(
                "this kernel carries no types (BTF)", "boot one with CONFIG_DEBUG_INFO_BTF=y, or use an ISF file"
            )
        banner = cast("bytes", memory.read_cstring(symbols["linux_banner"])) + b"\0"
        table = Table(Types(memory.read(start, stop - start)), symbols.items(), banner, _belljar.__version__).to_bytes()
        if path is not None:
            Path(path).write_bytes(table)
        return table

    def _linux(self) -> None:
        """Put the kernel's layer, symbol table and module into the context."""
        if KERNEL in self.context.modules:
            return
        folder = tempfile.mkdtemp(prefix="belljar-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        file = Path(folder) / "kernel.json"
        self.isf(file)
        kernel = _belljar.find_kernel(self.guest.memory, [cpu.cr3 for cpu in self.guest.cpus])
        config = self.context.config
        config[f"{PRIMARY}.memory_layer"] = PHYSICAL
        config[f"{PRIMARY}.page_map_offset"] = kernel.cr3 & 0xF_FFFF_FFFF_F000
        config[f"{PRIMARY}.kernel_virtual_offset"] = 0
        config[f"{PRIMARY}.kernel_banner"] = kernel.banner
        kind = FiveLevels if kernel.levels == 5 else intel.LinuxIntel32e
        layer = kind(self.context, PRIMARY, PRIMARY, metadata={"os": "Linux"})
        self.context.add_layer(layer)
        self.context.symbol_space.append(Kernel.of(self.context, file, layer))
        contexts.Module.create(self.context, KERNEL, PRIMARY, 0, symbol_table_name="linux")

    @property
    def plugins(self) -> list[str]:
        """The names of the plugins that `run` takes, sorted."""
        return sorted(framework.list_plugins())

    def run(self, plugin: str | type[Any], **options: Any) -> list[dict[str, Any]]:
        """Run a plugin ("linux.pslist.PsList", or its class) and return its rows by column.

        `options` are the plugin's own, such as ``pid=[1]``. A tree's rows come one by one, with their depth as "depth".
        """
        grid = self.tree(plugin, **options)
        columns = [column.name for column in grid.columns]
        rows: list[dict[str, Any]] = []

        def visit(node: Any, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
            values = (None if isinstance(v, interfaces.renderers.BaseAbsentValue) else v for v in node.values)
            found.append({"depth": node.path_depth - 1, **dict(zip(columns, values, strict=True))})
            return found

        self.partial = []
        try:
            grid.populate(visit, rows)
        except Exception as error:
            self.partial = rows
            name = plugin if isinstance(plugin, str) else plugin.__name__
            error.add_note(f"{name} failed in Volatility after {len(rows)} rows, which are in session.partial")
            raise
        return rows

    def tree(self, plugin: str | type[Any], **options: Any) -> Any:
        """Run a plugin and return Volatility's own TreeGrid, for its renderers."""
        known = framework.list_plugins()
        if isinstance(plugin, str):
            if plugin not in known:
                near = [name for name in known if plugin.lower() in name.lower()]
                near = near or difflib.get_close_matches(plugin, known, 5, 0.5)
                like = ", ".join(near[:5]) if near else "what session.plugins lists"
                raise ValueError(f"Volatility has no plugin {plugin!r}; there is {like}")
            plugin = known[plugin]
        assert not isinstance(plugin, str)
        path = interfaces.configuration.path_join("plugins", plugin.__name__)
        self._satisfy(plugin, path, options)
        missing = plugin.unsatisfied(self.context, path)
        if missing:
            wanted = ", ".join(f"{one.rpartition('.')[2]}=" for one in sorted(missing))
            raise ValueError(f"{plugin.__name__} also needs {wanted} as in session.run(..., {wanted}...)")
        made = plugin(self.context, path)
        made.set_open_method(_opener(self))
        return made.run()

    def _satisfy(self, plugin: type[Any], path: str, options: dict[str, Any]) -> None:
        """Write into the configuration what the plugin asks for."""
        config = self.context.config
        for requirement in plugin.get_requirements():
            key = f"{path}.{requirement.name}"
            if requirement.name in options:
                config[key] = options[requirement.name]
            elif isinstance(requirement, requirements.ModuleRequirement):
                self._linux()
                config[key] = KERNEL
            elif isinstance(requirement, requirements.TranslationLayerRequirement):
                kernel = self._has_kernel(requirement)
                config[key] = PRIMARY if kernel else PHYSICAL
            elif isinstance(requirement, requirements.SymbolTableRequirement):
                self._linux()
                config[key] = "linux"
        unknown = set(options) - {requirement.name for requirement in plugin.get_requirements()}
        if unknown:
            raise ValueError(f"{plugin.__name__} has no option {', '.join(sorted(unknown))}")

    def _has_kernel(self, requirement: Any) -> bool:
        """Tell whether a layer is to be the kernel's: where it may be plain memory, it is."""
        if requirement.name == "primary" and "Intel32" not in str(requirement.architectures):
            return False
        self._linux()
        return True

    def __repr__(self) -> str:
        """Show the location."""
        return f"<Volatility on {self.guest!r} at {self.location}>"


def _opener(session: Session) -> type[Any]:
    """Return what plugins open files with, to write into the session's folder."""

    class PluginFile(io.BytesIO, interfaces.plugins.FileHandlerInterface):  # type: ignore[misc]
        """A file that is written when it is closed, under a name that no file has yet."""

        def __init__(self, filename: str) -> None:
            if session.output is None:
                raise HostError(f"the plugin writes a file, {filename}", 'say where: session.output = "folder"')
            io.BytesIO.__init__(self)
            interfaces.plugins.FileHandlerInterface.__init__(self, filename)

        def close(self) -> None:
            """Write it."""
            if self.closed or session.output is None:
                return
            name = Path(self.sanitize_filename(self.preferred_filename))
            folder = Path(session.output)
            folder.mkdir(parents=True, exist_ok=True)
            for number in itertools.count():
                path = folder / (f"{name.stem}-{number}{name.suffix}" if number else name)
                with contextlib.suppress(FileExistsError), path.open("xb") as file:
                    file.write(self.getvalue())
                    session.files.append(path)
                    break
            super().close()

    return PluginFile


def known_plugins(part: str = "") -> Iterable[str]:
    """Return the names of Volatility's plugins that contain `part`."""
    framework.import_files(plugins, ignore_errors=True)
    return sorted(name for name in framework.list_plugins() if part in name)
