"""Every way in which a guest comes out to Python, and what it is given as an answer.

Handlers as such are in test_handlers.py; exceptions of user mode are in test_modes.py.
"""

from pathlib import Path

import pytest

import belljar as bj

SIZES = [(1, "al"), (2, "ax"), (4, "eax")]


def collect(vm, port=0x10, **kwargs):
    """Return the list that fills with what the guest writes to a port."""
    seen = []
    vm.on_port(port, lambda exit: seen.append(exit.data), access="w", **kwargs)
    return seen


@pytest.mark.parametrize("mode", ["real", "protected", "long", "user"])
@pytest.mark.parametrize(("size", "register"), SIZES)
def test_a_port_is_written_in_every_width(vm, mode, size, register):
    vm.load(f"mov {register}, 0x{'a5' * size}; mov dx, 0x1234; out dx, {register}; out 0x99, al", mode=mode)
    exits = []
    vm.on_port(0x1234, exits.append)
    vm.on_port(0x99, lambda exit: bj.STOP)
    vm.run(timeout=60)
    assert exits == [bj.PortOut(0x1234, size, int("a5" * size, 16))]


@pytest.mark.parametrize("mode", ["real", "protected", "long", "user"])
@pytest.mark.parametrize(("size", "register"), SIZES)
def test_a_port_is_read_in_every_width(vm, mode, size, register):
    vm.load(f"xor eax, eax; mov dx, 0x1234; in {register}, dx; out 0x99, al", mode=mode)
    exits = []
    vm.on_port(0x1234, lambda exit: exits.append(exit) or 0x1122_3344)
    vm.on_port(0x99, lambda exit: bj.STOP)
    vm.run(timeout=60)
    assert exits == [bj.PortIn(0x1234, size)]
    assert vm.cpu.regs.rax == 0x1122_3344 & (2 ** (8 * size) - 1)


def test_a_narrow_read_keeps_the_rest_of_the_register(vm):
    vm.load("mov rax, 0x1122334455667788; in al, 0x10; mov rbx, rax; in ax, 0x10; hlt")
    vm.on_port(0x10, lambda exit: 0xABCD)
    vm.run(timeout=60)
    assert (vm.cpu.regs.rbx, vm.cpu.regs.rax) == (0x1122_3344_5566_77CD, 0x1122_3344_5566_ABCD)


@pytest.mark.parametrize(("size", "register"), SIZES)
def test_a_port_that_nobody_answers_reads_all_ones(vm, size, register):
    vm.load(f"xor eax, eax; in {register}, 0x77; out 0x78, al; hlt")
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.regs.rax == 2 ** (8 * size) - 1


def test_memory_that_nobody_backs_reads_all_ones_and_swallows_writes(vm):
    vm.load("mov rax, [0x40000000]; mov dword ptr [0x40000000], 1; mov ebx, [0x40000000]; hlt")
    assert vm.run(timeout=60) == bj.Hlt()
    assert (vm.cpu.regs.rax, vm.cpu.regs.rbx) == (2**64 - 1, 2**32 - 1)


@pytest.mark.parametrize("mode", ["long", "user"])
@pytest.mark.parametrize(("size", "register"), [(1, "bl"), (2, "bx"), (4, "ebx"), (8, "rbx")])
def test_memory_mapped_io_is_read_and_written_in_every_width(vm, mode, size, register):
    code = (
        f"mov rax, 0x40000000; mov rbx, 0x1122334455667788; mov [rax], {register}; xor ebx, ebx; mov {register}, [rax]"
    )
    vm.load(f"{code}; out 0x99, al", mode=mode)
    value, exits = 0x8877_6655_4433_2211 % 2 ** (8 * size), []
    vm.on_mmio(
        0x4000_0000, lambda exit: exits.append(exit) or (value if isinstance(exit, bj.MmioRead) else None), size=8
    )
    vm.on_port(0x99, lambda exit: bj.STOP)
    vm.run(timeout=60)
    written = 0x1122_3344_5566_7788 % 2 ** (8 * size)
    assert exits == [bj.MmioWrite(0x4000_0000, size, written), bj.MmioRead(0x4000_0000, size)]
    assert vm.cpu.regs.rbx == value


