"""What the core logs reaches Python's `logging`, once a call into belljar returns."""

import logging

import pytest

IDT, HANDLER, PAGE_FAULT, CODE_SELECTOR = 0x2000, 0x3000, 14, 0x10


@pytest.mark.needs(syscall_enters_ring0=False)
def test_what_the_core_logs_arrives_in_pythons_logging(vm, caplog):
    vm.load("mov ecx, 0xc0000082; mov eax, 0x123000; xor edx, edx; wrmsr; hlt", mode="long")
    vm.memory.write_u64(IDT + 16 * PAGE_FAULT, HANDLER | CODE_SELECTOR << 16 | 0x8E << 40)
    vm.memory.write(HANDLER, b"\x48\xcf")  # iretq, and no padding behind it
    vm.cpu.idt = (IDT, 0xFFF)
    with caplog.at_level(logging.DEBUG, logger="belljar"):
        vm.run(timeout=60)
    said = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "belljar"]
    assert said == [("WARNING", "no room for a stub behind the #PF handler at 0x3000: system calls will fail")]
    assert vm.cpu.msr["LSTAR"] == 0x123000
