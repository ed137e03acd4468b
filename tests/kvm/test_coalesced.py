"""Zones whose writes KVM queues: in order, in batches, and none lost but those that nobody reads."""

import gc
import threading
import weakref

import pytest
from tests.waiting import until

import belljar as bj

MANY = "xor eax, eax; l: inc eax; out 0x80, eax; cmp eax, 1000; jne l; hlt"


def test_writes_to_a_port_wait_in_their_order(vm):
    vm.load("mov eax, 0x12345678; out 0x80, al; out 0x82, ax; out 0x80, eax; hlt")
    with vm.coalesced(port=range(0x80, 0x84)) as zone:
        assert vm.run(timeout=10) == bj.Hlt()
        assert vm.stats.exits == {"Hlt": 1}
        assert zone.read() == [(0x80, 1, 0x78), (0x82, 2, 0x5678), (0x80, 4, 0x12345678)]
        assert zone.read() == []


def test_writes_to_addresses_wait_in_their_order(vm):
    vm.load("mov rax, 0x1122334455667788; mov [0x40000010], rax; mov [0x40000ff8], al; hlt")
    with vm.coalesced(mmio=0x4000_0000, size=0x1000) as zone:
        vm.run(timeout=10)
        assert vm.stats.exits == {"Hlt": 1}
        assert zone.read() == [(0x4000_0010, 8, 0x1122334455667788), (0x4000_0FF8, 1, 0x88)]


def test_more_writes_than_the_queue_holds_are_all_there_in_order(vm):
    vm.load(MANY)
    zone = vm.coalesced(0x80, size=4)
    assert vm.run(timeout=10) == bj.Hlt()
    assert 0 < vm.stats.exits["PortOut"] < 10
    assert zone.read() == [(0x80, 4, n) for n in range(1, 1001)]
    assert zone.lost == 0


def test_they_come_as_an_array_too(vm):
    vm.load(MANY)
    zone = vm.coalesced(0x80, size=4)
    vm.run(timeout=10)
    array = zone.array()
    assert array.dtype.names == ("address", "data", "size")
    assert (array["data"].tolist(), set(array["address"]), set(array["size"])) == (list(range(1, 1001)), {0x80}, {4})
    assert len(zone.array()) == 0


def test_what_nobody_reads_is_lost_and_counted(vm):
    vm.load(MANY)
    zone = vm.coalesced(0x80, size=4, limit=300)
    vm.run(timeout=10)
    assert ([data for _, _, data in zone.read()], zone.lost) == (list(range(1, 301)), 700)


def test_a_handler_has_the_writes_before_the_exit_that_follows(vm):
    vm.load("mov al, 1; out 0x80, al; inc al; out 0x80, al; in al, 0x90; out 0x80, al; hlt")
    seen = []
    vm.coalesced(0x80, handler=lambda writes: seen.extend(data for _, _, data in writes))
    vm.on_port(0x90, lambda exit: 10 * len(seen))
    assert vm.run(timeout=10) == bj.Hlt()
    assert seen == [1, 2, 20]


def test_a_handler_gets_batches_of_many_writes_in_order(vm):
    vm.load(MANY)
    batches = []
    vm.coalesced(0x80, size=4, handler=batches.append)
    vm.run(timeout=10)
    assert [data for batch in batches for _, _, data in batch] == list(range(1, 1001))
    assert len(batches) < 30


def test_what_a_handler_raises_comes_out_of_run_and_the_vm_stays_usable(vm):
    vm.load("out 0x80, al; in al, 0x90; out 0x80, al; in al, 0x90; hlt")
    calls = []

    def handler(writes):
        calls.append(len(writes))
        if len(calls) == 1:
            raise KeyError("first")

    vm.coalesced(0x80, handler=handler)
    with pytest.raises(KeyError, match="first"):
        vm.run(timeout=10)
    assert vm.run(timeout=10) == bj.Hlt()
    assert (calls, vm.cpu.regs.rax & 0xFF) == ([1, 1], 0xFF)


def test_a_handler_may_look_at_the_vcpu_and_read_its_zone(vm):
    vm.load("mov al, 5; out 0x80, al; hlt")
    seen = []
    zone = vm.coalesced(0x80, handler=lambda writes: seen.append((writes, vm.cpu.regs.rax, zone.read())))
    vm.run(timeout=10)
    assert seen == [([(0x80, 1, 5)], 5, [])]


def test_zones_do_not_see_each_others_writes(vm):
    vm.load("mov al, 1; out 0x80, al; inc al; out 0x81, al; inc al; out 0x80, al; mov [0x80000], al; hlt")
    with vm.coalesced(0x80) as one, vm.coalesced(0x81) as two:
        vm.run(timeout=10)
        assert ([w[2] for w in one.read()], [w[2] for w in two.read()]) == ([1, 3], [2])


