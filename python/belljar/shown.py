"""What a class of Python needs to be shown in notebooks. It never makes HTML; `belljar.html` does."""

from __future__ import annotations


class Shown:
    """Has notebooks show its values as `belljar.html` draws them."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        """Return the value as a notebook shows it."""
        from belljar.html import show

        return show(self)
