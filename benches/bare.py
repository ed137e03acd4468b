"""The bare counterpart, `bare.c`, as Python calls: built when it is needed, loaded into this very process."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Self

from compiled import compiled

import belljar as bj


@cache
def library() -> ctypes.CDLL:
    """The compiled `bare.c`, which releases the GIL as every ctypes call does."""
    lib = ctypes.CDLL(str(compiled("bare.c")), use_errno=True)
    handle, number = ctypes.c_void_p, ctypes.c_uint64
    signatures = {
        "bare_new": (handle, [number, ctypes.c_int]),
        "bare_drop": (None, [handle]),
        "bare_load": (ctypes.c_int, [handle, handle]),
        "bare_run": (ctypes.c_int, [handle, number, ctypes.c_uint32]),
        "bare_lives": (ctypes.c_int, [number, number, ctypes.c_int, handle]),
        "start_like": (handle, [handle, ctypes.c_int, number, number, ctypes.c_char_p]),
        "start_drop": (None, [handle]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def repairs_syscall() -> bool:
    """Does belljar watch LSTAR on this KVM? Then its counterpart does the same."""
    quirks = bj.host.quirks
    return quirks is not None and not quirks.syscall_enters_ring0


def failed(what: str) -> OSError:
    errno = ctypes.get_errno()
    return OSError(errno, f"{what}: {os.strerror(errno)}")


def vcpu_descriptors() -> set[int]:
    """The descriptors of vCPUs that this process has open."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if str(entry.readlink()).startswith("anon_inode:kvm-vcpu"):
                found.add(int(entry.name))
        except FileNotFoundError:
            pass  # the descriptor of the directory itself
    return found


class Start:
    """The registers and the memory that a stopped belljar VM begins with: exactly these, for the C side."""

    def __init__(self, vm: bj.VM, descriptor: int) -> None:
        regs = (ctypes.c_uint64 * len(bj.Registers.NAMES))(*vm.cpu.regs.read())  # in the order of struct kvm_regs
        _ = vm.cpu.msr["EFER"]  # an ioctl, before which belljar brings changes of system registers to the vCPU
        (region,) = vm.memory.regions
        image = vm.memory.read(region.start, region.size)
        self.size = len(image)
        content = image.rstrip(b"\0")
        at = next((n for n, byte in enumerate(content) if byte), 0)
        self.handle = library().start_like(regs, descriptor, at, len(content) - at, content[at:])
        if not self.handle:
            raise failed("the registers of a belljar vCPU")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        library().start_drop(self.handle)


class Bare:
    """A VM made by C, loaded with `start`."""

    def __init__(self, start: Start) -> None:
        self.handle = library().bare_new(start.size, repairs_syscall())
        if not self.handle:
            raise failed("a VM by ioctls alone")
        if library().bare_load(self.handle, start.handle):
            raise failed("a guest in a VM made by C")

    def run(self, exits: int, answer: int) -> None:
        """Answer `exits` port accesses."""
        reason = library().bare_run(self.handle, exits, answer)
        if reason:
            raise failed(f"the C loop came upon exit reason {reason}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        library().bare_drop(self.handle)


def lives(start: Start, times: int) -> None:
    """Create a VM, load `start`, meet its first exit, drop it; `times` over, all of it in C."""
    if library().bare_lives(times, start.size, repairs_syscall(), start.handle):
        raise failed("a life of a VM in C")
