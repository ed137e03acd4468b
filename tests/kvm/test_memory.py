"""Guest memory as Python reads, writes and views it: values, edges, regions, and what is refused.

What the guest itself does to memory is in test_exits.py and test_modes.py.
"""

import re
from pathlib import Path

import numpy as np
import pytest

import belljar as bj


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@pytest.mark.parametrize("at", [0, 0x1003, 0x1FFD])
def test_integers_of_every_width_come_back(vm, bits, at):
    read, write = (getattr(vm.memory, f"{verb}_u{bits}") for verb in ("read", "write"))
    for value in (0, 1, 0x5A, 2**bits - 1, 2 ** (bits - 1)):
        write(at, value)
        assert read(at) == value
        assert vm.memory.read(at, bits // 8) == value.to_bytes(bits // 8, "little")


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_signed_integers_come_back(vm, bits):
    read, write = (getattr(vm.memory, f"{verb}_i{bits}") for verb in ("read", "write"))
    for value in (0, -1, 1, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1):
        write(0x2FFF, value)
        assert read(0x2FFF) == value
        assert getattr(vm.memory, f"read_u{bits}")(0x2FFF) == value % 2**bits


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_an_integer_that_does_not_fit_is_refused_and_changes_nothing(vm, bits):
    vm.memory.write(0, b"\x77" * 8)
    for name, value in ((f"write_u{bits}", 2**bits), (f"write_u{bits}", -1), (f"write_i{bits}", 2 ** (bits - 1))):
        with pytest.raises(OverflowError):
            getattr(vm.memory, name)(0, value)
    assert vm.memory[0:8] == b"\x77" * 8


def test_slices_read_and_write_bytes(vm):
    vm.memory[0x1FFE:0x2002] = b"abcd"
    assert vm.memory[0x1FFE:0x2002] == b"abcd"
    assert vm.memory[0x1FFF] == ord("b")
    vm.memory[0x1FFF] = 0xFF
    assert vm.memory.read(0x1FFE, 4) == b"a\xffcd"
    assert vm.memory[0x10:0x10] == b""
    assert vm.memory[:4] == bytes(4)


@pytest.mark.parametrize("index", [slice(0, None), slice(0, 8, 2), slice(None, None)])
def test_a_slice_without_an_end_or_with_a_step_is_refused(vm, index):
    with pytest.raises(IndexError, match="start:stop"):
        vm.memory[index]


def test_a_slice_takes_exactly_its_length(vm):
    with pytest.raises(ValueError, match="3 bytes do not fill a slice of 4"):
        vm.memory[0:4] = b"abc"
    with pytest.raises(TypeError, match="buffer protocol"):
        vm.memory[0:4] = "abcd"


@pytest.mark.parametrize(
    "data",
    [
        b"\x01\x00\x02\x00",
        bytearray(b"\x01\x00\x02\x00"),
        memoryview(b"\x01\x00\x02\x00"),
        memoryview(b"\x01\xff\x00\xff\x02\xff\x00\xff")[::2],
        np.array([1, 2], dtype="<u2"),
        np.array([1, 9, 2, 9], dtype="<u2")[::2],
        np.array([[1, 0], [2, 0]], dtype=np.uint8),
    ],
    ids=["bytes", "bytearray", "memoryview", "every other byte", "u2", "every other u2", "two dimensions"],
)
def test_anything_with_the_buffer_protocol_can_be_written(vm, data):
    vm.memory.write(0x1234, data)
    assert vm.memory.read(0x1234, 4) == b"\x01\x00\x02\x00"


def test_a_file_can_be_loaded(vm, tmp_path):
    path = tmp_path / "firmware.bin"
    path.write_bytes(b"firmware")
    assert vm.memory.load(path, 0x3000) == 8
    assert vm.memory.load(str(path), 0x4000) == 8
    assert vm.memory[0x3000:0x3008] == vm.memory[0x4000:0x4008] == b"firmware"
    with pytest.raises(FileNotFoundError):
        vm.memory.load(tmp_path / "none", 0)


def test_a_view_is_live_both_ways(vm):
    seen = np.asarray(vm.memory.view(0x2000, 0x1000))
    vm.memory.write_u8(0x2010, 7)
    assert seen[0x10] == 7
    written = np.asarray(vm.memory.view(0x2000, 0x1000, writable=True))
    written[0x11:0x13] = [8, 9]
    assert vm.memory[0x2010:0x2013] == b"\x07\x08\x09"
    del seen, written


def test_the_guest_and_a_view_see_each_other(vm):
    view = np.asarray(vm.memory.view(0x8000, 16, writable=True)).view("<u4")
    view[0] = 41
    vm.load("mov eax, [0x8000]; inc eax; mov [0x8004], eax; hlt")
    assert vm.run(timeout=60) == bj.Hlt()
    assert view[1] == 42
    del view


def test_a_view_is_read_only_unless_asked(vm):
    with vm.memory.view(0, 16) as view:
        assert view.readonly
        with pytest.raises(TypeError):
            view[0] = 1
        array = np.asarray(view)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        del array


def test_a_view_reaches_to_the_end_of_its_region_by_default(vm):
    with vm.memory.view() as all_of_it, vm.memory.view(0xF_F000) as last_page:
        assert (all_of_it.nbytes, last_page.nbytes) == (0x10_0000, 0x1000)


def test_a_view_lies_in_one_region(vm):
    vm.memory.add(0x10_0000, 0x1000)
    with pytest.raises(ValueError, match="one region"):
        vm.memory.view(0xF_F000, 0x2000)
    with pytest.raises(bj.GuestMemoryError):
        vm.memory.view(0x20_0000)


def test_regions_that_touch_are_one_stretch_of_memory(vm):
    added = vm.memory.add(0x10_0000, "8K", data=b"hello")
    assert (added.start, added.size, added.kind) == (0x10_0000, 0x2000, "RAM")
    assert vm.memory.read(0xF_FFFF, 6) == b"\0hello"
    vm.memory.write(0xF_FFFE, b"across")
    assert vm.memory.read_u32(0xF_FFFE) == int.from_bytes(b"acro", "little")
    assert [region.start for region in vm.memory.regions] == [0, 0x10_0000]


def test_the_guest_runs_across_regions_that_touch(vm):
    vm.memory.add(0x10_0000, 0x1000)
    vm.load(b"\xf4", mode="protected")  # its GDT is at the end of the first region, and loaded already
    vm.memory.write(0xF_FFFF, bj.asm("mov al, 42; out 0x10, al; hlt"))
    vm.cpu.regs.rip = 0xF_FFFF
    seen = []
    vm.on_port(0x10, lambda exit: seen.append(exit.data))
    assert (vm.run(timeout=60), seen) == (bj.Hlt(), [42])


@pytest.mark.parametrize("at", [2**32, 2**40, 2**52 - 0x1000])
def test_a_region_may_be_far_away_as_far_as_the_host_goes(vm, at):
    try:
        vm.memory.add(at, 0x1000)
    except bj.RangeError as refused:
        told = hex(at) in str(refused) and at > 2**32
        assert told, refused  # noqa: PT017 - not every host refuses
        return
    vm.memory.write_u64(at + 0xFF8, 2**64 - 1)
    assert vm.memory.read_u64(at + 0xFF8) == 2**64 - 1
    with pytest.raises(bj.GuestMemoryError):
        vm.memory.read_u8(at - 1)


@pytest.mark.parametrize("mode", ["long", "user"])
def test_code_in_64_bits_reaches_memory_far_away(vm, mode):
    vm.memory.add(2**38, 0x1000)
    vm.load(f"mov rbx, {2**38}; mov dword ptr [rbx], 42; out 0x10, al", mode=mode)
    vm.on_port(0x10, lambda exit: bj.STOP)
    assert isinstance(vm.run(timeout=60), bj.PortOut)
    assert vm.memory.read_u32(2**38) == 42


def test_memory_that_nobody_touches_costs_nothing(new_vm):
    def resident():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096

    before = resident()
    vm = new_vm("8G")
    vm.memory.write_u8(7 << 30, 1)
    vm.load("mov byte ptr [0x12345678], 1; hlt")
    assert vm.run(timeout=60) == bj.Hlt()
    assert resident() - before < 64 << 20


def test_ram_leaves_a_hole_for_devices_below_4_gib(new_vm):
    vm = new_vm("8G")
    assert sum(region.size for region in vm.memory.regions) == 8 << 30
    with pytest.raises(bj.GuestMemoryError):
        vm.memory.read_u8(0xFEE0_0000)


def test_a_write_to_rom_is_dropped_and_reported(vm):
    rom = vm.memory.add(0x20_0000, 0x1000, rom=True, data=b"\x11\x22")
    writes = []
    vm.on_mmio(0x20_0000, writes.append, size=0x1000, access="w")
    vm.load("mov byte ptr [0x200000], 0x99; mov al, [0x200000]; hlt")
    assert rom.kind == "ROM"
    assert vm.run(timeout=60) == bj.Hlt()
    assert writes == [bj.MmioWrite(0x20_0000, 1, 0x99)]
    assert (vm.cpu.regs.rax & 0xFF, vm.memory.read_u16(0x20_0000)) == (0x11, 0x2211)
    vm.memory.write_u8(0x20_0000, 0x33)
    assert vm.memory.read_u8(0x20_0000) == 0x33


def test_a_write_to_rom_without_a_handler_is_dropped(vm):
    vm.memory.add(0x20_0000, 0x1000, rom=True)
    vm.load("mov byte ptr [0x200000], 0x99; hlt")
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.memory.read_u8(0x20_0000) == 0


@pytest.mark.parametrize(
    ("at", "size"),
    [(0x10_0000, 1), (0xF_FFFF, 2), (0, 0x10_0001), (2**64 - 1, 1), (2**64 - 1, 2), (2**63, 2**63 - 1), (0, 2**62)],
)
def test_what_no_memory_backs_can_neither_be_read_nor_written(vm, at, size):
    with pytest.raises(bj.GuestMemoryError, match=re.escape(f"no memory at {at:#x}")) as refused:
        vm.memory.read(at, size)
    assert (refused.value.address, refused.value.length) == (at, size)
    assert isinstance(refused.value, LookupError)
    if size <= 0x10_0001:
        with pytest.raises(bj.GuestMemoryError):
            vm.memory.write(at, bytes(size))


def test_a_write_that_does_not_fit_writes_nothing(vm):
    with pytest.raises(bj.GuestMemoryError):
        vm.memory.write(0xF_FFFE, b"\xff" * 4)
    assert vm.memory.read_u16(0xF_FFFE) == 0


@pytest.mark.parametrize(
    ("at", "size", "error", "word"),
    [
        (0xF_F000, 0x1000, bj.RangeError, "overlaps RAM"),
        (0, 0x20_0000, bj.RangeError, "overlaps RAM"),
        (0x20_0001, 0x1000, bj.RangeError, "multiple of the page size"),
        (0x20_0000, 0x1001, bj.RangeError, "multiple of the page size"),
        (2**52, 0x1000, bj.RangeError, "beyond the"),
        (2**52 - 0x1000, 0x2000, bj.RangeError, "beyond the"),
        (2**64 - 0x1000, 0x1000, bj.RangeError, "beyond the"),
        (0x20_0000, 2**63, bj.RangeError, "beyond the"),
        (0x20_0000, 0, ValueError, "at least one page"),
        (0x20_0000, "lots", ValueError, "such as"),
        (2**64, 0x1000, OverflowError, None),
        (-0x1000, 0x1000, OverflowError, None),
    ],
)
def test_a_region_that_cannot_be_is_refused_and_leaves_no_trace(vm, at, size, error, word):
    before = vm.memory.regions
    with pytest.raises(error, match=word):
        vm.memory.add(at, size)
    assert vm.memory.regions == before
    vm.memory.add(0x20_0000, 0x1000)


def test_data_that_does_not_fit_its_region_is_refused(vm):
    with pytest.raises(ValueError, match="do not fit"):
        vm.memory.add(0x20_0000, 0x1000, data=bytes(0x1001))
    assert len(vm.memory.regions) == 1


@pytest.mark.parametrize("size", [0, "", "-1", "12Q", "M", "0x1000", -1, 1.5, [], 2**62, 0x1001, 2**70])
def test_an_amount_of_memory_that_means_nothing_is_refused(size):
    with pytest.raises(ValueError, match=r"memory|page|beyond"):
        bj.VM(size)


def test_more_memory_than_the_host_can_name_is_refused():
    with pytest.raises(ValueError, match="one region has at most"):
        bj.VM(2**51)


@pytest.mark.parametrize(("size", "bytes_"), [(0x3000, 0x3000), ("16K", 1 << 14), ("2 MiB", 2 << 20), ("1gb", 1 << 30)])
def test_memory_is_counted_in_bytes_or_in_words(new_vm, size, bytes_):
    assert new_vm(size).memory.regions[0].size == bytes_


def test_a_machine_without_memory_gets_it_piece_by_piece(new_vm):
    vm = new_vm(None)
    assert vm.memory.regions == []
    vm.memory.add(0x40_0000, 0x10_0000)
    vm.load(b"\xf4", mode="long", at=0x40_0000)
    assert vm.run(timeout=60) == bj.Hlt()


def test_memory_can_be_added_after_the_guest_has_run(vm):
    vm.load("mov byte ptr [0x200000], 7; hlt")
    assert vm.run(timeout=60) == bj.Hlt()
    vm.memory.add(0x20_0000, 0x1000)
    vm.cpu.regs.rip = 0x1000
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.memory.read_u8(0x20_0000) == 7


def test_many_small_regions_are_no_trouble(vm):
    for number in range(100):
        vm.memory.add(0x100_0000 + number * 0x2000, 0x1000, data=bytes([number]))
    assert [vm.memory.read_u8(0x100_0000 + n * 0x2000) for n in range(100)] == list(range(100))
