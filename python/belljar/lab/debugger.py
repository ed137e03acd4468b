"""The host's gdb, for the lab: its program and the folders without which it does not start.

It owns the answer to what these are, by gdb's own word. It never copies anything, and installs no gdb.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

TELL = ("show data-directory", "python import sysconfig; print(sysconfig.get_path('stdlib'))")


@dataclass(frozen=True)
class Debugger:
    """A gdb: its program, its data, and the standard library of the Python inside it."""

    program: Path
    folders: tuple[Path, ...]

    @property
    def binaries(self) -> list[Path]:
        """What needs shared libraries: the program, and the modules of its Python."""
        return [self.program, *(module for folder in self.folders for module in folder.glob("lib-dynload/*.so"))]


def debugger() -> Debugger | None:
    """Return the gdb of this host, or None where there is none that starts."""
    found = shutil.which("gdb")
    if found is None:
        return None
    asked = [found, "-nx", "-batch", *(word for line in TELL for word in ("-ex", line))]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    words = done.stdout.replace('"', " ").split()
    folders = [Path(word.rstrip(".")) for word in words if word.startswith("/")]
    return Debugger(Path(os.path.realpath(found)), tuple(folder for folder in folders if folder.is_dir()))
