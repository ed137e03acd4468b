"""A machine of two vCPUs that count, for tests of gdb's server: what it runs, and whether it does. It knows no gdb."""

import time

from tests.waiting import PATIENCE

COUNT = "again: inc rax; mov [0x5000], rax; mov rdx, 0x6000; mov rcx, [rdx]; jmp again"
"""Counts in RAX and at 0x5000, and reads 0x6000."""

SPIN = "again: inc rbx; inc rbx; jmp again"


def start(vm):
    """Have a machine count on its first vCPU, and spin on its second."""
    vm.load(COUNT, at=0x1000)
    vm.load(SPIN, at=0x2000, vcpu=1)
    vm.start()
    assert moves(vm)
    return vm


def moves(vm, seconds=PATIENCE):
    """Does the counter at 0x5000 go on, or has it stood still for so many seconds?"""
    before, deadline = vm.memory.read_u64(0x5000), time.monotonic() + seconds
    while time.monotonic() < deadline:
        if vm.memory.read_u64(0x5000) != before:
            return True
        time.sleep(0.001)
    return False
