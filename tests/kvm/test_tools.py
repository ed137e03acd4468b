"""drgn and Volatility on a live guest that is no Linux: what they read is the guest's memory."""

import importlib.util

import pytest

import belljar as bj

PATIENCE = 40


@pytest.fixture(scope="module")
def specimen():
    """Boot a specimen to the first line of its printer, and hold it."""
    with bj.specimen(card=False) as vm:
        vm.start()
        vm.console.read_until("line 1 at tick", timeout=PATIENCE)
        vm.pause()
        yield vm


@pytest.fixture(scope="module")
def drgn():
    """Import drgn, which the extra `forensics` brings."""
    return pytest.importorskip("drgn")


def test_drgn_reads_the_memory_and_knows_the_symbols_of_a_live_guest(specimen, drgn):
    prog = specimen.drgn()
    places = specimen.symbols.values()
    name, at = next(
        (n, a) for n, a in specimen.symbols.items() if places.count(a) == 1 and specimen.symbols.size(n) >= 8
    )
    assert prog.symbol(name).address == at and prog.symbol(at).name == name
    assert prog.read(at, 8) == specimen.cpu.virtual.read(at, 8)
    assert prog.read(at, 8, physical=True) == specimen.memory.read(at, 8)
    assert prog.read_u64(at) == specimen.memory.read_u64(at)


def test_drgn_unwinds_from_the_registers_of_a_vcpu(specimen, drgn):
    prog = specimen.drgn()
    registers = bj.drgn_registers(prog)
    assert registers.ip.value_() == specimen.cpu.regs.rip and registers.cs.value_() == specimen.cpu.cs.selector
    top = prog.stack_trace(registers)[0]
    assert top.pc == specimen.cpu.regs.rip
    assert prog.symbol(top.pc).name == specimen.symbols.lookup(top.pc)[0]


def test_drgn_sees_memory_as_it_is_at_each_moment(specimen, drgn):
    prog = specimen.drgn()
    before = specimen.memory.read(0x2000, 4)
    specimen.memory.write(0x2000, b"once")
    assert prog.read(0x2000, 4, physical=True) == b"once"
    specimen.memory.write(0x2000, before)
    assert prog.read(0x2000, 4, physical=True) == before


def test_what_is_not_mapped_is_drgns_own_error(specimen, drgn):
    with pytest.raises(drgn.FaultError):
        specimen.drgn().read(0x7FFF_0000_0000, 8)
    with pytest.raises(drgn.FaultError):
        specimen.drgn().read(0xF000_0000, 8, physical=True)


def test_drgn_has_its_types_on_a_dump_too(specimen, drgn, tmp_path):
    specimen.dump(tmp_path / "guest")
    with bj.open_dump(tmp_path / "guest") as dump:
        prog = dump.drgn()
        assert drgn.Object(prog, "unsigned long", address=0x2000).value_() == specimen.memory.read_u64(0x2000)


@pytest.mark.linux
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_drgn_knows_the_symbols_of_a_kernel_that_carries_neither_types_nor_vmcoreinfo(drgn, linux):
    with bj.boot.linux(linux / "vmlinux", initrd=linux / "initrd.cpio") as vm:
        vm.start()
        vm.console.read_until("belljar# ", timeout=200)
        vm.pause()
        prog = vm.drgn()
        assert prog["UTS_RELEASE"].string_().endswith(b"-belljar")
        assert prog.read_c_string(prog.symbol("linux_banner").address).startswith(b"Linux version 6.")
        assert "init_task" in str(prog.symbol(prog.symbol("init_task").address + 8))


needs_volatility = pytest.mark.skipif(
    not importlib.util.find_spec("volatility3"), reason="volatility3 is not installed"
)


@needs_volatility
@pytest.mark.filterwarnings("ignore")
def test_volatility_finds_a_banner_in_a_live_guest(specimen):
    before = specimen.memory.read(0x80_0000, 64)
    banner = b"Linux version 6.6.6-belljar (you@here) (gcc) #1 SMP Mon Jan 1\n\0"
    specimen.memory.write(0x80_0000, banner.ljust(64, b"\0"))
    rows = specimen.volatility().run("banners.Banners")
    specimen.memory.write(0x80_0000, before)
    assert 0x80_0000 in [row["Offset"] for row in rows]


@needs_volatility
@pytest.mark.filterwarnings("ignore")
def test_a_location_of_belljars_opens_as_a_file_of_physical_memory(specimen):
    from volatility3.framework.layers.resources import ResourceAccessor

    session = specimen.volatility()
    with ResourceAccessor().open(session.location) as file:
        file.seek(0x1000)
        assert file.read(0x3000) == specimen.memory.read(0x1000, 0x3000)
        assert file.seek(0, 2) == max(region.end for region in specimen.memory.regions)


@needs_volatility
@pytest.mark.filterwarnings("ignore")
def test_what_a_plugin_writes_goes_into_the_folder_of_the_session(specimen, tmp_path):
    from volatility3.framework import interfaces, renderers

    class Writer(interfaces.plugins.PluginInterface):
        """Writes a file and gives one row, and then fails."""

        _required_framework_version = (2, 0, 0)

        def rows(self):
            with self.open("a_b.bin") as file:
                file.write(b"written")
            yield 0, (1,)
            raise KeyError("no more")

        def run(self):
            return renderers.TreeGrid([("Number", int)], self.rows())

    session = specimen.volatility()
    with pytest.raises(bj.HostError, match=r"session\.output"):
        session.run(Writer)
    session.output = tmp_path / "new"
    for name in ("a_b.bin", "a_b-1.bin"):
        with pytest.raises(KeyError) as caught:
            session.run(Writer)
        assert "1 rows, which are in session.partial" in caught.value.__notes__[0]
        assert session.partial == [{"depth": 0, "Number": 1}]
        assert session.files[-1] == tmp_path / "new" / name and session.files[-1].read_bytes() == b"written"


@needs_volatility
@pytest.mark.filterwarnings("ignore")
def test_volatilitys_wrong_names_are_answered_with_right_ones(specimen):
    session = specimen.volatility()
    with pytest.raises(ValueError, match=r"banners\.Banners"):
        session.run("Banners")
    with pytest.raises(ValueError, match=r"linux\.pslist\.PsList"):
        session.run("linux.pslistx.PsList")
    assert "linux.pslist.PsList" in session.plugins
    with pytest.raises(ValueError, match="no option"):
        session.run("banners.Banners", nonsense=1)
    with pytest.raises(bj.BelljarError):
        session.run("linux.pslist.PsList")
