"""The specimen's driver of the test card: found or not, by interrupt or by looking, with results that are checked."""

import pytest
from tests.waiting import until

import belljar as bj
from belljar import guest

PAGE = range(0xFEB0_0000, 0xFEB0_1000)
ID, CONTROL, STATUS, A, B, OPERATION, RESULT, DMA_LOW, DMA_HIGH, DMA_LENGTH = 0, 8, 12, 16, 20, 24, 28, 32, 36, 40
READY, DONE, ERROR = 1, 2, 4


class Card:
    """The card by hand, so that its answers can be wrong, late or missing."""

    def __init__(self, vm, *, answers=DONE, wrong=0, line=None):
        self.vm, self.answers, self.wrong, self.line = vm, answers, wrong, line
        self.words = {ID: 0x5241_4A42, 4: 1}
        self.operations, self.controls = [], []
        self.last = None
        self.handle = vm.on_mmio(PAGE, self)

    def __call__(self, exit):
        at = exit.address - PAGE.start
        if isinstance(exit, bj.MmioRead):
            return self.words.get(at, 0)
        if at == OPERATION:
            self.work(exit.data)
        elif at == STATUS:
            self.words[STATUS] &= ~(exit.data & (DONE | ERROR))
            if self.line and not self.words[STATUS] & (DONE | ERROR):
                self.line.lower()
        else:
            self.words[at] = exit.data
        if at == CONTROL:
            self.controls.append(exit.data)
            self.words[STATUS] = exit.data & READY
        return bj.SKIP

    def work(self, operation):
        self.operations.append(operation)
        if operation == self.last:  # no other visit for a long time
            self.vm.memory.write_u64(self.vm.symbols["courier_period"], 1 << 40)
        words = self.words
        buffer = words.get(DMA_LOW, 0) | words.get(DMA_HIGH, 0) << 32
        if operation == 1:
            result = words[A] + words[B]
        elif operation == 2:
            result = words[A] * words[B]
        else:
            content = self.vm.memory.read(buffer, words[DMA_LENGTH])
            result = sum(content)
            if operation == 4:
                result = sum(a != b for a, b in zip(content, content.upper(), strict=True))
                self.vm.memory.write(buffer, content.upper())
        words[RESULT] = result + self.wrong & 0xFFFF_FFFF
        words[STATUS] |= self.answers
        if self.line and self.answers:
            self.line.raise_()


@pytest.fixture
def vm():
    vm = bj.specimen(card=False, tick=0.002)
    vm.memory.write_u64(vm.symbols["courier_period"], 1)
    yield vm
    vm.close()


def word(vm, name):
    return vm.memory.read_u64(vm.symbols[name])


def result(vm):
    """Return what the last visit brought, as the signed number that it is."""
    return int.from_bytes(vm.memory.read(vm.symbols["courier_result"], 8), "little", signed=True)


def test_without_a_card_the_courier_is_told_so_and_goes_on(vm):
    vm.start()
    until(lambda: word(vm, "courier_failed") > 3)
    assert (word(vm, "card_present"), result(vm), word(vm, "courier_done")) == (0, -19, 0)


def test_without_interrupts_the_driver_looks_for_the_result(vm):
    card = Card(vm)
    vm.start()
    until(lambda: word(vm, "courier_done") > 8)
    assert word(vm, "courier_wrong") == word(vm, "courier_failed") == word(vm, "card_interrupts") == 0
    assert word(vm, "card_polls") >= 8 and set(card.operations) == {1, 2, 3, 4}
    assert card.controls == [4, 3], "reset, then enabled with its interrupt"
    assert [line.text for line in guest.log(vm)][-1] == "test card found"


def test_the_card_works_in_the_memory_of_the_process(vm):
    card = Card(vm)
    card.last = 4
    vm.start()
    until(lambda: word(vm, "courier_done") == 4)
    vm.pause()
    courier = next(task for task in guest.tasks(vm) if task.name == "courier")
    parcel = vm.symbols["courier_parcel"]
    assert guest.translate(vm, courier.cr3, parcel) == card.words[DMA_LOW] | card.words[DMA_HIGH] << 32
    assert guest.read_user(vm, courier, parcel, card.words[DMA_LENGTH])[:14] == b"PARCEL NUMBER "


def test_a_card_that_comes_later_is_found(vm):
    vm.start()
    until(lambda: word(vm, "courier_failed"))
    Card(vm)
    until(lambda: word(vm, "courier_done"))


def test_a_wrong_result_is_noticed(vm):
    Card(vm, wrong=1)
    vm.start()
    until(lambda: word(vm, "courier_wrong") > 3)
    assert word(vm, "courier_done") == 0


def test_an_error_of_the_card_is_an_error_of_the_call(vm):
    Card(vm, answers=ERROR)
    vm.start()
    until(lambda: word(vm, "courier_failed") > 3)
    assert result(vm) == -5


def test_a_card_that_never_answers_is_given_up_and_the_others_live_on(vm):
    Card(vm, answers=0)
    vm.start()
    until(lambda: word(vm, "card_timeouts"))
    assert until(lambda: result(vm)) == -110
    assert any("does not answer" in line.text for line in guest.log(vm))
    lines = word(vm, "printer_lines")
    until(lambda: word(vm, "printer_lines") > lines)


def test_the_level_interrupt_ends_the_wait_of_the_courier(vm):
    Card(vm, line=vm.irq(5))
    vm.start()
    until(lambda: word(vm, "courier_done") > 20)
    vm.pause()
    assert word(vm, "courier_wrong") == word(vm, "courier_failed") == 0
    assert word(vm, "card_interrupts") > 15 and word(vm, "card_polls") < 5


def test_the_specimen_and_the_test_card_work_together():
    with bj.specimen(tick=0.002) as vm:
        vm.memory.write_u64(vm.symbols["courier_period"], 1)
        vm.start()
        until(lambda: word(vm, "courier_done") > 20)
        vm.pause()
        assert word(vm, "courier_wrong") == word(vm, "courier_failed") == 0
        assert word(vm, "card_interrupts") > 15 and word(vm, "card_polls") < 5
