"""What a handler may say, and who is asked in which order.

Changing handlers while the guest runs is in test_handlers_change.py; registers are in test_rewriting.py.
"""

import gc
import traceback

import pytest

import belljar as bj

READS_TWICE = "in al, 0x10; mov bl, al; in al, 0x10; hlt"


def test_a_value_is_what_the_guest_reads(vm):
    vm.load("in al, 0x10; hlt")
    vm.on_port(0x10, lambda exit: 42)
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.regs.rax & 0xFF == 42


@pytest.mark.parametrize(("value", "read"), [(0x1FF, 0xFF), (-1, 0xFF), (True, 1), (2**64 - 1, 0xFF), (-(2**63), 0)])
def test_a_value_is_cut_to_the_width_of_the_read(vm, value, read):
    vm.load("in al, 0x10; hlt")
    vm.on_port(0x10, lambda exit: value)
    vm.run(timeout=60)
    assert vm.cpu.regs.rax & 0xFF == read


def test_none_means_the_next_one_and_in_the_end_the_default(vm):
    vm.load("in al, 0x10; hlt")
    asked = []
    vm.on_port(0x10, lambda exit: asked.append("first"))
    vm.on_port(0x10, lambda exit: asked.append("second"))
    vm.run(timeout=60)
    assert (asked, vm.cpu.regs.rax & 0xFF) == (["second", "first"], 0xFF)


def test_the_newest_handler_is_asked_first_and_its_answer_counts(vm):
    vm.load("in al, 0x10; hlt")
    old = vm.on_port(0x10, lambda exit: 1)
    new = vm.on_port(0x10, lambda exit: 2)
    vm.run(timeout=60)
    assert (vm.cpu.regs.rax & 0xFF, old.hits, new.hits) == (2, 0, 1)


def test_a_handler_on_a_place_is_asked_before_one_on_all_exits(vm):
    vm.load("out 0x10, al; hlt")
    asked = []
    vm.on_port(0x10, lambda exit: asked.append("place"))
    vm.on_exit(bj.PortOut, lambda exit: asked.append("kind"))
    vm.on_exit(handler=lambda exit: asked.append(type(exit).__name__))
    vm.run(timeout=60)
    assert asked == ["place", "PortOut", "kind", "Hlt"]


def test_stop_does_the_default_and_then_stops_with_that_exit(vm):
    vm.load(READS_TWICE)
    handle = vm.on_port(0x10, lambda exit: bj.STOP)
    assert vm.run(timeout=60) == bj.PortIn(0x10, 1)
    assert vm.cpu.regs.rax & 0xFF == 0xFF, "the access is complete when run() is back"
    handle.remove()
    assert vm.run(timeout=60) == bj.Hlt()
    assert (vm.cpu.regs.rbx & 0xFF, vm.cpu.regs.rip) == (0xFF, 0x1000 + len(bj.asm(READS_TWICE)))


@pytest.mark.parametrize("mode", ["real", "protected", "long", "user"])
def test_after_stop_the_instruction_is_done_and_the_guest_goes_on_behind_it(vm, mode):
    vm.load("mov al, 1; out 0x10, al; mov al, 2; out 0x10, al; mov al, 3; out 0x11, al", mode=mode)
    vm.on_port(0x10, lambda exit: bj.STOP, size=2)
    exits = [vm.run(timeout=60) for _ in range(3)]
    assert exits == [bj.PortOut(0x10, 1, 1), bj.PortOut(0x10, 1, 2), bj.PortOut(0x11, 1, 3)]


def test_skip_reads_all_ones_and_asks_nobody_else(vm):
    vm.load("xor eax, eax; in al, 0x10; hlt")
    other = vm.on_port(0x10, lambda exit: 1)
    vm.on_port(0x10, lambda exit: bj.SKIP)
    vm.run(timeout=60)
    assert (vm.cpu.regs.rax, other.hits) == (0xFF, 0)


def test_skip_keeps_a_write_from_its_device(new_vm):
    vm = new_vm("1M", serial=True)
    vm.load(
        "mov dx, 0x3f8; mov al, 'a'; out dx, al; mov al, 'b'; out dx, al; hlt".replace("'a'", "97").replace("'b'", "98")
    )
    vm.on_port(0x3F8, lambda exit: bj.SKIP if exit.data == 97 else None, access="w")
    vm.run(timeout=60)
    assert vm.console.read() == b"b"


def test_skip_goes_on_after_a_halt(vm):
    vm.load("hlt; mov al, 1; out 0x10, al; hlt")
    halts = vm.on_exit(bj.Hlt, lambda exit: bj.SKIP if halts.hits < 2 else None)
    assert vm.run(timeout=60) == bj.Hlt()
    assert halts.hits == 2


class OurError(Exception):
    pass


