"""Values in guest memory: strings, structures, ctypes, arrays; and arguments that are none."""

import ctypes
import struct

import numpy as np
import pytest

import belljar as bj


class Header(ctypes.LittleEndianStructure):
    """What a guest might keep: 16 bytes, with a bit field and an array."""

    _fields_ = (
        ("magic", ctypes.c_uint32),
        ("low", ctypes.c_uint16, 4),
        ("high", ctypes.c_uint16, 12),
        ("name", ctypes.c_char * 8),
    )


def test_a_c_string_ends_at_its_zero(vm):
    assert vm.memory.write_cstring(0x1FFC, b"belljar") == 8
    assert vm.memory.read_cstring(0x1FFC) == b"belljar"
    assert vm.memory.read_cstring(0x2003) == b""
    assert vm.memory.read_cstring(0x1FFC, 4) == b"bell"
    assert vm.memory[0x2003] == 0


def test_a_c_string_can_be_text(vm):
    vm.memory.write_cstring(0x1000, "Grüße")
    assert vm.memory.read_cstring(0x1000, encoding="utf-8") == "Grüße"
    assert vm.memory.read_cstring(0x1000, 3, "utf-8", "replace") == "Gr\ufffd"
    with pytest.raises(UnicodeDecodeError):
        vm.memory.read_cstring(0x1000, 3, "utf-8")
    vm.memory.write_cstring(0x1000, "é", encoding="latin-1")
    assert vm.memory.read_cstring(0x1000) == b"\xe9"


def test_a_c_string_at_the_end_of_memory_is_read_as_far_as_it_goes(vm):
    vm.memory.write(0xF_FFFC, b"end\0")
    assert vm.memory.read_cstring(0xF_FFFC) == b"end"
    vm.memory.write(0xF_FFFF, b"!")
    assert vm.memory.read_cstring(0xF_FFFC, 4) == b"end!"
    with pytest.raises(bj.GuestMemoryError, match="no memory at 0x100000"):
        vm.memory.read_cstring(0xF_FFFC)


def test_a_string_as_long_as_memory_is_no_trouble(vm):
    vm.memory.fill(0, 0x10_0000, ord("a"))
    assert vm.memory.read_cstring(0, 0x10_0000) == b"a" * 0x10_0000


@pytest.mark.parametrize(
    ("form", "values"),
    [("<QI8s", (2**63, 7, b"belljar\0")), (">hb", (-2, -1)), ("3H", (1, 2, 3)), ("<?dxc", (True, 0.5, b"c"))],
)
def test_structures_of_the_struct_module_come_back(vm, form, values):
    assert vm.memory.write_struct(0x1FFD, form, *values) == struct.calcsize(form)
    assert vm.memory.read_struct(0x1FFD, form) == values
    assert vm.memory.read(0x1FFD, struct.calcsize(form)) == struct.pack(form, *values)


def test_a_structure_that_cannot_be_changes_nothing(vm):
    for form, values in (("<Q", (1, 2)), ("<Z", (1,)), ("<B", (256,))):
        with pytest.raises(struct.error):
            vm.memory.write_struct(0x1000, form, *values)
    with pytest.raises(bj.GuestMemoryError):
        vm.memory.write_struct(0xF_FFFF, "<H", 1)
    assert vm.memory[0xF_FFFF] == vm.memory[0x1000] == 0


def test_ctypes_come_back_as_copies(vm):
    header = Header(0x1234_5678, 5, 0xABC, b"name")
    assert vm.memory.write_ctypes(0x1FFF, header) == ctypes.sizeof(Header)
    seen = vm.memory.read_ctypes(0x1FFF, Header)
    assert (seen.magic, seen.low, seen.high, seen.name) == (0x1234_5678, 5, 0xABC, b"name")
    seen.magic = 1
    assert vm.memory.read_u32(0x1FFF) == 0x1234_5678
    words = vm.memory.read_ctypes(0x1FFF, ctypes.c_uint16 * 2)
    assert list(words) == [0x5678, 0x1234]
    assert vm.memory.read_ctypes(0x1FFF, ctypes.c_uint8).value == 0x78


