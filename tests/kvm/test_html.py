"""What notebooks show of machines: stopped, running, closed, and from inside a handler."""

import pytest

import belljar as bj

SPIN = bytes([0xEB, 0xFE])
DOOR = bytes([0xB0, 42, 0xE6, 0x10, 0xF4])  # mov al, 42; out 0x10, al; hlt


def test_a_vm_shows_where_it_is_what_comes_next_its_memory_and_who_answers(vm, seen):
    vm.memory.add(0xFFFC0000, "256K", rom=True)
    vm.load(DOOR, mode="long")
    vm.on_mmio(0xFEE00000, lambda _: 0, size=0x1000)

    @vm.on_port(0x10)
    def door(exit):
        pass

    vm.run(timeout=5, max_exits=1)
    text = seen(vm)
    for part in ("stopped", "1 vCPU, 1 MiB", "64-bit, ring 0, paging", "f4hlt", "RAM 1 MiB", "MMIO 4 KiB0xfee00000"):
        assert part in text
    assert "ROM 256 KiB0xfffc0000" in text and "port 0x10rwdoor1" in text


def test_a_running_vm_is_shown_without_waiting_for_it(new_vm, seen):
    vm = new_vm("1M", vcpus=2)
    vm.load(SPIN, mode="user")
    vm.start()
    shown = [seen(thing) for thing in (vm, vm.cpu, vm.cpu.regs, vm.cpu.msr, vm.memory)]
    assert vm.state == "running"
    assert "running" in shown[0] and "RAM 1 MiB" in shown[0]
    assert all("vCPU 0 is running" in text for text in shown[:4])
    vm.stop()
    assert "stopped" in seen(vm)


def test_a_closed_vm_is_shown_too(vm, seen):
    things = (vm, vm.cpu, vm.cpu.regs, vm.cpu.msr, vm.memory)
    handle = vm.on_port(0x10, print)
    vm.close()
    assert all("closed" in seen(thing) for thing in things)
    assert "port 0x10" in seen(handle)


def test_registers_show_their_values_and_flags(vm, seen):
    vm.cpu.regs.update(rax=0xDEADBEEF, rflags=0x246)
    text = seen(vm.cpu.regs)
    assert "rax 00000000deadbeef" in text and "PFZFIF" in text


def test_a_vcpu_shows_control_registers_by_the_names_of_their_bits_and_its_segments(vm, seen):
    vm.load(DOOR, mode="long")
    text = seen(vm.cpu)
    assert "PEMPETNEWPPG" in text and "LMELMA" in text and "64-bit code, readable" in text and "TSS, busy" in text


def test_a_vm_may_be_shown_from_a_handler(vm, seen):
    vm.load(DOOR, mode="real")
    told = []
    vm.on_port(0x10, lambda _: told.append(seen(vm)))
    vm.run(timeout=5)
    assert "running" in told[0] and "real mode" in told[0] and "f4hlt" in told[0]


def test_msrs_show_what_the_vcpu_has(vm, seen):
    assert "APIC_BASE0x1b00000000fee00900" in seen(vm.cpu.msr)


def test_a_vm_lists_its_handlers_as_handles(vm, seen):
    first = vm.on_port(range(0x10, 0x20), print, access="w")
    second = vm.on_exit(bj.Hlt, len)
    vm.on_exit(handler=repr)
    found = vm.handlers
    assert [handle.subject for handle in found] == ["port", "Hlt", "Exit"]
    assert [handle.function for handle in found] == [print, len, repr]
    assert (found[0].range, found[0].access, found[1].range, found[1].access) == (range(0x10, 0x20), "w", None, "rw")
    found[0].remove()
    assert not first.enabled and [handle.function for handle in vm.handlers] == [len, repr]
    second.enabled = False
    assert "removed or off" in seen(second) and not vm.handlers[0].enabled


def test_a_handle_may_reach_to_the_last_address(vm, seen):
    handle = vm.on_mmio((1 << 64) - 0x1000, size=0x1000)
    assert (handle.range, handle.function) == (range((1 << 64) - 0x1000, 1 << 64), None)
    assert "call it with a function" in seen(handle)


def test_every_class_of_exits_is_named_by_its_handle(vm):
    for kind in bj.Exit.__subclasses__():
        if kind in {bj.Timeout, bj.Interrupted}:
            with pytest.raises(TypeError):
                vm.on_exit(kind)
        else:
            assert vm.on_exit(kind, print).subject == kind.__name__


def test_the_quirks_show_every_answer(seen):
    text = seen(bj.host.quirks)
    assert all(name in text for name, *_ in bj.host.quirks.answers())
