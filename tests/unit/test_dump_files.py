"""Dumps without a machine: made ones, files of other programs, damaged and hostile files."""

import struct
from types import SimpleNamespace

import pytest

import belljar as bj
from belljar import vmcoreinfo
from belljar.linux.known import Known
from belljar.linux.linux import Linux
from belljar.listing import names
from belljar.saved_cpu import SavedMsrs

PAGE = 0x1000
TEXT = (
    b"OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(init_top_pgt)=ffffffff82a10000\nNUMBER(phys_base)=4096\nKERNELOFFSET=0\n"
)


def note(name, kind, data):
    name += b"\0"
    pad = [b"\0" * (-len(part) % 4) for part in (name, data)]
    return struct.pack("<III", len(name), len(data), kind) + name + pad[0] + data + pad[1]


def core(loads, notes=b"", machine=62, kind=4):
    """Pack an ELF64 core file of (paddr, bytes, size in memory) and notes."""
    head = (
        b"\x7fELF\2\1\1"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, 0, 64, 0, 0, 64, 56, 1 + len(loads), 0, 0, 0)
    )
    at = 64 + 56 * (1 + len(loads))
    table, body = struct.pack("<IIQQQQQQ", 4, 0, at, 0, 0, len(notes), len(notes), 4), notes
    for paddr, data, size in loads:
        body += bytes(-(at + len(body)) % PAGE)
        table += struct.pack("<IIQQQQQQ", 1, 0, at + len(body), 0, paddr, len(data), size, 0)
        body += data
    return head + table + body


@pytest.fixture
def opened(tmp_path):
    """Write bytes into a file and open that as a dump."""

    def opens(data, *args, **kwargs):
        path = tmp_path / "guest.core"
        path.write_bytes(data)
        return bj.open_dump(path, *args, **kwargs)

    return opens


def test_a_made_dump_has_the_bytes_that_were_given_and_zeroes_beside_them():
    dump = bj.Dump.of({0x1800: b"hello", 0x2000: b"there", 0x9000: bytes(PAGE)})
    assert [(r.start, r.end) for r in dump.memory.regions] == [(0x1000, 0x3000), (0x9000, 0xA000)]
    assert dump.memory.read(0x17FF, 7) == b"\0hello\0" and dump.memory.read(0x2000, 5) == b"there"
    assert dump.cpus == []
    with pytest.raises(ValueError, match="no vCPU"):
        print(dump.cpu)


def test_saved_memory_cannot_be_changed():
    dump = bj.Dump.of({0: b"abc"})
    with pytest.raises(TypeError, match="cannot be changed"):
        dump.memory.write(0, b"x")
    with pytest.raises(TypeError, match="cannot be changed"):
        dump.memory[0] = 1


def test_what_no_memory_backs_is_told_with_its_address():
    with pytest.raises(bj.GuestMemoryError) as caught:
        bj.Dump.of({0x1000: b"x"}).memory.read(0x5000, 4)
    assert caught.value.address == 0x5000


def test_a_core_file_of_another_program_is_read(opened):
    registers = bytearray(336)
    struct.pack_into("<Q", registers, 112 + 16 * 8, 0xFFFF_FFFF_8100_0000)
    dump = opened(
        core([(0, b"a" * PAGE, PAGE), (0x10_0000, b"b" * 0x1800, 0x3000)], note(b"CORE", 1, bytes(registers)))
    )
    assert dump.memory.read(0x10_17FF, 2) == b"b\0" and dump.memory.read(0x10_2FFF, 1) == b"\0"
    assert dump.cpu.regs.rip == 0xFFFF_FFFF_8100_0000 and dump.cpu.regs["eip"] == 0x8100_0000
    assert dump.info.format == "ELF core" and dump.info.note("CORE") == bytes(registers)
    assert dump.info.segments[1][:2] == (0x10_0000, 0x3000)


def test_the_kernels_page_tables_are_known_from_vmcoreinfo(opened):
    dump = opened(core([(0, bytes(PAGE), PAGE)], note(b"CORE", 1, bytes(336)) + note(b"VMCOREINFO", 0, TEXT)))
    assert dump.cpu.cr3 == 0x2A1_1000 == dump.vmcoreinfo.page_table
    assert dump.cpu.cr0.pg and dump.cpu.efer.lma and not dump.cpu.cr4.la57
    assert dump.vmcoreinfo.release == "6.1.0" and dump.vmcoreinfo.slide == 0


