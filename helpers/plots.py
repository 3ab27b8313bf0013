"""Results as pictures: each function draws what it is given on Axes and computes nothing but positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from helpers.quadrant import LABELS
from helpers.report import figure
from helpers.results import Claim, Estimate, NotEstimable, Replay

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from helpers.quadrant import Quadrant


def _axes(width: float, height: float) -> Axes:
    """Open one chart in the look of the reports."""
    import matplotlib.pyplot as plt

    figure.use_theme()
    return plt.subplots(figsize=(width, height))[1]


def forest(claims: Sequence[Claim]) -> Figure:
    """Draw relative effects with their intervals, and the target or margin of each as a tick, two for equivalence.

    A thin line is the interval that holds for all metrics of a family at once. What reaches three times as far as the
    metric in the middle stands below, on a scale of its own: it would squeeze the others to dots.

    Where a success metric has no target, its tick is the gain that the launch wants to detect.
    Metrics without a relative effect, or not estimable at all, are left to the scorecard; `left_out` names them.
    """
    import matplotlib.pyplot as plt

    figure.use_theme()
    reach = {i: _reach(c) for i, c in enumerate(claims) if not _undrawn(c)}
    limit = 3 * sorted(reach.values())[len(reach) // 2] if reach else 0.0
    near, far = ([claims[i] for i, at in reach.items() if (at > limit) == wide] for wide in (False, True))
    panels = [rows[::-1] for rows in (near, far) if rows] or [[]]
    heights = [1 + len(rows) for rows in panels]
    drawn, axes = plt.subplots(
        len(panels),
        height_ratios=heights,
        figsize=(8.6, 0.6 + 0.46 * sum(heights)),
        squeeze=False,
        layout="constrained",
    )
    for ax, rows in zip(axes[:, 0], panels, strict=True):
        _forest(ax, rows)
    axes[-1, 0].set_xlabel("Change against control, % (tick: target, gain to detect, or margin)")
    return drawn


def left_out(claims: Sequence[Claim]) -> str:
    """Say which metrics `forest` leaves out, and why; nothing where it draws all of them."""
    reasons: dict[str, list[str]] = {}
    for claim in claims:
        if reason := _undrawn(claim):
            reasons.setdefault(reason, []).append(claim.title)
    told = [f"{', '.join(titles)} ({why})" for why, titles in reasons.items()]
    return f"Not drawn: {'; '.join(told)}." if told else ""


def _undrawn(claim: Claim) -> str:
    """Say why a claim has no place on a relative scale; nothing where it has."""
    e = claim.estimate
    if isinstance(e, NotEstimable):
        return e.reason
    return "" if e.rel_low is not None else e.note or "no relative change"


def _reach(claim: Claim) -> float:
    """Say how far from no change a claim's interval or bound lies, relative."""
    e = claim.estimate
    if not isinstance(e, Estimate):
        return 0.0
    asked = (claim.bound or claim.worth or 0) / (e.control or 1)
    ends = (e.rel_low, e.rel_high, e.rel_low_adjusted, e.rel_high_adjusted, asked)
    return max(abs(end) for end in ends if end is not None)


def _forest(ax: Axes, rows: Sequence[Claim]) -> None:
    """Draw one panel, the first claim at its bottom."""
    colours = dict.fromkeys(("met", "better", "passed"), figure.GOOD) | dict.fromkeys(("worse", "breached"), figure.BAD)
    for y, claim in enumerate(rows):
        e, colour = claim.estimate, colours.get(claim.status, figure.NEUTRAL)
        if not isinstance(e, Estimate) or e.rel is None or e.rel_low is None or e.rel_high is None:
            continue
        if e.rel_low_adjusted is not None and e.rel_high_adjusted is not None:
            ax.plot([100 * e.rel_low_adjusted, 100 * e.rel_high_adjusted], [y, y], color=colour, linewidth=1)
        ax.plot([100 * e.rel_low, 100 * e.rel_high], [y, y], color=colour, linewidth=3, solid_capstyle="round")
        ax.plot(100 * e.rel, y, "o", color=colour, markersize=7)
        if (bound := claim.worth if claim.bound is None else claim.bound) is not None and e.control:
            at = [100 * b / e.control for b in ((bound, -bound) if claim.aim == "equivalence" else (bound,))]
            ax.plot(at, [y] * len(at), "|", color=figure.INK, markersize=16, markeredgewidth=2)
    ax.axvline(0, color=figure.MUTED, linewidth=1)
    ax.set_yticks(range(len(rows)), [c.title for c in rows])
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.grid(visible=False, axis="y")


