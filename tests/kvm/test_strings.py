"""String instructions on ports: offered whole with count and all data, and else element by element."""

import pytest

import belljar as bj

OUT = "mov si, 0x2000; mov cx, 5; mov dx, 0x10; cld; rep outsb; hlt"
WORDS_IN = "mov di, 0x3000; mov cx, 3; mov dx, 0x10; cld; rep insw; hlt"


def writer(vm):
    vm.load(OUT, mode="real")
    vm.memory.write(0x2000, b"hello")
    return vm


def reader(vm):
    vm.load(WORDS_IN, mode="real")
    return vm


def written(seen):
    """All bytes that were written, by strings and by single accesses: KVM's emulator hands OUTS over one by one."""
    return b"".join(exit.data if isinstance(exit, bj.PortStringOut) else bytes([exit.data]) for exit in seen)


def test_a_written_string_loses_nothing_however_kvm_hands_it_over(vm):
    seen = []
    writer(vm).on_port(0x10, seen.append, strings=True)
    assert vm.run(timeout=60) == bj.Hlt()
    assert written(seen) == b"hello"
    assert (vm.cpu.regs.rsi, vm.cpu.regs.rcx) == (0x2005, 0)


def test_a_written_string_comes_element_by_element_to_who_does_not(vm):
    seen = []
    writer(vm).on_port(0x10, seen.append)
    assert vm.run(timeout=60) == bj.Hlt()
    assert seen == [bj.PortOut(0x10, 1, byte) for byte in b"hello"]


def test_every_exit_means_the_string_and_not_its_elements(vm):
    seen = []
    reader(vm).on_exit(bj.Exit, seen.append)
    vm.run(timeout=60)
    assert seen == [bj.PortStringIn(0x10, 2, 3), bj.Hlt()]


def test_a_string_that_is_skipped_reaches_no_element_handler(vm):
    seen = []
    reader(vm).on_port(0x10, seen.append)
    vm.on_port(0x10, lambda exit: bj.SKIP, strings=True)
    assert vm.run(timeout=60) == bj.Hlt()
    assert seen == []


def test_a_string_handler_sees_single_accesses_too(vm):
    vm.load("out 0x10, al; in al, 0x10; hlt")
    seen = []
    vm.on_port(0x10, seen.append, strings=True)
    vm.run(timeout=60)
    assert [type(exit) for exit in seen] == [bj.PortOut, bj.PortIn]


def test_bytes_answer_a_string_that_is_read(vm):
    seen = []
    reader(vm).on_port(0x10, lambda exit: seen.append(exit) or bytes(range(exit.size * exit.count)), strings=True)
    assert vm.run(timeout=60) == bj.Hlt()
    assert seen == [bj.PortStringIn(0x10, 2, 3)]
    assert vm.memory.read(0x3000, 6) == bytes(range(6))


def test_an_integer_answers_every_element(vm):
    reader(vm).on_exit(bj.PortStringIn, lambda exit: 0x1234)
    vm.run(timeout=60)
    assert vm.memory.read(0x3000, 6) == b"\x34\x12" * 3


def test_elements_are_read_one_by_one_without_a_string_handler(vm):
    values = iter([1, 2, 3])
    reader(vm).on_port(0x10, lambda exit: next(values))
    vm.run(timeout=60)
    assert vm.memory.read(0x3000, 6) == b"\1\0\2\0\3\0"


def test_a_skipped_string_reads_all_ones(vm):
    reader(vm).on_port(0x10, lambda exit: bj.SKIP, strings=True)
    vm.run(timeout=60)
    assert vm.memory.read(0x3000, 6) == b"\xff" * 6


@pytest.mark.parametrize("data", [b"", b"12345", b"1234567"])
def test_bytes_of_another_length_are_refused(vm, data):
    reader(vm).on_port(0x10, lambda exit: data, strings=True)
    with pytest.raises(ValueError, match=f"the guest reads 6 bytes .*, not {len(data)}"):
        vm.run(timeout=60)


def test_a_string_stops_a_run_as_what_it_is(vm):
    reader(vm).on_port(0x10, lambda exit: bj.STOP, strings=True)
    assert vm.run(timeout=60) == bj.PortStringIn(0x10, 2, 3)
    assert vm.cpu.regs.rdi == 0x3006


def test_the_last_of_max_exits_is_the_string(vm):
    assert reader(vm).run(timeout=60, max_exits=1) == bj.PortStringIn(0x10, 2, 3)


def test_a_native_device_gets_the_elements(new_vm):
    vm = new_vm("1M", serial=True)
    vm.load(OUT.replace("0x10", "0x3f8"), mode="real")
    vm.memory.write(0x2000, b"hello")
    vm.run(timeout=60)
    assert vm.console.read() == b"hello"


def test_a_long_string_loses_nothing(vm):
    data = bytes(n % 251 for n in range(20_000))
    vm.load("mov esi, 0x10000; mov ecx, 20000; mov dx, 0x10; cld; rep outsb; hlt")
    vm.memory.write(0x10000, data)
    seen = []
    vm.on_port(0x10, seen.append, strings=True)
    assert vm.run(timeout=20) == bj.Hlt()
    assert written(seen) == data