@pytest.mark.parametrize("code", ["out 0x10, al; hlt", "in al, 0x10; hlt", "mov eax, [0x40000000]; hlt", "hlt"])
def test_what_a_handler_raises_comes_out_of_run_with_its_traceback_and_the_vm_goes_on(vm, code):
    error = OurError("of our own")

    def deep(exit):
        raise error

    vm.load(code)
    handle = vm.on_exit(handler=lambda exit: deep(exit))
    with pytest.raises(OurError) as raised:
        vm.run(timeout=60)
    assert raised.value is error
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)][-2:] == ["<lambda>", "deep"]
    assert vm.state == "paused"
    handle.remove()
    vm.load("mov ebx, 3; hlt")
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.regs.rbx == 3


@pytest.mark.parametrize("mode", ["real", "protected", "long", "user"])
@pytest.mark.parametrize("access", ["out 0x10, al", "in al, 0x10"])
def test_after_an_exception_the_guest_goes_on_behind_the_access(vm, mode, access):
    vm.load(f"{access}; mov al, 7; out 0x11, al", mode=mode)
    with vm.on_port(0x10, lambda exit: 1 // 0), pytest.raises(ZeroDivisionError):
        vm.run(timeout=60)
    vm.on_port(0x11, lambda exit: bj.STOP)
    assert vm.run(timeout=60) == bj.PortOut(0x11, 1, 7)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, StopIteration, GeneratorExit])
def test_exceptions_that_python_treats_specially_come_out_too(vm, kind):
    vm.load("out 0x10, al; hlt")

    @vm.on_port(0x10)
    def handler(exit):
        raise kind

    with pytest.raises(kind):
        vm.run(timeout=60)


@pytest.mark.parametrize("value", ["text", 1.5, [], 2**64, -(2**63) - 1, b"\0"])
def test_an_answer_that_means_nothing_is_a_type_error(vm, value):
    vm.load("in al, 0x10; hlt")
    vm.on_port(0x10, lambda exit: value)
    with pytest.raises(TypeError, match=r"bj.STOP or bj.SKIP"):
        vm.run(timeout=60)


def test_a_value_for_a_write_is_a_type_error(vm):
    vm.load("out 0x10, al; hlt")
    vm.on_port(0x10, lambda exit: 5)
    with pytest.raises(TypeError, match="only reads take data"):
        vm.run(timeout=60)


def test_a_handler_with_the_wrong_number_of_arguments_is_a_type_error(vm):
    vm.load("out 0x10, al; hlt")
    vm.on_port(0x10, lambda: None)
    with pytest.raises(TypeError, match="argument"):
        vm.run(timeout=60)


def test_what_is_no_function_is_refused(vm):
    with pytest.raises(TypeError, match="a handler is a function"):
        vm.on_port(0x10, 5)


@pytest.mark.parametrize("where", [{"port": range(0x10, 0x14)}, {"port": 0x10, "size": 4}])
def test_a_range_of_ports_has_both_its_ends(vm, where):
    vm.load("; ".join(f"mov al, {port}; out {port}, al" for port in range(0x0F, 0x15)) + "; hlt")
    seen = []
    vm.on_port(where["port"], lambda exit: seen.append(exit.port), size=where.get("size"))
    vm.run(timeout=60)
    assert seen == [0x10, 0x11, 0x12, 0x13]


def test_overlapping_ranges_are_each_asked(vm):
    vm.load("out 0x10, al; out 0x12, al; out 0x14, al; hlt")
    seen = []
    vm.on_port(range(0x10, 0x13), lambda exit: seen.append(("low", exit.port)))
    vm.on_port(range(0x12, 0x15), lambda exit: seen.append(("high", exit.port)))
    vm.run(timeout=60)
    assert seen == [("low", 0x10), ("high", 0x12), ("low", 0x12), ("high", 0x14)]


@pytest.mark.parametrize(("access", "seen"), [("r", ["PortIn"]), ("w", ["PortOut"]), ("rw", ["PortIn", "PortOut"])])
def test_the_direction_is_seen_from_the_guest(vm, access, seen):
    vm.load("in al, 0x10; out 0x10, al; hlt")
    kinds = []
    vm.on_port(0x10, lambda exit: kinds.append(type(exit).__name__), access=access)
    vm.run(timeout=60)
    assert kinds == seen


@pytest.mark.parametrize(
    ("register", "args", "kwargs"),
    [
        ("on_port", (0x1_0000,), {}),
        ("on_port", (0xFFFF,), {"size": 2}),
        ("on_port", (0x10,), {"size": 0}),
        ("on_port", (range(0x10, 0x10),), {}),
        ("on_port", (range(0x10, 0x20, 2),), {}),
        ("on_port", (range(0x10, 0x20),), {"size": 2}),
        ("on_port", (0x10,), {"access": "x"}),
        ("on_mmio", (2**64 - 1,), {"size": 2}),
        ("on_msr", (2**32,), {}),
    ],
)
def test_a_place_that_cannot_be_is_refused(vm, register, args, kwargs):
    with pytest.raises(ValueError, match=r"\S"):
        getattr(vm, register)(*args, print, **kwargs)