def test_qemus_notes_give_control_registers_and_segments(opened):
    words = [*range(1, 19)]
    segments = b"".join(struct.pack("<IIIIQ", 0x10, 0xFFFFFFFF, 0xA09B00, 0, 0x1000 * n) for n in range(10))
    data = struct.pack("<II18Q", 1, 440, *words) + segments + struct.pack("<6Q", 0x80050033, 0, 7, 0x5000, 0x20, 0xABC)
    dump = opened(core([(0, bytes(PAGE), PAGE)], note(b"CORE", 1, bytes(336)) + note(b"QEMU", 0, data)))
    cpu = dump.cpu
    assert (cpu.regs.rax, cpu.regs.rip, cpu.cr3, cpu.cr2) == (1, 17, 0x5000, 7)
    assert cpu.cs.l and cpu.cs.selector == 0x10 and cpu.idt.base == 0x9000 and cpu.bits == 64
    assert len(dump.cpus) == 1


def test_memory_that_is_listed_twice_is_there_once(opened):
    dump = opened(core([(0, bytes(4 * PAGE), 4 * PAGE), (PAGE, b"z" * PAGE, PAGE)]))
    assert [(r.start, r.end) for r in dump.memory.regions] == [(0, 4 * PAGE)]
    assert dump.memory.read(PAGE, 1) == b"\0"


def test_parts_that_are_no_whole_pages_are_there_too(opened):
    dump = opened(core([(0x800, b"q" * 0x900, 0x900), (0x1100, b"r" * 0x200, 0x200)]))
    assert dump.memory.read(0x10FE, 4) == b"qqrr" and dump.memory.read(0x7FF, 2) == b"\0q"


def test_a_lime_file_is_read(opened):
    header = struct.pack("<IIQQQ", 0x4C694D45, 1, 0x1000, 0x1FFF, 0)
    assert opened(header + b"m" * PAGE).memory.read(0x1FFF, 1) == b"m"
    with pytest.raises(bj.ImageError, match=r"LiME: .*0x0 of the file"):
        opened(header + b"m" * 100)


def test_a_file_of_nothing_but_memory_is_opened_on_request(opened):
    with pytest.raises(bj.ImageError, match='format="raw"'):
        opened(b"memory" * 1000)
    dump = opened(b"memory" * 1000, "raw")
    assert dump.memory.read(6000 - 2, 4) == b"ry\0\0" and dump.memory.regions[-1].end == 0x2000 and dump.cpus == []


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: f[: 64 + 56], "program headers .* beyond the end"),
        (lambda f: f[:-1], "cut short"),
        (lambda f: f[:16] + struct.pack("<H", 2) + f[18:], "not a core file"),
        (lambda f: f[:18] + struct.pack("<H", 183) + f[20:], "machine 183"),
        (lambda f: f[:4] + b"\7" + f[5:], "class 7"),
        (lambda f: f[: 64 + 56 + 24] + struct.pack("<Q", 2**52) + f[64 + 56 + 32 :], "beyond 52 bits"),
        (lambda f: f[: 64 + 56 + 40] + struct.pack("<Q", 1) + f[64 + 56 + 48 :], "only 0x1 in memory"),
        (lambda f: f[: 64 + 32] + struct.pack("<Q", 2**40) + f[64 + 40 :], "more than .* of notes"),
        (lambda f: b"KDUMP   " + f[8:], "compressed"),
        (lambda f: f[:20], "ELF core"),
    ],
)
def test_a_damaged_file_is_refused_in_words(opened, damage, words):
    whole = core([(0, b"a" * PAGE, PAGE)], note(b"CORE", 1, bytes(336)))
    assert opened(whole).memory.read(0, 1) == b"a"
    with pytest.raises(bj.ImageError, match=words):
        opened(damage(whole))


def test_a_format_that_the_file_has_not_is_refused(opened):
    whole = core([(0, bytes(PAGE), PAGE)])
    assert opened(whole, "elf").info.format == "ELF core"
    with pytest.raises(bj.ImageError, match="ELF core, not lime"):
        opened(whole, "lime")
    with pytest.raises(ValueError, match="vmss"):
        opened(whole, "vmss")
    with pytest.raises(FileNotFoundError):
        bj.open_dump("/nowhere/at.all")


def test_a_dump_is_written_again_and_comes_back_the_same(opened, tmp_path):
    first = opened(core([(0, b"a" * PAGE, PAGE), (0x40_0000, b"c" * PAGE, 0x100_0000)], note(b"CORE", 1, bytes(336))))
    first.symbols = {"here": 0x10, "there": 0x20}
    for written in ("elf", "raw"):
        first.dump(tmp_path / "again", format=written)
        again = bj.open_dump(tmp_path / "again")
        assert [(r.start, r.end) for r in again.memory.regions] == [(0, PAGE), (0x40_0000, 0x140_0000)]
        assert again.memory.compare(0x40_0000, first.memory.read(0x40_0000, 0x100_0000)) is None
        assert [c.state() for c in again.cpus] == [c.state() for c in first.cpus]
        assert again.symbols.items() == [("here", 0x10), ("there", 0x20)]
        assert (tmp_path / "again").stat().st_blocks * 512 < 0x10_0000, "zeroes are holes"


