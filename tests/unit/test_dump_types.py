"""Kernel types out of BTF for drgn and Volatility, from a blob made by hand; damaged and hostile blobs."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

import belljar as bj
from belljar import btf_types
from belljar.btf_types import Types
from belljar.isf import Table
from belljar.kallsyms import markers
from belljar.kernel_variables import VARIABLES


class Blob:
    """A BTF blob in the making."""

    def __init__(self):
        self.types, self.strings, self.count = b"", b"\0", 0

    def text(self, name):
        if not name:
            return 0
        at = len(self.strings)
        self.strings += name.encode() + b"\0"
        return at

    def add(self, kind, name="", value=0, more=b"", *, count=0, flag=0):
        self.types += struct.pack("<III", self.text(name), flag << 31 | kind << 24 | count, value) + more
        self.count += 1
        return self.count

    def bytes(self):
        parts = (0, len(self.types), len(self.types), len(self.strings))
        return struct.pack("<HBBI4I", 0xEB9F, 1, 0, 24, *parts) + self.types + self.strings


def sample():
    """Make a blob of: int, char, char[16], struct task_struct, pointers to it, an enumeration, a function."""
    blob = Blob()
    number = blob.add(btf_types.INT, "int", 4, struct.pack("<I", 1 << 24 | 32))
    char = blob.add(btf_types.INT, "char", 1, struct.pack("<I", 1 << 24 | 8))
    text = blob.add(btf_types.ARRAY, more=struct.pack("<III", char, number, 16))
    pointer = blob.count + 2
    members = [("pid", number, 0), ("flag", number, 3 << 24 | 32), ("comm", text, 64), ("next", pointer, 192)]
    body = b"".join(struct.pack("<III", blob.text(name), kind, at) for name, kind, at in members)
    task = blob.add(btf_types.STRUCT, "task_struct", 32, body, count=len(members), flag=1)
    blob.add(btf_types.PTR, value=task)
    values = b"".join(struct.pack("<II", blob.text(n), v & 0xFFFFFFFF) for n, v in [("GOOD", 1), ("BAD", -1)])
    blob.add(btf_types.ENUM, "verdict", 4, values, count=2, flag=1)
    proto = blob.add(btf_types.FUNC_PROTO, value=number, more=struct.pack("<II", blob.text("who"), pointer), count=1)
    blob.add(btf_types.FUNC, "judge", proto, count=1)
    const = blob.add(btf_types.CONST, value=task)
    blob.add(btf_types.TYPEDEF, "task_t", const)
    return blob


def task(pid, comm, following):
    return struct.pack("<iI16sQ", pid, 5, comm, following)


@pytest.fixture
def prog():
    """Make a drgn.Program over two tasks, with the finder of types."""
    drgn = pytest.importorskip("drgn")
    from belljar.drgn_types import Finder

    dump = bj.Dump.of({0x1000: task(7, b"seven", 0x2000), 0x2000: task(8, b"eight", 0x1000)})
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    prog.add_memory_segment(0, 0x3000, lambda at, count, *_: dump.memory.read(at, count), physical=False)
    places = {"init_task": 0x1000, "judge": 0x500}
    Finder(prog, Types(sample().bytes()), places.get).register()
    return prog


def test_drgn_reads_structures_by_the_types_of_the_blob(prog):
    first = prog["init_task"]
    assert (first.pid.value_(), first.comm.string_(), first.flag.value_()) == (
        7,
        b"seven",
        -3,
    )  # 0b101 in three signed bits
    assert first.next.comm.string_() == b"eight" and first.next.next.pid == 7
    assert prog.type("task_t").type.size == 32 and prog.type("struct task_struct").members[1].bit_field_size == 3
    assert prog["GOOD"].value_() == 1 and prog["BAD"].value_() == -1
    assert prog["judge"].address_ == 0x500 and str(prog["judge"].type_) == "int (struct task_struct *who)"
    with pytest.raises(LookupError):
        prog["no_such_thing"]
    with pytest.raises(LookupError):
        prog.type("struct no_such_thing")


def test_types_that_are_made_of_themselves_are_an_error_and_no_hang():
    drgn = pytest.importorskip("drgn")
    from belljar.drgn_types import Finder

    blob = Blob()
    blob.add(btf_types.TYPEDEF, "ring", 2)
    blob.add(btf_types.CONST, value=1)
    finder = Finder(drgn.Program(drgn.Platform(drgn.Architecture.X86_64)), Types(blob.bytes()), lambda _: None)
    with pytest.raises(bj.ImageError, match="made of itself"):
        finder.make(1)
    with pytest.raises(bj.ImageError, match="refers to itself"):
        finder.types.bare(1)
    with pytest.raises(bj.ImageError, match="made of itself"):
        Table(finder.types, [], b"").type(1)


def test_a_symbol_table_for_volatility_has_types_and_symbols():
    symbols = [("init_task", 0xFFFF_FFFF_8100_0000), ("linux_banner", 0xFFFF_FFFF_8200_0000)]
    table = json.loads(Table(Types(sample().bytes()), symbols, b"Linux version 6\n\0").to_bytes())
    fields = table["user_types"]["task_struct"]["fields"]
    assert fields["comm"]["offset"] == 8 and fields["comm"]["type"]["count"] == 16
    assert fields["flag"]["type"]["bit_length"] == 3 and fields["flag"]["offset"] == 4
    assert table["symbols"]["init_task"]["type"] == {"kind": "struct", "name": "task_struct"}
    assert table["enums"]["verdict"]["constants"] == {"GOOD": 1, "BAD": -1}


def test_a_variable_has_its_type_where_that_fits_between_its_symbol_and_the_next(monkeypatch):
    known = {"tasks": "struct task_struct []", "one": "struct task_struct", "large": "struct task_struct [4]"}
    known |= {"both": "struct {first, second}", "other": "struct {first}", "gone": "struct gone", "at": "void *"}
    for name, words in known.items():
        monkeypatch.setitem(VARIABLES, name, words)
    blob = sample()
    body = struct.pack("<6I", blob.text("first"), 1, 0, blob.text("second"), 1, 32)
    blob.add(btf_types.STRUCT, "", 8, body, count=2)
    places = {"_stext": 0x1000, "code": 0x1800, "_etext": 0x2000, "tasks": 0x3000, "one": 0x3070, "large": 0x3090}
    places |= {"both": 0x3090 + 3 * 32, "other": 0x4000, "gone": 0x5000, "at": 0x6000, "unknown": 0x7000}
    found = Table(Types(blob.bytes()), places.items(), b"\0").document()["symbols"]
    types = {name: found[name].get("type") for name in places}
    task = {"kind": "struct", "name": "task_struct"}
    assert types["tasks"] == {"kind": "array", "count": 3, "subtype": task} and types["one"] == task
    assert types["both"]["kind"] == "struct" and types["at"]["kind"] == "pointer"
    assert types["code"] == {"kind": "base", "name": "void"}
    assert [types[name] for name in ("large", "other", "gone", "unknown")] == [None] * 4


def test_the_markers_of_kallsyms_are_behind_its_names_or_nowhere():
    names = b"".join(bytes([1 + n % 100]) + bytes(1 + n % 100) for n in range(599)) + b"\x90\x01" + bytes(0x90)
    places, at = [], 0
    for n in range(599):
        places += [at] if n % 256 == 0 else []
        at += 2 + n % 100
    pad = bytes(-len(names) % 8)
    content = names + pad + struct.pack(f"<{len(places)}I", *places) + bytes(64)

    def found(content, count=600):
        memory = bj.Dump.of({0x1000: struct.pack("<Q", count) + content}).memory
        told = {"names": 0x1008, "num_syms": 0x1000, "token_table": 0x1008 + len(content)}
        return markers(memory, {f"kallsyms_{name}": at for name, at in told.items()})

    assert found(content) == 0x1008 + len(names) + len(pad)
    assert found(content, 700) is None and found(content, 1 << 31) is None and found(content[:2000]) is None
    assert found(bytes(len(content))) is None and markers(None, {}) is None


@pytest.mark.filterwarnings("ignore")
def test_a_symbol_table_is_what_volatilitys_schema_asks_for():
    schemas = pytest.importorskip("volatility3.schemas")
    pytest.importorskip("jsonschema")
    symbols = [("init_task", 0xFFFF_FFFF_8100_0000), ("linux_banner", 0xFFFF_FFFF_8200_0000)]
    table = json.loads(Table(Types(sample().bytes()), symbols, b"Linux version 6\n\0").to_bytes())
    assert schemas.validate(table, use_cache=False)


@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_a_blob_that_is_cut_short_is_refused(cut):
    whole = sample().bytes()
    assert len(Types(whole)) == 11
    with pytest.raises(bj.ImageError, match="BTF"):
        Types(whole[:cut])


@given(st.binary(max_size=12), st.integers(0, 400), st.integers(1, 11))
def test_damaged_blobs_give_an_image_error_or_types(noise, at, number):
    whole = bytearray(sample().bytes())
    at %= len(whole)
    whole[at : at + len(noise)] = noise
    try:
        types = Types(bytes(whole))
        Table(types, [("init_task", 1)], b"").document()
        types.bare(min(number, len(types) - 1))
    except bj.ImageError:
        pass


def test_drgn_reads_pages_once_where_it_is_told_to_and_memory_as_it_is_elsewhere():
    drgn = pytest.importorskip("drgn")
    from belljar.drgn_program import Reader

    class Memory:
        def __init__(self):
            self.content, self.reads = bytes(range(256)) * 48, 0

        def read(self, at, size):
            self.reads += 1
            if at + size > len(self.content):
                raise bj.GuestMemoryError("nothing is there")
            return self.content[at : at + size]

    memory = Memory()
    reader = Reader(memory)
    for pages, reads in ((None, 40), ({}, 1), (None, 40)):
        memory.reads, reader.pages = 0, pages
        assert [reader(0x1010 + n, 3, 0, True) for n in range(40)] == [
            memory.content[16 + n : 19 + n] for n in range(40)
        ]
        assert memory.reads == reads
    reader.pages = {}
    assert reader(0xFFE, 4, 0, True) == b"\xfe\xff\x00\x01"
    with pytest.raises(drgn.FaultError):
        reader(0x5000, 1, 0, True)
