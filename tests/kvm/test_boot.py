"""Kernels that others wrote, small ones written here, and files that are none: loading, console, reset line.

The Linux guest is tests/guests/linux/build.sh's; where it is not built, its test is skipped aloud.
"""

import contextlib
import re
import struct
import time
from pathlib import Path

import pytest

import belljar as bj

ROOT = Path(__file__).resolve().parents[2]
BASE = 0x10_0000


def printing(text):
    """Return 32-bit code, fit for 64 bits too, that prints `text` and halts."""
    chars = "; ".join(f"mov al, {ord(char)}; out dx, al" for char in text)
    return bj.asm(f"mov edx, 0x3f8; {chars}; l: hlt; jmp l", bits=32, at=BASE)


def elf64(code, entry=BASE, note=None):
    """Return an ELF64 file of one segment at BASE, and a PVH note if `note` is an entry point."""
    headers, at = (2 if note else 1), 64 + 56 * (2 if note else 1)
    xen = struct.pack("<3I4sQ", 4, 8, 18, b"Xen", note) if note else b""
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, entry, 64, 0, 0, 64, 56, headers, 0, 0, 0
    )
    segments = struct.pack("<IIQQQQQQ", 1, 7, at + len(xen), BASE, BASE, len(code), len(code) + 0x1000, 0x1000)
    if note:
        segments += struct.pack("<IIQQQQQQ", 4, 4, at, 0, 0, len(xen), len(xen), 4)
    return header + segments + xen + code


def elf32(code, entry=BASE):
    header = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 3, 1, entry, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return header + struct.pack("<8I", 1, 84, BASE, BASE, len(code), len(code) + 0x1000, 7, 0x1000) + code


def multiboot(code):
    magic, flags = 0x1BAD_B002, 3
    return elf32(struct.pack("<3I", magic, flags, -(magic + flags) % 2**32) + code, entry=BASE + 12)


IMAGES = {
    "ELF64": elf64(printing("hello from ELF64")),
    "ELF32": elf32(printing("hello from ELF32")),
    "PVH": elf64(b"\xf4" * 16 + printing("hello from PVH"), entry=BASE, note=BASE + 16),
    "Multiboot": multiboot(printing("hello from Multiboot")),
}


@pytest.fixture
def machine(new_vm):
    return new_vm("16M", serial=True, i8042=True)


@pytest.mark.parametrize("name", IMAGES)
def test_a_small_kernel_of_each_format_prints_and_halts(machine, name):
    kind, entry = machine.boot(IMAGES[name])
    assert name.lower() in kind.lower()
    assert entry >= BASE
    assert machine.run(timeout=60) == bj.Hlt()
    assert machine.console.read() == f"hello from {name}".encode()


def test_a_kernel_may_be_a_file(machine, tmp_path):
    path = tmp_path / "kernel"
    path.write_bytes(IMAGES["Multiboot"])
    machine.boot(path)
    assert machine.run(timeout=60) == bj.Hlt()
    with pytest.raises(FileNotFoundError):
        machine.boot(tmp_path / "none")


@pytest.mark.parametrize("load", [bj.boot.linux, None], ids=["boot.linux", "vm.boot"])
@pytest.mark.parametrize(
    "image",
    [b"", b"\x7fELF", b"not a kernel" * 1000, bytes(0x2000), IMAGES["ELF64"][:100], IMAGES["Multiboot"][:90]],
    ids=["nothing", "magic alone", "text", "zeros", "truncated ELF64", "truncated ELF32"],
)
def test_a_file_that_is_no_kernel_or_is_damaged_is_an_image_error(machine, load, image):
    with pytest.raises(bj.ImageError, match=r"\S"):
        (load or machine.boot)(image)
    machine.boot(IMAGES["ELF64"])
    assert machine.run(timeout=60) == bj.Hlt()


@pytest.mark.parametrize("name", IMAGES)
def test_every_truncation_is_a_typed_error_or_a_guest(machine, name):
    image = IMAGES[name]
    for length in range(0, len(image), 7):
        with contextlib.suppress(bj.ImageError, bj.GuestMemoryError):
            machine.boot(image[:length])


def test_a_bzimage_that_is_truncated_is_an_image_error(machine):
    image = bytearray(0x1000)
    image[0x1F1] = 4
    image[0x1FE:0x206] = b"\x55\xaaHdrS"[:2] + b"\xeb\x66HdrS"
    image[0x206:0x208] = (0x20F).to_bytes(2, "little")
    with pytest.raises(bj.ImageError):
        machine.boot(bytes(image))


@pytest.mark.parametrize("name", IMAGES)
def test_a_kernel_larger_than_memory_is_a_typed_error(new_vm, name):
    vm = new_vm("1M", serial=True)
    with pytest.raises((bj.ImageError, bj.GuestMemoryError)):
        vm.boot(IMAGES[name])
    assert vm.state == "stopped"


