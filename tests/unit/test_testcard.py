"""The test card, register by register as its driver sees it, on a machine that is only memory and one line."""

import pytest

import belljar as bj
from belljar.testcard import TestCard

ID, VERSION, CONTROL, STATUS, A, B, OPERATION, RESULT, LOW, HIGH, LENGTH = range(0, 0x2C, 4)
ENABLE, IRQ_ENABLE, RESET = 1, 2, 4
READY, DONE, ERROR = 1, 2, 4
ADD, MULTIPLY, CHECKSUM, UPPER_CASE = 1, 2, 3, 4


class Region:
    def __init__(self, start, size, kind="RAM"):
        self.start, self.size, self.kind = start, size, kind


class Memory:
    """RAM from 0 on, and a page of ROM behind a hole."""

    def __init__(self, size=0x20000):
        self.bytes = bytearray(size)
        self.regions = [Region(0, size), Region(0x40000, 0x1000, "ROM")]

    def read(self, at, size):
        if at == 0x40000:
            return bytes(size)
        if at + size > len(self.bytes):
            raise bj.GuestMemoryError("no RAM", at, size)
        return bytes(self.bytes[at : at + size])

    def write(self, at, data):
        self.bytes[at : at + len(data)] = data


class Machine:
    state = "paused"

    def __init__(self):
        self.memory = Memory()
        self.line = []

    def irq(self, number):
        assert number == 5
        return self

    def raise_(self):
        self.line.append("high")

    def lower(self):
        self.line.append("low")


class Driver:
    """The guest's side."""

    def __init__(self):
        self.card, self.vm = TestCard(), Machine()
        self.card.wiring.vm = self.vm
        self.card.irq.connect(self.vm)

    def __setitem__(self, offset, value):
        self.card.write(offset, 4, value)

    def __getitem__(self, offset):
        return self.card.read(offset, 4)

    def buffer(self, at, length):
        self[LOW], self[HIGH], self[LENGTH] = at & 0xFFFF_FFFF, at >> 32, length


@pytest.fixture
def card():
    driver = Driver()
    driver[CONTROL] = ENABLE
    return driver


def test_its_place_and_line_are_what_the_driver_expects():
    assert TestCard.mmio == range(0xFEB0_0000, 0xFEB0_1000)
    assert TestCard().irq.line == 5


def test_it_says_who_it_is(card):
    assert (card[ID], card[ID].to_bytes(4, "little"), card[VERSION]) == (0x52414A42, b"BJAR", 1)
    card[ID], card[VERSION] = 0, 0
    assert (card[ID], card[VERSION]) == (0x52414A42, 1)


def test_it_is_ready_while_it_is_enabled():
    card = Driver()
    assert card[STATUS] == 0
    card[CONTROL] = ENABLE
    assert (card[CONTROL], card[STATUS]) == (ENABLE, READY)
    card[CONTROL] = 0
    assert card[STATUS] == 0


@pytest.mark.parametrize(
    ("operation", "a", "b", "result"),
    [
        (ADD, 2, 3, 5),
        (ADD, 0xFFFF_FFFF, 2, 1),
        (MULTIPLY, 6, 7, 42),
        (MULTIPLY, 0x1_0001, 0x1_0001, 0x2_0001),
        (MULTIPLY, 0xFFFF_FFFF, 0xFFFF_FFFF, 1),
    ],
)
def test_it_computes_modulo_two_to_the_32(card, operation, a, b, result):
    card[A], card[B], card[OPERATION] = a, b, operation
    assert (card[RESULT], card[STATUS]) == (result, READY | DONE)
    assert (card[A], card[B], card[OPERATION]) == (a, b, 0)


def test_it_sums_the_bytes_of_its_buffer(card):
    card.vm.memory.write(0x1000, b"\xff" * 0x10000)
    card.buffer(0x1000, 0x10000)
    card[OPERATION] = CHECKSUM
    assert (card[RESULT], card[STATUS]) == (0xFF * 0x10000, READY | DONE)


def test_it_makes_letters_capital_in_place_and_counts_them(card):
    text = bytes(range(256))
    card.vm.memory.write(0x1000, text)
    card.buffer(0x1000, 256)
    card[OPERATION] = UPPER_CASE
    assert (card[RESULT], card[STATUS]) == (26, READY | DONE)
    assert card.vm.memory.read(0x1000, 257) == text.upper() + b"\0"


@pytest.mark.parametrize("operation", [CHECKSUM, UPPER_CASE])
@pytest.mark.parametrize(
    ("at", "length"),
    [(0x1FFFF, 2), (0x20000, 1), (2**32, 1), (2**64 - 1, 1), (0x1000, 0x10001), (0x1000, 0xFFFF_FFFF), (0x40000, 4)],
    ids=["end", "behind", "high", "last", "long", "longest", "ROM"],
)
def test_a_buffer_that_is_no_ram_or_too_long_is_an_error(card, operation, at, length):
    card[RESULT] = 0
    card.buffer(at, length)
    card[OPERATION] = operation
    assert (card[RESULT], card[STATUS]) == (0, READY | ERROR)


@pytest.mark.parametrize("operation", [0, 5, 0xFFFF_FFFF, 0x101])
def test_an_operation_that_it_does_not_know_is_an_error(card, operation):
    card[OPERATION] = operation
    assert card[STATUS] == READY | ERROR


def test_a_card_that_is_not_enabled_refuses_to_compute():
    card = Driver()
    card[A], card[OPERATION] = 1, ADD
    assert (card[RESULT], card[STATUS]) == (0, ERROR)


def test_done_and_error_are_cleared_by_writing_1(card):
    card[OPERATION] = ADD
    card[OPERATION] = 99
    assert card[STATUS] == READY | DONE | ERROR
    card[STATUS] = 0
    assert card[STATUS] == READY | DONE | ERROR
    card[STATUS] = DONE
    assert card[STATUS] == READY | ERROR
    card[STATUS] = ERROR | READY
    assert card[STATUS] == READY


def test_the_line_is_high_while_there_is_something_to_see(card):
    card[OPERATION] = ADD
    assert card.vm.line == [], "interrupts are not enabled"
    card[CONTROL] = ENABLE | IRQ_ENABLE
    assert card.vm.line == ["high"]
    card[OPERATION] = 99
    card[STATUS] = DONE
    assert card.vm.line == ["high"], "ERROR is still there"
    card[STATUS] = ERROR
    assert card.vm.line == ["high", "low"]
    card[OPERATION] = ADD
    card[CONTROL] = ENABLE
    assert card.vm.line == ["high", "low", "high", "low"]


def test_reset_brings_everything_back_and_reads_0(card):
    card[CONTROL] = ENABLE | IRQ_ENABLE
    card[A], card[B], card[OPERATION] = 1, 2, ADD
    card.buffer(1, 2)
    card[CONTROL] = RESET | ENABLE | IRQ_ENABLE
    assert [card[offset] for offset in range(CONTROL, 0x2C, 4)] == [0] * 9
    assert card.vm.line == ["high", "low"]


def test_its_state_can_be_kept_and_put_back(card):
    card[CONTROL] = ENABLE | IRQ_ENABLE
    card[A], card[B], card[OPERATION] = 1, 2, ADD
    state = card.card.state
    card[CONTROL] = RESET
    card.card.state = state
    assert (card[RESULT], card[STATUS], card.card.irq.level) == (3, READY | DONE, True)
    assert card.vm.line == ["high", "low", "high"]
