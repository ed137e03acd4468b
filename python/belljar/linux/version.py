"""What a kernel says of itself. It never asks the kernel."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Version:
    """The banner of a kernel and, where they are known, the parts of `uname` (of the first UTS namespace)."""

    banner: str
    sysname: str = "Linux"
    nodename: str = ""
    release: str = ""
    version: str = ""
    machine: str = ""
    domainname: str = ""

    @classmethod
    def of(cls, banner: str) -> Version:
        """Take what the banner says."""
        words = banner.split()
        return cls(banner.strip(), release=words[2] if len(words) > 2 else "", version=banner.partition("#")[2].strip())

    @property
    def numbers(self) -> tuple[int, ...]:
        """The release as numbers, to compare: (6, 1, 0)."""
        digits = (part for part in self.release.split("-")[0].split("."))
        return tuple(int(part) for part in digits if part.isdigit())

    def __str__(self) -> str:
        """Return the banner."""
        return self.banner
