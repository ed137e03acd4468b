"""Pictures of a vCPU: what comes next, registers and what changed in them, segments. They never set anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from belljar.bits import RFLAGS
from belljar.errors import BelljarError
from belljar.html import bits
from belljar.html.parts import Markup, card, code, dim, fold, head, hexadecimal, join, pill, table, tag, title
from belljar.html.states import pills
from belljar.listing import label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from belljar._belljar import VCPU, Fpu, Instruction, Msrs, Registers, Segment
    from belljar.cpuid import Cpuid

SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs", "tr", "ldt")
LINES = 200
"""So many instructions of a listing are shown."""


def lines(listing: Sequence[Instruction], here: int | None = None) -> Markup:
    """Show instructions one a line, the one at ``here`` marked."""
    rows = []
    for number, line in enumerate(listing[:LINES]):
        if name := label(listing, number):
            rows.append(tag("tr", tag("td"), tag("td", tag("b", code(f"{name}:")), colspan=3)))
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
    target = dim(f" <{line.target_symbol}>") if line.target_symbol else ""
    return tag("code", tag("b", mnemonic), f" {rest}" if rest else "", target)


def instruction(value: Instruction) -> Markup:
    """Show one instruction."""
    return lines([value])


def changed(registers: Registers) -> Mapping[str, tuple[int, int]]:
    """Return what changed since the vCPU was last run: name to (before, now); nothing where that is not known."""
    return registers.changed() or {}


def grid(registers: Registers) -> Markup:
    """Show the 18 registers, those marked that changed since the vCPU was last run."""
    values, new = registers.as_dict(), changed(registers)
    cells = []
    for name, value in values.items():
        was = new.get(name)
        shown = join([f"{name:>6} ", hexadecimal(value, 16)])
        mark = tag("span", shown, of="changed", title=f"was {was[0]:#x}" if was else None)
        cells.append(tag("span", mark if was else shown, of="m r"))
    note: list[object] = [dim("RFLAGS "), pills(RFLAGS(values["rflags"] & ~2))]
    if new:
        note += ["  ", tag("span", "marked", of="changed"), dim(" changed in the last run")]
    return join([tag("div", *cells, of="regs"), tag("div", *note)])


def registers(value: Registers) -> Markup:
    """Show the registers; of a running or closed VM, only that it is one."""
    try:
        return card(grid(value))
    except BelljarError as error:
        return card(head("Registers", dim(error)))


def control(cpu: VCPU) -> Markup:
    """Show the control registers with their set bits named."""
    named = {"CR0": cpu.cr0, "CR4": cpu.cr4, "EFER": cpu.efer, "XCR0": cpu.xcr0}
    rows = [[name, hexadecimal(int(value)), pills(value)] for name, value in named.items() if value]
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
    zero = [name for name, (_, now) in found.items() if not now]
    left = fold(f"{len(zero)} more are zero", dim(", ".join(zero))) if zero else ""
    return card(head("MSRs"), table(rows, ["name", "number", "value"]), left)


def fpu(value: Fpu) -> Markup:
    """Show x87 and vector registers; those that are zero are left out."""
    try:
        words = {name: getattr(value, name) for name in ("fcw", "fsw", "ftw", "mxcsr")}
        bank = value.ymm if len(value.ymm) else value.xmm
        floats, vectors = [value.st[n] for n in range(8)], [bank[n] for n in range(len(bank))]
    except BelljarError as error:
        return card(head("x87, SSE, AVX", dim(error)))
    facts = [join([dim(f"{name.upper()} "), hexadecimal(word)]) for name, word in words.items()]
    rows = [[f"ST({n})", code(number)] for n, number in enumerate(floats) if number]
    name, digits = ("YMM", 64) if len(value.ymm) else ("XMM", 32)
    rows += [[f"{name}{n}", hexadecimal(number, digits)] for n, number in enumerate(vectors) if number]
    return card(head("x87, SSE, AVX", *facts), table(rows) if rows else dim("ST and vector registers are all zero"))


def cpuid(value: Cpuid) -> Markup:
    """Show the processor's name, the features that are there, and the leaves; of a running VM, only that it is one."""
    try:
        leaves, flags = value.items(), value.flags
    except BelljarError as error:
        return card(head("CPUID", dim(error)))
    rows = [
        [code(f"{leaf:#x}"), "" if sub is None else f"{sub:x}", *(hexadecimal(word, 8) for word in words)]
        for (leaf, sub), words in leaves
    ]
    name = join([code(value.brand or "no name"), dim(f"  {value.vendor}, family {value.signature[0]:#x}")])
    named = tag("div", *(join([pill(flag), " "]) for flag in flags))
    table_of = table(rows, ["leaf", "sub", "eax", "ebx", "ecx", "edx"])
    return card(head("CPUID", name), named, fold(f"{len(rows)} leaves", table_of))
