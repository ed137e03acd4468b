"""vm.gdbserver() and the real gdb in batch mode: what its users type. test_gdb_protocol.py asks without gdb."""

import os
import re
import shutil
import signal
import subprocess

import pytest
from tests.kvm.counting import moves
from tests.waiting import PATIENCE, until

import belljar as bj
from belljar.guest import IMAGE

if shutil.which("gdb") is None:
    pytest.skip("gdb is not installed (apt install gdb)", allow_module_level=True)


def command(server, *commands, file=None):
    words = ["gdb", "-nx", "-q", "-batch"]
    setup = ["set confirm off", "set pagination off", f"target remote {server.address}"]
    for line in [*setup, *commands]:
        words += ["-ex", line]
    return [*words, *([str(file)] if file else [])]


def gdb(server, *commands, file=None):
    """Run gdb with these commands, and return all that it said."""
    done = subprocess.run(
        command(server, *commands, file=file),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout


@pytest.fixture
def specimen():
    with bj.specimen() as vm:
        vm.start()
        vm.console.read_until("line 1 at tick", timeout=PATIENCE)
        yield vm


def test_gdb_takes_the_target_description_with_all_its_registers(counting):
    with counting.gdbserver() as server:
        said = gdb(
            server,
            "info registers",
            "p $xmm3.uint128",
            "p $st0",
            "p/x $mxcsr",
            "p/x $fctrl",
            "set $xmm3.v4_int32[1] = 77",
            "p $xmm3.v4_int32",
            "set $r15 = 0x123456789",
            "p/x $r15",
            "set $k_gs_base = 0x4000",
            "p/x $k_gs_base",
        )
    counting.pause()
    for name, value in [("cr3", counting.cpu.cr3), ("efer", counting.cpu.efer), ("gdt_base", counting.cpu.gdt.base)]:
        assert re.search(rf"^{name} +{value:#x} ", said, re.MULTILINE), said
    assert "= {0, 77, 0, 0}" in said
    assert "= 0x123456789" in said
    assert "= 0x4000" in said
    assert "warning: while parsing target description" not in said


def test_a_kernel_function_of_the_specimen_is_broken_into_and_stepped(specimen):
    address = specimen.symbols["system_call"]
    with specimen.gdbserver() as server:
        said = gdb(
            server,
            "break system_call",
            "continue",
            "bt 2",
            "p/x $rdi",
            "x/2i $pc",
            "stepi",
            "stepi",
            "p/x *(unsigned char *) system_call",
            "continue",
            "info breakpoints",
            "delete",
            file=IMAGE,
        )
    assert said.count("Breakpoint 1, 0x") >= 2
    assert re.search(r"#1 +0x\w+ in trap \(\)", said), said
    assert re.search(rf"^=> {address:#x} <system_call>:\tpush", said, re.MULTILINE), said
    assert "breakpoint already hit 2 times" in said
    assert "= 0xcc" not in said
    assert "int3" not in said
    before = specimen.stats.exits
    until(lambda: specimen.stats.exits != before, "the guest does not go on")
    assert "BreakpointHit" in specimen.stats.exits


def test_a_variable_is_watched_and_shows_old_and_new(counting):
    with counting.gdbserver() as server:
        said = gdb(server, "watch *(long *) 0x5000", "continue", "p $rax", "delete")
        old, new = (int(re.search(rf"{word} value = (\d+)", said)[1]) for word in ["Old", "New"])
        assert new == old + 1
        assert f"$1 = {new}" in said
        said = gdb(server, "rwatch *(long *) 0x6000", "continue", "delete")
        assert "Value = 0" in said
        assert moves(counting)


def test_breakpoints_of_two_vcpus_are_hit_by_each(counting):
    with counting.gdbserver() as server:
        # Both have their turn, however often the other one is hit, and however the host shares out its processors.
        said = gdb(server, "break *0x1000", "break *0x2000", *["continue"] * 8, "info threads", "delete")
    assert "Thread 1 hit Breakpoint 1" in said
    assert "Thread 2 hit Breakpoint 2" in said
    assert re.search(r"Thread 1\.2 \(vCPU 1\)", said), said
    assert moves(counting)


def test_no_hit_is_lost_or_doubled_with_two_vcpus(new_vm):
    vm = new_vm("2M", vcpus=2)
    for n in range(2):
        vm.load("mov rcx, 20; again: dec rcx; jnz again; spin: jmp spin", at=0x1000 * (n + 1), vcpu=n)
    with vm.gdbserver() as server:
        said = gdb(server, "break *0x1007", "break *0x2007", *["continue"] * 40, "info breakpoints", "delete")
    assert said.count("breakpoint already hit 20 times") == 2, said


def test_a_step_moves_one_vcpu_alone_under_scheduler_locking(counting):
    with counting.gdbserver() as server:
        said = gdb(
            server,
            "set scheduler-locking on",
            "thread 2",
            "p $rbx + ($pc == 0x2003) * 0",
            "thread 1",
            "stepi",
            "stepi",
            "thread 2",
            "p $rbx",
            "stepi 3",
            "p $rbx",
        )
    before, held, after = (int(n) for n in re.findall(r"\$\d = (\d+)", said))
    assert before == held
    assert after - held in (1, 2)


def test_memory_is_written_and_hardware_breakpoints_leave_no_byte(counting):
    if not bj.host.quirks.hardware_breakpoints_in_ring0:
        pytest.skip("this KVM has no hardware breakpoints in ring 0")
    with counting.gdbserver() as server:
        said = gdb(server, "set {long} 0x7000 = 0x1122", "hbreak *0x1000", "continue", "x/i $pc", "delete")
    assert "hit Breakpoint 1" in said or "Breakpoint 1, " in said
    assert counting.memory.read_u64(0x7000) == 0x1122


def test_ctrl_c_stops_the_guest_and_quit_lets_it_go_on(counting):
    with counting.gdbserver() as server:
        process = subprocess.Popen(
            ["gdb", "-nx", "-q", "-ex", f"target remote {server.address}", "-ex", "continue"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "DEBUGINFOD_URLS": ""},
        )
        try:
            while process.stdout.readline().strip() != "Continuing.":
                assert process.poll() is None
            assert moves(counting)
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate("p $rax\ninfo threads\ndetach\nquit\n", timeout=PATIENCE)
        finally:
            process.kill()
            process.wait()
    assert "received signal SIGINT" in said
    assert moves(counting)


def test_gdbs_points_and_pythons_are_strangers(counting):
    seen = []
    mine = counting.breakpoint(0x1000, lambda hit: seen.append(hit.address))
    with counting.gdbserver() as server:
        said = gdb(server, "break *0x1000", "continue", "continue", "continue", "delete", "stepi", "stepi")
    assert said.count("hit Breakpoint 1") == 3, said
    until(lambda: len(seen) >= 5)
    assert set(seen) == {0x1000}
    assert mine.hits >= 5


def test_the_end_of_a_guest_is_a_signal_with_its_place(new_vm):
    vm = new_vm("2M")
    vm.load("mov rax, 5; ud2")
    with vm.gdbserver() as server:
        said = gdb(server, "continue", "p $rax")
    assert re.search("received signal SIG(SEGV|ILL)", said), said
    # A shutdown under AMD-V leaves nothing of the registers (AMD APM vol. 2, 15.14.3): KVM resets the vCPU.
    assert ("$1 = 0" if bj.host.quirks.ring0_is_native else "$1 = 5") in said


def test_real_mode_is_shown_as_qemu_shows_it(new_vm):
    vm = new_vm("1M")
    vm.load("again: inc ax; jmp again", mode="real", at=0x1000)
    with vm.gdbserver() as server:
        said = gdb(server, "p/x $pc", "stepi", "p $ax", "stepi", "stepi", "p $ax", "p/x $pc", "x/1xb 0x1000")
    assert re.findall(r"\$\d = (\w+)", said) == ["0x1000", "1", "2", "0x1001"]
    assert "0x1000:\t0x40" in said


def test_monitor_reaches_the_machine(counting):
    with counting.gdbserver() as server:
        assert "vCPU 1: 64-bit code in ring 0" in gdb(server, "monitor info")
