"""drgn, Volatility and dumps on Debian's stock cloud kernel, live: no debug package, no profile, nothing but the guest.

The lane brings the kernel along; elsewhere there is none, and the tests say so.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from tests.amdv.test_debian_kernel import KERNEL

import belljar as bj

pytestmark = [
    pytest.mark.skipif(not KERNEL.exists(), reason="the lane brings Debian's kernel along; here is none"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def prog(shell: bj.VM) -> Any:
    """Attach drgn to it, once: reading its types takes longest."""
    pytest.importorskip("drgn")
    return shell.drgn()


def test_drgn_attaches_in_a_line_and_lists_the_tasks(prog: Any) -> None:
    from drgn.helpers.linux.fs import for_each_mount, mount_dst
    from drgn.helpers.linux.mm import cmdline
    from drgn.helpers.linux.pid import find_task, for_each_task

    assert prog["init_task"].comm.string_() == b"swapper/0"
    tasks = {task.pid.value_(): task for task in for_each_task(prog)}
    assert tasks[2].comm.string_() == b"kthreadd" and len(tasks) > 30
    assert find_task(prog, 1).value_() == tasks[1].value_()
    lines = [cmdline(task) or [] for task in tasks.values()]  # None for a kernel thread
    assert [b"sleep", b"100000"] in lines
    assert {b"/", b"/dev", b"/proc"} <= {mount_dst(mount) for mount in for_each_mount(prog)}


def test_drgn_unwinds_the_stacks_of_tasks_and_vcpus_with_no_debug_package(shell: bj.VM, prog: Any) -> None:
    from drgn.helpers.linux.pid import find_task

    names = [frame.name for frame in prog.stack_trace(find_task(prog, 2))]
    assert names[:2] == ["__schedule", "schedule"] and {"kthreadd", "ret_from_fork"} <= set(names)
    for cpu, vcpu in enumerate(shell.cpus):
        if vcpu.cpl == 0:
            top = prog.stack_trace(bj.drgn_registers(prog, cpu))[0]
            assert top.pc == vcpu.regs.rip and top.name == shell.linux.symbols.lookup(vcpu.regs.rip)[0]
    assert prog.read(shell.linux.symbols["linux_banner"], 14) == b"Linux version "
    at = shell.linux.symbols["init_task"]
    assert prog.symbol("init_task").address == at
    assert prog.symbol(at + 8).name == "init_task"


def test_drgn_sees_the_guest_move_while_it_runs(shell: bj.VM, prog: Any) -> None:
    before = prog["jiffies"].value_()
    shell.resume()
    deadline = time.monotonic() + 30
    while prog["jiffies"].value_() == before and time.monotonic() < deadline:
        time.sleep(0.1)
    shell.pause()
    assert prog["jiffies"].value_() > before


@pytest.fixture(scope="module")
def core(shell: bj.VM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dump it, and say how fast."""
    path = tmp_path_factory.mktemp("dump") / "debian.core"
    begun = time.monotonic()
    shell.dump(path)
    print(f"dump: {192 / (time.monotonic() - begun):.0f} MiB/s")
    return path


def test_a_dump_has_every_byte_and_register_and_the_same_linux(shell: bj.VM, core: Path) -> None:
    with bj.open_dump(core) as dump:
        assert [cpu.state() for cpu in dump.cpus] == [cpu.state() for cpu in shell.cpus]
        assert dump.memory.compare(0, shell.memory.read(0, 192 << 20)) is None
        assert dump.vmcoreinfo == shell.vmcoreinfo
        assert list(dump.linux.tasks(threads=True)) == list(shell.linux.tasks(threads=True))
        assert dump.linux.dmesg()[-1].text == shell.linux.dmesg()[-1].text


def test_a_dump_is_opened_by_drgn_itself_and_by_belljars(shell: bj.VM, core: Path) -> None:
    drgn = pytest.importorskip("drgn")
    prog = drgn.Program()
    prog.set_core_dump(core)
    assert prog["UTS_RELEASE"].string_().decode() == shell.linux.version.release
    with bj.open_dump(core) as dump:
        prog = dump.drgn()
        assert prog["init_task"].comm.string_() == b"swapper/0"
        assert len(prog.stack_trace(bj.drgn_registers(prog, 0))) > 0


def test_a_dump_is_opened_by_gdb_with_the_guests_own_symbols(shell: bj.VM, core: Path, tmp_path: Path) -> None:
    if shutil.which("gdb") is None:
        pytest.skip("gdb is not installed (apt install gdb)")
    symbols, rip = shell.linux.symbol_file(tmp_path / "kernel.elf"), shell.cpu.regs.rip
    asked = ["info threads", "p/x $rip", "info line schedule", "x/s &linux_banner", "x/8xb schedule"]
    words = [word for line in asked for word in ("-ex", line)]
    command = ["gdb", "-nx", "-q", "-batch", *words, symbols, core]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said, code = done.stdout, bytes(shell.linux.memory.read(shell.linux.symbols["schedule"], 8))
    assert "LWP 1" in said and "LWP 2" in said, done
    assert f"= {rip:#x}" in said, said
    assert "Linux version 6." in said, said
    assert "\t".join(f"0x{byte:02x}" for byte in code) in said, said


@pytest.mark.filterwarnings("ignore")
def test_volatility_lists_the_processes_without_a_symbol_file(shell: bj.VM) -> None:
    pytest.importorskip("volatility3")
    rows = shell.volatility().run("linux.pslist.PsList")
    assert [row["PID"] for row in rows][:2] == [1, 2] and rows[1]["COMM"] == "kthreadd" and len(rows) > 30


@pytest.mark.filterwarnings("ignore")
def test_volatilitys_plugins_find_the_variables_that_they_ask_for(shell: bj.VM) -> None:
    pytest.importorskip("volatility3")
    session = shell.volatility()
    assert {row["Interface"] for row in session.run("linux.ip.Addr")} <= {"lo", "eth0"}
    assert len(session.run("linux.boottime.Boottime")) == 1
    threads = session.run("linux.kthreads.Kthreads")
    assert len(threads) > 20 and all(row["Module"] == "__kernel__" and row["Symbol"] for row in threads)
    gates = {row["Index"]: row["Symbol"] for row in session.run("linux.malware.check_idt.Check_idt")}
    assert gates[14] == "asm_exc_page_fault"
    assert session.run("linux.malware.hidden_modules.Hidden_modules") == []
    assert len(session.run("linux.psscan.PsScan")) > 30 and session.run("linux.pscallstack.PsCallStack")
