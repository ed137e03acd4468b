"""A device's interrupt line, against a machine that only notes what is done to its lines."""

import threading

import pytest

from belljar.wire import Wire


class Line:
    """What `vm.irq(line)` gives."""

    def __init__(self, number, log):
        self.number, self.log = number, log

    def pulse(self):
        self.log.append((self.number, "pulse"))

    def raise_(self):
        self.log.append((self.number, "raise"))

    def lower(self):
        self.log.append((self.number, "lower"))


class Machine:
    state = "paused"

    def __init__(self):
        self.log = []

    def irq(self, number):
        return Line(number, self.log)


class Without:
    """A machine without an interrupt controller."""

    state = "paused"

    def irq(self, number):
        raise ValueError("no irqchip")


def test_a_level_is_passed_on_when_it_changes_and_a_pulse_always():
    vm, wire = Machine(), Wire(5)
    wire.connect(vm)
    wire.raise_()
    wire.raise_()
    assert wire.level
    wire.level = False
    wire.lower()
    wire.pulse()
    wire.pulse()
    assert not wire.level
    assert vm.log == [(5, "raise"), (5, "lower"), (5, "pulse"), (5, "pulse")]


def test_a_line_that_is_high_already_is_raised_when_it_is_connected():
    vm, wire = Machine(), Wire(5)
    wire.raise_()
    wire.connect(vm)
    assert vm.log == [(5, "raise")]
    wire.disconnect()
    assert vm.log == [(5, "raise"), (5, "lower")]
    assert not wire.level


def test_a_low_line_asks_nothing_of_a_machine_without_interrupt_controller():
    wire = Wire(5)
    wire.connect(Without())
    wire.lower()
    wire.level = False
    with pytest.raises(ValueError, match="no irqchip"):
        wire.raise_()
    assert not wire.level
    with pytest.raises(ValueError, match="no irqchip"):
        wire.pulse()
    wire.disconnect()


def test_a_device_without_a_line_says_how_to_get_one():
    wire = Wire()
    wire.pulse()
    wire.connect(Machine())
    with pytest.raises(ValueError, match="irq = 5"):
        wire.pulse()


def test_a_restored_level_reaches_the_machine_even_if_the_device_had_it():
    vm, wire = Machine(), Wire(5)
    wire.connect(vm)
    wire.raise_()
    wire.refresh(level=True)
    wire.refresh(level=False)
    wire.refresh(level=False)
    assert vm.log == [(5, "raise"), (5, "raise"), (5, "lower")]


def test_the_line_of_a_machine_that_is_closed_leads_nowhere():
    vm, wire = Machine(), Wire(5)
    wire.connect(vm)
    wire.raise_()
    vm.state = "closed"
    wire.lower()
    wire.pulse()
    assert vm.log == [(5, "raise")]


def test_a_wire_shows_its_line_and_level():
    wire = Wire(5)
    assert repr(wire) == "<Wire line 5, low, not connected>"
    wire.connect(Machine())
    wire.raise_()
    assert repr(wire) == "<Wire line 5, high>"


def test_a_signals_handler_may_pull_the_line_that_its_thread_is_pulling():
    log, signals = [], ["one"]

    class Machine:
        state = "running"

        def irq(self, number):
            if signals:
                signals.pop()
                wire.pulse()  # as a signal's handler would, between two instructions of Python
            return Line(number, log)

    wire = Wire(5)
    wire.connect(Machine())
    thread = threading.Thread(target=wire.raise_, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert (5, "pulse") in log
