"""`belljar run` and `belljar demo` as a user starts them: on files and pipes, and on a terminal of their own."""

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from tests import waiting

import belljar as bj
from belljar import demo

BELLJAR = [sys.executable, "-c", "import sys; from belljar.cli import main; sys.exit(main())"]
HALT = bytes.fromhex("b0 2a e6 10 f4")  # mov al, 42; out 0x10, al; hlt
PRINT = bytes.fromhex("ba f8 03 b0 21 ee eb fe")  # mov dx, 0x3f8; mov al, '!'; out dx, al; jmp $
# mov dx, 0x3fd; again: in al, dx; test al, 1; jz again; mov dx, 0x3f8; in al, dx; inc al; out dx, al; hlt
ECHO = bytes.fromhex("ba fd 03 ec a8 01 74 fb ba f8 03 ec fe c0 ee f4")


@pytest.fixture
def run(tmp_path):
    """Run belljar on a file of these bytes."""

    def run(content, *options, typed=b"", **keywords):
        (file := tmp_path / "guest").write_bytes(content)
        command = [*BELLJAR, "run", str(file), *options]
        return subprocess.run(command, input=typed, capture_output=True, timeout=60, check=False, **keywords)

    return run


def test_a_guest_that_halts_ends_with_0_and_a_report_of_where_it_was(run):
    ended = run(HALT, "--mode", "real", "--at", "0x7c00")
    report = ended.stderr.decode()
    assert (ended.returncode, ended.stdout) == (0, b"")
    assert "The guest ended: it halted." in report and "Hlt(vcpu=0)" in report
    assert "<VCPU 0 at 0x7c05, 16 bits, ring 0>" in report
    assert "rax 000000000000002a" in report and "cr0 10" in report


def test_a_guest_whose_time_is_over_ends_with_124_and_its_output_is_kept(run):
    ended = run(PRINT, "--mode", "real", "--timeout", "0.3")
    assert (ended.returncode, ended.stdout) == (124, b"!")
    assert b"its time was over" in ended.stderr and b"jmp" in ended.stderr


def test_piped_input_is_typed_into_the_guest(run):
    ended = run(ECHO, "--mode", "real", "--timeout", "20", typed=b"A")
    assert (ended.returncode, ended.stdout) == (0, b"B")


def test_a_guest_that_fails_ends_with_2(run):
    ended = run(bytes.fromhex("0f 0b"), "--mode", "user")  # ud2
    assert ended.returncode == 2
    assert b"GuestException(vector=6" in ended.stderr and b"ud2" in ended.stderr


def test_standard_input_may_be_closed(tmp_path):
    (file := tmp_path / "guest").write_bytes(HALT)
    command = ["sh", "-c", 'exec "$@" <&-', "sh", *BELLJAR, "run", str(file), "--mode", "real"]
    ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (ended.returncode, b"it halted" in ended.stderr) == (0, True)


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"hello\n", [], ["neither bzImage nor ELF nor Multiboot", "--mode real"]),
        (b"", [], ["neither bzImage"]),
        (b"", ["--mode", "real"], ["is empty"]),
        (b"\x7fELF\2\1\1" + bytes(20), [], ["ELF"]),
        (HALT, ["--mode", "real", "--at", "0x200000"], ["0x200000"]),
        (HALT, ["--mode", "real", "--cpus", "0"], ["0 vCPUs asked", "between 1 and"]),
        (HALT, ["--mode", "real", "--memory", "64Q"], ["64Q", '"64M"']),
        (HALT, ["--mode", "real", "--memory", "0"], ["at least one page"]),
    ],
)
def test_what_cannot_start_ends_with_1_and_a_reason_without_a_traceback(run, content, options, words):
    ended = run(content, *options)
    message = ended.stderr.decode()
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert message.startswith("belljar: ") and "Traceback" not in message and all(w in message for w in words)


@pytest.mark.parametrize("options", [["nowhere"], ["nowhere", "--mode", "real"]])
def test_a_missing_file_is_named(options):
    ended = subprocess.run([*BELLJAR, "run", *options], capture_output=True, timeout=60, check=False, text=True)
    assert (ended.returncode, ended.stderr) == (1, "belljar: nowhere: No such file or directory\n")


def test_a_missing_initrd_is_named_in_the_systems_words(new_vm):
    with pytest.raises(FileNotFoundError) as error:
        new_vm().boot(b"", initrd="nowhere")
    assert str(error.value) == "[Errno 2] No such file or directory: 'nowhere'"


