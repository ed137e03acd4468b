"""What belljar does, on this host: some bytes, a computing guest, a small kernel, a debugger's verbs, and Linux."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import belljar as bj
from belljar import boot, demo_debugging, doctor
from belljar.lab.debian_guest import is_at_hand
from belljar.runner import describe


def main(linux: str | None = None) -> int:
    """Show everything; ``linux`` is the folder of the Linux guest. Returns 0 if all went as it should."""
    _title("The host")
    if not bj.host.available:
        print(doctor.report())
        return 1
    print(doctor.verdict())
    five_bytes()
    computing()
    specimen()
    _title("Stop, look, change, watch, step: from outside, in a few lines each")
    demo_debugging.specimen()
    if is_at_hand():
        _title("The same on Debian's stock kernel, without a profile")
        demo_debugging.debian()
    return _linux(Path(linux) if linux else None)


def _title(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def five_bytes() -> None:
    """Five bytes of real mode, whose port write a Python function answers."""
    _title("Five bytes of real mode, answered by Python")
    code = bytes([0xB0, 42, 0xE6, 0x10, 0xF4])
    with bj.VM("1M") as vm:
        vm.load(code, mode="real")
        for line in bj.disasm(code, at=0x1000, bits=16):
            print(f"  {line!r}")

        @vm.on_port(0x10)
        def door(exit: bj.PortOut) -> None:
            print(f"  Python sees {exit} while AX is {vm.cpu.regs.rax:#x}")

        print(f"  run() -> {vm.run(timeout=5)}")


SUM = """
    xor eax, eax; mov ecx, 100000000
next:
    add rax, rcx; dec rcx; jnz next     # a hundred million turns, no exit
    mov ecx, 10000
ask:
    in al, 0x10; dec ecx; jnz ask       # ten thousand exits
    int3                                # a guest exception: the end
"""
SUM_BYTES = bytes.fromhex(
    "31c0b900e1f5054801c848ffc975f8b910270000e410ffc975facc",
)


def computing() -> None:
    """A guest in ring 3 that computes at full speed, then asks Python ten thousand times."""
    _title("A guest in ring 3: native speed, then ten thousand exits into Python")
    with bj.VM("1M") as vm:
        vm.load(SUM_BYTES, mode="user")
        begun = time.perf_counter()
        first: list[float] = []

        @vm.on_port(0x10)
        def answer(_: bj.PortIn) -> int:
            if not first:
                first.append(time.perf_counter())
                print(f"  {vm.cpu.regs.rax} is the sum, after {first[0] - begun:.3f} s and 300 million instructions")
            return 7

        end = vm.run(timeout=30)
        each = (time.perf_counter() - first[0]) / answer.hits if first else float("nan")
        print(f"  {answer.hits} port reads answered by Python, {each * 1e6:.1f} us each, the guest's side included")
        print(f"  run() -> {end}")


PATIENCE = 30
"""Seconds for the specimen to do what it is told."""


def specimen() -> None:
    """A small kernel whose processes are read from its memory; one of them is told to misbehave."""
    _title("A small kernel: its processes, read from its memory while it runs")
    with bj.specimen() as vm:
        begun = time.perf_counter()
        vm.start()
        first = vm.console.read_until("line 1 ", timeout=PATIENCE)
        print(f"  a process printed {first.strip()!r} {(time.perf_counter() - begun) * 1e3:.0f} ms after the start")
        vm.console.read_until("line 3 ", timeout=PATIENCE)
        bj.guest.order(vm, "write_null")
        while not any(task.fault for task in bj.guest.tasks(vm)) and time.perf_counter() - begun < PATIENCE:
            time.sleep(0.005)
        vm.pause()
        print("  `rogue` was told to write to address 0:")
        print("\n".join(f"  {line}" for line in repr(bj.guest.tasks(vm)).splitlines()))
        done = bj.guest.board(vm)["courier_done"]
        print(f"  `courier` had {done} errands done by a card written in Python, {vm.devices[0]!r}")


def _plain(text: str) -> str:
    """Return ``text`` without the shell's question where the cursor is."""
    return text.replace("\x1b[6n", "")


def _linux(folder: Path | None) -> int:
    _title("Linux, with a Python function watching its serial port")
    if folder is None or not (folder / "vmlinux").exists():
        print("  The Linux guest is not built. In the source tree, `make linux-guest` builds it once (3 minutes).")
        return 0
    seen = bytearray()
    with boot.linux(folder / "vmlinux", initrd=folder / "initrd.cpio") as vm:
        vm.on_port(0x3F8, lambda exit: seen.append(exit.data), access="w")
        begun = time.perf_counter()
        vm.start()
        try:
            print(vm.console.read_until("belljar# ", timeout=100), flush=True)
            print(f"\n  [a shell after {time.perf_counter() - begun:.1f} s]")
            for command in ("uname -srm", "ps", "echo $((6 * 7))"):
                vm.console.send(command + "\n")
                print(_plain(vm.console.read_until("belljar# ")), end="", flush=True)
            vm.console.send("exit\n")
            end = vm.join(timeout=30)
        except TimeoutError as error:
            vm.pause()
            print(f"  {error}\n{describe(vm, bj.Timeout())}")
            return 1
        print(_plain(vm.console.read().decode(errors="replace")))
        print(f"  join() -> {end}; Python saw {len(seen)} bytes go through port 0x3f8, the last line being")
        print(f"  {bytes(seen).decode(errors='replace').strip().splitlines()[-1]!r}")
    return 0
