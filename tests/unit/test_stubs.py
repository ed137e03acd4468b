"""The committed type stubs are what the built module says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

MISSING = [tool for tool in ("cargo", "maturin", "ruff") if not shutil.which(tool, path=f"{BIN}:{os.environ['PATH']}")]


@pytest.mark.timeout(900)  # a second when the release build is there, which `make test` sees to; else it is made here
@pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}, to read the stubs off the built module")
def test_the_committed_stubs_are_what_the_built_module_says() -> None:
    run = subprocess.run(
        [ROOT / "scripts" / "stubs", "--check"],
        env={**os.environ, "VENV": str(BIN.parent)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
