"""Machines of several vCPUs: each with its own code and registers, all seeing one memory.

How many a host allows is bj.host.max_vcpus.
"""

import pytest

import belljar as bj


def test_the_vcpus_are_numbered(new_vm):
    vm = new_vm("1M", 3)
    assert [cpu.id for cpu in vm.cpus] == [0, 1, 2]
    assert vm.cpu.id == 0
    assert "3 vcpus" in repr(vm)


@pytest.mark.parametrize("count", [0, -1, 100_000, 2**40])
def test_a_number_of_vcpus_that_cannot_be_is_refused_with_the_numbers(count):
    with pytest.raises(ValueError, match=rf"{count} vCPUs asked.*1"):
        bj.VM("1M", count)


@pytest.mark.parametrize("count", ["2", 1.0, None])
def test_a_number_of_vcpus_is_an_integer(count):
    with pytest.raises(TypeError):
        bj.VM("1M", count)


def test_a_vcpu_that_is_none_is_refused(vm):
    with pytest.raises(ValueError, match="1 is none"):
        vm.load(b"\xf4", vcpu=1)


@pytest.mark.parametrize("first", ["real", "protected", "long", "user"])
@pytest.mark.parametrize("second", ["real", "protected", "long", "user"])
def test_each_vcpu_runs_its_own_code_in_its_own_mode(new_vm, first, second):
    vm = new_vm("1M", 2)
    vm.load("l: mov al, 1; out 0x10, al; jmp l", mode=first, at=0x1000)
    vm.load("l: mov al, 2; out 0x10, al; jmp l", mode=second, at=0x2000, vcpu=1)
    seen = set()
    vm.on_port(0x10, lambda exit: seen.add((exit.vcpu, exit.data)) or (bj.STOP if len(seen) == 2 else None))
    assert isinstance(vm.run(timeout=10), bj.PortOut)
    assert seen == {(0, 1), (1, 2)}


def test_exceptions_of_several_vcpus_keep_apart(new_vm):
    vm = new_vm("1M", 2)
    for n in range(2):
        vm.load(f"mov ebx, {n}; l: ud2; jmp l", mode="user", at=0x1000 * (n + 1), vcpu=n)

    @vm.on_exit(bj.GuestException)
    def over(exit):
        cpu = vm.cpus[exit.vcpu]
        assert (exit.vector, exit.rip, cpu.regs.rbx) == (6, 0x1005 + 0x1000 * exit.vcpu, exit.vcpu)
        cpu.regs.rip += 2
        return bj.SKIP if over.hits < 1000 else None

    assert vm.run(timeout=20).vector == 6


def test_the_vcpus_see_one_memory(new_vm):
    vm = new_vm("1M", 2)
    vm.load("l: mov eax, [0x8000]; test eax, eax; jz l; out 0x10, al", mode="user")
    vm.load("mov dword ptr [0x8000], 42; l: jmp l", mode="user", at=0x2000, vcpu=1)
    vm.on_port(0x10, lambda exit: bj.STOP)
    assert vm.run(timeout=60) == bj.PortOut(0x10, 1, 42, vcpu=0)


def test_only_the_vcpus_that_were_given_something_run(new_vm):
    vm = new_vm("1M", 4)
    vm.load("mov al, 7; hlt", vcpu=2)
    assert vm.run(timeout=60) == bj.Hlt(vcpu=2)
    assert vm.cpus[2].regs.rax & 0xFF == 7


def test_the_first_to_stop_stops_the_others(new_vm):
    vm = new_vm("1M", 2)
    vm.load("l: jmp l", mode="user")
    vm.load("hlt", at=0x2000, vcpu=1)
    assert vm.run(timeout=60) == bj.Hlt(vcpu=1)
    vm.cpus[1].regs.rip = 0x2000
    vm.start()
    assert vm.join(timeout=60) == bj.Hlt(vcpu=1)


def test_one_vcpu_may_run_alone(new_vm):
    vm = new_vm("1M", 2)
    vm.load("mov al, 1; hlt", at=0x1000)
    vm.load("mov al, 2; hlt", at=0x2000, vcpu=1)
    assert vm.cpus[1].run(timeout=60) == bj.Hlt(vcpu=1)
    assert [cpu.regs.rax & 0xFF for cpu in vm.cpus] == [0, 2]
    assert vm.cpus[0].run(timeout=60) == bj.Hlt(vcpu=0)
    assert [cpu.regs.rax & 0xFF for cpu in vm.cpus] == [1, 2]


def test_a_handler_reaches_its_own_vcpu_but_no_other_that_runs(new_vm):
    vm = new_vm("1M", 2)
    vm.load("l: mov dx, 0x10; out dx, al; jmp l", at=0x1000)
    vm.load("mov byte ptr [0x8000], 1; l: jmp l", mode="user", at=0x2000, vcpu=1)

    @vm.on_port(0x10)
    def look(exit):
        if vm.memory[0x8000] == 0:
            return None
        assert vm.cpus[exit.vcpu].regs.rdx == 0x10
        with pytest.raises(bj.RunningError, match="vCPU 1 is running"):
            vm.cpus[1].regs.read()
        return bj.STOP

    assert isinstance(vm.run(timeout=60), bj.PortOut)


def test_a_timeout_and_a_kick_end_all_vcpus(new_vm):
    vm = new_vm("1M", 4)
    for n in range(4):
        vm.load("l: jmp l", mode="user", at=0x1000 * (n + 1), vcpu=n)
    assert vm.run(timeout=0.05) == bj.Timeout()
    vm.start()
    vm.kick()
    assert vm.join(timeout=60) == bj.Interrupted("kick")
    assert all(0x1000 * (n + 1) == cpu.regs.rip for n, cpu in enumerate(vm.cpus))


def test_an_error_of_one_vcpus_handler_stops_all(new_vm):
    vm = new_vm("1M", 2)
    vm.load("l: jmp l", mode="user")
    vm.load("out 0x10, al; hlt", at=0x2000, vcpu=1)
    vm.on_port(0x10, lambda exit: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        vm.run(timeout=60)
    assert vm.state == "paused"


def test_max_exits_counts_the_exits_of_all(new_vm):
    vm = new_vm("1M", 2)
    for n in range(2):
        vm.load("l: out 0x10, al; jmp l", at=0x1000 * (n + 1), vcpu=n)
    handle = vm.on_port(0x10, lambda exit: None)
    vm.run(max_exits=100)
    assert 100 <= handle.hits <= 101