def test_an_initrd_larger_than_memory_is_a_typed_error(machine):
    with pytest.raises((bj.ImageError, bj.GuestMemoryError)):
        machine.boot(IMAGES["PVH"], initrd=bytes(32 << 20))


def test_a_command_line_that_is_too_long_is_a_typed_error(machine):
    with pytest.raises((bj.ImageError, ValueError)):
        machine.boot(IMAGES["PVH"], cmdline="x" * 0x2_0000)


def test_a_machine_without_a_serial_port_has_no_console(vm):
    with pytest.raises(ValueError, match="serial=True"):
        vm.console  # noqa: B018


ECHO = """
l: mov dx, 0x3fd; in al, dx; test al, 1; jz l
mov dx, 0x3f8; in al, dx; out dx, al; cmp al, 113; jne l; hlt
"""


def test_the_console_reads_and_types(machine):
    machine.load(ECHO, mode="real")
    machine.start()
    assert machine.console.send("hello, ") == 7
    assert machine.console.read_until(", ", timeout=10) == "hello, "
    machine.console.send(b"guest\r\nand more")
    assert machine.console.read_until("\r\n", timeout=10) == "guest\r\n"
    assert machine.console.read_until("more", timeout=10) == "and more"
    machine.console.send("q")
    assert machine.join(timeout=10) == bj.Hlt()
    assert machine.console.read() == b"q"


def test_a_long_text_comes_through_the_console_whole(machine):
    text = "".join(chr(ord("A") + n % 26) for n in range(5000))
    machine.load(ECHO, mode="real")
    machine.start()
    sent, seen = 0, ""
    deadline = time.monotonic() + 60
    while len(seen) < len(text) and time.monotonic() < deadline:
        sent += machine.console.send(text[sent : sent + 64])
        seen += machine.console.read(timeout=1).decode()
    assert seen == text
    assert machine.console.dropped == 0


def test_text_that_does_not_come_is_a_timeout_with_the_end_of_what_came(machine):
    machine.load(ECHO, mode="real")
    machine.start()
    machine.console.send("abc")
    began = time.monotonic()
    with pytest.raises(TimeoutError, match='xyz did not come; the console ends with "abc"'):
        machine.console.read_until("xyz", timeout=0.3)
    assert time.monotonic() - began >= 0.3


def test_waiting_for_a_guest_that_has_stopped_ends_at_once(machine):
    machine.boot(IMAGES["ELF64"])
    machine.run(timeout=60)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"never did not come: the guest does not run .*vm\.start\(\) goes on"):
        machine.console.read_until("never", timeout=30)
    assert time.monotonic() - began < 25
    assert machine.console.read(timeout=30) == b""


def test_the_reset_line_ends_the_run(machine):
    machine.load("mov al, 0xfe; out 0x64, al; l: jmp l", mode="real")
    machine.start()
    assert machine.join(timeout=60) == bj.Reset()


@pytest.mark.linux
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_linux_boots_to_a_shell_while_python_watches_its_port(linux, record_property):
    began = time.monotonic()
    with bj.boot.linux(linux / "vmlinux", initrd=linux / "initrd.cpio") as vm:
        seen, latch = bytearray(), [False]

        @vm.on_port(0x3FB, access="w")
        def line_control(exit):
            latch[0] = bool(exit.data & 0x80)  # then port 0x3f8 is the divisor's

        @vm.on_port(0x3F8, access="w")
        def watch(exit):
            if not latch[0]:
                seen.append(exit.data)

        vm.start()
        text = vm.console.read_until("belljar# ", timeout=200)
        record_property("seconds to the prompt", round(time.monotonic() - began, 1))
        text += ask(vm, "echo $((6*7))")
        assert re.search(r"^42\r?$", text, re.MULTILINE)
        release = ask(vm, "uname -r")
        assert re.search(r"^\d+\.\d+\.\d+", release, re.MULTILINE)
        vm.console.send("exit\n")
        assert vm.join(timeout=60) == bj.Reset()
        text += release + vm.console.read().decode(errors="replace")
        assert text.replace("\ufffd", "") == seen.decode(errors="ignore")
        assert watch.hits >= len(seen) > 100


def ask(vm, command):
    vm.console.send(command + "\n")
    return vm.console.read_until("belljar# ", timeout=30)


def test_a_console_shows_how_much_waits_to_be_read(new_vm):
    vm = new_vm("1M", serial=True)
    assert repr(vm.console) == "<Console of a serial port, 0 bytes waiting>"
    vm.load("mov dx, 0x3f8; mov al, 65; out dx, al; out dx, al; hlt")
    vm.run(timeout=60)
    assert repr(vm.console) == "<Console of a serial port, 2 bytes waiting>"
    vm.close()
    assert repr(vm.console).startswith("<Console")
