"""A machine in its process: the end of the interpreter, forked children, Ctrl-C, blocked signals, no more threads."""

import os
import subprocess
import sys
import textwrap

import pytest

ENDLESS = "l: out 0x10, al; jmp l"


def python(text, expected=0):
    """Run `text` in an interpreter of its own, which must end by itself; return what it printed."""
    preamble = "import os, signal, sys, threading, time\nimport belljar as bj\n"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", preamble + textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ,
    )
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    "handler", ["", "vm.on_port(0x10, lambda exit: None)", "vm.on_port(0x10, lambda exit: time.sleep(0.01))"]
)
@pytest.mark.parametrize("held", ["", "view = vm.memory.view()"])
def test_the_interpreter_ends_while_a_machine_runs_in_the_background(handler, held):
    python(f"""
        vm = bj.VM("1M")
        vm.load("{ENDLESS}")
        {handler or "vm.load('l: jmp l', mode='user')"}
        {held}
        vm.start()
        time.sleep(0.05)
    """)


def test_the_interpreter_ends_while_a_daemon_thread_runs_a_machine():
    python(f"""
        vm = bj.VM("1M")
        vm.load("{ENDLESS}")
        vm.on_port(0x10, lambda exit: None)
        threading.Thread(target=vm.run, daemon=True).start()
        time.sleep(0.05)
    """)


def test_what_a_handler_raised_and_nobody_asked_for_is_said_at_the_end():
    _, said = python("""
        vm = bj.VM("1M")
        vm.load("out 0x10, al; hlt")
        vm.on_port(0x10, lambda exit: 1 // 0)
        vm.start()
        while vm.state == "running":
            time.sleep(0.01)
    """)
    assert "ZeroDivisionError" in said


def test_a_forked_child_has_machines_of_its_own():
    python("""
        vm = bj.VM("1M")
        vm.load("hlt; hlt")
        assert vm.run(timeout=10) == bj.Hlt()
        if (child := os.fork()) == 0:
            with bj.VM("1M") as own:
                own.load("l: jmp l", mode="user")
                assert own.run(timeout=0.01) == bj.Timeout()
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert vm.run(timeout=10) == bj.Hlt()
    """)


@pytest.mark.parametrize("way", ["vm.close()", "del vm", "vm.kick(); vm.stop()", "pass"])
def test_a_forked_child_leaves_its_parents_machine_alone_and_does_not_wait_for_it(way):
    python(f"""
        vm = bj.VM("1M")
        vm.load("l: jmp l", mode="user")
        vm.start()
        if (child := os.fork()) == 0:
            {way}
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert vm.state == "running"
        assert vm.stop() == bj.Interrupted("stop")
    """)


def test_a_forked_child_is_told_that_it_cannot_run_its_parents_machine():
    python("""
        vm = bj.VM("1M")
        vm.load("hlt")
        if (child := os.fork()) == 0:
            try:
                vm.run()
            except ValueError as error:
                sys.exit(0 if "forked" in str(error) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert vm.run(timeout=10) == bj.Hlt()
    """)


def test_a_thread_that_blocks_all_signals_has_its_timeout():
    python("""
        vm = bj.VM("1M")
        vm.load("l: jmp l", mode="user")
        def run():
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            vm.start()
            vm.stop()
            print(vm.run(timeout=0.1))
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(60)
        os._exit(thread.is_alive())
    """)


STUCK = """
    vm = bj.VM("1M")
    vm.load("out 0x10, al; hlt")
    entered = threading.Event()
    @vm.on_port(0x10)
    def stuck(exit):
        entered.set()
        time.sleep(1000)
    vm.start()
    entered.wait()
    def interrupt():
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
"""


def test_every_wait_for_a_handler_that_does_not_return_ends_by_ctrl_c():
    python(f"""{STUCK}
    for wait in (vm.close, vm.join, vm.stop, vm.close, vm.pause):
        interrupt()
        try:
            wait()
        except KeyboardInterrupt:
            assert vm.state == "running"
        else:
            os._exit(1)
    os._exit(0)
    """)


def test_dropping_a_machine_whose_handler_does_not_return_ends_by_ctrl_c():
    python(f"""{STUCK}
    interrupt()
    del vm, stuck
    os._exit(0)
    """)


def test_no_more_threads_is_an_error_of_the_host():
    python("""
        import resource
        vm = bj.VM("1M", 8)
        for vcpu in range(8):
            vm.load("l: jmp l", mode="user", vcpu=vcpu)
        pages = int(open("/proc/self/statm").read().split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (5 << 20), hard))
        failures = []
        for verb in ("run", "start"):
            try:
                getattr(vm, verb)()
                vm.join(timeout=30)
            except bj.HostError as error:
                failures.append(str(error))
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        assert len(failures) == 2 and all("pthread_create" in f for f in failures), failures
        assert vm.run(timeout=0.1) == bj.Timeout()
    """)


FIRST_MACHINES = """
import sys, threading, time
import belljar as bj
gate = threading.Barrier(int(sys.argv[1]))
def make():
    gate.wait()
    bj.VM("1M").close()
threads = [threading.Thread(target=make) for _ in range(gate.parties)]
began = time.process_time()
for thread in threads: thread.start()
for thread in threads: thread.join()
print(time.process_time() - began)
"""


def test_threads_that_make_the_first_machines_ask_the_host_once():
    def spent(threads):
        command = [sys.executable, "-c", FIRST_MACHINES, str(threads)]
        return float(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)

    assert spent(24) < 8 * spent(1)
