"""Dumps of machines: nothing is lost on the way into a file and back, and other people's tools read the file."""

import _thread
import shutil
import subprocess
import threading

import pytest

import belljar as bj
from belljar import guest

PATIENCE = 40


@pytest.fixture
def specimen():
    """Boot a specimen to the first line of its printer."""
    with bj.specimen(card=False) as vm:
        vm.start()
        vm.console.read_until("line 1 at tick", timeout=PATIENCE)
        yield vm


@pytest.mark.parametrize("written", ["elf", "raw"])
def test_every_byte_and_register_comes_back(specimen, tmp_path, written):
    specimen.pause()
    specimen.dump(tmp_path / "guest", format=written)
    with bj.open_dump(tmp_path / "guest") as dump:
        regions = [(r.start, r.end, r.kind) for r in specimen.memory.regions]
        assert [(r.start, r.end, r.kind) for r in dump.memory.regions] == regions
        for start, end, _ in regions:
            assert dump.memory.compare(start, specimen.memory.read(start, end - start)) is None
        for saved, live in zip(dump.cpus, specimen.cpus, strict=True):
            assert saved.state().diff(live.state()) == []
            assert saved.regs.read() == live.regs.read() and saved.cr3 == live.cr3 and saved.idt == live.idt
            assert saved.cs == live.cs and saved.cr0 == live.cr0 and saved.cpl == live.cpl
            assert [str(i) for i in saved.disasm(3)] == [str(i) for i in live.disasm(3)]
            assert saved.translate(live.regs.rip).gpa == live.translate(live.regs.rip).gpa
        assert dump.symbols.items() == specimen.symbols.items()
        assert dump.info.about["belljar"] == bj.__version__


def test_readers_of_a_guests_structures_take_a_dump_as_they_take_a_machine(specimen, tmp_path):
    specimen.pause()
    specimen.dump(tmp_path / "guest")
    with bj.open_dump(tmp_path / "guest") as dump:
        assert repr(guest.tasks(dump)) == repr(guest.tasks(specimen))


def test_a_running_guest_is_held_meanwhile_and_goes_on(specimen, tmp_path):
    assert specimen.state == "running"
    specimen.dump(tmp_path / "guest")
    assert specimen.state == "running"
    line = int(specimen.console.read_until(" at tick", timeout=PATIENCE).rpartition("line ")[2].split()[0])
    specimen.console.read_until(f"line {line + 1} at tick", timeout=PATIENCE)


def test_a_handler_dumps_its_own_machine(vm, tmp_path):
    vm.load(bytes([0xB0, 42, 0xE6, 0x10, 0xF4]), mode="real")
    with vm.on_port(0x10, lambda exit: vm.dump(tmp_path / "guest")):
        vm.run(timeout=PATIENCE)
    with bj.open_dump(tmp_path / "guest") as dump:
        assert dump.cpu.regs.al == 42 and dump.cpu.bits == 16


def test_rom_and_holes_are_what_they_were(vm, tmp_path):
    vm.memory.add(0x4000_0000, 0x3000, rom=True, data=b"rom")
    vm.dump(tmp_path / "guest")
    dump = bj.open_dump(tmp_path / "guest")
    assert [(r.start, r.end, r.kind) for r in dump.memory.regions] == [
        (0, 1 << 20, "RAM"),
        (0x4000_0000, 0x4000_3000, "ROM"),
    ]
    assert dump.memory.read(0x4000_0000, 3) == b"rom"
    with pytest.raises(bj.GuestMemoryError):
        dump.memory.read(1 << 20, 1)
    assert (tmp_path / "guest").stat().st_blocks * 512 < 0x10_0000


def test_a_closed_machine_has_nothing_to_dump(new_vm, tmp_path):
    vm = new_vm("1M")
    vm.close()
    with pytest.raises(bj.ClosedError):
        vm.dump(tmp_path / "guest")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="kdump"):
        new_vm("1M").dump(tmp_path / "guest", format="kdump")


def again_and_again(vm, path):
    """Dump until somebody interrupts it."""
    for _ in range(1000):
        vm.dump(path)
        path.unlink()


def test_ctrl_c_ends_a_dump_and_leaves_nothing_behind(new_vm, tmp_path):
    vm = new_vm("2G")
    vm.memory.fill(0, 64 << 20, b"\xa5")
    interrupt = threading.Timer(0.2, _thread.interrupt_main)
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        again_and_again(vm, tmp_path / "guest")
    assert not any(path.suffix == ".part" for path in tmp_path.iterdir())


@pytest.mark.skipif(not shutil.which("readelf"), reason="no readelf here")
def test_readelf_accepts_the_file_and_sees_the_vcpus(specimen, tmp_path):
    specimen.dump(tmp_path / "guest")
    seen = subprocess.run(["readelf", "-hlnW", tmp_path / "guest"], capture_output=True, text=True, check=True)
    assert "CORE (Core file)" in seen.stdout and "LOAD" in seen.stdout
    assert seen.stdout.count("NT_PRSTATUS") == len(specimen.cpus)
    assert "Warning" not in seen.stderr and "Error" not in seen.stderr


@pytest.mark.skipif(not shutil.which("gdb"), reason="no gdb here")
def test_gdb_opens_the_file_with_its_registers_and_memory(specimen, tmp_path):
    specimen.pause()
    specimen.dump(tmp_path / "guest")
    at = specimen.symbols["tasks"] if "tasks" in specimen.symbols else specimen.symbols.values()[0]
    commands = ["-ex", "info registers rip rsp", "-ex", f"x/4xb {at}"]
    seen = subprocess.run(
        ["gdb", "-q", "-batch", "-nx", *commands, "-c", tmp_path / "guest"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    ).stdout
    cpu = specimen.cpu
    assert f"{cpu.regs.rip:#x}" in seen and f"{cpu.regs.rsp:#x}" in seen
    assert "\t".join(f"0x{byte:02x}" for byte in specimen.memory.read(at, 4)) in seen
