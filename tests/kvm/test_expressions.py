"""Expressions over a guest: written as Python writes them, computed when it has stopped."""

import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import belljar as bj

words = st.integers(0, 2**64 - 1)
OPERATORS = [operator.add, operator.sub, operator.mul, operator.and_, operator.or_, operator.xor]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


def computed(expression, exit=None):
    return expression.holds(exit=exit)


@given(words, words, st.sampled_from(OPERATORS), st.sampled_from(COMPARISONS), words)
def test_arithmetic_and_comparisons_are_those_of_64_bit_words(a, b, apply, compare, c):
    exit = bj.MmioWrite(a, 8, b)
    expression = compare(apply(bj.exit.address, bj.exit.data), c)
    assert computed(expression, exit) == compare(apply(a, b) % 2**64, c)


@given(words, st.integers(0, 100))
def test_shifts_leave_nothing_beyond_64_bits(a, n):
    exit = bj.MmioWrite(a, 8, 0)
    assert computed((bj.exit.address << n) == (a << n) % 2**64, exit)
    assert computed((bj.exit.address >> n) == a >> n, exit)


def test_a_field_that_the_exit_has_not_makes_no_comparison_hold():
    assert not computed(bj.exit.port == 0x10, bj.Hlt())
    assert not computed(bj.exit.port != 0x10, bj.Hlt())
    assert not computed(bj.exit.port == 0x10)
    assert computed(~(bj.exit.port == 0x10), bj.Hlt())
    assert computed((bj.exit.port == 0x10) | (bj.exit.vcpu == 0), bj.Hlt())


def test_truths_are_combined_by_signs_and_not_by_words():
    both = (bj.exit.port == 0x10) & (bj.exit.data > 3)
    assert computed(both, bj.PortOut(0x10, 1, 4))
    assert not computed(both, bj.PortOut(0x10, 1, 3))
    with pytest.raises(TypeError, match=r"& \| ~ instead of and, or, not"):
        assert bj.exit.port == 0x10 and bj.exit.data > 3


def test_one_of_several_values():
    assert computed(bj.exit.data.isin([1, 2, -1]), bj.PortOut(0x10, 1, 2))
    assert not computed(bj.exit.data.isin([]), bj.PortOut(0x10, 1, 2))


def test_an_expression_shows_how_it_is_written():
    assert repr((bj.reg.rip > 0x1000) & (bj.mem.u64(bj.reg.rsp + 8) != 0)) == (
        "(reg.rip > 0x1000) & (mem.u64(reg.rsp + 0x8) != 0x0)"
    )


@pytest.mark.parametrize(
    "wrong", [lambda: bj.reg.nothing, lambda: bj.reg.read, lambda: bj.mem.u128, lambda: bj.reg.__len__]
)
def test_what_there_is_not_is_refused_when_it_is_written(wrong):
    with pytest.raises(AttributeError):
        wrong()


def test_other_values_are_refused_when_they_are_written():
    with pytest.raises(TypeError, match=r"not of str: the address of a symbol is vm\.symbols"):
        _ = bj.reg.rax == "five"
    with pytest.raises(TypeError, match=r"not of float$"):
        _ = bj.reg.rax == 5.0


def test_integers_of_numpy_are_integers():
    numpy = pytest.importorskip("numpy")
    assert str(bj.reg.rax == numpy.uint64(5)) == str(bj.reg.rax == 5)
    assert str(bj.mem.u64(numpy.int64(-8)) + numpy.uint8(1)) == str(bj.mem.u64(-8) + 1)


def test_a_run_goes_on_until_an_expression_holds(vm):
    vm.load("l: inc rbx; mov [0x3000], rbx; out 0x10, al; jmp l")
    assert vm.run(timeout=60, until=bj.reg.rbx == 7) == bj.PortOut(0x10, 1, 0)
    assert vm.cpu.regs.rbx == 7
    vm.run(timeout=60, until=(bj.mem.u64(0x3000) >= 9) & (bj.exit.port == 0x10))
    assert vm.cpu.regs.rbx == 9
    assert vm.run(timeout=0.1, until=bj.mem.u64(0x4000_0000) == 0) == bj.Timeout()


def test_an_expression_is_asked_where_the_guest_makes_no_exits(vm):
    vm.load("l: inc qword ptr [0x3000]; jmp l", mode="user")
    assert vm.run(timeout=10, until=bj.mem.u64(0x3000) > 1000) == bj.Interrupted("until")


def test_registers_are_those_of_the_vcpu_that_runs_also_without_an_exit(new_vm):
    vm = new_vm("1M", 2)
    vm.load("l: inc qword ptr [0x3000]; inc rbx; jmp l", "user", vcpu=1)
    assert vm.cpus[1].run(timeout=60, until=bj.reg.rbx > 1000) == bj.Interrupted("until", vcpu=1)


@given(words, words)
def test_an_integer_may_stand_on_the_left(a, b):
    exit = bj.MmioWrite(a, 8, 0)
    for apply in [*OPERATORS, operator.mod, operator.floordiv]:
        if a:
            assert computed(apply(b, bj.exit.address) == apply(b, a) % 2**64, exit)
        if b:
            assert computed(apply(bj.exit.address, b) == apply(a, b) % 2**64, exit)
    assert computed(b >> (bj.exit.address & 63) == b >> (a & 63), exit)
    assert computed(b << (bj.exit.address & 63) == (b << (a & 63)) % 2**64, exit)


def test_a_comparison_with_what_is_divided_by_zero_does_not_hold():
    exit = bj.PortOut(0x10, 1, 0)
    assert not computed((5 // bj.exit.data == 0) | (5 % bj.exit.data == 0), exit)


def test_a_range_of_values_is_asked_without_being_spelled_out():
    text = bj.exit.address.isin(range(0xFFFF_8000_0000_0000, 2**64))
    assert repr(text) == "exit.address.isin(range(0xffff800000000000, 0x10000000000000000))"
    assert computed(text, bj.MmioWrite(2**64 - 1, 8, 0))
    assert not computed(text, bj.MmioWrite(0x1000, 8, 0))
    assert repr(bj.exit.data.isin(range(0, 8, 2))) == "exit.data.isin(range(0x0, 0x7, 0x2))"
    with pytest.raises(ValueError, match="from 0 to 2"):
        bj.exit.data.isin(range(-1, 5))


def test_a_run_goes_on_until_a_system_register_has_a_value():
    with bj.specimen(processes=["compute", "printer"]) as vm:
        vm.start()
        vm.console.read_until("at tick")
        vm.stop()
        task = next(task for task in bj.guest.tasks(vm) if task.name == "compute")
        assert vm.run(until=bj.reg.cr3 == task.cr3, timeout=20) == bj.Interrupted("until")
        assert vm.cpu.cr3 == task.cr3
        assert vm.run(until=(bj.reg.cpl == 3) & (bj.reg.cr3 == task.cr3), timeout=20) == bj.Interrupted("until")
        assert vm.cpu.cpl == 3
        code, at = bj.virtual.u64(bj.reg.rip), vm.cpu.regs.rip
        assert code.value(vm) == int.from_bytes(bj.guest.read_user(vm, task, at, 8), "little")
        assert bj.virtual.u64(0x7000_0000_0000).value(vm) is None
        assert repr(code) == "virtual.u64(reg.rip)"
