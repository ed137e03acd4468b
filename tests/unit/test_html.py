"""What notebooks show of values that need no machine."""

import re

import pytest

import belljar as bj
from belljar import html
from belljar.html import memory, parts
from belljar.html.style import STYLE

EXITS = [
    (bj.PortIn(0x10, 1), "reads 1 byte from port 0x10"),
    (bj.PortOut(0x10, 2, 0x2A), "writes 0x2a to port 0x10 (2 bytes)"),
    (bj.PortStringIn(0x1F0, 2, 256), "reads 256 elements of 2 bytes from port 0x1f0 into memory"),
    (bj.PortStringOut(0xE9, 1, 2, b"hi"), "writes 2 elements of 1 byte of memory to port 0xe9 68 69"),
    (bj.PortStringOut(0xE9, 1, 99, bytes(99)), "00 00 ..."),
    (bj.MmioRead(0xFEE00000, 4), "reads 4 bytes at address 0xfee00000"),
    (bj.MmioWrite(0xFEE00000, 4, 7), "writes 0x7 at address 0xfee00000"),
    (bj.MsrRead(0xC0000082, "filter"), "LSTAR"),
    (bj.MsrWrite(0x12345, 7, "unknown"), "0x12345"),
    (bj.Hlt(vcpu=3), "vCPU 3 halts"),
    (bj.Shutdown(), "triple fault"),
    (bj.Reset(), "keyboard controller"),
    (bj.Debug(1, 0x1000, 1, 0x400), "pc= 0x1000"),
    (
        bj.GuestException(14, 7, 0x1000, 0xDEAD000),
        "#PF page fault at 0x1000, for address 0xdead000 protectionwriteuser",
    ),
    (bj.GuestException(13, 8, 0x1000, 0), "#GP general protection at 0x1000, error code 0x8"),
    (bj.GuestException(200, None, 0x1000, 0), "interrupt 200"),
    (bj.InternalError(1, 0x1000, b"\xcc"), "cannot emulate int3 at 0x1000"),
    (bj.InternalError(3, 0x1000), "suberror 3"),
    (bj.FailEntry(0x21, 1), "reason= 0x21"),
    (bj.MemoryFault(0, 0x1000, 4096), "length= 0x1000"),
    (bj.SystemEvent(1, [0]), "reports shutdown"),
    (bj.Timeout(), "still running"),
    (bj.Interrupted("kick"), "stopped by kick()"),
    (bj.Interrupted("trace"), "a trace has no room for more"),
    (bj.Interrupted("until"), "came to where it was to run until"),
    (bj.Hypercall(12, [0x1000, 1, 2, 3, 4, 5], True), "number 12 (0x1000, 0x1, 0x2, 0x3)"),
    (bj.InterruptWindow(), "can take the interrupt"),
    (bj.TprLowered(3), "task priority to 3"),
    (bj.TprAccess(0x1000, True), "writes its task priority at 0x1000"),
    (bj.IoapicEoi(0x31), "ended the service of interrupt 0x31"),
    (bj.DirtyRingFull(), "ring of dirty pages is full"),
    (bj.ApResetHold(), "waits for the reset of a processor"),
    (bj.BusLock(vcpu=1), "vCPU 1 locked the bus"),
    (bj.Notify(1), "flags= 1"),
    (bj.HyperV(1, [2]), "kind= 1 data= [2]"),
    (bj.Xen(1, [2]), "kind= 1 data= [2]"),
    (bj.BreakpointHit(3, 0x1000), "comes to breakpoint 3 at 0x1000"),
    (bj.WatchpointHit(3, 0x2000, 0x2000, 4, True, 1, 2, 0x1000), "writes 4 bytes at 0x2000: 0x1, then 0x2"),
    (bj.WatchpointHit(3, 0x2000, None, 1, False, 7, 7, 0x1000), "reads 1 byte at 0x2000: 0x7"),
    (bj.Stepped(0x1000), "stepped to 0x1000"),
    (bj.UnknownExit(77, []), "reason= 0x4d"),
]


@pytest.mark.parametrize(("exit", "told"), EXITS, ids=lambda value: type(value).__name__)
def test_an_exit_is_told_in_a_sentence(seen, exit, told):
    assert type(exit).__name__ in seen(exit) and told in seen(exit)


def test_every_class_of_exits_is_looked_at_here():
    classes = {value for value in vars(bj).values() if isinstance(value, type) and issubclass(value, bj.Exit)}
    missing = classes - {bj.Exit} - {type(exit) for exit, _ in EXITS}
    assert {cls.__name__ for cls in missing} == set()


