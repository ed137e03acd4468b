"""The rows that compare a machine with one made by C: exits, registers, a whole life."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import bare
from case import Case

import belljar as bj
from rows.guests import MEMORY, MODES, NOBODY, SCRATCH, exits, hardware_or_not, twice


def native_exit() -> Iterator[Case]:
    for mode in MODES:
        with twice(mode, SCRATCH, serial=True) as (vm, other):
            what = f"port exit answered by the serial port, {mode} mode / KVM_RUN loop in C"
            yield Case(f"1 {mode}", what, 1.01, exits(vm), partial(other.run, answer=1))
        with twice(mode, NOBODY) as (vm, other):
            what = f"port exit that nobody answers, {mode} mode / KVM_RUN loop in C"
            yield Case(f"1 {mode}, nobody", what, 1.01, exits(vm), partial(other.run, answer=0xFF))


def python_exit() -> Iterator[Case]:
    def handler(exit: Any) -> int:
        return exit.port  # type: ignore[no-any-return]

    for mode in MODES:
        with twice(mode, NOBODY) as (vm, other):
            vm.on_port(NOBODY, handler, access="r")
            what = f"port exit answered by a Python handler, {mode} mode / KVM_RUN loop in C"
            target = hardware_or_not(1.15, 1.03)
            yield Case(f"2 {mode}", what, target, exits(vm), partial(other.run, answer=NOBODY))


def register_exit() -> Iterator[Case]:
    for mode in MODES:
        with twice(mode, NOBODY) as (vm, other):
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
