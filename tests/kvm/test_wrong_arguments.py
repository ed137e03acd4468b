"""What a caller gets wrong: the exception has the right class, and its words say what would be right.

Values that are right are tested with the part that takes them, never here.
"""

import pytest

import belljar as bj


@pytest.mark.parametrize(
    ("set_it", "words"),
    [
        (lambda vm: vm.memory.write_u8(0, 256), "an integer from 0 to 0xff, not 256"),
        (lambda vm: vm.memory.write_i8(0, 128), "an integer from -128 to 127, not 128"),
        (lambda vm: vm.memory.write_u64(0, 1 << 64), r"an integer from 0 to 2\*\*64 - 1, not 18446744073709551616"),
        (lambda vm: vm.memory.__setitem__(0, 256), "an integer from 0 to 0xff, not 256"),
        (lambda vm: setattr(vm.cpu.regs, "rax", -1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: setattr(vm.cpu.regs, "al", 256), "an integer from 0 to 0xff, not 256"),
        (lambda vm: setattr(vm.cpu, "cr3", -1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: setattr(vm.cpu, "cr0", -1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: setattr(vm.cpu, "cr4", -1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: setattr(vm.cpu, "efer", -1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: setattr(vm.cpu, "cr8", -1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: setattr(vm.cpu, "xcr0", -1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: setattr(vm.cpu, "rflags", -1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: setattr(vm.cpu, "dr0", -1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: setattr(vm.cpu, "dr6", -1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: setattr(vm.cpu, "dr7", -1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: setattr(vm.cpu, "tsc", -1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: setattr(vm, "clock", -1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: vm.cpu.msr.__setitem__("LSTAR", -1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (
            lambda vm: vm.cpu.msr.__setitem__("LSTAR", 1 << 64),
            r"an integer from 0 to 2\*\*64 - 1, not 18446744073709551616",
        ),
        (lambda vm: setattr(vm.cpu, "gdt", (-1, 0)), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: setattr(vm.cpu, "idt", (0, 0x10000)), "an integer from 0 to 0xffff, not 65536"),
        (lambda vm: vm.load("hlt", vcpu=-1), "an integer from 0 to 0xffffffff, not -1"),
        (lambda vm: vm.load("hlt", at=-1), r"an address is an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: vm.irq(-1), "an integer from 0 to 0xff, not -1"),
        (lambda vm: vm.msi(-1, 0), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: vm.msi(0, -1), "an integer from 0 to 0xffffffff, not -1"),
        (lambda vm: vm.run(max_exits=-1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: vm.cpu.run(max_exits=-1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: vm.run_async(max_exits=-1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: vm.cpu.inject_exception(-1), "an integer from 0 to 0xff, not -1"),
        (lambda vm: vm.cpu.inject_exception(13, -1), "an integer from 0 to 0xffffffff, not -1"),
        (lambda vm: vm.cpu.disasm(-1), "a size is an integer from 0"),
        (lambda vm: vm.cpu.cs.replace(limit=2**40), "an integer from 0 to 0xffffffff, not 1099511627776"),
        (lambda vm: bj.Segment(base=-1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: bj.Segment(dpl=-1), "an integer from 0 to 0xff, not -1"),
        (lambda vm: bj.Segment.from_descriptor(-1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: vm.on_port(0x10, print, size=-1), r"an integer from 0 to 2\*\*64 - 1, not -1"),
        (lambda vm: vm.cpu.inject_interrupt(256), "an integer from 0 to 0xff, not 256"),
    ],
)
def test_an_integer_that_does_not_fit_is_refused_with_what_would(vm, set_it, words):
    with pytest.raises(OverflowError, match=words):
        set_it(vm)


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (lambda vm: vm.memory.write_u8(0, "A"), "an integer from 0 to 0xff, not str"),
        (lambda vm: vm.cpu.fpu.xmm.__setitem__(0, [1.0]), "an integer of 128 bits, not list"),
        (lambda vm: vm.cpu.fpu.xmm.__setitem__(0, 1.5), "an integer of 128 bits, not float"),
        (lambda vm: setattr(vm.cpu, "events", None), "bj.Events, not None"),
        (lambda vm: setattr(vm.cpu, "events", {"exception": 14}), "bj.Events, not {'exception': 14}"),
        (lambda vm: vm.cpu.restore(5), "bj.State, as cpu.state.. returned it, not 5"),
        (lambda vm: vm.run(until=int), "^a class of exits such as bj.Hlt .* is asked for, not <class 'int'>"),
        (lambda vm: vm.exits("Hlt"), "^a class of exits such as bj.Hlt .* is asked for, not 'Hlt'"),
        (lambda vm: vm.exits([bj.PortOut]), r"give them one by one: vm.exits\(bj.PortOut, bj.Hlt\)"),
        (lambda vm: vm.exits((bj.PortOut, bj.Hlt)), "give them one by one"),
        (lambda vm: vm.on_port("0x10", print), "a number, or a range of them, not '0x10'"),
        (lambda vm: vm.on_port([0x10, 0x20], print), r"a number, or a range of them, not \[16, 32\]"),
    ],
)
def test_a_value_of_another_type_is_a_type_error_that_names_the_right_one(vm, do, words):
    with pytest.raises(TypeError, match=words):
        do(vm)


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (lambda vm: setattr(vm.cpu, "cr8", 16), "CR8 is 0 to 15, not 16"),
        (lambda vm: vm.on_port(-1, print), "from 0 on, not -1"),
        (lambda vm: vm.on_port(range(-1, 5), print), r"from 0 on, not range\(-1, 5\)"),
        (lambda vm: vm.memory.compare(0, b"abc", 4), "4 bytes are to be compared with 3"),
        (lambda vm: vm.cpu.inject_exception(2), r"NMI: inject_nmi\(\)"),
        (lambda vm: vm.cpu.inject_exception(32), r"32 is an interrupt: inject_interrupt\(32\)"),
        (lambda vm: vm.join(), r"start\(\) it first"),
        (lambda vm: vm.attach(bj.Device(), ports=0x10, irq=24), "0 to 23, not 24"),
    ],
)
def test_a_value_that_means_nothing_is_a_value_error_that_says_what_would(vm, do, words):
    with pytest.raises(ValueError, match=words):
        do(vm)


def test_a_task_priority_that_is_none_leaves_the_machine_as_it_was(vm):
    vm.load(b"\xf4")
    with pytest.raises(ValueError, match="CR8"):
        vm.cpu.cr8 = 0x20
    assert vm.cpu.cr8 == 0
    assert vm.run(timeout=60) == bj.Hlt()


def test_one_port_is_not_shown_as_a_range_and_a_running_vcpu_says_so_once(vm):
    device = bj.Device()
    vm.attach(device, ports=0x10)
    assert repr(device) == "<Device at port 0x10>"
    vm.load(bytes.fromhex("ebfe"))
    vm.start()
    assert repr(vm.cpu) == "<VCPU 0, running>"
    vm.stop()
