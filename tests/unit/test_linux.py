"""vm.linux on a kernel's memory that is made by hand, sound and damaged. Nothing here needs a KVM."""

import contextlib
import dataclasses
import random
import struct
import time
from types import SimpleNamespace

import pytest
from tests.unit.made_kernel import BASE, DIRECT, NEW, OLD, SIZE, Flat, Made

import belljar as bj
from belljar.linux.log import Message


@pytest.fixture(params=[NEW, OLD], ids=["new", "old"])
def made(request):
    """A kernel with the members and trees of today, and one with those of years ago."""
    return Made(request.param)


def test_tasks_have_names_states_page_tables_and_namespaces(made):
    found = made.linux.tasks()
    assert [(t.pid, t.name, t.state, t.ppid) for t in found] == [(1, "sh", "R", 0), (2, "[kthreadd]", "I", 0)]
    assert (found[0].cr3, found[0].uid, found[0].gid, found[0].on_cpu) == (0x5000, 1000, 100, 3)
    assert (found[1].cr3, found[1].kthread, found[1].state_word) == (None, True, "idle")
    assert found[0].namespaces == {"mnt": 4026531841}
    assert found[0].start_time == 1.5
    assert found.partial is None


def test_threads_are_listed_on_request(made):
    assert [t.pid for t in made.linux.tasks(threads=True)] == [1, 9, 2]
    assert [t.pid for t in made.linux.task(9).threads] == [1, 9]
    assert made.linux.task(9).tgid == 1


def test_a_task_that_is_not_there_is_an_error_that_says_where_to_look(made):
    with pytest.raises(bj.KernelError, match=r"no task has the number 77; linux\.tasks"):
        made.linux.task(77)
    with pytest.raises(TypeError, match=r"named by its number, not 'sh': .*task\.comm == 'sh'"):
        made.linux.task("sh")


def test_a_processor_that_is_not_there_is_an_error_that_says_how_many_there_are(made):
    with pytest.raises(ValueError, match=r"there are \d+ processors, from 0 on; 77 is none"):
        made.linux.current(77)
    with pytest.raises(ValueError, match="78 is none"):
        made.linux.current(SimpleNamespace(id=78))  # as a vCPU has


def test_arguments_and_environment_come_from_the_process_itself(made):
    assert made.linux.cmdline(1) == ["sh", "-c", "exit"]
    assert made.linux.environ(1) == {"A": "1", "B": "x=y"}
    assert made.linux.cmdline(2) == []
    assert made.linux.task(1).memory.read(0x7000_0000, 2) == b"sh"


def test_a_thread_of_the_kernel_has_no_memory_of_its_own(made):
    with pytest.raises(bj.KernelError, match="no memory of its own"):
        _ = made.linux.task(2).memory


def test_maps_come_from_the_tree_or_the_list_with_names_of_files_heap_and_stack(made):
    found = made.linux.maps(1)
    assert [(m.start, m.end, m.perms, m.offset, m.path) for m in found] == [
        (0x400000, 0x401000, "r-xp", 0x3000, "/busybox"),
        (0x600000, 0x603000, "rw-p", 0, "[heap]"),
        (0x7FFF000000, 0x7FFF001000, "rw-p", 0, "[stack]"),
    ]
    assert found.at(0x600800) == found[1]
    assert found[0].inode == 8
    assert made.linux.maps(2) == []


def test_open_files_have_kinds_paths_and_what_stands_for_one(made):
    assert [(f.fd, f.path, f.kind, f.access, f.inode) for f in made.linux.files(1)] == [
        (0, "/tty", "character", "rw", 5),
        (2, "/gone (deleted)", "regular", "r", 6),
        (3, "pipe:[77]", "pipe", "w", 77),
    ]


def test_mounts_are_named_from_the_root_of_all(made):
    assert [(m.source, m.target, m.fstype, m.options) for m in made.linux.mounts()] == [
        ("none", "/", "rootfs", "rw"),
        ("me", "/srv", "tmpfs", "rw,nosuid,relatime"),
    ]


def test_modules_know_who_uses_them(made):
    first, second = made.linux.modules()
    assert (first.name, first.references, first.used_by, first.version) == ("virtio", 0, (), "1.0")
    assert (second.name, second.references, second.used_by) == ("virtio_ring", 1, ("virtio",))
    assert (second.size, second.base, second.state) == (0x3000, 0xFFFFFFFFC0000000, "Live")


def test_the_log_has_times_and_levels(made):
    assert repr(made.linux.dmesg()) == "[    0.000000] first line\n[    1.000000] second line"
    assert [m.level for m in made.linux.dmesg()] == ["info", "info"]


def test_the_time_of_a_message_is_cut_and_not_rounded_as_dmesg_does():
    assert str(Message(0, 3_725_064_999 / 1e9, "info", 0, "x")) == "[    3.725064] x"
    assert str(Message(0, 123_456_789_000_001_999 / 1e9, "info", 0, "x")).startswith("[123456789.00000")


