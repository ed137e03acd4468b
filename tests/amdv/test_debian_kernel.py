"""Debian's stock cloud kernel, booted by belljar on a stock KVM to its busybox shell and powered off by itself.

The lane brings the kernel along; elsewhere there is none, and the test says so.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

import belljar as bj

KERNEL = Path("/lab/debian/vmlinuz")
BUSYBOX = Path("/lab/debian/busybox")

INIT = b"""#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
exec /bin/busybox setsid /bin/busybox cttyhack /bin/busybox sh
"""


def cpio(files: dict[str, tuple[int, bytes]]) -> bytes:
    """Pack files (mode, content) as an initial RAM disk in the newc format (Linux, initramfs buffer format)."""
    archive = bytearray()
    for number, (name, (mode, content)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))]):
        fields = [number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        archive += b"\0" * (-len(archive) % 4) + content
        archive += b"\0" * (-len(archive) % 4)
    return bytes(archive)


def initrd() -> bytes:
    """Pack busybox, an init, and the folders that it mounts on."""
    folder, program = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755
    entries = dict.fromkeys(("bin", "dev", "proc"), (folder, b""))
    return cpio({**entries, "bin/busybox": (program, BUSYBOX.read_bytes()), "init": (program, INIT)})


@pytest.mark.skipif(not KERNEL.exists(), reason="the lane brings Debian's kernel along; here is none")
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("irqchip", "vcpus"), [("full", 1), ("split", 1), ("full", 2)])
def test_debians_own_kernel_boots_to_its_shell_and_powers_itself_off(irqchip: str, vcpus: int) -> None:
    with bj.boot.linux(KERNEL, initrd=initrd(), memory="192M", cmdline="quiet", vcpus=vcpus, irqchip=irqchip) as vm:
        vm.start()
        vm.console.read_until("# ", timeout=170)
        vm.console.send("echo $((6 * 7)) cpus=$(nproc); uname -r\n")
        answer = vm.console.read_until("# ", timeout=30)
        assert ["42", f"cpus={vcpus}"] == [word for word in answer.split() if word in {"42", f"cpus={vcpus}"}]
        assert os.uname().release in answer
        vm.console.send("/bin/busybox reboot -f\n")
        assert isinstance(vm.join(timeout=60), bj.Reset)
