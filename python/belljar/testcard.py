"""The test card: a small computing device without a bus behind it, with registers, DMA and an interrupt.

It is what an example of a device written in Python looks like; the specimen guest has the driver. It knows no machine
but the memory that it reads and the line that it pulls.
"""

from __future__ import annotations

from typing import Any

from belljar.errors import GuestMemoryError
from belljar.register import Field, Register
from belljar.register_device import RegisterDevice

ADD, MULTIPLY, CHECKSUM, UPPER_CASE = 1, 2, 3, 4
"""What OPERATION takes."""

LONGEST = 0x10000
"""Bytes of the longest DMA buffer."""

WORD = 0xFFFF_FFFF


class TestCard(RegisterDevice):
    """A card that adds, multiplies, sums bytes and turns letters into capitals, by DMA, and interrupts when it is done.

    The guest enables it (CONTROL), gives operands or the guest-physical address and length of a buffer, and writes
    OPERATION; DONE or ERROR in STATUS says how that ended, and the line is high until the guest has cleared both.
    """

    __test__ = False  # no test, for those who collect them by name

    mmio = range(0xFEB0_0000, 0xFEB0_1000)
    irq: Any = 5

    id = Register(0x00, reset=int.from_bytes(b"BJAR", "little"), access="ro", doc='"BJAR"')
    version = Register(0x04, reset=1, access="ro")
    control = Register(
        0x08,
        fields={
            "enable": Field(0),
            "irq_enable": Field(1, doc="the line is high while DONE or ERROR is set"),
            "reset": Field(2, access="pulse", doc="all registers to their reset values"),
        },
    )
    status = Register(
        0x0C,
        fields={
            "ready": Field(0, access="ro", doc="1 while enabled"),
            "done": Field(1, access="w1c"),
            "error": Field(2, access="w1c"),
        },
    )
    operand_a = Register(0x10)
    operand_b = Register(0x14)
    operation = Register(0x18, access="wo", doc="writing starts: 1 add, 2 multiply, 3 checksum, 4 upper-case")
    result = Register(0x1C, access="ro")
    dma_low = Register(0x20, doc="guest-physical address of the buffer")
    dma_high = Register(0x24)
    dma_length = Register(0x28, doc=f"bytes, at most {LONGEST:#x}")

    @control.on_write
    def control_written(self, value: int) -> None:
        """Reset the card, or enable it and its interrupt."""
        if value & 1 << 2:
            self.reset()
        self.status.ready = self.control.enable
        self.update_line()

    @status.on_write
    def status_written(self, _value: int) -> None:
        """Let the line go when the guest has seen to it."""
        self.update_line()

    @operation.on_write
    def start(self, operation: int) -> None:
        """Do one operation, from beginning to end, while the guest waits."""
        try:
            self.result = self.compute(operation)
        except (GuestMemoryError, ValueError):
            self.status.error = 1
        else:
            self.status.done = 1
        self.update_line()

    def compute(self, operation: int) -> int:
        """The result of one operation. ValueError and GuestMemoryError for what the card refuses."""
        if not self.control.enable:
            raise ValueError("the card is not enabled")
        match operation:
            case 1:
                return int(self.operand_a + self.operand_b) & WORD
            case 2:
                return int(self.operand_a * self.operand_b) & WORD
            case 3:
                return sum(self.buffer()[1]) & WORD
            case 4:
                return self.upper_case()
        raise ValueError(f"no operation has number {operation}")

    def buffer(self) -> tuple[int, bytes]:
        """The address and the bytes of the DMA buffer."""
        at, length = int(self.dma_low | self.dma_high << 32), int(self.dma_length)
        if length > LONGEST:
            raise ValueError(f"a buffer of {length:#x} bytes is too long")
        for region in self.vm.memory.regions:
            if region.kind != "RAM" and region.start < at + length and at < region.start + region.size:
                raise ValueError(f"the buffer at {at:#x} is in {region.kind}")
        return at, self.vm.memory.read(at, length)

    def upper_case(self) -> int:
        """Turn the ASCII letters of the buffer into capitals, in place; return how many it changed."""
        at, old = self.buffer()
        new = old.upper()  # of bytes: ASCII letters only
        self.vm.memory.write(at, new)
        return sum(a != b for a, b in zip(old, new, strict=True))

    def update_line(self) -> None:
        """Hold the line high while the guest has something to see."""
        self.irq.level = self.control.irq_enable and (self.status.done or self.status.error)
