"""Virtual memory by hand-made page tables: translation in every mode, the verbs of Memory across page borders."""

import ctypes

import numpy as np
import pytest

import belljar as bj

P, W, U, PS, NX = 1, 2, 4, 0x80, 1 << 63
ROOT = 0x40000
HIGH = 0xFFFF_FFFF_8000_0000


@pytest.fixture
def space(vm, build):
    """Make two virtual pages side by side, whose physical ones lie the other way round; and one nowhere."""
    vm.load("hlt", mode="long")
    pages = {0x1000: 0x61000 | P | W, 0x2000: 0x60000 | P | U | NX, 0x5000: 0xFFFF_F000 | P, HIGH: 0x62000 | P}
    return vm.virtual(build(vm, pages))


def test_an_address_translates_and_tells_its_way(vm, space):
    found = space.translate(0x1ABC)
    assert found
    assert (found.gva, found.gpa, found.page_size, found.fault, found.error_code) == (
        0x1ABC,
        0x61ABC,
        0x1000,
        None,
        None,
    )
    assert [level for level, _, _ in found.entries] == [4, 3, 2, 1]
    assert found.entries[0] == (4, ROOT, vm.memory.read_u64(ROOT))
    assert found.entries[-1].value == 0x61000 | P | W == vm.memory.read_u64(found.entries[-1].gpa)
    assert repr(found.entries[-1]).startswith("PageTableEntry(level=1, gpa=0x")
    assert (found.writable, found.user, found.executable, found.flags) == (
        True,
        False,
        True,
        ["writable", "executable"],
    )
    assert (found.cr3, found.paging, found.protection_key) == (ROOT, "4-level", None)
    text = "<0x1abc -> 0x61abc, 4 KiB page, rwx, supervisor; level 4 at 0x40000: 0x41007; "
    assert repr(found).startswith(text)
    assert space.translate(0x2000).flags == ["user"]
    assert space.translate(HIGH + 5).gpa == 0x62005
    assert vm.translate(0x1ABC, cr3=ROOT) == found


def test_what_does_not_translate_says_where_and_why(space):
    missing = space.translate(0x3000)
    assert not missing
    assert (missing.gpa, missing.page_size, missing.fault_level) == (None, None, 1)
    assert missing.fault == "not present (level 1)"
    assert missing.error_code == 0
    assert len(missing.entries) == 4
    assert space.translate(1 << 30).fault == "not present (level 3)"
    odd = space.translate(1 << 47)
    assert (odd.fault, odd.fault_level, odd.error_code, odd.entries) == ("the address is not canonical", None, None, [])
    assert "leads nowhere; not present (level 1)" in repr(missing)


def test_tables_without_memory_and_reserved_bits_are_told_apart(vm, space):
    vm.memory.write_u64(ROOT + 8, 0x7FFF_F000 | P)
    assert space.translate(1 << 39).fault == "the table is where no memory is (level 3)"
    vm.memory.write_u64(ROOT + 16, 0x41000 | P | PS)
    reserved = space.translate(2 << 39)
    assert (reserved.fault, reserved.error_code) == ("reserved bits 0x80 are set (level 4)", 0b1001)


def test_an_access_is_checked_on_request(vm, space):
    assert space.translate(0x2000)
    denied = space.translate(0x2000, user=True, write=True)
    assert (bool(denied), denied.gpa, denied.fault) == (False, 0x60000, "the page is read-only")
    assert denied.error_code == 0b111
    assert space.translate(0x2000, user=True)
    assert space.translate(0x1000, user=True).fault == "the page is ring 0's alone"
    assert space.translate(0x1000, write=True)
    assert space.translate(0x2000, execute=True, user=True).fault is not None
    vm.cpu.cr3 = ROOT
    assert vm.cpu.translate(0x2000, user=False)
    vm.cpu.cr4.smap = True
    assert vm.cpu.translate(0x2000, user=False).fault == "ring 0 touches no page of ring 3 (SMAP)"
    vm.cpu.regs.rflags |= 1 << 18
    assert vm.cpu.translate(0x2000, user=False)
    vm.cpu.cr0.wp = True
    assert vm.cpu.translate(HIGH, write=True).fault == "the page is read-only"
    vm.cpu.cr0.wp = False
    assert vm.cpu.translate(HIGH, write=True)


