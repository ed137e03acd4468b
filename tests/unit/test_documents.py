"""What the documents name is there. Nothing here needs a KVM."""

import re
from pathlib import Path

import pytest

import belljar as bj

ROOT = Path(__file__).resolve().parents[2]
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
KVMS = ROOT / "docs" / "kvms.md"
DOCUMENTS = [README, CONTRIBUTING, *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_table_of_kvms_answers_every_question_of_the_probe_in_order():
    rows = re.findall(r"^\| `(\w+)` \| (?:yes|no) \| (?:yes|no) \|", KVMS.read_text(encoding="utf-8"), re.MULTILINE)
    source = (ROOT / "src" / "kvm" / "quirks.rs").read_text(encoding="utf-8")
    assert rows == re.findall(r"^ +(\w+) = (?:true|false), \"", source, re.MULTILINE) != []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_a_document_names_is_there(document):
    named = re.findall(
        r"`((?:src|python|tests|benches|scripts|docs|notebooks|\.ci)/[\w./-]*)`", document.read_text(encoding="utf-8")
    )
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_public_name_is_on_a_page_of_the_api():
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "api").glob("*.md"))
    documented = set(re.findall(r"^\.\. auto\w+:: belljar\.(\w+)", pages, re.MULTILINE))
    assert documented == set(bj.__all__)


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if not re.search(rf"^{page}$", index, re.MULTILINE)} == {"index"}


def test_every_notebook_is_a_page():
    assert {path.stem for path in (ROOT / "docs" / "notebooks").iterdir()} == {
        path.stem for path in (ROOT / "notebooks").glob("*.ipynb")
    }
