"""gdb on Debian's live kernel with two vCPUs: names with no vmlinux, breakpoints, steps; and the guest goes on."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest
from tests.amdv.test_debian_kernel import KERNEL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import belljar as bj

PATIENCE = 400

pytestmark = [
    pytest.mark.skipif(not KERNEL.exists(), reason="the lane brings Debian's kernel along; here is none"),
    pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed (apt install gdb)"),
    pytest.mark.timeout(900),
]

READER = "while :; do read -r line < /proc/uptime; done &\n"
"""Opens a file again and again."""


@pytest.fixture
def busy(shell: bj.VM) -> Iterator[bj.VM]:
    """Have a process open files while the test is on; the shell answers afterwards, and is paused."""
    if shell.state == "paused":
        shell.resume()
    shell.console.send(READER)
    shell.console.read_until("# ", timeout=300)
    yield shell
    shell.console.send("kill $!; wait $!; echo al''ive\n")
    assert "alive" in shell.console.read_until("alive", timeout=300)
    shell.console.read_until("# ", timeout=300)
    shell.pause()


@pytest.fixture(scope="module")
def names(shell: bj.VM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the kernel's symbols into a file for gdb."""
    return shell.linux.symbol_file(tmp_path_factory.mktemp("gdb") / "kernel.elf")


def gdb(server: bj.GdbServer, *commands: str, file: Path | None = None) -> str:
    """Run gdb with these commands, and return all that it said."""
    lines = ["set confirm off", "set pagination off", "set tcp connect-timeout 60", "set remotetimeout 60"]
    lines += [f"target remote {server.address}", *commands]
    words = ["gdb", "-nx", "-q", "-batch", *(word for line in lines for word in ("-ex", line))]
    words += [str(file)] if file else []
    with tempfile.TemporaryFile("w+") as said:
        try:
            subprocess.run(
                words, stdout=said, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=PATIENCE, check=True
            )
        finally:  # what it had said is what matters when it took too long
            said.seek(0)
            text = said.read()
            print(text)
    return text


def test_a_kernel_function_is_broken_into_by_name_with_no_vmlinux(busy: bj.VM, names: Path) -> None:
    at = busy.linux.symbols["do_sys_openat2"]
    with busy.gdbserver() as server:
        said = gdb(
            server,
            "info threads",
            "x/2i $pc",
            "monitor kaslr",
            f"monitor symbol {at + 4:#x}",
            "break *do_sys_openat2",
            "continue",
            "x/i $pc",
            "p/x $rsi",
            "x/s $rsi",
            "bt",
            "stepi",
            "stepi",
            "p/x *(unsigned char *) do_sys_openat2",
            "continue",
            "info breakpoints",
            "delete",
            "finish",
            "p $pc",
            "detach",
            file=names,
        )
    assert re.search(r"Thread 1\.1 \(vCPU 0\)", said) and re.search(r"Thread 1\.2 \(vCPU 1\)", said), said
    assert f"moved by {busy.linux.slide:#x}" in said
    assert f"{at + 4:#x} is do_sys_openat2+0x4" in said
    assert said.count("hit Breakpoint 1, 0x") >= 2, said
    assert re.search(rf"^=> {at:#x} <do_sys_openat2>:", said, re.MULTILINE), said
    assert '"/proc/uptime"' in said, said
    callers = re.findall(r"^#\d+ +0x\w+ in (\w+) \(\)", said, re.MULTILINE)
    assert {"__x64_sys_openat", "do_syscall_64"} <= set(callers), said
    (after,) = re.findall(r"= \(void \(\*\)\(\)\) 0x\w+ <(\w+)\+\d+>", said)
    assert after in callers, said
    assert "= 0xcc" not in said
    assert "already hit" in said


def test_a_breakpoint_by_address_alone_and_one_of_the_processors(busy: bj.VM) -> None:
    at = busy.linux.symbols["vfs_read"]
    with busy.gdbserver() as server:
        said = gdb(server, f"hbreak *{at:#x}", "continue", "p/x $pc", "stepi", "p/x $pc", "delete", "detach")
    first, second = re.findall(r"\$\d = (0x\w+)", said)
    assert int(first, 16) == at
    assert second != first  # the next instruction, or the first one of an interrupt


def test_a_variable_of_the_kernel_is_watched(busy: bj.VM, names: Path) -> None:
    with busy.gdbserver() as server:
        said = gdb(server, "watch *(long *) &jiffies_64", "continue", "delete", "detach", file=names)
    old, new = (int(re.search(rf"{word} value = (\d+)", said)[1]) for word in ("Old", "New"))
    assert new > old
