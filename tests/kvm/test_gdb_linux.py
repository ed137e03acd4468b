"""gdb on a live Linux with no vmlinux: names come from a file that the guest's own symbols were written into."""

import re
import shutil
import subprocess

import pytest

import belljar as bj

pytestmark = [
    pytest.mark.linux,
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed (apt install gdb)"),
]


def test_a_function_is_broken_into_by_the_guests_own_symbols_and_the_guest_goes_on(linux, tmp_path):
    with bj.boot.linux(linux / "vmlinux", initrd=linux / "initrd.cpio") as vm:
        vm.start()
        vm.console.read_until("belljar# ", timeout=250)
        vm.pause()
        names, at = vm.linux.symbol_file(tmp_path / "kernel.elf"), vm.linux.symbols["vfs_read"]
        vm.resume()
        vm.console.send("while :; do cat /proc/uptime >/dev/null; done &\n")
        with vm.gdbserver() as server:
            lines = ["set confirm off", f"target remote {server.address}", "monitor kaslr"]
            lines += [f"monitor symbol {at + 4:#x}", "monitor symbol vfs_read", "monitor symbol no_such_thing"]
            lines += ["break *vfs_read", "continue", "x/i $pc", "bt 2", "delete", "detach"]
            words = ["gdb", "-nx", "-q", "-batch", *(word for line in lines for word in ("-ex", line)), names]
            out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            said = subprocess.run(words, **out, text=True, timeout=100, check=True).stdout
        vm.console.send("kill $!; echo al''ive\n")
        vm.console.read_until("alive", timeout=60)
    assert "-belljar at 0xffffffff8" in said
    assert f"{at + 4:#x} is vfs_read+0x4" in said and f"vfs_read is at {at:#x}" in said
    assert "no symbol no_such_thing" in said
    assert re.search(rf"^=> {at:#x} <vfs_read>:", said, re.MULTILINE), said
    assert re.search(r"^#1 +0x\w+ in \w+ \(\)", said, re.MULTILINE), said
