"""Handlers that look at and change registers while the guest waits for them.

What they set is the state after the instruction; reading and writing it costs no ioctl.
"""

import pytest

import belljar as bj

LOOP = "mov ecx, 1100; l: out 0x10, al; dec ecx; jnz l; hlt"


def test_a_handler_sees_the_registers_of_the_guest(vm):
    vm.load("mov rbx, 0x1234; mov rsi, 0x5678; out 0x10, al; hlt")
    seen = []
    vm.on_port(0x10, lambda exit: seen.append((vm.cpu.regs.rbx, vm.cpu.regs.rsi)))
    vm.run(timeout=60)
    assert seen == [(0x1234, 0x5678)]


def test_a_handler_changes_registers(vm):
    vm.load("out 0x10, al; mov [0x8000], rbx; hlt")

    @vm.on_port(0x10)
    def change(exit):
        vm.cpu.regs.rbx = 42

    vm.run(timeout=60)
    assert vm.memory.read_u64(0x8000) == 42


@pytest.mark.parametrize("mode", ["real", "protected", "long", "user"])
@pytest.mark.parametrize(
    "work",
    [
        lambda regs: regs.rax,
        lambda regs: regs.read(),
        lambda regs: setattr(regs, "rbx", regs.rbx + 1),
        lambda regs: regs.update(rbx=1, rdx=2),
    ],
    ids=["read", "read all", "write", "update"],
)
def test_registers_cost_no_ioctl_in_a_handler(vm, mode, work):
    vm.load(LOOP.replace("hlt", "out 0x11, al"), mode=mode)
    vm.on_port(0x11, lambda exit: bj.STOP)
    counts = []

    @vm.on_port(0x10)
    def handler(exit):
        work(vm.cpu.regs)
        counts.append(vm.cpu.register_ioctls)

    vm.run(timeout=20)
    assert len(counts) == 1100
    assert counts[-1] == counts[1], "at most the first look may cost one"
    assert counts[0] - vm.cpu.register_ioctls <= 1


def test_system_registers_cost_no_ioctl_in_a_handler_after_the_first_look(vm):
    vm.load(LOOP)
    counts = []

    @vm.on_port(0x10)
    def handler(exit):
        assert vm.cpu.cr3 and vm.cpu.cs.l and vm.cpu.cpl == 0
        counts.append(vm.cpu.register_ioctls)

    vm.run(timeout=20)
    assert len(set(counts[1:])) == 1


@pytest.mark.parametrize("mode", ["long", "user"])
@pytest.mark.parametrize(
    ("access", "data"),
    [
        ("out 0x10, al", None),
        ("in al, 0x10", 42),
        ("mov eax, [rdi]", 42),
        ("mov [rdi], eax", None),
        ("mov rax, [rdi]", 42),
        ("movzx eax, byte ptr [rdi]", 42),
    ],
)
def test_a_handler_that_rewrites_rip_sends_the_guest_there_and_a_read_still_gets_its_data(vm, mode, access, data):
    code = f"mov edi, 0x40000000; {access}; mov ebx, 0xbad; out 0x11, al; there: mov esi, 7; out 0x12, al"
    before = bj.asm(f"mov edi, 0x40000000; {access}; mov ebx, 0xbad; out 0x11, al")
    vm.load(code, mode=mode)
    vm.cpu.regs.rbx = 0

    def jump(exit):
        vm.cpu.regs.rip = 0x1000 + len(before)
        return data

    vm.on_port(0x10, jump)
    vm.on_mmio(0x4000_0000, jump, size=8)
    vm.on_port(range(0x11, 0x13), lambda exit: bj.STOP)
    assert vm.run(timeout=60).port == 0x12
    assert (vm.cpu.regs.rsi, vm.cpu.regs.rbx) == (7, 0)
    if data is not None:
        assert vm.cpu.regs.rax & 0xFF == data