def test_what_comes_from_a_guest_is_escaped():
    shown = bj.Interrupted("<script>alert(1)</script>&\x1b\x00")._repr_html_()
    assert "<script" not in shown and "&lt;script&gt;" in shown and "&amp;\N{REPLACEMENT CHARACTER}" in shown
    assert parts.tag("div", of="x", title='"><b>') == '<div class="x" title="&quot;&gt;&lt;b&gt;"></div>'


def test_a_listing_prints_an_instruction_a_line_and_marks_where_the_vcpu_is(seen):
    listing = bj.disasm(bytes([0x90, 0xF4]), at=0x1000)
    listing.here = 0x1001
    assert repr(listing).splitlines() == ["  0x1000  90                   nop", "> 0x1001  f4                   hlt"]
    assert len(listing) == 2 and [line.text for line in listing[1:]] == ["hlt"]
    assert repr(listing[1:]) == "> 0x1001  f4                   hlt" and listing[-1] == listing[1]
    assert "0x100090nop" in seen(listing[0]) and "\N{BLACK RIGHT-POINTING TRIANGLE}0x1001f4hlt" in seen(listing)


def test_a_segment_is_named_by_its_type(seen):
    assert "64-bit code, readable" in seen(bj.Segment(type=0xB, l=True, selector=8))
    assert "data, writable" in seen(bj.Segment(type=3))
    assert "not present" in seen(bj.Segment(present=False))


def test_the_stylesheet_touches_nothing_but_belljar():
    top = re.sub(r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}", "\n", STYLE).split("\n")
    selectors = [one for rule in top for one in re.split(r",(?![^(]*\))", rule) if one]
    assert selectors and all(".belljar" in one or one.startswith("@media") for one in selectors)


@pytest.mark.parametrize("theme", ["prefers-color-scheme:dark", "data-jp-theme-light", "vscode-dark", "data-theme"])
def test_the_stylesheet_knows_who_may_be_dark(theme):
    assert theme in STYLE


def test_the_larger_piece_of_a_map_is_wider_and_handlers_are_drawn_where_nothing_else_is():
    class Fake:
        def __init__(self, start, end, kind, name=""):
            self.start, self.end, self.kind, self.name = start, end, kind, name

    ranges = [Fake(0, 0x80000, "RAM"), Fake(0x80000, 0x100000, "hole"), Fake(0x100000, 0x101000, "device", "pic")]
    ranges += [
        Fake(0x100800, 0x101000, "handler"),
        Fake(0x101000, 0x102000, "handler"),
        Fake(0x102000, 1 << 48, "hole"),
    ]
    found = memory.pieces(ranges)
    assert [(p.start, p.kind) for p in found] == [(r.start, r.kind) for r in [*ranges[:3], *ranges[4:]]]
    assert found[0].weight > found[1].weight > found[2].weight
    assert memory.used(found) == found[:-1] and memory.used(found[:1]) == found[:1]


def test_bits_show_all_their_names_and_those_that_are_not_set_faintly(seen):
    shown = bj.bits.CR0(0x80000011)._repr_html_()
    assert seen(bj.bits.CR0(0x80000011)) == "CR0 0x80000011PE MP EM TS ET NE WP AM NW CD PG"
    assert (
        '<span class="flag" title="Paging.">PG</span>' in shown and 'class="flag off" title="Cache disable."' in shown
    )


def test_statistics_of_nothing_are_shown(seen):
    assert seen(bj.Stats()) == "Statistics0 exits0"
    assert "1 exit" in seen(bj.Stats({"Hlt": 1}, guest=0.5)) and "500 ms" in seen(bj.Stats({"Hlt": 1}, guest=0.5))


def test_a_device_that_is_not_attached_is_shown(seen):
    class Dice(bj.Device):
        """Rolls."""

        ports = 0x10

    assert seen(Dice()) == "Dice not attachedRolls."


@pytest.mark.parametrize(
    ("count", "told"), [(0, "0 bytes"), (1536, "1.5 KiB"), (1 << 20, "1 MiB"), (1 << 62, "4096 PiB")]
)
def test_a_size_is_told_in_its_largest_unit(count, told):
    assert parts.size(count) == told


def test_there_is_no_html_for_others():
    with pytest.raises(TypeError, match="no HTML for int"):
        html.show(1)


def test_the_host_says_whether_vms_run_here(seen):
    assert seen(bj.host).startswith("Host")
