"""Results as pictures: each function draws what it is given on Axes and computes nothing but positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from helpers.report import figure
from helpers.results import Claim, Estimate

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def _axes(width: float, height: float) -> Axes:
    """Open one chart in the look of the reports."""
    import matplotlib.pyplot as plt

    figure.use_theme()
    return plt.subplots(figsize=(width, height))[1]


def forest(claims: Sequence[Claim]) -> Axes:
    """Draw relative effects with their intervals, and the target or margin of each as a tick.

    Metrics without a relative effect, or not estimable at all, are left to the scorecard.
    """
    rows = [c for c in claims if isinstance(c.estimate, Estimate) and c.estimate.rel_low is not None][::-1]
    ax = _axes(8.6, 0.9 + 0.42 * len(rows))
    colours = {
        "met": figure.GOOD,
        "better": figure.GOOD,
        "passed": figure.GOOD,
        "worse": figure.BAD,
        "breached": figure.BAD,
    }
    for y, claim in enumerate(rows):
        e, colour = claim.estimate, colours.get(claim.status, figure.NEUTRAL)
        if not isinstance(e, Estimate) or e.rel is None or e.rel_low is None or e.rel_high is None:
            continue
        ax.plot([100 * e.rel_low, 100 * e.rel_high], [y, y], color=colour, linewidth=3, solid_capstyle="round")
        ax.plot(100 * e.rel, y, "o", color=colour, markersize=7)
        if claim.bound is not None and e.control:
            ax.plot(100 * claim.bound / e.control, y, "|", color=figure.INK, markersize=16, markeredgewidth=2)
    ax.axvline(0, color=figure.MUTED, linewidth=1)
    ax.set_yticks(range(len(rows)), [c.title for c in rows])
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("Change against control, % (tick: target or margin)")
    return ax


def love(balance: pd.DataFrame, *, limit: float) -> Axes:
    """Draw standardised differences between each arm and the population, with the limit of what is called balanced."""
    labels = (balance["attribute"] + ": " + balance["level"]).where(balance["level"] != "mean", balance["attribute"])
    order = list(dict.fromkeys(labels))[::-1]
    ax = _axes(8.6, 1.0 + 0.24 * len(order))
    for colour, (arm, rows) in zip(figure.SERIES, balance.groupby("arm"), strict=False):
        y = [order.index(label) for label in labels[rows.index]]
        ax.plot(rows["std_diff"], y, "o", color=colour, markersize=6, label=arm)
    for edge in (-limit, limit):
        ax.axvline(edge, color=figure.MUTED, linewidth=1, linestyle="--")
    ax.axvline(0, color=figure.MUTED, linewidth=1)
    ax.set_yticks(range(len(order)), order)
    ax.set_ylim(-0.6, len(order) - 0.4)
    ax.set_xlabel("Standardised difference from the population (dashed: the limit of balance)")
    return _legend(ax, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)


def quantiles(curves: pd.DataFrame, *, label: str) -> Axes:
    """Draw each arm's distribution: the value below which a share of its accounts lies."""
    ax = _axes(8.6, 3.6)
    styles = ("-", "--", "-.", ":")
    for colour, style, (arm, rows) in zip(figure.SERIES, styles, curves.groupby("arm"), strict=False):
        ax.plot(rows["value"], 100 * rows["share"], color=colour, linestyle=style, label=arm)
    ax.set_xlabel(label)
    ax.set_ylabel("Accounts at or below, %")
    ax.set_ylim(0, 101)
    return _legend(ax, loc="lower right")


def _legend(ax: Axes, **where: Any) -> Axes:
    """Name what is drawn; say so where there was nothing to draw."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(**where)
    else:
        ax.text(0.5, 0.5, "Nothing to draw: these data do not hold it", ha="center", transform=ax.transAxes)
    return ax


def quantile_differences(curve: pd.DataFrame, *, label: str) -> Axes:
    """Draw the difference between two distributions along their quantiles, with limits and the band for all at once."""
    ax = _axes(8.6, 3.6)
    x = 100 * curve["share"]
    if len(curve):
        colour = figure.SERIES[0]
        for low, high, alpha, what in (
            ("band_low", "band_high", 0.15, "all at once"),
            ("low", "high", 0.3, "each alone"),
        ):
            ax.fill_between(x, curve[low], curve[high], color=colour, alpha=alpha, linewidth=0, label=f"95 %, {what}")
        ax.plot(x, curve["diff"], color=colour, label="difference")
    ax.axhline(0, color=figure.MUTED, linewidth=1)
    ax.set_xlabel("Accounts at or below, %")
    ax.set_ylabel(label)
    return _legend(ax, loc="upper left")


def leave_out(curves: pd.DataFrame, *, label: str) -> Axes:
    """Draw what is left of a difference without the heaviest accounts, a line for each story if there are several."""
    ax = _axes(8.6, 3.6)
    styles = ("-", "--", "-.", ":")
    stories = curves.groupby("story", sort=False) if "story" in curves else [("", curves)]
    for colour, style, (story, rows) in zip(figure.SERIES, styles, stories, strict=False):
        x = 100 * rows["left_out"]
        ax.fill_between(x, rows["low"], rows["high"], color=colour, alpha=0.2, linewidth=0)
        ax.plot(x, rows["diff"], color=colour, linestyle=style, marker="o", markersize=4, label=story or "difference")
    ax.axhline(0, color=figure.MUTED, linewidth=1)
    ax.set_xlabel("Heaviest accounts left out, % of both arms together")
    ax.set_ylabel(label)
    return _legend(ax, loc="upper right")
