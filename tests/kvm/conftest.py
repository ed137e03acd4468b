"""What tests of vm.gdbserver() share: a machine that counts, and a small client of GDB's remote protocol."""

import re
import socket

import pytest
from tests.kvm import counting as counter
from tests.waiting import PATIENCE


class Client:
    """One connection to a server: packets out, packets in."""

    def __init__(self, server):
        if server.port is None:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(server.address)
        else:
            self.socket = socket.create_connection(("127.0.0.1", server.port))
        self.socket.settimeout(PATIENCE)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.socket.close()

    def send(self, text):
        body = text.encode("latin-1")
        self.socket.sendall(b"$" + body + b"#%02x" % (sum(body) & 0xFF))

    def receive(self):
        while not (found := re.search(rb"\$([^#]*)#..", self.buffer)):
            got = self.socket.recv(65536)
            if not got:
                raise ConnectionError("the server hung up")
            self.buffer += got
        self.buffer = self.buffer[found.end() :]
        self.socket.sendall(b"+")
        return expanded(found[1])

    def ask(self, text):
        self.send(text)
        return self.receive()

    def interrupt(self):
        self.socket.sendall(b"\x03")
        return self.receive()

    def monitor(self, command):
        self.send("qRcmd," + command.encode().hex())
        shown = ""
        while (answer := self.receive()) != "OK":
            shown += bytes.fromhex(answer[1:]).decode()
        return shown

    def register(self, number):
        return int.from_bytes(bytes.fromhex(self.ask(f"p{number:x}")), "little")

    def numbers(self):
        """Return the number of each register by its name, from the target description."""
        text, at = "", 0
        while True:
            part = self.ask(f"qXfer:features:read:target.xml:{at:x},f00")
            text, at = text + part[1:], at + len(part) - 1
            if part[0] == "l":
                return {name: int(n) for name, n in re.findall(r'<reg name="(\w+)"[^>]*regnum="(\d+)"', text)}


def expanded(data):
    """Undo the protocol's run-length encoding."""
    out = bytearray()
    position = 0
    while position < len(data):
        if data[position : position + 1] == b"*":
            out += out[-1:] * (data[position + 1] - 29)
            position += 2
        else:
            out.append(data[position])
            position += 1
    return out.decode("latin-1")


@pytest.fixture
def connect():
    """Return what connects to a server: with connect(server) as client."""
    return Client


@pytest.fixture
def counting(new_vm):
    """Start a machine of two vCPUs, the first of which counts."""
    return counter.start(new_vm("2M", vcpus=2))
