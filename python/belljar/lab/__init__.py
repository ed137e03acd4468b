"""An emulated PC with AMD-V, for those who have no KVM: belljar runs in it, slowly, on a stock kernel's kvm_amd.

It needs a Debian-like host (packages are fetched with apt, checked by it, and extracted into a cache, not installed),
QEMU 10 or newer among these packages or on the host, and mke2fs. Nothing outside the cache is written.
"""

from __future__ import annotations

from belljar.lab.debian_guest import Debian, debian
from belljar.lab.emulator import Lab
from belljar.lab.packages import LabError

__all__ = ["Debian", "Lab", "LabError", "debian"]
