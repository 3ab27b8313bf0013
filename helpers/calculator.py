"""A calculator for JupyterLab: move a slider, and the functions that the tables use answer anew."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Any

from helpers import power
from helpers.errors import ParameterError
from helpers.prospect import Prospect
from helpers.report.readout import percent

LIVE = "JPY_SESSION_NAME"  # what a Jupyter server sets for the kernel of an open notebook


def show(prospects: Sequence[Prospect]) -> Any:
    """Show sliders in a live session; None where nobody could move them (a report), or without ipywidgets."""
    known = {p.planned.metric.title: p for p in prospects if p.outcome and p.design}
    if LIVE not in os.environ or not known:
        return None
    try:
        import ipywidgets as w
    except ImportError:
        return None
    wide = {"style": {"description_width": "11em"}, "layout": w.Layout(width="36em")}
    asked = {
        "metric": w.Dropdown(options=list(known), description="Metric", **wide),
        "accounts": w.FloatLogSlider(
            value=10_000, min=2, max=7, step=0.05, readout_format=",.0f", description="Treated accounts", **wide
        ),
        "controls": w.FloatSlider(value=1, min=0.5, max=20, step=0.5, description="Controls for each", **wide),
        "chance": w.FloatSlider(value=0.8, min=0.5, max=0.99, step=0.01, description="Power", **wide),
        "alpha": w.FloatSlider(value=0.05, min=0.01, max=0.2, step=0.01, description="Alpha", **wide),
    }
    answer = w.HTML()

    def say(_: object = None) -> None:
        now = {name: widget.value for name, widget in asked.items()}
        answer.value = f"<p><strong>{escape(said(known[now.pop('metric')], **now))}</strong></p>"

    for widget in asked.values():
        widget.observe(say, names="value")
    say()
    return w.VBox([*asked.values(), answer])


def said(prospect: Prospect, *, accounts: float, controls: float, chance: float, alpha: float) -> str:
    """Say what a design would see of a metric, and which harm it would rule out, in one sentence."""
    if prospect.outcome is None or prospect.design is None:
        return "This metric is not estimable here."
    n = round(accounts)
    try:
        together = prospect.design.guardrails if prospect.planned.role == "guardrail" else 1
        design = replace(prospect.design, controls=controls, power=chance, alpha=alpha, guardrails=together)
        seen = power.mde(prospect.outcome, n_treatment=n, direction=prospect.direction, design=design)
        kept = power.mde(prospect.outcome, n_treatment=n, aim="non-inferiority", rel_margin=True, design=design)
    except ParameterError as error:
        return str(error)
    sizes = [percent(abs(x.rel), digits=2) if x.rel is not None else f"{abs(x.change):.3g}" for x in (seen, kept)]
    at_once = f", for all {together} guardrails at once" if together > 1 else ""
    return (
        f"{n:,} treated accounts and {seen.n_control:,} controls find a change of {sizes[0]}, and rule out harm of "
        f"{sizes[1]} where there is none{at_once}, in {chance:.0%} of launches."
    )
