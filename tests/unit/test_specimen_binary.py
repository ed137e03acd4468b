"""The specimen's committed binary is what its source makes. Nothing here needs a KVM."""

import shutil
import subprocess
from pathlib import Path

import pytest

import belljar as bj

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "guests" / "specimen"
COMMITTED = ROOT / "python" / "belljar" / "specimen.elf"


@pytest.fixture
def build():
    """Return the build script, where the tools are those that made the committed binary."""
    if missing := [tool for tool in ("gcc", "ld", "objcopy") if not shutil.which(tool)]:
        pytest.skip(f"no {', '.join(missing)} to rebuild the specimen with")
    made_with = (SOURCE / "built-with").read_text(encoding="utf-8").strip()
    here = subprocess.run([SOURCE / "build.sh", "--tools"], capture_output=True, text=True, check=True).stdout.strip()
    if here != made_with:
        pytest.skip(f"the committed specimen was built with {made_with}; here is {here}")
    return SOURCE / "build.sh"


def test_the_committed_binary_is_what_its_source_makes(build, tmp_path):
    subprocess.run([build, tmp_path / "specimen.elf"], check=True)
    assert (tmp_path / "specimen.elf").read_bytes() == COMMITTED.read_bytes(), "run guests/specimen/build.sh"


def test_the_package_has_the_committed_binary():
    assert bj.guest.IMAGE.read_bytes() == COMMITTED.read_bytes()


def test_the_binary_names_its_functions_and_nothing_of_who_built_it():
    image = COMMITTED.read_bytes()
    symbols = bj.Symbols(image)
    assert {"init_task", "current", "trap", "next_frame", "compute"} <= set(symbols)
    assert not [word for word in (b"GCC:", b"/home", b"/tmp", str(ROOT).encode()) if word in image]


def test_symbols_are_a_mapping_from_names_to_addresses():
    symbols = bj.Symbols(COMMITTED)
    address = symbols["init_task"]
    assert ("init_task" in symbols, "nothing" in symbols, 7 in symbols) == (True, False, False)
    assert dict(symbols) == dict(symbols.items()) == dict(zip(symbols.keys(), symbols.values(), strict=True))
    assert len(symbols) == len(list(symbols)) > 100
    assert (symbols.get("init_task"), symbols.get("nothing"), symbols.get("nothing", 7)) == (address, None, 7)
    assert (symbols.at(address), symbols.at(address + 0x12)) == ("init_task", "init_task+0x12")
    assert (symbols.lookup(address + 5), symbols.at(0), symbols.lookup(0)) == (("init_task", 5), None, None)
    assert [name for name, _ in symbols.find("?nit_t*")] == ["init_task"]
    assert symbols.size("init_task") > 200 and list(symbols.values()) == sorted(symbols.values())


def test_a_name_that_is_not_there_is_a_key_error_that_says_what_is():
    with pytest.raises(KeyError, match=r"no symbol 'task'; there is: .*init_task"):
        bj.Symbols(COMMITTED)["task"]
    for like in ("sys_call", "system_cal", "system_calk"):  # its words, its beginning, and less of that
        with pytest.raises(KeyError, match=r"there is: .*system_call"):
            bj.Symbols(COMMITTED)[like]
    with pytest.raises(KeyError, match="look for its like"):
        bj.Symbols(COMMITTED).size("zebra")
    with pytest.raises(KeyError, match="there are no symbols"):
        bj.Symbols(b"")["task"]


def test_a_stripped_or_foreign_file_has_no_symbols(tmp_path):
    assert len(bj.Symbols(b"MZ")) == len(bj.Symbols(COMMITTED.read_bytes()[:0x2000])) == 0
    with pytest.raises(FileNotFoundError):
        bj.Symbols(tmp_path / "nothing")
