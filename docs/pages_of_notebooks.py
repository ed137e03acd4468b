"""Pages made of notebooks: each page in `docs/notebooks` is filled from the notebook of its name, with its outputs.

It never runs a notebook: what it shows is what was committed.
"""

import json
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"


def _fenced(kind, text):
    """Return a block of text that holds no other block's end."""
    return f"````{kind}\n{text.rstrip()}\n````"


def _output(output):
    """Return what one output of a step shows, the richest form of it."""
    if "text" in output:
        return _fenced("text", "".join(output["text"]))
    data = output.get("data", {})
    if "text/html" in data:
        return _fenced("{raw} html", "".join(data["text/html"]))
    if "image/png" in data:
        picture = "".join(data["image/png"]).replace("\n", "")
        return _fenced("{raw} html", f'<img class="of-notebook" alt="plot" src="data:image/png;base64,{picture}">')
    return _fenced("text", "".join(data.get("text/plain", "")))


def page(notebook):
    """Return a notebook as Markdown."""
    parts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else _fenced("python", text))
        parts += [_output(output) for output in cell.get("outputs", [])]
    return "\n\n".join(parts)


def fill(_app, name, source):
    """Fill a page that stands for a notebook."""
    folder, _, stem = name.rpartition("/")
    if folder == "notebooks":
        source[0] = page(FOLDER / f"{stem}.ipynb")


def setup(app):
    """Tell Sphinx whom to ask."""
    app.connect("source-read", fill)
    return {"parallel_read_safe": True}
