"""Bare code in one line: real, protected, long and user mode, and the exceptions that come out of user mode.

Exceptions belong to the guest in every other mode.
"""

import struct
import time

import pytest

import belljar as bj

MODES = ["real", "protected", "long", "user"]
DE, DB, BP, OF, UD, GP, PF = 0, 1, 3, 4, 6, 13, 14


@pytest.mark.parametrize("mode", MODES)
def test_five_bytes_of_code_run_in_every_mode(vm, mode):
    seen = []
    vm.load(b"\xb0\x2a\xe6\x10\xf4", mode=mode)  # mov al, 42; out 0x10, al; hlt
    vm.on_port(0x10, lambda exit: seen.append(exit.data) or (bj.STOP if mode == "user" else None))
    stopped = vm.run(timeout=60)
    assert seen == [42]
    assert stopped == (bj.PortOut(0x10, 1, 42) if mode == "user" else bj.Hlt())


@pytest.mark.parametrize(("mode", "bits"), [("real", 16), ("protected", 32), ("long", 64), ("user", 64)])
def test_text_is_assembled_for_the_mode(vm, mode, bits):
    text = "mov eax, 0x12345678; hlt"
    vm.load(text, mode=mode)
    code = bj.asm(text, bits=bits)
    assert vm.memory.read(0x1000, len(code)) == code
    assert f"{bits} bits" in repr(vm.cpu)


@pytest.mark.parametrize(
    ("mode", "at"), [("real", 0x8000), ("protected", 0x8_0000), ("long", 0x8_0000), ("user", 0x8_0000)]
)
def test_code_may_lie_elsewhere(vm, mode, at):
    vm.load("call f; out 0x10, al; f: mov al, 7; ret", mode=mode, at=at)
    vm.on_port(0x10, lambda exit: bj.STOP)
    assert vm.run(timeout=60) == bj.PortOut(0x10, 1, 7)


@pytest.mark.parametrize("mode", MODES)
def test_there_is_a_stack(vm, mode):
    vm.load("mov ax, 1234; push ax; xor ax, ax; pop bx; mov al, bl; out 0x10, al", mode=mode)
    vm.on_port(0x10, lambda exit: bj.STOP)
    vm.run(timeout=60)
    assert vm.cpu.regs.rbx & 0xFFFF == 1234


@pytest.mark.parametrize(("mode", "size"), [("real", 0x1000), ("protected", 0x2000), ("long", "36K"), ("user", "64K")])
def test_little_memory_is_enough(new_vm, mode, size):
    vm = new_vm(size)
    at = 0 if mode == "real" else 0x1000 if mode != "protected" else 0
    vm.load("out 0x10, al", mode=mode, at=at)
    vm.on_port(0x10, lambda exit: bj.STOP)
    assert isinstance(vm.run(timeout=60), bj.PortOut)


