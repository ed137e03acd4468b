"""Devices written in Python, with guests that use them: where they are, who is behind them, what they may answer.

Register maps without a machine are in tests/unit/test_register_map.py; the ways past a native device are in
test_devices_and_native_ones.py, threads and garbage in test_devices_change.py.
"""

import pytest

import belljar as bj
from belljar.testcard import TestCard

MMIO = 0xFEB0_0000


class Noting(bj.Device):
    """Notes what is asked of it, and answers with the offset."""

    ports = range(0x10, 0x20)

    def __init__(self):
        self.seen = []

    def read(self, offset, size):
        self.seen.append(("r", offset, size))
        return 0x100 + offset

    def write(self, offset, size, value):
        self.seen.append(("w", offset, size, value))


def run(vm, code, mode="long"):
    vm.load(code, mode=mode)
    assert vm.run(timeout=10) == bj.Hlt()


def test_a_device_sees_offsets_in_its_range_and_the_width_of_the_access(vm):
    device = vm.attach(Noting())
    run(vm, "mov eax, 0x11223344; out 0x10, al; out 0x14, ax; out 0x1c, eax; in al, 0x1f; mov bl, al; in ax, 0x12; hlt")
    assert device.seen == [("w", 0, 1, 0x44), ("w", 4, 2, 0x3344), ("w", 12, 4, 0x11223344), ("r", 15, 1), ("r", 2, 2)]
    assert (vm.cpu.regs.rbx & 0xFF, vm.cpu.regs.rax & 0xFFFF) == (0x0F, 0x102)


@pytest.mark.parametrize("mode", ["protected", "long"])
def test_a_device_in_memory_answers_every_width(vm, mode):
    class Device(Noting):
        ports, mmio = None, range(MMIO, MMIO + 0x1000)

    device = vm.attach(Device())
    base, wide = ("ebx", "") if mode == "protected" else ("rbx", "mov [rbx+0xff8], rcx; mov rdx, [rbx+0x10];")
    code = f"mov ebx, {MMIO:#x}; mov ecx, 0x55667788; mov [{base}], cl; mov [{base}+2], cx; mov [{base}+4], ecx;"
    run(vm, f"{code} {wide} movzx eax, byte ptr [{base}+0xfff]; hlt", mode)
    expected = [("w", 0, 1, 0x88), ("w", 2, 2, 0x7788), ("w", 4, 4, 0x55667788)]
    if wide:
        expected += [("w", 0xFF8, 8, 0x55667788), ("r", 0x10, 8)]
        assert vm.cpu.regs.rdx == 0x110
    assert device.seen == [*expected, ("r", 0xFFF, 1)]
    assert vm.cpu.regs.rax == 0xFF


def test_an_access_that_leaves_the_range_reaches_nobody(vm):
    device = vm.attach(Noting())
    run(vm, "xor eax, eax; out 0x1f, ax; out 0xe, eax; in eax, 0x1d; hlt")
    assert device.seen == []
    assert vm.cpu.regs.rax == 0xFFFF_FFFF


@pytest.mark.parametrize(("answer", "read"), [(None, 0xFF), (bj.SKIP, 0xFF), (0x1234, 0x34), (-2, 0xFE), (True, 1)])
def test_an_answer_is_cut_to_the_access_and_none_is_all_ones(vm, answer, read):
    class Device(bj.Device):
        ports = 0x10

        def read(self, offset, size):
            return answer

    vm.attach(Device())
    run(vm, "xor eax, eax; in al, 0x10; hlt")
    assert vm.cpu.regs.rax == read


def test_a_device_that_declares_nothing_reads_as_all_ones_and_drops_writes(vm):
    vm.attach(bj.Device(), ports=range(0x10, 0x12))
    run(vm, "xor eax, eax; out 0x10, al; in ax, 0x10; hlt")
    assert vm.cpu.regs.rax == 0xFFFF


def test_stop_of_a_device_ends_the_run_with_its_exit(vm):
    class Device(bj.Device):
        ports = 0x10

        def write(self, offset, size, value):
            return bj.STOP

    vm.attach(Device())
    vm.load("mov al, 7; out 0x10, al; hlt")
    assert vm.run(timeout=10) == bj.PortOut(0x10, 1, 7)
    assert vm.run(timeout=10) == bj.Hlt()


@pytest.mark.parametrize("verb", ["read", "write"])
def test_what_a_device_raises_comes_out_of_run_and_the_machine_goes_on(vm, verb):
    class Broken(bj.Device):
        ports = 0x10

        def read(self, offset, size):
            raise KeyError("read")

        def write(self, offset, size, value):
            raise KeyError("write")

    device = vm.attach(Broken())
    vm.load(f"xor eax, eax; {'in al, 0x10' if verb == 'read' else 'out 0x10, al'}; hlt")
    with pytest.raises(KeyError, match=verb):
        vm.run(timeout=10)
    assert device.exit is None
    assert vm.run(timeout=10) == bj.Hlt()
    assert vm.cpu.regs.rax == (0xFF if verb == "read" else 0)


