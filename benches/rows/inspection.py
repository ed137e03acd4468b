"""The rows on looking into guest memory: a search, and values from all over it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator

import numpy as np
from case import Case, Work
from compiled import crate

import belljar as bj

SIZE = 16 << 20
NEEDLE = bytes.fromhex("48 8b 05 0f 1f 44 00 00")
SCATTERED = 4096


def content() -> bytes:
    """Bytes like code: small ones are frequent, and the needle is at the end alone."""
    random = np.random.default_rng(12)
    values = np.minimum(random.geometric(0.03, SIZE), 255).astype("u1").tobytes().replace(NEEDLE, b"")
    return values[: SIZE - 4096].ljust(SIZE - len(NEEDLE), b"\0") + NEEDLE


def repeated(search: Callable[[], bool]) -> Work:
    """`search` says whether it found the needle."""

    def work(count: int) -> None:
        for _ in range(count):
            assert search()

    return work


def search() -> Iterator[Case]:
    library = ctypes.CDLL(str(crate("memmem")))
    library.memmem_count.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    library.memmem_count.restype = ctypes.c_size_t
    with bj.VM(SIZE) as vm:
        copy = content()
        vm.memory.write(0, copy)
        with vm.memory.view() as view:
            at = np.asarray(view).ctypes.data
            ours = repeated(lambda: vm.memory.search(NEEDLE) == [SIZE - len(NEEDLE)])
            crate_s = repeated(lambda: library.memmem_count(at, SIZE, NEEDLE, len(NEEDLE)) == 1)
            what = f"search of {SIZE >> 20} MiB of guest memory / memmem of the memchr crate on the same bytes"
            yield Case("12", what, 1.05, ours, crate_s)
            python_s = repeated(lambda: copy.find(NEEDLE) == SIZE - len(NEEDLE))
            yield Case("12 Python", f"search of {SIZE >> 20} MiB of guest memory / bytes.find", 0.30, ours, python_s)


def scattered() -> Iterator[Case]:
    random = np.random.default_rng(13)
    with bj.VM(SIZE) as vm:
        vm.memory.write(0, random.integers(0, 2**63, SIZE // 8, dtype="u8"))
        indices = random.integers(0, SIZE // 8, SCATTERED)
        addresses = (indices * 8).astype("u8")
        held = [np.asarray(vm.memory.view()).view("<u8")]
        assert (vm.memory.read_many(addresses) == held[0][indices]).all()

        def ours(count: int) -> None:
            for _ in range(count):
                vm.memory.read_many(addresses)

        def numpys(count: int) -> None:
            (words,) = held
            for _ in range(count):
                words[indices]

        what = f"{SCATTERED:,} scattered words of guest-physical memory / numpy fancy indexing of the same memory"
        yield Case("13", what, 3.0, ours, numpys)
        if hasattr(vm.cpu, "virtual"):
            vm.load(b"\xf4", mode="long")  # whose tables map each address to itself
            assert (vm.cpu.virtual.read_many(addresses) == held[0][indices]).all()

            def through_tables(count: int) -> None:
                for _ in range(count):
                    vm.cpu.virtual.read_many(addresses)

            what = f"{SCATTERED:,} scattered words of virtual memory / numpy fancy indexing of the same memory"
            yield Case("13 virtual", what, 3.0, through_tables, numpys)
        held.clear()  # a VM with a live view cannot be closed