def survival(curves: pd.DataFrame, *, labels: tuple[str, str]) -> Axes:
    """Draw survival curves as steps with their pointwise intervals, an arm each, and below them who is still at risk.

    Args:
        curves: arm, time, survival, low, high, at_risk, as `helpers.survival.curves` gives them.
        labels: of time, and of the share that survives. The second axis begins where the curves do, rarely at 0.
    """
    from matplotlib.ticker import PercentFormatter

    ax = _axes(8.6, 3.9)
    arms = list(curves.groupby("arm", sort=False))
    for colour, style, (arm, rows) in zip(figure.SERIES, ("-", "--", "-.", ":"), arms, strict=False):
        ax.fill_between(rows["time"], rows["low"], rows["high"], step="post", color=colour, alpha=0.2, linewidth=0)
        ax.step(rows["time"], rows["survival"], where="post", color=colour, linestyle=style, label=arm)
    for nth, (colour, (arm, rows)) in enumerate(zip(figure.SERIES, arms, strict=False)):
        name: dict[str, Any] = {"transform": ax.transAxes, "ha": "right", "fontsize": 9, "color": colour}
        ax.text(-0.02, -0.24 - 0.08 * nth, str(arm), **name)
        near = {(rows["time"] - tick).abs().idxmin() for tick in ax.get_xticks() if 0 <= tick <= rows["time"].max()}
        for time, n in rows.loc[sorted(near), ["time", "at_risk"]].to_numpy():
            place = (time, -0.24 - 0.08 * nth)
            ax.text(*place, f"{n:,.0f}", transform=ax.get_xaxis_transform(), ha="center", fontsize=9, color=colour)
    if arms:
        ax.text(0, -0.17, "still at risk:", transform=ax.transAxes, fontsize=9, color=figure.MUTED)
        ax.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    ax.set_xlabel(labels[0], loc="right")
    ax.set_ylabel(labels[1])
    return _legend(ax, loc="lower left")


def over(rows: pd.DataFrame, *, x: str, value: str, by: str = "", labels: tuple[str, str], zero: bool = True) -> Axes:
    """Draw values along an axis with their intervals `low` to `high`, one line per level of `by`.

    A wider band is drawn where the rows have `joint_low` and `joint_high`: it holds for all points at once.
    """
    ax = _axes(8.6, 3.6)
    lines = list(rows.groupby(by, sort=False)) if by else [("", rows)] if len(rows) else []
    gaps = rows[x].drop_duplicates().sort_values().diff().dropna()
    step = gaps.min() if len(gaps) else 0  # lines stand a little apart
    for nth, (name, line) in enumerate(lines):
        colour, at = figure.SERIES[nth % len(figure.SERIES)], line[x] + 0.1 * nth * step
        if "joint_low" in line:
            ax.fill_between(at, line["joint_low"], line["joint_high"], color=colour, alpha=0.15, linewidth=0)
        ax.vlines(at, line["low"], line["high"], color=colour, linewidth=2)
        style = ("-", "--", "-.", ":")[nth % 4]
        ax.plot(at, line[value], "o", linestyle=style, color=colour, markersize=4.5, label=str(name) or labels[1])
    if zero:
        ax.axhline(0, color=figure.MUTED, linewidth=1)
    ax.set(xlabel=labels[0], ylabel=labels[1])
    return _legend(ax) if by or not lines else ax


