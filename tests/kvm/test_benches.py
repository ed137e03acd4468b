"""Every row of the scoreboard does its work, once and without being measured, so that none of them rots."""

import os
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

BENCHES = Path(__file__).parents[2] / "benches"

pytestmark = [
    pytest.mark.skipif(not BENCHES.exists(), reason="the benchmarks are not here (the lane takes only the tests)"),
    pytest.mark.skipif(which("gcc") is None or which("cargo") is None, reason="no gcc or no cargo"),
]


def once(*arguments, **environment):
    command = [sys.executable, BENCHES / "scoreboard.py", "--once", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=110, env=os.environ | environment, check=False
    )


def test_every_row_of_the_scoreboard_works():
    done = once()
    assert done.returncode == 0, done.stdout + done.stderr
    worked = {line.split()[0].rstrip(",") for line in done.stdout.splitlines() if " works: " in line}
    unmeasured = {line.split()[0] for line in done.stdout.splitlines() if " NOT MEASURED: " in line}
    assert worked | unmeasured == {"1", "2", "3", "4", "5", "6", "7", "12", "13", "14", "16", "17", "unicorn", "gdb"}
    assert unmeasured <= {"6", "unicorn", "gdb"}, done.stdout


def test_a_row_that_does_not_exist_is_refused():
    done = once("--rows", "99")
    assert done.returncode == 2 and "there are rows 1, 2, 3" in done.stderr


def test_synthetic_exits_are_all_answered_and_the_run_still_ends_in_time():
    program = """
import synthetic, time
import belljar as bj
from rows.own_cost import at_once
from rows.guests import NOBODY
seen = []
with at_once(NOBODY) as vm:
    vm.on_port(NOBODY, lambda exit: seen.append(exit.port))
    exit = vm.run(max_exits=1000)
    assert (exit.port, exit.size, len(seen)) == (NOBODY, 1, 1000), exit
    assert isinstance(vm.run(timeout=0.2), bj.Timeout)
with bj.VM("1M") as vm:
    vm.load(bytes.fromhex("f4"), mode="real")
    assert vm.run(timeout=10) == bj.Hlt()
print("fine")
"""
    start = "import sys, synthetic; synthetic.is_preloaded() or synthetic.start_over()"
    environment = os.environ | {"PYTHONPATH": f"{BENCHES}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-c", start + program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.stdout == "fine\n", done.stderr
