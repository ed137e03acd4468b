"""Filling, copying, comparing and searching guest memory, with other threads and signals beside."""

import re
import signal
import threading
import time

import pytest
from tests.waiting import quickest

import belljar as bj


def test_memory_is_filled_with_a_byte_or_a_pattern(vm):
    vm.memory.fill(0x1003, 0x2000, 0x5A)
    assert vm.memory[0x1002:0x3004] == b"\0" + b"\x5a" * 0x2000 + b"\0"
    vm.memory.fill(0x1003, 8, b"abc")
    assert vm.memory[0x1003:0x100C] == b"abcabcab\x5a"
    vm.memory.fill(0x1003, 0x2000)
    assert vm.memory[0x1002:0x3004] == bytes(0x2002)
    vm.memory.fill(0x1000, 0, 1)
    assert vm.memory[0x1000] == 0


def test_long_patterns_go_on_where_they_were(vm):
    pattern = bytes(range(251)) * 1300
    vm.memory.fill(0, 0x10_0000, pattern)
    assert vm.memory.read(0, 0x10_0000) == (pattern * 4)[:0x10_0000]


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (256, ValueError, "a byte is 0 to 255, not 256"),
        (-1, ValueError, "not -1"),
        (b"", ValueError, "one byte"),
        ("a", TypeError, "bytes"),
    ],
)
def test_what_memory_cannot_be_filled_with_is_refused(vm, value, error, words):
    with pytest.raises(error, match=words):
        vm.memory.fill(0, 16, value)


@pytest.mark.parametrize("distance", [-0x1234, -1, 0, 1, 0x1234])
def test_a_copy_may_overlap(vm, distance):
    data = bytes(range(256)) * 0x800
    vm.memory.write(0x2000, data)
    vm.memory.copy(0x2000 + distance, 0x2000, len(data))
    assert vm.memory.read(0x2000 + distance, len(data)) == data


def test_memory_is_compared_with_memory_and_with_bytes(vm):
    vm.memory.write(0x1000, b"same, then not")
    vm.memory.write(0x2000, b"same, then yes")
    assert vm.memory.compare(0x1000, 0x2000, 64) == 11
    assert vm.memory.compare(0x1000, 0x2000, 11) is None
    assert vm.memory.compare(0x1000, b"same, Then") == 6
    assert vm.memory.compare(0x1000, b"same, Then", 6) is None
    assert vm.memory.compare(0x1000, b"") is None
    with pytest.raises(ValueError, match="how many bytes"):
        vm.memory.compare(0x1000, 0x2000)


def test_what_is_not_all_memory_is_neither_filled_nor_copied_nor_compared(vm):
    for call in (
        lambda: vm.memory.fill(0xF_FFF0, 17, 7),
        lambda: vm.memory.copy(0xF_FFF0, 0, 17),
        lambda: vm.memory.copy(0, 0xF_FFF0, 17),
        lambda: vm.memory.compare(0, 0xF_FFF0, 17),
        lambda: vm.memory.compare(0xF_FFFF, b"ab"),
        lambda: vm.memory.fill(0, 2**63, 7),
    ):
        with pytest.raises(bj.GuestMemoryError):
            call()
    assert vm.memory.compare(0, bytes(0x10_0000)) is None


def places(pattern, data):
    return [match.start() for match in re.finditer(b"(?=" + re.escape(pattern) + b")", data, re.DOTALL)]


def test_all_matches_are_found_overlapping_ones_too(vm):
    vm.memory.write(0x1234, b"aaaa")
    assert vm.memory.search(b"aa") == [0x1234, 0x1235, 0x1236]
    assert vm.memory.search(bytearray(b"aa"), align=2) == [0x1234, 0x1236]
    assert vm.memory.search(b"aa", limit=1) == [0x1234]
    assert vm.memory.search(b"aa", 0x1235) == [0x1235, 0x1236]
    assert vm.memory.search(b"aa", 0x1235, 0x1237) == [0x1235]
    assert vm.memory.search(b"ab") == []
    assert vm.memory.search(b"aa", 0x1238, 0x1234) == []


def test_a_search_agrees_with_a_regular_expression(vm):
    data = bytes((i * i) >> 3 & 3 for i in range(0x8_0000))
    vm.memory.write(0, data)
    whole = data + bytes(0x8_0000)
    for pattern in (b"\1\2", b"\3\3\1", b"\2\0\2\2"):
        assert vm.memory.search(pattern) == places(pattern, whole)
    patterns = [b"\1\2", b"\2", b"\3\3\1", b"\1\2"]
    expected = sorted((at, n) for n, pattern in enumerate(patterns) for at in places(pattern, whole))
    assert vm.memory.search_many(patterns) == expected


