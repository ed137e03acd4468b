"""What belljar executes in a breakpoint's place, beside the same instruction executed by this KVM: all must be the same."""

import random

import pytest

import belljar as bj

CODE, DATA, STACK = 0x10000, 0x20000, 0x30000
CF, PF, AF, ZF, SF, OF = 1, 4, 0x10, 0x40, 0x80, 0x800
ALL = CF | PF | AF | ZF | SF | OF
EDGES = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1]
ROUNDS = 12

# Text with {w} for the registers of a width; the flags that the manual calls undefined.
WIDTHS = {8: ("al", "cl", "byte"), 16: ("ax", "cx", "word"), 32: ("eax", "ecx", "dword"), 64: ("rax", "rcx", "qword")}
TWO = ["add", "adc", "sub", "sbb", "cmp", "mov"]
LOGIC = ["and", "or", "xor", "test"]
ONE = ["inc", "dec", "neg", "not"]
SHIFTS = ["shl", "shr", "sar", "rol", "ror"]
CONDITIONS = ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"]
PRODUCT, NUMBER = SF | ZF | AF | PF, OF | SF | AF | PF


def forms(bits):
    """Every form of the plain instructions in code that is so wide, and the flags that each leaves undefined."""
    p, wide = ("r", 64) if bits == 64 else ("e", 32)
    b, d = f"[{p}bx + 8]", f"{p}bx"
    for width, (a, c, size) in WIDTHS.items():
        if width > bits:
            continue
        for name in TWO + LOGIC:
            undefined = AF if name in LOGIC else 0
            yield f"{name} {a}, {c}", undefined
            yield f"{name} {size} ptr {b}, {c}", undefined
            yield f"{name} {a}, 0x5a", undefined
            yield f"{name} {size} ptr {b}, -3", undefined
            if name != "test":
                yield f"{name} {a}, {size} ptr {b}", undefined
        for name in ONE:
            yield f"{name} {c}", 0
            yield f"{name} {size} ptr {b}", 0
        for name in SHIFTS:
            undefined = 0 if name in ("rol", "ror") else AF
            yield f"{name} {a}, 1", undefined
            yield f"{name} {size} ptr {b}, 1", undefined
            for count in (0, 3, 7, width, width + 1):
                yield f"{name} {a}, {count}", undefined | OF
                yield f"{name} {size} ptr {b}, {count}", undefined | OF
            yield f"{name} {a}, cl", undefined | OF | CF
        yield f"mul {c}", PRODUCT
        yield f"imul {size} ptr {b}", PRODUCT
        yield f"div {c}", ALL
        yield f"idiv {c}", ALL
        yield f"xchg {a}, {c}", 0
        yield f"xchg {size} ptr {b}, {c}", 0
        yield f"xadd {a}, {c}", 0
        yield f"lock xadd {size} ptr {b}, {c}", 0
        yield f"lock cmpxchg {size} ptr {b}, {c}", 0
        yield f"lock or {size} ptr {b}, {c}", AF
        if width > 8:
            yield f"imul {a}, {c}", PRODUCT
            yield f"imul {a}, {size} ptr {b}, -77", PRODUCT
            for name in ("bt", "bts", "btr", "btc"):
                yield f"{name} {a}, {c}", NUMBER
                yield f"{name} {size} ptr {b}, 5", NUMBER
            for name in ("bsf", "bsr"):
                yield f"{name} {a}, {c}", ALL & ~ZF
            for condition in CONDITIONS:
                yield f"cmov{condition} {a}, {size} ptr {b}", 0
            yield f"movzx {a}, cl", 0
            yield f"movsx {a}, byte ptr {b}", 0
            yield f"lea {a}, [{d} + 4 * {p}cx - 9]", 0
        if width > 16:
            yield f"movzx {a}, word ptr {b}", 0
            yield f"movsx {a}, cx", 0
            yield f"bswap {a}", 0
            yield f"movnti {size} ptr {b}, {c}", 0
    for condition in CONDITIONS:
        yield f"set{condition} cl", 0
        yield f"set{condition} byte ptr {b}", 0
        yield f"j{condition} {CODE + 0x20:#x}", 0
        yield f"j{condition} {CODE + 0x400:#x}", 0
    for name in ("cbw", "cwde", "cwd", "cdq", "lahf", "sahf", "clc", "stc", "cmc", "cld", "std", "nop", "pause"):
        yield name, 0
    for name in ("mfence", "lfence", "sfence", f"prefetcht0 {b}", "leave", "ret", "ret 0x10", f"call {p}dx", f"jmp {p}dx"):
        yield name, 0
    for name in (f"push {p}cx", f"push {b}", f"push {p}sp", "push -5", "push 0x12345", f"pop {p}cx", f"pop {p}sp"):
        yield name.replace("[", f"{'q' if bits == 64 else 'd'}word ptr ["), 0
    for name in (f"call {CODE + 0x400:#x}", f"jmp {CODE + 0x400:#x}", f"jmp {CODE + 0x20:#x}"):
        yield name, 0
    for name in ("loop", "loope", "loopne", f"j{p}cxz"):
        yield f"{name} {CODE + 0x20:#x}", 0
    yield "mov ah, ch", 0
    yield "movzx eax, ch", 0
    if bits == 64:
        yield "movsxd rax, ecx", 0
        yield "mov rax, 0x123456789abcdef0", 0
        yield f"mov eax, [{DATA + 8:#x}]", 0
        yield "mov rax, fs:[0x18]", 0
        yield "mov gs:[0x18], rcx", 0
        yield "lea rax, [rip + 0x1234]", 0
        yield "mov r15, r8", 0
        yield "add r9d, r8d", 0
        yield "mov eax, [ebx + 8]", 0
        yield "cdqe", 0
        yield "cqo", 0
        yield "push r12", 0
        yield "pop r13", 0


