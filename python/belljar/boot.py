"""Whole guests in one call: a machine with the devices that a kernel expects, and the kernel in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from belljar._belljar import VM
from belljar.host import host

LINUX_CMDLINE = "console=ttyS0 panic=-1 reboot=k"
"""What a Linux guest is always told: its console, and to reset when it has ended."""

REPAIRED_CMDLINE = "lpj=1000000 tsc=reliable noxsave clearcpuid=308,151,297,580 random.trust_cpu=1 quiet rodata=off"
"""What a Linux guest is told besides where KVM interprets ring 0: what not to use, since it cannot be hidden there."""


def linux_cmdline(extra: str = "") -> str:
    """Return the command line for a Linux guest on this host, with ``extra`` at its end."""
    interpreted = host.quirks is not None and not host.quirks.ring0_is_native
    parts = [LINUX_CMDLINE, REPAIRED_CMDLINE if interpreted else "", extra]
    return " ".join(part for part in parts if part)


def cmdline_for(image: str | os.PathLike[str], extra: str = "") -> str:
    """Return the command line for the kernel in the file ``image``: what Linux needs if it is one, and ``extra``."""
    with open(image, "rb") as file:
        content = file.read()
    is_linux = content[0x202:0x206] == b"HdrS" or b"Linux version " in content
    return linux_cmdline(extra) if is_linux else extra


def initrd(files: Mapping[str, bytes | str | os.PathLike[str] | None]) -> bytes:
    r"""Pack ``files`` as an initial RAM disk: bytes, or the path of a file to take, by name; None makes a folder.

    The folders on the way to each are made. A script ("#!") or a program among the bytes is executable; a file that is
    taken keeps its mode, and a text is the path of one. Linux starts "init". ValueError for names that lead out of the
    disk. (The format is "newc" of the kernel's documentation, driver-api/early-userspace/buffer-format.)

    >>> import belljar as bj
    >>> bj.boot.initrd({"bin/busybox": "/bin/busybox", "init": b"#!/bin/busybox sh\n", "proc": None})  # doctest: +SKIP
    """
    packed: dict[str, tuple[int, bytes]] = {}
    for name, content in files.items():
        path = PurePosixPath(name.lstrip("/"))
        if not path.parts or ".." in path.parts:
            raise ValueError(f"{name!r} is no name of a file in an initial RAM disk")
        for folder in reversed(path.parents[:-1]):
            packed.setdefault(str(folder), (stat.S_IFDIR | 0o755, b""))
        packed[str(path)] = _packed(content)
    return _cpio(packed)


def _packed(content: bytes | str | os.PathLike[str] | None) -> tuple[int, bytes]:
    """Return mode and content of a file."""
    if content is None:
        return stat.S_IFDIR | 0o755, b""
    if isinstance(content, bytes):
        return stat.S_IFREG | (0o755 if content.startswith((b"#!", b"\x7fELF")) else 0o644), content
    return stat.S_IFREG | stat.S_IMODE(Path(content).stat().st_mode), Path(content).read_bytes()


def _cpio(files: Mapping[str, tuple[int, bytes]]) -> bytes:
    archive = bytearray()
    for number, (name, (mode, content)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))]):
        path = name.encode()
        fields = [number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path) + 1, 0]
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + path + b"\0"
        archive += b"\0" * (-len(archive) % 4) + content
        archive += b"\0" * (-len(archive) % 4)
    return bytes(archive)


def linux(
    kernel: str | os.PathLike[str] | bytes,
    *,
    initrd: str | os.PathLike[str] | bytes | None = None,
    cmdline: str = "",
    memory: str | int = "64M",
    vcpus: int = 1,
    irqchip: str = "full",
) -> VM:
    """Make a VM with a Linux kernel (bzImage or vmlinux) loaded, ready to ``start()``; its console is ``vm.console``.

    ``cmdline`` is added to what this host's KVM makes necessary (:func:`linux_cmdline`). The machine is that of
    :func:`machine`, described by an MP table and ACPI tables. Raises ImageError for a file that is no kernel, is
    damaged, or does not fit.
    """
    vm = machine(memory=memory, vcpus=vcpus, irqchip=irqchip)
    try:
        vm.boot(kernel, initrd=initrd, cmdline=linux_cmdline(cmdline))
    except BaseException:
        vm.close()
        raise
    return vm


def machine(*, memory: str | int = "64M", vcpus: int = 1, irqchip: str = "full") -> VM:
    """Make an empty VM with the devices that a kernel expects of a PC; load one with ``vm.boot(image)``.

    A 16550 at port 0x3f8, the keyboard controller's reset line at 0x64; in the kernel PIC, I/O APIC, local APICs and
    the i8254 timer. With ``irqchip="split"``, local APICs in the kernel and the I/O APIC here, without PIC and timer:
    for guests that read ACPI tables and need neither (newer kernels have the timer only beside the PIC).
    """
    return VM(memory, vcpus, irqchip=irqchip, serial=True, i8042=True, pit=irqchip == "full")
