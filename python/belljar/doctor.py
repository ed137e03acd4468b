"""What this host can do for belljar, in words and as data: KVM, capabilities, quirks, and what to do about them."""

from __future__ import annotations

import json
import platform
from typing import Any

from belljar._belljar import __version__
from belljar.host import host


def facts() -> dict[str, Any]:
    """Everything the doctor knows, ready for JSON."""
    quirks = host.quirks.answers() if host.quirks else []
    return {
        "belljar": __version__,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "available": host.available,
        "cause": host.error.cause if host.error else None,
        "remedy": host.error.remedy if host.error else None,
        "max_vcpus": host.max_vcpus,
        "capabilities": host.capabilities,
        "quirks": {name: value for name, value, _, _ in quirks},
        "undocumented": {name: advice for name, value, documented, advice in quirks if value != documented},
    }


def verdict() -> str:
    """One line: do VMs run here?"""
    if host.error is not None:
        return f"No VM can run here: {host.error.cause}."
    odd = facts()["undocumented"]
    if not odd:
        return "VMs run here, and this KVM behaves as documented."
    return f"VMs run here. This KVM answers {len(odd)} questions otherwise than documented; belljar adapts."


def report() -> str:
    """The whole report, as text."""
    known = facts()
    lines = [f"belljar {known['belljar']} on Linux {known['kernel']}, {known['machine']}", "", verdict()]
    if host.error is not None:
        return "\n".join([*lines, f"  -> {host.error.remedy}"])
    lines += ["", f"Capabilities of KVM (up to {host.max_vcpus} vCPUs in a VM)"]
    lines += [f"  {_tick(value)} {name:<20} {host.purposes[name]}" for name, value in host.capabilities.items()]
    lines += ["", "Behaviour, probed with mini-guests (! is not what KVM documents)"]
    assert host.quirks is not None  # there is a KVM
    for name, value, documented, advice in host.quirks.answers():
        lines.append(f"  {' ' if value == documented else '!'} {name:<32} {'yes' if value else 'no'}")
        if value != documented:
            lines.append(f"      -> {advice}")
    return "\n".join(lines)


def _tick(value: int) -> str:
    return "+" if value else "-"


def main(*, as_json: bool = False) -> int:
    """Print the report; return 0 if VMs run here, else 1."""
    print(json.dumps(facts(), indent=2) if as_json else report())
    return 0 if host.available else 1
