"""System calls of Debian's own kernel, recorded and answered from outside: on a stock KVM, in the lane.

One machine is booted for all tests of this file; each leaves it at its shell's prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import belljar as bj
from belljar.lab.debian_guest import debian, is_at_hand

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.skipif(not is_at_hand(), reason="the lane brings Debian's kernel along; here is none"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def vm() -> Iterator[bj.VM]:
    kernel, initrd = debian("echo hello > /motd")
    with bj.boot.linux(kernel, initrd=initrd, memory="192M", cmdline="quiet", vcpus=2) as vm:
        vm.start()
        vm.console.read_until("# ", timeout=300)
        yield vm


def shell(vm: bj.VM, command: str) -> str:
    """Return what the shell prints for a command."""
    vm.console.send(f"{command}; echo e''nd\n")
    text = vm.console.read_until("end\r\n", timeout=300)
    # What is typed before the prompt is there is echoed twice: by the terminal, and by the shell.
    return text.rpartition("echo e''nd\r\n")[2].removesuffix("end\r\n")


def test_the_table_of_system_calls_is_the_guests_own(vm):
    calls = vm.linux.prototypes
    assert calls.named("read").number == 0
    assert calls.named("openat").declaration == "openat(int dfd, const char *filename, int flags, umode_t mode)"
    assert len(calls) > 300
    assert calls.partial is None


def test_system_calls_are_recorded_with_arguments_results_and_processes(vm):
    with vm.linux.syscalls() as trace:
        assert shell(vm, "cat /motd /nowhere").startswith("hello")
    calls = [call for call in trace.read() if call.comm == "cat"]
    opened = [call for call in calls if call.name in {"open", "openat"} and call.args["filename"] == b"/motd"]
    assert [call.result for call in opened] == [3]
    assert [c.error for c in calls if c.args.get("filename") == b"/nowhere"] == ["ENOENT"]
    written = [call for call in calls if call.name in {"write", "sendfile", "sendfile64"} and call.result == 6]
    assert len(written) == 1
    assert all(call.duration is None or call.duration > 0 for call in calls)
    assert {call.pid for call in calls} == {calls[0].pid}


def test_a_trace_of_one_call_of_one_process_has_nothing_else(vm):
    with vm.linux.syscalls(["getpid", "getppid", "write"], pid=1) as trace:
        shell(vm, "echo one; cat /motd")
    calls = trace.read()
    assert {call.pid for call in calls} == {1}
    assert {call.name for call in calls} == {"write"}
    assert any(call.args["buf"] == b"one\n" and call.result == 4 for call in calls)


def test_a_system_call_is_answered_instead_of_the_kernel(vm):
    seen = []

    def refuse(call):
        if call.text("filename") == "/motd":
            seen.append((call.task.comm, call.result))
            call.result = -13

    name = "open" if "open" in {call.name for call in calls_of(vm)} else "openat"
    with vm.linux.on_syscall(name, refuse) as point:
        assert "Permission denied" in shell(vm, "cat /motd")
        assert point.hits >= 1
    assert seen == [("cat", None)]
    assert shell(vm, "cat /motd").startswith("hello")


def calls_of(vm: bj.VM) -> list:
    """Return what calls a cat makes."""
    with vm.linux.syscalls() as trace:
        shell(vm, "cat /motd")
    return [call for call in trace.read() if call.comm == "cat"]


def test_what_the_kernel_returns_is_changed_on_its_way_to_the_process(vm):
    results = []

    def other(call):
        results.append(call.result)
        call.result = 1234

    with (
        vm.linux.on_syscall("getuid", other, at_return=True),
        vm.linux.on_syscall("geteuid", other, at_return=True),
    ):
        assert shell(vm, "id -u").strip() == "1234"
    assert results
    assert set(results) == {0}
    assert shell(vm, "id -u").strip() == "0"


def test_switches_of_tasks_come_with_both_tasks(vm):
    switches = []
    with vm.linux.on_switch(lambda before, after: switches.append((before, after))) as point:
        shell(vm, "sleep 0.01")
    assert point.hits >= len(switches) > 2  # one may be on its way when the last is handed out
    assert {before.cr3 for before, _ in switches} >= {vm.linux.task(1).cr3}
    assert all(before.address != after.address for before, after in switches)


def test_the_guest_goes_on_unharmed(vm):
    assert shell(vm, "echo $((6 * 7))").strip() == "42"
    assert not [message for message in vm.linux.dmesg() if "Oops" in message.text or "BUG" in message.text]
