"""What notebooks show of machines: stopped, running, closed, and from inside a handler."""

import re

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

    vm.run(timeout=60, max_exits=1)
    text = seen(vm)
    for part in ("paused", "1 vCPU, 1 MiB", "64-bit, ring 0, paging", "f4hlt", "RAM 1 MiB", "<lambda>0xfee00000"):
        assert part in text
    assert "ROM 256 KiB0xfffc0000" in text and "port 0x10rwdoor1" in text


def test_a_running_vm_is_shown_without_waiting_for_it(new_vm, seen):
    vm = new_vm("1M", vcpus=2)
    vm.load(SPIN, mode="user")
    vm.start()
    shown = [seen(thing) for thing in (vm, vm.cpu, vm.cpu.regs, vm.cpu.msr, vm.memory)]
    assert "vCPU 0 is running" in seen(vm.cpu.fpu)
    assert "Memory map" in seen(vm.memory_map()) and "Statistics" in seen(vm.stats)
    assert vm.state == "running"
    assert "running" in shown[0] and "RAM 1 MiB" in shown[0]
    assert all("vCPU 0 is running" in text for text in shown[:4])
    vm.stop()
    assert "stopped" in seen(vm)


def test_a_closed_vm_is_shown_too(vm, seen):
    things = (vm, vm.cpu, vm.cpu.regs, vm.cpu.msr, vm.memory)
    handle = vm.on_port(0x10, print)
    vm.close()
    assert all("closed" in seen(thing) for thing in (*things, vm.cpu.fpu))
    assert seen(vm.stats)
    assert "port 0x10" in seen(handle)


def test_registers_show_their_values_and_flags(vm, seen):
    vm.cpu.regs.update(rax=0xDEADBEEF, rflags=0x246)
    text = seen(vm.cpu.regs)
    assert "rax 00000000deadbeef" in text and "PF ZF IF" in text


def test_a_vcpu_shows_control_registers_by_the_names_of_their_bits_and_its_segments(vm, seen):
    vm.load(DOOR, mode="long")
    text = seen(vm.cpu)
    assert "PE MP ET NE WP PG" in text and "LME LMA" in text and "64-bit code, readable" in text and "TSS, busy" in text


def test_a_vm_may_be_shown_from_a_handler(vm, seen):
    vm.load(DOOR, mode="real")
    told = []
    vm.on_port(0x10, lambda _: told.append(seen(vm)))
    vm.run(timeout=60)
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


def test_registers_that_changed_in_the_last_run_are_marked(vm):
    vm.load(DOOR, mode="real")
    assert "changed in the last run" not in vm.cpu.regs._repr_html_()
    vm.run(timeout=60, max_exits=1)
    marked = re.findall(r'class="changed" title="was (0x[0-9a-f]+)"> *(\w+)', vm.cpu.regs._repr_html_())
    assert ("0x0", "rax") in marked and ("0x1000", "rip") in marked and "rbx" not in dict(marked).values()


def test_the_memory_map_shows_memory_devices_handlers_and_holes(new_vm, seen):
    vm = new_vm("1M", irqchip="split")

    def answers(exit):
        pass

    vm.on_mmio(0xFEB00000, answers, size=0x1000)
    text = seen(vm.memory_map())
    assert "RAM 1 MiB0x0" in text and "handler0xfeb000000xfeb00fff4 KiBanswers, reads and writes" in text
    assert "device0xfee000000xfee00fff4 KiBlocal APIC, in the kernel" in text and "hole0x1000000xfeafffff" in text
    assert "answers0xfeb00000" in seen(vm) and "RAM 0x0 to 0xfffff 1 MiB" in seen_words(seen(vm.memory_map()[0]))


def seen_words(text):
    """Put a space where an element ends before a number."""
    return text.replace("RAM0x", "RAM 0x").replace("fffff1", "fffff 1")


