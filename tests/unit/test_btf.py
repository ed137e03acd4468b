"""bj.Btf on types that are made by hand. Nothing here needs a KVM."""

import pytest
from tests.unit.made_kernel import NEW, Types

import belljar as bj


@pytest.fixture
def btf():
    """Types of a made kernel."""
    return bj.Btf(Types(NEW).bytes())


def test_a_structure_is_a_mapping_from_names_to_members(btf):
    file = btf.struct("file")
    assert (file.kind, file.name, file.size, len(file)) == ("struct", "file", 48, 6)
    assert list(file) == ["f_path", "f_inode", "f_flags", "pad", "f_pos", "private_data"]
    assert (file["f_flags"].offset, file["f_flags"].size, file["f_flags"].type) == (24, 4, "u32")
    assert "f_flags" in file
    with pytest.raises(KeyError, match="no member 'f_nothing'"):
        file["f_nothing"]


def test_a_structure_prints_as_c_with_offsets(btf):
    assert repr(btf.struct("list_head")).splitlines() == [
        "struct list_head {  // 16 bytes",
        f"{'    u64 next;':<60}  // 0x0",
        f"{'    u64 prev;':<60}  // 0x8",
        "}",
    ]


def test_paths_lead_into_structures_and_arrays(btf):
    assert btf.offset("task_struct", "tasks.prev") == btf.offset("task_struct", "tasks") + 8
    assert btf.offset("task_struct", "comm[3]") == btf.offset("task_struct", "comm") + 3
    assert btf.size("task_struct", "comm") == 16
    assert btf.size("list_head") == 16
    assert btf.has("task_struct", "tasks.next")
    assert not btf.has("task_struct", "tasks.nothing")
    assert not btf.has("no_such_thing")


def test_a_bit_field_has_its_bits(btf):
    level = btf.member("printk_info", "level")
    assert (level.offset, level.bit_offset, level.bits) == (19, 8 * 19 + 5, 3)


def test_what_is_not_there_is_a_key_error_that_says_how_to_look(btf):
    with pytest.raises(KeyError, match=r"find\('\*part\*'\)"):
        btf.struct("nothing")
    with pytest.raises(KeyError, match=r"no function 'main' in these types; find\("):
        btf.function("main")
    assert btf.find("maple_*") == ["maple_arange_64", "maple_range_64", "maple_tree"]


@pytest.mark.parametrize("damage", [b"", b"\x9f\xeb", b"\x9f\xeb\x01\0" + b"\xff" * 20, b"\xeb\x9f\x01\0" + bytes(20)])
def test_what_is_no_btf_is_an_image_error(damage):
    with pytest.raises(bj.ImageError, match="BTF"):
        bj.Btf(damage)


def test_a_module_has_types_of_its_own_upon_the_kernels(btf):
    own = Types({"thing": [("a", "u32"), ("b", "u64")]})
    with pytest.raises(bj.ImageError):
        bj.Btf(own.bytes()[:-200], btf)
    assert len(bj.Btf(Types({}).bytes())) == 6
