"""Breakpoints, steps and watchpoints in Debian's own kernel while it runs: on a stock KVM, in the lane.

KASLR is on and there are two vCPUs. The machine is booted once for all tests of this file; the last one asks whether it
still works, and what it has to say.
"""

from __future__ import annotations

import stat
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.amdv.test_debian_kernel import BUSYBOX, KERNEL, cpio

import belljar as bj

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.skipif(not KERNEL.exists(), reason="the lane brings Debian's kernel along; here is none"),
    pytest.mark.timeout(600),
]

INIT = b"""#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
export PATH=/bin
exec setsid cttyhack sh
"""
LOOP = "i=0; while [ $i -lt {n} ]; do read x < /etc/{name}; i=$((i+1)); done"
BEYOND = [
    "vfs_read",
    "vfs_write",
    "ksys_read",
    "ksys_write",
    "do_filp_open",
    "path_openat",
    "filp_close",
    "getname_flags",
]


@pytest.fixture(scope="module")
def debian() -> Iterator[bj.VM]:
    folder, program, text = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755, stat.S_IFREG | 0o644
    files = {
        **dict.fromkeys(("bin", "dev", "proc", "etc"), (folder, b"")),
        "bin/busybox": (program, BUSYBOX.read_bytes()),
    }
    files |= {
        "init": (program, INIT),
        "etc/motd": (text, b"hello\n"),
        "etc/left": (text, b"1\n"),
        "etc/right": (text, b"2\n"),
    }
    with bj.boot.linux(KERNEL, initrd=cpio(files), memory="192M", cmdline="quiet", vcpus=2) as vm:
        vm.start()
        vm.console.read_until("# ", timeout=400)
        vm.pause()
        assert vm.linux.symbols["vfs_read"]
        yield vm


def shell(vm: bj.VM, command: str, timeout: float = 120) -> str:
    """Have the guest's shell do `command`, and return what it prints, with the machine paused before and after."""
    vm.resume()
    vm.console.send(command + "\n")
    try:
        return vm.console.read_until("/ # ", timeout=timeout).partition("\n")[2]
    finally:
        vm.pause()


def name_of(vm: bj.VM, at: int) -> str:
    return str(vm.linux.symbols.at(at)).partition("+")[0]


def test_what_a_process_opens_is_read_where_the_kernel_opens_it(debian: bj.VM) -> None:
    seen = []

    def opened(hit: bj.BreakpointHit) -> None:
        cpu = debian.cpus[hit.vcpu]
        seen.append(cpu.virtual.read_cstring(cpu.regs.rsi).decode())

    with debian.breakpoint("do_sys_openat2", opened, cr3=debian.linux.task(1).cr3) as point:
        shell(debian, "read x < /etc/motd; cat /etc/left")
    assert "/etc/motd" in seen and "/etc/left" not in seen
    assert point.hits == len(seen) and point.symbol == "do_sys_openat2"


def test_thousands_of_hits_of_many_breakpoints_on_both_vcpus_are_all_there(debian: bj.VM) -> None:
    names, vcpus, kernel = Counter(), set(), debian.linux.symbols
    code = {name: debian.memory.read(debian.translate(kernel[name]).gpa, 32) for name in BEYOND}

    def opened(hit: bj.BreakpointHit) -> None:
        cpu = debian.cpus[hit.vcpu]
        names[cpu.virtual.read_cstring(cpu.regs.rsi).decode()] += 1
        vcpus.add(hit.vcpu)

    points = [debian.breakpoint("do_sys_openat2", opened)]
    points += [debian.breakpoint(name, lambda hit: None) for name in BEYOND]
    mechanisms = Counter(point.mechanism for point in points)
    assert mechanisms["hardware"] == 4 and mechanisms["pending"] == 0
    loops = " & ".join(
        f"taskset {1 << n} sh -c '{LOOP.format(n=100, name=name)}'" for n, name in enumerate(("left", "right"))
    )
    shell(debian, f"{loops} & wait", timeout=400)
    hits = [point.hits for point in points]
    for point in points:
        point.remove()
    assert (names["/etc/left"], names["/etc/right"], vcpus) == (100, 100, {0, 1})
    assert hits[0] == names.total() and min(hits) >= 1 and sum(hits) > 1000
    assert shell(debian, "read x < /etc/motd; echo $x").split()[0] == "hello"
    assert [point.hits for point in points] == hits
    assert code == {name: debian.memory.read(debian.translate(kernel[name]).gpa, 32) for name in BEYOND}


