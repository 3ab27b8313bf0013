"""Replays with known truth: each type of metric errs and covers as it should, and what does not is found out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from helpers import adequacy, anytime, calibration, cli, sequential, simulate
from helpers.calibration import KINDS, Kind, Samples, World
from helpers.errors import ParameterError
from helpers.results import NotEstimable

REPLICATES = 400
LOOKED = ("group-sequential bound", "confidence sequence")


def allowed(share, replicates=REPLICATES):
    """Give the shares that all but one in 1,000 series of so many experiments show where the true one is `share`.

    An error rate of 3.5 to 6.5 % is what 5,000 experiments must show; 400 cannot tell as much, and of 400 that err at
    5 % one series in eight leaves those bounds. The seed is fixed, so that no test fails by chance.
    """
    return tuple(stats.binom.ppf([0.0005, 0.9995], replicates, share) / replicates)


@pytest.fixture(scope="module")
def worlds():
    return calibration.worlds("homepage_optimistic", accounts=100_000, seed=20261121)


@pytest.mark.parametrize("name", KINDS)
def test_every_type_of_metric_errs_and_covers_as_often_as_it_says(worlds, name):
    rng = np.random.default_rng(20261121)
    (found,) = calibration.calibrate(*worlds, kinds={name: KINDS[name]}, n=10_000, replicates=REPLICATES, rng=rng)
    assert (found.answers, found.untold, found.holds) == (REPLICATES, 0, None)
    for share, nominal, most in ((found.error, 0.05, 0), (found.coverage, 0.95, 1)):
        low, high = allowed(nominal)
        assert min(low, most if found.cautious else low) <= share <= max(high, most if found.cautious else high), found
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
    assert found.error > allowed(0.05)[1]
    assert found.coverage < allowed(0.95)[0]


@pytest.mark.parametrize(
    ("column", "n", "warns"), [("tickets", (20_000, 500), True), ("hours", (10_000, 10_000), False)]
)
def test_where_the_service_s_tail_is_too_long_for_an_arm_intervals_fail_and_the_accounts_say_so(
    worlds, column, n, warns
):
    """Tickets have skewness 19, hours 2.6; intervals are scipy's."""
    rng, replicates = np.random.default_rng(20261128), 300
    control, treatment = (
        w.columns[column][rng.integers(w.accounts, size=(replicates, size))] for w, size in zip(worlds, n, strict=True)
    )
    truth = worlds[1].columns[column].mean() - worlds[0].columns[column].mean()
    low, high = stats.ttest_ind(treatment, control, axis=1, equal_var=False).confidence_interval()
    below = (high < truth).mean()
    assert (below > 0.07) == warns
    assert warns or allowed(0.95, replicates)[0] <= ((low <= truth) & (truth <= high)).mean()
    said = []
    for arms in zip(control, treatment, strict=True):
        variance, skewness = (tuple(f(x) for x in arms) for f in (np.var, stats.skew))
        one = adequacy.Spread(metric="", n=n, mean=(0.0, 0.0), variance=variance, skewness=skewness, level=0.95)
        said.append("few accounts for so long a tail" in one.note)
    assert (np.mean(said) > 0.95) if warns else (np.mean(said) < 0.05)


def test_a_fixed_test_that_is_looked_at_every_day_is_found_out(worlds):
    def compare(control, treatment):
        gaps = (treatment.take("hours") - control.take("hours"))[..., 0]  # of accounts in pairs
        n = np.arange(20, 561, 20)
        mean, square = (x.cumsum(axis=1)[:, n - 1] / n for x in (gaps, gaps**2))
        z = np.abs(mean / np.sqrt((square - mean**2) / (n - 1))).max(axis=1)
        answers = KINDS["mean: hours"].compare(control, treatment)
        return [replace(e, p=float(p)) for e, p in zip(answers, 2 * stats.norm.sf(z), strict=True)]

    kinds = {"peeking": Kind(compare=compare, truth=KINDS["mean: hours"].truth)}
    rng = np.random.default_rng(1)
    (found,) = calibration.calibrate(*worlds, kinds=kinds, n=560, replicates=REPLICATES, rng=rng)
    assert found.error > allowed(0.05)[1]


# What is compared, against computations of one's own.


def world(hours, sessions, waits=(), counts=None):
    counts = np.zeros(len(hours), int) if counts is None else np.array(counts)
    columns = {"hours": np.array(hours, float), "sessions": np.array(sessions, float)}
    creators = np.zeros(len(waits), int)
    return World(
        columns=columns,
        waits=np.array(waits, float),
        creators=creators,
        first=np.concatenate([[0], np.cumsum(counts)]),
    )


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
        assert KINDS[name].truth(control, treatment, 400) == pytest.approx(
            np.minimum(y, top).mean() - np.minimum(x, top).mean()
        )


def test_the_truth_of_a_ratio_is_that_of_sums_and_of_a_quantile_that_of_all_accounts(arms):
    control, treatment, *_ = arms
    ratio = [w.columns["hours"].sum() / w.columns["sessions"].sum() for w in (control, treatment)]
    assert KINDS["ratio: hours per session"].truth(control, treatment, 400) == pytest.approx(ratio[1] - ratio[0])
    median = [np.median(w.columns["hours"]) for w in (control, treatment)]
    assert KINDS["quantile: median hours"].truth(control, treatment, 400) == pytest.approx(median[1] - median[0])


