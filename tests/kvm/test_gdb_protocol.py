"""vm.gdbserver(), asked by a small client of the remote protocol: what every KVM and a machine without gdb can test."""

import contextlib
import re
import threading
import time

from tests.kvm.counting import COUNT, moves
from tests.waiting import PATIENCE, until

import belljar as bj

STOP_WHEN_TOLD = "again: inc rax; mov rdx, 0x6000; mov cl, [rdx]; test cl, cl; jz again; hlt"


def test_a_client_finds_the_guest_held_and_lets_it_go_on_by_detaching(counting, connect):
    with counting.gdbserver() as server, connect(server) as client:
        assert client.ask("?").startswith("T05thread:")
        assert server.connected
        assert not moves(counting, 0.2)
        assert client.ask("D") == "OK"
        assert moves(counting)


def test_vcpus_are_threads_with_names(counting, connect):
    with counting.gdbserver() as server, connect(server) as client:
        assert client.ask("qfThreadInfo") == "m01,02"
        assert bytes.fromhex(client.ask("qThreadExtraInfo,2")) == b"vCPU 1"
        assert client.ask("Hg2") == "OK"
        assert client.register(client.numbers()["rbx"]) == counting.cpus[1].regs.rbx


def test_who_is_held_by_gdb_can_be_looked_at_from_python(counting, connect):
    with counting.gdbserver() as server, connect(server) as client:
        client.ask("?")
        assert counting.cpu.regs.rip == client.register(16)
        assert counting.state == "running"


def test_every_register_of_the_description_reads_as_in_python_and_can_be_written(counting, connect):
    with counting.gdbserver() as server, connect(server) as client:
        numbers = client.numbers()
        for name in ["rax", "rsp", "r15", "rip"]:
            assert client.register(numbers[name]) == getattr(counting.cpu.regs, name)
        for name in ["cr0", "cr3", "cr4", "efer"]:
            assert client.register(numbers[name]) == getattr(counting.cpu, name)
        assert client.ask(f"P{numbers['r12']:x}=8877665544332211") == "OK"
        assert client.ask(f"P{numbers['gs_base']:x}=0010000000000000") == "OK"
        assert client.ask(f"P{numbers['k_gs_base']:x}=0020000000000000") == "OK"
        assert client.ask(f"P{numbers['xmm3']:x}={bytes(range(16)).hex()}") == "OK"
        assert counting.cpu.regs.r12 == 0x1122334455667788
        assert counting.cpu.gs.base == 0x1000
        assert counting.cpu.msr[0xC0000102] == 0x2000
        assert counting.cpu.fpu.xmm[3] == int.from_bytes(bytes(range(16)), "little")
        for name in numbers:
            if not name.startswith("ymm"):
                assert re.fullmatch("[0-9a-f]+", client.ask(f"p{numbers[name]:x}")), name


def test_all_registers_at_once_come_back_unchanged(counting, connect):
    with counting.gdbserver() as server, connect(server) as client:
        before = client.ask("g")
        assert client.ask("G" + before) == "OK"
        assert client.ask("g") == before


def test_a_value_that_no_vcpu_can_have_is_refused_and_changes_nothing(counting, connect):
    with counting.gdbserver() as server, connect(server) as client:
        numbers = client.numbers()
        before = counting.cpu.cr4
        assert client.ask(f"P{numbers['cr4']:x}=ffffffffffffffff").startswith("E")
        assert client.ask(f"P{numbers['ds']:x}=77000000").startswith("E")
        assert counting.cpu.cr4 == before
        client.ask("D")
        assert moves(counting)


def test_memory_is_what_the_vcpu_sees_and_what_is_not_mapped_is_an_error(counting, connect):
    with counting.gdbserver() as server, connect(server) as client:
        code = bytes(counting.memory.read(0x1000, 8))
        assert bytes.fromhex(client.ask("m1000,8")) == code
        assert client.ask("M7ffe,4:01020304") == "OK"
        assert bytes(counting.memory.read(0x7FFE, 4)) == b"\1\2\3\4"
        assert client.ask("mffffffff80000000,8").startswith("E")
        assert client.ask("Mffffffff80000000,2:0102").startswith("E")


def test_lengths_that_nothing_could_have_are_bounded(counting, connect):
    with counting.gdbserver() as server, connect(server) as client:
        assert len(client.ask("m1000,ffffffffffffffff")) < 0x10000
        assert client.ask("mfffffffffffffff0,20").startswith("E")
        assert len(client.ask("m1000,1000")) == 0x2000
        assert len(client.monitor("phys read 0x1000 99999999999")) < 0x10000
        assert "memory" in client.monitor("phys read 0xffffffffffffffff 16")
        assert client.ask("qXfer:features:read:target.xml:ffffffffffffffff,fff") == "l"
        assert client.ask("Z2,0,fffffffffffff").startswith("E")
        assert client.ask("Z0,ffffffffffffffff,1") in {"OK", "E22"}


def test_an_interrupt_stops_all_and_continue_goes_on(counting, connect):
    with counting.gdbserver() as server, connect(server) as client:
        client.send("vCont;c")
        assert moves(counting)
        assert client.interrupt().startswith("T02")
        assert not moves(counting, 0.2)
        client.send("vCont;c")
        assert moves(counting)


