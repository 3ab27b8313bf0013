"""A portrait of the simulated service: its figures beside those that are published, and three pictures, as one page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.errors import ParameterError
from helpers.report import figure, index, table, theme
from helpers.simulate import Simulation, anchors, observed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MIN_ACCOUNTS = 20_000  # below, groups of accounts are too small to tell the error of a rare event
_TITLE = "Is the simulated service like a real one?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What stands under one heading of the page."""

    heading: str
    text: str
    chart: figure.Shown | None = None
    table: table.Table | None = None


def write(path: Path, *, accounts: int = 100_000, seed: int = 20261121) -> pd.DataFrame:
    """Simulate accounts without a launch and with one, and write their portrait as an HTML page.

    Args:
        path: of the page; its folder is made, an older page replaced.
        accounts: at least 20,000. More of them make the comparison sharper, not the service more real.
        seed: of the simulation.

    Returns:
        Every anchor with what was realised, as `anchors.realised` gives them. An anchor that holds says that the
        simulation agrees with what somebody published, not that any service is like that.

    Raises:
        ParameterError: too few accounts.
    """
    if accounts < MIN_ACCOUNTS:
        raise ParameterError(f"accounts is {accounts:,}, must be at least {MIN_ACCOUNTS:,} for a portrait")
    simulation = Simulation(accounts=accounts, seed=seed)
    lived = observed.live(simulation)
    found = anchors.realised(lived)
    sections = [_hours(lived), _calendar(simulation), _survival(lived), _anchors(found), _left_out()]
    run = f"{accounts:,} simulated accounts, seed {seed}"
    path.parent.mkdir(parents=True, exist_ok=True)
    index.write_whole(
        path, theme.render("portrait.html.j2", script="page.js", title=_TITLE, run=run, sections=sections)
    )
    return found


def _anchors(found: pd.DataFrame) -> Section:
    missed = found.loc[~found["holds"], "anchor"]
    verdict = f"{len(missed)} do not: {'; '.join(missed)}." if len(missed) else "All of them hold."
    written = {
        column: [_like(stated, value, more) for stated, value in zip(found["stated"], found[column], strict=True)]
        for column, more in {"low": 0, "high": 0, "realised": 0, "error": 1}.items()
    }
    shown = found.assign(
        **written,
        allowed=[f"{low} to {high}" for low, high in zip(written["low"], written["high"], strict=True)],
        source=(found["basis"] + ": " + found["source"]).str.removesuffix(": "),
    )
    return Section(
        heading=f"{len(found)} figures, stated and realised",
        text="Published figures come with their source; the others are assumptions that were tuned to these, or for "
        "which nothing was published. A figure holds if it lies within what the statement allows (its rounding, or the "
        f"range of what is published) and four standard errors of this simulation. {verdict}",
        table=table.show(shown, ["about", "anchor", "stated", "allowed", "realised", "error", "holds", "source"]),
    )


def _left_out() -> Section:
    return Section(
        heading="Published, and not in the model",
        text="These figures describe services like this one, and nothing here can be held against them.",
        table=table.show(pd.DataFrame(anchors.LEFT_OUT, columns=["figure", "source", "why not"])),
    )


def _like(stated: str, value: float, more: int = 0) -> str:
    """Write a value in the unit of a statement, with one decimal more than it has.

    >>> _like("18 %", 0.18123)
    '18.1 %'
    """
    scale, unit = (100, " %") if "%" in stated else (1, "")
    number = stated.split()[0]
    decimals = len(number.partition(".")[2]) + 1 + more if number[-1].isdigit() else 2
    return f"{scale * value:.{decimals}f}{unit}"


def _axes() -> Axes:
    import matplotlib.pyplot as plt

    figure.use_theme()
    return plt.subplots(figsize=(8.6, 3.6))[1]


