"""What the documents show does what they say: the blocks of a page run in order, and print what it promises.

A promise is a comment behind a print, or the block of text that follows.
"""

import doctest
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
PROMISED = re.compile(r"print\(.*\)  # (.*)")
WITH_BLOCKS = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]

RUN = """
import contextlib, io, json, sys
names = {"__name__": "__main__"}
exec("import belljar as bj", names)
shown = []
for block in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(block, names)
    shown.append(out.getvalue())
json.dump(shown, sys.stdout)
"""


def promise(code, text):
    """Return what a block promises to print; None if it promises nothing."""
    comments = PROMISED.findall(code)
    return text.splitlines() if text else comments or None


def test_the_readme_and_the_tutorial_have_blocks():
    assert {page.name for page in WITH_BLOCKS} >= {"README.md", "index.md", "tutorial.md"}


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_print_what_the_page_says(page, tmp_path):
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    if any('.load("' in code for code, _ in blocks):
        pytest.importorskip("keystone")
    if any("import numba" in code for code, _ in blocks):
        pytest.importorskip("numba")
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps([code for code, _ in blocks]),
        capture_output=True,
        cwd=tmp_path,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for (code, text), shown in zip(blocks, json.loads(done.stdout), strict=True):
        assert shown.splitlines() == (promise(code, text) or []), code


@pytest.mark.parametrize("name", ["assembly", "listing"])
def test_the_examples_in_docstrings_do_what_they_say(name):
    pytest.importorskip("keystone")
    result = doctest.testmod(importlib.import_module(f"belljar.{name}"))
    assert result.attempted > 0 and result.failed == 0