@pytest.mark.parametrize("mode", ["real", "protected", "long", "user"])
def test_a_handler_that_skips_the_next_instruction(vm, mode):
    vm.load("mov al, 1; out 0x10, al; nop; nop; nop; mov al, 2; out 0x11, al", mode=mode)
    length = len(bj.asm("mov al, 1; out 0x10, al", bits=16))

    @vm.on_port(0x10)
    def skip(exit):
        vm.cpu.regs.rip = 0x1000 + length + 3

    vm.on_port(0x11, lambda exit: bj.STOP)
    assert vm.run(timeout=60) == bj.PortOut(0x11, 1, 2)


def test_a_handler_of_an_in_may_set_other_registers_and_the_value_goes_to_rax(vm):
    vm.load("mov rax, -1; in al, 0x10; hlt")

    @vm.on_port(0x10)
    def both(exit):
        vm.cpu.regs.rbx = 5
        vm.cpu.regs.rax = 0x1111
        return 0x42

    vm.run(timeout=60)
    assert (vm.cpu.regs.rax, vm.cpu.regs.rbx) == (0x1142, 5)


@pytest.mark.parametrize("mode", ["long", "user"])
def test_a_handler_of_an_mmio_read_may_set_other_registers(vm, mode):
    vm.load("mov edi, 0x40000000; mov eax, [rdi]; out 0x11, al", mode=mode)

    def both(exit):
        vm.cpu.regs.rbx = 5
        return 0x42

    vm.on_mmio(0x4000_0000, both, size=4)
    vm.on_port(0x11, lambda exit: bj.STOP)
    vm.run(timeout=60)
    assert (vm.cpu.regs.rax, vm.cpu.regs.rbx) == (0x42, 5)


@pytest.mark.parametrize("access", ["out 0x10, al", "in al, 0x10"])
def test_a_handler_sets_flags_that_the_guest_branches_on(vm, access):
    vm.load(f"xor ecx, ecx; inc ecx; {access}; jz z; hlt; z: mov ebx, 7; hlt")

    @vm.on_port(0x10)
    def set_zero(exit):
        vm.cpu.regs.rflags |= 1 << 6

    vm.run(timeout=60)
    assert vm.cpu.regs.rbx == 7


def test_a_handler_changes_the_instruction_pointer_of_a_halted_guest_and_skips(vm):
    vm.load("hlt; hlt; mov ebx, 7; hlt")

    @vm.on_exit(bj.Hlt)
    def on(exit):
        if vm.cpu.regs.rbx == 7:
            return None
        vm.cpu.regs.rip = 0x1002
        return bj.SKIP

    assert vm.run(timeout=60) == bj.Hlt()
    assert (on.hits, vm.cpu.regs.rbx) == (2, 7)


def test_a_handler_changes_cr3_and_the_guest_runs_on_with_it(vm):
    vm.load("out 0x10, al; mov rax, cr3; mov rbx, cr2; hlt")
    tables = vm.cpu.cr3

    @vm.on_port(0x10)
    def copy(exit):
        vm.memory.write(0x20000, vm.memory.read(tables, 0x1000))
        vm.cpu.cr3 = 0x20000
        vm.cpu.cr2 = 0x777

    assert vm.run(timeout=60) == bj.Hlt()
    assert (vm.cpu.regs.rax, vm.cpu.regs.rbx) == (0x20000, 0x777)


def test_a_handler_reads_and_writes_msrs(vm):
    vm.load("out 0x10, al; mov ecx, 0xc0000102; rdmsr; hlt")

    @vm.on_port(0x10)
    def base(exit):
        vm.cpu.regs.rbx = 9
        vm.cpu.msr["KERNEL_GS_BASE"] = vm.cpu.msr["KERNEL_GS_BASE"] + 0x5000

    assert vm.run(timeout=60) == bj.Hlt()
    assert (vm.cpu.regs.rax, vm.cpu.regs.rbx) == (0x5000, 9)