def test_an_answer_of_a_wrong_type_says_so(vm):
    class Device(bj.Device):
        ports = 0x10

        def read(self, offset, size):
            return "x"

    vm.attach(Device())
    vm.load("in al, 0x10; hlt")
    with pytest.raises(TypeError, match="'x'"):
        vm.run(timeout=10)


def test_ranges_with_names_have_methods_of_their_own(vm):
    class Device(bj.Device):
        ports = {"data": 0x10, "control": range(0x20, 0x22)}  # noqa: RUF012  # as people write it
        mmio = range(MMIO, MMIO + 0x1000)

        def __init__(self):
            self.seen = []

        def read_data(self, offset, size):
            return 1

        def read_port(self, offset, size):
            return 0x20 + offset

        def read_mmio(self, offset, size):
            return 0x33

        def write(self, offset, size, value):
            self.seen.append((self.exit.__class__, offset, value))

    device = vm.attach(Device())
    run(
        vm,
        f"in al, 0x10; mov bl, al; in al, 0x21; mov cl, al; mov esi, {MMIO:#x}; mov dl, [rsi];"
        "mov al, 9; out 0x10, al; out 0x21, al; mov [rsi+5], al; hlt",
    )
    regs = vm.cpu.regs
    assert (regs.rbx & 0xFF, regs.rcx & 0xFF, regs.rdx & 0xFF) == (1, 0x21, 0x33)
    assert device.seen == [(bj.PortOut, 0, 9), (bj.PortOut, 1, 9), (bj.MmioWrite, 5, 9)]


def test_a_device_of_one_width_splits_wider_accesses_and_refuses_others(vm):
    class Narrow(Noting):
        width = 2

    device = vm.attach(Narrow())
    run(
        vm,
        "mov eax, 0x11223344; out 0x10, eax; out 0x11, ax; out 0x10, al; in eax, 0x14; mov ebx, eax; in al, 0x10; hlt",
    )
    assert device.seen == [("w", 0, 2, 0x3344), ("w", 2, 2, 0x1122), ("r", 4, 2), ("r", 6, 2)]
    assert (vm.cpu.regs.rbx, vm.cpu.regs.rax & 0xFF) == (0x0106_0104, 0xFF)


def test_a_device_can_be_put_elsewhere_when_it_is_attached(vm):
    first, second, third = Noting(), Noting(), Noting()
    vm.attach(first)
    vm.attach(second, at=0x30)
    vm.attach(third, ports=range(0x50, 0x51))
    run(vm, "mov al, 1; out 0x12, al; out 0x33, al; out 0x50, al; out 0x51, al; hlt")
    assert [device.seen for device in (first, second, third)] == [[("w", n, 1, 1)] for n in (2, 3, 0)]
    assert vm.devices == (first, second, third)
    assert repr(second) == "<Noting at ports 0x30..0x40>"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mmio": range(0xF_F000, 0x10_1000)}, bj.RangeError, "RAM from 0x0 on is in the way and would answer"),
        ({"ports": range(0x18, 0x28)}, bj.RangeError, "0x18..0x28 are taken by <Noting"),
        ({"ports": range(0xFFFF, 0x10001)}, bj.RangeError, r"not all in 0..0xffff"),
        ({"ports": -1}, bj.RangeError, "not all in"),
        ({"ports": range(0x40, 0x40)}, ValueError, "takes a range"),
        ({"ports": range(0x40, 0x50, 2)}, ValueError, "takes a range"),
        ({"ports": "COM1"}, ValueError, "takes a range.*COM1"),
        ({"mmio": MMIO}, ValueError, "takes a range"),
        ({"ports": {"a": 0x40, "b": range(0x3F, 0x41)}}, bj.RangeError, "overlap another range of the same device"),
        ({"at": 0x100, "mmio": range(MMIO, MMIO + 1)}, ValueError, "this one has 2"),
        ({"at": 0xFFFF}, bj.RangeError, "not all in"),
        ({"mode": "behind"}, ValueError, '"instead", "before" or "beside", not \'behind\''),
    ],
)
def test_a_place_that_cannot_be_is_refused_and_nothing_is_attached(vm, options, error, message):
    vm.attach(Noting())
    device = Noting()
    options = options if "ports" in options or "at" in options else {"ports": 0x40, **options}
    with pytest.raises(error, match=message):
        vm.attach(device, **options)
    assert len(vm.devices) == 1 and not device.is_attached
    vm.attach(device, at=0x100)


