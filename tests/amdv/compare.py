"""How this host's KVM and the lab's answer the quirk probe, side by side, as a Markdown table.

It runs the doctor twice, here and in the lab, and never interprets an answer.

    python tests/amdv/compare.py            prints the table that docs/kvms.md records
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from belljar.doctor import facts
from belljar.lab import Lab

SCRIPT = """
import json, pathlib
from belljar.doctor import facts
pathlib.Path("/lab/results/facts.json").write_text(json.dumps(facts()))
"""


def in_the_lab() -> dict[str, Any]:
    """Return the doctor's facts from inside the lab."""
    with tempfile.TemporaryDirectory() as folder:
        script, results = Path(folder) / "facts.py", Path(folder) / "results"
        script.write_text(SCRIPT)
        status = Lab().run(["python", "/lab/facts.py"], files={"facts.py": script}, results=results, timeout=300)
        if status:
            raise SystemExit(f"the doctor failed in the lab with status {status}")
        answer: dict[str, Any] = json.loads((results / "facts.json").read_text())
        return answer


def table(here: dict[str, Any], lab: dict[str, Any]) -> str:
    """Return both answers to each question, and what belljar does where one is not the documented one."""
    rows = ["| question | this host | the lab | what follows |", "|---|---|---|---|"]
    for name, value in here["quirks"].items():
        advice = here["undocumented"].get(name) or lab["undocumented"].get(name) or ""
        rows.append(f"| `{name}` | {_word(value)} | {_word(lab['quirks'][name])} | {advice} |")
    return "\n".join(rows)


def _word(value: bool) -> str:
    return "yes" if value else "no"


if __name__ == "__main__":
    found = in_the_lab()
    print(table(facts(), found))
    sys.exit(0)
