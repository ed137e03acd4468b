"""Where what is named by a symbol is: a breakpoint, or memory. It never plants anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from belljar.errors import KernelError


def sources(vm: Any) -> Iterator[Mapping[str, int]]:
    """Yield what knows symbols of this guest, the nearest first: those of the image, then those found in the guest."""
    yield vm.symbols
    with suppress(KernelError):
        yield vm.linux.symbols


def resolve(vm: Any, where: str) -> int:
    """Return the address of "name", "name+0x10" or "name-4" in a guest; KeyError says what is like it."""
    return resolve_in(sources(vm), where)


def resolve_in(tables: Iterable[Mapping[str, int]], where: str) -> int:
    """Return the same by the first of these tables that has it."""
    name, sign, distance = where, "", ""
    for separator in "+-":
        if separator in where:
            name, sign, distance = where.rpartition(separator)
            break
    try:
        offset = int(sign + distance, 0) if distance else 0
    except ValueError:
        name, offset = where, 0
    problem: KeyError | None = None
    for symbols in tables:
        try:
            return (symbols[name.strip()] + offset) % 2**64
        except KeyError as error:  # the last one's is the kernel's, where there is one
            problem = error
    raise problem or KeyError(where)
