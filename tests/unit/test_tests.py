"""What the tests rely on in the one that runs them."""

import os
import signal
import subprocess
import sys


def test_ctrl_c_is_heard_by_this_process_and_its_children():
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    program = "import signal; print(signal.getsignal(signal.SIGINT) == signal.default_int_handler)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "True\n"


def test_it_is_heard_too_where_a_shell_has_it_ignored_for_its_background_jobs(request):
    name = f"{__file__}::{test_ctrl_c_is_heard_by_this_process_and_its_children.__name__}"
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name]
    ended = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *pytest],
        cwd=request.config.rootpath,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert "1 passed" in ended.stdout
