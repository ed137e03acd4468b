"""Expressions over a stopped guest: registers, memory and the exit at hand, written as Python writes them.

They hold what is to be computed, and never a machine; ``bind`` gives them one.

>>> import belljar as bj
>>> (bj.reg.rip > 0x1000) & (bj.mem.u64(bj.reg.rsp) != 0)
(reg.rip > 0x1000) & (mem.u64(reg.rsp) != 0x0)
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from typing import NoReturn, TypeAlias

from belljar._belljar import VM, Exit, Registers

WORD = (1 << 64) - 1

Scope: TypeAlias = "tuple[VM, Exit | None]"


class AbsentError(LookupError):
    """The exit at hand has no such field: a comparison with it does not hold."""


class Expression:
    """An unsigned 64-bit value, or a truth, to be computed from a guest; arithmetic wraps as the processor's does.

    Compare with ``== != < <= > >=``, combine truths with ``& | ~`` (and in parentheses: they bind tighter than
    comparisons), ask ``.isin([...])``. ``and``, ``or`` and ``not`` cannot be kept for later and raise TypeError.
    """

    __slots__ = ("compute", "text")
    __hash__ = None  # type: ignore[assignment]  # == makes an expression

    def __init__(self, text: str, value: Callable[[Scope], int]) -> None:
        """Hold how it is shown, and how it is computed."""
        self.text = text
        self.compute = value

    def bind(self, vm: VM) -> Callable[[Exit | None], bool]:
        """Return a function of an exit that says whether the expression holds in ``vm``, on the exit's vCPU."""
        return lambda exit: self.holds_in((vm, exit))

    def isin(self, values: Iterable[int]) -> Expression:
        """Is the value one of these?"""
        wanted = frozenset(operator.index(value) & WORD for value in values)
        shown = ", ".join(f"{value:#x}" for value in sorted(wanted))
        return Expression(f"{_inner(self)}.isin([{shown}])", lambda scope: self.compute(scope) in wanted)

    def __bool__(self) -> NoReturn:
        """Refuse to be a truth now: it is one when the guest runs."""
        raise TypeError("an expression has no truth yet: combine with & | ~ instead of and, or, not")

    def __invert__(self) -> Expression:
        """Return the truth that this one does not hold."""
        return Expression(f"~({self.text})", lambda scope: not self.holds_in(scope))

    def holds_in(self, scope: Scope) -> bool:
        """Is it true there? Not where the exit has no such field."""
        try:
            return bool(self.compute(scope))
        except AbsentError:
            return False

    def _with(self, other: object, sign: str, apply: Callable[[int, int], int], *, turned: bool = False) -> Expression:
        right = _expression(other)
        first, second = (right, self) if turned else (self, right)
        text = f"{_inner(first)} {sign} {_inner(second)}"
        return Expression(text, lambda scope: apply(first.compute(scope), second.compute(scope)))

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]
        """Compare for equality."""
        return self._with(other, "==", operator.eq)

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]
        """Compare for inequality."""
        return self._with(other, "!=", operator.ne)

    def __lt__(self, other: object) -> Expression:
        """Compare, unsigned."""
        return self._with(other, "<", operator.lt)

    def __le__(self, other: object) -> Expression:
        """Compare, unsigned."""
        return self._with(other, "<=", operator.le)

    def __gt__(self, other: object) -> Expression:
        """Compare, unsigned."""
        return self._with(other, ">", operator.gt)

    def __ge__(self, other: object) -> Expression:
        """Compare, unsigned."""
        return self._with(other, ">=", operator.ge)

    def __and__(self, other: object) -> Expression:
        """Combine bits, or truths: the second is not asked where the first does not hold."""
        right = _expression(other)
        return Expression(f"{_inner(self)} & {_inner(right)}", lambda scope: _both(self, right, scope))

    def __or__(self, other: object) -> Expression:
        """Combine bits, or truths."""
        right = _expression(other)
        return Expression(f"{_inner(self)} | {_inner(right)}", lambda scope: _either(self, right, scope))

    def __xor__(self, other: object) -> Expression:
        """Combine bits."""
        return self._with(other, "^", operator.xor)

    def __add__(self, other: object) -> Expression:
        """Add, modulo 2**64."""
        return self._with(other, "+", lambda a, b: (a + b) & WORD)

    def __radd__(self, other: object) -> Expression:
        """Add, modulo 2**64."""
        return self._with(other, "+", lambda a, b: (a + b) & WORD, turned=True)

    def __sub__(self, other: object) -> Expression:
        """Subtract, modulo 2**64."""
        return self._with(other, "-", lambda a, b: (a - b) & WORD)

    def __rsub__(self, other: object) -> Expression:
        """Subtract, modulo 2**64."""
        return self._with(other, "-", lambda a, b: (a - b) & WORD, turned=True)

    def __mul__(self, other: object) -> Expression:
        """Multiply, modulo 2**64."""
        return self._with(other, "*", lambda a, b: (a * b) & WORD)

    def __lshift__(self, other: object) -> Expression:
        """Shift to the left; 64 and more leave nothing."""
        return self._with(other, "<<", lambda a, b: (a << b) & WORD if b < 64 else 0)

    def __rshift__(self, other: object) -> Expression:
        """Shift to the right, unsigned."""
        return self._with(other, ">>", lambda a, b: a >> b if b < 64 else 0)

    def __repr__(self) -> str:
        """Show it as it is written."""
        return self.text