def heat(table: pd.DataFrame, *, labels: tuple[str, str]) -> Axes:
    """Draw a table of shares as a heat map with each share written in; a missing one stays empty."""
    import seaborn as sns
    from matplotlib import colormaps

    ax = _axes(8.6, 1.1 + 0.45 * max(len(table), 2))
    if table.empty:
        return _legend(ax)
    sns.heatmap(table, annot=True, fmt=".0%", cmap="cividis", vmin=0, vmax=1, cbar=False, ax=ax)
    for text in ax.texts:
        x, y = (int(at) for at in text.get_position())
        text.set_color(figure.legible_on(colormaps["cividis"](table.to_numpy(dtype=float)[y, x])))
    ax.grid(visible=False)
    ax.set(xlabel=labels[0], ylabel=labels[1])
    ax.tick_params(axis="y", rotation=0)
    return ax


def slices(rows: pd.DataFrame, *, label: str) -> Axes:
    """Draw the effect in each level of one attribute or several: as it came out (thin), drawn together (thick)."""
    known = rows.dropna(subset=["effect"])[::-1] if len(rows) else rows
    ax, place = _axes(8.6, 1.0 + 0.5 * max(len(known), 2)), range(len(known))
    ax.hlines(place, known["low"], known["high"], color=figure.MUTED, linewidth=1.2)
    if known.empty:
        return _legend(ax)
    ax.plot(known["effect"], place, "o", color=figure.MUTED, markersize=5, label="as it came out")
    below = [y - 0.22 for y in place]
    ax.hlines(below, known["shrunken low"], known["shrunken high"], color=figure.SERIES[0], linewidth=3)
    if known["shrunken"].notna().any():
        ax.plot(known["shrunken"], below, "o", color=figure.SERIES[0], markersize=7, label="drawn together")
    ax.axvline(0, color=figure.MUTED, linewidth=1)
    several = len(set(known["attribute"])) > 1
    names = known["attribute"] + ": " + known["level"] if several else known["level"]
    ax.set_yticks(range(len(known)), list(names))
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(label)
    return _legend(ax, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)


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
    ax.set(xlabel=label, ylabel="Accounts at or below, %")
    ax.set_ylim(0, 101)
    return _legend(ax, loc="lower right")


