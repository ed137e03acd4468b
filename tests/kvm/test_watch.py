"""Watchpoints: accesses of the guest to watched memory come out with the value before and after, and nothing else changes."""

import threading
import time

import pytest

import belljar as bj

DATA = 0x8000



MODES = pytest.mark.parametrize("mode", ["long", "user"])
END = "out 0x10, al"


def run_to_end(vm):
    with vm.on_port(0x10, lambda exit: bj.STOP):
        return vm.run(timeout=20)


@MODES
def test_a_write_is_a_hit_with_the_value_before_and_after(vm, mode):
    vm.memory.write(DATA, (5).to_bytes(8, "little"))
    vm.load(f"mov dword ptr [{DATA}], 0x1234; {END}", mode)
    wp = vm.watch(DATA)
    hit = vm.run(timeout=20)
    assert isinstance(hit, bj.WatchpointHit)
    assert (hit.id, hit.address, hit.gpa, hit.size, hit.write) == (wp.id, DATA, DATA, 4, True)
    assert (hit.before, hit.after, hit.vcpu) == (5, 0x1234, 0)
    assert vm.memory.read_u32(DATA) == 0x1234, "the write has been made"
    assert hit.rip == vm.cpu.regs.rip, "the instruction is complete"
    assert isinstance(run_to_end(vm), bj.PortOut)
    assert wp.hits == 1


@MODES
def test_accesses_beside_what_is_watched_are_right_and_no_hits(vm, mode):
    vm.load(
        f"""
        mov rax, 0x1122334455667788
        mov [{DATA} + 0x100], rax
        mov bl, [{DATA} + 0x101]
        mov cx, [{DATA} + 0x102]
        mov edx, [{DATA} + 0x104]
        mov rsi, [{DATA} + 0x100]
        add dword ptr [{DATA} + 0x100], 1
        push qword ptr [{DATA} + 0x100]
        pop rdi
        {END}
        """,
        mode,
    )
    with vm.watch(DATA, access="rw") as wp:
        end = run_to_end(vm)
    assert isinstance(end, bj.PortOut), end
    regs = vm.cpu.regs
    assert (regs.rbx & 0xFF, regs.rcx & 0xFFFF, regs.rdx, regs.rsi) == (0x77, 0x5566, 0x11223344, 0x1122334455667788)
    assert regs.rdi == 0x1122334455667789
    assert wp.hits == 0


@MODES
def test_reads_are_told_by_a_hole(vm, mode):
    vm.memory.write(DATA, bytes(range(1, 9)))
    vm.load(f"mov ax, [{DATA} + 2]; mov [{DATA}], al; {END}", mode)
    seen = []
    wp = vm.watch(DATA, 8, seen.append, access="r")
    assert wp.mechanism == "memory trap (hole)"
    assert isinstance(run_to_end(vm), bj.PortOut)
    assert [(h.address, h.size, h.write, h.before, h.after) for h in seen] == [(DATA + 2, 2, False, 0x403, 0x403)]
    assert vm.memory.read_u8(DATA) == 3