def test_statistics_show_where_the_time_went(vm, seen):
    vm.load(DOOR, mode="real")
    vm.on_port(0x10, lambda _: None)
    vm.run(timeout=60)
    text = seen(vm.stats)
    assert "2 exits" in text and "guest" in text and "Python handlers" in text and "PortOut1" in text


def test_a_state_is_shown_in_sections_and_a_diff_by_names_and_bits(vm, seen):
    before = vm.cpu.state()
    vm.cpu.regs.rax = 0x2A
    vm.cpu.cr0.wp = True
    text = seen(before.diff(vm.cpu.state()))
    assert "2 changes" in text and "regs.rax0x0\N{RIGHTWARDS ARROW}0x2a" in text and text.endswith("WP")
    assert "Nothing differs" in seen(before.diff(before))
    assert "general (18)" in seen(before) and "local APIC" not in seen(before)


def test_lines_and_local_apics_are_shown(new_vm, seen):
    vm = new_vm("1M", irqchip="split")
    line = vm.irq(5)
    line.raise_()
    assert seen(line) == "interrupt line 5 high"
    assert "lvt_timer00010000" in seen(vm.cpu.lapic)
    vm.close()
    assert "line 5" in seen(line) and "closed" in seen(vm.cpu.lapic)


def test_floating_point_and_vector_registers_are_shown_where_they_are_not_zero(vm, seen):
    vm.cpu.fpu.xmm[3] = 0xABC
    vm.cpu.fpu.st[0] = 1.5
    text = seen(vm.cpu.fpu)
    assert "MM3" in text and "abc" in text and "ST(0)1.5" in text and "MXCSR 0x1f80" in text


def test_the_processes_and_the_log_of_the_specimen_are_shown(seen):
    with bj.specimen() as vm:
        vm.start()
        vm.console.read_until("line 2 ")
        vm.pause()
        tasks, log = bj.guest.tasks(vm), bj.guest.log(vm)
        assert "5 processes" in seen(tasks) and "courier" in seen(tasks) and "courier (3)" in seen(tasks[3])
        assert "printer is process 1" in seen(log) and "printer is process 1" in repr(log)
        assert repr(tasks).splitlines()[1].split()[:2] == ["0", "idle"]
        assert "TestCard" in seen(vm.devices[0]) and "0x00idro52414a42" in seen(vm.devices[0])
        assert "Symbols" in seen(vm.symbols) and "entry_base" in seen(vm.symbols)


def test_a_debuggers_things_are_shown(vm, seen, tmp_path):
    vm.load(bytes.fromhex("90 48ffc0 ebfa"), mode="long")  # nop; inc rax; jmp to the nop
    vm.cpu.regs.rax = 0
    point = vm.breakpoint(vm.cpu.regs.rip + 1, when=bj.reg.rax < 2)
    watch = vm.watch(0x8000, 4, access="rw")
    with vm.trace(branch=True) as branches:
        vm.run(timeout=60)
        assert "Breakpoint" in seen(point) and "on" in seen(point) and "1 hit" in seen(point) and "rax" in seen(point)
        point.remove()
        vm.run(timeout=60, max_exits=20)
    assert "removed or off" in seen(point) and watch.mechanism in seen(watch)
    assert "0x8000 physical, 4 bytes" in seen(watch) and "reads, writes" in seen(watch)
    shown = seen(branches.coverage())  # which takes the records
    assert "Coverage" in shown and "1 range" in shown and "0x1006" in shown
    assert "0 blocks" in seen(bj.Coverage())
    vm.dump(tmp_path / "core")
    dump = bj.open_dump(tmp_path / "core")
    assert "ELF core" in seen(dump) and "vCPU 0" in seen(dump) and "inc rax" in seen(dump.cpu)
    assert "no vCPUs" in seen(bj.Dump.of({0x1000: b""}))


def test_a_gdb_server_shows_what_to_type(vm, seen):
    with vm.gdbserver() as server:
        assert "waits for gdb" in seen(server) and str(server.port) in seen(server)
    assert "closed" in seen(server)
