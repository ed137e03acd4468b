"""Breakpoints whose condition does not hold, beside gdb, also on QEMU: what users would pick. It has no target."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which

from case import Case, UnavailableError, Work

import belljar as bj
from belljar.lab import LabError
from belljar.lab.emulator import default_cache
from belljar.lab.packages import Packages
from rows.guests import MEMORY

AT = 0x7C00
# again: nop; dec ecx; jnz again; done: jmp again. QEMU begins in real mode; belljar in ring 0 of long mode.
REAL, LONG = bytes.fromhex("90 6649 75fb ebf9"), bytes.fromhex("90 ffc9 75fb ebf9")
DONE = 5  # behind the nop
HITS = 200  # in a round: what gdb says before and after them is little beside it
PATIENCE = 20.0  # seconds until QEMU listens

# gdb, told by its standard input how often the loop is to come by the breakpoint.
GDB = """
import gdb, sys
for line in ("set confirm off", "set pagination off", "target remote {path}", "set $ecx = 1", "tbreak *{done}",
             "continue", "break *{done}", "break *{hit} if $ebx == 1"):
    gdb.execute(line, to_string=True)
print("ready", flush=True)
for line in sys.stdin:
    gdb.execute("set $ecx = " + line, to_string=True)
    gdb.execute("continue", to_string=True)
    left, at = (int(gdb.parse_and_eval(name)) for name in ("(unsigned)$ecx", "(long)$pc"))
    print("done" if (left, at) == (0, {done}) else f"{{left}} rounds left at {{at:#x}}", flush=True)
"""


def answer_of(gdb: subprocess.Popen[str], wanted: str) -> None:
    """Skip what gdb says besides, up to the line `wanted`."""
    said = ""
    assert gdb.stdout is not None
    for line in gdb.stdout:
        if line.strip() == wanted:
            return
        said += line
    raise AssertionError(said)


@contextmanager
def gdb_at(path: Path, hit: int) -> Iterator[Work]:
    """Rounds of the loop at `hit` under gdb, which is connected to the server at `path`."""
    script = path.with_suffix(".py")
    script.write_text(GDB.format(path=path, done=hit + DONE, hit=hit))
    command = ["gdb", "-nx", "-q", "-batch", "-x", str(script)]
    with subprocess.Popen(
        command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as gdb:
        pipe = gdb.stdin
        assert pipe is not None

        def rounds(count: int) -> None:
            pipe.write(f"{count * HITS}\n")
            pipe.flush()
            answer_of(gdb, "done")

        try:
            answer_of(gdb, "ready")
            yield rounds
        finally:
            gdb.kill()


def qemu() -> tuple[list[str], dict[str, str]]:
    """The lab's QEMU, and its environment; nothing is fetched for it."""
    cache = default_cache()
    if not (cache / "packages/complete").exists():
        raise UnavailableError("the lab's QEMU is not here (python -m belljar lab fetches it)")
    try:
        parts = Packages(cache).parts()
    except LabError as error:
        raise UnavailableError(str(error)) from error
    firmware = [word for folder in parts.firmware for word in ("-L", folder)]
    return [str(parts.qemu), *firmware], {**os.environ, **parts.environment}


@contextmanager
def emulated(folder: Path) -> Iterator[Path]:
    """The loop in QEMU, which translates it; and where its server for gdb listens."""
    program, environment = qemu()
    (folder / "code").write_bytes(REAL)
    reset = bytes([0xEA]) + AT.to_bytes(4, "little")  # jmp 0:AT, at the reset vector
    (folder / "rom").write_bytes(b"\xf4" * 0xFFF0 + reset.ljust(16, b"\xf4"))
    path = folder / "qemu"
    command = [*program, "-accel", "tcg", "-m", "16", "-bios", str(folder / "rom"), "-S"]
    command += ["-display", "none", "-nodefaults", "-net", "none"]
    command += ["-device", f"loader,file={folder / 'code'},addr={AT:#x},force-raw=on"]
    command += ["-chardev", f"socket,path={path},server=on,wait=off,id=gdb", "-gdb", "chardev:gdb"]
    with subprocess.Popen(command, env=environment) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while not path.exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            yield path
        finally:
            process.kill()


@contextmanager
def machine() -> Iterator[bj.VM]:
    with bj.VM(MEMORY) as vm:
        vm.load(LONG, mode="long")
        yield vm


@contextmanager
def own() -> Iterator[Work]:
    """Rounds of the loop in belljar, whose filter decides."""
    with machine() as vm:
        hit = vm.cpu.regs.rip
        vm.breakpoint(hit, when=bj.reg.ebx == 1)
        vm.breakpoint(hit + DONE)

        def rounds(count: int) -> None:
            vm.cpu.regs.rcx = count * HITS
            exit = vm.run()
            assert isinstance(exit, bj.BreakpointHit) and exit.address == hit + DONE, exit

        yield rounds


@contextmanager
def served(folder: Path) -> Iterator[Work]:
    """Rounds of the loop under gdb at belljar's own server."""
    path = folder / "own"
    with machine() as vm, vm.gdbserver(path=path), gdb_at(path, vm.cpu.regs.rip) as rounds:
        yield rounds
        with suppress(bj.BelljarError):
            vm.stop()


def conditional() -> Iterator[Case]:
    if which("gdb") is None:
        raise UnavailableError("gdb is not installed")
    what = "breakpoint whose condition does not hold"
    with tempfile.TemporaryDirectory() as name, own() as ours:
        folder = Path(name)
        with served(folder) as theirs:
            yield Case("gdb", f"{what}, as a filter / as gdb's condition, at belljar's gdbserver", None, ours, theirs)
        with emulated(folder) as path, gdb_at(path, AT) as theirs:
            yield Case("gdb, QEMU", f"{what}, as a filter / as gdb's condition, at QEMU (TCG)", None, ours, theirs)
