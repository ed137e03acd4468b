"""The interrupt line of a device written in Python: it keeps the level, and pulls the machine's line once connected.

It never chooses a line, and never runs a vCPU.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from belljar._belljar import VM


class Wire:
    """``device.irq``: the interrupt line that a device pulls. Every method works from any thread, handlers included.

    An edge-triggered interrupt is ``pulse()``; a level-triggered one is ``raise_()``, and ``lower()`` when the guest
    has seen to it. A device that is not attached keeps the level, and takes it along. On a VM without an interrupt
    controller (``irqchip=None``), pulling the line raises ValueError, and so does pulling that of a device without one.
    """

    def __init__(self, line: int | None = None) -> None:
        self.line = line
        """The number of the line (GSI), or None."""
        self._level = False
        self._vm: VM | None = None
        self._pulled: Any = None  # the machine's line, once it has been pulled
        self._lock = threading.RLock()  # a signal's handler may pull the line while this thread does

    def pulse(self) -> None:
        """Raise and lower the line: one edge-triggered interrupt."""
        with self._lock:
            if (line := self._connected()) is not None:
                line.pulse()
            self._level = False

    def raise_(self) -> None:
        """Hold the line high. Does nothing if it is."""
        self._set(level=True)

    def lower(self) -> None:
        """Let the line go low. Does nothing if it is."""
        self._set(level=False)

    @property
    def level(self) -> bool:
        """Does the device hold its line high? Set it to raise or lower the line."""
        return self._level

    @level.setter
    def level(self, high: bool) -> None:
        self._set(level=bool(high))

    def connect(self, vm: VM) -> None:
        """Have the line go to `vm`, where it is raised if it is high here. attach() does this."""
        with self._lock:
            self._vm, self._pulled = vm, None
            if self._level:
                self._pull()

    def disconnect(self) -> None:
        """Let the line go low and have it lead nowhere. detach() does this."""
        with self._lock:
            try:
                if self._level and (line := self._connected()) is not None:
                    line.lower()
            finally:
                self._vm, self._pulled, self._level = None, None, False

    def refresh(self, level: bool) -> None:
        """Set the level, and pull the machine's line even if the level is what it was: the machine may have changed."""
        with self._lock:
            known, self._level = self._level, level
            if level or known:
                self._pull()

    def _set(self, *, level: bool) -> None:
        with self._lock:
            if level != self._level:
                before, self._level = self._level, level
                try:
                    self._pull()
                except BaseException:
                    self._level = before
                    raise

    def _pull(self) -> None:
        if (line := self._connected()) is not None:
            line.raise_() if self._level else line.lower()

    def _connected(self) -> Any:
        if self._vm is not None and self._vm.state == "closed":
            self._vm, self._pulled = None, None
        if self._pulled is None and self._vm is not None:
            if self.line is None:
                raise ValueError("this device has no interrupt line: `irq = 5` in its class, or attach(device, irq=5)")
            self._pulled = self._vm.irq(self.line)
        return self._pulled

    def __repr__(self) -> str:
        where = "no line" if self.line is None else f"line {self.line}"
        return f"<Wire {where}, {'high' if self._level else 'low'}{'' if self._vm else ', not connected'}>"
