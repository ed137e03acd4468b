"""The guests of the rows, and machines that run them. It measures nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import bare

import belljar as bj

if TYPE_CHECKING:
    from case import Work

SCRATCH = 0x3FF  # the 16550's scratch register
NOBODY = 0x10
MEMORY = 2 << 20
MODES = ("real", "user")


def polling_guest(mode: str, port: int) -> bytes:
    """Writes 1 to `port`, then reads it until 0 comes back."""
    load_dx = b"\xba" if mode == "real" else b"\x66\xba"
    return load_dx + port.to_bytes(2, "little") + bytes.fromhex("b001 ee ec 84c0 75fb f4")


@contextmanager
def polling(mode: str, port: int, *, serial: bool = False) -> Iterator[tuple[bj.VM, int]]:
    """A machine with that guest, and the descriptor of its vCPU."""
    before = bare.vcpu_descriptors()
    with bj.VM(MEMORY, serial=serial) as vm:
        vm.load(polling_guest(mode, port), mode=mode)
        (descriptor,) = bare.vcpu_descriptors() - before
        yield vm, descriptor


@contextmanager
def twice(mode: str, port: int, *, serial: bool = False) -> Iterator[tuple[bj.VM, bare.Bare]]:
    """The same guest twice: in a belljar VM and in one made by C."""
    with (
        polling(mode, port, serial=serial) as (vm, descriptor),
        bare.Start(vm, descriptor) as start,
        bare.Bare(start) as other,
    ):
        yield vm, other


def exits(vm: bj.VM) -> Work:
    """Run `vm` for a number of exits, the last of which is still a port access."""

    def run(count: int) -> None:
        exit = vm.run(max_exits=count)
        assert isinstance(exit, bj.PortIn | bj.PortOut), exit

    return run


def hardware_or_not(hardware: float, interpreted: float) -> float:
    """The target for KVMs on hardware, or for those that interpret ring 0 and whose exits take longer."""
    quirks = bj.host.quirks
    return hardware if quirks is None or quirks.ring0_is_native else interpreted
