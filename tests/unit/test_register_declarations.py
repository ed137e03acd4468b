"""Declaring registers and fields: how bits are written, and what is refused where it is written."""

import pytest

import belljar as bj


def device(**registers):
    return type("Card", (bj.RegisterDevice,), registers)()


def one(**options):
    return device(register=bj.Register(0, **options))


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: bj.Register(0, width=3), "1, 2, 4 or 8 bytes wide, not 3"),
        (lambda: bj.Register(0, access="w2c"), "access is one of rw, .*not 'w2c'"),
        (lambda: bj.Register(-4), "overlap or are nowhere"),
        (lambda: bj.Register(0, count=2, stride=2), "overlap or are nowhere"),
        (lambda: bj.Register(0, reset=2**32), "does not fit into 4 bytes"),
        (lambda: bj.Register(0, mask=2**32), "must cover all fields"),
        (lambda: bj.Register(0, mask=1, fields={"a": bj.Field(1)}), "must cover all fields"),
        (lambda: bj.Register(0, fields={"a": bj.Field(32)}), "field a <Field 32> overlaps"),
        (lambda: bj.Register(0, fields={"a": bj.Field("3:0"), "b": bj.Field(3)}), "field b <Field 3> overlaps"),
        (lambda: bj.Register(0, fields={"set": bj.Field(0)}), "cannot be called set"),
        (lambda: bj.Field("a:b"), "a number or \"high:low\", not 'a:b'"),
        (lambda: bj.Field(-1), "begins at bit 0"),
        (lambda: bj.Field(0, reset=2), "does not fit into 1 bits"),
        (lambda: bj.Field(0, access="x"), "access is one of"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_declared(declare, message):
    with pytest.raises(ValueError, match=message):
        declare()


def test_registers_that_overlap_or_hide_what_a_device_has_are_refused():
    with pytest.raises(TypeError, match="<Register b at 0x2, 32 bits, rw> overlaps <Register a at 0x0"):
        device(a=bj.Register(0), b=bj.Register(2))
    with pytest.raises(TypeError, match="cannot be called reset"):
        device(reset=bj.Register(0))


def test_a_hook_for_a_finished_class_is_refused():
    with pytest.raises(TypeError, match="finished class"):
        type(one()).register.on_write(print)
    with pytest.raises(TypeError, match="holds an integer, not 'x'"):
        one().register = "x"


def test_field_bits_can_be_written_like_hardware_people_do():
    assert [(bj.Field(bits).low, bj.Field(bits).width) for bits in (3, "3", "7:4", "4:7", " 7 : 4 ")] == [
        (3, 1),
        (3, 1),
        (4, 4),
        (4, 4),
        (4, 4),
    ]
    assert bj.Field(4, width=4).mask == 0xF0
