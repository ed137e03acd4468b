"""What the README shows does what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=[str(n) for n in range(len(SNIPPETS))])
def test_a_snippet_of_the_readme_prints_what_its_comments_say(snippet):
    if '.load("' in snippet:
        pytest.importorskip("keystone")
    promised = re.findall(r"print\(.*?\)  # (.*)", snippet)
    shown = subprocess.run(
        [sys.executable, "-c", f"import belljar as bj\n{snippet}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert promised and shown.stdout.splitlines() == promised