def test_accesses_to_ram_never_exit_so_a_handler_there_is_refused(vm):
    with pytest.raises(bj.RangeError, match="RAM"):
        vm.on_mmio(0x1000, print)
    vm.memory.add(0x20_0000, 0x1000, rom=True)
    with pytest.raises(bj.RangeError, match="ROM"):
        vm.on_mmio(0x20_0000, print)
    vm.on_mmio(0x20_0000, print, access="w")


@pytest.mark.parametrize("kind", [int, bj.VM, bj.Timeout, bj.Interrupted])
def test_on_exit_takes_the_classes_of_guest_exits(vm, kind):
    with pytest.raises(TypeError, match=kind.__name__):
        vm.on_exit(kind, print)


def test_a_handle_counts_its_hits_and_remembers_them(vm):
    vm.load("out 0x10, al; out 0x10, al; hlt")
    with vm.on_port(0x10, lambda exit: None) as handle:
        assert handle.hits == 0
        vm.run(timeout=60)
        assert handle.hits == 2
    assert handle.hits == 2


def test_a_handle_says_what_it_is(vm):
    def door(exit):
        return None

    handle = vm.on_port(0x10, door)
    assert repr(handle) == "<Handle of port 0x10: door, 0 hits>"
    handle.remove()
    assert "removed" in repr(handle)
    assert "nothing yet" in repr(vm.on_mmio(0x4000_0000))
    assert "every exit" in repr(vm.on_exit(handler=door))


def test_a_decorator_leaves_a_handle_that_can_be_called(vm):
    @vm.on_port(0x10)
    def double(exit):
        return exit * 2

    assert isinstance(double, bj.Handle)
    assert double(21) == 42


def test_a_handler_may_be_any_callable(vm):
    class Counter:
        count = 0

        def __call__(self, exit):
            self.count += 1

        def method(self, exit):
            self.count += 10

    counter = Counter()
    vm.load("out 0x10, al; hlt")
    vm.on_port(0x10, counter)
    vm.on_port(0x10, counter.method)
    vm.run(timeout=60)
    assert counter.count == 11


def test_a_handler_stays_though_nobody_keeps_its_handle(vm):
    seen = []
    vm.on_port(0x10, lambda exit: seen.append(exit))
    gc.collect()
    vm.load("out 0x10, al; hlt")
    vm.run(timeout=60)
    assert len(seen) == 1


def test_a_thousand_handlers_are_all_found(vm):
    calls = []
    for port in range(1000):
        vm.on_port(port, lambda exit, port=port: calls.append((port, exit.port)))
    vm.load("mov ecx, 1000; l: dec ecx; mov edx, ecx; out dx, al; test ecx, ecx; jnz l; hlt")
    assert vm.run(timeout=10) == bj.Hlt()
    assert calls == [(port, port) for port in reversed(range(1000))]


def test_a_thousand_handlers_on_one_port_are_all_asked(vm):
    asked = []
    for number in range(1000):
        vm.on_port(0x10, lambda exit, number=number: asked.append(number))
    vm.load("out 0x10, al; hlt")
    vm.run(timeout=10)
    assert asked == list(reversed(range(1000)))


def test_on_exit_without_a_class_sees_everything(vm):
    vm.load("out 0x10, al; in al, 0x10; mov [0x40000000], eax; mov eax, [0x40000000]; hlt")
    kinds = []
    vm.on_exit(handler=lambda exit: kinds.append(type(exit)))
    vm.run(timeout=60)
    assert kinds == [bj.PortOut, bj.PortIn, bj.MmioWrite, bj.MmioRead, bj.Hlt]


def test_after_a_handler_failed_in_a_string_the_rest_reads_as_all_ones(vm):
    vm.load("mov edi, 0x4000; mov ecx, 6; cld; rep insb; hlt", mode="long")

    @vm.on_port(0)
    def data(exit):
        if data.hits == 3:
            raise ZeroDivisionError
        return data.hits

    with pytest.raises(ZeroDivisionError):
        vm.run(timeout=60)
    data.remove()
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.memory[0x4000:0x4006] == bytes([1, 2, 255, 255, 255, 255])


def test_a_handle_shows_its_range_with_the_end_behind_it(vm):
    assert repr(vm.on_port(range(0x10, 0x14), print)).startswith("<Handle of ports 0x10..0x14: print")
    assert repr(vm.on_port(0x20, print)).startswith("<Handle of port 0x20: print")