@pytest.mark.parametrize("mode", ["protected", "long", "user"])
def test_code_that_does_not_fit_is_refused_with_the_numbers(vm, mode):
    with pytest.raises(bj.RangeError, match="host-built tables"):
        vm.load(b"\x90" * 0xF_F000, mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_too_little_memory_is_refused(new_vm, mode):
    vm = new_vm(0x1000)
    with pytest.raises((bj.RangeError, bj.GuestMemoryError, ValueError)):
        vm.load(b"\x90" * 0x1001, mode=mode, at=0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("at", [0x10_0000, 2**40, 2**64 - 1])
def test_code_where_no_memory_is_is_refused(vm, mode, at):
    with pytest.raises((bj.GuestMemoryError, ValueError)):
        vm.load(b"\xf4", mode=mode, at=at)
    vm.load(b"\xf4")
    assert vm.run(timeout=60) == bj.Hlt()


def test_real_mode_code_must_be_where_16_bits_reach(new_vm):
    vm = new_vm("4M")
    vm.load("mov al, 7; out 0x10, al; hlt", mode="real", at=0x1_2340)
    vm.on_port(0x10, lambda exit: bj.STOP)
    assert vm.run(timeout=60) == bj.PortOut(0x10, 1, 7)
    with pytest.raises(ValueError, match="real"):
        vm.load(b"\xf4", mode="real", at=0x20_0000)


def test_a_mode_that_is_none_is_refused(vm):
    with pytest.raises(ValueError, match='"real", "protected", "long" or "user"'):
        vm.load(b"\xf4", mode="virtual8086")


@pytest.mark.parametrize("code", [5, None, 1.5, ["hlt"]])
def test_code_is_bytes_or_text(vm, code):
    with pytest.raises(TypeError, match="buffer protocol"):
        vm.load(code)


def test_text_that_is_no_assembly_is_refused_in_the_assemblers_words(vm):
    with pytest.raises(ValueError, match="cannot assemble for 64 bits"):
        vm.load("frobnicate rax")


@pytest.mark.parametrize("first", MODES)
@pytest.mark.parametrize("second", MODES)
def test_a_machine_can_be_loaded_again_in_any_mode(vm, first, second):
    vm.on_port(0x10, lambda exit: bj.STOP)
    for mode, value in ((first, 1), (second, 2)):
        vm.load(f"mov al, {value}; out 0x10, al", mode=mode)
        assert vm.run(timeout=60) == bj.PortOut(0x10, 1, value)


def test_empty_code_is_a_start_at_what_is_there(vm):
    vm.memory.write(0x1000, b"\xf4")
    vm.load(b"")
    assert vm.run(timeout=60) == bj.Hlt()


@pytest.mark.parametrize(
    ("code", "vector", "error_code", "at"),
    [
        ("xor ecx, ecx; div ecx", DE, None, "div ecx"),
        ("ud2", UD, None, "ud2"),
        ("hlt", GP, 0, "hlt"),
        pytest.param("cli", GP, 0, "cli", marks=pytest.mark.needs(port_map_in_ring3=True)),
        ("mov rax, cr3", GP, 0, "mov rax, cr3"),
        ("mov ax, 0x7777; mov ds, ax", GP, 0x7774, "mov ds, ax"),
        ("mov rax, 0x8000000000000000; mov rax, [rax]", GP, 0, "mov rax, [rax]"),
    ],
)
def test_an_exception_of_user_mode_comes_out(vm, code, vector, error_code, at):
    vm.load(code, mode="user")
    exit = vm.run(timeout=60)
    rip = 0x1000 + len(bj.asm(code)) - len(bj.asm(at))
    assert (exit.vector, exit.error_code, exit.rip) == (vector, error_code, rip)
    assert (vm.cpu.regs.rip, vm.cpu.cpl) == (rip, 3), "the vCPU is back where it happened"


@pytest.mark.parametrize(("code", "vector"), [("int3", BP), ("int 4", OF)])
def test_a_trap_of_user_mode_comes_out_behind_its_instruction(vm, code, vector):
    vm.load(f"{code}; mov al, 7; out 0x10, al", mode="user")
    exit = vm.run(timeout=60)
    assert (exit.vector, exit.error_code, exit.rip) == (vector, None, 0x1000 + len(bj.asm(code)))
    vm.on_port(0x10, lambda exit: bj.STOP)
    assert vm.run(timeout=60) == bj.PortOut(0x10, 1, 7)


@pytest.mark.needs(int_n_in_ring3=True)
@pytest.mark.parametrize("vector", [0x20, 0x80, 0xFF])
def test_every_software_interrupt_of_user_mode_comes_out(vm, vector):
    vm.load(bytes([0xCD, vector]), mode="user")
    assert vm.run(timeout=60) == bj.GuestException(vector, None, 0x1002, vm.cpu.cr2)


FAR = 0x50_0000_0000  # beyond what is mapped


@pytest.mark.parametrize(
    ("code", "error_code"),
    [
        (f"mov rbx, {FAR + 0x123}; mov al, [rbx]", 0b00100),
        (f"mov rbx, {FAR + 0x123}; mov [rbx], al", 0b00110),
    ],
)
def test_a_page_fault_comes_out_with_its_address_and_error_code(vm, code, error_code):
    vm.load(code, mode="user")
    exit = vm.run(timeout=60)
    assert (exit.vector, exit.error_code, exit.cr2, vm.cpu.cr2) == (PF, error_code, FAR + 0x123, FAR + 0x123)


def test_a_page_fault_of_a_fetch_comes_out_with_its_address(vm):
    vm.load(f"mov rbx, {FAR}; jmp rbx", mode="user")
    exit = vm.run(timeout=60)
    assert (exit.vector, exit.rip, exit.cr2) == (PF, FAR, FAR)
    assert exit.error_code & ~0x10 == 0b100, "bit 4 says fetch only where NX is on"


def test_user_mode_cannot_reach_the_tables_of_the_host(vm):
    tables = vm.memory.regions[0].size - 0x1000
    for access, error_code in ((f"mov al, [{tables:#x}]", 0b101), (f"mov [{tables:#x}], al", 0b111)):
        vm.load(access, mode="user")
        exit = vm.run(timeout=60)
        assert (exit.vector, exit.error_code, exit.cr2) == (PF, error_code, tables)


def test_a_guest_goes_on_after_its_registers_were_mended(vm):
    vm.load("mov eax, 84; xor edx, edx; xor ecx, ecx; div ecx; out 0x10, al", mode="user")
    vm.on_port(0x10, lambda exit: bj.STOP)
    assert vm.run(timeout=60).vector == DE
    vm.cpu.regs.rcx = 2
    assert vm.run(timeout=60) == bj.PortOut(0x10, 1, 42)


def test_a_handler_mends_and_skips(vm):
    vm.load("mov ecx, 5; l: ud2; loop l; out 0x10, al", mode="user")
    vm.on_port(0x10, lambda exit: bj.STOP)

    @vm.on_exit(bj.GuestException)
    def over(exit):
        assert exit.vector == UD
        vm.cpu.regs.rip = exit.rip + 2
        return bj.SKIP

    assert isinstance(vm.run(timeout=60), bj.PortOut)
    assert over.hits == 5


def test_the_same_exception_comes_again_if_nothing_changes(vm):
    vm.load("mov ebx, 7; ud2", mode="user")
    assert [vm.run(timeout=60) for _ in range(3)] == [bj.GuestException(UD, None, 0x1005, 0)] * 3
    assert vm.cpu.regs.rbx == 7


def test_all_registers_survive_an_exception(vm):
    vm.load("; ".join(f"mov r{n}, {n}" for n in range(8, 16)) + "; ud2", mode="user")
    stack = vm.cpu.regs.rsp
    vm.run(timeout=60)
    assert [getattr(vm.cpu.regs, f"r{n}") for n in range(8, 16)] == list(range(8, 16))
    assert vm.cpu.regs.rsp == stack


def test_user_mode_may_use_every_port(vm):
    vm.load("mov dx, 0xffff; out dx, al; mov dx, 0; out dx, eax; in al, 0xf4; out 0xf4, al; ud2", mode="user")
    ports = []
    vm.on_port(range(0x1_0000), lambda exit: ports.append(exit.port))
    assert vm.run(timeout=60).vector == UD
    assert ports == [0xFFFF, 0, 0xF4, 0xF4]


def test_user_mode_computes_with_sse2(vm):
    vm.load(
        "mov eax, 0x8000; movupd xmm0, [rax]; mulpd xmm0, xmm0; sqrtpd xmm1, xmm0; addpd xmm0, xmm1;"
        "movupd [rax], xmm0; ud2",
        mode="user",
    )
    vm.memory.write(0x8000, struct.pack("<2d", 1.5, 3.0))
    assert vm.run(timeout=60).vector == UD
    assert struct.unpack("<2d", vm.memory.read(0x8000, 16)) == (1.5 * 1.5 + 1.5, 12.0)


def test_user_mode_computes_natively_fast(vm, record_property):
    vm.load("mov rcx, 50000000; l: dec rcx; jnz l; ud2", mode="user")
    began = time.monotonic()
    assert vm.run(timeout=20).vector == UD
    record_property("instructions per second", 1e8 / (time.monotonic() - began))
    assert vm.cpu.regs.rcx == 0


def test_the_vector_state_survives_exits_and_exceptions(vm):
    vm.load("mov eax, 0x8000; movdqu xmm7, [rax]; out 0x10, al; int3; movdqu [rax + 16], xmm7; ud2", mode="user")
    vm.memory.write(0x8000, bytes(range(16)))
    assert vm.run(timeout=60).vector == BP
    assert vm.run(timeout=60).vector == UD
    assert vm.memory.read(0x8010, 16) == bytes(range(16))


def test_a_guest_that_lowers_its_task_priority_goes_on(vm):
    vm.load("mov eax, 5; mov cr8, rax; mov eax, 1; mov cr8, rax; mov rbx, cr8; hlt")
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.regs.rbx == 1
