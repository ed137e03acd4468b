"""Devices that come and go: while guests run, on several threads and vCPUs, and for good.

What a device answers is in test_devices.py.
"""

import gc
import threading
import weakref

import pytest

import belljar as bj
from belljar.testcard import TestCard

MMIO = 0xFEB0_0000


class Noting(bj.Device):
    """Notes what is written to it."""

    ports = range(0x10, 0x20)

    def __init__(self):
        self.seen = []

    def write(self, offset, size, value):
        self.seen.append(("w", offset, size, value))


def run(vm, code, mode="long"):
    vm.load(code, mode=mode)
    assert vm.run(timeout=10) == bj.Hlt()


def test_a_closed_machine_lets_its_devices_go(new_vm):
    first, device = new_vm("1M"), Noting()
    first.attach(device)
    first.close()
    assert first.devices == ()
    second = new_vm("1M")
    second.attach(device)
    run(second, "out 0x10, al; hlt")
    assert len(device.seen) == 1
    with pytest.raises(bj.ClosedError):
        first.attach(Noting())


def test_a_device_attached_and_detached_while_the_guest_runs_takes_effect(vm):
    vm.load("l: out 0x10, al; jmp l")
    vm.start()
    arrived = threading.Event()

    class Device(bj.Device):
        ports = 0x10

        def write(self, offset, size, value):
            arrived.set()

    device = vm.attach(Device())
    assert arrived.wait(60)
    vm.detach(device)
    vm.pause()
    arrived.clear()
    vm.resume()
    assert not arrived.wait(0.05)
    vm.stop()


def test_a_device_attaches_another_in_the_middle_of_an_access(vm):
    class Bridge(bj.Device):
        ports = 0x20

        def write(self, offset, size, value):
            self.child = self.vm.attach(Noting(), at=value)

    bridge = vm.attach(Bridge())
    run(vm, "mov al, 0x40; out 0x20, al; mov al, 1; out 0x42, al; hlt")
    assert bridge.child.seen == [("w", 2, 1, 1)]


def test_one_access_at_a_time_is_answered_however_many_vcpus_ask(new_vm):
    class Device(bj.Device):
        ports = 0x10

        def __init__(self):
            self.inside = self.most = self.count = 0

        def write(self, offset, size, value):
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.count += 1
            for _ in range(200):
                pass
            self.inside -= 1
            return bj.STOP if self.count >= 2000 else None

    vm = new_vm("1M", 4)
    device = vm.attach(Device())
    for n in range(4):
        vm.load("l: out 0x10, al; jmp l", at=0x1000 * (n + 1), vcpu=n)
    assert isinstance(vm.run(timeout=60), bj.PortOut)
    assert device.most == 1


def test_a_register_map_counts_every_write_of_several_vcpus(new_vm):
    class Counter(bj.RegisterDevice):
        ports = 0x10
        count = bj.Register(0)

        @count.on_read
        def more(self):
            self.count += 1

    vm = new_vm("1M", 2)
    counter = vm.attach(Counter())
    for n in range(2):
        vm.load("mov ecx, 500; l: in eax, 0x10; loop l; mov al, 1; out 0x20, al; k: jmp k", at=0x1000 * (n + 1), vcpu=n)
    done = vm.on_port(0x20, lambda exit: bj.STOP if done.hits == 2 else None)
    assert isinstance(vm.run(timeout=60), bj.PortOut)
    assert counter.count == 1000


def test_detaching_from_another_thread_waits_for_the_access_that_is_being_answered(vm):
    arrived, go_on = threading.Event(), threading.Event()

    class Slow(bj.Device):
        ports = 0x10

        def write(self, offset, size, value):
            arrived.set()
            go_on.wait(60)
            self.found = self.vm

    device = vm.attach(Slow())
    vm.load("out 0x10, al; l: jmp l")
    vm.start()
    assert arrived.wait(60)
    thread = threading.Thread(target=vm.detach, args=(device,))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    go_on.set()
    thread.join(60)
    vm.stop()
    assert device.found is vm and not device.is_attached


@pytest.mark.parametrize("mode", ["instead", "before", "beside"])
def test_devices_come_and_go_while_several_vcpus_use_them(new_vm, mode):
    vm = new_vm("1M", 2, serial=True)
    for n in range(2):
        vm.load("mov dx, 0x3ff; l: in al, dx; out dx, al; jmp l", at=0x1000 * (n + 1), vcpu=n)

    class Device(bj.Device):
        ports = range(0x3F8, 0x400)

        def read(self, offset, size):
            return self.below.read(offset, size)

        def write(self, offset, size, value):
            return self.below.write(offset, size, value)

    vm.start()
    device = Device()
    for _ in range(100):
        vm.attach(device, mode=mode)
        vm.detach(device)
    vm.pause()
    assert vm.state == "paused"
    vm.stop()


@pytest.mark.parametrize("how", ["attached", "attached and run", "closed", "detached"])
def test_a_machine_and_its_devices_are_collected_together(how):
    vm = bj.VM("1M")
    device = vm.attach(Noting())
    vm.attach(TestCard())
    device.child = vm.attach(Noting(), at=0x40)
    if how == "attached and run":
        run(vm, "out 0x10, al; hlt")
    elif how == "closed":
        vm.close()
    elif how == "detached":
        vm.detach(device)
    gone = [weakref.ref(vm), weakref.ref(device), weakref.ref(device.child)]
    del vm, device
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3


def test_a_detached_device_is_let_go_by_its_machine(vm):
    device = vm.attach(TestCard())
    run(vm, f"mov ebx, {MMIO:#x}; mov eax, [rbx]; hlt")
    vm.detach(device)
    gone = weakref.ref(device)
    del device
    gc.collect()
    assert gone() is None
