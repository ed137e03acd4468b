"""Breakpoints, watchpoints and steps against guests and callers that mean harm: nothing hangs, dies or is forgotten."""

import os
import time

import pytest
from tests.waiting import until

import belljar as bj

LOOP = bytes.fromhex("90 48ffc0 ebfa")  # nop; inc rax; jmp to the nop
NOWHERE = 0x4000_0000


@pytest.mark.parametrize(("mode", "jump"), [("long", "rax"), ("protected", "eax")])
def test_code_that_cannot_be_fetched_ends_the_run_also_beside_a_breakpoint(vm, mode, jump):
    vm.load(f"mov eax, {NOWHERE:#x}; jmp {jump}", mode=mode, at=0x10000)
    vm.breakpoint(0x20000)
    assert isinstance(vm.run(10), bj.InternalError | bj.Shutdown)
    assert vm.cpu.regs.rip == NOWHERE


def test_a_breakpoint_in_memory_that_was_removed_waits_until_it_is_back(vm):
    vm.load(LOOP, mode="long", at=0x10000)
    vm.memory.add(0x800000, 0x1000)
    point = vm.breakpoint(0x800000, physical=True)
    vm.memory.remove(0x800000)
    assert (point.pending, point.enabled) == (True, True)
    assert vm.run(0.05) == bj.Timeout()
    vm.memory.add(0x800000, 0x1000)
    vm.memory.write(0x800000, LOOP)
    vm.cpu.regs.rip = 0x800000
    assert vm.run(10) == bj.BreakpointHit(point.id, 0x800000)


def test_what_cannot_be_planted_is_refused_at_once_and_the_run_goes_on(vm):
    vm.load(LOOP, mode="long", at=0x10000)
    vm.start()
    with pytest.raises(bj.GuestMemoryError):
        vm.breakpoint(NOWHERE, physical=True)
    if bj.host.quirks.hardware_breakpoints_in_ring0 or bj.host.quirks.hardware_breakpoints_in_ring3:
        four = [vm.breakpoint(0x20000 + n, hw=True) for n in range(4)]
        with pytest.raises(ValueError, match="all four debug registers"):
            vm.breakpoint(0x30000, hw=True)
        four.pop().remove()
        vm.breakpoint(0x30000, hw=True)
    time.sleep(0.1)
    assert vm.state == "running"
    assert vm.stop() == bj.Interrupted("stop")


def test_a_breakpoint_is_planted_over_what_the_guest_has_put_over_another(vm):
    vm.load("mov byte ptr [0x10100], 0x90; mov eax, 0x10100; jmp rax", mode="long", at=0x10000)
    vm.memory.write(0x10100, b"\xf4\xf4")
    first = vm.breakpoint(0x10100, hw=False)
    assert vm.run(10) == bj.Hlt()
    assert (first.hits, vm.memory.read(0x10100, 2)) == (0, b"\x90\xf4")
    second = vm.breakpoint(0x10100, hw=False)
    vm.cpu.regs.rip = 0x10100
    assert isinstance(vm.run(10), bj.BreakpointHit)
    assert (first.hits, second.hits, vm.memory.read(0x10100, 2)) == (1, 1, b"\x90\xf4")


def test_a_breakpoint_at_a_halt_that_waits_in_kvm_is_passed(new_vm):
    vm = new_vm("4M", 2, irqchip="split")
    vm.load("nop; l: hlt; jmp l", mode="long", at=0x10000)
    vm.load("l: inc rax; jmp l", mode="long", at=0x11000, vcpu=1)
    point = vm.breakpoint(0x10001)
    assert vm.run(10) == bj.BreakpointHit(point.id, 0x10001)
    before = vm.cpus[1].regs.rax
    assert vm.run(0.1) == bj.Timeout()
    assert (vm.cpu.regs.rip, point.hits) == (0x10002, 1)
    assert vm.cpus[1].regs.rax > before


def test_a_forked_child_plants_nothing_and_takes_nothing_away(vm):
    vm.load(LOOP, mode="long", at=0x10000)
    point, watched = vm.breakpoint(0x10001), vm.watch(0x9000)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            point.remove()
            watched.remove()
            for plant in (lambda: vm.breakpoint(0x10003), lambda: vm.watch(0xA000)):
                with pytest.raises(ValueError, match="forked child"):
                    plant()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert vm.run(10) == bj.BreakpointHit(point.id, 0x10001)