def trade(
    curve: pd.DataFrame,
    *,
    labels: tuple[str, str],
    marks: Mapping[str, float] | None = None,
    percent: bool = True,
    log: bool = False,
) -> Axes:
    """Draw what one quantity buys of another: the last column against the first, with levels to reach as dashed lines.

    Args:
        curve: the points, in order; without rows the chart says that there is nothing.
        labels: of the two axes.
        marks: levels on the vertical axis, by name.
        percent: whether the vertical axis holds shares.
        log: whether both axes are logarithmic.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter

    ax = _axes(8.6, 3.4)
    x, y = curve.columns[0], curve.columns[-1]
    curve = curve.dropna(subset=[y])  # relative to a control that is not above 0
    if len(curve):
        ax.plot(curve[x], curve[y], marker="o", markersize=4, label=labels[1].lower())
        for colour, (name, level) in zip(figure.SERIES[1:], (marks or {}).items(), strict=False):
            ax.axhline(level, color=colour, linestyle="--", linewidth=1.4, label=name)
        if log:
            ax.set(xscale="log", yscale="log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_minor_formatter(NullFormatter())
            ax.xaxis.set_major_formatter("{x:,.0f}")
        else:
            ax.set_ylim(bottom=0)
        if percent:
            ax.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    ax.set(xlabel=labels[0], ylabel=labels[1])
    return _legend(ax, loc="best")


def quadrant(read: Quadrant | NotEstimable) -> Axes:
    """Draw where a launch lies between engagement and satisfaction, with its joint interval as a rectangle."""
    from matplotlib.patches import Rectangle

    ax = _axes(6.4, 4.6)
    if isinstance(read, NotEstimable):
        return _legend(ax)
    reach = [1.4 * max(abs(end) for end in side) or 1.0 for side in (read.x, read.y)]
    ax.set_xlim(-reach[0], reach[0])
    ax.set_ylim(-reach[1], reach[1])
    for (up, liked), label in LABELS.items():
        place = (0.98 if up else 0.02, 0.97 if liked else 0.03)
        ax.text(
            *place,
            label,
            transform=ax.transAxes,
            ha="right" if up else "left",
            va="top" if liked else "bottom",
            color=figure.INK if label == read.label else figure.MUTED,
            weight="bold" if label == read.label else "normal",
        )
    colour = {"healthy growth": figure.GOOD, "cannot tell": figure.NEUTRAL, "fewer but better": figure.WARN}.get(
        read.label, figure.BAD
    )
    corner, size = (read.x[0], read.y[0]), (read.x[2] - read.x[0], read.y[2] - read.y[0])
    ax.add_patch(Rectangle(corner, *size, color=colour, alpha=0.25, linewidth=0))
    ax.plot(read.x[1], read.y[1], "o", color=colour, markersize=8)
    ax.axhline(0, color=figure.MUTED, linewidth=1)
    ax.axvline(0, color=figure.MUTED, linewidth=1)
    words = [f"{title}, {'%' if rel else 'own unit'}" for title, rel in zip(read.titles, read.relative, strict=True)]
    ax.set_xlabel(f"Better →   {words[0]}")
    ax.set_ylabel(f"Better →   {words[1]}")
    return ax


def validity(found: pd.DataFrame) -> Axes:
    """Draw each metric by how often it moves (across) and how well it agrees with the long term (up)."""
    ax = _axes(8.6, 4.8)
    rows = found.dropna(subset=["validity"])
    for i, (_, row) in enumerate(rows.iterrows(), start=1):
        colour = figure.SERIES[(i - 1) % len(figure.SERIES)]
        ax.plot([100 * row["moved"]] * 2, [row["low"], row["high"]], color=colour, linewidth=2)
        ax.plot(100 * row["moved"], row["validity"], "o", color=colour, markersize=8, label=f"{i} {row['metric']}")
        ax.annotate(
            str(i),
            (100 * row["moved"], row["validity"]),
            xytext=((7, 5), (-14, 5), (7, -13))[i % 3],
            textcoords="offset points",
            weight="bold",
        )
    ax.axhline(0, color=figure.MUTED, linewidth=1)
    ax.set_xlim(0, 100)
    ax.set_ylim(-0.7, 1.08)
    ax.set(xlabel="Sensitivity: past launches in which it moved, %", ylabel="Validity: agreement with twelve weeks")
    return _legend(ax, loc="lower right", fontsize=9)


def leaving(found: pd.DataFrame) -> Axes:
    """Draw who left by how much they watch, and the line that added hours follow."""
    ax = _axes(8.6, 3.4)
    for colour, style, (name, rows) in zip(
        figure.SERIES, ("o-", "--"), found.groupby("read_from", sort=False), strict=False
    ):
        ax.plot(rows["hours"], rows["left"], style, color=colour, label=name)
    ax.set_ylim(0, None)
    ax.set_xlabel("Hours watched a week")
    ax.set_ylabel("Left within twelve weeks, %")
    return _legend(ax, loc="upper right")


def totals(found: pd.DataFrame, *, label: str) -> Axes:
    """Draw running totals by day, a line for each arm."""
    ax = _axes(8.6, 3.2)
    styles = ("-", "--", "-.", ":")
    for colour, style, (arm, rows) in zip(figure.SERIES, styles, found.groupby("arm"), strict=False):
        ax.plot(rows["day"], rows["total"], color=colour, linestyle=style, label=arm)
    ax.set_xlabel("Day of the launch")
    ax.set_ylabel(label)
    return _legend(ax, loc="upper left")


def alarms(shares: pd.DataFrame, *, label: str = "Days since assignment") -> Axes:
    """Draw, for each rule (a column), the share of launches that do nothing that it has stopped up to each look."""
    ax = _axes(8.6, 3.6)
    for colour, style, rule in zip(figure.SERIES, ("-", "--", "-.", ":"), shares.columns, strict=False):
        ax.plot(shares.index, 100 * shares[rule], color=colour, linestyle=style, label=rule)
    ax.axhline(5, color=figure.MUTED, linewidth=1, linestyle=":")
    ax.set_xlabel(label)
    ax.set_ylabel("Stopped so far, % (dotted: 5 %)")
    ax.set_ylim(bottom=0)
    return _legend(ax)


def sequence(limits: pd.DataFrame, *, label: str) -> Axes:
    """Draw a difference so far with two pairs of limits: for one look only, and for all looks together.

    Args:
        limits: indexed by day: diff, and for each of the two kinds low and high: `once_low`, `always_low`, ...
        label: what the difference is, with its unit.
    """
    ax = _axes(8.6, 3.6)
    kinds = (("always", 0.18, "holds at every look"), ("once", 0.32, "holds at one look"))
    for kind, alpha, name in kinds if len(limits) else ():
        look: dict[str, Any] = {"color": figure.SERIES[0], "alpha": alpha, "linewidth": 0, "label": name}
        ax.fill_between(limits.index, limits[f"{kind}_low"], limits[f"{kind}_high"], **look)
    ax.plot(limits.index, limits["diff"], color=figure.SERIES[0])
    ax.axhline(0, color=figure.MUTED, linewidth=1)
    ax.set_xlabel("Days since assignment")
    ax.set_ylabel(label)
    return _legend(ax, loc="lower right")


def tree(branches: pd.DataFrame) -> Axes:
    """Draw a whole and the factors whose product it is: values in both arms, and each change with its interval.

    `branches` has the whole in its first row; columns branch, control, treatment, change, low, high (relative).
    """
    ax = _axes(8.6, 3.4)
    ax.set_axis_off()
    ax.set(xlim=(0, 1), ylim=(0, 1))
    if branches.empty:
        return _legend(ax)
    places = [(0.22, 0.5), *((0.76, y) for y in (0.84, 0.5, 0.16))]
    for (x, y), row in zip(places, branches.to_dict("records"), strict=True):
        colour = figure.INK if row["low"] <= 0 <= row["high"] else figure.GOOD if row["change"] > 0 else figure.BAD
        words = (
            f"{row['branch']}\n{row['control']:#.3g} → {row['treatment']:#.3g}\n"
            f"{row['change']:+.1%} ({row['low']:+.1%} to {row['high']:+.1%})"
        )
        if x > 0.5:
            ax.plot([0.22, 0.76], [0.5, y], color=figure.MUTED, linewidth=1, zorder=0)
        box = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": colour}
        ax.text(x, y, words.replace("-", "−"), ha="center", va="center", fontsize=9, color=figure.INK, bbox=box)
    for y in (0.67, 0.33):
        ax.text(0.76, y, "×", ha="center", va="center", color=figure.MUTED)
    return ax


def _legend(ax: Axes, **where: Any) -> Axes:
    """Name what is drawn, above the axes where no place is given; say so where there was nothing to draw."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(**(where or {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 3}))
    else:
        ax.text(0.5, 0.5, figure.NOTHING, ha="center", transform=ax.transAxes)
    return ax