def test_sixteen_bytes_of_mmio_come_as_two_accesses_with_the_right_value(vm):
    code = (
        "mov rax, 0x40000000; mov rbx, 0x8000; movdqu xmm0, [rax]; movdqu [rbx], xmm0; movdqu [rax], xmm0; out 0x99, al"
    )
    vm.load(code, mode="user")
    low, high, writes = 0x1122_3344_5566_7788, 0x99AA_BBCC_DDEE_FF00, []
    vm.on_mmio(0x4000_0000, lambda exit: high if exit.address & 8 else low, size=16, access="r")
    vm.on_mmio(0x4000_0000, writes.append, size=16, access="w")
    vm.on_port(0x99, lambda exit: bj.STOP)
    assert isinstance(vm.run(timeout=60), bj.PortOut)
    assert (vm.memory.read_u64(0x8000), vm.memory.read_u64(0x8008)) == (low, high)
    assert writes == [bj.MmioWrite(0x4000_0000, 8, low), bj.MmioWrite(0x4000_0008, 8, high)]


def test_an_access_across_the_end_of_ram_reaches_both(vm):
    vm.memory.add(0x20_0000, 0x1000, data=bytes(0xFFC) + b"\x01\x02\x03\x04")
    vm.load("mov rbx, 0x200ffc; mov rax, [rbx]; hlt")
    exits = []
    vm.on_mmio(0x20_1000, lambda exit: exits.append(exit) or 0x0807_0605, size=4)
    assert vm.run(timeout=60) == bj.Hlt()
    assert (exits, vm.cpu.regs.rax) == ([bj.MmioRead(0x20_1000, 4)], 0x0807_0605_0403_0201)


@pytest.mark.parametrize("mode", ["real", "long", "user"])
@pytest.mark.parametrize(("instruction", "width"), [("outsb", 1), ("outsw", 2), ("outsd", 4)])
def test_a_string_of_writes_gives_all_data_in_order(vm, mode, instruction, width):
    count = 300
    data = bytes(n * 7 % 256 for n in range(count * width))
    vm.load(f"cld; mov esi, 0x8000; mov ecx, {count}; mov dx, 0x10; rep {instruction}; out 0x99, al", mode=mode)
    vm.memory.write(0x8000, data)
    seen = collect(vm)
    vm.on_port(0x99, lambda exit: bj.STOP)
    assert isinstance(vm.run(timeout=10), bj.PortOut)
    assert b"".join(value.to_bytes(width, "little") for value in seen) == data
    assert vm.cpu.regs.rcx & 0xFFFF == 0


@pytest.mark.parametrize("mode", ["real", "long", "user"])
@pytest.mark.parametrize(("instruction", "width"), [("insb", 1), ("insw", 2), ("insd", 4)])
def test_a_string_of_reads_gets_all_data_in_order(vm, mode, instruction, width):
    count = 300
    data = bytes(n * 11 % 256 for n in range(count * width))
    vm.load(f"cld; mov edi, 0x8000; mov ecx, {count}; mov dx, 0x10; rep {instruction}; out 0x99, al", mode=mode)
    words = iter(range(count))

    @vm.on_port(0x10, access="r")
    def give(exit):
        n = next(words)
        return int.from_bytes(data[n * width : (n + 1) * width], "little")

    vm.on_port(0x99, lambda exit: bj.STOP)
    assert isinstance(vm.run(timeout=10), bj.PortOut)
    assert vm.memory.read(0x8000, len(data)) == data
    assert vm.memory.read_u32(0x8000 + len(data)) == 0


def test_hlt_stops_behind_the_instruction(vm):
    vm.load("nop; hlt; nop; hlt")
    assert vm.run(timeout=60) == bj.Hlt(vcpu=0)
    assert vm.cpu.regs.rip == 0x1002
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.regs.rip == 0x1004


def test_a_triple_fault_is_a_shutdown_and_the_vm_can_be_looked_at_and_reloaded(vm):
    vm.load("mov rbx, 7; ud2")
    vm.cpu.idt = (0, 0)
    assert vm.run(timeout=60) == bj.Shutdown()
    assert vm.memory.read(0x1000, 2) != b"\0\0"
    vm.load("mov rbx, 8; hlt")
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.regs.rbx == 8