def test_one_vcpu_goes_on_while_the_other_stays(counting, connect):
    with counting.gdbserver() as server, connect(server) as client:
        client.ask("?")
        before = counting.cpu.regs.rax, counting.cpus[1].regs.rbx
        client.send("vCont;c:2")
        time.sleep(0.2)
        assert client.interrupt().startswith("T02")
        assert counting.cpu.regs.rax == before[0]
        assert counting.cpus[1].regs.rbx > before[1]


def test_a_client_that_is_just_gone_lets_the_guest_go_on_and_another_may_come(counting, connect):
    with counting.gdbserver() as server:
        for _ in range(3):
            with connect(server) as client:
                client.ask("?")
            assert moves(counting)
        assert not server.connected


def test_continue_starts_a_guest_that_nobody_runs(new_vm, connect):
    vm = new_vm("2M")
    vm.load(COUNT)
    with vm.gdbserver() as server, connect(server) as client:
        client.ask("?")
        assert vm.state == "stopped"
        client.send("vCont;c")
        assert moves(vm)
        client.interrupt()
        client.ask("D")
    assert moves(vm)
    assert vm.state == "running"


def test_a_guest_that_nobody_ran_is_stopped_again_after_a_visit(new_vm, connect):
    vm = new_vm("2M")
    vm.load(COUNT)
    with vm.gdbserver() as server, connect(server) as client:
        client.ask("?")
        client.ask("D")
    assert vm.state == "stopped"
    assert not moves(vm, 0.1)


def test_a_run_in_the_foreground_waits_in_place_and_goes_on(new_vm, connect):
    vm = new_vm("2M")
    vm.load(STOP_WHEN_TOLD)
    ended = []
    thread = threading.Thread(target=lambda: ended.append(vm.run()))
    with vm.gdbserver() as server:
        thread.start()
        with connect(server) as client:
            client.ask("?")
            assert client.ask("M6000,1:01") == "OK"
            time.sleep(0.2)
            assert ended == []
            client.ask("D")
            thread.join(PATIENCE)
    assert isinstance(ended[0], bj.Hlt)


def test_with_wait_the_program_runs_the_guest_and_gdb_lets_it(new_vm, connect):
    vm = new_vm("2M")
    vm.load("mov rax, 7; hlt")
    server = vm.gdbserver()
    port, heard = server.port, []
    server.close()

    def debug():
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                client = connect(type("Address", (), {"port": port}))
                break
        with client:
            heard.append(client.ask("?"))
            client.send("vCont;c")
            time.sleep(0.3)

    thread = threading.Thread(target=debug)
    thread.start()
    server = vm.gdbserver(port, wait=True)
    assert server.connected
    assert isinstance(vm.run(timeout=PATIENCE), bj.Hlt)
    assert vm.cpu.regs.rax == 7
    thread.join()
    assert heard[0].startswith("T05")


def test_the_end_of_a_run_in_the_background_is_told(new_vm, connect):
    vm = new_vm("2M")
    vm.load("mov rax, 7; hlt")
    with vm.gdbserver() as server, connect(server) as client:
        client.ask("?")
        assert client.ask("vCont;c").startswith("T")
        assert client.register(0) == 7


def test_a_handler_of_pythons_runs_while_gdb_is_attached(new_vm, connect):
    vm = new_vm("2M")
    vm.load("again: mov al, 5; out 0x40, al; jmp again")
    seen = []
    vm.on_port(0x40, lambda exit: seen.append(exit.data))
    with vm.gdbserver() as server, connect(server) as client:
        client.ask("?")
        client.send("vCont;c")
        until(lambda: len(seen) >= 5)
        assert client.interrupt().startswith("T02")


def test_kill_ends_the_run_and_the_next_client_may_begin_anew(counting, connect):
    with counting.gdbserver() as server:
        with connect(server) as client:
            client.ask("?")
            client.send("k")
        until(lambda: counting.state == "paused")
        with connect(server) as client:
            client.ask("?")
            client.send("vCont;c")
            assert moves(counting)


def test_monitor_commands_say_what_they_are_and_answer(counting, connect):
    with counting.gdbserver() as server, connect(server) as client:
        assert "translate" in client.monitor("help")
        assert "vCPU 1: 64-bit code in ring 0" in client.monitor("info")
        assert f"cr3 {counting.cpu.cr3:#018x}" in client.monitor("info registers")
        assert client.monitor("translate 0x1234") == "0x1234 is guest-physical 0x1234\n"
        assert "not mapped" in client.monitor("translate 0xffffffff80000000 1")
        assert bytes(counting.memory.read(0x1000, 4)).hex(" ") in client.monitor("phys read 0x1000 4")
        assert "single_step" in client.monitor("quirks") or len(client.monitor("quirks")) > 100
        assert "monitor help" in client.monitor("nonsense")
        assert "no Linux kernel in memory" in client.monitor("kaslr")
        assert "no Linux kernel in memory" in client.monitor("symbol 0x1000")
        assert "there are 2 vCPUs" in client.monitor("info registers 9")
        assert "no number" in client.monitor("translate here")


def test_a_unix_socket_serves_and_is_removed(counting, tmp_path, connect):
    path = tmp_path / "gdb"
    with counting.gdbserver(path=path) as server:
        assert (server.port, server.address) == (None, str(path))
        with connect(server) as client:
            assert client.ask("?").startswith("T05")
    assert not path.exists()
