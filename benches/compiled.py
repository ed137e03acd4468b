"""Builds what the benchmarks need beside Python, into build/bench. It never loads anything."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
BUILT = HERE.parent / "build" / "bench"


def is_newer(source: Path, built: Path) -> bool:
    return not built.exists() or built.stat().st_mtime < source.stat().st_mtime


def compiled(source: str) -> Path:
    """The library made of a C file of this folder."""
    path, library = HERE / source, BUILT / f"lib{Path(source).stem}.so"
    if is_newer(path, library):
        BUILT.mkdir(parents=True, exist_ok=True)
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", library, path]
        subprocess.run(command, check=True)
    return library


def crate(name: str) -> Path:
    """The library made of a Rust crate of this folder, on the versions of crates that belljar has."""
    folder, target = HERE / name, BUILT / "crates"
    library = target / "release" / f"lib{name}.so"
    if any(is_newer(path, library) for path in (folder / "Cargo.toml", folder / "lib.rs", HERE.parent / "Cargo.lock")):
        shutil.copy(HERE.parent / "Cargo.lock", folder)
        command = ["cargo", "build", "--release", "--quiet", "--manifest-path", folder / "Cargo.toml"]
        subprocess.run([*command, "--target-dir", target], check=True)
        library.touch()
    return library
