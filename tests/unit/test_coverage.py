"""Coverage as data: blocks, files, symbols. No guest runs."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import belljar as bj

STEP = [("vcpu", "u8"), ("source", "u8"), ("size", "u8")]
BRANCH = [*STEP, ("address", "u8")]


def test_instructions_one_after_the_other_are_a_block():
    coverage = bj.Coverage()
    steps = [(0, 0x10, 2), (0, 0x12, 1), (0, 0x10, 2), (0, 0x12, 1), (0, 0x20, 4)]
    coverage.add_steps(np.array(steps, STEP))
    assert coverage.blocks.tolist() == [(0x10, 3, 2), (0x20, 4, 1)]
    assert coverage.addresses.tolist() == [0x10, 0x12, 0x20] and coverage.ranges == [(0x10, 0x13), (0x20, 0x24)]
    assert 0x12 in coverage and 0x13 not in coverage and -1 not in coverage and 1 << 70 not in coverage


def test_vcpus_do_not_cut_each_others_blocks():
    coverage = bj.Coverage()
    coverage.add_steps(np.array([(0, 0x10, 2), (1, 0x50, 1), (0, 0x12, 2), (1, 0x51, 1)], STEP))
    assert coverage.blocks.tolist() == [(0x10, 4, 1), (0x50, 2, 1)]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 40))
def test_it_does_not_matter_where_records_are_cut(places, at):
    steps = np.array([(0, 0x100 + 2 * place, 2) for place in places], STEP)
    whole, parts = bj.Coverage(), bj.Coverage()
    whole.add_steps(steps)
    for part in (steps[:at], steps[at:]):
        parts.add_steps(part)
    assert whole.blocks.tolist() == parts.blocks.tolist() and whole == parts


def test_a_block_lies_between_two_branches():
    coverage = bj.Coverage()
    branches = np.array([(0, 0x20, 2, 0x40), (0, 0x48, 2, 0x10), (0, 0x20, 2, 0x40)], BRANCH)
    coverage.add_branches(branches[:2])
    coverage.add_branches(branches[2:])
    assert coverage.blocks.tolist() == [(0x10, 0x12, 1), (0x20, 2, 1), (0x40, 10, 1)]


def test_sets_of_blocks_are_joined_and_compared():
    one, two = bj.Coverage([(0x10, 4), (0x20, 4)]), bj.Coverage([(0x20, 4), (0x30, 4)])
    assert (one | two).blocks["count"].tolist() == [1, 2, 1]
    assert (one - two) == bj.Coverage([(0x10, 4)]) and (one & two) == bj.Coverage([(0x20, 4)])
    assert one and not bj.Coverage() and len(one | two) == 3
    assert (one - two).addresses.tolist() == [0x10]


def test_what_is_saved_is_what_is_opened(tmp_path):
    kernel = bj.Module("vmlinux", 0xFFFF_FFFF_8100_0000, 0xFFFF_FFFF_8200_0000)
    coverage = bj.Coverage([(kernel.start + 0x100, 5), (kernel.start + 0x200, 70_000), (0x1000, 3)])
    coverage.save(tmp_path / "both")
    assert bj.Coverage.open(tmp_path / "both").ranges == coverage.ranges
    coverage.save(tmp_path / "one", [kernel])
    assert (
        (tmp_path / "one")
        .read_bytes()
        .startswith(
            b"DRCOV VERSION: 2\nDRCOV FLAVOR: drcov\nModule Table: version 2, count 1\nColumns: id, base, end, entry, path\n"
        )
    )
    assert bj.Coverage.open(tmp_path / "one").ranges == coverage.ranges[1:]


def test_areas_far_apart_are_modules_of_their_own():
    modules = bj.Coverage([(0x1010, 4), (0x5000, 4), (0xFFFF_8000_0000_0000, 4)]).modules()
    assert [(m.name, m.start, m.end) for m in modules] == [
        ("guest-1000", 0x1000, 0x6000),
        ("guest-ffff800000000000", 0xFFFF_8000_0000_0000, 0xFFFF_8000_0000_1000),
    ]


@pytest.mark.parametrize(
    "table",
    [
        b"Module Table: 1\n 0, 4096, /bin/a, b\n",
        b"Module Table: version 3, count 1\nColumns: id, containing_id, start, end, entry, path\n"
        b" 0, 0, 0x0, 0x1000, 0x0, a\n",
        b"Module Table: version 2, count 1\nColumns: id, base, end, entry, checksum, timestamp, path\n"
        b" 0, 0x0, 0x1000, 0x0, 0x1, 0x2, C:\\a.exe\n",
    ],
)
@pytest.mark.parametrize(
    "blocks",
    [
        b"BB Table: 1 bbs\n\x10\0\0\0\x04\0\0\0",
        b"BB Table: 1 bbs\nmodule id, start, size:\nmodule[  0]: 0x00000010,   4\n",
    ],
)
def test_files_of_other_tools_are_read(tmp_path, table, blocks):
    path = tmp_path / "other"
    path.write_bytes(b"DRCOV VERSION: 2\nDRCOV FLAVOR: drcov-64\n" + table + blocks)
    assert bj.Coverage.open(path).ranges == [(0x10, 0x14)]


GOOD = (
    b"DRCOV VERSION: 2\nDRCOV FLAVOR: drcov\nModule Table: version 2, count 1\nColumns: id, base, end, entry, path\n"
    b" 0, 0x0, 0x1000, 0x0, a\nBB Table: 1 bbs\n\x10\0\0\0\x04\0\0\0"
)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fELF",
        GOOD[:-1],
        GOOD.replace(b"VERSION: 2", b"VERSION: 9"),
        GOOD.replace(b"count 1", b"count 99999999999"),
        GOOD.replace(b"count 1", b"count 2"),
        GOOD.replace(b"0x1000", b"zebra"),
        GOOD.replace(b"1 bbs", b"4000000000 bbs"),
        GOOD.replace(b"0x1000", b"0x0"),
        GOOD[:-2] + b"\x07\0",
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, data):
    path = tmp_path / "bad"
    path.write_bytes(data)
    with pytest.raises(bj.ImageError, match="drcov"):
        bj.Coverage.open(path)


@given(st.binary(max_size=60), st.integers(0, len(GOOD)))
def test_no_damage_to_a_file_does_more_than_refuse_it(tmp_path_factory, noise, at):
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(GOOD[:at] + noise + GOOD[at + len(noise) :])
    with contextlib.suppress(bj.ImageError):
        bj.Coverage.open(path)


def test_symbols_are_counted_by_the_blocks_that_begin_in_them():
    coverage = bj.Coverage([(0x1000, 4), (0x1004, 4), (0x1004, 4), (0x2000, 1), (0x10, 4)])
    rows = coverage.by_symbol({"start": 0x1000, "other": 0x2000, "never": 0x3000})
    assert [(row.name, row.hits, row.blocks, row.covered) for row in rows] == [("start", 3, 2, 8), ("other", 1, 1, 1)]
    assert bj.Coverage().by_symbol({"start": 0}) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [(("a", 2, 1), "range"), (("a", 0, 1 << 33), "4 GiB"), (("a, b", 0, 1), "comma"), (("", 0, 1), "one line")],
)
def test_a_module_that_a_file_cannot_hold_is_refused(module, text):
    with pytest.raises(ValueError, match=text):
        bj.Module(*module)
