"""The notebooks run top to bottom, in short steps, and were committed with what they show."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LONGEST = 15

IS_LAB = bool(os.environ.get("BELLJAR_LAB"))

pytest.importorskip("nbclient", reason="runs notebooks; `make` installs it")


def steps(path):
    """Return the code cells of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS != []


def needs_lab(path):
    """Does a notebook boot Debian's kernel, which only the lab has at hand?"""
    metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    return metadata.get("belljar", {}).get("needs") == "lab"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_top_to_bottom(path, tmp_path):
    pytest.importorskip("keystone")
    if needs_lab(path) and not IS_LAB:
        pytest.skip(
            "it boots Debian's kernel, which the lab has: make test-amdv ARGS=tests/kvm/test_notebooks.py CPUS=2"
        )
    patience = 580 if IS_LAB else 280
    program = ROOT / "scripts" / "notebooks.py"
    done = subprocess.run(
        [sys.executable, program, "--check", path], capture_output=True, text=True, timeout=patience, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_step_of_a_notebook_is_long(path):
    lengths = [len("".join(cell["source"]).splitlines()) for cell in steps(path)]
    assert lengths and all(0 < length <= LONGEST for length in lengths)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_with_what_it_shows(path):
    assert [cell["execution_count"] for cell in steps(path)] == list(range(1, len(steps(path)) + 1))
    kinds = {output["output_type"] for cell in steps(path) for output in cell["outputs"]}
    assert "execute_result" in kinds and "error" not in kinds
    assert all("Traceback" not in json.dumps(cell["outputs"]) for cell in steps(path))
