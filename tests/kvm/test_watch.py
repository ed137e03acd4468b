"""Watchpoints: accesses to watched memory come out with the value before and after, and nothing else changes."""

import pytest

import belljar as bj

DATA = 0x8000


MODES = pytest.mark.parametrize("mode", ["long", "user"])
END = "out 0x10, al"


def run_to_end(vm):
    with vm.on_port(0x10, lambda exit: bj.STOP):
        return vm.run(timeout=20)


@MODES
def test_a_write_is_a_hit_with_the_value_before_and_after(vm, mode):
    vm.memory.write(DATA, (5).to_bytes(8, "little"))
    vm.load(f"mov dword ptr [{DATA}], 0x1234; {END}", mode)
    wp = vm.watch(DATA)
    hit = vm.run(timeout=20)
    assert isinstance(hit, bj.WatchpointHit)
    assert (hit.id, hit.address, hit.gpa, hit.size, hit.write) == (wp.id, DATA, DATA, 4, True)
    assert (hit.before, hit.after, hit.vcpu) == (5, 0x1234, 0)
    assert vm.memory.read_u32(DATA) == 0x1234, "the write has been made"
    assert hit.rip == vm.cpu.regs.rip, "the instruction is complete"
    assert isinstance(run_to_end(vm), bj.PortOut)
    assert wp.hits == 1


@MODES
def test_accesses_beside_what_is_watched_are_right_and_no_hits(vm, mode):
    vm.load(
        f"""
        mov rbp, {DATA + 0x100}
        mov rax, 0x1122334455667788
        mov [rbp], rax
        mov bl, [rbp + 1]
        mov cx, [rbp + 2]
        mov edx, [rbp + 4]
        mov rsi, [rbp]
        add dword ptr [rbp], 1
        push qword ptr [rbp]
        pop rdi
        {END}
        """,
        mode,
    )
    with vm.watch(DATA, access="rw") as wp:
        end = run_to_end(vm)
    assert isinstance(end, bj.PortOut), end
    regs = vm.cpu.regs
    assert (regs.rbx & 0xFF, regs.rcx & 0xFFFF, regs.rdx, regs.rsi) == (0x77, 0x5566, 0x11223344, 0x1122334455667788)
    assert regs.rdi == 0x1122334455667789
    assert wp.hits == 0


@MODES
def test_reads_are_told_by_a_hole(vm, mode):
    vm.memory.write(DATA, bytes(range(1, 9)))
    vm.load(f"mov ax, [{DATA} + 2]; mov [{DATA}], al; {END}", mode)
    seen = []
    wp = vm.watch(DATA, 8, seen.append, access="r")
    assert wp.mechanism == "memory trap (hole)"
    assert isinstance(run_to_end(vm), bj.PortOut)
    assert [(h.address, h.size, h.write, h.before, h.after) for h in seen] == [(DATA + 2, 2, False, 0x403, 0x403)]
    assert vm.memory.read_u8(DATA) == 3


def test_instructions_in_a_range_are_told_before_they_are_executed(vm):
    code = bj.asm(f"mov rbx, {DATA}; call there; {END}; there: inc rcx; add dword ptr [rbx], 3; ret", 64, 0x1000)
    vm.load(code)
    there = next(i.address for i in bj.disasm(code, at=0x1000) if i.text == "inc rcx")
    seen = []
    wp = vm.watch(there, 4, lambda hit: seen.append((hit.address, hit.rip, vm.cpu.regs.rcx)), access="x")
    vm.cpu.regs.rcx = 7
    assert isinstance(run_to_end(vm), bj.PortOut)
    assert seen == [(there, there, 7), (there + 3, there + 3, 8)]
    assert (vm.cpu.regs.rcx, vm.memory.read_u32(DATA), wp.hits) == (8, 3, 2)
    assert vm.memory.read(0x1000, len(code)) == code


def test_an_executed_hit_that_ends_the_run_is_told_once(vm):
    vm.load(f"inc rcx; inc rcx; {END}")
    with vm.watch(0x1003, 1, access="x"):
        hit = vm.run(timeout=20)
        assert (hit.rip, vm.cpu.regs.rip, vm.cpu.regs.rcx) == (0x1003, 0x1003, 1)
        assert isinstance(run_to_end(vm), bj.PortOut)
        assert vm.cpu.regs.rcx == 2


LOADS_AND_STORES = pytest.mark.parametrize(
    "instruction",
    ["fld qword ptr [rbx]", "fstp qword ptr [rbx]", "fxsave [rbx]", "vmovdqu [rbx], ymm0", "vmovdqu ymm0, [rbx]"],
)


def prepare_vectors(vm, instruction, mode):
    vm.memory.write(DATA, bytes(range(64)))
    vm.load(f"mov rbx, {DATA}; fld1; {instruction}; {END}", mode)


def check_vectors(vm, wp, seen, instruction):
    end = run_to_end(vm)
    assert isinstance(end, bj.PortOut), end
    assert wp.hits == len(seen) >= 1
    hit = seen[0]
    assert (hit.address, hit.size, hit.before) == (DATA, 8, int.from_bytes(bytes(range(8)), "little"))
    assert hit.after == vm.memory.read_u64(DATA)
    assert hit.write == (instruction.split()[0] in {"fstp", "fxsave"} or "[rbx]," in instruction)


@pytest.mark.needs(ring0_is_native=True)
@pytest.mark.parametrize("instruction", ["fld qword ptr [rbx]", "fstp qword ptr [rbx]", "fxsave [rbx]"])
def test_what_the_emulator_cannot_do_on_a_trapped_page_is_stepped(vm, instruction):
    prepare_vectors(vm, instruction, "long")
    seen = []
    wp = vm.watch(DATA, 8, seen.append, access="rw")
    vm.cpu.cr4 |= 3 << 9  # OSFXSR, OSXMMEXCPT
    check_vectors(vm, wp, seen, instruction)


@LOADS_AND_STORES
def test_what_the_emulator_cannot_do_in_ring_3_is_stepped(vm, instruction):
    prepare_vectors(vm, instruction, "user")
    seen = []
    wp = vm.watch(DATA, 8, seen.append, access="rw")
    check_vectors(vm, wp, seen, instruction)


@pytest.mark.needs(ring0_is_native=False)
def test_an_instruction_that_is_repaired_is_a_hit(vm):
    vm.memory.write_u32(DATA, 0xFF)
    vm.load(f"mov rbx, {DATA}; popcnt eax, [rbx]; {END}")
    with vm.watch(DATA, 4, access="r") as wp:
        hit = vm.run(timeout=20)
    assert (hit.before, hit.after, hit.write, hit.rip, wp.hits) == (0xFF, 0xFF, False, 0x1007, 1)
    assert vm.cpu.regs.rax == 8