def test_drawn_accounts_bring_their_plays_and_one_drawn_twice_is_two():
    service = world([1, 2, 3], [1, 1, 1], waits=[10, 20, 21, 22], counts=[1, 0, 3])
    (first, second) = Samples(world=service, rows=np.array([[2, 0, 2], [1, 1, 0]])).plays()
    assert [x.tolist() for x in first] == [[1, 2, 3, 0, 1, 2, 3], [0, 0, 0, 1, 2, 2, 2]]
    assert [x.tolist() for x in second] == [[0], [2]]


def test_daily_looks_are_those_of_growing_samples(arms):
    _, _, c, t = arms
    n = np.arange(1, 29) * 400 // 28
    bound = sequential.plan_looks(28).z
    pairs = zip(c.take("hours")[..., 0], t.take("hours")[..., 0], strict=True)
    for (x, y), *answers in zip(pairs, *(KINDS[f"mean, 28 looks: {how}"].compare(c, t) for how in LOOKED), strict=True):
        diff = np.array([y[:k].mean() - x[:k].mean() for k in n])
        se = np.array([np.sqrt((x[:k].var(ddof=1) + y[:k].var(ddof=1)) / k) for k in n])
        for e, (low, high) in zip(
            answers,
            (
                (diff - bound * se, diff + bound * se),
                anytime.confidence_sequence(diff, se, 2 * n, tuned_for=800),
            ),
            strict=True,
        ):
            assert (e.diff, e.low, e.high) == pytest.approx((diff[-1], low.max(), high.min()), rel=1e-9)
            assert (e.p < 0.05) == (not e.low <= 0 <= e.high)


def test_a_post_stratified_difference_is_the_mean_of_those_within_strata_by_their_share(worlds):
    rng = np.random.default_rng(4)
    c, t = (Samples(world=w, rows=rng.integers(w.accounts, size=(2, 500))) for w in worlds)
    answers = KINDS["mean, post-stratified: hours by hours before"].compare(c, t)
    for e, x, y in zip(answers, c.take("hours", "stratum"), t.take("hours", "stratum"), strict=True):
        share = np.array([(np.append(x[:, 1], y[:, 1]) == h).mean() for h in range(5)])
        gap = np.array([y[y[:, 1] == h, 0].mean() - x[x[:, 1] == h, 0].mean() for h in range(5)])
        assert e.diff == pytest.approx(share @ gap, rel=1e-9)


def test_what_the_service_does_not_say_follows_the_laws_that_are_told(worlds):
    usual, changed = (w.columns for w in worlds)
    error = np.sqrt(0.06 / 100_000)  # of a mean of tickets, whose variance is three times 0.02
    assert usual["tickets"].mean() == pytest.approx(0.02, abs=4 * error)
    assert changed["tickets"].mean() == pytest.approx(0.016, abs=4 * error)
    assert usual["tickets"].var() / usual["tickets"].mean() == pytest.approx(3, abs=0.5)
    assert np.bincount(usual["stratum"].astype(int)) == pytest.approx(20_000, abs=100)
    assert (usual["time"] <= usual["stayed"]).all()
    assert (usual["time"][usual["left"] == 1] == usual["stayed"][usual["left"] == 1]).all()
    assert 0 < usual["left"].sum() < usual["cancelled"].sum()  # some leave when nobody looks any more


@pytest.mark.parametrize("name", ["gini: hours by creator", "coverage: creators reached"])
def test_the_truth_of_a_whole_arm_is_that_of_arms_of_this_size(worlds, name):
    """Draw arms anew: Gini by its definition, and the creators that the first quarter of an arm's accounts reach."""
    rng, n, gini = np.random.default_rng(5), 400, name.startswith("gini")
    found = []
    for w in worlds:
        drawn = Samples(world=w, rows=rng.integers(w.accounts, size=(200, n)))
        one = []
        for rows, (play, who) in zip(drawn.rows, drawn.plays(), strict=True):
            if gini:
                x = np.bincount(w.creators[play], w.columns["hours_per_play"][rows[who]], 300)
                one.append(np.abs(x[:, None] - x).mean() / (2 * x.mean()))
            else:
                one.append(len(np.unique(w.creators[play[who < n // 4]])) / 300)
        found.append(one)
    (control, treatment), truth = np.array(found), KINDS[name].truth(*worlds, n)
    error = np.sqrt((control.var() + treatment.var()) / 200)
    assert treatment.mean() - control.mean() == pytest.approx(truth, abs=4 * error)


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


def test_what_promises_to_err_at_most_so_often_may_err_less():
    found = calibration.Calibration(
        kind="x", n=9, truth=0, answers=5_000, untold=0, error=0.01, coverage=0.99, bias=0, power=0
    )
    assert (found.holds, replace(found, cautious=True).holds) == (False, True)
    assert not replace(found, cautious=True, error=0.066).holds
    assert not replace(found, cautious=True, coverage=0.92).holds


# The command.


def test_the_command_prints_a_line_for_each_type_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["calibrate", "--replicates", "20", "--n", "50", "--only", "ratio,sessions"]) == 0
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
