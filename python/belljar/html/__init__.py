"""What a notebook shows of belljar's objects: HTML, made here and nowhere else.

It reads objects through their public attributes only, escapes what comes from the guest, and neither waits for a
running VM nor changes anything. `show` is what each `_repr_html_` calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import belljar._belljar as native
from belljar.bits import Bits
from belljar.coverage import Coverage
from belljar.cpuid import Cpuid
from belljar.device import Device
from belljar.dump import Dump
from belljar.guest import Log, Task, Tasks
from belljar.host import Host
from belljar.html import (
    addresses,
    connections,
    debugging,
    exits,
    figures,
    guests,
    hosts,
    kernel,
    machine,
    memory,
    processor,
    states,
)
from belljar.html.parts import Markup, card, code, join, tag
from belljar.html.style import STYLE
from belljar.linux import File as OpenFile
from belljar.linux import Linux, Map, Message, Messages, Module, Mount, Prototype, Socket, Syscall, Table
from belljar.linux import Task as LinuxTask
from belljar.listing import Listing
from belljar.mappings import Mappings
from belljar.profile import Profile
from belljar.register_device import RegisterDevice
from belljar.saved_cpu import SavedCPU
from belljar.state import Diff, State
from belljar.stats import Stats

_SHOWN: dict[type, Callable[[Any], Markup]] = {
    native.Breakpoint: debugging.breakpoint_,
    native.BtfFunction: lambda function: card(code(repr(function))),
    native.BtfStruct: kernel.structure,
    native.Exit: exits.exit,
    native.Fpu: processor.fpu,
    native.GdbServer: debugging.gdb_server,
    native.Handle: machine.handle,
    native.Instruction: processor.instruction,
    native.IrqLine: connections.irq_line,
    native.Lapic: connections.lapic,
    native.Mapping: addresses.mapping,
    native.Memory: memory.memory,
    native.MemoryMap: memory.memory_map,
    native.MemoryRange: memory.memory_range,
    native.Msrs: processor.msrs,
    native.Quirks: hosts.quirks,
    native.Region: memory.region,
    native.Registers: processor.registers,
    native.Segment: processor.segment,
    native.Symbols: guests.symbols,
    native.Translation: addresses.translation,
    native.VCPU: processor.vcpu,
    native.VM: machine.vm,
    native.Watchpoint: debugging.watchpoint,
    Bits: states.bits,
    Coverage: debugging.coverage,
    Cpuid: processor.cpuid,
    Device: connections.device,
    Diff: states.diff,
    Dump: debugging.dump,
    Host: hosts.host,
    Linux: kernel.linux,
    LinuxTask: kernel.row,
    Listing: lambda listing: processor.lines(listing, listing.here),
    Log: guests.log,
    Map: kernel.row,
    Message: kernel.row,
    Messages: kernel.messages,
    Module: kernel.row,
    Mount: kernel.row,
    OpenFile: kernel.row,
    Mappings: addresses.mappings,
    Prototype: kernel.row,
    RegisterDevice: connections.register_device,
    SavedCPU: processor.vcpu,
    Socket: kernel.row,
    State: states.state,
    Stats: figures.stats,
    Syscall: lambda call: card(code(repr(call))),
    Profile: figures.profile,
    Table: kernel.table,
    Task: guests.task,
    Tasks: guests.tasks,
}


def fragment(thing: object) -> Markup:
    """Return the HTML of one object, without the stylesheet. TypeError for what is none of belljar's."""
    for kind in type(thing).__mro__:
        if kind in _SHOWN:
            return tag("div", _SHOWN[kind](thing), of="belljar")
    raise TypeError(f"belljar has no HTML for {type(thing).__name__}")


def show(thing: object) -> str:
    """Return the HTML of one object with its stylesheet, as a notebook shows it."""
    return str(join([Markup(f"<style>{STYLE}</style>"), fragment(thing)]))
