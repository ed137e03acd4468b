"""Control and debug registers whose bits have names, on a vCPU."""

import pickle

import pytest

import belljar as bj
from belljar import bits


def test_setting_a_bit_changes_that_bit_alone(vm):
    vm.load("hlt")
    before = vm.cpu.cr0
    vm.cpu.cr0.wp = not before.wp
    assert vm.cpu.cr0 == before ^ 0x1_0000
    assert vm.cpu.cr0.wp is not before.wp
    vm.cpu.cr0 = before
    assert vm.cpu.cr0 == before


def test_several_bits_are_set_at_once(vm):
    vm.load("hlt", mode="protected")
    vm.cpu.cr0.update(ts=True, am=True, pe=True)
    assert (vm.cpu.cr0.ts, vm.cpu.cr0.am, vm.cpu.cr0.pe, vm.cpu.cr0.pg) == (True, True, True, False)
    with pytest.raises(AttributeError, match="there are pe, mp"):
        vm.cpu.cr0.update(xx=True)


def test_a_value_that_was_read_stays_while_its_bits_are_set_in_the_vcpu(vm):
    vm.load("hlt")
    seen = vm.cpu.cr4
    seen.pge = True
    vm.cpu.cr4.tsd = True  # each assignment reads the register anew
    assert (seen.pge, vm.cpu.cr4.pge, vm.cpu.cr4.tsd, vm.cpu.cr4.pae) == (False, True, True, True)


def test_the_guest_sees_a_bit_that_was_set(vm):
    vm.load("mov rax, cr0; hlt")
    vm.cpu.cr0.wp = True
    vm.cpu.cr0.ts = True
    assert vm.run(timeout=60) == bj.Hlt()
    assert bj.bits.CR0(vm.cpu.regs.rax).wp
    assert bj.bits.CR0(vm.cpu.regs.rax).ts


def test_flags_have_names(vm):
    vm.load("stc; xor eax, eax; hlt", mode="long")
    vm.run(timeout=60)
    assert (vm.cpu.rflags.zf, vm.cpu.rflags.cf, vm.cpu.rflags.iopl) == (True, False, 0)
    vm.cpu.rflags.iopl = 3
    vm.cpu.rflags.cf = True
    assert vm.cpu.regs.rflags & 0x3001 == 0x3001
    assert isinstance(vm.cpu.rflags, bj.bits.RFLAGS)
    vm.cpu.rflags = 0x202
    assert vm.cpu.rflags.if_


def test_flags_that_are_set_in_a_handler_reach_the_guest(vm):
    vm.load("clc; out 0x10, al; setc bl; hlt", mode="user")

    @vm.on_port(0x10)
    def door(exit):
        vm.cpu.rflags.cf = True

    vm.run(timeout=60)
    assert vm.cpu.regs.bl == 1


def test_efer_says_long_mode_by_name(vm):
    vm.load("hlt", mode="long")
    assert (vm.cpu.efer.lma, vm.cpu.efer.lme) == (True, True)


def test_debug_registers_keep_what_they_are_given(vm):
    vm.cpu.dr0, vm.cpu.dr1, vm.cpu.dr2, vm.cpu.dr3 = 0x1000, 0x2000, 0x3000, 0x4000
    vm.cpu.dr7.l1 = True
    vm.cpu.dr7.rw1 = 1
    vm.cpu.dr7.len1 = 3
    vm.cpu.dr6 = vm.cpu.dr6.replace(b1=True)
    assert (vm.cpu.dr0, vm.cpu.dr1, vm.cpu.dr2, vm.cpu.dr3) == (0x1000, 0x2000, 0x3000, 0x4000)
    assert vm.cpu.dr7 == 0x0000_0000_00D0_0404
    assert vm.cpu.dr6.b1


def test_a_debug_register_of_reserved_bits_is_refused(vm):
    with pytest.raises(bj.RegisterError):
        vm.cpu.dr7 = 1 << 40
    assert vm.cpu.dr7 == 0x400


