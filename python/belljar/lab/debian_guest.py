"""Debian's stock kernel as a guest: the kernel that the lab itself runs, and a disk with busybox for it.

It owns the guest's first process. It never boots anything: `belljar.boot.linux` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from belljar.boot import initrd
from belljar.lab.packages import Packages

INSIDE = Path("/lab/debian")
"""Where the lab has them."""

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ PS1='# '
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
ifconfig lo 127.0.0.1 up
{commands}
exec setsid cttyhack sh
"""


class Debian(NamedTuple):
    """What `bj.boot.linux` takes: the kernel's file, and its initial RAM disk."""

    kernel: Path
    initrd: bytes


def debian(commands: str = "") -> Debian:
    """Return Debian's stock cloud kernel, and a disk whose first process starts a busybox shell on the console.

    ``commands`` are lines for the shell, run before: ``debian("httpd -p 8080; sleep 1000 &")``. The prompt is "# ".
    In the lab they are at hand; elsewhere Debian's packages are fetched, checked and kept in the cache, as for the lab
    (LabError if that fails). The kernel needs a KVM that runs ring 0 natively (``bj.host.quirks``) and some 192M.

    >>> kernel, initrd = debian()  # doctest: +SKIP
    >>> vm = bj.boot.linux(kernel, initrd=initrd, memory="192M")  # doctest: +SKIP
    """
    kernel, busybox = found()
    folders = dict.fromkeys(("dev", "proc", "sys", "tmp"))
    init = INIT.format(commands=commands).encode()
    return Debian(kernel, initrd({**folders, "bin/busybox": busybox, "init": init}))


def found() -> tuple[Path, Path]:
    """Return where the kernel and busybox are."""
    from belljar.lab.emulator import default_cache

    if (INSIDE / "vmlinuz").exists():
        return INSIDE / "vmlinuz", INSIDE / "busybox"
    cache = default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    parts = Packages(cache).parts()
    return parts.kernel, parts.busybox


def is_at_hand() -> bool:
    """Is this the lab, where the kernel is there and boots?"""
    return (INSIDE / "vmlinuz").exists()
