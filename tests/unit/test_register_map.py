"""Register maps without a machine: access rules, widths, fields, methods, saving.

The rules are compared with a model that looks at one bit at a time. What a class may not declare is in
test_register_declarations.py.
"""

import pickle
from enum import IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

import belljar as bj
from belljar.register import ACCESS

WORD = 0xFFFF_FFFF


def device(**registers):
    return type("Card", (bj.RegisterDevice,), registers)()


def one(**options):
    return device(register=bj.Register(0, **options))


@pytest.mark.parametrize(
    ("access", "old", "written", "stored", "read"),
    [
        ("rw", 0b1100, 0b1010, 0b1010, 0b1010),
        ("ro", 0b1100, 0b1010, 0b1100, 0b1100),
        ("wo", 0b1100, 0b1010, 0b1010, 0),
        ("rc", 0b1100, 0b1010, 0b1100, 0b1100),
        ("w1c", 0b1100, 0b1010, 0b0100, 0b0100),
        ("w1s", 0b1100, 0b1010, 0b1110, 0b1110),
        ("w1t", 0b1100, 0b1010, 0b0110, 0b0110),
        ("w0c", 0b1100, 0b1010, 0b1000, 0b1000),
        ("pulse", 0b0000, 0b1010, 0, 0),
    ],
)
def test_each_kind_of_access_does_what_its_name_says(access, old, written, stored, read):
    card = one(access=access, mask=0xF)
    card.register = old
    card.write(0, 4, written)
    assert card.register == stored
    assert card.read(0, 4) == read


def test_every_kind_of_access_is_tested():
    marks = test_each_kind_of_access_does_what_its_name_says.pytestmark
    assert {row[0] for row in marks[0].args[1]} == set(ACCESS)


def test_a_read_clears_what_is_read_to_clear_and_only_that():
    card = one(fields={"count": bj.Field("7:0", access="rc"), "rest": bj.Field("15:8", access="rc"), "x": bj.Field(16)})
    card.register = 0x1_2345
    assert card.read(0, 1) == 0x45
    assert card.register == 0x1_2300
    assert card.read(0, 4) == 0x1_2300
    assert card.register == 0x1_0000


def test_reserved_bits_keep_their_reset_value():
    card = one(reset=0x5000_0000, fields={"enable": bj.Field(0)})
    card.write(0, 4, WORD)
    assert card.read(0, 4) == 0x5000_0001


class Model:
    """Four bytes of registers, one bit at a time."""

    def __init__(self, kinds):
        self.kinds, self.bits = kinds, [0] * 32

    def write(self, offset, size, value):
        for n in range(8 * offset, 8 * (offset + size)):
            bit, old = value >> n - 8 * offset & 1, self.bits[n]
            self.bits[n] = {
                "rw": bit,
                "wo": bit,
                "pulse": 0,
                "w1c": 0 if bit else old,
                "w1s": 1 if bit else old,
                "w1t": old ^ bit,
                "w0c": old if bit else 0,
            }.get(self.kinds[n], old)

    def read(self, offset, size):
        value = 0
        for n in range(8 * offset, 8 * (offset + size)):
            if self.kinds[n] not in {"wo", "pulse"}:
                value |= self.bits[n] << n - 8 * offset
            if self.kinds[n] == "rc":
                self.bits[n] = 0
        return value


STEP = st.tuples(st.sampled_from(["read", "write", "set"]), st.integers(0, 3), st.integers(1, 4), st.integers(0, WORD))


@given(
    st.lists(st.sampled_from(sorted(ACCESS)), min_size=32, max_size=32),
    st.sampled_from([[4], [2, 2], [1, 1, 2], [1, 1, 1, 1], [2, 1, 1]]),
    st.lists(STEP, max_size=12),
)
def test_any_accesses_do_what_a_model_of_single_bits_does(kinds, widths, steps):
    registers, at = {}, 0
    for width in widths:
        fields = {f"b{n}": bj.Field(n, access=kinds[8 * at + n]) for n in range(8 * width)}
        registers[f"r{at}"] = bj.Register(at, width=width, fields=fields)
        at += width
    card, model = device(**registers), Model(kinds)
    for what, offset, most, data in steps:
        size = min(most, 4 - offset)
        value = data & (1 << 8 * size) - 1
        if what == "read":
            assert card.read(offset, size) == model.read(offset, size)
        elif what == "write":
            card.write(offset, size, value)
            model.write(offset, size, value)
        else:
            bit = 8 * offset
            start = max(at for at in map(int, (name[1:] for name in registers)) if at <= offset)
            setattr(getattr(card, f"r{start}"), f"b{bit - 8 * start}", value)
            model.bits[bit] = value & 1
        held = sum(int(card.registers[name]) << 8 * int(name[1:]) for name in registers)
        assert held == sum(bit << n for n, bit in enumerate(model.bits))


