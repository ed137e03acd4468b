"""What the documents show and name is there, and does what they say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import belljar as bj

ROOT = Path(__file__).resolve().parents[2]
README, CONTRIBUTING, KVMS = ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "kvms.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


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


def test_the_table_of_kvms_answers_every_question_of_the_probe_in_order():
    rows = re.findall(r"^\| `(\w+)` \| (?:yes|no) \| (?:yes|no) \|", KVMS.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [name for name, _, _, _ in bj.host.quirks.answers()]


@pytest.mark.parametrize("document", [README, CONTRIBUTING, KVMS], ids=lambda path: path.name)
def test_every_path_that_a_document_names_is_there(document):
    named = re.findall(
        r"`((?:src|python|tests|benches|scripts|docs|\.ci)/[\w./-]*)`", document.read_text(encoding="utf-8")
    )
    assert [path for path in named if not (ROOT / path).exists()] == []
