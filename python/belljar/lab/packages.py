"""Debian's packages for the lab: QEMU, a stock kernel with kvm_amd, busybox.

It owns the download cache and the extracted tree. It never installs anything and never changes the host's apt.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from belljar.errors import BelljarError

MINIMUM_QEMU = 10
"""Older ones do not fire hardware breakpoints under AMD-V (measured with 7.2)."""

NEEDED_MODULES = (
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
    "overlay",
    "irqbypass",
    "kvm",
    "kvm-amd",
)
"""In the order of loading."""


class LabError(BelljarError):
    """The lab cannot be made or run here; the message says what is missing and what to do."""


@dataclass(frozen=True)
class Parts:
    """What the lab is started with, as paths on the host."""

    qemu: Path
    environment: dict[str, str]
    firmware: tuple[str, ...]
    kernel: Path
    modules: tuple[Path, ...]
    busybox: Path


def _run(*command: str, **options: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **options})
    except FileNotFoundError as error:
        raise LabError(f"the lab needs the program {command[0]}, which is not here (Debian has it)") from error
    except subprocess.CalledProcessError as error:
        tail = "\n".join((error.stderr or error.stdout).strip().splitlines()[-5:])
        raise LabError(f"{' '.join(command[:3])} failed:\n{tail}") from error
    return done.stdout


def qemu_version(program: str | Path, **environment: str) -> int | None:
    """Return the major version of a qemu-system-x86_64, or None if it does not start."""
    try:
        text = _run(str(program), "--version", **environment)
    except LabError:
        return None
    found = re.search(r"version (\d+)\.", text)
    return int(found[1]) if found else None


class Packages:
    """The lab's own package cache, below ``cache``."""

    def __init__(self, cache: Path) -> None:
        """Name the folders; nothing is fetched before :meth:`parts`."""
        self.apt, self.tree = cache / "apt", cache / "packages"

    def parts(self) -> Parts:
        """Fetch and extract what is missing; return where everything is."""
        kernels = sorted(self.tree.glob("boot/vmlinuz-*-cloud-amd64"))
        if not kernels or not (self.tree / "complete").exists():
            self._fetch()
            kernels = sorted(self.tree.glob("boot/vmlinuz-*-cloud-amd64"))
        if not kernels:
            raise LabError("the package linux-image-cloud-amd64 has no kernel in it")
        version = kernels[-1].name.removeprefix("vmlinuz-")
        modules = tuple(self._module(version, name) for name in NEEDED_MODULES)
        qemu, environment, firmware = self._qemu()
        return Parts(qemu, environment, firmware, kernels[-1], modules, self._first("busybox"))

    def _module(self, version: str, name: str) -> Path:
        found = list((self.tree / "lib/modules" / version).rglob(f"{name}.ko"))
        if not found:
            raise LabError(f"the kernel {version} has no module {name}")
        return found[0]

    def _first(self, program: str) -> Path:
        for folder in ("bin", "usr/bin", "sbin", "usr/sbin"):
            if (path := self.tree / folder / program).exists():
                return path
        raise LabError(f"none of the packages has the program {program}")

    def _qemu(self) -> tuple[Path, dict[str, str], tuple[str, ...]]:
        """Return QEMU's program, environment and data folders: the host's own if it is new enough, else the fetched."""
        installed = shutil.which("qemu-system-x86_64")
        if installed and (qemu_version(installed) or 0) >= MINIMUM_QEMU:
            return Path(installed), {}, ()
        program = self._first("qemu-system-x86_64")
        libraries = [str(self.tree / folder) for folder in ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")]
        modules = self.tree / "usr/lib/x86_64-linux-gnu/qemu"
        environment = {"LD_LIBRARY_PATH": ":".join(libraries), "QEMU_MODULE_DIR": str(modules)}
        version = qemu_version(program, **environment)
        if version is None:
            raise LabError("the fetched qemu-system-x86_64 does not start: is a library of the host too old for it?")
        if version < MINIMUM_QEMU:
            raise LabError(
                f"QEMU {version} is too old (hardware breakpoints fail under AMD-V): {MINIMUM_QEMU} is needed"
            )
        data = tuple(str(self.tree / "usr/share" / name) for name in ("qemu", "seabios"))
        return program, environment, data

    def _fetch(self) -> None:
        """Fetch with an apt configuration of our own, so that apt's signatures and checksums hold."""
        self._configure()
        self._apt("update")
        wanted: list[tuple[str, ...]] = [("linux-image-cloud-amd64", "busybox-static")]
        installed = shutil.which("qemu-system-x86_64")
        if not installed or (qemu_version(installed) or 0) < MINIMUM_QEMU:
            wanted.append(("qemu-system-x86",))
        shutil.rmtree(self.tree, ignore_errors=True)
        self.tree.mkdir(parents=True)
        for group in wanted:
            release = ["-t", self._backports] if "qemu-system-x86" in group and self._backports else []
            self._apt("install", "-y", "--download-only", "--no-install-recommends", "--reinstall", *release, *group)
        for package in sorted((self.apt / "archives").glob("*.deb")):
            if not re.match(r"(systemd|udev|libpam|libnss|initramfs|klibc|linux-base)", package.name):
                _run("dpkg-deb", "-x", str(package), str(self.tree))
        (self.tree / "complete").touch()

    def _configure(self) -> None:
        sources = self._sources()
        for folder in ("lists/partial", "archives/partial"):
            (self.apt / folder).mkdir(parents=True, exist_ok=True)
        (self.apt / "sources.list").write_text("\n".join(sources) + "\n")
        quoted = {
            "Dir::Etc::sourcelist": self.apt / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": self.apt / "lists",
            "Dir::Cache::archives": self.apt / "archives",
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "Debug::NoLocking": "1",
            "Acquire::Languages": "none",
            "APT::Sandbox::User": "",
        }
        (self.apt / "apt.conf").write_text("".join(f'{key} "{value}";\n' for key, value in quoted.items()))

    def _sources(self) -> list[str]:
        """The host's own Debian source, and the backports of its suite while its QEMU is too old."""
        rows = self._targets()
        codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
        addresses = [row[0] for row in rows if row[1:] == [codename, "main"] and "security" not in row[0]]
        if not addresses:
            raise LabError(
                f"the lab fetches Debian's packages; this host's apt has no source of {codename or 'Debian'}"
            )
        suite, uri = codename, addresses[0]
        self._backports = f"{suite}-backports" if suite in {"bookworm"} else ""
        wanted = [suite, *([self._backports] if self._backports else [])]
        return [f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {uri} {name} main" for name in wanted]

    def _targets(self) -> list[list[str]]:
        """Where the host's apt gets main packages from: address, suite, component. Apt only knows once it has lists."""
        question = ("indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Identifier: Packages")
        answer = _run("apt-get", *question)
        if not answer.strip():
            lists = self.apt / "host-lists"
            (lists / "partial").mkdir(parents=True, exist_ok=True)
            ours = ("-o", f"Dir::State::lists={lists}", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=")
            subprocess.run(["apt-get", "-q", *ours, "update"], capture_output=True, check=False)  # some may not answer
            answer = _run("apt-get", *ours, *question)
        return [line.split() for line in answer.splitlines() if line.endswith(" main")]

    _backports: str = ""

    def _apt(self, *arguments: str) -> None:
        _run("apt-get", "-q", *arguments, APT_CONFIG=str(self.apt / "apt.conf"))
