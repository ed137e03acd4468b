"""The lab's failures: each ends soon, with one clear message and the tail of the console. No QEMU runs here.

A shell script stands in for QEMU; the real one runs in `make test-amdv`.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.waiting import PATIENCE, until

from belljar.cli import main
from belljar.lab import Lab, LabError
from belljar.lab import emulator as emulator_module
from belljar.lab.image import Image
from belljar.lab.packages import Packages, Parts

BUSYBOX = shutil.which("busybox")


def program(folder: Path, text: str) -> Path:
    """Write a program that stands in for QEMU."""
    path = folder / "qemu-system-x86_64"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A lab whose parts are there, with `qemu` to be written."""

    def make(text, **options):
        kernel = tmp_path / "vmlinuz"
        kernel.touch()
        parts = Parts(program(tmp_path, text), {}, (), kernel, (), Path(BUSYBOX or "/bin/busybox"))
        monkeypatch.setattr(Packages, "parts", lambda self: parts)
        monkeypatch.setattr(Image, "build", lambda self, parts: kernel)
        return Lab(cache=tmp_path / "cache", **options)

    return make


needs_busybox = pytest.mark.skipif(
    BUSYBOX is None, reason="the initial RAM disk is packed by busybox, which is not here"
)


@needs_busybox
def test_a_lab_that_hangs_at_boot_is_given_up_with_the_tail_of_its_console(lab, capsys):
    begun = time.monotonic()
    with pytest.raises(LabError, match=r"(?s)did not come up within 1 s.*stuck here") as caught:
        lab("echo booting; echo stuck here; exec sleep 1000", boot_patience=1.0).run(["true"])
    assert time.monotonic() - begun < 20
    assert str(caught.value).splitlines()[-1] == "stuck here"
    assert "booting" in capsys.readouterr().out, "what it prints is seen as it comes"


@needs_busybox
def test_a_lab_that_takes_too_long_is_ended(lab):
    with pytest.raises(LabError, match="took longer than 1 s"):
        lab("echo lab: ready; exec sleep 1000").run(["true"], timeout=1.0)


@needs_busybox
def test_a_lab_that_dies_says_so(lab):
    with pytest.raises(LabError, match=r"ended before it was ready; its console ends with\nno such machine"):
        lab("echo no such machine; exit 1").run(["true"])
    with pytest.raises(LabError, match="without handing out its results"):
        lab("echo lab: ready").run(["true"])


@needs_busybox
def test_the_lab_is_kept_awake_once_it_is_ready(lab, capsys):
    with pytest.raises(LabError):  # nothing comes back from this one
        lab("echo lab: ready; head -c 2 | od -An -tx1").run(["true"])
    assert capsys.readouterr().out.split()[-2:] == ["11", "11"]


@needs_busybox
def test_no_emulator_outlives_a_lab_that_failed(lab, tmp_path):
    with pytest.raises(LabError):
        lab(f"sleep 1000 & echo $! >{tmp_path}/child; wait", boot_patience=1.0).run(["true"])
    child = int((tmp_path / "child").read_text())
    until(lambda: not is_running(child), "the emulator's child still runs")


def is_running(process):
    try:
        return "zombie" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def test_too_little_disk_space_is_said_before_anything_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(
        emulator_module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1 << 40, 1 << 40, 5 << 20)
    )
    with pytest.raises(LabError, match=r"has 5 MiB left; the lab needs 1024 MiB"):
        Lab(cache=tmp_path).run(["true"])


def test_too_old_an_emulator_is_refused_with_both_versions(tmp_path, monkeypatch):
    packages = Packages(tmp_path)
    (packages.tree / "usr/bin").mkdir(parents=True)
    program(packages.tree / "usr/bin", "echo QEMU emulator version 7.2.0")
    monkeypatch.setattr(shutil, "which", lambda *arguments, **options: None)
    with pytest.raises(LabError, match=r"QEMU 7 is too old .*: 10 is needed"):
        packages._qemu()


def test_no_emulator_at_all_is_said(tmp_path, monkeypatch):
    packages = Packages(tmp_path)
    packages.tree.mkdir(parents=True)
    monkeypatch.setattr(shutil, "which", lambda *arguments, **options: None)
    with pytest.raises(LabError, match="none of the packages has the program qemu-system-x86_64"):
        packages._qemu()


def test_a_host_without_apt_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="needs the program apt-get, which is not here"):
        Packages(tmp_path).parts()


def test_the_command_says_it_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    script = tmp_path / "script.py"
    script.touch()
    assert main(["lab", str(script)]) == 1
    assert capsys.readouterr().err == "belljar: the lab needs the program apt-get, which is not here (Debian has it)\n"
    assert main(["lab", str(tmp_path / "nothing.py")]) == 1
    assert "nothing.py is not a file" in capsys.readouterr().err


@needs_busybox
def test_ctrl_c_ends_all_of_it(tmp_path):
    program(tmp_path, f"echo $$ >{tmp_path}/emulator; exec sleep 1000")
    code = f"""
import sys
from pathlib import Path
from belljar.lab import Lab
from belljar.lab.image import Image
from belljar.lab.packages import Packages, Parts
here = Path({str(tmp_path)!r})
qemu = here / "qemu-system-x86_64"
Packages.parts = lambda self: Parts(qemu, {{}}, (), qemu, (), Path({BUSYBOX!r}))
Image.build = lambda self, parts: here
try:
    Lab(cache=here / "cache").run(["true"])
except KeyboardInterrupt:
    sys.exit(130)
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    pid_file = tmp_path / "emulator"
    until(lambda: pid_file.exists() and pid_file.read_text().strip())
    emulator = int(pid_file.read_text())
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=PATIENCE) == 130
    until(lambda: not Path(f"/proc/{emulator}").exists())  # whoever inherits it collects it


@needs_busybox
def test_ctrl_c_while_the_emulator_starts_ends_it_too(lab, monkeypatch):
    started = []

    class Interrupted(subprocess.Popen):
        """One that Ctrl-C hits when the process runs, and before its caller has it."""

        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            if "start_new_session" in options:
                started.append(self.pid)
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        lab("exec sleep 1000").run(["true"])
    assert len(started) == 1
    until(lambda: not is_running(started[0]), "the emulator still runs")
