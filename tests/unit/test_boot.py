"""Initial RAM disks: what is packed, and what is refused. No guest runs here."""

import os
import shutil
import subprocess

import pytest

import belljar as bj
from belljar.lab import packages


def entries(archive):
    """Read a newc archive back: (mode, content) by name."""
    found, at = {}, 0
    while at < len(archive):
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, length = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + length - 1].decode()
        start = -(-(at + 110 + length) // 4) * 4
        found[name] = (mode, archive[start : start + size])
        at = -(-(start + size) // 4) * 4
    return found


def test_files_are_packed_with_the_folders_on_their_way(tmp_path):
    tool = tmp_path / "tool"
    tool.write_bytes(b"a program")
    tool.chmod(0o700)
    disk = bj.boot.initrd({"init": b"#!/bin/sh\n", "usr/bin/tool": tool, "etc/motd": b"hello", "proc": None})
    assert entries(disk) == {
        "init": (0o100755, b"#!/bin/sh\n"),
        "usr": (0o040755, b""),
        "usr/bin": (0o040755, b""),
        "usr/bin/tool": (0o100700, b"a program"),
        "etc": (0o040755, b""),
        "etc/motd": (0o100644, b"hello"),
        "proc": (0o040755, b""),
        "TRAILER!!!": (0, b""),
    }


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_reads_what_was_packed():
    disk = bj.boot.initrd({"a/b": b"content", "/c": b""})
    listed = subprocess.run(["cpio", "-t"], input=disk, capture_output=True, check=True).stdout
    assert listed.split() == [b"a", b"a/b", b"c"]


@pytest.mark.parametrize("name", ["", "/", "../init", "a/../../b"])
def test_a_name_that_leads_out_of_the_disk_is_refused(name):
    with pytest.raises(ValueError, match="no name of a file"):
        bj.boot.initrd({name: b""})


def test_debians_disk_has_busybox_and_runs_the_commands_first(tmp_path, monkeypatch):
    from belljar.lab import debian

    kernel, busybox = tmp_path / "vmlinuz", tmp_path / "busybox"
    kernel.touch()
    busybox.write_bytes(b"\x7fELF")
    parts = packages.Parts(kernel, {}, (), kernel, (), busybox)
    monkeypatch.setattr(packages.Packages, "parts", lambda self: parts)
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path))
    found = debian("httpd -p 8080")
    disk = entries(found.initrd)
    assert found.kernel in (kernel, debian_inside())
    lines = disk["init"][1].decode().splitlines()
    assert disk["bin/busybox"][0] & 0o111 or found.kernel == kernel
    assert lines.index("httpd -p 8080") < lines.index("exec setsid cttyhack sh")


def debian_inside():
    """Where the lab has the kernel."""
    from belljar.lab.debian_guest import INSIDE

    return INSIDE / "vmlinuz"
