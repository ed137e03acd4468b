"""What all tests share: machines that are closed afterwards, and tests that say aloud why they cannot run.

Everything in tests/kvm is marked `kvm`. A run whose KVM tests were all skipped fails, unless BELLJAR_NO_KVM=1 says
that there is meant to be no KVM.
"""

import os
import signal
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

import belljar as bj

KVM_TESTS = Path(__file__).parent / "kvm"


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(quirk=value): needs these answers of bj.host.quirks")
    config.stash[RAN] = set()
    hear_ctrl_c()


def hear_ctrl_c():
    """Undo what a shell does to its background jobs, which ignore Ctrl-C: tests send it, and wait for its effect."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


RAN = pytest.StashKey()


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(KVM_TESTS):
            item.add_marker(pytest.mark.kvm)


def pytest_runtest_setup(item):
    if item.get_closest_marker("kvm"):
        if bj.host.error is not None:
            pytest.skip(f"no KVM: {bj.host.error}")
        for marker in item.iter_markers("needs"):
            for name, wanted in marker.kwargs.items():
                if (answer := getattr(bj.host.quirks, name)) != wanted:
                    pytest.skip(f"this KVM answers {name}={answer}")


def pytest_runtest_call(item):
    if item.get_closest_marker("kvm"):
        item.config.stash[RAN].add(item.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    wanted = [item for item in getattr(session, "items", []) if item.get_closest_marker("kvm")]
    blind = wanted and not session.config.stash[RAN] and not session.config.option.collectonly
    if blind and session.exitstatus == pytest.ExitCode.OK and os.environ.get("BELLJAR_NO_KVM") != "1":
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        session.config.stash[BLIND] = len(wanted)


BLIND = pytest.StashKey()


def pytest_terminal_summary(terminalreporter, config):
    if count := config.stash.get(BLIND, 0):
        text = f"FAILED: all {count} tests that need KVM were skipped (BELLJAR_NO_KVM=1 if there is meant to be none)"
        terminalreporter.write_line(text, red=True, bold=True)


@pytest.fixture
def new_vm():
    """Make VMs that are closed after the test, as bj.VM does."""
    made = []

    def make(*args, **kwargs):
        made.append(bj.VM(*args, **kwargs))
        return made[-1]

    yield make
    for vm in made:
        vm.close()


@pytest.fixture
def vm(new_vm):
    """Make a bare VM of one vCPU and 1 MiB."""
    return new_vm("1M")


@pytest.fixture
def build():
    """Lay 4-level page tables from ``root`` on that map virtual pages to entries; return the root."""

    def lay(vm, pages, root=0x40000):
        free, tables = root + 0x1000, {}
        for address, entry in pages.items():
            table = root
            for shift in (39, 30, 21):
                slot = table + 8 * (address >> shift & 0x1FF)
                if slot not in tables:
                    tables[slot], free = free, free + 0x1000
                    vm.memory.write_u64(slot, tables[slot] | 7)  # present, writable, ring 3's
                table = tables[slot]
            vm.memory.write_u64(table + 8 * (address >> 12 & 0x1FF), entry)
        return root

    return lay


class Text(HTMLParser):
    """Reads HTML as text, and fails where elements are not closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.seen.append(data)


@pytest.fixture
def seen():
    """Return the text that the reader of a notebook sees of an object."""

    def read(thing):
        text = Text()
        text.feed(thing._repr_html_())
        text.close()
        assert text.open == []
        return " ".join("".join(text.seen).split())

    return read


@pytest.fixture(scope="session")
def linux():
    """Return the folder of the Linux guest that tests/guests/linux/build.sh builds."""
    build = KVM_TESTS.parent / "guests" / "linux" / "build.sh"
    try:
        where = subprocess.run([build, "--where"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the Linux guest cannot be looked for: {error}")
    missing = [name for name in ("vmlinux", "initrd.cpio") if not (Path(where) / name).exists()]
    if missing:
        pytest.skip(f"the Linux guest is not built (no {', '.join(missing)} in {where}): make linux-guest")
    return Path(where)
