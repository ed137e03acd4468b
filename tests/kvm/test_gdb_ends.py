"""How servers of gdb end, and what they leave behind: with their machine, with the interpreter, under random bytes."""

import contextlib
import gc
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.kvm.counting import COUNT, moves
from tests.waiting import until

import belljar as bj


def test_closing_the_machine_ends_the_server_and_hangs_up(counting, connect):
    server = counting.gdbserver()
    with connect(server) as client:
        client.send("?")
        client.receive()
        client.send("vCont;c")
        assert moves(counting)
        counting.close()
        assert server.closed
        with contextlib.suppress(ConnectionError):
            assert client.receive() == "W00"
    assert "closed" in repr(server)
    with pytest.raises(bj.ClosedError):
        counting.gdbserver()


def test_repr_tells_what_to_type(counting, connect):
    with counting.gdbserver() as server:
        assert repr(server) == f'<GdbServer waiting: gdb -ex "target remote 127.0.0.1:{server.port}">'
        with connect(server) as client:
            client.ask("?")
            assert "connected" in repr(server)


def test_a_port_that_is_taken_is_an_error_and_so_are_two_places_at_once(counting, tmp_path):
    with counting.gdbserver() as server, pytest.raises(bj.HostError, match="bind"):
        counting.gdbserver(server.port)
    with pytest.raises(ValueError, match="either"):
        counting.gdbserver(1, path=tmp_path / "x")


def test_random_bytes_harm_neither_the_server_nor_the_guest(counting, connect):
    chance = random.Random(6)
    starts = [b"", b"$", b"$m", b"$Z0,", b"$vCont;", b"$qRcmd,", b"$G", b"$P", b"$X", b"$H", b"$qXfer:features:read:"]
    with counting.gdbserver() as server:
        for turn in range(60):
            body = chance.choice(starts) + chance.randbytes(chance.randrange(200))
            if turn % 3 == 0 and body.startswith(b"$"):
                body = body.replace(b"#", b"").replace(b"k", b"")
                body += b"#%02x" % (sum(body[1:]) & 0xFF)
            with connect(server) as client, contextlib.suppress(OSError):
                client.socket.sendall(body)
        counting.cpus[0]  # still there
        with connect(server) as client:
            assert client.ask("?").startswith("T05")
            client.ask("D")


def test_servers_leave_no_threads_and_no_descriptors(new_vm, connect):
    vm = new_vm("1M")
    vm.gdbserver().close()
    descriptors, before = len(list(Path("/proc/self/fd").iterdir())), threads()  # of which some may be ending
    for _ in range(5):
        with vm.gdbserver() as server, connect(server) as client:
            client.ask("?")
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    until(lambda: threads() <= before)


def threads():
    return len(list(Path("/proc/self/task").iterdir()))


def test_a_machine_that_nobody_refers_to_ends_with_its_server():
    vm = bj.VM("1M")
    server = vm.gdbserver()
    del vm
    gc.collect()
    assert server.closed


def test_the_interpreter_ends_while_a_client_holds_the_guest():
    program = f"""
import belljar as bj, socket
vm = bj.VM("2M")
vm.load({COUNT!r})
vm.start()
server = vm.gdbserver()
client = socket.create_connection(("127.0.0.1", server.port))
server.wait(60)
print("held", server.connected)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "held True\n"
