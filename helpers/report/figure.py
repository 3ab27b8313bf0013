"""Charts as inline SVG: one drawing that follows light, dark and print, with its conclusion and its data in words."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from helpers.errors import ParameterError
from helpers.report import table, theme

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Real colours: a chart looks right wherever it is drawn; `show` replaces each with its variable, exactly.
INK, MUTED, GRID, PAPER = (theme.colours()[name] for name in ("ink", "muted", "line", "paper"))
GOOD, BAD, WARN, NEUTRAL = (theme.colours()[name] for name in ("good", "bad", "warn", "plain"))
SERIES = tuple(theme.colours()[f"s{i}"] for i in range(1, 7))
MANY_POINTS = 2_000
ROWS_SHOWN = 200
NOTHING = "Nothing to draw"  # what a chart says that has nothing to draw


def use_theme() -> None:
    """Set matplotlib's defaults to the look of the reports, for the rest of the session."""
    import matplotlib as mpl
    from cycler import cycler

    mpl.rcParams.update(
        {
            "figure.figsize": (8.6, 3.6),
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "svg.fonttype": "none",
            "font.family": "sans-serif",
            "font.size": 10.5,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": MUTED,
            "axes.titlelocation": "left",
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": cycler(color=SERIES),
            "grid.color": GRID,
            "grid.linewidth": 0.8,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
        }
    )


def legible_on(rgb: Sequence[float]) -> str:
    """Choose dark or light writing for a colour (red, green, blue from 0 to 1): a contrast of 4.5 at least.

    Contrast and relative luminance are those of WCAG 2.2. Neither belongs to the theme: a cell that keeps its colour in
    the dark needs writing that does so too.

    >>> legible_on((1, 1, 0)), legible_on((0, 0, 0.5))
    ('#010101', '#fefefe')
    """
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb[:3]]
    luminance = sum(weight * v for weight, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "#010101" if luminance > 0.179 else "#fefefe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A chart as it stands on a page."""

    svg: str
    caption: str
    alt: str
    table: str = ""
    note: str = ""

    def _repr_html_(self) -> str:
        return theme.environment().get_template("figure.html.j2").render(chart=self)

    def __repr__(self) -> str:
        return f"Chart: {self.caption} ({self.alt})" if self.svg else f"{NOTHING}: {self.note}."


def show(chart: Figure | Axes, *, caption: str, alt: str, data: pd.DataFrame | None = None) -> Shown:
    """Turn a chart into themed inline SVG and close its figure.

    Args:
        chart: the figure, or any Axes in it.
        caption: the conclusion in words, printed below.
        alt: what the chart shows, for those who cannot see it.
        data: the plotted numbers, offered as a table below the chart; more than 200 rows are cut, and said to be.

    A chart that has nothing to draw is no empty frame but a sentence that says why: `attrs["why"]` of the data. Points
    of a collection or of a line with markers beyond about 2,000 are drawn as an image inside the SVG.

    Raises:
        ParameterError: the caption or the alternative text is empty.
    """
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    for name, text in (("caption", caption), ("alt", alt)):
        if not text.strip():
            raise ParameterError(
                f"figure.show: {name} is empty; say what the chart {'shows' if name == 'alt' else 'means'}"
            )
    figure = chart.get_figure(root=True) if isinstance(chart, Axes) else chart
    if figure is None:
        raise ParameterError("figure.show: these Axes belong to no figure any more")
    if figure.axes and all(any(t.get_text().startswith(NOTHING) for t in ax.texts) for ax in figure.axes):
        plt.close(figure)
        return Shown(svg="", caption=caption, alt=alt, note=table.why(data))
    for artist in figure.findobj(_is_heavy):
        artist.set_rasterized(True)
    key = hashlib.sha256((caption + alt).encode()).hexdigest()[:8]
    buffer = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", bbox_inches="tight", dpi=160, metadata=nothing)
    plt.close(figure)
    rows, note = "", ""
    if data is not None:
        rows = table.show(data.head(ROWS_SHOWN)).html
        if len(data) > ROWS_SHOWN:
            note = f"The first {ROWS_SHOWN} of {len(data):,} rows."
    return Shown(svg=_themed(buffer.getvalue(), key, alt), caption=caption, alt=alt, table=rows, note=note)


def _is_heavy(artist: Artist) -> bool:
    import numpy as np
    from matplotlib.collections import Collection
    from matplotlib.lines import Line2D

    if isinstance(artist, Line2D):
        return np.size(artist.get_xdata()) > MANY_POINTS and artist.get_marker() not in ("None", "none", "", " ", None)
    return isinstance(artist, Collection) and np.shape(artist.get_offsets())[0] > MANY_POINTS


def _themed(svg: str, key: str, alt: str) -> str:
    """Keep the drawing alone: colours as variables, the page's font, and only ids that are referred to."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|xmlns:xlink=\"[^\"]*\" ", "", svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href", "href")
    referred = set(re.findall(r"[(\"]#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{key}-{m[1]}"' if m[1] in referred else "", svg)
    svg = re.sub(r"([(\"])#([\w-]+)(?=[)\"])", lambda m: f"{m[1]}#{key}-{m[2]}" if m[2] in referred else m[0], svg)
    names = {colour: name for name, colour in reversed(theme.colours().items())}
    svg = re.sub(r"#[0-9a-f]{6}\b(?=[;\"])", lambda m: theme.variable(names[m[0]]) if m[0] in names else m[0], svg)
    svg = re.sub(r"font: ([^;\"]*?)([\d.]+px)[^;\"]*", _font, svg)
    return re.sub(
        r"<svg ", f'<svg role="img" aria-label="{escape(alt)}" style="fill: {theme.variable("ink")}" ', svg, count=1
    )


def _font(match: re.Match[str]) -> str:
    weight = "; font-weight: 600" if re.search(r"bold|[6-9]00", match[1]) else ""
    return f"font-size: {match[2]}; font-family: inherit{weight}"
