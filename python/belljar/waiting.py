"""Doorbells as asyncio waits for them. Nothing here blocks the event loop, or reads a doorbell that nobody awaits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from belljar._belljar import Doorbell


async def rung(bell: Doorbell) -> int:
    """Wait until ``bell`` has rung, as ``Doorbell.wait`` does."""
    while not (count := bell.read()):
        if bell.removed:
            return bell.wait(0)  # a ring that came meanwhile, or ValueError
        await _readable(bell)
    return count


async def rings(bell: Doorbell) -> AsyncIterator[int]:
    """Yield the counts of ``bell`` until it is removed."""
    while True:
        if count := bell.read():
            yield count
        elif bell.removed:
            return
        else:
            await _readable(bell)


async def _readable(bell: Doorbell) -> None:
    """Return when the event of ``bell`` can be read, or might."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    watched = os.dup(bell.fileno())  # several tasks may wait, and a loop knows one reader of each descriptor

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(watched, tell)
    try:
        await ready
    finally:
        loop.remove_reader(watched)
        os.close(watched)
