"""A Linux guest's symbols as an ELF file: what is read back, and what a gdb makes of it."""

import fnmatch
import shutil
import struct
import subprocess

import pytest

import belljar as bj
from belljar.linux import symbol_file, unwinding

BASE = 0xFFFF_FFFF_A400_0000


class Table(dict):
    """Symbols as KernelSymbols has them, with kinds."""

    def __init__(self, rows):
        super().__init__({name: at for name, (at, _) in rows.items()})
        self.kinds = {name: kind for name, (_, kind) in rows.items()}

    def kind(self, name):
        return self.kinds[name]

    def find(self, pattern):
        return [(name, at) for name, at in self.items() if fnmatch.fnmatch(name, pattern)]


@pytest.fixture
def table():
    return Table(
        {
            "_text": (BASE, "T"),
            "schedule": (BASE + 0x100, "T"),
            "helper": (BASE + 0x140, "t"),
            "_etext": (BASE + 0x1000, "T"),
            "jiffies": (BASE + 0x2000, "D"),
            "_sinittext": (BASE + 0x3000, "T"),
            "start_kernel": (BASE + 0x3010, "T"),
            "_einittext": (BASE + 0x4000, "T"),
            "_end": (BASE + 0x5000, "B"),
            "current_task": (0x1234, "A"),
        }
    )


def test_every_symbol_is_read_back_with_its_address_and_size(table, tmp_path):
    symbols = bj.Symbols(str(symbol_file.write(tmp_path / "kernel.elf", table, BASE)))
    assert dict(symbols.items()) == dict(table)
    assert symbols.size("schedule") == 0x40
    assert symbols.at(BASE + 0x3014) == "start_kernel+0x4"


def test_code_and_data_are_told_apart_by_the_linkers_own_borders(table):
    found = [(part.name, part.start - BASE, part.end - BASE) for part in symbol_file.parts(table, BASE)]
    assert found == [
        (".text", 0, 0x1000),
        (".data", 0x1000, 0x3000),
        (".init.text", 0x3000, 0x4000),
        (".init.data", 0x4000, 0x5000),
    ]
    del table["_sinittext"], table["_end"]
    assert symbol_file.parts(table, BASE)[-1].end == BASE + 0x4001


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed (apt install gdb)")
def test_gdb_knows_functions_and_variables_by_it(table, tmp_path):
    path = symbol_file.write(tmp_path / "kernel.elf", table, BASE)
    asked = ["info symbol 0xffffffffa4000104", "p &jiffies", "p start_kernel", "p helper"]
    words = [word for line in asked for word in ("-ex", line)]
    said = subprocess.run(["gdb", "-nx", "-batch", *words, path], capture_output=True, text=True, check=True).stdout
    assert "schedule + 4 in section .text" in said
    assert "<data variable, no debug info> *) 0xffffffffa4002000 <jiffies>" in said
    assert "{<text variable, no debug info>} 0xffffffffa4003010 <start_kernel>" in said
    assert "<helper>" in said


OLD = {"sp_reg": (0, 4), "bp_reg": (4, 4), "type": (8, 2), "end": (10, 1)}
NEW = {"sp_reg": (0, 4), "bp_reg": (4, 4), "type": (8, 3), "signal": (11, 1)}


def test_what_a_kernel_knows_of_a_call_is_said_in_dwarfs_words():
    kind, said = unwinding._row(16, -16 % 65536, 5 | 1 << 4, OLD)
    assert kind == "call"
    assert said == bytes([0x12, 7, 0x7E, 0x11, 16, 1, 0x11, 6, 2])  # CFA = RSP + 16; RIP at CFA - 8; RBP at CFA - 16
    assert unwinding._row(16, -16 % 65536, 5 | 1 << 4 | 2 << 8, NEW) == (kind, said)


def test_interrupts_ends_and_unknown_code_are_told_apart():
    assert unwinding._row(0, 0, 5 | 1 << 8, OLD)[0] == unwinding._row(0, 0, 5 | 3 << 8, NEW)[0] == "regs"
    assert unwinding._row(0, 0, 5 | 2 << 8, OLD)[0] == unwinding._row(0, 0, 5 | 4 << 8, NEW)[0] == "partial"
    assert unwinding._row(0, 0, 1 << 10, OLD)[0] == unwinding._row(0, 0, 1 << 8, NEW)[0] == "end"
    assert unwinding._row(0, 0, 0, OLD) is unwinding._row(0, 0, 0, NEW) is None


def test_descriptions_leave_out_the_code_of_which_nothing_is_known():
    call = ("call", b"\x0c\x07\x08")
    entries = list(unwinding._frames([0x1000, 0x1010, 0x1020, 0x1030], [call, None, call, None]))
    ranges = [struct.unpack_from("<IIQQ", entry)[2:] for entry in entries[2:]]
    assert ranges == [(0x1000, 0x10), (0x1020, 0x10)]
    assert all(len(entry) % 8 == 0 and struct.unpack_from("<I", entry)[0] == len(entry) - 4 for entry in entries)