def _hours(lived: observed.Lived) -> Section:
    weekly = lived.month / 4
    edges = np.arange(0, 61, 2.0)
    share = np.histogram(np.minimum(weekly, edges[-1] - 1), edges)[0] / len(weekly)
    ax = _axes()
    ax.bar(
        edges[:-1], 100 * share, width=2, align="edge", color=figure.SERIES[0], edgecolor=figure.PAPER, linewidth=0.6
    )
    for value, name, side in ((np.median(weekly), "median", "right"), (weekly.mean(), "mean", "left")):
        ax.axvline(value, color=figure.INK, linewidth=1)
        ax.text(value, 1.02, f" {name} ", ha=side, transform=ax.get_xaxis_transform(), color=figure.INK)
    ax.set_xlabel("Hours per week over four weeks (the last bar: 58 and more)")
    ax.set_ylabel("Accounts, %")
    top = anchors.top(0.2, lived)
    return Section(
        heading="Hours are skewed, and a few accounts hold many of them",
        text="The mean lies right of the median, pulled there by those who watch most. An experiment on hours fights "
        "with this spread before anything else.",
        chart=figure.show(
            ax,
            caption=f"The median account watches {np.median(weekly):.1f} h a week, the mean is {weekly.mean():.1f} h; "
            f"the heaviest fifth holds {top:.0%} of all hours.",
            alt="A histogram of weekly hours that rises steeply, peaks at a few hours and falls off to the far right.",
            data=pd.DataFrame({"hours from": edges[:-1], "accounts_share": share}),
        ),
    )


def _calendar(simulation: Simulation) -> Section:
    smaller = replace(simulation, accounts=min(simulation.accounts, 20_000))
    season = observed.holidays(smaller)
    days = pd.DataFrame({"usual": observed.daily(smaller), "season": observed.daily(season)})
    weeks = days.groupby(days.index // 7).sum()
    ax = _axes()
    for colour, style, (name, label) in zip(
        figure.SERIES, ("-", "--"), (("usual", "usual calendar"), ("season", "holiday season")), strict=False
    ):
        ax.plot(days.index, 7 * days[name], color=colour, linestyle=style, linewidth=1, alpha=0.6)
        ax.plot(7 * weeks.index + 3, weeks[name], "o", color=colour, linestyle=style, label=label)
    for (name, first, length, _), side in zip(season.events[1:], ("right", "left", "left"), strict=True):
        ax.axvspan(first - 0.5, first + length - 0.5, color=figure.GRID, zorder=0)
        ax.text(first - 0.5, 1.01, name, ha=side, transform=ax.get_xaxis_transform(), color=figure.MUTED, fontsize=9)
    ax.axvline(-0.5, color=figure.INK, linewidth=1)
    ax.set_ylim(0)
    ax.set_xlabel("Days from the launch")
    ax.set_ylabel("Hours per account and week")
    ax.legend(loc="lower left", ncols=2)
    lift = weeks.loc[0:, "season"] / weeks.loc[0:, "usual"] - 1
    return Section(
        heading="Weeks have their weekends, and a season its holidays",
        text="Dots are weeks, thin lines days as if each were a week. From the launch on (the line) the second curve "
        "lives through a holiday season with a sports final and an outage. A launch that is compared with the weeks "
        "before it would take all that for its effect.",
        chart=figure.show(
            ax,
            caption=f"The season lifts weekly hours by {lift.min():.0%} to {lift.max():.0%} without anything launched.",
            alt="Two lines of weekly hours over eight weeks with a weekly rhythm; they agree for four weeks, then the "
            "second is higher, most in the week of the holidays.",
            data=weeks.rename_axis("week from the launch").reset_index(),
        ),
    )


def _survival(lived: observed.Lived) -> Section:
    left = observed.survival(lived)
    ax = _axes()
    for colour, (name, share) in zip(figure.SERIES, left.items(), strict=False):
        ax.plot(left.index, 100 * share, "-", color=colour, label=name)
        ax.text(left.index[-1] + 0.1, 100 * share.iloc[-1], str(name), color=colour, va="center")
    published = [1.0, *anchors.FIRST_KILL]
    ax.plot(left.index, [100 * share for share in published], "o", color=figure.INK, label="First Kill, published")
    ax.set_xlabel("Episode")
    ax.set_ylabel("Starters who come to it, %")
    ax.set_ylim(0, 102)
    ax.set_xlim(0.8, left.index[-1] + 0.9)
    ax.legend(loc="lower left", ncols=2)
    return Section(
        heading="Of those who leave a show, most leave after its first episode",
        text="Whoever is left later on liked it from the start, so the curves flatten: not because the show gets "
        "better, but because those who would leave have left. The points are a published curve, which the weak show "
        "was made to follow.",
        chart=figure.show(
            ax,
            caption=f"Of those who start, {left['poor'].iloc[-1]:.0%} finish a poor show and "
            f"{left['hit'].iloc[-1]:.0%} a hit.",
            alt="Five falling curves over eight episodes, from the hit at the top to the poor show; points of a "
            "published show lie on the second lowest.",
            data=left.assign(first_kill=published).reset_index(),
        ),
    )
