"""Comparisons with what users would pick instead. They have no target: they say what belljar is for, and what not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from case import Case, UnavailableError, Work

import belljar as bj
from rows.guests import MEMORY, NOBODY

HOOKED = 1000  # how often a round of the loop comes by the hook
DEVICE = 0x4000_0000  # no memory is there, in the first GiBs that `user` mode maps to themselves
DONE = 0x11  # the port whose write ends a round
EVENT = {
    "port": bytes([0xE6, NOBODY]),  # out 0x10, al
    "memory": bytes.fromhex("8803"),  # mov [rbx], al
    "nothing": bytes.fromhex("6690"),  # nop
}


def loop(event: bytes) -> bytes:
    """A million instructions, of which every thousandth is `event`; then a write to DONE, and all over again."""
    begin = b"\xbb" + DEVICE.to_bytes(4, "little") + b"\xb9" + HOOKED.to_bytes(4, "little")
    inner = b"\xb8" + (498).to_bytes(4, "little") + bytes.fromhex("ffc8 75fc")  # dec eax; jnz
    body = inner + event + bytes.fromhex("ffc9")  # dec ecx
    code = begin + body + bytes([0x75, -(len(body) + 2) & 0xFF, 0xE6, DONE])
    return code + bytes([0xEB, -(len(code) + 2) & 0xFF])


class Hits:
    """Python at work on an event, the same for both sides."""

    def __init__(self) -> None:
        self.number = 0

    def hit(self, *_event: object) -> None:
        self.number += 1


@contextmanager
def machine(event: str) -> Iterator[tuple[bj.VM, Work]]:
    """The loop in ring 3 of a belljar VM, and rounds of it."""
    with bj.VM(MEMORY) as vm:
        vm.load(loop(EVENT[event]), mode="user")
        vm.on_port(DONE, lambda _exit: bj.STOP)

        def rounds(count: int) -> None:
            for _ in range(count):
                exit = vm.run()
                assert isinstance(exit, bj.PortOut) and exit.port == DONE, exit

        yield vm, rounds


def emulator(event: str, at: int) -> tuple[Any, Work, range]:
    """The same loop in Unicorn, rounds of it, and where `event` is."""
    from unicorn import UC_ARCH_X86, UC_MODE_64, Uc

    uc, code = Uc(UC_ARCH_X86, UC_MODE_64), loop(EVENT[event])
    uc.mem_map(0, MEMORY)
    uc.mem_map(DEVICE, 0x1000)
    uc.mem_write(at, code)
    place, end = at + code.index(EVENT[event]), at + code.index(bytes([0xE6, DONE]))

    def rounds(count: int) -> None:
        for _ in range(count):
            uc.emu_start(at, end)

    return uc, rounds, range(place, place + 1)


def checked(rounds: Work, hits: Hits) -> Work:
    """`rounds`, each of which must hit the hook so often."""

    def work(count: int) -> None:
        before = hits.number
        rounds(count)
        assert hits.number - before == HOOKED * count, f"{hits.number - before} hits in {count} rounds"

    return work


def unicorn() -> Iterator[Case]:
    if find_spec("unicorn") is None:
        raise UnavailableError("Unicorn is not installed: pip install unicorn")
    from unicorn import UC_HOOK_CODE, UC_HOOK_INSN, UC_HOOK_MEM_WRITE
    from unicorn.x86_const import UC_X86_INS_OUT

    million = "a million instructions in ring 3"
    with machine("nothing") as (vm, ours):
        _, theirs, _ = emulator("nothing", vm.cpu.regs.rip)
        yield Case("unicorn, no hook", f"{million} / Unicorn", None, ours, theirs)
    with machine("port") as (vm, ours):
        mine, its = Hits(), Hits()
        vm.on_port(NOBODY, mine.hit)
        uc, theirs, _ = emulator("port", vm.cpu.regs.rip)
        uc.hook_add(UC_HOOK_INSN, its.hit, None, 1, 0, UC_X86_INS_OUT)
        what = f"{million}, {HOOKED:,} of them port writes that come to Python / Unicorn with a hook on OUT"
        yield Case("unicorn, port", what, None, checked(ours, mine), checked(theirs, its))
        uc, theirs, place = emulator("port", vm.cpu.regs.rip)
        its = Hits()
        uc.hook_add(UC_HOOK_CODE, its.hit, None, place.start, place.stop - 1)
        what = "the same / Unicorn with a hook on the address of that instruction (a breakpoint)"
        yield Case("unicorn, code", what, None, checked(ours, mine), checked(theirs, its))
    with machine("memory") as (vm, ours):
        mine, its = Hits(), Hits()
        vm.on_mmio(DEVICE, mine.hit, size=8)
        uc, theirs, _ = emulator("memory", vm.cpu.regs.rip)
        uc.hook_add(UC_HOOK_MEM_WRITE, its.hit, None, DEVICE, DEVICE + 7)
        what = f"{million}, {HOOKED:,} of them writes to an address that Python watches / Unicorn with a hook on memory"
        yield Case("unicorn, memory", what, None, checked(ours, mine), checked(theirs, its))
