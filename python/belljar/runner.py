"""Running a guest on the terminal: its serial console live in both directions, and at the end how it ended."""

from __future__ import annotations

import argparse
import os
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager

import belljar as bj
from belljar import boot

QUIT = b"\x1d"
"""Ctrl-], as in telnet: ends the guest."""

STATUS = {bj.Hlt: 0, bj.Reset: 0, bj.Interrupted: 0, bj.Timeout: 124}
"""Exit status by how the guest ended, 124 as timeout(1) has it; anything else is 2, and Ctrl-C makes it 130."""

WAITS_FOR_A_READER = {"bzImage", "vmlinux", "PVH"}
"""Kernels that lose what is typed before a program reads the console: piped input waits until one does."""


def run(options: argparse.Namespace) -> int:
    """Run ``belljar run``; return its exit status."""
    _check(options)
    with _machine(options) as vm:
        patient = _load(vm, options)
        if _on_a_terminal():
            _say("the guest has the keyboard; Ctrl-] ends it")
        try:
            end = watch(vm, timeout=options.timeout, patient=patient)
        except KeyboardInterrupt:
            print(describe(vm, bj.Interrupted("stop")), file=sys.stderr)
            return 130
        print(describe(vm, end), file=sys.stderr)
        return STATUS.get(type(end), 2)


def _check(options: argparse.Namespace) -> None:
    if options.mode and (options.initrd or options.append):
        raise ValueError("--initrd and --append are for kernel images; flat code (--mode) has neither")
    if options.at is not None and not options.mode:
        raise ValueError("--at is for flat code: say --mode real, protected, long or user as well")


def _load(vm: bj.VM, options: argparse.Namespace) -> bool:
    """Put the file into ``vm``; return whether its input should wait for a reader."""
    if options.mode:
        with open(options.file, "rb") as file:
            code = file.read()
        if not code:
            raise ValueError(f"{options.file} is empty")
        vm.load(code, options.mode, at=options.at if options.at is not None else 0x1000)
        return False
    try:
        found, entry = vm.boot(options.file, initrd=options.initrd, cmdline=_cmdline(options))
    except bj.ImageError as error:
        raise bj.ImageError(f"{options.file}: {error}{_advice(str(error))}") from error
    _say(f"{options.file}: {found}, entry at {entry:#x}")
    return found in WAITS_FOR_A_READER


def _advice(error: str) -> str:
    if "RAM ends" in error:
        return "\n  -> give it more with --memory"
    if "neither bzImage" in error:
        return "\n  -> bytes without a header run with --mode real, protected, long or user"
    if "interpreter" in error:
        return "\n  -> that is a program for an operating system, not a kernel"
    return ""


def _on_a_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _say(text: str) -> None:
    print(f"belljar: {text}", file=sys.stderr, flush=True)


def _machine(options: argparse.Namespace) -> bj.VM:
    if options.mode:
        return bj.VM(options.memory, options.cpus, serial=True, i8042=True)
    return boot.machine(memory=options.memory, vcpus=options.cpus)


def _cmdline(options: argparse.Namespace) -> str:
    return boot.cmdline_for(options.file, options.append)


def watch(vm: bj.VM, *, timeout: float | None = None, patient: bool = False) -> bj.Exit:
    """Run ``vm`` with its console on this terminal until it ends, the time is over or the user types Ctrl-].

    ``patient`` keeps piped input back until a program in the guest reads the console.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    vm.start()
    try:
        with _keyboard(vm, patient=patient and not _on_a_terminal()) as quit_typed:
            while vm.state == "running" and not quit_typed.is_set():
                left = 0.2 if deadline is None else min(0.2, deadline - time.monotonic())
                if left <= 0:
                    vm.pause()
                    return bj.Timeout()
                _show(vm.console.read(timeout=left))
        if quit_typed.is_set():
            return vm.stop() or bj.Interrupted("stop")
        return vm.join()
    finally:
        if vm.state == "running":
            vm.stop()
        _show(vm.console.read())


def _show(output: bytes) -> None:
    sys.stdout.buffer.write(output)
    sys.stdout.flush()


@contextmanager
def _keyboard(vm: bj.VM, *, patient: bool) -> Iterator[threading.Event]:
    """Send what is typed to the guest, on a thread of its own, until the block is left; the event is Ctrl-]."""
    quit_typed, (wake, waker) = threading.Event(), os.pipe()
    thread = threading.Thread(target=_type, args=(vm, wake, quit_typed, patient), daemon=True)
    with _raw_terminal():
        thread.start()
        try:
            yield quit_typed
        finally:
            os.close(waker)
            thread.join()
            os.close(wake)


def _type(vm: bj.VM, wake: int, quit_typed: threading.Event, patient: bool) -> None:
    try:
        keyboard = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # there is none: pytest, a daemon, `<&-`
        return
    while patient and not vm.console.listening:
        if wake in select.select([wake], [], [], 0.05)[0]:
            return
    while wake not in (ready := select.select([keyboard, wake], [], [])[0]):
        typed = os.read(keyboard, 1024) if ready else b""
        if not typed:
            return
        if _on_a_terminal() and QUIT in typed:
            quit_typed.set()
            return
        while typed := typed[vm.console.send(typed) :]:
            if wake in select.select([wake], [], [], 0.05)[0]:
                return


@contextmanager
def _raw_terminal() -> Iterator[None]:
    """Hand every key to the guest, Ctrl-C included, while standard input is a terminal."""
    if not _on_a_terminal():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin, termios.TCSANOW)
    settings = termios.tcgetattr(sys.stdin)
    settings[1] |= termios.OPOST  # the guest's new lines still begin at the left
    termios.tcsetattr(sys.stdin, termios.TCSANOW, settings)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


REASONS = {
    bj.Hlt: "it halted",
    bj.Reset: "it reset the machine",
    bj.Shutdown: "triple fault",
    bj.Timeout: "its time was over",
    bj.Interrupted: "it was stopped",
    bj.InternalError: "KVM could not go on",
    bj.FailEntry: "the processor refused its state",
    bj.GuestException: "an exception",
}


def describe(vm: bj.VM, end: bj.Exit) -> str:
    """How the guest ended: the reason, the instructions at RIP, and the registers."""
    cpu = vm.cpus[end.vcpu]
    reason = REASONS.get(type(end), "an exit that nobody answered")
    lines = [f"\nThe guest ended: {reason}.", f"  {end!r}", f"  {cpu!r}"]
    lines += [f"  {line.address:#x}: {line.bytes.hex():<20} {line.text}" for line in cpu.disasm(3)]
    lines += [f"  cr0 {cpu.cr0:x}  cr2 {cpu.cr2:x}  cr3 {cpu.cr3:x}  cr4 {cpu.cr4:x}  efer {cpu.efer:x}"]
    return "\n".join([*lines, *(f"  {row}" for row in repr(cpu.regs).replace("*", " ").splitlines())])