@pytest.mark.parametrize(
    ("mode", "jump", "target"),
    [
        ("real", "mov ax, 0x9000; jmp ax", 0x9000),
        ("protected", "mov eax, 0x40000000; jmp eax", 0x4000_0000),
        ("long", "mov eax, 0x40000000; jmp rax", 0x4000_0000),
        ("user", "mov eax, 0x40000000; jmp rax", 0x4000_0000),
    ],
)
def test_a_jump_into_nowhere_is_a_typed_exit_and_the_vm_stays_usable(new_vm, mode, jump, target):
    vm = new_vm("32K" if mode == "real" else "1M")
    vm.load(f"mov ebx, 7; {jump}", mode=mode)
    exit = vm.run(timeout=60, max_exits=1000)
    assert isinstance(exit, bj.InternalError | bj.Shutdown | bj.GuestException | bj.MmioRead), exit
    if isinstance(exit, bj.InternalError):
        assert (exit.suberror, exit.rip) == (1, target)
    assert (vm.cpu.regs.rip, vm.cpu.regs.rbx) == (target, 7) or isinstance(exit, bj.Shutdown)
    vm.load("mov ebx, 8; out 0x99, al", mode=mode)
    vm.on_port(0x99, lambda exit: bj.STOP)
    assert isinstance(vm.run(timeout=60), bj.PortOut)
    assert vm.cpu.regs.rbx == 8


@pytest.mark.needs(ring0_is_native=False)
def test_an_instruction_that_kvm_cannot_emulate_is_named(vm):
    vm.load(bytes.fromhex("c5f877") + b"\xf4")  # vzeroupper
    exit = vm.run(timeout=60)
    assert isinstance(exit, bj.InternalError)
    assert (exit.suberror, exit.rip, exit.bits, exit.disassembly) == (1, 0x1000, 64, "vzeroupper")
    assert exit.instruction.startswith(bytes.fromhex("c5f877"))
    assert "vzeroupper" in repr(exit)
    vm.cpu.regs.rip += 3
    assert vm.run(timeout=60) == bj.Hlt()


def test_a_vcpu_that_was_given_nothing_runs_from_the_reset_vector_into_nowhere(vm):
    exit = vm.run(timeout=60, max_exits=1000)
    assert isinstance(exit, bj.InternalError | bj.Shutdown | bj.MmioRead), exit


def test_the_keyboard_controller_resets(new_vm):
    vm = new_vm("1M", i8042=True)
    vm.load("mov al, 0xfe; out 0x64, al; hlt", mode="real")
    assert vm.run(timeout=60) == bj.Reset()


def test_a_reset_can_be_skipped(new_vm):
    vm = new_vm("1M", i8042=True)
    vm.load("mov al, 0xfe; out 0x64, al; hlt", mode="real")
    with vm.on_exit(bj.Reset, lambda exit: bj.SKIP) as handle:
        assert vm.run(timeout=60) == bj.Hlt()
    assert handle.hits == 1


VMCALL = "vmmcall" if "AuthenticAMD" in Path("/proc/cpuinfo").read_text() else "vmcall"
MAP_GPA_RANGE = f"mov eax, 12; mov ebx, 0x1000; mov ecx, 2; mov edx, 1; {VMCALL}; hlt"


@pytest.mark.needs(hypercalls=True)
def test_a_hypercall_that_kvm_leaves_to_us_gets_the_handlers_answer(vm):
    vm.load(MAP_GPA_RANGE)
    seen = []
    vm.on_exit(bj.Hypercall, lambda exit: seen.append(exit) or 0x1234)
    assert vm.run(timeout=60) == bj.Hlt()
    assert (seen[0].number, seen[0].args[:3], seen[0].long_mode) == (12, [0x1000, 2, 1], True)
    assert vm.cpu.regs.rax == 0x1234


@pytest.mark.needs(hypercalls=True)
def test_a_hypercall_that_nobody_answers_fails_as_it_does_in_kvm(vm):
    vm.load(MAP_GPA_RANGE)
    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.regs.rax == 2**64 - 1000
    assert vm.stats.exits == {"Hypercall": 1, "Hlt": 1}


@pytest.mark.parametrize(("option", "text"), [("bus_lock", "bus locks"), ("notify_window", "blocked interrupts")])
def test_exits_that_not_every_processor_has_are_asked_for_and_refused_in_words(new_vm, option, text):
    refusal = None
    try:
        new_vm("1M", **{option: True if option == "bus_lock" else 100_000})
    except bj.HostError as error:
        refusal = str(error)
    assert refusal is None or (text in refusal and f"without {option}" in refusal)


def test_a_vcpu_that_lowers_its_priority_tells_who_wants_to_know(vm):
    vm.load("mov eax, 5; mov cr8, rax; xor eax, eax; mov cr8, rax; hlt")
    seen = []
    vm.on_exit(bj.TprLowered, seen.append)
    assert vm.run(timeout=60) == bj.Hlt()
    assert seen in ([], [bj.TprLowered(0)])  # KVM need not tell where no interrupt waits
