"""A Linux kernel that is found in guest memory, and its symbols: those of the test guest against its System.map.

The guest is tests/guests/linux/build.sh's; where it is not built, its tests are skipped aloud.
"""

import re
import threading
from collections import Counter
from pathlib import Path

import pytest

import belljar as bj

ROOT = Path(__file__).resolve().parents[2]

# What kallsyms leaves out of what the linker knows (Linux, scripts/kallsyms.c and mksysmap): its own tables, what is no
# address of the kernel's, and what only makes a symbol for each CPU reachable.
LEFT_OUT = re.compile(
    r"kallsyms_(addresses|offsets|relative_base|num_syms|names|markers|seqs_of_names|token_table|token_index)"
    r"|phys_startup_64|init_per_cpu__.*"
)

pytestmark = [pytest.mark.linux, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def guest(linux):
    """The folder of the Linux guest, with what the linker knew of it."""
    if not (linux / "System.map").exists():
        pytest.skip(f"the Linux guest is not built (no System.map in {linux}): make linux-guest")
    return linux


@pytest.fixture(scope="module")
def running(guest):
    """The guest at its shell, paused."""
    with bj.boot.linux(guest / "vmlinux", initrd=guest / "initrd.cpio") as vm:
        vm.start()
        vm.console.read_until("belljar# ", timeout=200)
        vm.pause()
        yield vm


@pytest.fixture(scope="module")
def system_map(guest):
    """Name, address and letter of each symbol that the linker knows."""
    lines = (line.split() for line in (guest / "System.map").read_text().splitlines())
    return [(name, int(address, 16), kind) for address, kind, name in lines]


@pytest.mark.parametrize("known", [True, False], ids=["with the vCPU's cr3", "in all of memory"])
def test_every_symbol_that_the_linker_knows_is_found_where_it_says(running, system_map, known):
    kernel = bj.find_kernel(running.memory, cr3=[int(running.cpus[0].cr3)] if known else [])
    expected = Counter((name, at) for name, at, _ in system_map if not LEFT_OUT.fullmatch(name))
    assert Counter(kernel.symbols.find("*")) == expected
    assert kernel.symbols.complete and len(kernel.symbols) == len({name for name, _ in expected})


def test_the_kernel_is_where_its_own_tables_map_it(running, system_map):
    kernel = bj.find_kernel(running.memory)
    where = {name: at for name, at, _ in system_map}
    assert kernel.base == where["_text"]
    assert kernel.slide == 0
    assert kernel.physical(where["init_top_pgt"]) == kernel.cr3
    assert (kernel.gpa - kernel.phys_base) % 2**64 == kernel.base - 0xFFFFFFFF80000000
    assert running.memory.read_cstring(kernel.physical(where["linux_banner"])).decode().strip() == kernel.banner
    assert kernel.banner.startswith(f"Linux version {kernel.release} ")
    assert kernel.release in repr(kernel)


def test_a_guest_can_be_searched_while_it_runs(running):
    running.resume()
    try:
        running.console.send("while :; do :; done\n")
        bases = {bj.find_kernel(running.memory).base for _ in range(3)}
        assert len(bases) == 1
    finally:
        running.console.send("\x03")
        running.pause()


@pytest.fixture(scope="module")
def kernel(guest):
    """The kernel in memory as it is loaded: this one needs no unpacking."""
    with bj.VM(memory="64M") as vm:
        vm.boot(guest / "vmlinux")
        yield bj.find_kernel(vm)


def test_it_has_the_verbs_of_symbols(kernel, system_map):
    ours, elf = kernel.symbols, {name: at for name, at, _ in system_map}
    public = {name for name in dir(bj.Symbols) if not name.startswith("_")} - {"of"}  # which makes one
    assert public <= set(dir(ours))
    for name in ("_text", "init_task", "schedule", "__x64_sys_openat"):
        assert ours[name] == ours.get(name) == elf[name]
        assert ours.lookup(elf[name])[1] == 0
        assert name in ours
    assert dict(ours.items()) == dict(zip(ours.keys(), ours.values(), strict=True))
    assert list(ours) == ours.keys() and len(ours) == len(ours.keys())
    assert ours.values() == sorted(ours.values())


def test_the_letters_are_those_of_nm(kernel, system_map):
    names = Counter(name for name, *_ in system_map)
    once = [(name, kind) for name, _, kind in system_map if names[name] == 1 and name in kernel.symbols]
    # kallsyms says of weak symbols, and of constants, what nm says, too.
    assert [(name, kernel.symbols.kind(name)) for name, _ in once] == once


def test_an_address_is_named_by_the_symbol_below_it(kernel):
    symbols = kernel.symbols
    at = symbols["do_sys_openat2"]
    assert symbols.at(at) == "do_sys_openat2"
    assert symbols.at(at + 0x1C) == "do_sys_openat2+0x1c"
    assert symbols.lookup(at + 0x1C) == ("do_sys_openat2", 0x1C)
    assert symbols.at(at + symbols.size("do_sys_openat2")) == symbols.at(at + symbols.size("do_sys_openat2") + 1)[:-4]


@pytest.mark.parametrize("address", [0, 0x1000, 0xFFFF888000000000, 2**64 - 1])
def test_what_is_not_the_kernels_has_no_name(kernel, address):
    assert kernel.symbols.at(address) is None
    assert kernel.symbols.lookup(address) is None
    assert kernel.symbols.at(kernel.symbols["_end"]) is None


def test_symbols_are_found_by_pattern_and_by_regular_expression(kernel):
    by_pattern = kernel.symbols.find("__x64_sys_open*")
    assert ("__x64_sys_openat", kernel.symbols["__x64_sys_openat"]) in by_pattern
    assert kernel.symbols.find(re.compile(r"^__x64_sys_open")) == by_pattern
    with pytest.raises(AttributeError, match="search"):
        kernel.symbols.find(7)


def test_a_name_that_is_not_there_is_told_with_its_like(kernel):
    with pytest.raises(KeyError, match=r"there is: .*sys_openat"):
        kernel.symbols["sys_openat"]
    with pytest.raises(KeyError, match="find"):
        kernel.symbols.size("no such thing")
    assert kernel.symbols.get("no such thing") is None and 7 not in kernel.symbols


def test_any_thread_may_look_up(kernel):
    wrong = []

    def look():
        wrong.extend(1 for _ in range(200) if kernel.symbols.at(kernel.symbols["schedule"] + 1) != "schedule+0x1")

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_memory_without_a_kernel_says_so(vm):
    with pytest.raises(bj.KernelError, match="no Linux kernel in memory") as error:
        bj.find_kernel(vm.memory, cr3=[0, 0x1000, 2**64 - 1])
    assert error.value.address == 0


def test_forged_tables_are_an_error_with_their_address(guest):
    with bj.VM(memory="64M") as vm:
        vm.boot(guest / "vmlinux")
        digits = b"".join(b"%d\0" % n for n in range(10))
        (at,) = vm.memory.search(digits)
        kernel = bj.find_kernel(vm.memory)
        vm.memory.fill(kernel.cr3, 0x1000, 0)
        with pytest.raises(bj.KernelError, match="no page tables") as error:
            bj.find_kernel(vm.memory)
        assert kernel.gpa < error.value.address < at
        vm.memory.fill(error.value.address - 8, 8, 0xFF)  # how many symbols there are
        with pytest.raises(bj.KernelError, match="no sound table") as error:
            bj.find_kernel(vm.memory)
        assert at - 0x1000 < error.value.address < at
