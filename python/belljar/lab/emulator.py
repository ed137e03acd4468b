"""One lab: an emulated PC that boots a stock kernel with kvm_amd and runs a command with this Python in it.

It owns the QEMU process from its start to its end. It never leaves one behind.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import belljar
from belljar.lab.image import Image
from belljar.lab.packages import LabError, Packages, Parts

BOOT_PATIENCE = 90.0
"""Seconds until the lab must say that it is ready; it takes 5 to 8 on two cores."""

READY = b"lab: ready"

NUDGE = 2.0
"""Seconds between two characters for the lab's serial port, each of which interrupts its processor.

Emulated AMD-V loses an interrupt now and then: with QEMU 10.0, an idle lab slept for minutes with interrupts on, and
went on as soon as one was requested.
"""
XON = b"\x11"
"""A terminal that is not stopped takes no notice of it."""

RESULTS_SIZE = 64 << 20
NEEDED_SPACE = 1 << 30


def default_cache() -> Path:
    """Where the lab keeps packages and images: below $XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "belljar/lab"


@dataclass
class Lab:
    """An emulated PC; :meth:`run` starts it, once per call."""

    cpus: int = 1
    memory: int = 3072
    cache: Path = field(default_factory=default_cache)
    boot_patience: float = BOOT_PATIENCE

    def run(
        self,
        command: Sequence[str],
        *,
        files: dict[str, Path] | None = None,
        results: Path | None = None,
        interactive: bool = False,
        timeout: float | None = None,
    ) -> int:
        """Run ``command`` in the lab and return its exit status; what it prints goes to standard output as it comes.

        ``files`` are copied to /lab/NAME; :func:`debian` finds its kernel there. What the command leaves in
        /lab/results is brought back to ``results``.
        Raises LabError if a part is missing, the lab does not come up, or ``timeout`` seconds are over.
        """
        parts = self._prepare()
        image = Image(self.cache).build(parts)
        with tempfile.TemporaryDirectory(dir=self.cache, prefix="run-") as folder:
            work = Path(folder)
            ours = {"debian/vmlinuz": parts.kernel, "debian/busybox": parts.busybox}
            self._initrd(work, parts, command, ours | (files or {}), interactive=interactive)
            outcome = work / "results.tar"
            with outcome.open("wb") as file:
                file.truncate(RESULTS_SIZE)
            self._emulate(self._command_line(parts, image, work), parts, interactive=interactive, timeout=timeout)
            return _bring_back(outcome, results)

    def _prepare(self) -> Parts:
        self.cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.cache).free
        if free < NEEDED_SPACE:
            raise LabError(f"{self.cache} has {free >> 20} MiB left; the lab needs {NEEDED_SPACE >> 20} MiB")
        return Packages(self.cache).parts()

    def _initrd(
        self, work: Path, parts: Parts, command: Sequence[str], files: dict[str, Path], *, interactive: bool
    ) -> None:
        """Write a small initial RAM disk: busybox, the modules, belljar itself and the files of this run."""
        stage = work / "stage"
        (stage / "bin").mkdir(parents=True)
        (stage / "modules").mkdir()
        shutil.copy2(parts.busybox, stage / "bin/busybox")
        for module in parts.modules:
            shutil.copy2(module, stage / "modules")
        (stage / "modules/order").write_text(" ".join(module.stem for module in parts.modules))
        shutil.copy2(Path(__file__).with_name("init.sh"), stage / "init")
        (stage / "init").chmod(0o755)
        size = shutil.get_terminal_size()
        (stage / "columns").write_text(str(size.columns))
        (stage / "rows").write_text(str(size.lines))
        if interactive:
            (stage / "interactive").touch()
        _payload(stage / "payload.tar", command, files)
        listing = subprocess.run(["find", ".", "-mindepth", "1"], cwd=stage, capture_output=True, check=True).stdout
        with (work / "initrd").open("wb") as initrd:
            pack = [str(parts.busybox), "cpio", "-o", "-H", "newc", "-R", "0:0"]
            subprocess.run(pack, cwd=stage, input=listing, stdout=initrd, stderr=subprocess.DEVNULL, check=True)

    def _command_line(self, parts: Parts, image: Path, work: Path) -> list[str]:
        def disk(path: Path, *options: str) -> list[str]:
            return ["-drive", ",".join([f"file={path}", "format=raw", "if=virtio", *options])]

        firmware = [word for folder in parts.firmware for word in ("-L", folder)]
        return [
            str(parts.qemu),
            *firmware,
            *("-accel", "tcg,thread=multi", "-cpu", "max,+svm,+npt", "-m", str(self.memory), "-smp", str(self.cpus)),
            *("-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-net", "none", "-nodefaults"),
            *disk(image, "readonly=on"),
            *disk(work / "results.tar", "cache=unsafe"),
            *("-kernel", str(parts.kernel), "-initrd", str(work / "initrd")),
            *("-append", "console=ttyS0 panic=-1 quiet mitigations=off random.trust_cpu=1"),
        ]

    def _emulate(self, line: list[str], parts: Parts, *, interactive: bool, timeout: float | None) -> None:
        environment = {**os.environ, **parts.environment}
        if interactive:
            _interactive(line, environment)
            return
        with contextlib.ExitStack() as ends:
            with ctrl_c_later():  # else it may come when QEMU runs and nobody knows its number yet
                process = ends.enter_context(
                    subprocess.Popen(
                        line,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        env=environment,
                        bufsize=0,
                        start_new_session=True,
                    )
                )
                ends.callback(_kill, process)
            self._watch(process, timeout)

    def _watch(self, process: subprocess.Popen[bytes], timeout: float | None) -> None:
        """Pass the console on until QEMU ends; give up on a lab that does not come up, or takes too long."""
        assert process.stdout is not None  # a pipe was asked for
        begun, ready, seen = time.monotonic(), False, bytearray()
        nudged = begun
        while True:
            if ready and time.monotonic() - nudged > NUDGE:
                nudged = time.monotonic()
                _nudge(process)
            elapsed = time.monotonic() - begun
            if not ready and elapsed > self.boot_patience:
                raise LabError(
                    f"the lab did not come up within {self.boot_patience:.0f} s; its console ends with\n{_tail(seen)}"
                )
            if timeout is not None and elapsed > timeout:
                raise LabError(f"the lab took longer than {timeout:.0f} s; its console ends with\n{_tail(seen)}")
            if not select.select([process.stdout], [], [], 0.5)[0]:
                continue
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                break
            seen += chunk
            del seen[:-20000]
            ready = ready or READY in seen
            sys.stdout.write(chunk.decode(errors="replace").replace("\r\n", "\n"))
            sys.stdout.flush()
        if not ready:
            raise LabError(f"the lab ended before it was ready; its console ends with\n{_tail(seen)}")