def quantile_differences(curve: pd.DataFrame, *, label: str) -> Axes:
    """Draw the difference between two distributions along their quantiles, with limits and the band for all at once.

    The scale is that of the differences up to the 98th percentile: beyond it they would flatten all others.
    """
    ax = _axes(8.6, 3.6)
    x = 100 * curve["share"]
    if len(curve):
        colour = figure.SERIES[0]
        for low, high, alpha, what in (
            ("band_low", "band_high", 0.15, "all at once"),
            ("low", "high", 0.3, "each alone"),
        ):
            ax.fill_between(
                x, curve[low], curve[high], color=colour, alpha=alpha, linewidth=0, label=f"interval for {what}"
            )
        ax.plot(x, curve["diff"], color=colour, label="difference")
        near = curve.loc[curve["share"] <= 0.98, ["band_low", "band_high"]]
        if near.to_numpy().any():
            ax.set_ylim(1.1 * min(near.min().min(), 0), 1.1 * max(near.max().max(), 0))
    ax.axhline(0, color=figure.MUTED, linewidth=1)
    ax.set_xlabel("Accounts at or below, % (the scale is that of the lower 98 %)")
    ax.set_ylabel(label)
    return _legend(ax)


def leave_out(curves: pd.DataFrame, *, label: str) -> Axes:
    """Draw what is left of a difference without the heaviest accounts, a line for each story if there are several."""
    ax = _axes(8.6, 3.6)
    styles = ("-", "--", "-.", ":")
    stories = curves.groupby("story", sort=False) if "story" in curves else [("", curves)] * bool(len(curves))
    for colour, style, (story, rows) in zip(figure.SERIES, styles, stories, strict=False):
        x = 100 * rows["left_out"]
        ax.fill_between(x, rows["low"], rows["high"], color=colour, alpha=0.2, linewidth=0)
        ax.plot(x, rows["diff"], color=colour, linestyle=style, marker="o", markersize=4, label=story or "difference")
    ax.axhline(0, color=figure.MUTED, linewidth=1)
    ax.set_xlabel("Heaviest accounts of each arm left out, %")
    ax.set_ylabel(label)
    return _legend(ax, loc="upper right")