@pytest.mark.parametrize("vcpus", [1, 2])
def test_pages_are_trapped_and_let_go_while_vcpus_step_past_a_breakpoint(new_vm, vcpus):
    vm = new_vm("4M", vcpus)
    for vcpu in range(vcpus):
        vm.load("l: nop; rcr rax, 0; jmp l", mode="long", at=0x10000, vcpu=vcpu)
    point = vm.breakpoint(0x10001, lambda hit: None)
    vm.start()
    before = point.hits

    def come_and_go():
        for _ in range(10):
            vm.watch(0x10800, access="rw").remove()
        return point.hits > before + 10

    for _ in range(20):
        before = point.hits
        until(come_and_go)
    assert vm.state == "running"
    assert vm.stop() == bj.Interrupted("stop")


def test_a_handler_that_plants_where_it_is_ends_with_the_time(vm):
    vm.load(b"\x90" * 200 + b"\xeb\xfe", mode="long", at=0x10000)

    def more(hit):
        vm.breakpoint(hit.address + 1, more)
        vm.breakpoint(hit.address, more)

    vm.breakpoint(0x10001, more)
    assert vm.run(0.3) == bj.Timeout()


@pytest.mark.parametrize("access", ["w", "rw"])
def test_strings_of_a_guest_go_whole_through_a_trapped_page(vm, access):
    vm.load(
        "mov rdi, 0x30000; mov rsi, 0x20000; mov ecx, 0x3000; cld; rep movsb; mov rdi, 0x31ffe; mov ecx, 4;"
        " mov al, 7; rep stosb; hlt",
        mode="long",
        at=0x10000,
    )
    data = bytes(i * 7 & 255 for i in range(0x3000))
    vm.memory.write(0x20000, data)
    watched = vm.watch(0x31000, 0x1000, access=access, handler=lambda hit: None)
    assert vm.run(30) == bj.Hlt()
    assert vm.memory.read(0x30000, 0x3000) == data[:0x1FFE] + b"\7" * 4 + data[0x2002:]
    assert watched.hits >= 0x1000 // 8


@pytest.mark.parametrize("access", ["w", "rw"])
@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("again: nop; inc qword ptr [0x8000]; out 0x10, al; jmp again", "inc"),
        ("again: nop; mov qword ptr [0x8000], 5; out 0x10, al; jmp again", "mov"),
        ("mov rsp, 0x8008; again: nop; push rbx; pop rbx; out 0x10, al; jmp again", "push"),
    ],
)
def test_an_instruction_at_a_breakpoint_is_seen_by_watchpoints_as_any_other(new_vm, access, code, name):
    vm = new_vm("1M")
    vm.load(code)
    vm.on_port(0x10, bj.STOP)
    at = next(i.address for i in bj.disasm(bj.asm(code), at=0x1000) if i.text.startswith(name) and "8008" not in i.text)
    watched = vm.watch(0x8000, 8, lambda hit: None, access=access)
    vm.run(timeout=60)
    each = watched.hits
    assert each > 0
    point = vm.breakpoint(at, lambda hit: None)
    vm.run(timeout=60)
    assert (watched.hits, point.hits) == (2 * each, 1)
    by_address = vm.watch(0x8000, 8, lambda hit: None, virtual=True)
    assert "trap" in by_address.mechanism  # a debug register sees nothing of a page that is trapped already
    vm.run(timeout=60)
    assert (watched.hits, point.hits, by_address.hits) == (3 * each, 2, 1)


@pytest.mark.parametrize("code", ["inc qword ptr [0x8000]", "push rbx", "mov rcx, 2; rep stosq"])
def test_an_instruction_at_a_breakpoint_is_seen_by_a_watch_of_its_address(new_vm, code):
    vm = new_vm("1M")
    vm.load(f"mov rsp, 0x8008; mov rdi, 0x8000; nop; again: {code}; out 0x10, al; mov rsp, 0x8008; jmp again")
    vm.on_port(0x10, bj.STOP)
    last = code.split(";")[-1].split()[0]
    at = next(i.address for i in bj.disasm(vm.memory.read(0x1000, 64), at=0x1000) if i.text.startswith(last))
    watched = vm.watch(0x8000, 8, lambda hit: None, virtual=True)
    point = vm.breakpoint(at, lambda hit: None)
    vm.run(timeout=60)
    assert point.hits >= 1
    assert watched.hits == 1
