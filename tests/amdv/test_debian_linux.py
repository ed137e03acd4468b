"""What vm.linux says of Debian's own kernel, beside what the guest's shell prints of it: on a stock KVM, in the lane.

The machine is asked once for all tests of this file, and paused while it is looked at.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from tests.amdv.test_debian_kernel import KERNEL

if TYPE_CHECKING:
    import belljar as bj

pytestmark = [
    pytest.mark.skipif(not KERNEL.exists(), reason="the lane brings Debian's kernel along; here is none"),
    pytest.mark.timeout(900),
]

QUESTIONS = {
    "uname": "uname -r",
    "tasks": 'for p in /proc/[0-9]*; do read -r l < $p/stat && echo "@${l:0:60}"; done',
    "modules": "cat /proc/modules",
    "mounts": "cat /proc/mounts",
    "maps": "cat /proc/1/maps",
    "tcp": "cat /proc/net/tcp6 /proc/net/tcp",
    "udp": "cat /proc/net/udp6 /proc/net/udp",
    "unix": "cat /proc/net/unix",
    "files": "ls -l /proc/1/fd",
    "dmesg": "dmesg | tail -n 5",
    "namespaces": "ls -l /proc/1/ns",
}


def _ask(vm: bj.VM, command: str) -> str:
    """Return what the shell prints between two marks, without the echo of the command."""
    vm.console.send(f"echo be''gin; {command}; echo e''nd\n")
    text = vm.console.read_until("end\r\n", timeout=150)
    return text.rpartition("begin\r\n")[2].rpartition("end\r\n")[0].replace("\r", "")


@pytest.fixture(scope="module")
def debian(shell: bj.VM) -> SimpleNamespace:
    shell.resume()
    said = {name: _ask(shell, command) for name, command in QUESTIONS.items()}
    shell.pause()
    return SimpleNamespace(vm=shell, linux=shell.linux, said=said)


def test_the_kernel_is_the_one_that_uname_names(debian: SimpleNamespace) -> None:
    assert debian.linux.version.release == debian.said["uname"].strip()
    assert debian.linux.version.numbers[:2] >= (6, 1)
    assert debian.linux.base == debian.linux.symbols["_text"]


def test_the_processes_are_those_of_proc(debian: SimpleNamespace) -> None:
    told = {}
    for line in debian.said["tasks"].splitlines():
        if found := re.match(r"@(\d+) \((.*)\) (\w) (\d+)", line):
            told[int(found[1])] = (found[2], int(found[4]))
    found = {task.pid: (task.name.strip("[]"), task.ppid) for task in debian.linux.tasks()}
    assert debian.linux.tasks().partial is None
    steady = {pid: what for pid, what in told.items() if pid in found and "kworker" not in what[0]}
    assert len(steady) > 30
    assert {pid: found[pid] for pid in steady} == steady
    missing = [what[0] for pid, what in told.items() if pid not in found and "kworker" not in what[0]]
    assert missing in ([], ["sh"], ["cat"])  # what printed it


def test_a_process_has_its_page_tables_arguments_and_environment(debian: SimpleNamespace) -> None:
    asleep = [task for task in debian.linux.tasks() if task.comm == "sleep"]
    (sleep,) = (task for task in asleep if debian.linux.cmdline(task.pid) == ["sleep", "100000"])
    assert debian.linux.environ(sleep.pid)["MARK"] == "here"
    first = debian.linux.maps(sleep.pid)[0]
    assert sleep.memory.read(first.start, 4) == b"\x7fELF"
    assert sleep.parent.pid == 1
    assert sleep.pid in [child.pid for child in debian.linux.task(1).children]


def test_mounts_are_those_of_proc_but_for_options_of_file_systems(debian: SimpleNamespace) -> None:
    told = [line.split()[:4] for line in debian.said["mounts"].splitlines()]
    found = [[m.source, m.target, m.fstype, m.options] for m in debian.linux.mounts()]
    assert [line[:3] for line in told] == [line[:3] for line in found]
    for line, mine in zip(told, found, strict=True):
        assert set(mine[3].split(",")) <= set(line[3].split(","))


def test_the_map_of_a_process_is_that_of_proc(debian: SimpleNamespace) -> None:
    told = [line.split(None, 5) for line in debian.said["maps"].splitlines()]
    told = [line for line in told if "vsyscall" not in line[-1]]
    found = debian.linux.maps(1)
    assert [f"{m.start:08x}-{m.end:08x}" for m in found] == [line[0] for line in told]
    assert [m.perms for m in found] == [line[1] for line in told]
    assert [f"{m.offset:08x}" for m in found] == [line[2] for line in told]
    assert [m.inode for m in found] == [int(line[4]) for line in told]
    assert [m.path for m in found] == [line[5].strip() if len(line) > 5 else "" for line in told]


def test_open_files_are_those_of_proc_and_a_deleted_one_says_so(debian: SimpleNamespace) -> None:
    told = dict(re.findall(r" (\d+) -> (.*)", debian.said["files"]))
    found = {str(file.fd): file.path for file in debian.linux.files(1)}
    assert found == told
    assert found["7"] == "/tmp/open (deleted)"


def test_sockets_are_those_of_proc(debian: SimpleNamespace) -> None:
    found = debian.linux.sockets()
    assert found.partial is None
    for kind in ("tcp", "udp"):
        told = {(int(line.split()[1].split(":")[1], 16), int(line.split()[9])) for line in _rows(debian.said[kind])}
        mine = {(int(s.local.rpartition(":")[2]), s.inode) for s in found if s.protocol.startswith(kind)}
        assert mine == told != set()
    (listening,) = (s for s in found if s.local.endswith(":8080"))
    assert listening.state == "LISTEN"
    assert [debian.linux.task(pid).comm for pid in listening.pids] == ["httpd"]
    assert [s.inode for s in debian.linux.sockets(listening.pids[0])] == [listening.inode]


def test_connected_and_unix_sockets_have_both_ends_and_a_path(debian: SimpleNamespace) -> None:
    found = debian.linux.sockets()
    connected = [s for s in found if s.state == "ESTABLISHED" and s.protocol.startswith("tcp")]
    assert sorted(s.local.endswith(":7777") for s in connected) == [False, True]
    assert {s.local.rpartition(":")[2] for s in connected} == {s.remote.rpartition(":")[2] for s in connected}
    told = {(int(line.split()[6]), line.split()[7]) for line in debian.said["unix"].splitlines()[1:] if "/" in line}
    assert {(s.inode, s.local) for s in found if s.protocol == "unix" and s.local} == told != set()


def _rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(r"\s*\d+: ", line)]


def test_modules_are_those_of_proc(debian: SimpleNamespace) -> None:
    told = [line.split()[:5] for line in debian.said["modules"].splitlines()]
    found = debian.linux.modules()
    mine = [[m.name, f"{m.size}", f"{m.references}", ",".join(m.used_by), m.state] for m in found]
    assert mine == [[*line[:3], line[3].strip(",-"), line[4]] for line in told] != []
    assert debian.linux.memory.read(found[0].base, 16) != bytes(16)


def test_the_log_ends_as_dmesg_says(debian: SimpleNamespace) -> None:
    told = [line.split("] ", 1)[1].rstrip() for line in debian.said["dmesg"].splitlines() if "] " in line]
    found = [m.text.rstrip() for m in debian.linux.dmesg()]
    assert len(told) == 5
    assert found[-5:] == told
    assert "Linux version" in found[0]


def test_namespaces_have_the_inodes_that_proc_shows(debian: SimpleNamespace) -> None:
    told = {kind: int(inode) for kind, inode in re.findall(r"-> (\w+):\[(\d+)\]", debian.said["namespaces"])}
    found = debian.linux.task(1).namespaces
    assert {kind: found[kind] for kind in ("mnt", "pid", "net", "uts", "ipc")} == {
        kind: told[kind] for kind in ("mnt", "pid", "net", "uts", "ipc")
    }


def test_each_processor_has_a_current_task(debian: SimpleNamespace) -> None:
    for cpu in range(2):
        task = debian.linux.current(cpu)
        assert debian.linux.current(debian.vm.cpus[cpu]) == task
        assert task.pid == 0 or task.on_cpu == cpu


def test_types_say_what_a_function_takes(debian: SimpleNamespace) -> None:
    function = debian.linux.btf.function("do_sys_openat2")
    assert [name for name, _ in function.parameters] == ["dfd", "filename", "how"]
    assert function.parameters[1][1] == "const char *"


def test_tables_go_to_dataframes(debian: SimpleNamespace) -> None:
    polars = pytest.importorskip("polars")
    frame = debian.linux.tasks().to_polars()
    assert frame.filter(polars.col("name") == "sleep")["pid"].to_list() == [
        task.pid for task in debian.linux.tasks() if task.comm == "sleep"
    ]
