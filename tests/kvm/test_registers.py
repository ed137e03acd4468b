"""A vCPU's registers from outside: general, segment, control and model-specific, one by one and all at once.

What handlers do with registers while the guest waits is in test_rewriting.py.
"""

import pickle

import pytest

import belljar as bj

GENERAL = [name for name in bj.Registers.NAMES if name not in ("rip", "rflags")]


def test_there_are_eighteen_names():
    assert len(bj.Registers.NAMES) == 18
    assert {"rax", "rsp", "r8", "r15", "rip", "rflags"} <= set(bj.Registers.NAMES)


@pytest.mark.parametrize("name", bj.Registers.NAMES)
def test_every_register_keeps_what_it_is_given(vm, name):
    value = 0x8000_0000_1234_5678 if name != "rflags" else 0x202
    setattr(vm.cpu.regs, name, value)
    assert getattr(vm.cpu.regs, name) == value
    assert vm.cpu.regs.as_dict()[name] == value


def test_all_registers_are_read_and_written_at_once(vm):
    values = (*range(100, 116), 0x1000, 0x202)
    vm.cpu.regs.write(values)
    assert vm.cpu.regs.read() == values
    assert vm.cpu.regs.as_dict() == dict(zip(bj.Registers.NAMES, values, strict=True))


def test_the_guest_sees_every_register_that_was_set(vm):
    code = "; ".join(f"mov [0x8000 + {n * 8}], {name}" for n, name in enumerate(GENERAL))
    vm.load(f"{code}; hlt")
    vm.cpu.regs.update(**{name: 0x1111_0000_0000_0000 + n for n, name in enumerate(GENERAL)})
    assert vm.run(timeout=60) == bj.Hlt()
    seen = [vm.memory.read_u64(0x8000 + n * 8) for n in range(len(GENERAL))]
    assert seen == [0x1111_0000_0000_0000 + n for n in range(len(GENERAL))]


def test_python_sees_every_register_that_the_guest_set(vm):
    vm.load("; ".join(f"mov {name}, {n + 1}" for n, name in enumerate(GENERAL)) + "; hlt")
    vm.run(timeout=60)
    assert {name: vm.cpu.regs.as_dict()[name] for name in GENERAL} == {name: n + 1 for n, name in enumerate(GENERAL)}


def test_update_sets_some_registers_and_keeps_the_others(vm):
    vm.cpu.regs.rbx = 5
    vm.cpu.regs.update(rax=1, rip=0x2000)
    assert (vm.cpu.regs.rax, vm.cpu.regs.rip, vm.cpu.regs.rbx) == (1, 0x2000, 5)
    vm.cpu.regs.update()


def test_registers_have_their_names_as_keys_too(vm):
    vm.cpu.regs["r15"] = 7
    assert vm.cpu.regs["r15"] == vm.cpu.regs.r15 == 7
    with pytest.raises(KeyError, match="exx"):
        vm.cpu.regs["exx"]


def test_update_of_a_register_that_is_none_changes_nothing(vm):
    vm.cpu.regs.rax = 7
    with pytest.raises(KeyError, match=r"no register is named .*exx.*; there are rax, rbx"):
        vm.cpu.regs.update(rax=1, exx=2)
    with pytest.raises(AttributeError):
        vm.cpu.regs.exx = 1
    assert vm.cpu.regs.rax == 7


@pytest.mark.parametrize("value", [2**64, -1])
def test_a_value_that_is_no_64_bits_is_refused(vm, value):
    with pytest.raises(OverflowError):
        vm.cpu.regs.rax = value
    with pytest.raises(OverflowError):
        vm.cpu.regs.update(rax=value)


def test_write_takes_exactly_eighteen_values(vm):
    with pytest.raises(ValueError, match="18"):
        vm.cpu.regs.write([0] * 17)


def test_a_register_may_be_added_to_in_place(vm):
    vm.cpu.regs.rax = 41
    vm.cpu.regs.rax += 1
    assert vm.cpu.regs.rax == 42