def test_other_handlers_see_them_again_when_it_is_removed(vm):
    vm.load("l: out 0x80, al; hlt; jmp l")
    seen = []
    vm.on_port(0x80, seen.append)
    with vm.coalesced(0x80) as zone:
        vm.run(timeout=10)
    vm.run(timeout=10)
    assert (zone.read(), seen, zone.removed) == ([(0x80, 1, 0)], [bj.PortOut(0x80, 1, 0)], True)
    zone.remove()


def test_reads_still_exit(vm):
    vm.load("in al, 0x80; hlt")
    zone = vm.coalesced(0x80)
    vm.on_port(0x80, lambda exit: 9)
    vm.run(timeout=10)
    assert (vm.cpu.regs.rax & 0xFF, zone.read()) == (9, [])


def test_it_is_read_while_the_guest_runs(vm):
    vm.load("xor eax, eax; l: inc eax; out 0x80, eax; jmp l")
    zone, numbers = vm.coalesced(0x80, size=4), []
    vm.start()

    def read():
        numbers.extend(data for _, _, data in zone.read())
        return len(numbers) >= 2000

    until(read)
    vm.stop()
    numbers += [data for _, _, data in zone.read()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_one_made_while_the_guest_runs_has_its_writes(vm):
    vm.load("l: out 0x80, al; jmp l")
    vm.start()
    zone = vm.coalesced(0x80)
    writes = until(zone.read)
    vm.stop()
    assert writes[0] == (0x80, 1, 0)


def test_two_vcpus_write_and_several_threads_read_without_losing_any(new_vm):
    vm = new_vm("1M", 2)
    for n in range(2):
        vm.load(
            f"mov eax, {n << 20}; mov ecx, 500; l: inc eax; out 0x80, eax; dec ecx; jnz l; m: jmp m",
            vcpu=n,
            at=0x1000 * (n + 1),
        )
    zone, lists, done = vm.coalesced(0x80, size=4), [], threading.Event()

    def read():
        while not done.is_set():
            lists.append([data for _, _, data in zone.read()])

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    vm.start()
    until(lambda: sum(map(len, list(lists))) >= 1000)
    vm.stop()
    done.set()
    for thread in threads:
        thread.join()
    found = sorted(data for part in lists for data in part)
    assert found == [(n << 20) + k for n in range(2) for k in range(1, 501)]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({}, ValueError, "port= or mmio="),
        ({"port": 1, "mmio": 1}, ValueError, "port= or mmio="),
        ({"port": range(0x10000)}, bj.RangeError, "reports exceptions"),
        ({"port": range(0x80, 0x90)}, bj.RangeError, "a coalesced zone at 0x84"),
        ({"mmio": 0x1000, "size": 16}, bj.RangeError, "overlaps RAM"),
        ({"mmio": 2**40, "size": 2**33}, ValueError, "less than 4 GiB"),
        ({"port": 1, "handler": 5}, TypeError, "a function of a list of writes"),
    ],
)
def test_what_cannot_be_queued_is_refused(vm, arguments, error, words):
    zone = vm.coalesced(0x84)
    with pytest.raises(error, match=words):
        vm.coalesced(**arguments)
    assert not zone.removed


def test_one_that_nobody_can_read_any_more_is_gone_and_a_handler_goes_on(vm):
    vm.load("out 0x80, al; out 0x81, al; hlt")
    seen = []
    vm.coalesced(0x80)
    vm.coalesced(0x81, handler=seen.extend)
    gc.collect()
    vm.run(timeout=10)
    assert (vm.stats.exits, seen) == ({"PortOut": 1, "Hlt": 1}, [(0x81, 1, 0)])


def test_a_closed_vm_has_none(new_vm):
    vm = new_vm("1M")
    vm.load("out 0x80, al; hlt")
    zone = vm.coalesced(0x80, handler=lambda writes: None)
    vm.run(timeout=10)
    vm.close()
    assert (zone.read(), zone.removed, repr(zone)) == ([], True, "<Zone of ports 0x80..0x80, removed>")
    with pytest.raises(bj.ClosedError):
        vm.coalesced(0x80)


def test_a_handler_that_holds_its_vm_is_collected_with_it():
    class Device:
        def __init__(self):
            self.vm = bj.VM("1M")
            self.zone = self.vm.coalesced(0x80, handler=self.take)

        def take(self, writes):
            pass

    gone = weakref.ref(Device())
    gc.collect()
    assert gone() is None
