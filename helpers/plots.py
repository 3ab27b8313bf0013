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


def over(rows: pd.DataFrame, *, x: str, value: str, by: str = "", labels: tuple[str, str], zero: bool = True) -> Axes:
    """Draw values along an axis with their intervals `low` to `high`, one line per level of `by`.

    A wider band is drawn where the rows have `joint_low` and `joint_high`: it holds for all points at once.
    """
    ax = _axes(8.6, 3.6)
    lines = list(rows.groupby(by, sort=False)) if by else [("", rows)] if len(rows) else []
    for nth, (name, line) in enumerate(lines):
        colour, at = figure.SERIES[nth % len(figure.SERIES)], line[x] + 0.012 * nth * (rows[x].max() - rows[x].min())
        if "joint_low" in line:
            ax.fill_between(at, line["joint_low"], line["joint_high"], color=colour, alpha=0.15, linewidth=0)
        ax.vlines(at, line["low"], line["high"], color=colour, linewidth=2)
        style = ("-", "--", "-.", ":")[nth % 4]
        ax.plot(at, line[value], "o", linestyle=style, color=colour, markersize=4.5, label=str(name) or labels[1])
    if zero:
        ax.axhline(0, color=figure.MUTED, linewidth=1)
    ax.set_xlabel(labels[0])
    ax.set_ylabel(labels[1])
    return _legend(ax) if by or not lines else ax


def heat(table: pd.DataFrame, *, labels: tuple[str, str]) -> Axes:
    """Draw a table of shares as a heat map with each share written in; a missing one stays empty."""
    import seaborn as sns

    ax = _axes(8.6, 1.1 + 0.45 * max(len(table), 2))
    if table.empty:
        return _legend(ax)
    sns.heatmap(table, annot=True, fmt=".0%", cmap="cividis", vmin=0, vmax=1, cbar=False, ax=ax)
    ax.grid(visible=False)
    ax.set_xlabel(labels[0])
    ax.set_ylabel(labels[1])
    ax.tick_params(axis="y", rotation=0)
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
