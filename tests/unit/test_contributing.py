"""CONTRIBUTING.md keeps up with the tree."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
OURS = ("benches", "guests", "python", "scripts", "src", "tests")


def sources() -> list[Path]:
    """Return what is written by hand, in Rust, Python and C."""
    kinds = {".rs", ".py", ".c", ".h", ".S"}
    files = [path for folder in OURS for path in sorted((ROOT / folder).rglob("*")) if path.suffix in kinds]
    return [path for path in files if "target" not in path.parts]


def test_every_dependency_has_its_reason() -> None:
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    section = TEXT.split("## Dependencies")[1]
    assert set(re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)) == set(manifest["dependencies"])
    assert all(f"`{name}`" in section for name in manifest["dev-dependencies"])


def test_every_make_target_it_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", TEXT)) <= targets


def test_no_file_is_longer_than_it_allows() -> None:
    most = re.search(r"One idea per file, at most (\d+) lines", TEXT)
    assert most is not None
    lengths = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n") for path in sources()}
    assert len(lengths) > 400
    assert {name: lines for name, lines in lengths.items() if lines > int(most[1])} == {}


def test_every_module_opens_with_words() -> None:
    opening = {".rs": "//!", ".py": '"""'}
    texts = {path: path.read_text(encoding="utf-8").lstrip() for path in sources() if path.suffix in opening}
    silent = [str(path.relative_to(ROOT)) for path, text in texts.items() if not is_opened(text, opening[path.suffix])]
    assert silent == []


def is_opened(text: str, mark: str) -> bool:
    """Are there words at the top, after the lines that are for the system?"""
    return not text or re.sub(r"\A(#.*\n)+", "", text).startswith(mark)
