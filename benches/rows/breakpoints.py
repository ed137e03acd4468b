"""The rows on breakpoints: one that is hit and whose filter does not match, beside an exit of the same ring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from case import Case, Work

import belljar as bj
from rows.guests import MEMORY, NOBODY

HITS = 100  # how often a round comes by
DONE = 0x11
EVENTS = {
    "emulated": bytes.fromhex("90"),  # nop: executed here, in the breakpoint's place
    "stepped": bytes.fromhex("0fa2"),  # cpuid: the processor executes it, alone
}
EXIT = bytes([0xE6, NOBODY])


def loop(event: bytes) -> tuple[bytes, int]:
    """A hundred times `event`, then a write to DONE, and all over again; and where `event` is."""
    begin = b"\xbe" + HITS.to_bytes(4, "little")  # mov esi, HITS: cpuid leaves it alone
    body = event + bytes.fromhex("ffce")  # dec esi
    code = begin + body + bytes([0x75, -(len(body) + 2) & 0xFF, 0xE6, DONE])
    return code + bytes([0xEB, -(len(code) + 2) & 0xFF]), len(begin)


@contextmanager
def rounds(mode: str, event: bytes) -> Iterator[tuple[bj.VM, int, Work]]:
    """A machine with that loop, where the event is, and rounds of it."""
    with bj.VM(MEMORY) as vm:
        code, offset = loop(event)
        vm.load(code, mode=mode)
        vm.on_port(DONE, bj.STOP)

        def work(count: int) -> None:
            for _ in range(count):
                exit = vm.run()
                assert isinstance(exit, bj.PortOut) and exit.port == DONE, exit

        yield vm, vm.cpu.regs.rip + offset, work


def unmatched() -> Iterator[Case]:
    for mode in ("long", "user"):
        for how, event in EVENTS.items():
            with rounds(mode, event) as (vm, at, ours), rounds(mode, EXIT) as (_, _, bare):
                point = vm.breakpoint(at, when=bj.reg.rsp == 1)
                what = f"breakpoint in {mode} mode whose filter does not match, {how} ({point.mechanism}) / a port exit"
                yield Case(f"17 {mode}, {how}", what, 1.2 if how == "emulated" else 2.2, ours, bare)
                assert point.hits == 0
