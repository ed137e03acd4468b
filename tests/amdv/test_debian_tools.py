"""drgn, Volatility and dumps on Debian's stock cloud kernel, live: no debug package, no profile, nothing but the guest.

The lane brings the kernel along; elsewhere there is none, and the tests say so.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.amdv.test_debian_kernel import BUSYBOX, KERNEL, cpio

import belljar as bj

pytestmark = [
    pytest.mark.skipif(not KERNEL.exists(), reason="the lane brings Debian's kernel along; here is none"),
    pytest.mark.timeout(600),
]

INIT = b"""#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox sleep 99999 &
exec /bin/busybox setsid /bin/busybox cttyhack /bin/busybox sh
"""


@pytest.fixture(scope="module")
def debian() -> Iterator[bj.VM]:
    """Boot it to its shell, and hold it there."""
    folder, program = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755
    entries = dict.fromkeys(("bin", "dev", "proc"), (folder, b""))
    initrd = cpio({**entries, "bin/busybox": (program, BUSYBOX.read_bytes()), "init": (program, INIT)})
    with bj.boot.linux(KERNEL, initrd=initrd, memory="192M", cmdline="quiet", vcpus=2) as vm:
        vm.start()
        vm.console.read_until("# ", timeout=170)
        vm.console.send("cut -d' ' -f1 /proc/uptime; ls /proc | grep -c '^[0-9]'\n")
        vm.console.read_until("# ", timeout=30)
        vm.pause()
        yield vm


def test_drgn_attaches_in_a_line_and_lists_the_tasks(debian: bj.VM) -> None:
    pytest.importorskip("drgn")
    from drgn.helpers.linux.fs import for_each_mount, mount_dst
    from drgn.helpers.linux.mm import cmdline
    from drgn.helpers.linux.pid import find_task, for_each_task

    prog = debian.drgn()
    assert prog["init_task"].comm.string_() == b"swapper/0"
    tasks = {task.pid.value_(): task for task in for_each_task(prog)}
    assert tasks[2].comm.string_() == b"kthreadd" and len(tasks) > 30
    assert find_task(prog, 1).value_() == tasks[1].value_()
    lines = [cmdline(task) or [] for task in tasks.values()]  # None for a kernel thread
    assert [b"/bin/busybox", b"sleep", b"99999"] in lines
    assert {b"/", b"/dev", b"/proc"} <= {mount_dst(mount) for mount in for_each_mount(prog)}


def test_drgn_sees_the_guest_move_while_it_runs(debian: bj.VM) -> None:
    pytest.importorskip("drgn")
    prog = debian.drgn()
    before = prog["jiffies"].value_()
    debian.resume()
    deadline = time.monotonic() + 30
    while prog["jiffies"].value_() == before and time.monotonic() < deadline:
        time.sleep(0.1)
    debian.pause()
    assert prog["jiffies"].value_() > before


def test_a_dump_is_opened_by_drgn_itself_and_by_belljar(debian: bj.VM, tmp_path: Path) -> None:
    drgn = pytest.importorskip("drgn")
    begun = time.monotonic()
    debian.dump(tmp_path / "debian.core")
    print(f"dump: {192 / (time.monotonic() - begun):.0f} MiB/s")
    prog = drgn.Program()
    prog.set_core_dump(tmp_path / "debian.core")
    info = debian.vmcoreinfo
    assert info is not None and prog["UTS_RELEASE"].string_().decode() == info.release
    with bj.open_dump(tmp_path / "debian.core") as dump:
        assert [cpu.state() for cpu in dump.cpus] == [cpu.state() for cpu in debian.cpus]
        assert dump.memory.compare(0, debian.memory.read(0, 192 << 20)) is None
        assert dump.drgn()["init_task"].comm.string_() == b"swapper/0"
        assert dump.vmcoreinfo == info


@pytest.mark.filterwarnings("ignore")
def test_volatility_lists_the_processes_without_a_symbol_file(debian: bj.VM) -> None:
    pytest.importorskip("volatility3")
    rows = debian.volatility().run("linux.pslist.PsList")
    assert [row["PID"] for row in rows][:2] == [1, 2] and rows[1]["COMM"] == "kthreadd" and len(rows) > 30
