"""A VM in a real Jupyter kernel: interrupting a cell stops the guest, and everything goes on from there."""

import time

import pytest
from tests.waiting import PATIENCE

jupyter_client = pytest.importorskip("jupyter_client")


@pytest.fixture
def kernel():
    """Start a kernel of this Python; yield a function that runs a cell and returns what it printed or raised."""
    manager = jupyter_client.KernelManager()
    manager.start_kernel()
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=PATIENCE)

    def run(code, interrupt_after=None):
        outputs = []

        def collect(message):
            content = message["content"]
            outputs.append(content.get("text", content.get("ename", "")))

        if interrupt_after is None:
            client.execute_interactive(code, timeout=PATIENCE, output_hook=collect)
        else:
            sent = client.execute(code, stop_on_error=False)  # else the next cell may be thrown away
            begun = "execute_input", sent
            while begun != said(client.get_iopub_msg(timeout=PATIENCE)):
                pass
            time.sleep(interrupt_after)
            manager.interrupt_kernel()
            reply = client.get_shell_msg(timeout=PATIENCE)
            while reply["parent_header"].get("msg_id") != sent:
                reply = client.get_shell_msg(timeout=PATIENCE)
            outputs.append(reply["content"].get("ename", ""))
        return "".join(outputs)

    yield run
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def said(message):
    """Return what a message of the kernel's is, and what it is about."""
    return message["msg_type"], message["parent_header"].get("msg_id")


SETUP = """
import belljar as bj
vm = bj.VM("1M")
vm.load(bytes.fromhex("48ffc3ebfb"), mode="user")  # l: inc rbx; jmp l
"""


def test_interrupting_the_kernel_leaves_the_vm_paused_and_usable(kernel):
    assert kernel(SETUP) == ""
    assert kernel("vm.run()", interrupt_after=0.5) == "KeyboardInterrupt"
    assert kernel("print(vm.state, vm.cpu.regs.rbx > 0)") == "paused True\n"
    assert kernel("before = vm.cpu.regs.rbx; print(vm.run(timeout=0.05), vm.cpu.regs.rbx > before)") == (
        "Timeout(vcpu=0) True\n"
    )
    assert kernel("vm.start(); vm.pause(); print(vm.state); vm.close()") == "paused\n"


def test_interrupting_an_iteration_and_an_await_leaves_them_usable_too(kernel):
    assert kernel(SETUP) == ""
    assert kernel("for exit in vm.exits(): pass", interrupt_after=0.5) == "KeyboardInterrupt"
    assert kernel("print(await vm.run_async(timeout=0.05))") == "Timeout(vcpu=0)\n"
    assert kernel("vm.run(until=lambda exit: False)", interrupt_after=0.5) == "KeyboardInterrupt"
    assert kernel("print(vm.state); vm.close()") == "paused\n"
