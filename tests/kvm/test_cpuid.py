"""CPUID of vCPUs: read as a table, changed before the first run, and seen so by the guest."""

import logging

import pytest

import belljar as bj

ASK = "mov eax, {:#x}; xor ecx, ecx; cpuid; hlt"


def asked(vm, leaf):
    """Return what the guest gets for a leaf, in ring 0."""
    vm.load(ASK.format(leaf))
    assert vm.run(timeout=60) == bj.Hlt()
    regs = vm.cpu.regs
    return bj.CpuidWords(regs.rax, regs.rbx, regs.rcx, regs.rdx)


def test_the_guest_sees_what_the_table_says(vm):
    table = bj.Cpuid(vm.cpu.cpuid)
    assert asked(vm, 0x8000_0008) == table[0x8000_0008] and table[1, None] == table[1]


def test_a_name_is_changed_before_the_first_run(vm):
    vm.cpuid.brand = "A processor under glass"
    vm.cpuid.vendor = "BellJarBJBJ"
    assert (vm.cpuid.brand, vm.cpu.cpuid.vendor) == ("A processor under glass", "BellJarBJBJ")
    assert asked(vm, 0x8000_0002).eax == int.from_bytes(b"A pr", "little")


def test_a_leaf_of_ones_own_is_what_the_guest_gets(vm):
    vm.cpuid[0x4000_0100] = (1, 2, 3, 0xFFFF_FFFF)
    vm.cpuid[0x4000_0000] = vm.cpuid[0x4000_0000]._replace(eax=0x4000_0100)
    assert asked(vm, 0x4000_0100) == (1, 2, 3, 0xFFFF_FFFF)


def test_a_leaf_that_is_taken_away_is_gone(vm):
    vm.cpuid[0x4000_0100] = (1, 2, 3, 4)
    assert (0x4000_0100, None) in vm.cpuid
    del vm.cpuid[0x4000_0100]
    assert 0x4000_0100 not in vm.cpuid
    with pytest.raises(KeyError, match="0x40000100"):
        vm.cpuid[0x4000_0100]


@pytest.mark.needs(cpuid_masks_hold=True)
def test_a_feature_that_is_left_out_is_hidden_from_ring_3(new_vm):
    vm = new_vm("1M", cpuid={"ssse3": False})
    vm.load("mov eax, 1; xor ecx, ecx; cpuid; ud2", mode="user")
    assert isinstance(vm.run(timeout=60), bj.GuestException)
    assert not vm.cpu.regs.rcx >> 9 & 1 and not vm.cpuid["ssse3"]


@pytest.mark.needs(cpuid_masks_hold=False)
def test_a_feature_that_this_kvm_keeps_is_told(vm, caplog):
    with caplog.at_level(logging.WARNING, "belljar"):
        vm.cpuid["popcnt"] = False
    assert vm.cpuid["popcnt"] and "popcnt" in caplog.text


def test_a_feature_that_can_be_added_is_there(vm):
    vm.cpuid["3dnow"] = False  # as most processors have it
    assert "3dnow" in vm.cpuid and not vm.cpuid["3dnow"]
    vm.cpuid["3dnow"] = True
    assert vm.cpuid["3dnow"] and asked(vm, 0x8000_0001).edx >> 31


def test_every_vcpu_gets_what_the_vm_is_made_with_and_keeps_its_number(new_vm):
    vm = new_vm("1M", vcpus=3, cpuid={"brand": "Mine", 1: (0x1234, 0, 0, 0)})
    for cpu in vm.cpus:
        assert cpu.cpuid.brand == "Mine"
        assert cpu.cpuid[1].eax == 0x1234 and cpu.cpuid[1].ebx >> 24 == cpu.id


def test_one_vcpu_can_differ(new_vm):
    vm = new_vm("1M", vcpus=2)
    vm.cpus[1].cpuid.brand = "Second"
    assert vm.cpuid.brand != "Second" and vm.cpus[1].cpuid.brand == "Second"
    assert (0x8000_0002, None) in vm.cpuid.diff(vm.cpus[1].cpuid)


def test_a_whole_table_is_given_to_a_new_vm(new_vm):
    table = bj.host.cpuid
    table.update({"brand": "Copied", (0x4000_0100, None): (1, 2, 3, 4)})
    vm = new_vm("1M", vcpus=2, cpuid=table)
    assert vm.cpuid.brand == "Copied" and vm.cpus[1].cpuid[0x4000_0100] == (1, 2, 3, 4)
    assert vm.cpus[1].cpuid[1].ebx >> 24 == 1


def test_from_the_first_run_on_it_is_fixed(vm):
    before = bj.Cpuid(vm.cpuid)
    vm.load("hlt")
    vm.run(timeout=60)
    with pytest.raises(bj.RegisterError, match="VM\\(cpuid="):
        vm.cpuid["avx2"] = False
    assert vm.cpuid[0] == before[0]


def test_more_leaves_than_kvm_takes_are_refused(vm):
    with pytest.raises(bj.RegisterError, match="at most"):
        vm.cpuid.update({0x5000_0000 + n: (0, 0, 0, 0) for n in range(300)})


@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ({"avxx": True}, KeyError, "avx"),
        ({1: (1, 2, 3)}, TypeError, "four numbers"),
        ({1: (1, 2, 3, 1 << 32)}, ValueError, "0xffffffff"),
        ({-1: (1, 2, 3, 4)}, ValueError, "CPUID leaf"),
        ({"brand": "x" * 49}, ValueError, "at most 48"),
        ("avx2", TypeError, "a mapping"),
    ],
    ids=repr,
)
def test_what_is_no_cpuid_is_refused(new_vm, how, error, text):
    with pytest.raises(error, match=text):
        new_vm("1M", cpuid=how)


def test_it_is_shown_as_a_table(vm, seen):
    vm.cpuid.brand = "<Glass>"
    lines = repr(vm.cpuid).splitlines()
    assert lines[0].split() == ["leaf", "sub", "eax", "ebx", "ecx", "edx"] and len(lines) == len(vm.cpuid) + 1
    text = seen(vm.cpuid)
    assert "<Glass>" in text and "sse2" in text and f"{len(vm.cpuid)} leaves" in text


def test_of_a_running_vm_it_cannot_be_read(vm, seen):
    table = vm.cpuid
    vm.load("l: jmp l")
    vm.start()
    with pytest.raises(bj.RunningError):
        len(table)
    assert "running" in seen(table)
    vm.stop()


def test_the_host_tells_what_it_offers():
    table = bj.host.cpuid
    assert table["fpu"] and table["lm"] and "sse2" in table.flags and len(table.vendor) == 12
    table["sse2"] = False
    assert bj.host.cpuid["sse2"]
