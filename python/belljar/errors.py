"""What can go wrong, as exceptions that say what to do next. They are raised by the native core too."""

from __future__ import annotations


class BelljarError(Exception):
    """The base of every error that is belljar's own."""


class HostError(BelljarError):
    """The host lacks something: there is no KVM, it may not be opened, or the kernel refused an operation.

    ``cause`` says what was found, ``remedy`` what to do about it, ``errno`` the kernel's number where there is one.
    """

    def __init__(self, cause: str, remedy: str = "", errno: int | None = None) -> None:
        """Keep both halves of the message apart, for programs."""
        super().__init__(f"{cause}\n  -> {remedy}" if remedy else cause)
        self.cause = cause
        self.remedy = remedy
        self.errno = errno

    def __reduce__(self) -> tuple[type[HostError], tuple[str, str, int | None]]:
        """Travel whole between processes."""
        return type(self), (self.cause, self.remedy, self.errno)


class ClosedError(BelljarError):
    """The VM has been closed."""


class RunningError(BelljarError):
    """Something that needs a stopped machine was asked of a running one, or from inside a handler."""


class GuestMemoryError(BelljarError, LookupError):
    """Addresses without memory: physical ones that no RAM or ROM backs, or virtual ones that nothing is mapped at.

    ``address`` is the first of them, ``length`` how many bytes were asked for.
    """

    def __init__(self, message: str, address: int = 0, length: int = 0) -> None:
        """Keep the address and the length, for programs."""
        super().__init__(message)
        self.address = address
        self.length = length

    def __reduce__(self) -> tuple[type[GuestMemoryError], tuple[str, int, int]]:
        """Travel whole between processes."""
        return type(self), (str(self), self.address, self.length)


class KernelError(BelljarError, LookupError):
    """Guest memory holds no kernel, or not what a kernel has there: ``address`` is where, or 0 if it is nowhere.

    A kernel has its symbols only once it has unpacked itself, and maps them once it runs: look again later.
    """

    def __init__(self, message: str, address: int = 0) -> None:
        """Keep the address, for programs."""
        super().__init__(message)
        self.address = address

    def __reduce__(self) -> tuple[type[KernelError], tuple[str, int]]:
        """Travel whole between processes."""
        return type(self), (str(self), self.address)


class RangeError(BelljarError, ValueError):
    """A range of addresses that is taken, not made of whole pages, or beyond what an address can name."""


class ImageError(BelljarError, ValueError):
    """A file that is not what its loader reads; the message names the format and what is wrong."""


class RegisterError(BelljarError, ValueError):
    """Values that registers cannot have, by themselves or together; the vCPU keeps its old ones."""