def funnel(rows: pd.DataFrame) -> Axes:
    """Draw the share of all accounts that took each step of the way through a title."""
    known = rows.dropna(subset=["of all accounts"])
    if known.empty:
        return _legend(_axes(8.6, 1.0))
    ax = _axes(8.6, 1.0 + 0.42 * max(len(known), 1))
    y = list(range(len(known)))[::-1]
    ax.barh(y, 100 * known["of all accounts"].astype(float), color=figure.SERIES[0], height=0.6)
    for place, share in zip(y, known["of all accounts"], strict=True):
        ax.annotate(f"{share:.1%}", (100 * share, place), xytext=(5, 0), textcoords="offset points", va="center")
    ax.set_yticks(y, known["step"])
    ax.set_xlim(0, 105)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("Of all accounts that were given access, %")
    return ax


def chance(luck: Replay | NotEstimable, *, label: str) -> Axes:
    """Draw how large a difference chance alone makes, and the one that was observed."""
    ax = _axes(8.6, 3.2)
    if isinstance(luck, NotEstimable):
        return _legend(ax)
    ax.hist(luck.drawn, bins=40, color=figure.SERIES[0], alpha=0.55, label="launches that do nothing")
    ax.axvline(luck.observed, color=figure.INK, linewidth=2, label="this launch")
    ax.set_xlabel(label)
    ax.set_ylabel("Of the redrawn launches")
    return _legend(ax, loc="upper left")


def designs(table: pd.DataFrame, *, audience: str) -> Axes:
    """Draw designs side by side: whom they find of an audience, and half the width of the two intervals."""
    import matplotlib.pyplot as plt

    figure.use_theme()
    drawing, (found, width) = plt.subplots(1, 2, figsize=(8.6, 1.4 + 0.4 * len(table)), sharey=True)
    rows = table[::-1].reset_index(drop=True)
    found.barh(rows.index, rows["audience"].astype(float), color=figure.SERIES[0], height=0.55)
    found.set_xlabel(f"Accounts of {audience} in the sample")
    found.set_yticks(list(rows.index), list(rows["design"]))
    parts = (("audience_width", "the audience", "s"), ("population_width", "everybody", "o"))
    for colour, (column, label, mark) in zip(figure.SERIES, parts, strict=False):
        width.plot(rows[column].astype(float), rows.index, mark, color=colour, markersize=8, label=label)
    width.set_xlim(left=0)
    width.set_xlabel("Half the interval, hours a week")
    for ax in (found, width):
        ax.grid(visible=False, axis="y")
    drawing.tight_layout()
    return _legend(width, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
