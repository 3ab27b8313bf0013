"""Engagement against satisfaction: the corner is named only if the joint interval lies in it."""

from dataclasses import replace

import numpy as np
import pytest

from helpers import decision, metrics, plots, quadrant
from helpers.results import Estimate, NotEstimable

HOURS, CHOSEN, REGRET = (metrics.get(n) for n in ("hours_per_account_week", "intentional_start_share", "regret_rate"))


def claim(metric, rel, se, role="satisfaction"):
    half = 1.959964 * se
    e = Estimate(
        metric=metric.name, control=1.0, treatment=1 + rel, diff=rel, se=se, low=rel - half, high=rel + half, rel=rel,
        rel_low=rel - half, rel_high=rel + half, p=0.5, n_control=10, n_treatment=10, method="made up", mde=2.8 * se,
    )  # fmt: skip
    return decision.read(metric, e, role=role)


@pytest.mark.parametrize(
    ("x", "y", "label"),
    [
        (5, 5, "healthy growth"),
        (5, -5, "hollow engagement"),
        (-5, 5, "fewer but better"),
        (-5, -5, "harm"),
        (5, 2, "cannot tell"),
    ],
)
def test_the_corner_is_named_only_if_all_of_the_interval_lies_in_it(x, y, label):
    read = quadrant.read(claim(HOURS, x, 1, "north_star"), claim(CHOSEN, y, 1))
    assert read.label == label
    if label == "cannot tell":  # 2 standard errors suffice for one interval, not for two that hold together
        assert read.possible == ("healthy growth", "hollow engagement")


def test_less_of_what_is_bad_counts_as_better():
    assert quadrant.read(claim(HOURS, 5, 1, "north_star"), claim(REGRET, -5, 1)).label == "healthy growth"


@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.9])
def test_the_rectangle_holds_both_true_changes_as_often_as_it_says(correlation):
    rng = np.random.default_rng(3)
    z = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], 100_000)
    read = quadrant.read(claim(HOURS, 0, 1, "north_star"), claim(CHOSEN, 0, 1))
    half = read.x[2] / 100  # in standard errors, as the estimate is 0 and its error 1
    held = (np.abs(z) < half).all(axis=1).mean()
    assert 0.95 - 0.002 <= held <= 0.975 + 0.002  # Bonferroni: 1 - alpha to 1 - alpha / 2


def test_what_cannot_be_estimated_has_no_corner_and_is_drawn_as_such():
    missing = replace(claim(CHOSEN, 1, 1), estimate=NotEstimable(metric=CHOSEN.name, reason="no plays"))
    read = quadrant.find([claim(HOURS, 5, 1, "north_star"), missing])
    assert isinstance(read, NotEstimable)
    assert "Nothing to draw" in plots.quadrant(read).texts[0].get_text()
    assert isinstance(quadrant.find([claim(HOURS, 5, 1, "north_star")]), NotEstimable)


def test_the_first_measured_satisfaction_metric_is_read():
    missing = replace(claim(CHOSEN, 1, 1), estimate=NotEstimable(metric=CHOSEN.name, reason="no plays"))
    read = quadrant.find([claim(HOURS, 5, 1, "north_star"), missing, claim(REGRET, -5, 1)])
    assert read.titles[1] == REGRET.title
    labels = {t.get_text() for t in plots.quadrant(read).texts}
    assert set(quadrant.LABELS.values()) <= labels