def test_without_btf_version_and_symbols_work_and_the_error_says_what_to_do():
    linux = Made(has_btf=False).linux
    assert linux.version.release == "6.1.0-made"
    assert linux.version.numbers == (6, 1, 0)
    assert linux.symbols["init_task"] > BASE
    with pytest.raises(bj.KernelError, match=r"CONFIG_DEBUG_INFO_BTF.*vm\.drgn"):
        linux.tasks()


def test_a_table_prints_shows_and_goes_to_dataframes(made, seen):
    tasks = made.linux.tasks()
    lines = repr(tasks).splitlines()
    assert lines[0].split()[:4] == ["pid", "tgid", "ppid", "uid"]
    assert lines[2].split()[4:7] == ["I", "-", "[kthreadd]"]
    assert "2 tasks" in seen(tasks)
    assert "[kthreadd]" in seen(tasks[1:])
    assert "second line" in seen(made.linux.dmesg())
    assert "6.1.0-made" in seen(made.linux)
    assert hex(made.linux.base) in seen(made.linux)
    assert "/busybox" in seen(made.linux.maps(1)[0])
    polars, pandas = pytest.importorskip("polars"), pytest.importorskip("pandas")
    assert isinstance(tasks.to_polars(), polars.DataFrame)
    assert tasks.to_polars()["address"].to_list() == [t.address for t in tasks]
    assert isinstance(tasks.to_pandas(), pandas.DataFrame)
    assert tasks.to_pandas()["cr3"].to_list()[0] == 0x5000


def test_columns_have_the_same_types_with_rows_and_without(made):
    pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    linux = made.linux
    for table in (linux.tasks(), linux.maps(1), linux.files(1), linux.mounts(), linux.modules()):
        assert table[:0].to_polars().schema == table.to_polars().schema
        assert table[:0].to_arrow().schema == table.to_arrow().schema
        assert table.to_arrow().to_pylist() == [{**row} for row in table.rows()]


@pytest.mark.parametrize(("number", "kept"), [(1 << 63, 1 << 63), (1 << 64, None), (-1 << 63, -1 << 63)])
def test_numbers_that_no_kernel_has_make_no_dataframe_fail(made, number, kept):
    pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    pytest.importorskip("pandas")
    rows = made.linux.maps(1)
    forged = type(rows)([dataclasses.replace(rows[0], inode=number)])
    assert forged.to_polars()["inode"].to_list() == forged.to_arrow()["inode"].to_pylist() == [kept]
    assert len(forged.to_pandas()) == 1


def test_dataframes_are_made_of_tables_as_they_are(made):
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    linux = made.linux
    for table in (linux.tasks(), linux.maps(1), linux.files(1), linux.mounts(), linux.modules()):
        for frame in (pd.DataFrame(table), pl.DataFrame(table)):
            assert list(frame["address"]) == [row.address for row in table]
            assert list(frame.columns) == [field.name for field in dataclasses.fields(table[0])]


def test_a_task_is_named_by_any_integer_and_by_itself(made):
    np = pytest.importorskip("numpy")
    linux = made.linux
    first = linux.task(1)
    assert linux.task(np.int64(1)) == linux.task(first) == first
    assert linux.files(first) == linux.files(1) and linux.cmdline(first) == linux.cmdline(np.uint32(1))


def test_rows_show_addresses_in_hexadecimal_and_are_found_by_their_names(made):
    linux = made.linux
    assert repr(linux.maps(1)[0]).startswith("Map(start=0x") and "inode=" in repr(linux.maps(1)[0])
    modules = linux.modules()
    assert modules["virtio"] is next(module for module in modules if module.name == "virtio")
    with pytest.raises(KeyError, match="no module 'virtoi'; did you mean virtio"):
        print(modules["virtoi"])
    with pytest.raises(TypeError, match=r"where\(lambda row: row.name == 'sh'\)"):
        print(linux.tasks()["sh"])


def test_a_task_has_what_the_kernel_tells_of_its_number(made):
    linux, task = made.linux, made.linux.task(1)
    assert task.files == linux.files(1) and task.maps == linux.maps(1) and task.mounts == linux.mounts(1)
    assert task.cmdline == linux.cmdline(1)
    assert task.environ == linux.environ(1)


def test_reading_a_hundred_tasks_takes_a_few_reads_each():
    made = Made()
    tasks = [made.new("task_struct", pid=i, tgid=i, comm=b"many", real_cred=0) for i in range(10, 110)]
    made.ring("task_struct", "tasks", made.init + made.btf.offset("task_struct", "tasks"), tasks)
    linux = made.linux
    linux.tasks()
    before = made.memory.reads
    assert len(linux.tasks()) == 100
    assert made.memory.reads - before < 110


def test_a_list_that_goes_in_circles_is_partial_with_the_address(made):
    link = made.btf.offset("task_struct", "tasks")
    made.set("task_struct", made.kthread, tasks__next=made.sh + link)
    found = made.linux.tasks()
    assert [t.pid for t in found] == [1, 2]
    assert "circles" in found.partial.reason
    assert found.partial.address == made.sh + link
    assert repr(found).splitlines()[-1].startswith("partial: ")