def test_a_wide_access_reaches_both_registers_the_lower_first():
    order = []

    class Card(bj.RegisterDevice):
        low = bj.Register(0)
        high = bj.Register(4)

        @low.on_write
        def low_written(self, value):
            order.append(("low", value))

        @high.on_write
        def high_written(self, value):
            order.append(("high", value))

    card = Card()
    card.write(0, 8, 0x1111_1111_2222_2222)
    assert order == [("low", 0x2222_2222), ("high", 0x1111_1111)]
    assert card.read(0, 8) == 0x1111_1111_2222_2222
    assert card.read(2, 4) == 0x1111_2222


def test_where_no_register_is_reads_are_0_and_writes_dropped():
    card = device(a=bj.Register(0, reset=1), b=bj.Register(8, reset=2))
    assert (card.read(4, 4), card.read(4, 8), card.read(100, 1)) == (0, 0x2_0000_0000, 0)
    assert card.write(4, 4, 5) is None
    assert (card.a, card.b) == (1, 2)


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_a_register_has_its_width_and_cuts_what_is_set(width):
    card = one(width=width, reset=1)
    card.register = -1
    assert card.register == (1 << 8 * width) - 1
    assert ~card.register == 0
    assert card.read(0, width) == (1 << 8 * width) - 1


def test_an_array_has_its_stride_and_its_methods_get_the_index():
    seen = []

    class Card(bj.RegisterDevice):
        address = bj.Register(0x10, count=4, stride=8)
        length = bj.Register(0x14, count=4, stride=8, fields={"low": bj.Field("7:0")})

        @length.on_write
        def written(self, index, value, raw):
            seen.append((index, value, raw))

        @address.on_read
        def asked(self, index):
            return 0x100 + index

    card = Card()
    card.write(0x1C, 4, 0x1234)
    assert seen == [(1, 0x34, 0x1234)]
    assert card.length == [0, 0x34, 0, 0]
    assert card.length[1].low == 0x34
    assert card.read(0x28, 4) == 0x103
    card.length[2].low = 7
    card.length[3] = 9
    assert [int(one) for one in card.length] == [0, 0x34, 7, 9]
    card.length = [1, 2, 3, 4]
    assert len(card.length) == 4
    with pytest.raises(ValueError, match="4 registers, not 1"):
        card.length = [1]


def test_a_method_sees_the_register_and_what_was_written_and_a_trigger_is_gone_afterwards():
    seen = []

    class Card(bj.RegisterDevice):
        status = bj.Register(0, fields={"done": bj.Field(0, access="w1c"), "go": bj.Field(1, access="pulse")})

        @status.on_write
        def written(self, value, raw):
            seen.append((value, raw, self.status.go))

    card = Card()
    card.status.done = 1
    card.write(0, 4, 0xFF)
    assert seen == [(2, 0xFF, 1)]
    assert card.status == 0
    card.write(1, 1, 0x12)
    assert seen[1] == (0, 0x1200, 0)


def test_a_trigger_is_gone_also_when_its_method_raises():
    class Card(bj.RegisterDevice):
        go = bj.Register(0, access="pulse")

        @go.on_write
        def start(self, value):
            raise KeyError(value)

    card = Card()
    with pytest.raises(KeyError):
        card.write(0, 4, 5)
    assert card.go == 0


def test_an_overridden_method_is_the_one_that_is_called():
    class Base(bj.RegisterDevice):
        go = bj.Register(0)

        @go.on_write
        def start(self, value):
            raise AssertionError("overridden")

    class Card(Base):
        more = bj.Register(4)

        def start(self, value):
            self.more = value

    card = Card()
    card.write(0, 4, 5)
    assert card.more == 5
    assert [register.name for register in Card.layout] == ["go", "more"]
    assert Card.go is Base.go


def test_devices_of_one_class_share_no_values():
    first = one(reset=1)
    second = type(first)()
    first.register = 2
    assert (first.register, second.register) == (2, 1)


def test_a_stop_of_a_method_stops_and_other_results_do_not():
    class Card(bj.RegisterDevice):
        go = bj.Register(0)
        come = bj.Register(4)

        @go.on_write
        def start(self, value):
            return bj.STOP

        @come.on_write
        def other(self, value):
            return 5

        @come.on_read
        def asked(self):
            return bj.STOP

    card = Card()
    assert (card.write(0, 4, 1), card.write(4, 4, 1), card.write(0, 8, 1)) == (bj.STOP, None, bj.STOP)
    assert (card.read(4, 4), card.read(0, 8)) == (bj.STOP, bj.STOP)


