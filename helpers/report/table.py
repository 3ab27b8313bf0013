"""Tables for people: no row numbers, four significant digits, whole sentences, and every cell escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from helpers.report import readout
from helpers.results import titled

if TYPE_CHECKING:
    import pandas as pd

P_VALUES = ("p", "p_adjusted", "after correction", "q")
ROUNDING = 1e-12  # less than that is what is left of a difference of equal numbers
UNKNOWN = "these data do not hold it, or a check of them failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table as it stands on a page."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def show(frame: pd.DataFrame, columns: Sequence[str] | None = None, titles: Mapping[str, str] | None = None) -> Table:
    """Write a table with the given columns, or all; a value that is missing is a dash.

    A table without rows, or of reasons alone, is a sentence that says why there is nothing to show. With `titles`, by
    name, the column `metric` reads in words: names are for merging, titles for people.

    >>> import pandas as pd
    >>> print(show(pd.DataFrame({"metric": ["churn <28d>"], "diff": [0.0012345]})).html)
    <table class="dataframe">
      <thead>
        <tr style="text-align: right;">
          <th>metric</th>
          <th>diff</th>
        </tr>
      </thead>
      <tbody>
        <tr>
          <td>churn &lt;28d&gt;</td>
          <td>0.001234</td>
        </tr>
      </tbody>
    </table>
    """
    import pandas as pd

    chosen = frame if columns is None else frame.reindex(columns=list(columns))
    if chosen.empty or ("reason" in frame and frame["reason"].map(bool).all() and frame["reason"].notna().all()):
        html = f'<p class="absent"><em>Nothing to show: {escape(why(frame))}.</em></p>'
        return Table(html=html, text="(nothing to show)")
    if titles and "metric" in chosen:
        chosen = chosen.assign(metric=chosen["metric"].map(lambda name: titled(name, titles)))
    mixed = [c for c in chosen if str(chosen[c].dtype) not in ("int64", "float64")]  # these know of None or NA
    chosen = chosen.assign(**{str(c): chosen[c].astype(object).map(_cell) for c in mixed})
    formats: dict[Any, Any] = {c: readout.p_value for c in chosen if c in P_VALUES or str(c).endswith(": p")}
    with pd.option_context("display.max_colwidth", None):
        html = chosen.to_html(index=False, border=0, na_rep="–", float_format=number, formatters=formats)
    return Table(html=html, text=chosen.to_string(index=False, na_rep="–"))


def why(frame: pd.DataFrame | None) -> str:
    """Say why there is nothing to show: the frame's reasons, or what its maker left in `attrs["why"]`."""
    if frame is None:
        return UNKNOWN
    reasons = list(dict.fromkeys(frame["reason"].dropna())) if "reason" in frame else []
    return "; ".join(filter(None, reasons)).rstrip(".") or frame.attrs.get("why") or UNKNOWN


def _cell(value: Any) -> Any:
    """Write a flag as a word and a text with true minus signs; what is missing is one kind of missing."""
    words = {"True": "yes", "False": "no", "None": math.nan, "<NA>": math.nan}
    return readout.minus(value) if isinstance(value, str) else words.get(str(value), value)


def number(value: float) -> str:
    """Write four significant digits, without exponents: a crash rate of 0.00005 is not 5e-05 to most readers.

    >>> number(0.00005), number(-123456.7), number(-1.1e-16)
    ('0.00005', '−123,457', '0')
    """
    import numpy as np

    if abs(value) < ROUNDING:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    return np.format_float_positional(value, precision=4, fractional=False, trim="-").replace("-", "−")
