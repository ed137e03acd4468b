"""How Sphinx builds the pages. It never holds text of its own: the pages and the docstrings do."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import belljar

project = "belljar"
author = "the belljar developers"
version = release = belljar.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "myst_parser", "docstrings", "pages_of_notebooks"]
default_role = "code"  # docstrings are plain text with `code` in it
nitpick_ignore_regex = [("py:.*", r"(?!belljar)\w.*")]  # Python's own types: their pages are not fetched
nitpick_ignore = [
    ("py:class", "belljar.register.Hook"),  # a type variable
    ("py:class", "belljar.Recorder"),  # what vm.trace() makes a Trace of
    ("py:class", "belljar.saved_cpu.SavedMsrs"),  # a dict, which is asked like cpu.msr
]

not_for_users = (
    "with_traceback, add_note, wiring, cells, connect, disconnect, refresh, read_hook, write_hook, bare_length"
)
autodoc_default_options = {"members": True, "undoc-members": True, "exclude-members": not_for_users}
autodoc_member_order = "groupwise"
autodoc_typehints_format = "short"
autodoc_type_aliases = {"KernelAddress": "int"}  # which it is, for all but polars
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

myst_enable_extensions = ["colon_fence", "attrs_inline"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"belljar {version}"
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["pages.css"]
pygments_style, pygments_dark_style = "friendly", "monokai"
