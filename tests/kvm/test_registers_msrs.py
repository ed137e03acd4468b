"""All MSRs of a vCPU at once, by the names that people know."""

import os

import pytest

import belljar as bj
from belljar.state import VOLATILE


def test_iterating_gives_the_names_of_what_the_vcpu_has(vm):
    names = list(vm.cpu.msr)
    assert {"TSC", "LSTAR", "STAR", "SYSENTER_EIP", "PAT", "EFER", "GS_BASE", "APIC_BASE"} <= set(names)
    assert len(names) == len(vm.cpu.msr) == len(set(names))
    assert vm.cpu.msr.keys() == names


def test_nearly_all_that_kvm_lists_have_names(vm):
    names = list(vm.cpu.msr)
    unnamed = [hex(number) for number in names if isinstance(number, int)]
    assert len(unnamed) <= len(names) // 20, unnamed


def test_all_are_read_at_once(vm):
    vm.cpu.msr["LSTAR"] = 0x1234_5000
    everything = vm.cpu.msr.read()
    assert everything["LSTAR"] == dict(vm.cpu.msr.items())["LSTAR"] == dict(vm.cpu.msr)["LSTAR"] == 0x1234_5000
    for name, value in everything.items():
        if f"msr.{name}" not in VOLATILE:
            assert vm.cpu.msr[name] == value, name


def test_membership_asks_the_vcpu(vm):
    assert "LSTAR" in vm.cpu.msr
    assert 0xC000_0082 in vm.cpu.msr
    assert "ia32_lstar" in vm.cpu.msr
    assert "NO_SUCH_REGISTER" not in vm.cpu.msr
    assert 0x1234_5678 not in vm.cpu.msr


def test_a_slip_of_the_keyboard_is_answered_with_the_name(vm):
    with pytest.raises(KeyError, match="do you mean LSTAR"):
        vm.cpu.msr["LSTRA"]
    with pytest.raises(KeyError, match="SYSCALL_MASK"):
        vm.cpu.msr["SYSCAL_MASK"] = 1


def test_repr_is_a_table(vm):
    vm.cpu.msr["CSTAR"] = 0x5000
    lines = repr(vm.cpu.msr).splitlines()
    assert "c0000083 CSTAR                  0x5000" in lines
    assert len(lines) == len(vm.cpu.msr)


def test_names_know_the_families():
    names = bj.Msrs.names()
    assert (names["MTRR_PHYSMASK7"], names["MC3_STATUS"], names["X2APIC_ICR"]) == (0x20F, 0x40D, 0x830)
    assert (names["PERFEVTSEL0"], names["HV_SINT2"], names["SMBASE"]) == (0x186, 0x4000_0092, 0x9E)
    assert len(set(names.values())) == len(names)


@pytest.fixture
def one_processor():
    """Stay on one processor: where the emulated PC has several, each counts for itself."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def test_the_tsc_counts_and_has_a_frequency(one_processor, vm):
    first = vm.cpu.tsc
    assert vm.cpu.tsc > first
    assert 100_000 < vm.cpu.tsc_khz < 10_000_000


def test_setting_the_tsc_works_or_says_that_it_does_not(vm):
    before = vm.cpu.tsc
    target = 1 << 50
    refusal = None
    try:
        vm.cpu.tsc = target
    except ValueError as error:
        refusal = str(error)
    expected = target if refusal is None else before
    assert refusal is None or "does not let the TSC be set" in refusal
    assert abs(vm.cpu.tsc - expected) < vm.cpu.tsc_khz * 60_000


def test_the_clock_of_the_guest_runs_and_can_be_set(vm):
    first = vm.clock
    assert vm.clock > first
    vm.clock = 1_000_000_000_000
    assert 0 <= vm.clock - 1_000_000_000_000 < 60_000_000_000
    with pytest.raises(OverflowError):
        vm.clock = -1


def test_a_register_that_a_vcpu_does_not_have_has_a_default(vm):
    assert vm.cpu.msr.get("EFER") == vm.cpu.msr["EFER"]
    assert vm.cpu.msr.get(0x1234_5678) is None
    assert vm.cpu.msr.get("NO_SUCH_REGISTER", 7) == 7
    with pytest.raises(TypeError):
        vm.cpu.msr.get(1.5)
