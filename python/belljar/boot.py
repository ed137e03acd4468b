"""Whole guests in one call: a machine with the devices that a kernel expects, and the kernel in it."""

from __future__ import annotations

import os

from belljar._belljar import VM
from belljar.host import host

LINUX_CMDLINE = "console=ttyS0 panic=-1 reboot=k"
"""What a Linux guest is always told: its console, and to reset when it has ended."""

REPAIRED_CMDLINE = "lpj=1000000 tsc=reliable noxsave clearcpuid=308,151,297,580 random.trust_cpu=1 quiet rodata=off"
"""What a Linux guest is told besides where KVM interprets ring 0: what not to use, since it cannot be hidden there."""


def linux_cmdline(extra: str = "") -> str:
    """Return the command line for a Linux guest on this host, with ``extra`` at its end."""
    interpreted = host.quirks is not None and not host.quirks.ring0_is_native
    parts = [LINUX_CMDLINE, REPAIRED_CMDLINE if interpreted else "", extra]
    return " ".join(part for part in parts if part)


def cmdline_for(image: str | os.PathLike[str], extra: str = "") -> str:
    """Return the command line for the kernel in the file ``image``: what Linux needs if it is one, and ``extra``."""
    with open(image, "rb") as file:
        content = file.read()
    is_linux = content[0x202:0x206] == b"HdrS" or b"Linux version " in content
    return linux_cmdline(extra) if is_linux else extra


def linux(
    kernel: str | os.PathLike[str] | bytes,
    *,
    initrd: str | os.PathLike[str] | bytes | None = None,
    cmdline: str = "",
    memory: str | int = "64M",
    vcpus: int = 1,
    irqchip: str = "full",
) -> VM:
    """Make a VM with a Linux kernel (bzImage or vmlinux) loaded, ready to ``start()``; its console is ``vm.console``.

    ``cmdline`` is added to what this host's KVM makes necessary (:func:`linux_cmdline`). The machine is that of
    :func:`machine`, described by an MP table and ACPI tables. Raises ImageError for a file that is no kernel, is
    damaged, or does not fit.
    """
    vm = machine(memory=memory, vcpus=vcpus, irqchip=irqchip)
    try:
        vm.boot(kernel, initrd=initrd, cmdline=linux_cmdline(cmdline))
    except BaseException:
        vm.close()
        raise
    return vm


def machine(*, memory: str | int = "64M", vcpus: int = 1, irqchip: str = "full") -> VM:
    """Make an empty VM with the devices that a kernel expects of a PC; load one with ``vm.boot(image)``.

    A 16550 at port 0x3f8, the keyboard controller's reset line at 0x64; in the kernel PIC, I/O APIC, local APICs and
    the i8254 timer. With ``irqchip="split"``, local APICs in the kernel and the I/O APIC here, without PIC and timer:
    for guests that read ACPI tables and need neither (newer kernels have the timer only beside the PIC).
    """
    return VM(memory, vcpus, irqchip=irqchip, serial=True, i8042=True, pit=irqchip == "full")