def _both(left: Expression, right: Expression, scope: Scope) -> int:
    first = left.compute(scope)
    if isinstance(first, bool):
        return first and right.holds_in(scope)
    return first & right.compute(scope)


def _either(left: Expression, right: Expression, scope: Scope) -> int:
    try:
        first = left.compute(scope)
    except AbsentError:
        first = False
    if isinstance(first, bool):
        return first or right.holds_in(scope)
    return first | right.compute(scope)


def _inner(expression: Expression) -> str:
    """Return its text, in parentheses where it is made of several."""
    return (
        f"({expression.text})" if " " in expression.text and not _CLOSED.fullmatch(expression.text) else expression.text
    )


_CLOSED = re.compile(r"[\w.]+\([^()]*\)")


def _expression(value: object) -> Expression:
    if isinstance(value, Expression):
        return value
    if isinstance(value, int):
        number = value & WORD
        return Expression(f"{value:#x}", lambda _: number)
    raise TypeError(f"an expression is made of integers and expressions, not of {type(value).__name__}")


class _Registers:
    """The general registers of the exit's vCPU: ``reg.rax``."""

    def __getattr__(self, name: str) -> Expression:
        """Return the register as an expression. AttributeError for a name that is none."""
        if not hasattr(Registers, name) or name.startswith("_"):
            raise AttributeError(f"no register is named {name!r}; there are {', '.join(Registers.NAMES)}")

        def value(scope: Scope) -> int:
            vm, exit = scope
            return int(getattr(vm.cpus[exit.vcpu if exit is not None else 0].regs, name))

        return Expression(f"reg.{name}", value)


class _Memory:
    """Guest-physical memory, little-endian: ``mem.u32(0x1000)``."""

    def __getattr__(self, name: str) -> Callable[[object], Expression]:
        """Return a reader of u8, u16, u32 or u64. Where no memory is, comparisons with it do not hold."""
        if name not in {"u8", "u16", "u32", "u64"}:
            raise AttributeError(f"memory is read as u8, u16, u32 or u64, not as {name}")

        def read(address: object) -> Expression:
            at = _expression(address)

            def value(scope: Scope) -> int:
                try:
                    return int(getattr(scope[0].memory, f"read_{name}")(at.compute(scope)))
                except LookupError as error:  # GuestMemoryError: no memory is there
                    raise AbsentError from error

            return Expression(f"mem.{name}({at!r})", value)

        return read


class _Exit:
    """The fields of the exit at hand: ``exit.port``, ``exit.data``."""

    def __getattr__(self, name: str) -> Expression:
        """Return the field as an expression; comparisons with it do not hold for exits that have no such field."""
        if name.startswith("_"):
            raise AttributeError(name)

        def value(scope: Scope) -> int:
            found = getattr(scope[1], name, None)
            if not isinstance(found, int):
                raise AbsentError
            return found & WORD

        return Expression(f"exit.{name}", value)


reg = _Registers()
"""The general registers of the exit's vCPU, for expressions: ``bj.reg.rax``."""

mem = _Memory()
"""Guest-physical memory, for expressions: ``bj.mem.u64(bj.reg.rsp)``."""

exit = _Exit()
"""The exit at hand, for expressions: ``bj.exit.port``."""
