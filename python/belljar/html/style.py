"""The stylesheet of what notebooks show, made ready for a `<style>` element. It holds no rule: style.css does.

Text has the colour of its surroundings; the few colours of our own come in two sets, for light and for dark.
"""

from __future__ import annotations

import re
from importlib.resources import files

# Whoever says that the page is dark (or light) is believed before the system is: JupyterLab, VS Code, Sphinx, others.
_DARK = ('[data-jp-theme-light="false"]', ".vscode-dark", ".vscode-high-contrast", '[data-theme="dark"]', "html.dark")
_LIGHT = ('[data-jp-theme-light="true"]', ".vscode-light", '[data-theme="light"]', "html.light")


def _sheet() -> str:
    source = re.sub(r"/\*.*?\*/", "", (files(__package__) / "style.css").read_text(encoding="utf-8"), flags=re.DOTALL)
    source = re.sub(r"\s*([{};,>]|:(?= ))\s*", r"\1", re.sub(r"\s+", " ", source)).strip()
    light, dark, rules = re.fullmatch(r"\.belljar\{(.*?)\}@dark\{(.*?)\}(.*)", source).groups()  # type: ignore[union-attr]
    stated = [
        ",".join(f"{where} .belljar" for where in places) + f"{{{colours}}}"
        for places, colours in ((_LIGHT, light), (_DARK, dark))
    ]
    system = f"@media (prefers-color-scheme:dark){{.belljar{{{dark}}}}}"
    return f".belljar{{{light}}}{system}{''.join(stated)}{rules}"


STYLE = _sheet()
"""The stylesheet, as text."""
