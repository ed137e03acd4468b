"""What a machine has done: exits by class, and where the time went."""

import time

from tests.waiting import until

import belljar as bj


def test_exits_are_counted_by_their_class(vm):
    vm.load("out 0x10, al; in al, 0x10; in al, 0x10; mov eax, [0x40000000]; hlt")
    assert vm.stats == bj.Stats({}, vm.stats.guest, 0.0, 0.0, 0)
    vm.run(timeout=60)
    assert vm.stats.exits == {"PortOut": 1, "PortIn": 2, "MmioRead": 1, "Hlt": 1}
    assert vm.stats.total == 5


def test_each_vcpu_has_its_own(new_vm):
    vm = new_vm("1M", 2)
    vm.load("out 0x10, al; hlt", vcpu=1)
    vm.cpus[1].run(timeout=60)
    assert [cpu.stats.total for cpu in vm.cpus] == [0, 2]
    assert vm.stats.exits == {"PortOut": 1, "Hlt": 1}


def test_time_goes_where_it_is_spent(vm):
    vm.load("l: jmp l", mode="user")
    before = vm.stats
    vm.run(timeout=0.2)
    spent = vm.stats - before
    assert spent.guest > 0.1
    assert spent.native < spent.guest
    assert spent.handlers == 0


def test_time_in_handlers_is_theirs(vm):
    vm.load("out 0x10, al; hlt")
    vm.on_port(0x10, lambda exit: time.sleep(0.1))
    vm.run(timeout=60)
    assert vm.stats.handlers >= 0.1
    assert vm.stats.native < vm.stats.handlers


def test_two_moments_have_a_difference(vm):
    vm.load("l: out 0x10, al; jmp l")
    vm.run(max_exits=3)
    before = vm.stats
    vm.run(max_exits=4)
    assert (vm.stats - before).exits == {"PortOut": 4}


def test_they_can_be_read_while_the_guest_runs(vm):
    vm.load("l: out 0x10, al; jmp l")
    vm.start()
    until(lambda: vm.stats.total >= 100)
    vm.stop()
    assert vm.stats.exits["PortOut"] >= 100


def test_a_table_shows_times_and_exits(vm):
    vm.load("out 0x10, al; hlt")
    vm.run(timeout=60)
    text = str(vm.stats)
    assert "guest" in text
    assert "PortOut" in text


def test_a_difference_of_seconds_is_in_whole_nanoseconds():
    assert bj.Stats(guest=0.3) - bj.Stats(guest=0.1) == bj.Stats(guest=0.2)