def test_the_instruction_pointer_is_where_the_guest_stopped(vm):
    vm.load("nop; nop; hlt", at=0x3000)
    assert vm.cpu.regs.rip == 0x3000
    vm.run(timeout=60)
    assert vm.cpu.regs.rip == 0x3003


@pytest.mark.parametrize(("mode", "cr0", "efer"), [("real", 0, 0), ("protected", 1, 0), ("long", 0x8000_0001, 0x500)])
def test_control_registers_say_the_mode(vm, mode, cr0, efer):
    vm.load(b"\xf4", mode=mode)
    assert vm.cpu.cr0 & 0x8000_0001 == cr0
    assert vm.cpu.efer & 0x500 == efer


def test_control_registers_can_be_written(vm):
    vm.load(b"\xf4")
    vm.cpu.cr2 = 0x1234_5000
    vm.cpu.cr8 = 3
    vm.cpu.cr4 |= 1 << 7  # PGE
    assert vm.run(timeout=60) == bj.Hlt()
    assert (vm.cpu.cr2, vm.cpu.cr8, vm.cpu.cr4 >> 7 & 1) == (0x1234_5000, 3, 1)


def test_the_guest_and_python_share_cr2_and_cr3(vm):
    vm.load("mov rax, cr3; mov rbx, 0x7000; mov cr2, rbx; hlt")
    vm.run(timeout=60)
    assert vm.cpu.regs.rax == vm.cpu.cr3
    assert vm.cpu.cr2 == 0x7000


def test_segments_come_with_their_hidden_parts(vm):
    vm.load(b"\xf4", mode="user")
    assert (vm.cpu.cs.dpl, vm.cpu.ss.dpl, vm.cpu.cpl) == (3, 3, 3)
    assert (vm.cpu.cs.l, vm.cpu.cs.present, vm.cpu.cs.selector & 3) == (True, True, 3)
    vm.load(b"\xf4", mode="protected")
    assert (vm.cpu.cs.db, vm.cpu.cs.base, vm.cpu.cpl) == (True, 0, 0)


def test_a_segment_can_be_replaced(vm):
    vm.load("mov al, [0x10]; hlt", mode="real")
    vm.memory.write_u8(0x5010, 42)
    vm.cpu.ds = bj.Segment(base=0x5000, limit=0xFFFF, selector=0x500, type=3)
    assert vm.cpu.ds == bj.Segment(base=0x5000, limit=0xFFFF, selector=0x500, type=3)
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.regs.rax & 0xFF == 42


def test_fs_base_is_what_the_guest_adds(vm):
    vm.load("mov rax, fs:[8]; hlt")
    vm.memory.write_u64(0x9008, 42)
    fs = vm.cpu.fs
    vm.cpu.fs = bj.Segment(base=0x9000, limit=fs.limit, selector=fs.selector, type=fs.type, g=True, db=True)
    vm.run(timeout=60)
    assert vm.cpu.regs.rax == 42


def test_descriptor_tables_can_be_read_and_written(vm):
    vm.cpu.gdt = (0x7000, 0x2F)
    vm.cpu.idt = (0x8000, 0xFFF)
    assert (vm.cpu.gdt, vm.cpu.idt) == ((0x7000, 0x2F), (0x8000, 0xFFF))


@pytest.mark.parametrize("name", ["LSTAR", "STAR", "KERNEL_GS_BASE"])
def test_model_specific_registers_go_by_name_and_by_number(vm, name):
    number = vm.cpu.msr.names()[name]
    vm.cpu.msr[name] = 0x1234_5678
    assert vm.cpu.msr[name] == vm.cpu.msr[number] == 0x1234_5678
    vm.cpu.msr[number] = 0
    assert vm.cpu.msr[name] == 0


def test_the_guest_and_python_share_msrs(vm):
    vm.load("mov ecx, 0xc0000102; rdmsr; mov esi, eax; mov eax, 0x5000; xor edx, edx; wrmsr; hlt")
    vm.cpu.msr["KERNEL_GS_BASE"] = 0x4000
    assert vm.run(timeout=60) == bj.Hlt()
    assert (vm.cpu.regs.rsi, vm.cpu.msr["KERNEL_GS_BASE"]) == (0x4000, 0x5000)


