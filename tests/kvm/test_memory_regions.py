"""Regions that come and go, show files or have huge pages; and ROM, whose writes are reported."""

import mmap
import os
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import belljar as bj

AT = 0x20_0000


def write_and_halt(vm, value, at=AT, mode="long"):
    vm.load(f"mov rax, {at}; mov byte ptr [rax], {value}; out 0x10, al", mode=mode)
    vm.on_port(0x10, lambda exit: bj.STOP)
    assert isinstance(vm.run(timeout=60), bj.PortOut)


@pytest.mark.parametrize("mode", ["long", "user"])
def test_the_guest_sees_a_removed_region_as_a_hole_and_an_added_one_as_memory(vm, mode):
    vm.memory.add(AT, 0x1000)
    seen = []
    write_and_halt(vm, 7, mode=mode)
    assert vm.memory.read_u8(AT) == 7
    start = vm.cpu.regs.rip
    removed = vm.memory.remove(AT)
    assert (removed.start, removed.end, removed.size, removed.kind) == (AT, AT + 0x1000, 0x1000, "RAM")
    assert [region.start for region in vm.memory.regions] == [0]
    vm.on_mmio(AT, seen.append, size=0x1000)
    vm.cpu.regs.rip = 0x1000
    assert isinstance(vm.run(timeout=60), bj.PortOut)
    assert seen == [bj.MmioWrite(AT, 1, 7)]
    vm.memory.add(AT, 0x1000)
    assert vm.memory.read_u8(AT) == 0
    vm.cpu.regs.rip = 0x1000
    assert isinstance(vm.run(timeout=60), bj.PortOut)
    assert (len(seen), vm.memory.read_u8(AT), vm.cpu.regs.rip) == (1, 7, start)


def test_no_region_is_removed_while_the_guest_runs(vm):
    vm.memory.add(AT, 0x1000)
    vm.load("again: inc byte ptr [0x200000]; jmp again")
    vm.start()
    with pytest.raises(bj.RunningError, match=r"memory.remove\(\) while the VM runs: pause"):
        vm.memory.remove(AT)
    vm.pause()
    assert vm.memory.remove(AT).start == AT
    vm.memory.add(AT, 0x1000)
    vm.resume()
    while vm.memory.read_u8(AT) == 0:
        pass
    vm.stop()


def test_no_region_is_removed_from_inside_a_handler(vm):
    vm.memory.add(AT, 0x1000)
    refused = []

    def handler(exit):
        try:
            vm.memory.remove(AT)
        except bj.RunningError as error:
            refused.append(error)

    vm.on_port(0x10, handler)
    vm.load("out 0x10, al; hlt")
    assert vm.run(timeout=60) == bj.Hlt()
    assert "from inside a handler" in str(refused[0])
    assert vm.memory.remove(AT).start == AT


def test_a_region_that_a_view_shows_stays(vm):
    vm.memory.add(AT, 0x1000)
    vm.memory.add(AT + 0x1000, 0x1000)
    view = np.asarray(vm.memory.view(AT, writable=True))
    with pytest.raises(BufferError, match="1 view"):
        vm.memory.remove(AT)
    vm.memory.remove(AT + 0x1000)
    view[0] = 5
    assert vm.memory.read_u8(AT) == 5
    del view
    vm.memory.remove(AT)


def test_what_is_no_region_is_not_removed(vm):
    with pytest.raises(ValueError, match="the RAM that holds 0x1000 begins at 0x0"):
        vm.memory.remove(0x1000)
    with pytest.raises(bj.GuestMemoryError, match="no memory at 0x100000"):
        vm.memory.remove(0x10_0000)
    vm.close()
    with pytest.raises(bj.ClosedError):
        vm.memory.remove(0)


def test_a_removed_region_gives_its_memory_back(vm):
    def mapped():
        return len(Path("/proc/self/maps").read_text().splitlines())

    vm.memory.add(AT, 0x1000)
    vm.memory.remove(AT)
    before = mapped()
    for _ in range(200):
        vm.memory.add(AT, "1M", data=b"x")
        vm.memory.remove(AT)
    assert mapped() <= before + 5