def test_what_is_not_ctypes_is_refused(vm):
    with pytest.raises(TypeError, match="a ctypes type or object, such as a Structure, not 5"):
        vm.memory.read_ctypes(0x1000, 5)
    with pytest.raises(TypeError, match="ctypes"):
        vm.memory.write_ctypes(0x1000, b"bytes")


def test_arrays_are_copies_that_can_be_changed_and_written_back(vm):
    vm.memory.write(0x1003, np.arange(100, dtype="<u4"))
    array = vm.memory.read_array(0x1003, 100, "<u4")
    assert (array.dtype, list(array)) == (np.dtype("<u4"), list(range(100)))
    array += 1
    assert vm.memory.read_u32(0x1003) == 0
    vm.memory.write(0x1003, array)
    assert vm.memory.read_u32(0x1003) == 1
    assert list(vm.memory.read_array(0x1003, 2)) == [1, 0]


def test_arrays_of_structures_and_of_nothing_come_back(vm):
    kind = np.dtype([("pid", "<u4"), ("name", "S4")])
    vm.memory.write(0x1000, np.array([(1, b"init"), (2, b"sh")], dtype=kind))
    assert vm.memory.read_array(0x1000, 2, kind)["name"].tolist() == [b"init", b"sh"]
    assert vm.memory.read_array(2**40, 0, "f8").size == 0


def test_an_array_that_is_not_there_or_has_no_end_is_refused(vm):
    with pytest.raises(bj.GuestMemoryError):
        vm.memory.read_array(0, 2**40, "u8")
    with pytest.raises(OverflowError, match="an array of more than"):
        vm.memory.read_array(0, 2**62, "u8")
    with pytest.raises(ValueError, match="OBJECT"):
        vm.memory.read_array(0, 1, object)


@pytest.mark.parametrize("address", [-1, 2**64, -(2**70)])
def test_an_address_that_cannot_be_is_named(vm, address):
    memory = vm.memory
    calls = [
        lambda: memory.read(address, 1),
        lambda: memory.write(address, b"x"),
        lambda: memory.read_u64(address),
        lambda: memory.write_i8(address, 0),
        lambda: memory[address],
        lambda: memory[address:8],
        lambda: memory.view(address),
        lambda: memory.read_struct(address, "<Q"),
        lambda: memory.fill(address, 1),
        lambda: memory.copy(0, address, 1),
        lambda: memory.search(b"x", address),
        lambda: memory.add(address, 0x1000),
        lambda: memory.remove(address),
    ]
    for call in calls:
        with pytest.raises(OverflowError, match=f"an address is an integer from 0 .*, not {address}"):
            call()


def test_a_size_or_an_address_of_another_kind_is_named(vm):
    with pytest.raises(OverflowError, match=r"a size is an integer from 0 .*, not -1"):
        vm.memory.read(0, -1)
    with pytest.raises(TypeError, match=r"an address is an integer .*, not str"):
        vm.memory.read("0x1000", 1)
    with pytest.raises(TypeError, match=r"an address is an integer .*, not float"):
        vm.memory.read_u8(1.0)
    assert vm.memory.read_u8(np.uint64(5)) == 0


@pytest.mark.parametrize(
    ("at", "size", "words"),
    [
        (0x10_0000, 1, "RAM ends at 0x100000"),
        (0xF_FFFF, 2, "RAM ends at 0x100000"),
        (0x1F_FFFF, 1, "ROM begins at 0x200000"),
        (2**40, 8, "ROM ends at 0x201000"),
    ],
)
def test_an_error_says_where_memory_is(vm, at, size, words):
    vm.memory.add(0x20_0000, 0x1000, rom=True)
    with pytest.raises(bj.GuestMemoryError, match=words):
        vm.memory.read(at, size)