def test_a_register_is_an_integer_and_lives():
    card = one(reset=6)
    value = card.register
    assert (value & 3, 3 | value, value ^ 1, value + 1, 1 + value, value - 1, 10 - value) == (2, 7, 7, 7, 7, 5, 4)
    assert (value << 1, 1 << value, value >> 1, 64 >> value, value * 2, value % 4, value // 4) == (
        12,
        64,
        3,
        1,
        12,
        2,
        1,
    )
    assert value == 6 and value != 7 and value < 7 and value <= 6 and value > 5 and value >= 6
    assert bool(value) and range(10)[value] == 6 and f"{value:#x}" == "0x6" and value == card.register
    card.register |= 0x10
    assert int(value) == 0x16
    assert repr(value) == "<register 0x00000016>"


def test_fields_are_attributes_with_names_for_values():
    class Speed(IntEnum):
        SLOW = 0
        FAST = 2

    card = one(fields={"speed": bj.Field("5:4", enum=Speed), "on": bj.Field(0, reset=1)})
    assert (card.register.speed, card.register.on, int(card.register)) == (Speed.SLOW, 1, 1)
    card.register.speed = Speed.FAST
    assert card.read(0, 4) == 0x21
    assert "speed=FAST" in str(card)
    card.register.speed = 7
    assert card.register.speed == 3 and not isinstance(card.register.speed, Speed), "cut, and nobody's name"
    assert card.register.fields() == {"speed": 3, "on": 1}
    assert "speed" in dir(card.register)
    with pytest.raises(AttributeError, match="no field sped; its fields: speed, on"):
        card.register.sped = 1
    with pytest.raises(AttributeError, match="no field sped"):
        _ = card.register.sped


def test_reset_brings_registers_back_and_lets_the_line_go():
    card = one(reset=7)
    card.register = 1
    card.irq.raise_()
    card.reset()
    assert (card.register, card.irq.level) == (7, False)


def test_state_is_registers_attributes_and_line_and_can_be_pickled():
    card = device(a=bj.Register(0), b=bj.Register(4, count=2))
    card.a, card.b, card.fifo = 1, [2, 3], [b"x"]
    card.irq.raise_()
    state = pickle.loads(pickle.dumps(card.state))
    card.fifo.append(b"y")
    card.a, card.b = 0, [0, 0]
    card.irq.lower()
    card.state = state
    assert (int(card.a), card.b, card.fifo, card.irq.level) == (1, [2, 3], [b"x"], True)
    card.fifo.append(b"z")
    assert state["attributes"]["fifo"] == [b"x"], "a state can be loaded twice"


def test_a_state_of_another_device_is_refused():
    card = device(a=bj.Register(0))
    card.a = 5
    with pytest.raises(ValueError, match="no register b"):
        card.load({"attributes": {}, "irq": False, "registers": {"b": 1}})
    with pytest.raises(TypeError, match="another name"):
        card.state = "idle"
    assert card.a == 5


def test_looking_at_a_device_changes_nothing():
    card = one(fields={"count": bj.Field("7:0", access="rc"), "<b>": bj.Field(8)})
    card.register = 0x55
    assert "count (rc)=0x55" in str(card)
    assert "  rw, rc  0x00000055" in str(card)
    assert "&lt;b&gt;" in card._repr_html_() and "<b>=" not in card._repr_html_()
    assert repr(card) == "<Card, not attached>"
    assert card.register == 0x55


def test_of_a_long_array_the_beginning_is_shown():
    card = device(words=bj.Register(0, count=1000, access="ro"), last=bj.Register(4000, reset=7))
    lines = str(card).splitlines()
    assert len(lines) == 2 + 17 + 1
    assert "words[16]" in lines[-2] and "..." in lines[-2]
    assert "last" in lines[-1] and "0x00000007" in lines[-1]


def test_the_access_that_is_shown_is_that_of_the_bits():
    field = bj.Field
    assert bj.Register(0, fields={"a": field(0, access="ro"), "b": field(1, access="w1c")}).accesses() == ["ro", "w1c"]
    assert bj.Register(0, fields={"a": field(0, access="ro"), "b": field(1)}).accesses() == ["rw", "ro"]
    assert bj.Register(0, mask=3, fields={"a": field(0, access="ro")}).accesses() == ["rw", "ro"]
    assert bj.Register(0, access="wo").accesses() == ["wo"]
