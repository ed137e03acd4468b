"""Handlers that are C functions: from numba, ctypes, cffi, or an address. Here they are found and never called.

>>> import ctypes, belljar as bj
>>> handler = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.POINTER(bj.NativeExit), ctypes.c_void_p)
>>> answer = handler(lambda exit, _: bj.Verdict.CONTINUE)
"""

from __future__ import annotations

import ctypes
import enum
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

from belljar._belljar import Exit, NativeHandler

POINTER: Any = ctypes.CFUNCTYPE(None).__base__
"""What all function pointers of ctypes are."""


class Verdict(enum.IntEnum):
    """What a native handler returns."""

    CONTINUE = 0
    """No opinion: the next handler, and in the end the device."""
    DONE = 1
    """A read gets the exit's ``data``, a write is dropped, a halt is passed over."""
    LOG = 2
    """As CONTINUE, and the exit is logged, by the logger "belljar" at level INFO (the last 1,000 of a run are kept)."""
    CALL = 3
    """Ask the fallback in Python."""
    STOP = 4
    """As CONTINUE, then the run ends with this exit."""
    DENY = 5
    """The access to an MSR is refused: the guest gets #GP."""


class NativeExit(ctypes.Structure):
    """An exit as a native handler sees it: ``struct belljar_exit``. ``numpy.dtype(NativeExit)`` is what numba needs."""

    _fields_ = (
        ("version", ctypes.c_uint32),
        ("bytes", ctypes.c_uint32),
        ("kind", ctypes.c_uint32),
        ("vcpu", ctypes.c_uint32),
        ("address", ctypes.c_uint64),
        ("data", ctypes.c_uint64),
        ("size", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("string", ctypes.c_void_p),
        ("string_bytes", ctypes.c_uint64),
        ("read", ctypes.c_void_p),
        ("write", ctypes.c_void_p),
        ("guest", ctypes.c_void_p),
        ("has_registers", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("registers", ctypes.c_uint64 * 18),
    )


def include() -> Path:
    """Return the folder of belljar.h, for a C compiler: ``cc -I ...``."""
    return Path(__file__).parent / "include"


def native(
    function: object,
    user_data: object = None,
    *,
    fallback: Callable[[Exit], object] | None = None,
    registers: bool = False,
) -> NativeHandler:
    """Make a handler of a C function: ``int32_t handler(struct belljar_exit *exit, void *user_data)`` of belljar.h.

    ``function`` is a numba.cfunc, a function pointer of ctypes or cffi, or an address. It is called on the thread that
    runs the vCPU, without the interpreter, and keeps the guest waiting; a wrong address, or a function of another
    signature, crashes the process. ``user_data`` is an address, something of ctypes or cffi, or a writable buffer such
    as a numpy array, whose first byte it gets. Both are kept alive while it is registered. ``fallback(exit)`` answers
    where it returns CALL; with ``registers=True`` it sees and may change the general registers.
    """
    if fallback is not None and not callable(fallback):
        raise TypeError(f"fallback is a function of one exit, not {fallback!r}")
    address = _function(function)
    if address is None:
        raise TypeError(
            f"a native handler is a numba.cfunc, a function pointer of ctypes or cffi, or an address, not {function!r}"
        )
    data, keeper = _data(user_data)
    return NativeHandler(address, data, (function, user_data, keeper), fallback, registers)


def recognised(handler: object) -> NativeHandler | None:
    """Make a native handler of a function pointer that nothing else can be; None for all that Python calls."""
    if isinstance(handler, int) or _function(handler) is None:
        return None
    return native(handler)


def _function(function: Any) -> int | None:
    """Return the address of a C function."""
    if isinstance(function, POINTER):
        arguments = function.argtypes
        if arguments is not None and len(arguments) != 2:
            raise TypeError(f"a native handler takes an exit and its user data, not {len(arguments)} arguments")
        return ctypes.cast(function, ctypes.c_void_p).value or 0
    if type(function).__module__ == "_cffi_backend":
        return _cffi(function)
    if type(function).__module__.startswith("numba.") and isinstance(getattr(function, "address", None), int):
        return int(function.address)
    return operator.index(function) if isinstance(function, int) else None


def _data(data: Any) -> tuple[int, object]:
    """Return where ``data`` is, and what keeps it there."""
    if data is None or isinstance(data, int):
        return operator.index(data or 0), None
    if type(data).__module__ == "_cffi_backend":
        return _cffi(data), None
    try:
        held = (ctypes.c_char * 0).from_buffer(data)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"user_data is an address, something of ctypes or cffi, or a writable buffer, not {data!r}"
        ) from error
    return ctypes.addressof(held), held


def _cffi(pointer: Any) -> int:
    import _cffi_backend  # the module of the pointer itself

    return int(_cffi_backend.FFI().cast("uintptr_t", pointer))
