"""The lab's disk: this Python, its packages, gdb and their libraries at the paths they have on the host, as one image.

It owns the image (ext4) in the cache, keyed by what is in it. It never writes to what it copies.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from belljar.lab.debugger import Debugger, debugger
from belljar.lab.packages import LabError, Parts

LEFT_OUT = (
    *("test", "tests", "idlelib", "tkinter", "ensurepip", "lib2to3", "turtledemo", "config-*", "*.a"),
    *("pip", "mypy", "mypyc", "maturin", "ruff", "belljar", "belljar-*", "dist-packages"),
)
"""Parts of a Python that no script in the lab needs, ``tests`` of packages among them; belljar itself comes later."""

KEPT = 2
"""Images that stay in the cache: those of two environments that are used in turns."""

PROGRAMS = ("/bin/bash", "/usr/bin/env", "/usr/bin/setsid")


def libraries(binaries: Iterable[Path]) -> set[Path]:
    """Return the shared libraries that ``binaries`` need, by the dynamic loader's own word."""
    found: set[Path] = set()
    paths = [str(path) for path in binaries]
    for start in range(0, len(paths), 200):
        listing = subprocess.run(
            ["ldd", *paths[start : start + 200]], capture_output=True, text=True, check=False
        ).stdout
        for line in listing.splitlines():
            words = line.split()
            found.update(Path(word) for word in words if word.startswith("/") and not word.endswith(":"))
    return {path for path in found if path.exists()}


class Image:
    """The root file system of the lab, made in ``cache``."""

    def __init__(self, cache: Path) -> None:
        """Name the folder; nothing is made before :meth:`build`."""
        self.cache = cache
        self.debugger: Debugger | None = None

    def build(self, parts: Parts) -> Path:
        """Return the image for this Python, made if the cache has none."""
        self.debugger = debugger()
        key = hashlib.sha256()
        for path in self._inventory():
            status = path.stat()
            key.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
        key.update(Path(__file__).read_bytes())
        image = self.cache / f"root-{key.hexdigest()[:16]}.ext4"
        if not image.exists():
            self._make(image, parts)
        image.touch()
        for old in sorted(self.cache.glob("root-*.ext4"), key=_age)[KEPT:]:
            old.unlink(missing_ok=True)
        return image

    def _bases(self) -> list[Path]:
        """The Python installation, and the environment on top of it if there is one."""
        return [Path(sys.base_prefix), *([Path(sys.prefix)] if sys.prefix != sys.base_prefix else [])]

    def _packages(self) -> Path:
        return Path(sysconfig.get_path("platlib"))

    def _inventory(self) -> Iterator[Path]:
        """Files whose change makes another image: the interpreter and the installed packages' records, not belljar."""
        yield Path(os.path.realpath(sys.executable))
        for record in sorted(self._packages().glob("*.dist-info/RECORD")):
            if not record.parent.name.startswith("belljar-"):
                yield record
        if self.debugger is not None:
            yield self.debugger.program

    def _make(self, image: Path, parts: Parts) -> None:
        root = Path(tempfile.mkdtemp(dir=self.cache, prefix="root-"))
        root.chmod(0o755)
        try:
            self._stage(root, parts)
            size = sum(path.lstat().st_size + 4096 for path in root.rglob("*")) * 5 // 4 + (32 << 20)
            partial = root.with_suffix(".partial")
            with partial.open("wb") as file:
                file.truncate(size)
            _mke2fs(root, partial)
            partial.rename(image)
        except OSError as error:
            raise LabError(f"the lab's disk image could not be made in {self.cache}: {error}") from error
        finally:
            shutil.rmtree(root, ignore_errors=True)

    def _stage(self, root: Path, parts: Parts) -> None:
        first, *second = self._bases()
        self._copy_python(root, first, *(["site-packages"] if second else []))
        for environment in second:
            self._copy_python(root, environment)
        standard, programs = Path(sysconfig.get_path("stdlib")), list(PROGRAMS)
        binaries = [Path(os.path.realpath(sys.executable)), *(Path(program) for program in PROGRAMS)]
        binaries += [*(standard / "lib-dynload").glob("*.so"), *self._packages().rglob("*.so")]
        if self.debugger is not None:
            binaries += self.debugger.binaries
            programs.append(str(self.debugger.program))
            for folder in self.debugger.folders:
                _copy_tree(folder, root)
        needed = libraries(binaries)
        for path in [*needed, *(Path(program) for program in programs)]:
            _copy(path, root)
        for name in ("proc", "sys", "dev", "tmp", "run", "lab", "root", "etc"):
            (root / name).mkdir(exist_ok=True, parents=True)
        (root / "tmp").chmod(0o1777)
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
        self._busybox(root, parts.busybox)

    def _copy_python(self, root: Path, base: Path, *without: str) -> None:
        for folder in ("bin", "lib"):
            source = base / folder
            if base == Path("/usr"):  # the system's own: only Python's part of it
                version = f"python{sys.version_info.major}.{sys.version_info.minor}"
                source = source / version
            if source.is_file():
                _copy(source, root)
            elif source.exists():
                _copy_tree(source, root, *without)
        for file in base.glob("pyvenv.cfg"):
            _copy(file, root)

    def _busybox(self, root: Path, busybox: Path) -> None:
        bin_folder = root / "bin"
        bin_folder.mkdir(exist_ok=True)
        shutil.copy2(busybox, bin_folder / "busybox")
        for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
            if not (bin_folder / applet).exists():
                (bin_folder / applet).symlink_to("/bin/busybox")


def _age(image: Path) -> float:
    """Seconds since its last use, more or less; another lab may take it away meanwhile."""
    try:
        return -image.stat().st_mtime
    except OSError:
        return 0.0


def _inside(root: Path, path: Path) -> Path:
    return root / str(path).lstrip("/")


def _copy_tree(folder: Path, root: Path, *without: str) -> None:
    ignored = shutil.ignore_patterns(*LEFT_OUT, *without)
    shutil.copytree(folder, _inside(root, folder), symlinks=True, ignore=ignored, dirs_exist_ok=True)


def _copy(path: Path, root: Path) -> None:
    """Copy a file to its own place below ``root``, following links: what the loader finds there is the file itself."""
    target = _inside(root, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(path, target)


def _mke2fs(root: Path, image: Path) -> None:
    program = shutil.which("mke2fs") or shutil.which("mke2fs", path="/sbin:/usr/sbin")
    if program is None:
        raise LabError("the lab needs mke2fs (Debian's package e2fsprogs)")
    command = [program, "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", str(root), str(image)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"mke2fs failed: {done.stderr.strip()}")
