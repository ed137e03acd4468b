"""Draws the scoreboard: each ratio with its quartiles, as a multiple of its target. It measures nothing.

Colours and grey were chosen to be read on white and on black, since the picture has no background of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from measure import Result

INK = "#808891"
GRID = "#80889155"
MET, MISSED, PLAIN = "#2a9d5c", "#e0702c", "#4a8fd6"
INCHES_PER_ROW = 0.27
FEWEST, MOST = 1 / 30, 300.0


def relative(result: Result) -> tuple[float, float, float]:
    """Quartile, median, quartile: as multiples of the target (up to 1 is good), or as they are where there is none."""
    values = (result.q1, result.median, result.q3)
    if result.target is None:
        return values
    if result.bigger_is_better:
        q1, median, q3 = (result.target / max(value, 1e-9) for value in values)
        return q3, median, q1
    return tuple(value / result.target for value in values)  # type: ignore[return-value]


def clipped(value: float) -> float:
    return min(max(value, FEWEST), MOST)


def colour(result: Result) -> str:
    return PLAIN if result.met is None else MET if result.met else MISSED


def words(result: Result) -> str:
    """The figures themselves, at the right."""
    sign = "" if result.target is None else f"  ({'≥' if result.bigger_is_better else '≤'} {result.target:g})"
    return f"{result.median:.3f}{sign}" if result.median < 10 else f"{result.median:.1f}{sign}"


def draw_rows(axes: Any, results: Sequence[Result]) -> None:
    """A line per row: the quartiles as a bar, the median as a dot (hollow where the target is missed)."""
    for y, result in enumerate(results):
        low, median, high = map(clipped, relative(result))
        axes.plot([low, high], [y, y], color=colour(result), linewidth=3, alpha=0.5, solid_capstyle="butt")
        face = "none" if result.met is False else colour(result)
        axes.plot(median, y, "o", color=colour(result), markerfacecolor=face, markersize=6, markeredgewidth=1.6)
        axes.annotate(words(result), (1.01, y), xycoords=("axes fraction", "data"), va="center", color=INK, fontsize=8)
    axes.set_yticks(range(len(results)), [result.row for result in results])
    axes.set_ylim(len(results) - 0.4, -0.6)


def dress(axes: Any, title: str) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.5), max(high, 2.0))
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_title(title, loc="left", color=INK, fontsize=9)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.tick_params(colors=INK, labelsize=8, length=0, which="both")
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw(path: Path, results: Sequence[Result]) -> None:
    """Write the picture: rows with targets above, comparisons below."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    judged = [result for result in results if result.target is not None]
    compared = [result for result in results if result.target is None]
    parts = [
        (judged, "ratio / target: left of the line is within it, hollow is missed"),
        (compared, "belljar's time / the other's: left of the line is faster"),
    ]
    parts = [(rows, title) for rows, title in parts if rows]
    heights = [len(rows) + 1.5 for rows, _ in parts]
    with plt.rc_context({"svg.hashsalt": "belljar", "svg.fonttype": "path"}):
        figure, all_axes = plt.subplots(
            len(parts),
            figsize=(8, sum(heights) * INCHES_PER_ROW + 0.4),
            height_ratios=heights,
            squeeze=False,
            layout="constrained",
        )
        for axes, (rows, title) in zip(all_axes[:, 0], parts, strict=True):
            axes.patch.set_visible(False)
            draw_rows(axes, rows)
            dress(axes, title)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, transparent=True, metadata={"Date": None})
        plt.close(figure)