def test_32_bit_and_pae_tables_translate(vm):
    vm.load("hlt", mode="protected")
    vm.memory.write_u32(0x40004, 0x80_0000 | PS | P | W)
    vm.memory.write_u32(0x40008, 0x41000 | P | W)
    vm.memory.write_u32(0x4100C, 0x9000 | P)
    vm.cpu.cr3 = 0x40000
    vm.cpu.cr0.pg = True
    vm.cpu.cr4.pse = True
    found = vm.cpu.translate(0x0040_0123)
    assert (found.gpa, found.page_size, found.paging) == (0x80_0123, 0x40_0000, "32-bit")
    assert vm.cpu.translate(0x0080_3010).gpa == 0x9010
    vm.memory.write_u64(0x50018, 0x51000 | P)
    vm.memory.write_u64(0x51000, 0x20_0000 | PS | P | W)
    vm.cpu.cr3 = 0x50000
    vm.cpu.cr4.pae = True
    found = vm.cpu.translate(0xC000_0123)
    assert (found.gpa, found.page_size, found.paging, found.writable) == (0x20_0123, 0x20_0000, "PAE", True)


def test_without_paging_an_address_is_itself(vm):
    vm.load("hlt", mode="protected")
    assert repr(vm.cpu.virtual) == "<VirtualMemory without paging>"
    vm.memory.write_u32(0x5000, 0x1234)
    assert vm.cpu.virtual.read_u32(0x5000) == 0x1234
    assert vm.cpu.translate(0x5000).gpa == 0x5000


def test_bytes_and_values_go_across_page_borders(vm, space):
    space.write(0x1FFC, b"overlapping\0")
    assert vm.memory.read(0x61FFC, 4) == b"over"
    assert vm.memory.read(0x60000, 8) == b"lapping\0"
    assert space.read(0x1FFC, 12) == space[0x1FFC:0x2008] == b"overlapping\0"
    assert space.read_cstring(0x1FFC, encoding="ascii") == "overlapping"
    assert space.read_cstring(0x1FFC, 6) == b"overla"
    assert space[0x2000] == ord("l")
    space[0x1FFF:0x2001] = b"RL"
    assert space.read_struct(0x1FFE, "<2s2s") == (b"eR", b"La")
    assert space.write_struct(0x1FFE, "<I", 0x11223344) == 4
    assert space.read_u32(0x1FFE) == 0x11223344
    space.write_i16(0x1FFF, -2)
    assert (space.read_i16(0x1FFF), space.read_u16(0x1FFF)) == (-2, 0xFFFE)
    space.write_u64(0x1FFA, 0x0102030405060708)
    assert space.read_ctypes(0x1FFA, ctypes.c_uint64).value == 0x0102030405060708
    assert list(space.read_array(0x1FFE, 2, "<u2")) == [0x0304, 0x0102]
    assert space.write_ctypes(0x1FFE, ctypes.c_uint32(7)) == 4
    assert space.read_array(0x1FFE, 1, "<u4")[0] == 7


def test_a_write_heeds_no_permission_and_is_all_or_nothing(vm, space):
    assert not space.translate(0x2000, write=True, user=True)
    space.write(0x2000, b"debugger")
    assert vm.memory.read(0x60000, 8) == b"debugger"
    before = space.read(0x2FF0, 16)
    with pytest.raises(bj.GuestMemoryError) as failed:
        space.write(0x2FF0, bytes(range(32)))
    assert (failed.value.address, failed.value.length) == (0x3000, 16)
    assert space.read(0x2FF0, 16) == before


def test_what_is_not_mapped_raises_with_its_address(space):
    for look in (
        lambda: space.read(0x2FF0, 32),
        lambda: space[0x2FF0:0x3010],
        lambda: space.read_u64(0x2FFC),
        lambda: space.read_many([0x1000, 0x2FFC]),
        lambda: space.read_array(0x2FF0, 32),
    ):
        with pytest.raises(
            bj.GuestMemoryError, match=r"nothing is mapped at 0x3000 .*not present \(level 1\)"
        ) as failed:
            look()
        assert failed.value.address == 0x3000
    space.write(0x2FF0, b"x" * 16)
    with pytest.raises(bj.GuestMemoryError, match="0x3000"):
        space.read_cstring(0x2FF0)
    with pytest.raises(bj.GuestMemoryError, match=r"it is mapped to 0xfffff000, where no memory is"):
        space.read_u8(0x5000)
    with pytest.raises(bj.GuestMemoryError):
        space.read(0x1000, 1 << 60)
    with pytest.raises(OverflowError):
        space.read_u8(-1)


