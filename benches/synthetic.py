"""The exit that costs nothing (`synthetic.c`), and calls of Python functions from C (`calls.c`), as Python calls.

The library must have been preloaded: `start_over` runs the program again with it. It never touches belljar.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, NoReturn

from case import UnavailableError
from compiled import compiled

if TYPE_CHECKING:
    from case import Work


def is_preloaded() -> bool:
    """Does this process have the `ioctl` of synthetic.c?"""
    return "libsynthetic.so" in os.environ.get("LD_PRELOAD", "")


def environment() -> dict[str, str]:
    """That of a process that has it."""
    others = os.environ.get("LD_PRELOAD", "")
    return os.environ | {"LD_PRELOAD": f"{compiled('synthetic.c')} {others}".strip()}


def start_over() -> NoReturn:
    """Replaces this process by itself with the library."""
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment())


@cache
def library() -> ctypes.CDLL:
    """The library that is in this process already."""
    if not is_preloaded():
        raise UnavailableError("the process was not started with synthetic.c's ioctl")
    lib = ctypes.CDLL(str(compiled("synthetic.c")), use_errno=True)
    lib.synthetic_arm.argtypes = [ctypes.c_int, ctypes.c_uint16, ctypes.c_int]
    lib.synthetic_disarm.argtypes = [ctypes.c_int]
    lib.count_end.argtypes = [ctypes.c_char_p]
    return lib


@contextmanager
def exits_at_once(vcpu: int, port: int) -> Iterator[None]:
    """Meanwhile every KVM_RUN of that descriptor is a read of one byte at `port`."""
    if library().synthetic_arm(vcpu, port, 0):
        raise OSError(ctypes.get_errno(), "the run page of a vCPU")
    try:
        yield
    finally:
        library().synthetic_disarm(vcpu)


@cache
def caller() -> ctypes.PyDLL:
    """Calls that keep the GIL."""
    lib = ctypes.PyDLL(str(compiled("calls.c")))
    lib.call.argtypes = [ctypes.py_object, ctypes.py_object, ctypes.c_uint64]
    return lib


def calls(function: Callable[[object], object], argument: object) -> Work:
    """Calls `function(argument)` a number of times, from C."""
    return partial(caller().call, function, argument)
