"""The rows of the scoreboard: what is measured, against what, and how small the ratio is to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import bare

import belljar as bj

Work = Callable[[int], object]

SCRATCH = 0x3FF  # the 16550's scratch register
NOBODY = 0x10
MEMORY = 2 << 20
MODES = ("real", "user")


@dataclass(frozen=True)
class Case:
    """Two ways of doing the same `n` things, and what their ratio is to be."""

    row: str
    what: str
    target: float
    ours: Work
    counterpart: Work


def polling_guest(mode: str, port: int) -> bytes:
    """Writes 1 to `port`, then reads it until 0 comes back."""
    load_dx = b"\xba" if mode == "real" else b"\x66\xba"
    return load_dx + port.to_bytes(2, "little") + bytes.fromhex("b001 ee ec 84c0 75fb f4")


@contextmanager
def guests(mode: str, port: int, *, serial: bool = False) -> Iterator[tuple[bj.VM, bare.Bare]]:
    """The same guest twice: in a belljar VM and in one made by C."""
    before = bare.vcpu_descriptors()
    with bj.VM(MEMORY, serial=serial) as vm:
        vm.load(polling_guest(mode, port), mode=mode)
        (descriptor,) = bare.vcpu_descriptors() - before
        with bare.Start(vm, descriptor) as start, bare.Bare(start) as other:
            yield vm, other


def exits(vm: bj.VM) -> Work:
    """Run `vm` for a number of exits, the last of which is still a port access."""

    def run(count: int) -> None:
        exit = vm.run(max_exits=count)
        assert isinstance(exit, bj.PortIn | bj.PortOut), exit

    return run


def native_exit() -> Iterator[Case]:
    for mode in MODES:
        with guests(mode, SCRATCH, serial=True) as (vm, other):
            what = f"port exit answered by the serial port, {mode} mode / KVM_RUN loop in C"
            yield Case(f"1 {mode}", what, 1.01, exits(vm), partial(other.run, answer=1))
        with guests(mode, NOBODY) as (vm, other):
            what = f"port exit that nobody answers, {mode} mode / KVM_RUN loop in C"
            yield Case(f"1 {mode}, nobody", what, 1.01, exits(vm), partial(other.run, answer=0xFF))


def python_exit() -> Iterator[Case]:
    def handler(exit: Any) -> int:
        return exit.port  # type: ignore[no-any-return]

    for mode in MODES:
        with guests(mode, NOBODY) as (vm, other):
            vm.on_port(NOBODY, handler, access="r")
            what = f"port exit answered by a Python handler, {mode} mode / KVM_RUN loop in C"
            target = hardware_or_not(1.15, 1.03)
            yield Case(f"2 {mode}", what, target, exits(vm), partial(other.run, answer=NOBODY))


def register_exit() -> Iterator[Case]:
    for mode in MODES:
        with guests(mode, NOBODY) as (vm, other):
            regs = vm.cpu.regs

            def written_back(_exit: bj.Exit, regs: bj.Registers = regs) -> int:
                regs.write(regs.read())
                return NOBODY

            def changed(_exit: bj.Exit, regs: bj.Registers = regs) -> int:
                rax, rbx, *others = regs.read()
                regs.write((rax, rbx ^ 1, *others))
                return NOBODY

            for name, handler in (("", written_back), (", changed", changed)):
                with vm.on_port(NOBODY, handler, access="r"):
                    vm.run(max_exits=10)
                    before = vm.cpu.register_ioctls
                    vm.run(max_exits=10)
                    assert vm.cpu.register_ioctls - before <= 1, "registers in a handler cost ioctls"
                    what = (
                        f"port exit whose handler reads and writes all registers{name}, {mode} mode / KVM_RUN loop in C"
                    )
                    yield Case(f"4 {mode}{name}", what, 1.15, exits(vm), partial(other.run, answer=NOBODY))


def life() -> Iterator[Case]:
    halt = b"\xf4"

    def ours(count: int) -> None:
        for _ in range(count):
            with bj.VM(MEMORY) as vm:
                vm.load(halt, mode="real")
                assert isinstance(vm.run(), bj.Hlt)

    before = bare.vcpu_descriptors()
    with bj.VM(MEMORY) as vm:
        vm.load(halt, mode="real")
        (descriptor,) = bare.vcpu_descriptors() - before
        with bare.Start(vm, descriptor) as start:
            what = "create a VM, first exit, drop / the same ioctls in C"
            yield Case("14", what, 1.05, ours, partial(bare.lives, start))


def hardware_or_not(hardware: float, interpreted: float) -> float:
    """The target for KVMs on hardware, or for those that interpret ring 0 and whose exits take longer."""
    quirks = bj.host.quirks
    return hardware if quirks is None or quirks.ring0_is_native else interpreted


ROWS: dict[int, Callable[[], Iterator[Case]]] = {
    1: native_exit,
    2: python_exit,
    4: register_exit,
    14: life,
}
