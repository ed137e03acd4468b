"""Runs notebooks top to bottom, each in a fresh kernel, and writes what they show into them.

    notebooks.py [...]        these (all of `notebooks/`), in place (`make notebooks`)
    notebooks.py --check ...  these, written nowhere: fails if a step does (the tests)

Notebooks that boot Debian's kernel say so in their metadata ("belljar": {"needs": "lab"}): they are run in the lab.
It never changes a step, and keeps of the outputs only what the reader sees: no times, no machine's name.
"""

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
PATIENCE = 100
"""Seconds per step; in the lab, which is slow, three times as many."""
IS_LAB = bool(os.environ.get("BELLJAR_LAB"))
LAB_PATIENCE = 15 * 60


def needs_lab(path):
    """Does a notebook boot what only the lab has at hand?"""
    return nbformat.read(path, as_version=4).metadata.get("belljar", {}).get("needs") == "lab"


def execute(path):
    """Run the notebook at `path`; return it with its outputs."""
    book = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": path.parent}}
    timeout = 3 * PATIENCE if IS_LAB else PATIENCE
    NotebookClient(book, timeout=timeout, record_timing=False, coalesce_streams=True, resources=where).execute()
    book.metadata["language_info"] = {"name": "python"}
    return book


def execute_in_lab(path):
    """Run the notebook at `path` in the lab; return it with its outputs, or None if it fails there."""
    from belljar.lab import Lab

    with TemporaryDirectory() as folder:
        results = Path(folder)
        command = ["python", "/lab/notebooks.py", "--into", "/lab/results", f"/lab/{path.name}"]
        files = {"notebooks.py": Path(__file__), path.name: path}
        failed = Lab(cpus=2).run(command, files=files, results=results, timeout=LAB_PATIENCE)
        return None if failed else nbformat.read(results / path.name, as_version=4)


def main():
    """Run the notebooks that were asked for; return 1 at the first that fails."""
    parser = argparse.ArgumentParser(description="run notebooks top to bottom")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--into", type=Path, help="write into this folder, not in place")
    parser.add_argument("paths", nargs="*", type=Path)
    options = parser.parse_args()
    for path in options.paths or sorted(FOLDER.glob("*.ipynb")):
        try:
            book = execute_in_lab(path) if needs_lab(path) and not IS_LAB else execute(path)
        except CellExecutionError as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            return 1
        if book is None:
            return 1
        if not options.check:
            nbformat.write(book, options.into / path.name if options.into else path)
        print(f"{path.name}: {sum(cell.cell_type == 'code' for cell in book.cells)} steps")
    return 0


if __name__ == "__main__":
    sys.exit(main())
