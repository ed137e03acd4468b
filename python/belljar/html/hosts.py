"""Pictures of the host: whether VMs run here, what its KVM offers, and how it behaves. They never probe anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from belljar.html.parts import Markup, card, code, dim, fold, head, join, pill, plural, table, tag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from belljar._belljar import Quirks
    from belljar.host import Host

Answer = tuple[str, bool, bool, str]


def answer_rows(answers: Iterable[Answer]) -> Markup:
    """Show answers of the probe; those that are not the documented ones with what follows."""
    rows = []
    for name, value, documented, consequence in answers:
        mood = "good" if value == documented else "warn"
        told = "" if value == documented else consequence
        rows.append([code(name), pill("yes" if value else "no", mood), tag("td", dim(told), of="long")])
    return table(rows, ["question", "answer", "what follows"])


def quirks(value: Quirks) -> Markup:
    """Show every answer of the probe."""
    answers = value.answers()
    odd = sum(found != documented for _, found, documented, _ in answers)
    said = "all as KVM documents it" if not odd else f"{odd} of {len(answers)} not as KVM documents it; belljar adapts"
    return card(head("How this KVM behaves", dim(said)), answer_rows(answers))


def host(value: Host) -> Markup:
    """Show whether VMs run here, and why not."""
    if value.error is not None:
        said = join([tag("div", value.error.cause), tag("div", dim(value.error.remedy))])
        return card(head(join(["Host ", pill("no KVM", "bad")])), said)
    answers = value.quirks.answers() if value.quirks else []
    odd = [answer for answer in answers if answer[1] != answer[2]]
    offered = [
        [pill("yes", "good") if n else pill("no"), code(c), value.purposes[c]] for c, n in value.capabilities.items()
    ]
    parts = [head(join(["Host ", pill("VMs run here", "good")]), f"up to {plural(value.max_vcpus, 'vCPU')} in a VM")]
    if odd:
        parts.append(fold(f"{plural(len(odd), 'answer')} not as KVM documents it", answer_rows(odd)))
    return card(*parts, fold("Capabilities of KVM", table(offered, ["", "capability", "what belljar does with it"])))
