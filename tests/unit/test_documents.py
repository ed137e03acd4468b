"""What the documents name is there. Nothing here needs a KVM."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
KVMS, PERFORMANCE = ROOT / "docs" / "kvms.md", ROOT / "docs" / "performance.md"


def test_the_table_of_kvms_answers_every_question_of_the_probe_in_order():
    rows = re.findall(r"^\| `(\w+)` \| (?:yes|no) \| (?:yes|no) \|", KVMS.read_text(encoding="utf-8"), re.MULTILINE)
    source = (ROOT / "src" / "kvm" / "quirks.rs").read_text(encoding="utf-8")
    assert rows == re.findall(r"^ +(\w+) = (?:true|false), \"", source, re.MULTILINE) != []


@pytest.mark.parametrize("document", [README, CONTRIBUTING, KVMS, PERFORMANCE], ids=lambda path: path.name)
def test_every_path_that_a_document_names_is_there(document):
    named = re.findall(
        r"`((?:src|python|tests|benches|scripts|docs|\.ci)/[\w./-]*)`", document.read_text(encoding="utf-8")
    )
    assert [path for path in named if not (ROOT / path).exists()] == []
