"""What works where there is no KVM, and what is said by what does not.

Each test is a program in a mount namespace of its own, whose /dev lacks kvm or has another one.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import belljar

PROGRAM = """
import belljar as bj
assert not bj.host.available
assert (bj.host.capabilities, bj.host.max_vcpus, bj.host.quirks) == ({}, 0, None)
assert "without KVM" in repr(bj.host)
assert [i.text for i in bj.disasm(bytes([0xF4]))] == ["hlt"]
assert bj.PortOut(0x10, 1, 42).data == 42
assert bj.boot.linux_cmdline("quiet")
for make in (bj.VM, lambda: bj.boot.linux(b"no kernel")):
    try:
        make()
    except bj.HostError as error:
        assert str(error) == f"{error.cause}\\n  -> {error.remedy}", str(error)
        said = error
    else:
        raise AssertionError("a VM where there is no KVM")
print(said)
"""

ROOT_ONLY = "hides /dev/kvm in a mount namespace, which this machine does not allow"


def allowed(*command):
    return bool(shutil.which(command[0])) and subprocess.run(command, capture_output=True, check=False).returncode == 0


CAN_HIDE = allowed("unshare", "--mount", "--map-root-user", "true")
hiding = pytest.mark.skipif(not CAN_HIDE, reason=ROOT_ONLY)


def run(program, before, user=None):
    """Run a Python program after shell commands that change /dev, for itself alone."""
    path = Path(belljar.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    script = f'{before} && exec "$0" -c "$1"'
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    command = [*unshare, "sh", "-c", script, sys.executable, program]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@hiding
@pytest.mark.parametrize(
    ("before", "cause", "remedy"),
    [
        ("mount -t tmpfs none /dev", "there is no /dev/kvm", "modprobe kvm_intel"),
        ("mount --bind /dev/null /dev/kvm", "cannot be opened|API version|no KVM is behind it", "kernel|module|dmesg"),
    ],
    ids=["no device", "another device"],
)
def test_without_kvm_the_pure_parts_work_and_a_vm_says_why_not(before, cause, remedy):
    if "/dev/kvm" in before and not Path("/dev/kvm").exists():
        pytest.skip("binds another device over /dev/kvm, which is not there")
    done = run(PROGRAM, before)
    assert done.returncode == 0, done.stderr
    said = done.stdout.split("->")
    assert any(word in said[0] for word in cause.split("|")), done.stdout
    assert any(word in said[1] for word in remedy.split("|")), done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root may")
@pytest.mark.skipif(not CAN_HIDE, reason=ROOT_ONLY)
def test_a_user_who_may_not_open_kvm_is_told_of_the_group():
    before = "mount -t tmpfs none /dev && mknod /dev/kvm c 1 3 && chmod 600 /dev/kvm"
    done = run(f"import os, belljar\nos.setgroups([])\nos.setuid(65534)\n{PROGRAM}", before)
    assert done.returncode == 0, done.stderr
    assert "may not be opened by this user" in done.stdout
    assert "usermod -aG kvm" in done.stdout


@hiding
def test_the_doctor_and_the_command_line_say_it_too():
    done = run("import sys\nfrom belljar.cli import main\nsys.exit(main(['doctor']))", "mount -t tmpfs none /dev")
    assert done.returncode != 0
    assert "there is no /dev/kvm" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@hiding
@pytest.mark.parametrize(("env", "status"), [({}, 1), ({"BELLJAR_NO_KVM": "1"}, 0)])
def test_a_test_run_that_sees_no_kvm_fails_unless_that_is_meant(env, status):
    tests = Path(__file__).resolve().parents[1]
    arguments = ["-q", "-p", "no:cacheprovider", str(tests / "kvm" / "test_vcpus.py")]
    program = f"os.environ.update({env}); sys.exit(pytest.main({arguments}))"
    done = run(
        f"import os, sys, pytest; os.chdir({str(tests.parent)!r}); {program}",
        "mount -t tmpfs none /dev && mknod /dev/null c 1 3 && mknod /dev/urandom c 1 9",
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "there is no /dev/kvm" in done.stdout
    assert ("FAILED: all" in done.stdout) == (status == 1)
