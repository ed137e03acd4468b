"""Writes a page with everything that notebooks show of belljar, once light and once dark, to be looked at.

    look.py [folder]      look-light.html and look-dark.html, in `build` unless told otherwise

It never judges: whoever changes `python/belljar/html` opens both pages in a browser.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import belljar as bj
from belljar.testcard import TestCard

THEMES = {"light": ("true", "#fff", "#111"), "dark": ("false", "#111", "#e6e6e6")}
DOOR = bytes([0xB0, 42, 0xE6, 0x10, 0xF4])
EXITS = [
    bj.PortIn(0x10, 1),
    bj.PortOut(0x10, 1, 42),
    bj.PortStringOut(0xE9, 1, 6, b"hello\n"),
    bj.MmioWrite(0xFEE00000, 4, 1),
    bj.MsrRead(0xC0000082, "filter"),
    bj.Hlt(),
    bj.Shutdown(),
    bj.Debug(1, 0x1000, 1, 0x400),
    bj.GuestException(14, 7, 0x1000, 0x123456789000),
    bj.Hypercall(12, [0x1000, 1, 0, 0, 0, 0], True),
    bj.BusLock(),
    bj.Notify(1),
    bj.Xen(1, [1, 2]),
    bj.InternalError(1, 0x1000, b"\xcc"),
    bj.FailEntry(0x21, 1),
    bj.Timeout(),
    bj.Interrupted("kick"),
]


def door(exit):
    """Do nothing."""


def things():
    """Yield a heading, and what is shown below it."""
    with bj.VM("64M") as vm, bj.VM("1M", vcpus=2) as running:
        vm.memory.add(0xFFFC0000, "256K", rom=True)
        vm.on_mmio(0xFEE00000, door, size=0x1000)
        vm.on_port(0x10, door)
        for _ in range(20):
            vm.load(DOOR, mode="long")
            vm.run(timeout=5, max_exits=1)
        running.load(b"\xeb\xfe", mode="user")
        running.start()
        vm.load(DOOR, mode="long")
        before = vm.cpu.state()
        vm.cpu.regs.changed()
        vm.run(timeout=5, max_exits=1)
        yield "VM", [vm, running]
        yield "VCPU", [vm.cpu, running.cpu]
        yield "Registers, Msrs, Segment", [vm.cpu.regs, vm.cpu.msr, vm.cpu.cs]
        yield "Bits", [vm.cpu.cr0, vm.cpu.cr4, vm.cpu.efer, vm.cpu.dr7, vm.cpu.rflags]
        yield "State, Diff", [before, vm.cpu.state().diff(before), before.diff(before)]
        yield "Memory, Region", [vm.memory, *vm.memory.regions]
        yield "MemoryMap", [vm.memory_map(), vm.memory_map()[0]]
        yield "Stats", [vm.stats, bj.Stats()]
        yield "Fpu", [vm.cpu.fpu]
        yield "Instructions", [vm.cpu.disasm(3), bj.disasm(DOOR)[0]]
        yield "Handlers", vm.handlers
    with bj.specimen() as guest:
        guest.start()
        guest.console.read_until("line 5 ")
        bj.guest.order(guest, "write_null")
        guest.console.read_until("line 12 ")
        guest.pause()
        yield "The specimen", [guest, bj.guest.tasks(guest), bj.guest.tasks(guest)[2], bj.guest.log(guest)]
        yield "Its devices and lines", [*guest.devices, TestCard(), guest.irq(5), guest.cpu.lapic]
        yield "Its statistics, symbols and map", [guest.stats, guest.symbols, guest.memory_map()]
        yield "Addresses", [guest.cpu.translate(guest.cpu.regs.rsp), guest.cpu.translate(1 << 46), guest.cpu.mappings()]
        points = [guest.breakpoint("system_call", when=bj.reg.rax == 1), guest.watch("ticks", virtual=True)]
        with guest.gdbserver() as server, guest.trace(branch=True) as branches:
            points[0].remove()
            guest.run(timeout=5, max_exits=1000)
            yield "A debugger's things", [*points, server, branches.coverage()]
        yield "A gdb server that has ended", [server]
        with TemporaryDirectory() as folder:
            guest.dump(Path(folder) / "core")
            dump = bj.open_dump(Path(folder) / "core")
            yield "A dump", [dump, dump.cpu, bj.Dump.of({0x1000: b""})]
    yield "A closed VM", [vm, vm.cpu, vm.memory]
    yield "Exits", EXITS
    yield "Host, Quirks", [bj.host, bj.host.quirks]


def main():
    """Write both pages."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build")
    folder.mkdir(exist_ok=True)
    shown = [f"<h3>{title}</h3>" + "\n".join(one._repr_html_() for one in ones) for title, ones in things()]
    for theme, (is_light, background, colour) in THEMES.items():
        body = f'<body data-jp-theme-light="{is_light}" style="background:{background};color:{colour};padding:1em">'
        path = folder / f"look-{theme}.html"
        path.write_text("\n".join(["<!doctype html><meta charset=utf-8>", body, *shown]), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