def test_utf_16_ends_at_its_zero_also_across_a_border(vm, space):
    text = "Grüße \N{GRINNING FACE}"
    space.write(0x1FF9, (text + "\0rest").encode("utf-16-le"))
    assert space.read_utf16(0x1FF9) == text
    assert space.read_utf16(0x1FF9, 3) == "Grü"
    with pytest.raises(UnicodeDecodeError):
        space.read_utf16(0x1FF9, 7)
    assert space.read_utf16(0x1FF9, 7, "replace") == "Grüße \ufffd"
    vm.memory.write(0x1000, "physical\0".encode("utf-16-le"))
    assert vm.memory.read_utf16(0x1000) == "physical"


def test_many_values_are_gathered_in_any_order_and_shape(vm, space):
    words = np.arange(1024, dtype="<u8") * 0x0101010101
    space.write(0x1000, words)
    places = np.random.default_rng(1).permutation(0x1000 + 8 * np.arange(1024, dtype="<u8")).reshape(32, 32)
    assert (space.read_many(places) == words[(places - 0x1000) // 8]).all()
    across = space.read_many([0x1FFC, 0x1000, 0x1FFE])
    assert across.tolist() == [space.read_u64(0x1FFC), 0, space.read_u64(0x1FFE)]
    assert space.read_many([0x1FFE, 0x1008], "<u4").tolist() == [space.read_u32(0x1FFE), 0x01010101]
    some = space.read_many([0x1FFE, 0x1008], 4)
    assert (some.shape, some.dtype, some[0].tobytes()) == ((2, 4), np.uint8, space.read(0x1FFE, 4))
    assert vm.memory.read_many([0x61000], 3).shape == (1, 3)
    assert space.read_many([]).shape == (0,)


def test_a_match_across_a_border_is_found_once(vm, space):
    space.write(0x1FFC, b"needle")
    space.write(0x1100, b"needle")
    assert space.search(b"needle") == [0x1100, 0x1FFC]
    assert space.search("6e 65 65 ?? 6c 65", 0x1101) == [0x1FFC]
    assert space.search(b"needle", end=0x2001) == [0x1100]
    assert space.search_many([b"need", b"dle"], limit=None) == [(0x1100, 0), (0x1103, 1), (0x1FFC, 0), (0x1FFF, 1)]
    vm.memory.write(
        0x60FFE, b"nee"
    )  # the end of the upper page: what follows it physically is not what follows it here
    vm.memory.write(0x61001, b"dle")
    assert space.search(b"needle") == [0x1100, 0x1FFC]
    vm.memory.write(0x62010, b"needle")
    assert space.search(b"needle")[-1] == HIGH + 0x10


def test_a_dump_shows_what_is_mapped(space):
    space.write(0x2FF8, b"the end.")
    lines = str(space.hexdump(0x2FF0, 32)).splitlines()
    assert lines[0].startswith("00002ff0: ")
    assert "the end." in lines[0]
    assert lines[1].split("  |")[0].split()[1:] == ["??"] * 16


def test_listings_name_places_and_targets():
    with bj.specimen() as vm:
        vm.run(timeout=60, max_exits=20)
        symbols = vm.symbols
        name, at = next((n, a) for n, a in symbols.items() if n.startswith("stub_"))
        listing = vm.cpu.virtual.disasm(at, 4, bits=64)
        assert listing[0].symbol == name
        jump = next(i for i in listing if i.text.startswith("jmp"))
        assert jump.target_symbol == symbols.at(jump.target)
        text = repr(listing).splitlines()
        assert text[0] == f"{name}:"
        assert any(line.endswith(f"<{jump.target_symbol}>") for line in text)
        code = vm.cpu.virtual.read(at, 16)
        assert bj.disasm(code, at, symbols=symbols)[0] == listing[0]
        assert bj.disasm(code, at)[0].symbol is None


def test_virtual_memory_takes_the_names_that_breakpoints_take(tmp_path):
    with bj.specimen() as vm:
        vm.run(timeout=60, max_exits=20)
        vm.dump(tmp_path / "core")
        ticks, call = vm.symbols["ticks"], vm.symbols["system_call"]
        with bj.open_dump(tmp_path / "core") as dump:
            for guest in (vm, dump):
                cpu, space = guest.cpu, guest.virtual()
                assert cpu.translate("system_call+2") == guest.translate("system_call+2") == cpu.translate(call + 2)
                assert cpu.disasm(3, at="system_call") == space.disasm("system_call", 3) == space.disasm(call, 3)
                assert cpu.disasm(3, at=call)[0].symbol == "system_call"
                assert space.hexdump("system_call", 32) == space.hexdump(call, 32)
                assert space.read("system_call", 16) == space.read(call, 16)
                assert space.read_u64("ticks") == space.read_struct("ticks", "<Q")[0] == space.read_u64(ticks)
                assert space.read_array("ticks-8", 2, "<u8")[1] == space.read_u64(ticks)
                with pytest.raises(KeyError, match="there is: system_call"):
                    space.disasm("sys_call")
                with pytest.raises(TypeError, match=r"2\*\*64 - 1, or the name of a symbol, not float"):
                    space.read_u64(1.5)
        vm.cpu.virtual.write_u64("ticks", 7)
        assert vm.memory.read_u64(vm.translate("ticks").gpa) == 7
        vm.cpu.virtual.fill("ticks", 8)
        assert vm.cpu.virtual.compare("ticks", bytes(8)) is None
        with pytest.raises(TypeError, match=r"cpu\.virtual takes names"):
            vm.memory.read_u64("ticks")


def test_a_listing_ends_where_memory_does(vm, space):
    space.write(0x2FFD, b"\x90\x90\x90")
    assert [i.text for i in space.disasm(0x2FFD, 10)] == ["nop", "nop", "nop"]
    assert list(space.disasm(0x3000, 10)) == []
    assert space.disasm(0x2FFD, 1, bits=16)[0].text == "nop"


def test_address_spaces_are_shown_in_notebooks(space, seen):
    assert "0x1abc" in seen(space.translate(0x1ABC))
    assert "not present (level 1)" in seen(space.translate(0x3000))
    shown = seen(space.mappings())
    assert "4 ranges" in shown
    assert "writable" in shown
    assert "0x62000" in seen(space.mappings()[-1])


def test_virtual_memory_is_filled_and_compared_across_pages(vm, space):
    space.fill(0x1FF0, 0x20, 0xCC)
    assert space.read(0x1FEF, 0x22)[1:-1] == b"\xcc" * 0x20
    space.fill(0x1FFD, 7, b"abc")
    assert space.read(0x1FFC, 9) == b"\xccabcabca\xcc"
    assert space.compare(0x1FFD, b"abcabca") is None
    assert space.compare(0x1FFD, b"abcabXa") == 5
    assert space.compare(0x1FFD, b"abcXXXX", 3) is None
    assert space.compare(0x1FFD, 0x2000, 4) is None
    assert space.compare(0x1FFD, 0x2000, 5) == 4
    for wrong in (
        lambda: space.fill(0x1000, 8, b""),
        lambda: space.compare(0x1000, 0x2000),
        lambda: space.fill(0x1000, 8, 256),
    ):
        with pytest.raises(ValueError, match="byte"):
            wrong()


def test_nothing_is_filled_where_not_all_of_it_is_mapped(space):
    before = space.read(0x2FF8, 8)
    for ask in (lambda: space.fill(0x2FF8, 16, 1), lambda: space.compare(0x2FF8, 0x1000, 16)):
        with pytest.raises(bj.GuestMemoryError) as error:
            ask()
        assert error.value.address == 0x3000
    assert space.read(0x2FF8, 8) == before


def test_virtual_memory_has_the_verbs_of_memory_but_for_what_makes_regions():
    public = {name for name in dir(bj.Memory) if not name.startswith("_")}
    assert public - set(dir(bj.VirtualMemory)) == {"add", "copy", "load", "regions", "remove", "view"}