def test_a_width_that_cannot_be_is_refused(vm):
    device = Noting()
    device.width = 3
    with pytest.raises(ValueError, match=r"1, 2, 4 or 8 bytes.*not 3"):
        vm.attach(device)


def test_what_is_no_device_or_attached_already_is_refused(vm, new_vm):
    with pytest.raises(TypeError, match=r"vm.attach\(Card\(\)\)"):
        vm.attach(Noting)
    with pytest.raises(TypeError, match="not 5"):
        vm.attach(5)
    device = vm.attach(Noting())
    with pytest.raises(ValueError, match="attached already"):
        new_vm("1M").attach(device)
    with pytest.raises(ValueError, match="not attached to this VM"):
        new_vm("1M").detach(device)


def test_a_detached_device_answers_no_more_and_can_go_elsewhere(vm, new_vm):
    device = vm.attach(Noting())
    vm.detach(device)
    assert (vm.devices, device.is_attached) == ((), False)
    run(vm, "in al, 0x10; hlt")
    assert (device.seen, vm.cpu.regs.rax & 0xFF) == ([], 0xFF)
    with pytest.raises(ValueError, match="not attached to this VM"):
        vm.detach(device)
    with pytest.raises(ValueError, match=r"not attached: vm\.attach"):
        _ = device.vm
    other = new_vm("1M")
    other.attach(device)
    assert device.vm is other


def test_reset_is_called_when_a_device_is_attached_unless_told_otherwise(vm):
    class Device(bj.Device):
        def __init__(self):
            self.resets = 0

        def reset(self):
            self.resets += 1

    assert (vm.attach(Device()).resets, vm.attach(Device(), reset=False).resets) == (1, 0)


def test_a_device_on_a_machine_without_interrupt_controller_raises_when_it_pulls_its_line(vm):
    class Device(bj.Device):
        ports = 0x10
        irq = 5

        def write(self, offset, size, value):
            self.irq.pulse()

    vm.attach(Device())
    vm.load("out 0x10, al; hlt")
    with pytest.raises(ValueError, match="irqchip"):
        vm.run(timeout=10)


DRIVER = f"""
    mov ebx, {MMIO:#x}; mov eax, [rbx]; mov r8d, eax
    mov dword ptr [rbx+8], 1
    mov dword ptr [rbx+0x10], 40; mov dword ptr [rbx+0x14], 2; mov dword ptr [rbx+0x18], 1
    mov r9d, [rbx+0xc]; mov r10d, [rbx+0x1c]
    mov dword ptr [rbx+0xc], 2
    mov dword ptr [rbx+0x20], 0x8000; mov dword ptr [rbx+0x28], 11; mov dword ptr [rbx+0x18], 4
    mov r11d, [rbx+0x1c]
    mov dword ptr [rbx+0x20], 0x7fffffff; mov dword ptr [rbx+0x18], 3
    mov r12d, [rbx+0xc]; hlt
"""


def test_a_driver_uses_the_test_card(vm):
    card = vm.attach(TestCard())
    vm.memory.write(0x8000, b"hello World!")
    run(vm, DRIVER)
    regs = vm.cpu.regs
    assert regs.r8.to_bytes(8, "little") == b"BJAR\0\0\0\0"
    assert (regs.r9, regs.r10, regs.r11, regs.r12) == (3, 42, 9, 1 | 2 | 4)
    assert vm.memory.read(0x8000, 12) == b"HELLO WORLD!"
    assert "at addresses 0xfeb00000..0xfeb01000, irq 5" in str(card)


@pytest.mark.parametrize("at", [0x10_0000 - 5, 0x10_0000, 2**32, 2**64 - 11, 2**64 - 1, 2**63])
@pytest.mark.parametrize("operation", [3, 4])
def test_the_test_card_refuses_any_buffer_that_is_no_ram(vm, at, operation):
    card = vm.attach(TestCard())
    card.dma_low, card.dma_high, card.dma_length, card.control.enable = at, at >> 32, 11, 1
    run(vm, f"mov ebx, {MMIO:#x}; mov dword ptr [rbx+0x18], {operation}; mov eax, [rbx+0xc]; hlt")
    assert vm.cpu.regs.rax & 6 == 4


def test_a_misaligned_access_over_two_pages_of_a_device_arrives_in_parts(vm):
    class Device(bj.RegisterDevice):
        mmio = range(MMIO, MMIO + 0x2000)
        words = bj.Register(0, count=0x800)

    device = vm.attach(Device())
    run(vm, f"mov ebx, {MMIO + 0xFFD:#x}; mov rax, 0x8877665544332211; mov [rbx], rax; mov rcx, [rbx]; hlt")
    assert vm.cpu.regs.rcx == 0x8877665544332211
    assert [int(word) for word in device.words if word] == [0x33221100, 0x77665544, 0x88]
