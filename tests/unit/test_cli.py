"""The command line where no machine is needed: what it refuses, what it says, and pipes that close."""

import json
import pickle
import subprocess
import sys

import pytest

import belljar as bj
from belljar import boot, cli

RUN = [sys.executable, "-c", "import sys; from belljar.cli import main; sys.exit(main())"]


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon"])
def test_a_time_that_is_no_time_is_refused(capsys, seconds):
    assert f"a number of seconds above 0, not '{seconds}'" in refused(capsys, "run", "x", f"--timeout={seconds}")


@pytest.mark.parametrize("address", ["zz", "-1"])
def test_an_address_that_is_none_is_refused_with_an_example(capsys, address):
    assert f"an address such as 0x7c00, not '{address}'" in refused(capsys, "run", "x", f"--at={address}")


def test_without_a_command_the_usage_is_shown(capsys):
    assert "usage: belljar" in refused(capsys)


def test_the_help_of_run_names_the_key_that_ends_it_and_every_exit_status(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and "Ctrl-]" in text and all(f"{n} " in text for n in (0, 1, 2, 124, 130))
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--at", "0x7c00"], "--mode"), (["--mode", "real", "--append", "quiet"], "kernel images")],
)
def test_options_that_would_be_ignored_are_refused(capsys, arguments, message):
    assert cli.main(["run", "kernel", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_the_doctor_speaks_json_and_its_status_says_whether_vms_run_here(capsys):
    status = cli.main(["doctor", "--json"])
    known = json.loads(capsys.readouterr().out)
    assert known["available"] is (status == 0) is bj.host.available
    assert known["available"] or (known["cause"] and known["remedy"])


def test_the_doctors_report_begins_with_the_version_and_gives_the_verdict(capsys):
    cli.main(["doctor"])
    text = capsys.readouterr().out
    assert text.startswith(f"belljar {bj.__version__} on Linux")
    assert ("VMs run here" if bj.host.available else "No VM can run here") in text


def test_a_reader_who_leaves_early_is_no_error():
    doctor = subprocess.Popen([*RUN, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    doctor.stdout.close()
    errors = doctor.stderr.read()
    doctor.stderr.close()
    assert (doctor.wait(timeout=30), errors) == (141, "")


def test_what_linux_is_told_depends_on_whether_the_file_is_linux(tmp_path):
    (kernel := tmp_path / "kernel").write_bytes(b"\0" * 64 + b"Linux version 6.1")
    (other := tmp_path / "other").write_bytes(b"another kernel")
    assert boot.cmdline_for(kernel, "quiet").startswith(boot.LINUX_CMDLINE)
    assert boot.cmdline_for(other, "quiet") == "quiet"


@pytest.mark.parametrize(
    "error", [bj.HostError("no KVM", "load it", 2), bj.GuestMemoryError("no memory", 0x1000, 4), bj.ClosedError("x")]
)
def test_errors_travel_between_processes_whole(error):
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin), vars(twin)) == (type(error), str(error), vars(error))
