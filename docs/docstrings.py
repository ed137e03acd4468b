"""What Sphinx cannot see of a native module: typed signatures, read off the type stubs, and a summary of each class.

It never invents text: the stubs are generated from the built module, the summaries from its docstrings.
"""

import ast
import builtins
import inspect
import re
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.ext import autosummary

import belljar

STUBS = Path(belljar.__file__).with_name("_belljar.pyi")
PLAIN = {"SupportsIndex": "int", "SupportsFloat | SupportsIndex": "float"}
"""What the stubs must call by a protocol, and a reader by its usual name."""

ABBREVIATION = "vol"
"""Ends no sentence, though a full stop follows: docstrings cite manuals by it."""

FEW = 3
"""A class of so few members needs no table of them."""


def _plain(annotation):
    """Return an annotation as a reader would write it; nothing for one that says nothing."""
    if annotation is None:
        return None
    text = annotation.value if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str) else None
    text = text or ast.unparse(annotation)
    for protocol, name in sorted(PLAIN.items(), key=lambda item: -len(item[0])):
        text = text.replace(protocol, name)
    return None if "Incomplete" in text or text == "Any" or "SupportsGetItem" in text or "LenAnd" in text else text


def _signatures():
    """Return typed signatures by name: (arguments, what is returned)."""
    found = {}
    for node in ast.parse(STUBS.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found[f"belljar.{node.name}"] = _signature(node)
        elif isinstance(node, ast.ClassDef):
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef) and not part.decorator_list]
            found |= {f"belljar.{node.name}.{part.name}": _signature(part) for part in methods}
    return {name.removesuffix(".__new__"): signature for name, signature in found.items()}


def _signature(function):
    """Return a function's arguments as text, without the one it is bound to, and what it returns."""
    shown = ast.parse(ast.unparse(function)).body[0].args
    bound = shown.posonlyargs and shown.posonlyargs[0].arg in {"self", "cls"}
    shown.posonlyargs = shown.posonlyargs[1:] if bound else shown.posonlyargs
    for argument in [*shown.posonlyargs, *shown.args, *shown.kwonlyargs, shown.vararg, shown.kwarg]:
        if argument is not None:
            text = _plain(argument.annotation)
            argument.annotation = ast.parse(text, mode="eval").body if text else None
    returned = _plain(function.returns)
    return f"({ast.unparse(shown)})", None if function.name == "__new__" else returned


SIGNATURES = _signatures()


def typed(_app, _what, name, _thing, _options, arguments, returned):
    """Give a native function the signature that the stubs know."""
    known = SIGNATURES.get(name)
    if known is None:
        return None
    return (arguments if "..." in known[0] or not known[0] else known[0]), known[1] or returned


def summarised(_app, what, name, thing, _options, lines):
    """Put a table of its members behind the docstring of a class."""
    if what == "module" or not inspect.isclass(thing):
        return
    own = sorted((member for member in vars(thing) if not member.startswith("_")), key=str.lower)
    if len(own) > FEW:
        lines += ["", ".. list-table::", "   :class: autosummary", ""]
        for member in own:
            lines += [f"   * - :py:obj:`{member} <{name}.{member}>`", f"     - {_first_line(getattr(thing, member))}"]
        lines.append("")


def _first_line(member):
    """Return what the first paragraph of a docstring says, up to its first full stop."""
    documented = inspect.getdoc(member) if callable(member) or inspect.isdatadescriptor(member) else ""
    paragraph = " ".join((documented or "").split("\n\n")[0].split())
    first = re.split(rf"(?<!{ABBREVIATION})\. ", paragraph)[0]
    return first if first.endswith((".", "?")) or not first else f"{first}."


def unlinked(_app, document):
    """Keep Python's own types from being taken for members of ours: `bytes` is not `Instruction.bytes`."""
    for link in list(document.findall(pending_xref)):
        if link.get("refdomain") == "py" and hasattr(builtins, link["reftarget"]):
            link.replace_self(nodes.Text(link["reftarget"]))


def setup(app):
    """Tell Sphinx whom to ask."""
    autosummary.WELL_KNOWN_ABBREVIATIONS += (f"{ABBREVIATION}.",)
    app.connect("autodoc-process-signature", typed)
    app.connect("autodoc-process-docstring", summarised)
    app.connect("doctree-read", unlinked)
    return {"parallel_read_safe": True}
