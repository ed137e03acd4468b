"""A Python device beside, before or instead of a native one: the 16550 at ports 0x3f8 to 0x3ff and the i8042.

Attaching, widths and answers are in test_devices.py.
"""

import pytest

import belljar as bj

PORTS = range(0x3F8, 0x400)
SCRATCH = "mov dx, 0x3ff; mov al, 0x42; out dx, al; xor eax, eax; in al, dx; hlt"


@pytest.fixture
def vm(new_vm):
    return new_vm("1M", serial=True, i8042=True)


def run(vm, code):
    vm.load(code)
    assert vm.run(timeout=10) == bj.Hlt()
    return vm.cpu.regs.rax & 0xFF


class Observer(bj.Device):
    ports = PORTS
    mode = "beside"

    def __init__(self, opinion=None):
        self.seen, self.opinion = [], opinion

    def observe_read(self, offset, size, value):
        self.seen.append(("r", offset, size, value))
        return self.opinion

    def observe_write(self, offset, size, value):
        self.seen.append(("w", offset, size, value))
        return self.opinion


def test_an_observer_sees_what_is_written_and_what_the_native_device_answers(vm):
    observer = vm.attach(Observer())
    assert run(vm, SCRATCH) == 0x42
    assert observer.seen == [("w", 7, 1, 0x42), ("r", 7, 1, 0x42)]


@pytest.mark.parametrize("opinion", [bj.SKIP, 5, False])
def test_what_an_observer_returns_changes_nothing(vm, opinion):
    vm.attach(Observer(opinion))
    assert run(vm, SCRATCH) == 0x42


def test_an_observed_read_happens_once(vm):
    observer = vm.attach(Observer())
    vm.console.send(b"ab")
    code = "mov dx, 0x3f8; in al, dx; mov bl, al; in al, dx; hlt"
    assert (run(vm, code), vm.cpu.regs.rbx & 0xFF) == (ord("b"), ord("a"))
    assert [seen[-1] for seen in observer.seen] == [ord("a"), ord("b")]


def test_an_observer_stops_the_run(vm):
    observer = vm.attach(Observer(bj.STOP))
    vm.load(SCRATCH)
    assert vm.run(timeout=10) == bj.PortOut(0x3FF, 1, 0x42)
    assert vm.run(timeout=10) == bj.Interrupted("kick")
    assert vm.cpu.regs.rax == 0x42
    assert len(observer.seen) == 2


def test_several_observers_and_a_handler_see_the_same(vm):
    handler = vm.on_port(PORTS, lambda exit: 0x77 if isinstance(exit, bj.PortIn) else None)
    first, second = vm.attach(Observer()), vm.attach(Observer())
    assert run(vm, SCRATCH) == 0x77
    assert first.seen == second.seen == [("w", 7, 1, 0x42), ("r", 7, 1, 0x77)]
    assert handler.hits == 2


def test_an_observer_lets_older_handlers_skip_and_stop(vm):
    actions = iter([bj.SKIP, bj.SKIP, bj.STOP])
    handler = vm.on_port(0x3FF, lambda exit: next(actions, None))
    observer = vm.attach(Observer())
    vm.load("mov dx, 0x3ff; mov al, 0x42; out dx, al; in al, dx; mov bl, al; in al, dx; hlt")
    assert vm.run(timeout=10) == bj.PortIn(0x3FF, 1)
    assert (vm.cpu.regs.rbx & 0xFF, vm.cpu.regs.rax & 0xFF) == (0xFF, 0), "a dropped write, all ones, the reset value"
    assert observer.seen == [("w", 7, 1, 0x42), ("r", 7, 1, 0xFF), ("r", 7, 1, None)]
    assert handler.hits == 3


def test_an_interceptor_changes_one_register_and_passes_the_rest(vm):
    class Interceptor(bj.Device):
        ports = PORTS
        mode = "before"

        def read(self, offset, size):
            return self.below.read(offset, size) ^ 0xFF if offset == 7 else None

        def write(self, offset, size, value):
            return self.below.write(offset, size, value + 1) if offset == 7 else None

    vm.attach(Interceptor())
    assert run(vm, SCRATCH) == 0x43 ^ 0xFF
    assert run(vm, "mov dx, 0x3f8; mov al, 0x61; out dx, al; hlt") == 0x61
    assert vm.console.read() == b"a"


def test_an_interceptor_as_a_register_map_replaces_one_register(vm):
    class Scratch(bj.RegisterDevice):
        ports = PORTS
        mode = "before"
        scratch = bj.Register(7, width=1, reset=0x11, access="ro")

    vm.attach(Scratch())
    assert run(vm, SCRATCH) == 0x11
    assert run(vm, "mov dx, 0x3f8; mov al, 0x61; out dx, al; mov dx, 0x3fd; in al, dx; hlt") == 0x60
    assert vm.console.read() == b"a"
    vm.detach(vm.devices[0])
    assert run(vm, "mov dx, 0x3ff; in al, dx; hlt") == 0, "the native one saw no write"


