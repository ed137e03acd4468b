"""What an adversarial reading of the code found: overtaken interrupts, lost stops, deep recursion, lock orders."""

import subprocess
import sys
import textwrap
import threading

import pytest

import belljar as bj

VECTORS = {0x20: 0x2000, 0x21: 0x2100}


def real(vm, code):
    """Load real-mode code; each vector's handler writes its number to port 0x77."""
    for vector, at in VECTORS.items():
        vm.memory.write_u32(4 * vector, at)
        vm.memory.write(at, bytes([0xB0, vector, 0xE6, 0x77, 0xCF]))  # mov al, vector; out 0x77, al; iret
    vm.load(code, "real")
    vm.cpu.regs.rsp = 0x8000
    return vm


def test_a_restored_state_with_interrupts_closed_takes_none(vm):
    real(vm, b"\xfa\x43\xeb\xfd" + 12 * b"\x90" + b"\xfb\x90\x90\xe6\x80\xf4")  # closed at 0x1000, open at 0x1010
    closed = vm.cpu.state()
    vm.cpu.regs.rip += 0x10
    assert vm.run(timeout=60, until=bj.PortOut).port == 0x80
    assert vm.cpu.rflags.if_
    vm.cpu.restore(closed)
    vm.cpu.inject_interrupt(0x20)
    assert vm.run(timeout=0.1, until=bj.PortOut) == bj.Timeout()
    assert vm.cpu.waiting_interrupts == [0x20]


def test_an_interrupt_that_a_state_was_delivering_is_not_overtaken(vm):
    real(vm, b"\xfb\x90\x90\xe6\x80\x43\xeb\xfd")  # sti; ...; out 0x80, al; l: inc bx; jmp l
    assert vm.run(timeout=60, until=bj.PortOut).port == 0x80
    vm.cpu.events = vm.cpu.events.replace(interrupt=0x21)
    vm.cpu.restore(vm.cpu.state())
    vm.cpu.inject_interrupt(0x20)
    seen = []
    vm.on_port(0x77, lambda exit: seen.append(exit.data))
    vm.run(timeout=60, until=lambda exit: len(seen) == 2)
    assert seen == [0x21, 0x20]


SPLIT = "mov rbx, 0x10000ffe; mov [rbx], eax; mov al, 1; out 0x55, al; hlt"  # one write, two exits: across pages


@pytest.mark.parametrize("until", [None, lambda exit: False])
def test_a_stop_at_the_second_half_of_an_access_is_kept(vm, until):
    vm.load(SPLIT)
    vm.on_mmio(range(0x1000_0000, 0x1000_1000), lambda exit: None)
    vm.on_mmio(range(0x1000_1000, 0x1000_2000), lambda exit: bj.STOP)
    assert vm.run(timeout=60, until=until) == bj.MmioWrite(0x1000_1000, 2, 0)
    assert vm.run(timeout=60) == bj.Hlt()


def test_a_stop_at_the_second_half_is_kept_where_the_first_set_registers(vm):
    vm.load(SPLIT)
    vm.on_mmio(range(0x1000_0000, 0x1000_1000), lambda exit: vm.cpu.regs.update(rcx=5))
    vm.on_mmio(range(0x1000_1000, 0x1000_2000), lambda exit: bj.STOP)
    assert vm.run(timeout=60) == bj.MmioWrite(0x1000_1000, 2, 0)
    assert vm.cpu.regs.rcx == 5


@pytest.mark.parametrize("access", ["rdmsr", "wrmsr"])
def test_registers_of_an_msr_handler_that_raises_are_set_as_those_of_others(vm, access):
    vm.load(f"mov ecx, 0x174; mov eax, 5; xor edx, edx; {access}; nop; nop; hlt")

    @vm.on_msr(0x174)
    def fails(exit):
        vm.cpu.regs.rip = 0x3000
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        vm.run(timeout=60)
    assert vm.cpu.regs.rip == 0x3000


RECURSION = """
    import belljar as bj
    vm = bj.VM("1M")
    vm.load("mov dx, 0x10; in al, dx; hlt")
    first = vm.on_port(0x10)
    second = vm.on_port(0x20)
    first(lambda exit: first.pass_on(bj.PortIn(0x20, 1)))
    second(lambda exit: second.pass_on(bj.PortIn(0x10, 1)))
    vm.start()
    try:
        vm.join(60)
    except RecursionError:
        print("limit")
"""


def test_a_handler_that_calls_itself_without_end_is_a_recursion_error_in_the_background_too():
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(RECURSION)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (child.returncode, child.stdout) == (0, "limit\n"), child.stderr


def test_a_device_is_attached_by_another_one_while_a_third_is_reset(new_vm):
    reading, resetting = threading.Event(), threading.Event()

    class Slot(bj.Device):
        ports = 0x10

        def read(self, offset, size):
            reading.set()
            resetting.wait(60)
            self.vm.attach(Card())
            return 1

    class Card(bj.Device):
        ports = 0x20

    class Bridge(bj.Device):
        ports = 0x30

        def reset(self):
            resetting.set()
            with slot.lock:
                pass

    vm, other, slot = new_vm("1M"), new_vm("1M"), Slot()
    vm.load("in al, 0x10; hlt")
    vm.attach(slot)
    threads = [
        threading.Thread(target=vm.run, args=(20,), daemon=True),
        threading.Thread(target=lambda: other.attach(Bridge()), daemon=True),
    ]
    threads[0].start()
    assert reading.wait(60)
    threads[1].start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert len(vm.devices) == 2
    assert len(other.devices) == 1


TOO_MUCH = """
    import resource
    import belljar as bj
    vm = bj.VM(None)
    vm.memory.add(0, 1 << 40)
    used = int(open("/proc/self/statm").read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), used + (1 << 30)))
    for read in (vm.memory.read, vm.memory.read_array):
        try:
            read(0, 1 << 40)
        except MemoryError:
            print("refused")
"""


def test_more_memory_than_the_host_gives_is_a_memory_error():
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TOO_MUCH)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (child.returncode, child.stdout) == (0, "refused\nrefused\n"), child.stderr


def test_a_task_priority_that_there_is_not_is_refused_at_once(vm):
    vm.load("hlt")
    with pytest.raises(ValueError, match="CR8 is 0 to 15, not 256"):
        vm.cpu.cr8 = 0x100
    assert vm.run(timeout=60) == bj.Hlt()
