"""What belljar executes in a breakpoint's place, beside the same instruction executed by this KVM: both do the same."""

import random

import pytest

import belljar as bj

CODE, DATA, STACK = 0x10000, 0x20000, 0x30000
CF, PF, AF, ZF, SF, OF = 1, 4, 0x10, 0x40, 0x80, 0x800
ALL = CF | PF | AF | ZF | SF | OF
EDGES = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1]
ROUNDS = 2 if bj.host.error is None and bj.host.quirks.ring0_is_native else 12  # an emulated PC is slow

# Text with {w} for the registers of a width; the flags that the manual calls undefined.
WIDTHS = {8: ("al", "cl", "byte"), 16: ("ax", "cx", "word"), 32: ("eax", "ecx", "dword"), 64: ("rax", "rcx", "qword")}
TWO = ["add", "adc", "sub", "sbb", "cmp", "mov"]
LOGIC = ["and", "or", "xor", "test"]
ONE = ["inc", "dec", "neg", "not"]
SHIFTS = ["shl", "shr", "sar", "rol", "ror"]
CONDITIONS = ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"]
PRODUCT, NUMBER = SF | ZF | AF | PF, OF | SF | AF | PF


def operands(bits):
    """Return the prefix of pointers in code that is so wide, and an operand in memory."""
    p = "r" if bits == 64 else "e"
    return p, f"[{p}bx + 8]"


def of_any_width(a, c, size, b):
    """Forms that there are for bytes, too, each with the flags that it leaves undefined."""
    m = f"{size} ptr {b}"
    for name in TWO + LOGIC:
        undefined = AF if name in LOGIC else 0
        for form in (f"{a}, {c}", f"{m}, {c}", f"{a}, 0x5a", f"{m}, -3"):
            yield f"{name} {form}", undefined
        if name != "test":
            yield f"{name} {a}, {m}", undefined
    for name in ONE:
        yield f"{name} {c}", 0
        yield f"{name} {m}", 0
    for name in ("mul", "imul"):
        yield f"{name} {c}", PRODUCT
        yield f"{name} {m}", PRODUCT
    for name in ("div", "idiv"):
        yield f"{name} {c}", ALL
    for form in (f"xchg {a}, {c}", f"xchg {m}, {c}", f"xadd {a}, {c}"):
        yield form, 0
    yield f"lock xadd {m}, {c}", 0
    yield f"lock cmpxchg {m}, {c}", 0
    yield f"lock or {m}, {c}", AF


def shifts(width, a, size, b):
    """Shifts and rotations by one, by several, and by CL."""
    for name in SHIFTS:
        undefined = 0 if name in ("rol", "ror") else AF
        for to in (a, f"{size} ptr {b}"):
            yield f"{name} {to}, 1", undefined
            for count in (0, 3, 7, width, width + 1):
                yield f"{name} {to}, {count}", undefined | OF
        yield f"{name} {a}, cl", undefined | OF | CF


def wider(width, a, c, b, p):
    """Forms that there are for words and more."""
    m = f"{WIDTHS[width][2]} ptr {b}"
    yield f"imul {a}, {c}", PRODUCT
    yield f"imul {a}, {m}, -77", PRODUCT
    for name in ("bt", "bts", "btr", "btc"):
        yield f"{name} {a}, {c}", NUMBER
        yield f"{name} {m}, 5", NUMBER
    for name in ("bsf", "bsr"):
        yield f"{name} {a}, {c}", ALL & ~ZF
    for condition in CONDITIONS:
        yield f"cmov{condition} {a}, {m}", 0
    forms = [f"movzx {a}, cl", f"movsx {a}, byte ptr {b}", f"lea {a}, [{p}bx + 4 * {p}cx - 9]"]
    if width > 16:
        forms += [f"movzx {a}, word ptr {b}", f"movsx {a}, cx", f"bswap {a}", f"movnti {m}, {c}"]
    for form in forms:
        yield form, 0


def flows(p, b, bits):
    """Jumps, calls, the stack, and what has no operands."""
    near, far, q = f"{CODE + 0x20:#x}", f"{CODE + 0x400:#x}", "q" if bits == 64 else "d"
    for condition in CONDITIONS:
        yield from (f"set{condition} cl", f"set{condition} byte ptr {b}", f"j{condition} {near}", f"j{condition} {far}")
    yield from ("cbw", "cwde", "cwd", "cdq", "lahf", "sahf", "clc", "stc", "cmc", "cld", "std", "nop", "pause")
    yield from (
        "mfence",
        "lfence",
        "sfence",
        f"prefetcht0 {b}",
        "leave",
        "ret",
        "ret 0x10",
        f"call {p}dx",
        f"jmp {p}dx",
    )
    yield from (f"push {p}cx", f"push {q}word ptr {b}", f"push {p}sp", "push -5", "push 0x12345")
    yield from (f"pop {p}cx", f"pop {p}sp", f"call {far}", f"jmp {far}", f"jmp {near}", "mov ah, ch", "movzx eax, ch")
    yield from (f"{name} {near}" for name in ("loop", "loope", "loopne", f"j{p}cxz"))


IN_64_BITS = [
    "movsxd rax, ecx",
    "mov rax, 0x123456789abcdef0",
    f"mov eax, [{DATA + 8:#x}]",
    "mov rax, fs:[0x18]",
    "mov gs:[0x18], rcx",
    "lea rax, [rip + 0x1234]",
    "mov r15, r8",
    "add r9d, r8d",
    "mov eax, [ebx + 8]",
    "cdqe",
    "cqo",
    "push r12",
    "pop r13",
]


def forms(bits):
    """Every form of the plain instructions in code that is so wide, and the flags that each leaves undefined."""
    p, b = operands(bits)
    for width, (a, c, size) in WIDTHS.items():
        if width <= bits:
            yield from of_any_width(a, c, size, b)
            yield from shifts(width, a, size, b)
            if width > 8:
                yield from wider(width, a, c, b, p)
    for form in [*flows(p, b, bits), *(IN_64_BITS if bits == 64 else [])]:
        yield form, 0


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