def test_a_replacement_answers_everything_and_the_native_device_sees_nothing(vm):
    class Uart(bj.Device):
        ports = PORTS

        def __init__(self):
            self.sent = bytearray()

        def read(self, offset, size):
            return 0x60 if offset == 5 else None

        def write(self, offset, size, value):
            if offset == 0:
                self.sent.append(value)

    uart = vm.attach(Uart())
    assert run(vm, "mov dx, 0x3f8; mov al, 0x61; out dx, al; mov dx, 0x3fd; in al, dx; hlt") == 0x60
    assert run(vm, SCRATCH) == 0xFF
    assert (uart.sent, vm.console.read()) == (b"a", b"")


def test_an_access_wider_than_the_rest_of_the_range_is_passed_on_or_dropped(vm):
    observer = vm.attach(Observer())
    assert run(vm, "mov dx, 0x3ff; in ax, dx; hlt") == 0xFF
    assert observer.seen == []


def test_a_register_map_beside_a_native_device_shows_its_registers(vm):
    class Decoded(bj.RegisterDevice):
        ports = PORTS
        mode = "beside"
        lcr = bj.Register(3, width=1, fields={"bits": bj.Field("1:0"), "dlab": bj.Field(7)})
        lsr = bj.Register(5, width=1, access="ro")
        changes = 0

        @lcr.on_write
        def line_control(self, value):
            self.changes += 1

    decoded = vm.attach(Decoded())
    run(vm, "mov dx, 0x3fb; mov al, 0x83; out dx, al; mov dx, 0x3fd; in al, dx; hlt")
    assert (decoded.lcr.bits, decoded.lcr.dlab, decoded.changes) == (3, 1, 1)
    assert decoded.lsr == vm.cpu.regs.rax & 0xFF == 0x60


RESET = "mov al, 0xfe; out 0x64, al; hlt"


def test_a_reset_through_an_interceptor_still_resets(vm):
    class Before(bj.Device):
        ports = 0x64
        mode = "before"

        def write(self, offset, size, value):
            return self.below.write(offset, size, value)

    vm.attach(Before())
    vm.load(RESET)
    assert vm.run(timeout=10) == bj.Reset()


def test_a_reset_beside_an_observer_still_resets(vm):
    observer = vm.attach(Observer(), ports=0x64)
    vm.load(RESET)
    assert vm.run(timeout=10) == bj.Reset()
    assert observer.seen == [("w", 0, 1, 0xFE)]


def test_below_tells_where_it_cannot_reach(vm):
    device = Observer()
    with pytest.raises(ValueError, match=r"after vm\.attach"):
        device.below.read(0)
    vm.attach(device)
    assert device.below.read(5) == 0x60
    for offset, size in [(-1, 1), (7, 2), (0, 0), (0, 9)]:
        with pytest.raises(ValueError, match="are not in ports"):
            device.below.read(offset, size)
    several = bj.Device()
    vm.attach(several, ports={"a": 0x3FD, "b": 0x3FF}, mode="before")
    assert several.below.read(0, range="a") == 0x60
    with pytest.raises(ValueError, match="'a', 'b'"):
        several.below.read(0)


def test_a_stop_behind_below_ends_the_run_as_a_kick(vm):
    class Before(bj.Device):
        ports = PORTS
        mode = "before"

        def read(self, offset, size):
            return self.below.read(offset, size)

    vm.on_port(0x3FF, lambda exit: bj.STOP, access="r")
    vm.attach(Before())
    vm.load(SCRATCH)
    assert vm.run(timeout=10) == bj.Interrupted("kick")
    assert vm.cpu.regs.rax == 0xFF


def test_a_handler_passes_an_access_on(vm):
    older = vm.on_port(0x3FF, lambda exit: None)
    newer = vm.on_port(0x3FF, lambda exit: newer.pass_on(exit))
    assert run(vm, SCRATCH) == 0x42
    assert (older.hits, newer.hits) == (2, 2)
    assert newer.pass_on(bj.PortIn(0x3FF, 1)) == 0x42
    assert newer.pass_on(bj.PortOut(0x3FF, 1, 7)) == bj.SKIP
    assert newer.pass_on(bj.PortIn(0x3FF, 1)) == 7
    assert newer.pass_on(bj.MmioRead(0x1234_0000, 8)) == 2**64 - 1
    with pytest.raises(TypeError, match="only accesses to ports and memory"):
        newer.pass_on(bj.Hlt())
    newer.remove()
    with pytest.raises(ValueError, match="removed"):
        newer.pass_on(bj.PortIn(0x3FF, 1))


def test_what_an_older_handler_raises_comes_out_through_an_observer(vm):
    def broken(exit):
        raise KeyError("behind")

    vm.on_port(0x3FF, broken, access="r")
    vm.attach(Observer())
    vm.load(SCRATCH)
    with pytest.raises(KeyError, match="behind"):
        vm.run(timeout=10)