@pytest.mark.parametrize("hw", [True, False])
def test_steps_stay_in_the_function_that_they_are_in(debian: bj.VM, hw: bool) -> None:
    with debian.breakpoint("do_sys_openat2", cr3=debian.linux.task(1).cr3, hw=hw) as point:
        debian.resume()
        debian.console.send("read x < /etc/motd\n")
        hit = debian.join(timeout=120)
    assert hit == bj.BreakpointHit(point.id, point.address, vcpu=hit.vcpu)
    cpu = debian.cpus[hit.vcpu]
    back = cpu.virtual.read_u64(cpu.regs.rsp)
    seen = []
    for _ in range(12):
        assert isinstance(cpu.step_over(timeout=20), bj.Stepped)
        seen.append(name_of(debian, cpu.regs.rip))
    assert set(seen) == {"do_sys_openat2"}
    for _ in range(100):
        assert isinstance(cpu.step(timeout=20), bj.Stepped)
        assert not name_of(debian, cpu.regs.rip).startswith(("asm_sysvec", "asm_common_interrupt"))
    while name_of(debian, cpu.regs.rip) != "do_sys_openat2":
        assert isinstance(cpu.step_out(timeout=30), bj.Stepped)
    assert cpu.step_out(timeout=30) == bj.Stepped(back, vcpu=hit.vcpu)
    debian.resume()
    debian.console.read_until("# ", timeout=120)
    debian.pause()


def test_a_trace_of_every_step_goes_through_interrupts_and_leaves_the_guest_unharmed(debian: bj.VM) -> None:
    shell(debian, "while :; do :; done & busy=$!")
    with debian.trace(step=True, fields=["address", bj.reg.cpl], capacity=1 << 18, policy="drop") as steps:
        debian.run(timeout=10)
        rows = steps.read()
    places = Counter(rows["address"][rows["cpl"] == 0].tolist())
    names = Counter()
    for at, count in places.items():
        names[name_of(debian, at)] += count
    assert "asm_sysvec_apic_timer_interrupt" in names and "scheduler_tick" in names
    assert names.most_common(1)[0][1] < names.total() / 3, names.most_common(
        5
    )  # it does not wait for what steps change
    said = shell(debian, "kill -0 $busy && echo al''ive; kill $busy; wait")
    assert "alive" in said


def test_a_variable_of_the_kernel_is_watched(debian: bj.VM) -> None:
    ticks = []

    def ticked(hit: bj.WatchpointHit) -> object:
        ticks.append((hit.before, hit.after))
        return bj.STOP if len(ticks) == 5 else None

    with debian.watch(debian.linux.symbols["jiffies_64"], 8, ticked, virtual=True, hw=True) as watch:
        assert watch.mechanism == "debug register"
        debian.resume()
        assert isinstance(debian.join(timeout=30), bj.WatchpointHit)
    assert all(after > before for before, after in ticks)  # more than one where a processor has slept
    assert [before for before, _ in ticks[1:]] == [after for _, after in ticks[:-1]]


def test_a_field_of_a_task_is_watched(debian: bj.VM) -> None:
    linux = debian.linux
    at = linux.task(1).address + linux.btf.offset("task_struct", "comm")
    seen = []
    with debian.watch(at, 8, lambda hit: seen.append(hit.after), virtual=True) as watch:
        shell(debian, "printf renamed > /proc/1/comm")
    assert seen and seen[-1].to_bytes(8, "little") == b"renamed\0" and watch.hits == len(seen)


def test_the_guest_is_as_well_as_before(debian: bj.VM) -> None:
    shell(debian, "n=$(dmesg | grep -ciE 'bug:|oops|general protection')")
    words = shell(debian, "echo $((6 * 7)) $(nproc) $(cat /proc/sys/kernel/tainted) $n").split()
    assert words[words.index("42") :][:4] == ["42", "2", "0", "0"]
