"""One Debian for all that looks at a live one: booted once in the lane, and held between the tests."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.amdv.test_debian_kernel import BUSYBOX, KERNEL, cpio

import belljar as bj

MODULES = Path("/lab/debian/modules")

INIT = b"""#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs -o nosuid,noexec sys /sys
/bin/busybox --install -s /bin
export PATH=/bin
ifconfig lo 127.0.0.1 up
MARK=here sleep 100000 &
httpd -p 8080 -h /
nc -l -p 9999 </dev/zero >/dev/null &
sleep 99999 | nc -l -p 7777 >/dev/null &
sleep 1
sleep 99998 | nc 127.0.0.1 7777 >/dev/null &
insmod /virtio_ring.ko
insmod /virtio.ko
syslogd -L -R 127.0.0.1:5140
logger hello
mount -t tmpfs none /tmp
echo text > /tmp/open; exec 7</tmp/open; rm /tmp/open
exec setsid cttyhack sh
"""


def _initrd() -> bytes:
    folder, program = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755
    entries = dict.fromkeys(("bin", "dev", "proc", "sys", "tmp"), (folder, b""))
    modules = {name: (stat.S_IFREG | 0o644, (MODULES / name).read_bytes()) for name in ("virtio_ring.ko", "virtio.ko")}
    return cpio({**entries, **modules, "bin/busybox": (program, BUSYBOX.read_bytes()), "init": (program, INIT)})


@pytest.fixture(scope="session")
def shell() -> Iterator[bj.VM]:
    """Boot it with two vCPUs to its shell, and pause it: who resumes it pauses it again."""
    if not KERNEL.exists():
        pytest.skip("the lane brings Debian's kernel along; here is none")
    with bj.boot.linux(KERNEL, initrd=_initrd(), memory="192M", cmdline="quiet", vcpus=2) as vm:
        vm.start()
        vm.console.read_until("# ", timeout=500)
        vm.pause()
        yield vm