@pytest.mark.parametrize("to", [0, 8, 0xDEAD_BEEF_0000, 0xFFFF_FFFF_FFFF_FFF8, BASE + SIZE - 8])
def test_a_list_that_leads_to_nowhere_is_partial_and_goes_on_from_its_end(made, to):
    made.set("task_struct", made.sh, tasks__next=to)
    found = made.linux.tasks()
    assert [t.pid for t in found] == [1, 2]
    assert found.partial is not None
    made.set("task_struct", made.kthread, tasks__prev=to)
    assert [t.pid for t in made.linux.tasks()] == [1, 2]
    made.set("task_struct", made.init, tasks__prev=to)
    found = made.linux.tasks()
    assert [t.pid for t in found] == [1] and found.partial is not None
    with pytest.raises(bj.KernelError, match="no task has the number 2 in what could be read of the list"):
        made.linux.task(2)


def test_no_processes_at_all_is_an_error(made):
    made.set("task_struct", made.init, tasks__next=0x4141414141414140, tasks__prev=0x4141414141414140)
    with pytest.raises(bj.KernelError, match="no processes"):
        made.linux.tasks()


def test_an_absurd_number_of_descriptors_is_partial(made):
    made.set("fdtable", made.fdt, max_fds=0xFFFFFFFF)
    found = made.linux.files(1)
    assert found.partial.reason == "a table of 4294967295 descriptors"


def test_a_tree_that_contains_itself_ends():
    made = Made()
    at = made.inner_node + made.btf.offset("maple_arange_64", "slot")
    made.content[at - BASE : at - BASE + 8] = struct.pack("<Q", made.inner_node | 3 << 3 | 2)
    found = made.linux.maps(1)
    assert found == []
    assert "damaged" in found.partial.reason


def test_parts_that_are_their_own_neighbours_end():
    made = Made(OLD)
    made.set("vm_area_struct", made.areas[1], vm_next=made.areas[0])
    found = made.linux.maps(1)
    assert [m.start for m in found] == [0x400000, 0x600000]
    assert "circles" in found.partial.reason


def test_a_directory_inside_itself_has_a_path_that_ends(made):
    inner = made.dentry("a", made.root)
    outer = made.dentry("b", inner)
    made.set("dentry", inner, d_parent=outer)
    made.set("mount", made.inner, mnt_mountpoint=outer)
    found = made.linux.mounts()
    assert "circles" in found.partial.reason
    assert len(found[1].target) < 1000


def test_a_log_of_impossible_size_is_an_error(made):
    made.set("printk_ringbuffer", made.prb, desc_ring__count_bits=60)
    with pytest.raises(bj.KernelError, match="log"):
        made.linux.dmesg()


def test_forged_btf_is_an_error_with_its_address(made):
    start = made.symbols["__start_BTF"]
    made.content[start - BASE : start - BASE + 4] = b"BAD!"
    with pytest.raises(bj.KernelError, match="BTF") as caught:
        made.linux.tasks()
    assert caught.value.address == start


def test_memory_of_which_nothing_is_sound_is_soon_left_alone(made):
    look = made.linux._look()
    before = made.memory.reads
    assert [look.word(8 * i) for i in range(100_000)] == [None] * 100_000
    assert made.memory.reads - before < 300
    assert len(look.problems) < 20


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(12))
def test_random_damage_gives_tables_or_a_kernel_error_in_bounded_time(seed):
    chance = random.Random(seed)
    made = Made(OLD if seed % 2 else NEW)
    sound = bytes(made.content)
    beyond = made.symbols["__stop_BTF"] - BASE
    for _ in range(8):
        made.content[:] = sound
        for _ in range(chance.choice([1, 5, 50])):
            at = chance.randrange(beyond, made.next)
            made.content[at] ^= 1 << chance.randrange(8)
        for look in (_tasks, _modules, _mounts, _files, _maps, _log, _arguments):
            begun = time.monotonic()
            with contextlib.suppress(bj.KernelError):
                repr(look(made.linux))
            assert time.monotonic() - begun < 10


def _tasks(linux):
    return linux.tasks(threads=True)


def _modules(linux):
    return linux.modules()


def _mounts(linux):
    return linux.mounts(1)


def _files(linux):
    return linux.files(1)


def _maps(linux):
    return linux.maps(1)


def _log(linux):
    return linux.dmesg()


def _arguments(linux):
    return linux.cmdline(1), linux.environ(1)


def test_physical_addresses_are_those_of_the_kernels_map_of_all_memory(made):
    assert made.linux.physical(DIRECT + 0x1234) == 0x1234
    assert made.linux.physical(0x1234) is None
    assert made.linux.is_there()
    made.memory = Flat(bytearray(SIZE))
    assert not made.linux.is_there()