def test_an_errno_is_given_once():
    program = "import resource, belljar as bj; resource.setrlimit(resource.RLIMIT_AS, (1 << 32,) * 2); bj.VM('8G')"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    said = ended.stderr.splitlines()[-1]
    assert said == "belljar.errors.HostError: mmap of guest memory: Cannot allocate memory (errno 12)"


def test_ctrl_c_reports_where_the_guest_was_and_ends_with_130(tmp_path):
    (file := tmp_path / "guest").write_bytes(PRINT)
    command = [*BELLJAR, "run", str(file), "--mode", "real"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as guest:
        assert guest.stdout.read(1) == b"!"
        guest.send_signal(signal.SIGINT)
        _, report = guest.communicate(timeout=waiting.PATIENCE)
    assert (guest.returncode, b"The guest ended: it was stopped." in report) == (130, True)


def until(terminal, text, seconds=waiting.PATIENCE):
    """Read the terminal until ``text`` has come."""
    seen, deadline = b"", time.monotonic() + seconds
    while text not in seen:
        assert select.select([terminal], [], [], deadline - time.monotonic())[0], seen
        seen += os.read(terminal, 4096)
    return seen


def test_on_a_terminal_the_guest_has_every_key_but_the_one_that_ends_it(tmp_path):
    (file := tmp_path / "guest").write_bytes(
        bytes.fromhex("ba fd 03 ec a8 01 74 f8 ba f8 03 ec fe c0 ee eb ef")
    )  # forever
    mine, its = pty.openpty()
    try:
        command = [*BELLJAR, "run", str(file), "--mode", "real"]
        guest = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, start_new_session=True)
        until(mine, b"Ctrl-] ends it\r\n")
        waiting.until(lambda: not termios.tcgetattr(its)[3] & termios.ICANON, "the terminal did not become raw")
        os.write(mine, b"@\x03")
        assert b"A\x04" in until(mine, b"\x04")
        os.write(mine, b"\x1d")
        assert b"it was stopped" in until(mine, b"rflags")
        assert guest.wait(timeout=waiting.PATIENCE) == 0
    finally:
        os.close(mine)
        os.close(its)


def test_a_triple_fault_is_told_as_one(run):
    ended = run(bytes.fromhex("0f 0b"), "--mode", "long", "--timeout", "5")  # ud2, without an interrupt table
    assert ended.returncode == 2 and b"triple fault" in ended.stderr


def test_the_demo_shows_its_steps_and_how_to_build_linux(capsys, tmp_path):
    assert demo.main(str(tmp_path)) == 0
    text = capsys.readouterr().out
    assert "Python sees PortOut(port=0x10, size=1, data=0x2a, vcpu=0)" in text
    assert "5000000050000000 is the sum" in text and "10000 port reads answered by Python" in text
    assert "a process printed 'line 1'" in text and "printer" in text and "courier" in text
    assert "faulted" in text and "#PF page fault at address 0x0" in text
    assert "is about to write b'line " in text and "prints 'line " in text and "at tick 42'" in text
    assert "`courier` counts courier_done" in text and "system_call" in text and "drgn" in text and "gdb" in text
    assert "make linux-guest" in text


def test_a_handler_of_a_class_that_is_none_is_told_what_to_write(vm):
    with pytest.raises(TypeError, match=r"@vm.on_exit\(bj.Hlt\)"):
        vm.on_exit(lambda exit: None)
    with pytest.raises(TypeError, match="no handler sees them"):
        vm.on_exit(bj.Timeout)


@pytest.mark.linux
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_what_is_piped_into_linux_waits_for_its_shell():
    build = Path(__file__).parents[1] / "guests" / "linux" / "build.sh"
    found = subprocess.run([build, "--where"], capture_output=True, text=True, check=False)
    guest = Path(found.stdout.strip())
    if found.returncode or not (guest / "vmlinux").exists() or not (guest / "initrd.cpio").exists():
        pytest.skip("the Linux guest is not built: make linux-guest")
    command = [*BELLJAR, "run", guest / "vmlinux", "--initrd", guest / "initrd.cpio", "--timeout", "120"]
    ended = subprocess.run(command, input=b"echo $((6 * 7))\nexit\n", capture_output=True, timeout=150, check=False)
    assert (ended.returncode, b"\n42\r\n" in ended.stdout) == (0, True), ended
    assert b"it reset the machine" in ended.stderr
