"""The demo's second half: a debugger's verbs on a guest that knows nothing of them, first the specimen, then Debian.

It prints what a few lines each come to. It never needs gdb or drgn: where they are not installed, it says so.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import belljar as bj

if TYPE_CHECKING:
    from belljar._belljar import VM, BreakpointHit, Expression

PATIENCE = 30
"""Seconds for a guest to come to a breakpoint; of a Debian in the lab, which is slow, many times as many."""

WRITE, TICKS = 1, 5
"""Two system calls of the specimen."""

CLOCK = """
printf '#!/bin/sh\\nwhile sleep 1; do true </proc/uptime; done\\n' >/bin/clock
chmod +x /bin/clock
clock &
"""
"""A process for Debian: it opens /proc/uptime every second."""


def specimen() -> None:
    """Break at a system call of one process, read, change, watch, step; then gdb and drgn."""
    with bj.specimen() as vm:
        vm.start()
        vm.console.read_until("line 2 ", timeout=PATIENCE)
        vm.pause()
        _printer(vm)
        _watched(vm)
        _gdb(vm, bj.guest.IMAGE, "system_call")
        _drgn(vm)


def _printer(vm: VM) -> None:
    """Stop `printer` where it writes, show what, step; then lie to it about the time."""
    printer = next(task for task in bj.guest.tasks(vm) if task.name == "printer")
    layout = bj.guest.layout(vm)
    rax, rdi = (layout["task"]["frame"].offset + layout["regs"][name].offset for name in ("rax", "rdi"))

    def calls(number: int) -> Expression:
        return (bj.reg.rdi == printer.address) & (bj.virtual.u64(bj.reg.rdi + rax) == number)

    with vm.breakpoint("system_call", when=calls(WRITE)):
        print(f"  run() -> {vm.run(timeout=PATIENCE)}")
    text = vm.cpu.virtual.read_u64(vm.cpu.regs.rdi + rdi)
    print(f"  `printer` is about to write {vm.cpu.virtual.read_cstring(text)!r}")
    print(f"  step(5) -> {vm.cpu.step(5, timeout=PATIENCE)}, step_out() -> {vm.cpu.step_out(timeout=PATIENCE)}:")
    print(f"  {vm.cpu.disasm(1)!r}".replace("\n", "\n  "))

    @vm.on_breakpoint("system_call", when=calls(TICKS))
    def timeless(_: BreakpointHit) -> None:
        regs, stack = vm.cpu.regs, vm.cpu.virtual
        stack.write_u64(regs.rdi + rax, 42)  # the result, and back to whoever called
        regs.rip, regs.rsp = stack.read_u64(regs.rsp), regs.rsp + 8

    vm.start()
    line = vm.console.read_until("at tick 42\r\n", timeout=PATIENCE).splitlines()[-1]
    vm.pause()
    timeless.remove()
    print(f"  a handler answers for the kernel what time it is, and `printer` prints {line!r}")


def _watched(vm: VM) -> None:
    with vm.watch(vm.symbols["courier_done"]) as done:
        hit: Any = vm.run(timeout=PATIENCE)
        print(f"  `{bj.guest.current(vm).name}` counts courier_done: {hit.before} -> {hit.after} ({done.mechanism})")


def _gdb(vm: VM, names: str | Path, function: str) -> None:
    """Have gdb connect, break and go, if there is one."""
    with vm.gdbserver() as server:
        script = [f"target remote {server.address}", f"break {function}", "continue", "x/2i $pc", "detach"]
        command = ["gdb", "--batch", "-nx", str(names), *(f"-ex={line}" for line in script)]
        if shutil.which("gdb") is None:
            print(f"  gdb is not installed; it would connect by: {server.command}")
            return
        done = subprocess.run(command, capture_output=True, text=True, timeout=10 * PATIENCE, check=False)
    vm.pause()  # gdb's `continue` has it run in the background, and so it goes on when gdb has gone
    lines = [line for line in done.stdout.splitlines() if line.startswith(("Breakpoint 1,", "=>", "   0x"))]
    print("\n".join(f"  gdb: {line}" for line in lines))


def _drgn(vm: VM) -> None:
    if importlib.util.find_spec("drgn") is None:
        print('  drgn is not installed: pip install "belljar[forensics]"')
        return
    program = vm.drgn()
    print(f"  drgn: ticks is {program.read_u64(program.symbol('ticks').address)}")


def debian() -> None:
    """Do the same to Debian's stock kernel, by its own symbols and types."""
    from belljar.lab import debian as at_hand

    kernel, initrd = at_hand(CLOCK)
    with bj.boot.linux(kernel, initrd=initrd, memory="192M", cmdline="quiet") as vm:
        vm.start()
        vm.console.read_until("# ", timeout=10 * PATIENCE)
        vm.pause()
        print(f"  {vm.linux!r} has {len(vm.linux.tasks())} tasks")
        _clock(vm)
        with tempfile.TemporaryDirectory() as folder:
            _gdb(vm, vm.linux.symbol_file(Path(folder) / "kernel.elf"), "do_sys_openat2")
        if importlib.util.find_spec("drgn") is not None:
            print(f"  drgn: init_task is {vm.drgn()['init_task'].comm.string_().decode()}")


def _clock(vm: VM) -> None:
    """Stop `clock` where it opens a file, record what it does, and refuse it the file."""
    linux = vm.linux
    clock = next(task for task in linux.tasks() if task.comm == "clock")

    def opens(call: Any) -> object:
        print(f"  `{call.task.name}`: {call!r}: {call.text('filename')}")
        return bj.STOP

    with linux.on_syscall("openat", opens, pid=clock.pid):
        vm.run(timeout=10 * PATIENCE)
    print(f"  step() -> {vm.cpu.step(timeout=PATIENCE)}: {linux.symbols.at(vm.cpu.regs.rip)}")
    with vm.watch("jiffies_64", virtual=True):
        hit: Any = vm.run(timeout=PATIENCE)
        print(f"  {linux.symbols.at(hit.rip)} counts jiffies_64 from {hit.before} to {hit.after}")

    def denied(call: Any) -> None:
        call.result = -13

    with linux.syscalls(pid=clock.pid) as trace, linux.on_syscall("openat", denied, pid=clock.pid):
        vm.run(timeout=3)
    print("\n".join(f"  {call.call} = {call.outcome}" for call in trace.read()[:8]))
    print(f"  it was told: {vm.console.read().decode(errors='replace').strip().splitlines()[-1:]}")
