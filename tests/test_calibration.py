"""Replays with known truth: each type of metric errs and covers as it should, and what does not is found out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from helpers import calibration, cli, simulate
from helpers.calibration import COVERAGE, ERROR, KINDS, Kind, Samples, World
from helpers.errors import ParameterError
from helpers.results import NotEstimable

REPLICATES = 400


def allowed(bounds):
    """Give the shares that 400 experiments may show if the true one is within bounds, but for one in 1,000."""
    low, high = bounds
    return stats.binom.ppf(0.001, REPLICATES, low) / REPLICATES, stats.binom.isf(0.001, REPLICATES, high) / REPLICATES


@pytest.fixture(scope="module")
def worlds():
    return calibration.worlds("homepage_optimistic", accounts=100_000, seed=20261121)


@pytest.mark.parametrize("name", KINDS)
def test_every_type_of_metric_errs_and_covers_as_often_as_it_says(worlds, name):
    n = 1_000 if "events" in name else 10_000  # 270,000 waits in an arm of 10,000 take minutes
    rng = np.random.default_rng(20261121)
    (found,) = calibration.calibrate(*worlds, kinds={name: KINDS[name]}, n=n, replicates=REPLICATES, rng=rng)
    assert (found.answers, found.untold, found.holds) == (REPLICATES, 0, None)
    for share, bounds in ((found.error, ERROR), (found.coverage, COVERAGE)):
        low, high = allowed(bounds)
        assert low <= share <= high, found
    assert abs(found.bias) < 4 / REPLICATES**0.5


def test_counts_taken_for_poisson_are_found_out(worlds):
    def compare(control, treatment):
        pairs = zip(control.take("sessions")[..., 0], treatment.take("sessions")[..., 0], strict=True)
        found = []
        for e, (c, t) in zip(KINDS["count: sessions"].compare(control, treatment), pairs, strict=True):
            se = np.sqrt(c.mean() / len(c) + t.mean() / len(t))
            p = 2 * stats.norm.sf(abs(e.diff) / se)
            found.append(replace(e, se=se, low=e.diff - 1.96 * se, high=e.diff + 1.96 * se, p=p))
        return found

    kinds = {"naive": Kind(compare=compare, truth=KINDS["count: sessions"].truth)}
    rng = np.random.default_rng(1)
    (found,) = calibration.calibrate(*worlds, kinds=kinds, n=500, replicates=REPLICATES, rng=rng)
    assert found.error > allowed(ERROR)[1]
    assert found.coverage < allowed(COVERAGE)[0]


# What is compared, against computations of one's own.


def world(hours, sessions, waits=(), counts=None):
    counts = np.zeros(len(hours), int) if counts is None else np.array(counts)
    columns = {"hours": np.array(hours, float), "sessions": np.array(sessions, float)}
    return World(columns=columns, waits=np.array(waits, float), first=np.concatenate([[0], np.cumsum(counts)]))


@pytest.fixture
def arms():
    rng = np.random.default_rng(3)
    control, treatment = (world(f * rng.gamma(2, 5, 900), 1 + rng.poisson(6, 900)) for f in (1, 1.2))
    drawn = [Samples(world=w, rows=rng.integers(900, size=(3, 400))) for w in (control, treatment)]
    return control, treatment, *drawn


def test_means_and_capped_means_are_those_of_scipy(arms):
    control, treatment, c, t = arms
    for name, cap in (("mean: hours", None), ("mean, capped at 99%: hours", 0.99)):
        answers = KINDS[name].compare(c, t)
        assert len(answers) == 3
        for e, x, y in zip(answers, c.take("hours")[..., 0], t.take("hours")[..., 0], strict=True):
            top = np.quantile([*x, *y], cap) if cap else np.inf
            oracle = stats.ttest_ind(np.minimum(y, top), np.minimum(x, top), equal_var=False)
            assert (e.p, e.low, e.high) == pytest.approx((oracle.pvalue, *oracle.confidence_interval()), rel=1e-9)
        x, y = control.columns["hours"], treatment.columns["hours"]
        top = np.quantile([*x, *y], cap) if cap else np.inf
        assert KINDS[name].truth(control, treatment) == pytest.approx(
            np.minimum(y, top).mean() - np.minimum(x, top).mean()
        )


def test_the_truth_of_a_ratio_is_that_of_sums_and_of_a_quantile_that_of_all_accounts(arms):
    control, treatment, *_ = arms
    ratio = [w.columns["hours"].sum() / w.columns["sessions"].sum() for w in (control, treatment)]
    assert KINDS["ratio: hours per session"].truth(control, treatment) == pytest.approx(ratio[1] - ratio[0])
    median = [np.median(w.columns["hours"]) for w in (control, treatment)]
    assert KINDS["quantile: median hours"].truth(control, treatment) == pytest.approx(median[1] - median[0])


def test_drawn_accounts_bring_their_waits_and_one_drawn_twice_is_two():
    service = world([1, 2, 3], [1, 1, 1], waits=[10, 20, 21, 22], counts=[1, 0, 3])
    (first, second) = Samples(world=service, rows=np.array([[2, 0, 2], [1, 1, 0]])).waits()
    assert [x.tolist() for x in first] == [[20, 21, 22, 10, 20, 21, 22], [0, 0, 0, 1, 2, 2, 2]]
    assert [x.tolist() for x in second] == [[10], [2]]


def test_the_pool_is_the_same_with_waits_and_has_one_for_each_session_with_a_play():
    service = simulate.Simulation(scenario="homepage", accounts=6_000, pre_days=7)
    plain, full = simulate.pool(service), simulate.pool(service, waits=True)
    for one, other, waits in zip(
        (plain.control, plain.treatment), (full.control, full.treatment), full.waits, strict=True
    ):
        np.testing.assert_array_equal(one, other[:, :-1])
        assert other[:, -1].sum() == len(waits)
        assert (other[:, -1] <= other[:, plain.columns.index("sessions")]).all()
        assert (waits >= 0).all()
    assert full.waits[1].mean() < full.waits[0].mean()  # the launch shortens them


def test_shares_are_counted_and_what_had_no_answer_is_said(arms):
    control, treatment, c, t = arms
    (e, *_) = KINDS["mean: hours"].compare(c, t)
    near = replace(e, diff=1.0, low=0.0, high=2.0, se=1.0, p=0.04)
    far = replace(e, diff=-3.0, low=-4.0, high=-2.0, se=1.0, p=0.001)
    answers = iter([[near, far, near, replace(e, p=0.5)], [near, near, far, NotEstimable(metric="m", reason="none")]])
    kind = Kind(compare=lambda *_: next(answers), truth=lambda *_: 0.5)
    (found,) = calibration.calibrate(
        control, treatment, kinds={"x": kind}, n=9, replicates=4, rng=np.random.default_rng(1)
    )
    assert (found.answers, found.untold, found.truth, found.holds) == (3, 1, 0.5, False)
    assert (found.error, found.coverage, found.power) == pytest.approx((3 / 4, 2 / 3, 2 / 3))
    assert found.bias == pytest.approx((1 + 1 - 3) / 3 - 0.5)
    assert calibration.row(found).endswith("OUTSIDE, 1 without an answer")


@pytest.mark.parametrize(
    ("error", "coverage", "answers", "holds"),
    [(0.05, 0.95, 5_000, True), (0.034, 0.95, 5_000, False), (0.05, 0.971, 5_000, False), (0.2, 0.2, 999, None)],
)
def test_too_few_experiments_judge_nothing(error, coverage, answers, holds):
    found = calibration.Calibration(
        kind="x", n=9, truth=0, answers=answers, untold=0, error=error, coverage=coverage, bias=0, power=0
    )
    assert found.holds is holds


# The command.


def test_the_command_prints_a_line_for_each_type_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["calibrate", "--replicates", "20", "--n", "50", "--only", "ratio,count"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "20 experiments with homepage_optimistic" in said[0]
    assert [line.split(":")[0] for line in said[2:4]] == ["count", "ratio"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--only", "ratoi"], "no type of metric is called 'ratoi'; did you mean 'ratio'?"),
        (["--n", "1"], "n is 1, must be at least 2"),
        (["--replicates", "0"], "replicates is 0, must be at least 1"),
        (["--scenario", "nothing"], "scenario 'nothing' is not known"),
        (["--scenario", "opt_in"], "changes who is in which world"),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence, capsys):
    assert cli.main(["calibrate", *arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.splitlines()) == 1


def test_numbers_out_of_range_are_refused(worlds):
    with pytest.raises(ParameterError, match="n is 1"):
        list(calibration.calibrate(*worlds, n=1, rng=np.random.default_rng(1)))
