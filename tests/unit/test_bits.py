"""Registers of named bits as values, without a vCPU: reading, changing, printing, travelling."""

import copy
import json
import pickle

import pytest

import belljar as bj
from belljar.bits import CR0, CR4, DR6, DR7, EFER, REGISTERS, RFLAGS, XCR0, Bits, Field, Flag


def test_a_register_made_by_hand_reads_its_bits():
    cr0 = CR0(0x8000_0011)
    assert (cr0.pe, cr0.et, cr0.pg, cr0.wp) == (True, True, True, False)
    assert bj.bits.CR0 is CR0


def test_fields_of_several_bits_read_as_numbers():
    assert RFLAGS(0x3202).iopl == 3
    dr7 = DR7(0b1101 << 16 | 0b0110 << 28)
    assert (dr7.rw0, dr7.len0, dr7.rw3, dr7.len3) == (1, 3, 2, 1)


def test_a_register_is_an_int_for_everything_else():
    cr4 = CR4(0x620)
    assert (cr4 == 0x620, cr4 & 0x20, hex(cr4), json.dumps(cr4), f"{cr4:#x}") == (True, 0x20, "0x620", "1568", "0x620")
    assert type(cr4 | 1) is int
    assert {cr4: 1}[0x620] == 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (CR0(0x8000_0011), "CR0(0x80000011: pe et pg)"),
        (CR0(0), "CR0(0x0)"),
        (RFLAGS(0x3202), "RFLAGS(0x3202: if iopl=3)"),
        (DR6(0xFFFF_0FF1), "DR6(0xffff0ff1: b0 bld rtm)"),
        (DR7(0x400), "DR7(0x400)"),
        (EFER(0xD01), "EFER(0xd01: sce lme lma nxe)"),
        (XCR0(7), "XCR0(0x7: x87 sse avx)"),
        (CR4(1 << 60 | 1), "CR4(0x1000000000000001: vme others=0x1000000000000000)"),
    ],
)
def test_repr_and_str_name_what_is_set(value, shown):
    assert repr(value) == str(value) == shown


def test_a_bit_of_a_register_made_by_hand_cannot_be_set():
    cr0 = CR0(1)
    with pytest.raises(AttributeError, match=r"belongs to no vCPU.*cpu\.cr0.*replace"):
        cr0.wp = True
    with pytest.raises(AttributeError, match="belongs to no vCPU"):
        cr0.update(wp=True)
    assert cr0 == 1


def test_replace_makes_another_value_of_several_fields():
    cr0 = CR0(0x11)
    assert cr0.replace(pg=True, wp=True, pe=False) == CR0(0x8001_0010)
    assert cr0 == 0x11
    assert RFLAGS(2).replace(iopl=2) == 0x2002
    assert isinstance(cr0.replace(), CR0)


@pytest.mark.parametrize(("register", "field", "value"), [(RFLAGS, "iopl", 4), (CR0, "wp", 2), (DR7, "len0", -1)])
def test_what_does_not_fit_into_a_field_is_refused(register, field, value):
    with pytest.raises(ValueError, match=field):
        register(0).replace(**{field: value})


def test_a_name_that_is_none_is_answered_with_those_that_are():
    with pytest.raises(AttributeError, match=r"CR0 has no field 'wq'; there are pe, mp, em"):
        _ = CR0(1).wq
    with pytest.raises(AttributeError, match=r"RFLAGS has no field 'if'.*if_"):
        setattr(RFLAGS(2), "if", True)
    with pytest.raises(AttributeError, match="there are sce"):
        EFER(0).replace(wp=True)


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_a_value_that_is_no_64_bits_is_refused(value):
    with pytest.raises(ValueError, match="64 bits"):
        CR0(value)


@pytest.mark.parametrize("kind", REGISTERS.values())
def test_no_two_fields_share_a_bit_and_each_says_what_it_is(kind):
    seen = kind.ONES
    for name, field in kind.FIELDS.items():
        assert not seen & field.mask, name
        seen |= field.mask
        assert field.name == name
        assert (field.__doc__ or "").endswith(".")


def test_the_class_hands_out_its_fields():
    assert isinstance(CR0.wp, Flag)
    assert (CR0.wp.mask, RFLAGS.iopl.mask) == (0x1_0000, 0x3000)
    assert isinstance(RFLAGS.iopl, Field)
    assert list(EFER.FIELDS)[:4] == ["sce", "lme", "lma", "nxe"]


def test_registers_travel_as_values():
    for made in (pickle.loads(pickle.dumps(CR0(0x11))), copy.copy(CR0(0x11)), copy.deepcopy(CR0(0x11))):
        assert (made, type(made)) == (0x11, CR0)
    assert CR0(0x11).as_dict()["et"] is True
    assert issubclass(CR0, Bits)