def test_setting_an_msr_keeps_what_was_set_before(vm):
    vm.load(b"\xf4")
    vm.cpu.regs.rax = 77
    vm.cpu.cr2 = 0x5000
    vm.cpu.msr["LSTAR"] = 0x1000
    assert (vm.cpu.regs.rax, vm.cpu.cr2, vm.cpu.regs.rip) == (77, 0x5000, 0x1000)


def test_efer_as_msr_and_as_register_are_one(vm):
    vm.load(b"\xf4")
    assert vm.cpu.msr["EFER"] == vm.cpu.efer


def test_an_msr_that_is_none_is_a_key_error(vm):
    with pytest.raises(KeyError, match="LSTAR"):
        vm.cpu.msr["NO_SUCH_REGISTER"]
    with pytest.raises(KeyError, match="0x12345678"):
        vm.cpu.msr[0x1234_5678]
    with pytest.raises((TypeError, OverflowError)):
        vm.cpu.msr[-1]
    with pytest.raises(TypeError):
        vm.cpu.msr[1.5]


def test_a_value_that_an_msr_refuses_is_a_value_error(vm):
    vm.load(b"\xf4")
    with pytest.raises(ValueError, match="LSTAR"):
        vm.cpu.msr["LSTAR"] = 0x8000_0000_0000_0000  # not canonical
    assert vm.run(timeout=60) == bj.Hlt()


def test_control_registers_that_contradict_each_other_are_refused_and_the_vm_goes_on(vm):
    vm.load(b"\xf4", mode="real")
    vm.cpu.efer = 0x400  # long mode without paging
    with pytest.raises(bj.RegisterError):
        vm.run(timeout=60)
    assert vm.cpu.efer == 0
    vm.load(b"\xf4", mode="long")
    assert vm.run(timeout=60) == bj.Hlt()


def test_a_descriptor_table_register_is_a_named_pair(vm):
    vm.cpu.gdt = (0x7000, 0x2F)
    assert vm.cpu.gdt == (0x7000, 0x2F)
    assert (vm.cpu.gdt.base, vm.cpu.gdt.limit) == (0x7000, 0x2F)
    assert repr(vm.cpu.gdt) == "DescriptorTable(base=0x7000, limit=0x2f)"
    vm.cpu.idt = vm.cpu.gdt._replace(limit=0xFFF)
    assert vm.cpu.idt == bj.DescriptorTable(0x7000, 0xFFF)
    assert pickle.loads(pickle.dumps(vm.cpu.idt)) == vm.cpu.idt


def test_a_descriptor_is_eight_bytes_or_an_integer():
    flat = bj.Segment.from_descriptor(0x00CF_9A00_0000_FFFF, selector=8)
    assert flat == bj.Segment.from_descriptor(0x00CF_9A00_0000_FFFF.to_bytes(8, "little"), 8)
    assert (flat.base, flat.limit, flat.selector) == (0, 0xFFFF_FFFF, 8)
    with pytest.raises(TypeError, match="8 bytes or an integer, not 7 bytes"):
        bj.Segment.from_descriptor(bytes(7))
    with pytest.raises(TypeError, match="8 bytes or an integer, not str"):
        bj.Segment.from_descriptor("00cf9a000000ffff")


def test_a_vcpu_shows_where_it_is(vm):
    vm.load("nop; hlt", mode="user", at=0x4000)
    assert repr(vm.cpu) == "<VCPU 0 at 0x4000, 64 bits, ring 3>"
    assert "rax 0000000000000000" in repr(vm.cpu.regs)
    assert [i.text for i in vm.cpu.disasm(2)] == ["nop", "hlt"]


def test_disassembly_where_nothing_is_mapped_is_empty(vm):
    vm.load(b"\xf4")
    vm.cpu.regs.rip = 0x5000_0000
    assert vm.cpu.disasm() == []
    assert vm.cpu.disasm(0) == []
