"""Calls that meet a close half-way: they work or say that the machine is closed, and leave nothing behind."""

import gc
import threading
import weakref

import pytest

import belljar as bj

MACHINES = 150


def until_closed(call):
    """Call again and again from another thread; return the thread, and what came out that was not ClosedError."""
    wrong = []

    def again():
        try:
            while True:
                call()
        except bj.ClosedError:
            pass
        except Exception as error:  # noqa: BLE001 - whatever else it is, it is a failure
            wrong.append(error)

    thread = threading.Thread(target=again)
    thread.start()
    return thread, wrong


def test_handlers_that_are_added_while_their_machine_is_closed_are_let_go():
    refs = []

    def add(vm):
        handler = lambda exit: vm  # noqa: E731
        refs.append(weakref.ref(handler))
        vm.on_port(0x10, handler)

    for _ in range(MACHINES):
        vm = bj.VM("64K")
        thread, wrong = until_closed(lambda vm=vm: add(vm))
        while not refs:
            pass
        vm.close()
        thread.join()
        assert wrong == []
        del vm, thread
    gc.collect()
    assert [ref() for ref in refs if ref() is not None] == []


@pytest.mark.parametrize("mode", ["real", "long"])
def test_code_that_is_loaded_while_its_machine_is_closed_says_so(mode):
    for _ in range(MACHINES):
        vm = bj.VM("64K")
        vm.load(b"\xf4", mode=mode)
        thread, wrong = until_closed(lambda vm=vm: vm.load(b"\xf4", mode=mode))
        vm.close()
        thread.join()
        assert wrong == []
