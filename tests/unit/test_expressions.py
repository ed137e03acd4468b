"""Expressions as values: how they are written, shown and bounded, without a machine."""

import functools
import operator

import pytest

import belljar as bj


def test_expressions_of_any_number_of_levels_are_refused_before_they_are_too_deep():
    with pytest.raises(ValueError, match="at most 4096 parts, at most 200 deep"):
        functools.reduce(lambda expression, _: ~expression, range(1000), bj.reg.rax)


def test_expressions_that_double_are_refused_before_they_take_for_ever():
    with pytest.raises(ValueError, match="at most 4096 parts, at most 200 deep"):
        functools.reduce(lambda expression, _: expression + expression, range(100), bj.reg.rax)


def test_a_hundred_alternatives_are_one_expression():
    any_of = functools.reduce(operator.or_, (bj.exit.port == n for n in range(100)))
    assert any_of.holds(exit=bj.PortIn(99, 1)) and not any_of.holds(exit=bj.PortIn(100, 1))


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ((bj.exit.data == 6) & 4, 1),  # a truth makes a truth of what it is combined with
        (bj.exit.data & (bj.exit.size == 1), 1),
        ((bj.exit.data == 7) | 4, 1),
        (bj.exit.data & 4, 4),
        (bj.exit.data | 1, 7),
        (4 & bj.exit.data, 4),
        (~bj.exit.data, 0),
        (10 - bj.exit.data, 4),
        (1 << bj.exit.data, 64),
        (bj.exit.address, None),
        (bj.exit.address == 0, None),
        (~(bj.exit.address == 0), 1),
        ((bj.exit.address == 0) & (bj.exit.data == 6), 0),
        ((bj.exit.data == 6) | (bj.exit.address == 0), 1),
        (bj.exit.data == -(2**64) + 6, 1),
        (bj.reg.rax == 0, None),
        (bj.mem.u8(0) == 0, None),
    ],
)
def test_truths_bits_and_what_is_absent(expression, value):
    assert expression.value(exit=bj.PortOut(0x10, 1, 6)) == value


@pytest.mark.parametrize(
    "text",
    [
        "(reg.rip > 0x1000) & (mem.u64(reg.rsp + 0x8) != 0x0)",
        "~(exit.port == 0x10)",
        "(exit.data & 0xff).isin([0x1, 0x2])",
        "(reg.ah << 0x8) | reg.r8b",
        "mem.u16((reg.eax + 0x1) * 0x2) <= exit.count",
    ],
)
def test_an_expression_shows_how_it_is_written_and_reads_back(text):
    names = {"reg": bj.reg, "mem": bj.mem, "exit": bj.exit}
    assert repr(eval(text, names)) == text


@pytest.mark.parametrize("exit", [
    bj.Debug(1, 0x1000, 2, 3), bj.GuestException(14, 2, 3, 4), bj.InternalError(1, 0x1000), bj.FailEntry(5, 6),
    bj.MemoryFault(8, 0x1000, 4), bj.SystemEvent(2, []), bj.Hypercall(12, [0] * 6, True), bj.TprLowered(3),
    bj.TprAccess(0x1000, True), bj.IoapicEoi(0x20), bj.Notify(1), bj.HyperV(1, []), bj.Xen(2, []),
    bj.PortStringIn(0x10, 2, 5), bj.PortStringOut(0x10, 2, 2, b"abcd"), bj.MmioRead(1, 2), bj.MsrWrite(1, 2, "filter"),
    bj.UnknownExit(99, []), bj.PortOut(1, 2, 3, 1), bj.BreakpointHit(1, 2),
    bj.WatchpointHit(1, 2, 3, 4, True, 5, 6, 7), bj.Stepped(8),
])  # fmt: skip
def test_every_number_of_an_exit_is_a_field(exit):
    numbers = {
        name: int(value)
        for name in dir(exit)
        if isinstance(value := getattr(exit, name), int) and not name.startswith("_") and name != "bits"
    }
    assert {name: getattr(bj.exit, name).value(exit=exit) for name in numbers} == numbers
    assert set(numbers) <= set(dir(bj.exit))


@pytest.mark.parametrize("name", ["exit.prot", "reg.r16", "mem.u128", "exit.__wrapped__"])
def test_what_there_is_not_is_refused_when_it_is_written(name):
    with pytest.raises(AttributeError):
        operator.attrgetter(name)(bj)


def test_an_expression_is_no_key_and_no_truth():
    with pytest.raises(TypeError, match="unhashable"):
        hash(bj.reg.rax)
    with pytest.raises(TypeError, match=r"& \| ~"):
        bool(bj.reg.rax == 1)
