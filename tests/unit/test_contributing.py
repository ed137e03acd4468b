"""CONTRIBUTING.md keeps up with the tree."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_every_dependency_has_its_reason() -> None:
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    section = TEXT.split("## Dependencies")[1]
    assert set(re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)) == set(manifest["dependencies"])
    assert all(f"`{name}`" in section for name in manifest["dev-dependencies"])


def test_every_make_target_it_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", TEXT)) <= targets
