"""Watchpoints that come and go while the guest runs, and vCPUs that share a trapped page."""

import threading
import time

import pytest

import belljar as bj

DATA = 0x8000
ROUNDS = 2000
MODES = pytest.mark.parametrize("mode", ["long", "user"])


def counting(vm, vcpu, operation, mode="long"):
    """Have a vCPU do `operation` on [rbx] some rounds, and then halt (in ring 3: end by int3)."""
    end = "int3" if mode == "user" else "hlt"
    vm.load(
        f"mov rbx, {DATA}; mov rcx, {ROUNDS}; again: {operation}; dec rcx; jnz again; {end}",
        mode,
        at=0x1000 + 0x1000 * vcpu,
        vcpu=vcpu,
    )


@MODES
@pytest.mark.parametrize("access", ["w", "rw"])
@pytest.mark.parametrize(
    "operation",
    [
        "lock inc dword ptr [rbx]",
        "mov eax, 1; lock xadd [rbx], eax",
        "mov eax, [rbx]; retry: lea edx, [rax + 1]; lock cmpxchg [rbx], edx; jnz retry",
    ],
)
def test_atomic_instructions_of_two_vcpus_on_a_trapped_page_lose_nothing(new_vm, mode, access, operation):
    vm = new_vm("1M", 2)
    for vcpu in range(2):
        counting(vm, vcpu, operation, mode)
    ends = []
    done = threading.Event()

    def ended(exit):
        ends.append(exit.vcpu)
        if len(ends) == 2:
            return bj.STOP
        done.wait(30)  # keeps this vCPU out until the other has ended, too
        return bj.STOP

    def finish(exit):
        result = ended(exit)
        done.set()
        return result

    def at_end(exit):
        return finish(exit) if ends else ended(exit)

    with vm.watch(DATA + 0x800, access=access), vm.on_exit(bj.Hlt, at_end), vm.on_exit(bj.GuestException, at_end):
        vm.run(timeout=60)
    assert sorted(ends) == [0, 1]
    assert vm.memory.read_u32(DATA) == 2 * ROUNDS


@MODES
def test_hits_of_two_vcpus_are_each_told_once(new_vm, mode):
    vm = new_vm("1M", 2)
    for vcpu in range(2):
        counting(vm, vcpu, f"mov [rbx + {8 * vcpu}], ecx", mode)
    seen = [[], []]
    ends = []
    done = threading.Event()

    def at_end(exit):
        ends.append(exit.vcpu)
        if len(ends) == 2:
            done.set()
        else:
            done.wait(30)
        return bj.STOP

    with (
        vm.watch(DATA, 16, lambda hit: seen[hit.vcpu].append(hit)),
        vm.on_exit(bj.Hlt, at_end),
        vm.on_exit(bj.GuestException, at_end),
    ):
        vm.run(timeout=60)
    for vcpu, hits in enumerate(seen):
        assert [hit.after for hit in hits] == list(range(ROUNDS, 0, -1))
        assert [hit.before for hit in hits] == [0, *range(ROUNDS, 1, -1)]
        assert {hit.address for hit in hits} == {DATA + 8 * vcpu}


FOREVER = f"mov rbx, {DATA}; again: inc qword ptr [rbx]; jmp again"


@pytest.mark.parametrize("vcpus", [1, 2])
@MODES
def test_watches_come_and_go_while_the_guest_runs(new_vm, mode, vcpus):
    vm = new_vm("1M", vcpus)
    for vcpu in range(vcpus):
        vm.load(FOREVER.replace(str(DATA), str(DATA + 0x40 * vcpu)), mode, at=0x1000 + 0x1000 * vcpu, vcpu=vcpu)
    vm.start()
    bad = []

    def count(hit):
        if hit.after != hit.before + hit.write:
            bad.append(hit)

    for turn in range(20):
        with vm.watch(DATA, 0x100, count, access=["w", "rw"][turn % 2]) as wp:
            until = time.monotonic() + 20
            while wp.hits < 3 and time.monotonic() < until:
                time.sleep(0.001)
            assert wp.hits >= 3
    vm.pause()
    hits = wp.hits
    counted = vm.memory.read_u64(DATA)
    vm.resume()
    until = time.monotonic() + 20
    while vm.memory.read_u64(DATA) == counted and time.monotonic() < until:
        time.sleep(0.001)
    vm.stop()
    assert not bad
    assert vm.memory.read_u64(DATA) > counted
    assert wp.hits == hits


def test_a_removed_watch_leaves_the_page_as_fast_as_before(vm):
    vm.load(FOREVER)
    with vm.watch(DATA, handler=lambda hit: None) as wp:
        assert isinstance(vm.run(timeout=0.2), bj.Timeout)
    assert wp.hits > 10
    slow = vm.memory.read_u64(DATA)
    assert isinstance(vm.run(timeout=0.2), bj.Timeout)
    assert vm.memory.read_u64(DATA) - slow > 3 * slow


def test_a_handler_may_watch_and_remove(vm):
    vm.load(f"mov rbx, {DATA}; mov [rbx], eax; mov [rbx + 8], eax; mov [rbx], eax; mov [rbx + 16], eax; out 0x10, al")
    seen = []

    def second(hit):
        seen.append(("second", hit.address))

    def first(hit):
        seen.append(("first", hit.address))
        one.remove()
        vm.watch(DATA + 8, 16, second)

    one = vm.watch(DATA, 8, first)
    with vm.on_port(0x10, lambda exit: bj.STOP):
        assert isinstance(vm.run(timeout=20), bj.PortOut)
    assert seen == [("first", DATA), ("second", DATA + 8), ("second", DATA + 16)]