def test_a_handler_loads_new_code_and_sends_the_guest_there(vm):
    vm.load("out 0x10, al; mov ebx, 1; hlt")

    @vm.on_port(0x10)
    def replace(exit):
        vm.memory.write(0x5000, bj.asm("mov ebx, 2; hlt", at=0x5000))
        vm.cpu.regs.rip = 0x5000

    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.regs.rbx == 2


@pytest.mark.parametrize("access", ["in al, 0x10", "out 0x10, al"])
@pytest.mark.parametrize("mode", ["real", "protected", "long"])
def test_load_in_a_handler_sends_the_guest_to_the_new_code(vm, mode, access):
    vm.load(f"{access}; mov bl, 1; hlt", mode=mode)

    @vm.on_port(0x10)
    def replace(exit):
        vm.load("mov bl, 2; hlt", mode=mode, at=0x5000)

    assert vm.run(timeout=60) == bj.Hlt()
    assert vm.cpu.regs.bl == 2


def test_registers_that_contradict_each_other_come_out_of_run_and_the_vm_goes_on(vm):
    vm.load("out 0x10, al; hlt")

    def break_it(exit):
        vm.cpu.cr4.pae = False

    with vm.on_port(0x10, break_it), pytest.raises(bj.RegisterError):
        vm.run(timeout=60)
    assert vm.cpu.cr4.pae
    assert vm.run(timeout=60) == bj.Hlt()


def test_registers_may_be_set_in_every_part_of_a_wide_read(vm):
    vm.load("mov eax, 0x40000000; movdqu xmm0, [rax]; mov eax, 0x8000; movdqu [rax], xmm0; out 0x11, al", mode="user")
    vm.on_port(0x11, lambda exit: bj.STOP)

    @vm.on_mmio(0x4000_0000, size=16)
    def part(exit):
        vm.cpu.regs.rbx += 1
        return 0x1111 if exit.address & 8 else 0x2222

    assert isinstance(vm.run(timeout=60), bj.PortOut)
    assert (vm.memory.read_u64(0x8000), vm.memory.read_u64(0x8008)) == (0x2222, 0x1111)
    assert (vm.cpu.regs.rbx, part.hits) == (2, 2)


@pytest.mark.parametrize("mode", ["real", "long", "user"])
@pytest.mark.parametrize("count", [1, 2, 50])
def test_registers_may_be_set_in_every_element_of_a_string(vm, mode, count):
    vm.load(f"cld; mov edi, 0x8000; mov ecx, {count}; mov dx, 0x10; rep insb; out 0x11, al", mode=mode)
    vm.on_port(0x11, lambda exit: bj.STOP)
    data = iter(range(1, count + 1))

    @vm.on_port(0x10)
    def element(exit):
        vm.cpu.regs.rbx = vm.cpu.regs.rbx + 1
        return next(data)

    assert isinstance(vm.run(timeout=60), bj.PortOut)
    assert vm.memory.read(0x8000, count) == bytes(range(1, count + 1))
    assert (element.hits, vm.cpu.regs.rcx & 0xFFFF) == (count, 0)
    assert vm.cpu.regs.rbx == count


@pytest.mark.parametrize("mode", ["long", "user"])
def test_registers_may_be_set_in_every_element_of_a_copy_from_a_device(vm, mode):
    count = 3000
    vm.load(f"cld; mov esi, 0x40000000; mov edi, 0x8000; mov ecx, {count}; rep movsb; out 0x11, al", mode=mode)
    vm.on_port(0x11, lambda exit: bj.STOP)

    @vm.on_mmio(0x4000_0000, size=0x1000, access="r")
    def element(exit):
        vm.cpu.regs.rbx = vm.cpu.regs.rbx + exit.size
        return int.from_bytes(bytes((exit.address + n) % 251 for n in range(exit.size)), "little")

    assert isinstance(vm.run(timeout=20), bj.PortOut)
    assert vm.memory.read(0x8000, count) == bytes((0x4000_0000 + n) % 251 for n in range(count))
    assert (vm.cpu.regs.rbx, vm.cpu.regs.rcx) == (count, 0)
