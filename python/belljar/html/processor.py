"""Pictures of a vCPU: what comes next, registers and what changed in them, segments. They never set anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from belljar.errors import BelljarError
from belljar.html import bits
from belljar.html.parts import Markup, card, code, dim, flags, fold, head, hexadecimal, join, table, tag, title

if TYPE_CHECKING:
    from belljar._belljar import VCPU, Instruction, Msrs, Registers, Segment

SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs", "tr", "ldt")
LINES = 200
"""So many instructions of a listing are shown."""


def lines(listing: Sequence[Instruction], here: int | None = None) -> Markup:
    """Show instructions one a line, the one at ``here`` marked."""
    rows = []
    for line in listing[:LINES]:
        mark = "\N{BLACK RIGHT-POINTING TRIANGLE}" if line.address == here else ""
        rows.append(
            tag(
                "tr",
                *[
                    tag("td", c)
                    for c in (mark, code(f"{line.address:#x}"), dim(code(line.bytes.hex(" "))), _text(line))
                ],
                of="here" if mark else "",
            )
        )
    more = dim(f"and {len(listing) - LINES} more") if len(listing) > LINES else ""
    return tag("div", tag("table", tag("tbody", *rows), of="code"), more, of="scroll")


def _text(line: Instruction) -> Markup:
    mnemonic, _, rest = line.text.partition(" ")
    return tag("code", tag("b", mnemonic), f" {rest}" if rest else "")


def instruction(value: Instruction) -> Markup:
    """Show one instruction."""
    return lines([value])


def changed(registers: Registers) -> Mapping[str, tuple[int, int]]:
    """Return what changed since the last stop: name to (before, now)."""
    ask: Callable[[], Mapping[str, tuple[int, int]]] | None = getattr(registers, "changed", None)
    return ask() if ask else {}


def grid(registers: Registers) -> Markup:
    """Show the 18 registers, those marked that changed since the last stop."""
    values, new = registers.as_dict(), changed(registers)
    cells = []
    for name, value in values.items():
        was = new.get(name)
        shown = join([f"{name:>6} ", hexadecimal(value, 16)])
        mark = tag("span", shown, of="changed", title=f"was {was[0]:#x}" if was else None)
        cells.append(tag("span", mark if was else shown, of="m r"))
    note: list[object] = [dim("RFLAGS "), flags(bits.rflags(values["rflags"]))]
    if new:
        note += ["  ", tag("span", "marked", of="changed"), dim(" changed since the last stop")]
    return join([tag("div", *cells, of="regs"), tag("div", *note)])


def registers(value: Registers) -> Markup:
    """Show the registers; of a running or closed VM, only that it is one."""
    try:
        return card(grid(value))
    except BelljarError as error:
        return card(head("Registers", dim(error)))


def control(cpu: VCPU) -> Markup:
    """Show the control registers with their set bits named."""
    named = [("CR0", cpu.cr0, bits.CR0), ("CR4", cpu.cr4, bits.CR4), ("EFER", cpu.efer, bits.EFER)]
    rows = [[name, hexadecimal(value), flags(bits.names(int(value), of))] for name, value, of in named]
    rows += [["CR2", hexadecimal(cpu.cr2), dim("the address of the last page fault")]]
    rows += [["CR3", hexadecimal(cpu.cr3), dim("the root page table")]]
    for name, (base, limit) in (("GDT", cpu.gdt), ("IDT", cpu.idt)):
        rows.append([name, hexadecimal(base), dim(f"limit {limit:#x}")])
    return table(rows)


def segment_rows(named: Mapping[str, Segment]) -> Markup:
    """Show segment registers, one a row."""
    rows = []
    for name, value in named.items():
        facts = [hexadecimal(value.selector), hexadecimal(value.base), hexadecimal(value.limit), value.dpl]
        rows.append([name, *facts, bits.segment(value, is_system=name in {"TR", "LDT"})])
    return table(rows, ["", "selector", "base", "limit", "dpl", "what it is"])


def segment(value: Segment) -> Markup:
    """Show one segment register."""
    return segment_rows({"": value})


def where(cpu: VCPU) -> Markup:
    """Say where a vCPU is and in which mode."""
    width = 64 if cpu.efer & 1 << 10 and cpu.cs.l else 32 if cpu.cs.db else 16
    mode = "real mode" if not cpu.cr0 & 1 else f"{width}-bit"
    paging = "paging" if cpu.cr0 & 1 << 31 else "no paging"
    return join([hexadecimal(cpu.regs.rip), dim(f"  {mode}, ring {cpu.cpl}, {paging}")])


def vcpu(cpu: VCPU) -> Markup:
    """Show a vCPU; of a running or closed VM, only that it is one."""
    name = f"vCPU {cpu.id}"
    try:
        return card(
            head(name, where(cpu)),
            lines(cpu.disasm(4), cpu.regs.rip),
            title("registers"),
            grid(cpu.regs),
            fold("Control registers", control(cpu)),
            fold("Segments", segment_rows({n.upper(): getattr(cpu, n) for n in SEGMENTS})),
        )
    except BelljarError as error:
        return card(head(name, dim(error)))


def msrs(value: Msrs) -> Markup:
    """Show the model-specific registers that belljar has names for; those that are zero by name only."""
    found = {}
    for name, number in value.names().items():
        try:
            found[name] = (number, value[number])
        except KeyError:
            continue
        except BelljarError as error:
            return card(head("MSRs", dim(error)))
    rows = [[name, hexadecimal(number), hexadecimal(now, 16)] for name, (number, now) in found.items() if now]
    zero = ", ".join(name for name, (_, now) in found.items() if not now)
    return card(
        head("MSRs"), table(rows, ["name", "number", "value"]), tag("div", dim(f"zero: {zero}")) if zero else ""
    )