@pytest.mark.parametrize("name", ["cr4", "efer"])
def test_bits_that_the_architecture_does_not_have_are_refused_at_once(vm, name):
    named = {field.first for field in bits.REGISTERS[name].FIELDS.values()}
    for bit in range(64):
        if bit in named:
            setattr(vm.cpu, name, 1 << bit)
            assert int(getattr(vm.cpu, name)) == 1 << bit
        else:
            with pytest.raises(bj.RegisterError, match=rf"{name.upper()} has no bit {bit} "):
                setattr(vm.cpu, name, 1 << bit)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("cr0", 1 << 32, "CR0 has no bit 32 "),
        ("cr0", 1 << 31, r"paging \(PG, bit 31\) needs protection \(PE, bit 0\): `cpu.cr0.update\(pe=True, pg=True\)`"),
        ("cr0", 1 << 29, "NW .bit 29. needs CD .bit 30."),
        ("xcr0", 0, "x87 .bit 0. must be set; AVX needs SSE: `cpu.xcr0 = 7`"),
        ("xcr0", 5, "x87 .bit 0. must be set; AVX needs SSE: `cpu.xcr0 = 7`"),
        ("xcr0", 0b1110_0011, "AVX-512 .bits 5 to 7. .* `cpu.xcr0 = 0xe7`"),
        ("xcr0", 0b0010_0111, "AVX-512 .bits 5 to 7. .* `cpu.xcr0 = 0xe7`"),
    ],
)
def test_a_value_that_contradicts_itself_is_refused_at_once_in_words(vm, name, value, words):
    before = int(getattr(vm.cpu, name))
    with pytest.raises(bj.RegisterError, match=words):
        setattr(vm.cpu, name, value)
    assert int(getattr(vm.cpu, name)) == before


def test_what_kvm_refuses_is_said_to_be_dropped(vm):
    vm.load("hlt")
    vm.cpu.cr4.pae = False
    with pytest.raises(bj.RegisterError, match=r"has been dropped: load\(\) again, or set"):
        vm.run(timeout=60)
    vm.load("hlt")
    assert vm.run(timeout=60) == bj.Hlt()


def test_a_guest_of_ring_0_sees_the_debug_registers(vm):
    vm.load("mov rax, dr0; mov rbx, 0x7000; mov dr1, rbx; hlt")
    vm.cpu.dr0 = 0x1234_5000
    assert vm.run(timeout=60) == bj.Hlt()
    assert (vm.cpu.regs.rax, vm.cpu.dr1) == (0x1234_5000, 0x7000)


def test_xcr0_always_has_x87_and_refuses_to_lose_it(vm):
    assert vm.cpu.xcr0.x87
    with pytest.raises(bj.RegisterError):
        vm.cpu.xcr0 = 0
    assert vm.cpu.xcr0.x87


def test_a_user_guest_may_use_what_the_processor_has(vm):
    vm.load("hlt", mode="user")
    assert (vm.cpu.xcr0.sse, vm.cpu.cr4.osxsave, vm.cpu.cr4.osfxsr) == (True, True, True)


def test_cr8_is_the_task_priority(vm):
    vm.cpu.cr8 = 5
    assert vm.cpu.cr8 == 5


def test_a_bit_of_a_running_vcpu_is_refused(vm):
    vm.load(b"\xeb\xfe", mode="user")
    cr0 = vm.cpu.cr0
    vm.start()
    try:
        with pytest.raises(bj.RunningError):
            cr0.wp = True
        with pytest.raises(bj.RunningError):
            _ = vm.cpu.dr7
    finally:
        vm.stop()


def test_a_register_of_a_vcpu_travels_without_it(vm):
    again = pickle.loads(pickle.dumps(vm.cpu.cr0))
    assert again == vm.cpu.cr0
    with pytest.raises(AttributeError, match="no vCPU"):
        again.wp = True
