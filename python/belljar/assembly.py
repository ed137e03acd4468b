"""Assembly text to machine code, through keystone (the extra ``asm``).

Owns what is done to text before keystone sees it, and what is said when it cannot be assembled; never runs code.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBER = r"(?:0x[0-9a-f]+|0b[01]+|[0-9][0-9a-f]*h|[0-9]+)"
# A memory operand that is a number, or a sum of numbers: [0x8100], [0x8000 + 8], [-8].
_ABSOLUTE = re.compile(rf"\[\s*([+-]?\s*{_NUMBER}(?:\s*[+-]\s*{_NUMBER})*)\s*\]", re.IGNORECASE)
_SIZED = re.compile(r"\b(byte|word|dword|qword|tbyte|xmmword|ymmword|zmmword)\s*(?=\[|[c-gs]s\s*:)", re.IGNORECASE)
_SEGMENT = re.compile(r"\[\s*([c-gs]s)\s*:\s*", re.IGNORECASE)
# mov between rax (eax, ax, al) and memory has a form with an address of 64 bits, which keystone takes.
_ACCUMULATOR = re.compile(r"^(?:[^:]*:\s*)?mov(?:abs)?\b.*(?:\b(?:[er]?ax|al)\s*,|,\s*(?:[er]?ax|al)$)", re.IGNORECASE)
_LABELS = re.compile(r"^(?:\s*[\w.$]+\s*:(?!\s*\[))+")


def asm(text: str, bits: int = 64, at: int = 0x1000) -> bytes:
    """Assemble Intel-syntax ``text`` for ``bits`` (16, 32 or 64) at address ``at``.

    Instructions are separated by ``;`` or new lines, labels end with ``:``, and ``#`` begins a comment. Sizes may be
    written ``byte [rbx]`` or ``byte ptr [rbx]``, segments ``[gs:0x28]`` or ``gs:[0x28]``. ``[0x8100]`` is that absolute
    address in all modes, so that the code may lie anywhere (``[rip + 5]`` is relative); in 64-bit code it has to be in
    the first or the last 2 GiB, unless it is a ``mov`` of rax, eax, ax or al. Needs the package keystone-engine
    (``pip install belljar[asm]``). Raises ValueError, with the assembler's own words and the instruction that it means.

    >>> asm("mov al, 42; out 0x10, al; hlt", bits=16).hex()
    'b02ae610f4'
    >>> asm("inc byte [0x8100]").hex()
    'fe042500810000'
    """
    try:
        import keystone
    except ImportError as error:
        message = "asm needs keystone-engine: pip install 'belljar[asm]' (or give machine code as bytes)"
        raise ImportError(message) from error
    modes = {16: keystone.KS_MODE_16, 32: keystone.KS_MODE_32, 64: keystone.KS_MODE_64}
    if bits not in modes:
        raise ValueError(f"code is 16, 32 or 64 bits wide, not {bits}")
    if not isinstance(text, str):
        raise TypeError(f"asm takes text; {type(text).__name__} given (machine code needs no assembling)")
    engine = keystone.Ks(keystone.KS_ARCH_X86, modes[bits])

    def assemble(part: str) -> bytes:
        code, _ = engine.asm(part, at, as_bytes=True)
        # keystone drops all of a text, without an error, when it stumbles over some of what it does not know.
        if not code and _says_something(part):
            raise ValueError("the assembler does not understand it")
        return bytes(code or b"")

    statements = [_plain(statement, bits) for statement in _statements(text)]
    try:
        return assemble("\n".join(statements))
    except (keystone.KsError, ValueError) as error:
        culprit, reason = _culprit(statements, assemble, error, keystone.KS_ERR_ASM_SYMBOL_MISSING)
        raise ValueError(f"cannot assemble for {bits} bits: {reason} in {(culprit or text.strip())!r}") from error


def _statements(text: str) -> list[str]:
    """The statements of a text, without comments; a string (of .ascii) keeps its semicolons."""
    lines = (line.split("#", 1)[0] for line in text.splitlines())
    return [part for line in lines for part in ([line] if '"' in line else line.split(";"))]


def _says_something(part: str) -> bool:
    bodies = (_LABELS.sub("", line).strip() for line in part.splitlines())
    return any(body and not body.startswith(".") for body in bodies)


def _plain(statement: str, bits: int) -> str:
    """A statement as keystone reads it right: sizes with "ptr", segments before the bracket, absolute addresses."""
    if '"' in statement:
        return statement
    statement = _SEGMENT.sub(r"\1:[", statement)
    statement = _SIZED.sub(r"\1 ptr ", statement)
    if bits != 64 or _ACCUMULATOR.search(statement.strip()):
        return statement
    # Without an index, keystone takes the number for a distance from RIP. riz is "no index": the address is absolute.
    return _ABSOLUTE.sub(lambda found: f"[{_fitting(found[1], statement)} + riz*1]", statement)


def _fitting(numbers: str, statement: str) -> str:
    """The address as it is written, if an instruction has room for it."""
    terms = re.findall(rf"([+-]?)\s*({_NUMBER})", numbers, re.IGNORECASE)
    address = sum(-_value(number) if sign == "-" else _value(number) for sign, number in terms)
    if not (-(1 << 31) <= address < 1 << 31 or (1 << 64) - (1 << 31) <= address < 1 << 64):
        raise ValueError(
            f"cannot assemble for 64 bits: {address:#x} does not fit into {statement.strip()!r}, which has room for a "
            f"signed address of 32 bits; put it into a register first (mov rbx, {address:#x}; then [rbx]), or move rax"
        )
    return numbers


def _value(number: str) -> int:
    return int(number[:-1], 16) if number[-1] in "hH" and number[1:2] not in "xX" else int(number, 0)


def _culprit(
    statements: list[str], assemble: Callable[[str], bytes], error: Exception, unknown_symbol: int
) -> tuple[str | None, Exception]:
    """The first statement that alone is not understood, and why; labels of others are none of its fault."""
    for statement in statements:
        try:
            assemble(_LABELS.sub("", statement))
        except Exception as reason:  # noqa: BLE001 # keystone's own, of a package that may not be there
            if getattr(reason, "errno", None) != unknown_symbol:
                return statement.strip(), reason
    return None, error
