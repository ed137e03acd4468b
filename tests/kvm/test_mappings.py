"""What an address space maps, as ranges: of the specimen's processes, and of tables made to be endless."""

import sys

import pytest

import belljar as bj
from belljar import guest

ROOT = 0x40000
P, W, U, NX = 1, 2, 4, 1 << 63


def test_neighbours_that_are_alike_are_one_range(vm, build):
    vm.load("hlt", mode="long")
    pages = {at: (0x90000 - at) | P | W for at in range(0x1000, 0x5000, 0x1000)}
    pages |= {0x5000: 0x50000 | P | NX, 0xFFFF_FFFF_FFFF_F000: 0x51000 | P | U}
    space = vm.virtual(build(vm, pages))
    found = space.mappings()
    assert isinstance(found, bj.Mappings)
    assert [(m.start, m.end) for m in found] == [
        (0x1000, 0x5000),
        (0x5000, 0x6000),
        (0xFFFF_FFFF_FFFF_F000, 1 << 64),
    ]
    first, second, third = found
    assert (first.gpa, first.contiguous, first.writable, first.user, first.executable) == (
        0x8F000,
        False,
        True,
        False,
        True,
    )
    assert (second.writable, second.executable, second.page_size, second.size) == (False, False, 0x1000, 0x1000)
    assert third.user
    assert (found.cut, found.size, found.at(0x4FFF), found.at(0x6000)) == (None, 0x6000, first, None)
    assert 0x4FFF in first
    assert 0x5000 not in first
    assert len(space.mappings(physical=True)) == 6
    assert [(m.start, m.end) for m in space.mappings(0x2000, 0x4000)] == [(0x2000, 0x4000)]
    assert list(space.mappings(0x2000, 0x2000)) == []
    assert found[1:][0] == second
    lines = repr(found).splitlines()
    assert len(lines) == 4
    assert "rwx-" in lines[1]
    assert lines[1].endswith("0x8f000 ...")
    assert repr(second) == "<0x5000..0x6000 r-- supervisor, 4 KiB pages at 0x50000>"


def test_every_page_of_a_process_is_listed_with_its_rights():
    with bj.specimen() as vm:
        vm.run(timeout=2, max_exits=200)
        for task in guest.tasks(vm):
            space = vm.virtual(task.cr3)
            for one in space.mappings():
                for at in {one.start, one.end - one.page_size}:
                    found = space.translate(at)
                    rights = (found.writable, found.user, found.executable, found.page_size)
                    assert rights == (one.writable, one.user, one.executable, one.page_size)
                assert not space.translate(one.end) or space.mappings().at(one.end) != one


def test_tables_come_as_data_frames(vm, build):
    polars, pandas = pytest.importorskip("polars"), pytest.importorskip("pandas")
    vm.load("hlt", mode="long")
    found = vm.virtual(build(vm, {0x1000: 0x61000 | P, 0xFFFF_FFFF_FFFF_F000: 0x51000 | P})).mappings()
    frame = found.to_polars()
    assert frame["start"].to_list() == [0x1000, 0xFFFF_FFFF_FFFF_F000]
    assert frame["end"].to_list() == [0x2000, None]
    assert frame.schema["start"] == polars.UInt64
    table = found.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert table["start"].tolist() == [0x1000, 0xFFFF_FFFF_FFFF_F000]
    assert table["writable"].dtype == bool
    assert vm.virtual(0x90000).mappings().to_polars().shape == (0, 9)
    assert vm.virtual(0x90000).mappings().to_pandas().shape == (0, 9)


def test_data_frames_ask_for_their_library(vm, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    for convert in (bj.Mappings().to_polars, bj.Mappings().to_pandas):
        with pytest.raises(ModuleNotFoundError):
            convert()


def test_a_table_that_points_at_itself_is_no_trap(vm):
    vm.load("hlt", mode="long")
    vm.memory.write(ROOT, (ROOT | P | W | U).to_bytes(8, "little") * 512)
    space = vm.virtual(ROOT)
    assert [(m.start, m.end) for m in space.mappings()] == [(0, 1 << 47), (0xFFFF_8000_0000_0000, 1 << 64)]
    assert space.translate(0x123456789ABC).gpa == ROOT | 0xABC
    with pytest.raises(ValueError, match="give a start and an end"):
        space.search(b"belljar", 0)


def test_endless_tables_are_cut_short_and_say_so(vm):
    vm.load("hlt", mode="long")
    entries = [ROOT | P | (W if n % 2 else U) for n in range(512)]
    vm.memory.write_struct(ROOT, "<512Q", *entries)
    found = vm.virtual(ROOT).mappings()
    assert "ranges" in found.cut
    assert repr(found).splitlines()[-1] == f"cut short: {found.cut}"
    assert found[:2].cut == found.cut


def test_mappings_are_asked_for_addresses_and_chosen(vm):
    vm.load("hlt", mode="long")
    found = vm.cpu.mappings()
    assert 0x1000 in found and found[0] in found and 1 << 46 not in found
    chosen = found.where(lambda one: one.writable)
    assert type(chosen) is type(found) and all(one.writable for one in chosen) and len(chosen) <= len(found)