def _nudge(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None  # a pipe was asked for
    with contextlib.suppress(BrokenPipeError):  # it has ended: its output says so
        process.stdin.write(XON)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def ctrl_c_later() -> Iterator[None]:
    """Have Ctrl-C do what it does at the end of a block, not within. In another thread than the first it never does."""
    came: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if before is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        signal.raise_signal(signal.SIGINT)


def _interactive(line: list[str], environment: dict[str, str]) -> None:
    """Hand this terminal to the lab: every key goes in, Ctrl-C included."""
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
    if before is not None:
        tty.setraw(sys.stdin)
    process = subprocess.Popen(line, env=environment)
    try:
        process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if before is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _payload(path: Path, command: Sequence[str], files: dict[str, Path]) -> None:
    """Pack what goes to /lab: belljar as it is installed here, the files, and the command."""
    package = Path(belljar.__file__).parent
    metadata = [*Path(sysconfig.get_path("platlib")).glob("belljar-*.dist-info")]
    script = "\n".join(
        [
            "cd /lab",
            f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:/usr/bin:/bin HOME=/tmp",
            f"export TERM={shlex.quote(os.environ.get('TERM', 'vt100'))}",
            "export PYTHONPATH=/lab/site PYTHONDONTWRITEBYTECODE=1 BELLJAR_LAB=1",
            f"exec {shlex.join(command)}",
            "",
        ]
    )
    with tarfile.open(path, "w") as tar:
        for source in (package, *metadata):
            tar.add(source, f"site/{source.name}")
        for name, source in files.items():
            tar.add(source, name)
        entry = tarfile.TarInfo("command")
        entry.size = len(script.encode())
        tar.addfile(entry, io.BytesIO(script.encode()))


def _bring_back(outcome: Path, results: Path | None) -> int:
    """Unpack what the lab left, and return the status of its command."""
    try:
        with tarfile.open(outcome) as tar:
            status = tar.extractfile("./status")
            code = int(status.read()) if status else 1
            if results is not None:
                results.mkdir(parents=True, exist_ok=True)
                tar.extractall(results, filter="data")
    except (tarfile.TarError, KeyError, ValueError) as error:
        raise LabError(f"the lab ended without handing out its results: {error}") from error
    return code


def _tail(console: bytes | bytearray, lines: int = 20) -> str:
    return "\n".join(bytes(console).decode(errors="replace").splitlines()[-lines:])