def test_regions_come_and_go_while_others_read_and_run(vm):
    over = threading.Event()
    errors = []

    def read():
        while not over.is_set():
            try:
                vm.memory.read(AT, 0x1000)
                with vm.memory.view(AT, 16) as view:
                    assert len(view) == 16
            except bj.GuestMemoryError:
                pass
            except BaseException as error:
                errors.append(error)
                raise

    def run():
        while not over.is_set():
            try:
                vm.run(timeout=0.005)
            except bj.RunningError as error:
                errors.append(error)
            time.sleep(0.001)  # a region goes between two runs

    vm.load("again: inc byte ptr [0x200000]; jmp again")
    threads = [threading.Thread(target=work) for work in (read, read, run)]
    for thread in threads:
        thread.start()
    removed, deadline = 0, time.monotonic() + 30
    while removed < 40 and time.monotonic() < deadline:
        try:
            if len(vm.memory.regions) == 1:
                vm.memory.add(AT, 0x1000)
            vm.memory.remove(AT)
            removed += 1
        except (bj.RunningError, BufferError):
            pass
    over.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert removed > 0


@pytest.mark.parametrize(
    ("irqchip", "address"), [("split", 0xFEC0_0000), ("split", 0xFEE0_0000), ("full", 0xFEE0_0000)]
)
def test_memory_does_not_hide_a_device(new_vm, irqchip, address):
    vm = new_vm("1M", irqchip=irqchip)
    with pytest.raises(bj.RangeError, match=f"overlaps .*{address:#x}"):
        vm.memory.add(address, 0x1000)


def test_data_gives_a_region_its_size(vm):
    assert vm.memory.add(AT, data=bytes(0x1001)).size == 0x2000
    with pytest.raises(ValueError, match="has a size"):
        vm.memory.add(0x40_0000)
    with pytest.raises(ValueError, match="at least one page"):
        vm.memory.add(0x40_0000, data=b"")


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(range(256)) * 24 + b"tail")  # a page and a half, and four bytes
    return path


@pytest.mark.parametrize("as_what", ["path", "text", "descriptor", "file"])
def test_a_file_can_be_memory_and_stays_as_it_was(vm, image, as_what):
    before = image.read_bytes()
    with image.open("rb") as file:
        given = {"path": image, "text": str(image), "descriptor": file.fileno(), "file": file}[as_what]
        region = vm.memory.add(AT, file=given)
    assert (region.size, region.shared, region.offset) == (0x2000, False, 0)
    assert region.file == (str(image) if as_what in ("path", "text") else region.file)
    assert vm.memory.read(AT, len(before)) == before
    assert vm.memory.read(AT + len(before), 0x2000 - len(before)) == bytes(0x2000 - len(before))
    write_and_halt(vm, 0xEE)
    vm.memory.write_u8(AT + 0x1000, 0xDD)
    assert (vm.memory.read_u8(AT), vm.memory.read_u8(AT + 0x1000)) == (0xEE, 0xDD)
    assert image.read_bytes() == before


def test_a_shared_file_sees_what_the_guest_writes(vm, image):
    region = vm.memory.add(AT, file=image, shared=True)
    assert region.shared
    write_and_halt(vm, 0xEE)
    vm.memory.write_u8(AT + 1, 0xDD)
    assert image.read_bytes()[:3] == b"\xee\xdd\x02"
    with image.open("r+b") as file:
        file.write(b"\x99")
    assert vm.memory.read_u8(AT) == 0x99


def test_a_part_of_a_file_can_be_memory(vm, image):
    region = vm.memory.add(AT, 0x1000, file=image, offset=0x1000)
    assert (region.offset, region.size) == (0x1000, 0x1000)
    assert vm.memory.read(AT + 0x7FC, 9) == b"\xfc\xfd\xfe\xfftail\0"
    assert vm.memory.add(AT + 0x1000, file=image, offset=0x1000).size == 0x1000


def test_memory_can_be_shared_through_a_memfd(vm):
    fd = os.memfd_create("guest")
    try:
        os.ftruncate(fd, 0x2000)
        vm.memory.add(AT, file=fd, shared=True)
        mine = np.frombuffer(mmap.mmap(fd, 0x2000), dtype=np.uint8)
    finally:
        os.close(fd)
    write_and_halt(vm, 42)
    assert mine[0] == 42
    mine[0x1FFF] = 7
    assert vm.memory.read_u8(AT + 0x1FFF) == 7


def test_two_machines_can_share_memory(new_vm):
    fd = os.memfd_create("shared")
    os.ftruncate(fd, 0x1000)
    machines = [new_vm("1M"), new_vm("1M")]
    for machine in machines:
        machine.memory.add(AT, file=fd, shared=True)
    os.close(fd)
    write_and_halt(machines[0], 42)
    assert machines[1].memory.read_u8(AT) == 42