def test_damaged_registers_beside_a_raw_file_are_refused(opened, tmp_path):
    opened(core([(0, bytes(PAGE), PAGE)])).dump(tmp_path / "raw", format="raw")
    (tmp_path / "raw.json").write_text('{"format": "belljar raw", "regions": 7}')
    with pytest.raises(bj.ImageError, match="damaged"):
        bj.open_dump(tmp_path / "raw")


def test_a_full_disk_is_an_oserror_and_leaves_nothing_behind(tmp_path):
    dump = bj.Dump.of({0: b"x"})
    with pytest.raises(OSError, match="No space left") as caught:
        dump.dump("/dev/full")
    assert caught.value.filename == "/dev/full"
    with pytest.raises(FileNotFoundError) as caught:
        dump.dump(tmp_path / "no" / "folder")
    assert caught.value.filename == str(tmp_path / "no" / "folder")
    assert list(tmp_path.iterdir()) == []


def test_an_older_dump_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "guest.core"
    bj.Dump.of({0: b"old"}).dump(path)
    old = bj.open_dump(path)
    bj.Dump.of({0: b"new"}).dump(path)
    assert (old.memory.read(0, 3), bj.open_dump(path).memory.read(0, 3)) == (b"old", b"new")


def test_vmcoreinfo_is_found_in_memory_and_a_lie_about_its_length_is_not():
    whole = note(b"VMCOREINFO", 0, TEXT)
    found = vmcoreinfo.find(bj.Dump.of({0x5000: whole}).memory)
    assert found.address == 0x5000 and found.raw == TEXT.rstrip(b"\0")
    assert found.symbol("init_top_pgt") == 0xFFFF_FFFF_82A1_0000 and found.number("phys_base") == 4096
    lie = struct.pack("<III", 11, 1 << 15, 0) + whole[12:]
    assert vmcoreinfo.find(bj.Dump.of({0x5000: lie}).memory) is None
    assert vmcoreinfo.find(bj.Dump.of({0: b"VMCOREINFO\0\0OSRELEASE=" + bytes(99)}).memory) is None
    assert bj.VmCoreInfo(b"SYMBOL(x)=zz\nno line\n\xff=1").symbol("x") is None


def test_registers_of_a_dump_cannot_be_changed(opened):
    cpu = opened(core([(0, bytes(PAGE), PAGE)], note(b"CORE", 1, bytes(336)))).cpu
    for change in (
        lambda: setattr(cpu.regs, "rax", 1),
        lambda: setattr(cpu, "cr3", 1),
        lambda: setattr(cpu, "cs", 1),
        lambda: setattr(cpu, "regs", 1),
    ):
        with pytest.raises(AttributeError, match="they are what they were"):
            change()
    assert len(dir(cpu)) == len(set(dir(cpu)))


def test_a_dump_without_vcpus_says_what_its_virtual_memory_needs():
    with pytest.raises(ValueError, match=r"open_dump\(path, cpus=\[state\]\)"):
        bj.Dump.of({0x1000: b"x"}).virtual(0x1000)


def test_listings_name_what_the_kernel_knows_where_no_other_symbols_are():
    dump = bj.Dump.of({0x1000: b"x"})
    kernel = SimpleNamespace(symbols={"do_exit": 0x1000}, banner="Linux version 6.1.0")
    assert names(dump, check=False) is dump.symbols
    Linux._known_of[dump] = Known(kernel)
    assert names(dump, check=False) is kernel.symbols
    dump.symbols = {"own": 0x1000}
    assert names(dump, check=False) is dump.symbols


def test_an_address_space_of_a_dump_is_made_once_and_anew_for_other_names(opened):
    dump = opened(core([(0, bytes(PAGE), PAGE)], note(b"CORE", 1, bytes(336)) + note(b"VMCOREINFO", 0, TEXT)))
    first = dump.cpu.virtual
    assert first is dump.virtual() is dump.cpu.virtual and dump.virtual(0x1000) is not first
    assert (first.cr3, dump.virtual(0x1000).cr3) == (dump.cpu.cr3, 0x1000)
    dump.symbols = {"own": 0x1000}
    assert dump.virtual() is not first and dump.virtual() is dump.virtual()


def test_what_only_a_vm_has_is_no_part_of_a_dump_and_says_why():
    dump = bj.Dump.of({0x1000: b"x"})
    with pytest.raises(AttributeError, match="a dump has no breakpoint: it does not run"):
        dump.breakpoint(0x1000)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        print(dump.nonsense)


def test_msrs_of_a_dump_are_found_by_name_and_number():
    msrs = SavedMsrs({"LSTAR": 5, "0x123": 6})
    assert msrs["LSTAR"] == msrs["lstar"] == msrs[0xC000_0082] == 5 and msrs[0x123] == 6
    with pytest.raises(KeyError, match="did you mean LSTAR"):
        print(msrs["LSTARR"])
    with pytest.raises(KeyError, match="0x999"):
        print(msrs[0x999])