def numbers(bits):
    """Random registers, the edges of all widths likelier than others."""
    word = random.choice(EDGES) if random.random() < 0.6 else random.getrandbits(64)
    return word & ((1 << bits) - 1)


def prepared(vm, bits, before):
    """Bring the machine to a state: registers by name, and the bytes of data and stack."""
    registers, data, stack = before
    for name, value in registers.items():
        setattr(vm.cpu.regs, name, value)
    vm.memory.write(DATA, data)
    vm.memory.write(STACK - 64, stack)


def outcome(vm, names):
    """Return what an instruction may have changed."""
    registers = {name: getattr(vm.cpu.regs, name) for name in names}
    return registers, vm.memory.read(DATA, 64), vm.memory.read(STACK - 64, 128)


def beginning(bits):
    """Return a random state, with pointers where they lead somewhere."""
    p = "r" if bits == 64 else "e"
    names = ["rax", "rcx", "rdx", "rbx", "rsi", "rdi", "rbp", "rsp"] + [f"r{n}" for n in range(8, 16)] * (p == "r")
    registers = {name: numbers(bits) for name in names}
    if random.random() < 0.5:
        registers["rcx"] = registers["rcx"] & ~0xFF | random.randrange(0, 34)
    if random.random() < 0.5:
        registers["rdx"] = 0  # so that divisions are possible
    registers |= {"rbx": DATA, "rsp": STACK, "rbp": STACK + 8, "rip": CODE}
    registers["rflags"] = 2 | random.getrandbits(12) & ALL
    data = bytearray(random.randbytes(64))
    if random.random() < 0.3:  # so that cmpxchg may hit
        data[8:16] = registers["rax"].to_bytes(8, "little")
    target = (CODE + 0x100).to_bytes(bits // 8, "little")
    return registers, bytes(data), random.randbytes(64) + target + random.randbytes(64 - len(target))


def compared(vm, bits, text, undefined):
    """Execute one instruction from random states, here and by KVM, and compare."""
    code = bj.asm(text, bits=bits, at=CODE)
    vm.memory.write(CODE, code + b"\x90" * (16 - len(code)))
    for _ in range(ROUNDS):
        before = beginning(bits)
        if text.startswith(("call r", "call e", "jmp r", "jmp e")):
            before[0]["rdx"] = CODE + 0x200
        if text == "leave":
            before[0]["rbp"] = STACK
        prepared(vm, bits, before)
        names = list(before[0])
        exit = vm.cpu.step(timeout=5)
        if isinstance(exit, bj.GuestException) and text.startswith(("div", "idiv")):
            continue
        if vm.cpu.regs.rip == CODE and not text.startswith("j"):
            continue  # a #DE in ring 0, which nobody handles
        assert isinstance(exit, bj.Stepped), (text, exit)
        expected = outcome(vm, names)
        prepared(vm, bits, before)
        with vm.breakpoint(CODE, hw=False):
            assert isinstance(vm.cpu.step(timeout=5), bj.Stepped), text
            found = outcome(vm, names)
        for one in (expected, found):
            one[0]["rflags"] &= ALL & ~undefined | 0x400
        assert found == expected, (text, before)


@pytest.mark.parametrize("mode", ["long", "user", "protected"])
def test_an_instruction_executed_here_does_what_the_processor_does(new_vm, mode):
    bits = 32 if mode == "protected" else 64
    vm = new_vm("4M")
    vm.load(b"\x90" * 0x800, mode=mode, at=CODE)
    if bits == 64:
        vm.cpu.msr["FS_BASE"] = vm.cpu.msr["GS_BASE"] = DATA
    random.seed(6)
    for text, undefined in forms(bits):
        if text.startswith(("div", "idiv")) and mode != "user":
            continue  # where nobody handles #DE
        compared(vm, bits, text, undefined)