def test_a_file_can_be_rom(vm, image):
    vm.memory.add(AT, file=image, rom=True)
    writes = []
    vm.on_mmio(AT, writes.append, size=0x2000, access="w")
    vm.load("mov byte ptr [0x200001], 0x99; mov al, [0x200001]; hlt")
    assert vm.run(timeout=60) == bj.Hlt()
    assert writes == [bj.MmioWrite(AT + 1, 1, 0x99)]
    assert vm.cpu.regs.rax & 0xFF == 1


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"size": 0x3000}, ValueError, "0x3000 bytes asked of .* has 0x2000"),
        ({"size": 0x2000, "offset": 0x1000}, ValueError, "has 0x1000 from 0x1000 on"),
        ({"offset": 0x2000}, ValueError, "nothing from 0x2000 on"),
        ({"offset": 0x800}, bj.RangeError, "not a multiple of the page size"),
        ({"data": b"x"}, ValueError, "data or a file, not both"),
        ({"huge": True}, ValueError, "huge is for memory without one"),
    ],
)
def test_more_of_a_file_than_there_is_is_refused(vm, image, options, error, words):
    with pytest.raises(error, match=words):
        vm.memory.add(AT, file=image, **options)
    assert len(vm.memory.regions) == 1


def test_what_is_no_file_cannot_be_memory(vm, tmp_path):
    with pytest.raises(FileNotFoundError):
        vm.memory.add(AT, file=tmp_path / "none")
    with pytest.raises(ValueError, match="neither a file nor a block device"):
        vm.memory.add(AT, file="/dev/zero")
    with pytest.raises(OSError, match="Bad file descriptor"):
        vm.memory.add(AT, file=987654)
    for wrong in (-1, 1.5, object()):
        with pytest.raises(TypeError, match="a path, a file descriptor"):
            vm.memory.add(AT, file=wrong)
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="has 0x0 bytes"):
        vm.memory.add(AT, file=tmp_path / "empty")
    with pytest.raises(ValueError, match="offset and shared are for a file"):
        vm.memory.add(AT, 0x1000, shared=True)


def test_a_file_that_is_open_for_reading_only_is_not_shared(vm, image):
    with image.open("rb") as file, pytest.raises(ValueError, match="with shared=True for writing"):
        vm.memory.add(AT, file=file, shared=True)


def test_descriptors_of_files_are_given_back(vm, image):
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    vm.memory.add(AT, file=image)
    vm.memory.remove(AT)
    with pytest.raises(ValueError, match="bytes asked"):
        vm.memory.add(AT, 0x10_0000, file=image)
    assert descriptors() == before


def reserved(size):
    pages = Path(f"/sys/kernel/mm/hugepages/hugepages-{size}kB/free_hugepages")
    return int(pages.read_text()) if pages.exists() else 0


@pytest.mark.parametrize(("huge", "kib"), [("2M", 2048), ("1G", 1 << 20)])
def test_reserved_huge_pages_are_taken_or_the_error_says_how_to_reserve(vm, huge, kib):
    size = kib << 10
    if reserved(kib):
        assert vm.memory.add(1 << 32, size, huge=huge).huge == huge
        vm.memory.write_u8((1 << 32) + size - 1, 7)
        return
    with pytest.raises(bj.HostError, match="1 huge pages of") as refused:
        vm.memory.add(1 << 32, size, huge=huge)
    assert f"hugepages-{kib}kB/nr_hugepages" in refused.value.remedy
    with pytest.raises(bj.HostError, match="huge pages"):
        bj.VM(size, huge=huge)
    assert len(vm.memory.regions) == 1


def test_transparent_huge_pages_are_asked_for(new_vm):
    vm = new_vm("16M", huge=True)
    assert vm.memory.regions[0].huge == "transparent"
    vm.memory.add(1 << 32, "4M", huge=True)
    write_and_halt(vm, 42, at=1 << 32)
    assert vm.memory.read_u8(1 << 32) == 42
    if Path("/sys/kernel/mm/transparent_hugepage/enabled").exists():
        assert re.search(r"^VmFlags:.* hg", Path("/proc/self/smaps").read_text(), re.MULTILINE)


@pytest.mark.parametrize("huge", ["4M", "", 2, 1.5])
def test_huge_pages_that_do_not_exist_are_refused(vm, huge):
    with pytest.raises(ValueError, match="huge is None, True"):
        vm.memory.add(AT, 0x1000, huge=huge)


def test_huge_pages_lie_at_their_multiples(vm):
    with pytest.raises(ValueError, match="multiples of 0x200000"):
        vm.memory.add(AT, 0x1000, huge="2M")
