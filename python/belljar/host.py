"""What this host's KVM offers and how it behaves. Works, and says so, where there is none."""

from __future__ import annotations

from functools import cached_property

from belljar import _belljar
from belljar.cpuid import Cpuid, host_table
from belljar.errors import HostError


class Host:
    """The host as belljar sees it, asked when first looked at. Nothing here raises where KVM is missing."""

    @cached_property
    def _asked(self) -> tuple[list[tuple[str, int, str]], int] | HostError:
        try:
            return _belljar.capabilities()
        except HostError as error:
            return error

    @property
    def available(self) -> bool:
        """Can a VM be made here?"""
        return self.error is None

    @property
    def error(self) -> HostError | None:
        """Why no VM can be made here, with the remedy; None if one can."""
        return self._asked if isinstance(self._asked, HostError) else None

    @property
    def capabilities(self) -> dict[str, int]:
        """KVM's answers (KVM_CHECK_EXTENSION) about the capabilities that belljar uses; 0 is no."""
        return {} if isinstance(self._asked, HostError) else {name: value for name, value, _ in self._asked[0]}

    @property
    def purposes(self) -> dict[str, str]:
        """What belljar uses each capability for."""
        return {} if isinstance(self._asked, HostError) else {name: purpose for name, _, purpose in self._asked[0]}

    @property
    def max_vcpus(self) -> int:
        """The most vCPUs that one VM may have; 0 without KVM."""
        return 0 if isinstance(self._asked, HostError) else self._asked[1]

    @property
    def cpuid(self) -> Cpuid:
        """The CPUID leaves that KVM can give to guests here, as a table of their own; empty without KVM."""
        return host_table(_belljar.supported_cpuid() if self.available else [])

    @cached_property
    def quirks(self) -> _belljar.Quirks | None:
        """How this KVM behaves, probed with mini-guests; None without KVM."""
        return _belljar.probe() if self.available else None

    def __repr__(self) -> str:
        """Say whether there is a KVM, and how many of its answers are not the documented ones."""
        if self.error is not None:
            return f"<Host without KVM: {self.error.cause}>"
        odd = (
            [name for name, value, documented, _ in self.quirks.answers() if value != documented] if self.quirks else []
        )
        return f"<Host with KVM, up to {self.max_vcpus} vCPUs, {len(odd)} quirks>"

    def _repr_html_(self) -> str:
        """Return the host as a notebook shows it."""
        from belljar.html import show

        return show(self)


host = Host()
"""This host."""
