"""The local APIC's page, pending events and the MP state."""

import pytest

import belljar as bj


@pytest.fixture(params=["split", "full"])
def chip(request, new_vm):
    return new_vm("1M", irqchip=request.param)


def test_a_vm_without_an_interrupt_controller_says_what_to_do(vm):
    with pytest.raises(ValueError, match=r'irqchip="split"'):
        _ = vm.cpu.lapic


def test_registers_have_names_and_offsets(chip):
    lapic = chip.cpu.lapic
    assert lapic.version & 0xFF in range(0x10, 0x20)
    assert lapic["version"] == lapic[0x30] == lapic.version
    assert lapic.lvt_lint0 == 0x700  # as a BIOS wires it: the PIC
    assert (lapic.isr, lapic.irr, lapic.tmr) == (frozenset(), frozenset(), frozenset())


def test_all_registers_are_read_at_once(chip):
    everything = chip.cpu.lapic.as_dict()
    assert (everything["lvt_lint0"], everything["irr"]) == (0x700, frozenset())
    assert all(chip.cpu.lapic[name] == value for name, value in everything.items() if name not in ("isr", "tmr", "irr"))


def test_a_register_that_is_assigned_keeps_its_value(chip):
    lapic = chip.cpu.lapic
    lapic.svr = 0x1FF
    lapic["lvt_timer"] = 0x10020
    lapic[0x3E0] = 0xB
    assert (lapic.svr, lapic.lvt_timer, lapic.timer_divide) == (0x1FF, 0x10020, 0xB)


def test_tpr_and_cr8_are_one(chip):
    chip.cpu.lapic.tpr = 0x50
    assert chip.cpu.cr8 == 5
    chip.cpu.cr8 = 3
    assert chip.cpu.lapic.tpr == 0x30
    chip.load("mov rax, cr8; out 0x10, al")
    chip.run(timeout=60, max_exits=1)
    assert chip.cpu.regs.rax == 3
    assert chip.cpu.lapic.tpr == 0x30


def test_the_vectors_of_a_local_apic_are_sets(chip):
    page = bytearray(chip.cpu.lapic.page)
    page[0x200 + 0x10 * 1] = 1 << 4  # vector 0x24 is requested
    chip.cpu.lapic.page = bytes(page)
    assert chip.cpu.lapic.irr == {0x24}
    assert chip.cpu.lapic["irr"] == 0
    assert len(chip.cpu.lapic.page) == 1024


def test_what_is_no_register_is_a_key_error(chip):
    with pytest.raises(KeyError, match=r"there are id, version, tpr"):
        chip.cpu.lapic["tprr"]
    for offset in (0x21, 0x400):
        with pytest.raises(KeyError, match="sixteen bytes apart"):
            chip.cpu.lapic[offset]
        with pytest.raises(KeyError, match="sixteen bytes apart"):
            chip.cpu.lapic[offset] = 1
    with pytest.raises(ValueError, match="1024 bytes, not 3"):
        chip.cpu.lapic.page = b"abc"


def test_repr_lists_the_registers(chip):
    assert "lvt_lint0 00000700" in repr(chip.cpu.lapic)
    assert "irr []" in repr(chip.cpu.lapic)


def test_nothing_is_pending_at_first(vm):
    assert vm.cpu.events == bj.Events()


def test_an_exception_that_is_set_is_delivered(vm):
    vm.load(b"\xeb\xfe", mode="user")
    vm.cpu.events = bj.Events(exception=13, error_code=0x18)
    assert vm.cpu.events.exception == 13
    stop = vm.run(timeout=60)
    assert isinstance(stop, bj.GuestException)
    assert (stop.vector, stop.error_code) == (13, 0x18)
    assert vm.cpu.events.exception is None


def test_events_that_were_read_can_be_put_back(vm):
    vm.load(b"\xeb\xfe", mode="user")
    vm.cpu.events = vm.cpu.events.replace(exception=6)
    kept = vm.cpu.events
    vm.cpu.events = bj.Events()
    assert not vm.cpu.events
    vm.cpu.events = kept
    assert vm.run(timeout=60).vector == 6


def test_a_masked_nmi_stays_masked(vm):
    vm.cpu.events = vm.cpu.events.replace(nmi_masked=True)
    assert vm.cpu.events == bj.Events(nmi_masked=True)
    vm.cpu.events = bj.Events()
    assert vm.cpu.events == bj.Events()


def test_what_is_no_events_is_refused(vm):
    with pytest.raises(TypeError, match=r"bj\.Events, not 5"):
        vm.cpu.events = 5
    with pytest.raises(ValueError, match="vector"):
        vm.cpu.events = bj.Events(exception=300)


def test_without_an_interrupt_controller_a_vcpu_is_always_runnable(vm):
    assert vm.cpu.mp_state == "runnable"
    with pytest.raises(ValueError, match="irqchip"):
        vm.cpu.mp_state = "halted"
    with pytest.raises(ValueError, match="one of runnable, uninitialized"):
        vm.cpu.mp_state = "asleep"


def test_secondary_vcpus_wait_for_their_start_and_can_be_told_to_run(new_vm):
    vm = new_vm("1M", vcpus=2, irqchip="split")
    assert [cpu.mp_state for cpu in vm.cpus] == ["runnable", "uninitialized"]
    vm.cpus[1].mp_state = "runnable"
    assert vm.cpus[1].mp_state == "runnable"


def test_a_halted_vcpu_can_be_woken(chip):
    chip.load("mov al, 1; out 0x10, al")
    chip.cpu.mp_state = "halted"
    assert chip.cpu.mp_state == "halted"
    chip.cpu.mp_state = "runnable"
    assert chip.run(timeout=60, max_exits=1) == bj.PortOut(0x10, 1, 1)


@pytest.mark.parametrize(
    ("name", "offset"), [("version", 0x30), ("ppr", 0xA0), ("timer_current", 0x390), ("irr", 0x220)]
)
def test_what_the_apic_keeps_itself_cannot_be_written(new_vm, name, offset):
    lapic = new_vm("1M", irqchip="split").cpu.lapic
    before = lapic.page
    with pytest.raises(ValueError, match=f"{name} .at {offset:#x}. is read-only"):
        lapic[offset] = 1
    if name in ("version", "ppr"):
        with pytest.raises(ValueError, match="read-only"):
            setattr(lapic, name, 1)
    assert lapic.page == before
