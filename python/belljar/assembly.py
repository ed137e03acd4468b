"""Assembly text to machine code, through keystone (the extra ``asm``)."""

from __future__ import annotations


def asm(text: str, bits: int = 64, at: int = 0x1000) -> bytes:
    """Assemble Intel-syntax ``text`` for ``bits`` (16, 32 or 64) at address ``at``.

    Instructions are separated by ``;`` or new lines, labels end with ``:``, and ``#`` begins a comment. Needs the
    package keystone-engine (``pip install belljar[asm]``). Raises ValueError with the assembler's own words.

    >>> asm("mov al, 42; out 0x10, al; hlt", bits=16).hex()
    'b02ae610f4'
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
    lines = "\n".join(line.split("#", 1)[0] for line in text.splitlines())
    try:
        code, _ = keystone.Ks(keystone.KS_ARCH_X86, modes[bits]).asm(lines, at, as_bytes=True)
    except keystone.KsError as error:
        raise ValueError(f"cannot assemble for {bits} bits: {error} in {text.strip()!r}") from error
    return bytes(code or b"")
