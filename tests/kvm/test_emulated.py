"""Plain instructions at breakpoints: executed by belljar as the processor does."""

import struct

import pytest

import belljar as bj

EMULATED = """
    90 | f3 0f 1e fa | 50 | 53 | 41 54 | 5b | 41 5c | 6a 80 | 68 78 56 34 92 | 48 89 d8 | 89 d8 | 66 89 d8 |
    88 d8 | 88 fc | b8 ff ff ff 80 | 48 c7 c0 00 00 00 80 | 48 b8 88 77 66 55 44 33 22 11 | 48 8b 06 |
    8b 46 04 | 66 8b 06 | 8a 46 01 | 48 89 06 | 89 5e 08 | 88 5e 08 | 0f b6 c3 | 0f b7 06 | 48 0f be c3 |
    48 63 c3 | 48 8d 44 8e 10 | 8d 44 8e 10 | 48 8d 05 10 00 00 00 | 48 01 d8 | 01 d8 | 66 01 d8 | 00 d8 |
    48 29 d8 | 29 c0 | 28 d8 | 48 39 d8 | 38 d8 | 83 f8 ff | 48 83 ec 28 | 48 83 e4 f0 | 48 21 d8 | 09 d8 |
    31 c0 | 48 31 d8 | 48 85 c0 | 84 db | a8 80 | 48 ff c0 | ff c8 | fe c3 | fe cb | 48 83 06 01 | 48 29 06 |
    74 04 | 75 04 | 72 04 | 77 04 | 7c 04 | 7f 04 | 7e 04 | 78 04 | 7a 04 | 70 04 | 0f 84 10 00 00 00 | eb 05 |
    e8 10 00 00 00 | ff d6 | ff e6 | c3 | c2 10 00 | c9 | 0f 94 c0 | 0f 9c 06 | 48 0f 44 c3 | 0f 4f c3 | fc |
    fd | f8 | f9 | ff 36 | 80 fb 10 | 48 05 ff ff ff 7f
""".replace("\n", " ")
FLAGS = [0x2, 0x46, 0x97, 0x8D7, 0x883]
LOGIC = {"and", "or", "xor", "test"}


@pytest.mark.parametrize("code", [bytes.fromhex(one) for one in EMULATED.split("|")], ids=lambda code: code.hex())
def test_an_emulated_instruction_does_what_the_processor_does(new_vm, code):
    """Each instruction twice: stepped by KVM, and passed at a breakpoint."""
    vm = new_vm("4M")
    vm.load(code + b"\x90" * 64, mode="long", at=0x10000)
    cpu, (found,) = vm.cpu, bj.disasm(code, 0x10000, 64)
    words = [0, 1, 0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, 0x1234_5678_9ABC_DEF0, 0xFFFF_FFFF_FFFF_FF80]
    vm.memory.write(0x20000, bytes(range(256)) * 2)  # so that the page is marked as used
    for n, flags in enumerate(FLAGS):
        outcome = []
        for passes in (False, True):
            names = {
                "rax": words[n],
                "rbx": words[-1 - n],
                "rcx": 3,
                "rdx": 4,
                "rsi": 0x20080,
                "rsp": 0x20040,
                "rbp": 0x20060,
            }
            for name, value in names.items():
                setattr(cpu.regs, name, value)
            cpu.regs.rflags, cpu.regs.rip = flags, 0x10000
            vm.memory.write(0x20040, struct.pack("<Q", 0x10020) * 32)
            if passes:
                with vm.breakpoint(0x10000):
                    assert isinstance(vm.run(5), bj.BreakpointHit)
                    assert isinstance(cpu.step(timeout=60), bj.Stepped)
            else:
                assert isinstance(cpu.step(timeout=60), bj.Stepped)
            undefined = 0x10 if found.text.split()[0] in LOGIC else 0
            now = {name: getattr(cpu.regs, name) for name in (*names, "rip")}
            outcome.append((now, cpu.regs.rflags & 0xCD5 & ~undefined, vm.memory.read(0x20000, 0x200)))
        assert outcome[0] == outcome[1], found
