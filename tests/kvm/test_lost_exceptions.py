"""What handlers raise comes out exactly once, also where two of them raise at a time or a close is refused."""

import sys
import threading

import pytest
from tests.waiting import PATIENCE, until

import belljar as bj

LOOP = "out 0x10, al; l: jmp l"


class OurError(Exception):
    pass


@pytest.fixture
def shown(monkeypatch):
    """Collect what sys.unraisablehook is given."""
    found = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: found.append(what.exc_value))
    return found


@pytest.mark.parametrize("where", ["foreground", "background"])
def test_of_two_handlers_that_raise_at_a_time_one_comes_out_and_the_other_is_shown(new_vm, shown, where):
    vm = new_vm("1M", 2)
    for vcpu in range(2):
        vm.load(LOOP, mode="protected", vcpu=vcpu)
    both = threading.Barrier(2)

    @vm.on_port(0x10)
    def handler(exit):
        both.wait(PATIENCE)
        raise OurError(exit.vcpu)

    if where == "background":
        vm.start()
    with pytest.raises(OurError) as raised:
        vm.run(timeout=PATIENCE) if where == "foreground" else vm.join(timeout=PATIENCE)
    assert {raised.value.args[0], *(error.args[0] for error in shown)} == {0, 1}
    assert len(shown) == 1


def test_a_handler_that_sets_registers_and_raises_is_the_last_one_to_be_asked(vm, shown):
    movs = bj.asm("mov esi, 0x40000000; mov edi, 0x40001000", bits=32) + b"\xa5\xf4"  # movsd; hlt
    vm.load(movs, mode="protected")
    seen = []

    @vm.on_mmio(0x4000_0000, size=0x2000)
    def handler(exit):
        seen.append(exit)
        vm.cpu.regs.rbx = 7
        raise OurError(len(seen))

    with pytest.raises(OurError) as raised:
        vm.run(timeout=60)
    assert raised.value.args == (1,)
    assert seen == [bj.MmioRead(0x4000_0000, 4)]
    assert (vm.cpu.regs.rbx, shown) == (7, [])


def test_a_close_that_a_view_prevents_leaves_the_exception_to_who_asks_next(vm, shown):
    vm.load(LOOP, mode="protected")
    go_on = threading.Event()

    @vm.on_port(0x10)
    def handler(exit):
        go_on.wait(60)
        raise OurError

    refused = []

    def close():
        try:
            vm.close()
        except BufferError as error:
            refused.append(error)

    vm.start()
    until(lambda: handler.hits == 1)
    closer = threading.Thread(target=close)
    closer.start()
    until(lambda: vm.state == "closed")
    with pytest.raises(bj.ClosedError):
        vm.join(timeout=60)
    with vm.memory.view():
        go_on.set()
        closer.join(60)
    assert len(refused) == 1
    assert vm.state == "paused"
    with pytest.raises(OurError):
        vm.join(timeout=60)
    assert shown == []
