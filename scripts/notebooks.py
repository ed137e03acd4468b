"""Runs notebooks top to bottom, each in a fresh kernel, and writes what they show into them.

    notebooks.py              all of `notebooks/`, in place (`make notebooks`)
    notebooks.py --check ...  these, written nowhere: fails if a step does (the tests)

It never changes a step, and keeps of the outputs only what the reader sees: no times, no machine's name.
"""

import argparse
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
PATIENCE = 100
"""Seconds per step."""


def execute(path):
    """Run the notebook at `path`; return it with its outputs."""
    book = nbformat.read(path, as_version=4)
    NotebookClient(book, timeout=PATIENCE, record_timing=False, resources={"metadata": {"path": path.parent}}).execute()
    book.metadata["language_info"] = {"name": "python"}
    return book


def main():
    """Run the notebooks that were asked for; return 1 at the first that fails."""
    parser = argparse.ArgumentParser(description="run notebooks top to bottom")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("paths", nargs="*", type=Path)
    options = parser.parse_args()
    for path in options.paths or sorted(FOLDER.glob("*.ipynb")):
        try:
            book = execute(path)
        except CellExecutionError as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            return 1
        if not options.check:
            nbformat.write(book, path)
        print(f"{path.name}: {sum(cell.cell_type == 'code' for cell in book.cells)} steps")
    return 0


if __name__ == "__main__":
    sys.exit(main())
