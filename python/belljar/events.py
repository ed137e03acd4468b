"""What is on its way into a vCPU, as a value (KVM_GET_VCPU_EVENTS). It never touches a vCPU.

>>> import belljar as bj
>>> bj.Events(exception=14, error_code=2)
Events(exception=14, error_code=2)
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, kw_only=True, repr=False)
class Events:
    """Pending events of one vCPU: ``cpu.events`` reads them, assigning sets them all.

    ``cpu.events = cpu.events.replace(nmi_masked=False)`` changes some.
    """

    exception: int | None = None
    """The vector of an exception that is being delivered."""
    exception_pending: bool = False
    """It has not been begun yet: its side effects (CR2, DR6) are still to come."""
    error_code: int | None = None
    """Its error code, where it has one."""
    payload: int | None = None
    """What is to become CR2 or DR6, of an exception that is pending."""
    interrupt: int | None = None
    """The vector of an interrupt that is being delivered."""
    interrupt_soft: bool = False
    """It comes from INT n."""
    interrupt_shadow: int = 0
    """Interrupts wait for one instruction: bit 0 after MOV SS, bit 1 after STI."""
    nmi_injected: bool = False
    """An NMI is being delivered."""
    nmi_pending: int = 0
    """NMIs that wait: 0, 1 or 2."""
    nmi_masked: bool = False
    """NMIs wait for the IRET of the one before."""
    sipi_vector: int = 0
    """The vector of a start-up IPI; KVM takes it, but never tells it."""
    smm: bool = False
    """The vCPU is in system-management mode."""
    smi_pending: bool = False
    """A system-management interrupt waits."""
    smm_inside_nmi: bool = False
    """System-management mode was entered while NMIs were masked."""
    latched_init: bool = False
    """An INIT waits for the end of system-management mode."""
    triple_fault: bool = False
    """A triple fault waits."""

    @classmethod
    def _of(cls, words: list[int]) -> Self:
        """Make one of the core's words (``x86::Pending``)."""
        injected, pending, vector, has_code, code, has_payload, payload, interrupt, number, soft, shadow = words[:11]
        nmi_injected, nmi_pending, nmi_masked, sipi, smm, smi, inside, latched, triple = words[11:]
        return cls(
            exception=vector if injected or pending else None,
            exception_pending=bool(pending),
            error_code=code if has_code else None,
            payload=payload if has_payload else None,
            interrupt=number if interrupt else None,
            interrupt_soft=bool(soft),
            interrupt_shadow=shadow,
            nmi_injected=bool(nmi_injected),
            nmi_pending=nmi_pending,
            nmi_masked=bool(nmi_masked),
            sipi_vector=sipi,
            smm=bool(smm),
            smi_pending=bool(smi),
            smm_inside_nmi=bool(inside),
            latched_init=bool(latched),
            triple_fault=bool(triple),
        )

    def _words(self) -> list[int]:
        """Return the core's words."""
        for name, value in (("exception", self.exception), ("interrupt", self.interrupt)):
            if value is not None and not 0 <= value <= 255:
                raise ValueError(f"{name} is a vector, 0 to 255, not {value!r}")
        there = self.exception is not None
        words = [there and not self.exception_pending, there and self.exception_pending, self.exception or 0]
        words += [self.error_code is not None, self.error_code or 0, self.payload is not None, self.payload or 0]
        words += [self.interrupt is not None, self.interrupt or 0, self.interrupt_soft, self.interrupt_shadow]
        words += [self.nmi_injected, self.nmi_pending, self.nmi_masked, self.sipi_vector]
        words += [self.smm, self.smi_pending, self.smm_inside_nmi, self.latched_init, self.triple_fault]
        return [int(word) for word in words]

    def replace(self, **changes: int | None) -> Self:
        """Return the same events with some fields changed. TypeError for a field that there is none."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]  # checked field by field by its users

    def __bool__(self) -> bool:
        """Tell whether anything is on its way or held back."""
        return self != type(self)()

    def __repr__(self) -> str:
        """Show what is not as usual."""
        fields = [(f.name, getattr(self, f.name), f.default) for f in dataclasses.fields(self)]
        return f"Events({', '.join(f'{name}={value!r}' for name, value, default in fields if value != default)})"