def test_matches_cross_regions_that_touch_and_no_holes(vm):
    vm.memory.add(0x10_0000, 0x1000)
    vm.memory.add(0x10_2000, 0x1000, rom=True)
    for at in (0xF_FFFC, 0x10_0FFC):
        vm.memory.write(at, b"bell")
    for at in (0x10_0000, 0x10_2000):
        vm.memory.write(at, b"jar!")
    assert vm.memory.search(b"belljar") == [0xF_FFFC]
    assert vm.memory.search_many([b"belljar", b"jar", b"bell"]) == [
        (0xF_FFFC, 0),
        (0xF_FFFC, 2),
        (0x10_0000, 1),
        (0x10_0FFC, 2),
        (0x10_2000, 1),
    ]


def test_a_pattern_may_leave_digits_open(vm):
    vm.memory.write(0x3000, bytes.fromhex("488b05c3 48 8b 45 c3 488c00c3"))
    assert vm.memory.search("48 8b ?? c3") == [0x3000, 0x3004]
    assert vm.memory.search("488b??C3") == [0x3000, 0x3004]
    assert vm.memory.search("48 8? ? c3") == [0x3000, 0x3004, 0x3008]
    assert vm.memory.search("?? 8b 4?") == [0x3004]
    for text in ("hello", "4", "?? ??", ""):
        with pytest.raises(ValueError, match="pattern"):
            vm.memory.search(text)


@pytest.mark.parametrize("patterns", [[], [b""], [b"a", b""]])
def test_patterns_of_nothing_are_refused(vm, patterns):
    with pytest.raises(ValueError, match="at least one byte"):
        vm.memory.search_many(patterns)
    with pytest.raises(TypeError):
        vm.memory.search([b"a"])


def test_the_code_that_the_guest_runs_is_found(vm):
    code = bj.asm("mov al, 42; out 0x10, al; hlt")
    vm.load(code, at=0x7000)
    assert 0x7000 in vm.memory.search(code)


def test_more_matches_than_anybody_reads_are_an_error(new_vm):
    vm = new_vm("5M")
    with pytest.raises(ValueError, match="give a limit"):
        vm.memory.search(b"\0")
    assert len(vm.memory.search(b"\0", limit=5)) == 5


def test_other_threads_run_during_a_search(new_vm):
    vm = new_vm("256M")
    vm.memory.write(0xFFF_FFF0, b"needle")
    found = []
    search = threading.Thread(target=lambda: found.extend(vm.memory.search(b"needle")))
    search.start()
    turns = 0
    while search.is_alive():
        time.sleep(0.001)
        turns += 1
    assert found == [0xFFF_FFF0]
    assert turns > 3


class RungError(Exception):
    """Raised by a signal's handler, as Ctrl-C raises KeyboardInterrupt."""


@pytest.fixture
def alarm():
    """Return what has RungError raised soon."""

    def ring(*_):
        raise RungError

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, 0.05)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("work", ["search", "search_many", "compare"])
def test_a_signal_ends_long_work(new_vm, alarm, work):
    memory = new_vm("8G").memory
    low = memory.regions[0].size
    arguments = {"search": (b"needle",), "search_many": ([b"needle", b"hay"],), "compare": (0, 1 << 32, low)}

    def took():
        begun = time.monotonic()
        alarm()
        with pytest.raises(RungError):
            getattr(memory, work)(*arguments[work])
        return time.monotonic() - begun

    assert quickest(took, 0.5) < 0.5


def test_a_search_goes_on_while_regions_come_and_go(vm):
    vm.memory.write(0x1000, b"needle")
    over = threading.Event()

    def change():
        while not over.is_set():
            vm.memory.add(0x20_0000, 0x10_0000)
            vm.memory.remove(0x20_0000)

    changes = threading.Thread(target=change)
    changes.start()
    try:
        for _ in range(30):
            assert vm.memory.search(b"needle") == [0x1000]
    finally:
        over.set()
        changes.join()


def test_a_closed_vm_has_no_memory_to_search_or_show(vm):
    memory = vm.memory
    vm.close()
    for look in (lambda: memory.search(b"x"), lambda: memory.hexdump(0, 16)):
        with pytest.raises(bj.ClosedError):
            look()


def test_an_address_that_is_a_name_is_answered_with_where_addresses_are(vm):
    with pytest.raises(TypeError, match=r"vm.symbols\[name\]"):
        vm.memory.read_u64("jiffies")
