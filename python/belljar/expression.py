"""Expressions over a stopped guest: registers, memory and the exit at hand, written as Python writes them.

Here are the names that they begin with; the native class ``Expression`` holds and computes them.

>>> import belljar as bj
>>> (bj.reg.rip > 0x1000) & (bj.mem.u64(bj.reg.rsp) != 0)
(reg.rip > 0x1000) & (mem.u64(reg.rsp) != 0x0)
"""

from __future__ import annotations

from belljar._belljar import Expression, Registers


def _is_private(name: str) -> bool:
    """Is it Python's own, such as the ``__wrapped__`` that tools ask every object for?"""
    return name.startswith("_")


SYSTEM = ("cr0", "cr2", "cr3", "cr4", "cr8", "efer", "cpl", "fs_base", "gs_base")
"""The registers beside the general ones that expressions know."""


class _Registers:
    """The registers of the exit's vCPU, and parts of them: ``reg.rax``, ``reg.al``, ``reg.cr3``, ``reg.cpl``."""

    def __getattr__(self, name: str) -> Expression:
        """Return the register as an expression. AttributeError for a name that is none."""
        if _is_private(name):
            raise AttributeError(name)
        return Expression.register(name)

    def __dir__(self) -> list[str]:
        """List the registers."""
        return [*Registers.NAMES, *SYSTEM]

    def __repr__(self) -> str:
        """Say how they are used."""
        return "<registers in expressions: bj.reg.rax, bj.reg.al, bj.reg.cr3, ...>"


class _Memory:
    """Guest-physical memory, little-endian: ``mem.u32(0x1000)``. Without memory there, comparisons do not hold."""

    def __repr__(self) -> str:
        """Say how it is used."""
        return "<guest-physical memory in expressions: bj.mem.u64(address), u32, u16, u8>"

    def u8(self, address: Expression | int) -> Expression:
        """Return the byte at ``address``."""
        return Expression.memory(8, address)

    def u16(self, address: Expression | int) -> Expression:
        """Return the 16-bit word at ``address``."""
        return Expression.memory(16, address)

    def u32(self, address: Expression | int) -> Expression:
        """Return the 32-bit word at ``address``."""
        return Expression.memory(32, address)

    def u64(self, address: Expression | int) -> Expression:
        """Return the 64-bit word at ``address``."""
        return Expression.memory(64, address)


class _Virtual:
    """Memory as the exit's vCPU sees it, through its page tables: ``virtual.u64(reg.rsp)``.

    Where the address does not translate, comparisons do not hold.
    """

    def __repr__(self) -> str:
        """Say how it is used."""
        return "<memory through the page tables in expressions: bj.virtual.u64(address), u32, u16, u8>"

    def u8(self, address: Expression | int) -> Expression:
        """Return the byte at ``address``."""
        return Expression.virtual(8, address)

    def u16(self, address: Expression | int) -> Expression:
        """Return the 16-bit word at ``address``."""
        return Expression.virtual(16, address)

    def u32(self, address: Expression | int) -> Expression:
        """Return the 32-bit word at ``address``."""
        return Expression.virtual(32, address)

    def u64(self, address: Expression | int) -> Expression:
        """Return the 64-bit word at ``address``."""
        return Expression.virtual(64, address)


class _Exit:
    """The fields of the exit at hand that are numbers: ``exit.port``, ``exit.data``."""

    def __getattr__(self, name: str) -> Expression:
        """Return the field as an expression; comparisons with it do not hold for exits that have no such field."""
        if _is_private(name):
            raise AttributeError(name)
        return Expression.field(name)

    def __dir__(self) -> list[str]:
        """List the fields."""
        return Expression.fields()

    def __repr__(self) -> str:
        """Say how they are used."""
        return "<fields of the exit at hand in expressions: bj.exit.port, bj.exit.data, ...>"


reg = _Registers()
"""The registers of the exit's vCPU, for expressions: ``bj.reg.rax``, ``bj.reg.cr3``, ``bj.reg.cpl``."""

mem = _Memory()
"""Guest-physical memory, for expressions: ``bj.mem.u64(0x1000)``."""

virtual = _Virtual()
"""Memory as the exit's vCPU sees it, for expressions: ``bj.virtual.u64(bj.reg.rsp)``."""

exit = _Exit()
"""The exit at hand, for expressions: ``bj.exit.port``."""
