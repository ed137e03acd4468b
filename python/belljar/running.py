"""Runs as Python's own forms of waiting: an iterator and an awaitable. They never run a guest but by ``VM.run``."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

from belljar._belljar import (
    VM,
    BusLock,
    Exit,
    Expression,
    Hypercall,
    InterruptWindow,
    IoapicEoi,
    MmioRead,
    MmioWrite,
    MsrRead,
    MsrWrite,
    PortIn,
    PortOut,
    PortStringIn,
    PortStringOut,
    Timeout,
    TprAccess,
    TprLowered,
)

Until: TypeAlias = "type[Exit] | tuple[type[Exit], ...] | Expression | Callable[[Exit | None], object] | None"

PASSING = (
    *(PortIn, PortOut, PortStringIn, PortStringOut, MmioRead, MmioWrite, MsrRead, MsrWrite),
    *(Hypercall, InterruptWindow, TprLowered, TprAccess, IoapicEoi, BusLock),
)
"""Exits after which a machine goes on by itself; every other one ends a run."""

PATIENCE = 0.01
"""Seconds between two kicks at a run that has been cancelled."""


def exits(vm: VM, kinds: tuple[type[Exit], ...], timeout: float | None) -> Iterator[Exit]:
    """Yield the answered exits of ``vm`` as ``VM.exits`` says."""
    deadline = None if timeout is None else time.monotonic() + timeout
    goes_on = tuple(kinds) or PASSING
    until = tuple(kinds) or Exit
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        exit = vm.run(left, until=until)
        yield exit
        if isinstance(exit, Timeout) or not isinstance(exit, goes_on):
            return


async def run_async(vm: VM, timeout: float | None, max_exits: int | None, until: Until) -> Exit:
    """Run ``vm`` on a thread of its own as ``VM.run_async`` says."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Exit] = loop.create_future()

    def tell(exit: Exit | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        elif exit is not None:
            done.set_result(exit)

    def run() -> None:
        exit, error = None, None
        try:
            exit = vm.run(timeout, max_exits, until=until)
        except BaseException as raised:  # noqa: BLE001  # whatever a handler raised comes out of the await
            error = raised
        loop.call_soon_threadsafe(tell, exit, error)

    thread = threading.Thread(target=run, name="belljar-run", daemon=True)
    thread.start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        while not done.done():  # a kick reaches only a run that has begun
            vm.kick()
            await asyncio.wait([done], timeout=PATIENCE)
        if done.exception() is not None:
            raise done.exception() from None  # type: ignore[misc]  # it is not None
        raise
