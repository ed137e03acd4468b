"""Parts of general registers (eax, ax, al, ah), segments as values, and what a run has changed."""

import pickle

import pytest

import belljar as bj

WHOLE = 0x1122_3344_5566_7788


@pytest.mark.parametrize(
    ("name", "value"),
    [("eax", 0x5566_7788), ("ax", 0x7788), ("al", 0x88), ("ah", 0x77), ("rax", WHOLE)],
)
def test_a_part_reads_as_its_bits(vm, name, value):
    vm.cpu.regs.rax = WHOLE
    assert getattr(vm.cpu.regs, name) == vm.cpu.regs[name] == value


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("r9d", 0x5A),
        ("r9w", 0x1122_3344_5566_005A),
        ("r9b", 0x1122_3344_5566_775A),
    ],
)
def test_a_write_does_to_the_rest_what_the_processor_does(vm, name, whole):
    vm.cpu.regs.r9 = WHOLE
    setattr(vm.cpu.regs, name, 0x5A)
    assert vm.cpu.regs.r9 == whole
    vm.cpu.regs.r9 = WHOLE
    vm.cpu.regs.update(**{name: 0x5A})
    assert vm.cpu.regs.r9 == whole


def test_ah_is_the_second_byte(vm):
    vm.cpu.regs.rbx = WHOLE
    vm.cpu.regs.bh = 0
    assert vm.cpu.regs.rbx == 0x1122_3344_5566_0088


def test_a_part_and_the_guest_agree(vm):
    vm.load("mov ecx, eax; mov bl, ah; mov r8w, si; hlt")
    vm.cpu.regs.update(rax=WHOLE, rcx=WHOLE, rbx=0, r8=0, rsi=WHOLE)
    assert vm.run(timeout=60) == bj.Hlt()
    assert (vm.cpu.regs.rcx, vm.cpu.regs.bl, vm.cpu.regs.r8w) == (0x5566_7788, 0x77, 0x7788)


def test_a_value_that_a_part_cannot_hold_is_refused(vm):
    with pytest.raises(OverflowError):
        vm.cpu.regs.al = 256
    with pytest.raises(OverflowError, match="8 bits of al"):
        vm.cpu.regs["al"] = 256
    assert vm.cpu.regs.rax == 0


def test_what_a_run_has_changed_is_known(vm):
    vm.load("mov eax, 42; nop; hlt")
    assert vm.run(timeout=60) == bj.Hlt()
    changed = vm.cpu.regs.changed()
    assert changed == {"rax": (0, 42), "rip": (0x1000, 0x1007)}
    vm.load("hlt")
    vm.run(timeout=60)
    assert vm.cpu.regs.changed() == {"rip": (0x1000, 0x1001)}


def test_repr_marks_what_a_run_has_changed(vm):
    vm.load("mov ebx, 42; hlt")
    assert "*" not in repr(vm.cpu.regs)
    vm.run(timeout=60)
    assert "rbx*000000000000002a" in repr(vm.cpu.regs)
    assert "rcx 0000" in repr(vm.cpu.regs)


def test_changes_are_unknown_before_the_first_run_and_kept_from_the_first_question_on(vm):
    vm.load("mov eax, 1; hlt; mov eax, 2; hlt; mov eax, 3; hlt")
    assert vm.cpu.regs.changed() is None
    for n in range(3):
        vm.run(timeout=60)
        if n != 1:  # nobody looks after the second
            assert vm.cpu.regs.changed()["rax"] == (n, n + 1)


def test_asking_for_changes_in_a_handler_tells_those_since_the_run_began(vm):
    vm.load("mov eax, 5; out 0x10, al; mov eax, 6; hlt")
    seen = []
    vm.on_port(0x10, lambda exit: seen.append(vm.cpu.regs.changed()["rax"]))
    vm.run(timeout=60)
    assert seen == [(0, 5)]
    assert vm.cpu.regs.changed()["rax"] == (0, 6)


def test_a_segment_has_all_its_fields(vm):
    vm.load("hlt", mode="user")
    cs = vm.cpu.cs
    assert (cs.present, cs.s, cs.g, cs.l, cs.db, cs.avl, cs.unusable, cs.dpl, cs.type) == (
        *(True, True, True, True, False, False, False),
        *(3, 11),
    )


def test_a_field_is_changed_by_replace(vm):
    vm.load("hlt", mode="long")
    vm.cpu.fs = vm.cpu.fs.replace(base=0x5000, limit=0xFFFFF)
    assert (vm.cpu.fs.base, vm.cpu.fs.limit, vm.cpu.fs.selector) == (0x5000, 0xFFFFF, vm.cpu.ds.selector)
    with pytest.raises(AttributeError):
        vm.cpu.fs.limit = 1
    with pytest.raises(TypeError, match="bass"):
        vm.cpu.fs.replace(bass=1)


def test_a_descriptor_and_its_segment_are_one():
    flat = bj.Segment.from_descriptor(bytes.fromhex("ffff0000009bcf00"), 8)
    assert flat == bj.Segment(limit=0xFFFF_FFFF, selector=8, type=11, db=True, g=True)
    assert flat.descriptor == bytes.fromhex("ffff0000009bcf00")


def test_segments_are_values_that_hash_and_travel():
    segment = bj.Segment(base=0x5000, limit=0xFFFF, selector=0x500, type=3, s=False, unusable=True)
    assert pickle.loads(pickle.dumps(segment)) == segment
    assert len({segment, segment.replace(), segment.replace(base=1)}) == 2
    assert eval(repr(segment), {"Segment": bj.Segment}) == segment


def test_registers_are_a_mapping_that_can_be_kept_and_put_back(vm):
    regs = vm.cpu.regs
    regs.update(rax=5, rip=0x1000)
    kept = dict(regs)
    assert kept == regs.as_dict()
    assert list(regs) == list(regs.keys()) == regs.NAMES
    assert len(regs) == 18
    assert "rax" in regs
    assert "nothing" not in regs
    regs.update(rax=7, rip=0)
    regs.update(kept, rbx=1)
    assert (regs.rax, regs.rip, regs.rbx) == (5, 0x1000, 1)
    with pytest.raises(KeyError, match="no register is named"):
        regs.update({"nothing": 1})
