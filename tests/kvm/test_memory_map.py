"""What is where in the guest-physical address space, and what is in it, as text."""

import itertools

import pytest

import belljar as bj


def rows(vm):
    return [(r.kind, r.start, r.end, r.name) for r in vm.memory_map() if r.kind != "hole"]


def test_the_map_shows_memory_devices_and_handlers(new_vm, tmp_path):
    vm = new_vm("1M", irqchip="split")
    vm.memory.add(0x20_0000, 0x1000, rom=True)
    (tmp_path / "disk").write_bytes(b"x")
    vm.memory.add(0x30_0000, file=tmp_path / "disk")

    def card(exit):
        return 0

    vm.on_mmio(0xD000_0000, card, size=0x100)
    vm.on_mmio(0x20_0000, card, size=0x1000, access="w")
    assert rows(vm) == [
        ("RAM", 0, 0x10_0000, ""),
        ("ROM", 0x20_0000, 0x20_1000, ""),
        ("handler", 0x20_0000, 0x20_1000, "card"),
        ("RAM", 0x30_0000, 0x30_1000, ""),
        ("handler", 0xD000_0000, 0xD000_0100, "card"),
        ("device", 0xFEC0_0000, 0xFEC0_0100, "ioapic"),
        ("device", 0xFEE0_0000, 0xFEE0_1000, "local APIC"),
    ]
    file, at_rom = vm.memory_map().at(0x30_0800), vm.memory_map().at(0x20_0FFF)
    assert (file[0].region.file, file[0].detail) == (str(tmp_path / "disk"), str(tmp_path / "disk"))
    assert [(r.kind, r.detail) for r in at_rom] == [("ROM", ""), ("handler", "writes")]


@pytest.mark.parametrize(("irqchip", "devices"), [(None, 0), ("split", 2), ("full", 2)])
def test_the_map_shows_interrupt_controllers_where_there_are_some(new_vm, irqchip, devices):
    ranges = new_vm("1M", irqchip=irqchip).memory_map()
    assert sum(r.kind == "device" for r in ranges) == devices


def test_every_address_is_in_the_map_once_beside_handlers(new_vm):
    vm = new_vm("8G", irqchip="full")
    ranges = [r for r in vm.memory_map() if r.kind != "handler"]
    assert ranges[0].start == 0
    assert all(a.end == b.start for a, b in itertools.pairwise(ranges))
    assert all(r.size == r.end - r.start and r.start in r and r.last in r and r.end not in r for r in ranges)
    assert ranges[-1].end >= 1 << 36
    assert sum(r.size for r in ranges if r.kind == "RAM") == 8 << 30


def test_a_handler_at_the_last_address_is_in_the_map(vm):
    with vm.on_mmio(2**64 - 8, lambda exit: None, size=8) as handle:
        last = vm.memory_map()[-1]
        assert (last.kind, last.start, last.last, last.end, last.size) == ("handler", 2**64 - 8, 2**64 - 1, 2**64, 8)
        handle.enabled = False
        assert "disabled" in vm.memory_map()[-1].detail
    assert vm.memory_map()[-1].kind == "hole"


def test_the_map_is_a_sequence_of_this_moment(vm):
    before = vm.memory_map()
    vm.memory.add(0x20_0000, 0x1000)
    assert [r.kind for r in before] == ["RAM", "hole"]
    assert (len(before), before[0].kind, before[-1].kind, before[1] == before[-1]) == (2, "RAM", "hole", True)
    for index in (2, -3, 10**10):
        with pytest.raises(IndexError):
            before[index]
    assert before[0].region == vm.memory.regions[0]
    assert [r.kind for r in vm.memory_map()] == ["RAM", "hole", "RAM", "hole"]


def test_the_map_prints_as_a_table(vm):
    vm.memory.add(0x20_0000, "4M", huge=True)
    lines = repr(vm.memory_map()).splitlines()
    assert lines[0].split() == ["first", "last", "size", "kind"]
    assert lines[1].split()[2:] == ["1", "MiB", "RAM"]
    assert lines[3].endswith("RAM      huge pages (transparent)")
    assert all(line.startswith("0x") and line == line.rstrip() for line in lines[1:])
    assert repr(vm.memory_map()[0]) == "<MemoryRange RAM 0x0..0x100000>"


def test_an_address_is_in_the_map_where_something_answers(vm):
    vm.on_mmio(range(0x4000_0000, 0x4000_0010), print)
    found = vm.memory_map()
    assert 0x1000 in found
    assert 0x4000_000F in found
    assert 0x4000_0010 not in found
    assert found[0] in found
    with pytest.raises(TypeError, match="an address is an integer"):
        assert "RAM" in found


def test_a_map_outlives_its_machine(vm):
    kept = vm.memory_map()
    vm.close()
    assert kept[0].kind == "RAM"
    assert "RAM" in repr(kept)


def test_a_dump_shows_itself(vm):
    vm.memory.write(0x1000, b"belljar\x00\x01")
    dump = vm.memory.hexdump(0x1000, 16)
    line = "00001000:  62 65 6c 6c 6a 61 72 00  01 00 00 00 00 00 00 00  |belljar.........|"
    assert isinstance(dump, str)
    assert dump == repr(dump) == line


def test_a_dump_shows_holes_and_goes_on(vm):
    vm.memory.add(0x10_1000, 0x1000, data=b"back")
    lines = vm.memory.hexdump(0xF_FFF8, 0x1020).splitlines()
    assert lines[0].startswith("000ffff8:  00 00 00 00 00 00 00 00  ?? ??")
    assert lines[2] == "*"
    assert lines[3] == "00100ff8:  ?? ?? ?? ?? ?? ?? ?? ??  62 61 63 6b 00 00 00 00  |        back....|"


def test_a_dump_of_repeated_lines_is_short_unless_asked(vm):
    assert vm.memory.hexdump(0, 0x10_0000).count("\n") == 2
    assert vm.memory.hexdump(0, 0x100, squeeze=False).count("\n") == 15
    assert vm.memory.hexdump(0, 64, 32).count("\n") == 1
    assert vm.memory.hexdump(0, 0) == ""
    for size, width in ((2**60, 16), (16, 0), (16, 257)):
        with pytest.raises(ValueError, match=r"at most|per line"):
            vm.memory.hexdump(0, size, width)


def test_bytes_of_any_kind_can_be_dumped():
    assert bj.hexdump(b"ab", 0xFFFF_FFFF_FFFF_FF00) == "ffffffffffffff00:  61 62" + " " * 43 + "  |ab|"
    assert bj.hexdump(bytearray(range(4)), width=4) == "00000000:  00 01 02 03  |....|"
    assert bj.hexdump(b"") == ""
    with pytest.raises(TypeError, match="buffer protocol"):
        bj.hexdump("text")
