"""Effects on those assigned, exposed and taking part equal R and two-stage least squares; intervals hold when weak."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from helpers import causal, cli, inference, launch, metrics, moments, simulate, study
from helpers.errors import DataError, ParameterError
from helpers.inference.regression import regress
from helpers.metrics import UNITS_TABLE, Measure, Metric
from helpers.results import Check, NotEstimable

EXACT = 1e-9  # relative


def metric(name: str, kind="mean", covariates=()) -> Metric:
    own, *before = (Measure(table=UNITS_TABLE, agg="value", column=c) for c in (name, *covariates))
    return Metric(name=name, title=name, kind=kind, numerator=own, better="higher", unit="h", covariates=tuple(before))


Y, TAKEN, ASSIGNED = metric("y"), metric("taken", "proportion"), {"control": "control", "treatment": "early"}


def read(frame, what=Y, by=("arm",)):
    columns = tuple(dict.fromkeys([*inference.needed(what, adjust=bool(what.covariates))[0], "taken"]))
    return moments.from_rows(frame, columns=columns, by=by)


ERRORS = {"se_classical": "classic", "se_HC1": "HC1", "se_HC2": "HC2"}


def complier(frame, what=Y, **more):
    asked = ASSIGNED | {"days": 28, "adjust": bool(what.covariates)} | more
    (answer,) = causal.complier(read(frame, what), what, TAKEN, **asked)
    return answer


def rows(n=2_000, seed=1, moved=0.3, effect=2.0, replicates=1) -> pd.DataFrame:
    """Draw accounts of which a share is moved to take part; the keen take part anyway, and watch more anyway."""
    rng = np.random.default_rng(seed)
    size = n * replicates
    early = np.tile(np.arange(n) % 2 == 0, replicates)
    kind = rng.choice(["never", "moved", "always"], size, p=[0.9 - moved, moved, 0.1])
    taken = (kind == "always") | ((kind == "moved") & early)
    before = rng.normal(0, 2, size)
    y = before + 3.0 * (kind == "always") + 1.0 * (kind == "moved") + effect * taken + rng.normal(5, 1, size)
    return pd.DataFrame(
        {
            "arm": np.where(early, "early", "control"),
            "replicate": np.repeat(np.arange(replicates), n),
            "taken": taken.astype(float),
            "before": before,
            "y": y,
        }
    )


def two_stage(frame):
    """Two-stage least squares by matrices: coefficient, its classical error and the one by HC2."""
    n = len(frame)
    z = np.column_stack([np.ones(n), frame["arm"] == "early"]).astype(float)
    x, y = np.column_stack([np.ones(n), frame["taken"]]), frame["y"].to_numpy()
    hat = z @ np.linalg.lstsq(z, x, rcond=None)[0]
    beta = np.linalg.solve(hat.T @ x, hat.T @ y)
    bread, e = np.linalg.inv(hat.T @ hat), y - x @ beta
    leverage = np.einsum("ij,jk,ik->i", hat, bread, hat)
    robust = bread @ (hat.T * (e**2 / (1 - leverage))) @ hat @ bread
    return beta[1], np.sqrt(e @ e / (n - 2) * bread[1, 1]), np.sqrt(robust[1, 1])


# Independent oracles


def case(name: str):
    c = reference.case(name)
    return reference.data(c), c["expected"]


def near(*expected):
    return pytest.approx(expected, rel=1e-6, abs=1e-9)  # the tolerance of the cases


def named(frame, **columns):
    frame = frame.rename(columns={old: new for new, old in columns.items()})
    return frame.assign(arm=frame["arm"].map({0: "control", 1: "early"}))


def test_the_debate_equals_r():
    frame, want = case("itt_cace__fox_debate_no_covariates")
    frame = named(frame.dropna(subset=["infopro"]), y="infopro", taken="watchpro", arm="conditn")
    got = complier(frame)
    assert (got.n_control, got.n_treatment) == tuple(want["n_z"])
    assert (got.diff, got.diff, got.se) == near(want["wald"], want["tsls"]["est"], want["tsls"]["se_HC2"])
    assert (got.se,) == near(want["se_delta"])
    for name, errors in ERRORS.items():
        assert (complier(frame, errors=errors).se,) == near(want["tsls"][name]), name
    first = want["first_stage"]
    assert (got.uptake, got.f) == near(first["est"], (first["est"] / first["se_HC2"]) ** 2)
    assert (complier(frame, errors="classic").f,) == near(want["first_stage_F"])
    treated = {"assigned": (frame["arm"] == "early").astype(float)}
    for name, column in (("itt", "y"), ("first_stage", "taken")):
        for errors in ("classic", "HC0", "HC1", "HC2", "HC3"):
            value, se = regress(frame[column], treated, errors=errors).set_index("term")[["value", "se"]].T.to_numpy()
            asked = f"se_{errors.replace('classic', 'const')}"
            assert (value[1], se[1]) == near(want[name]["est"], want[name][asked]), (name, errors)
            if name == "first_stage":
                assert (complier(frame, errors=errors).f,) == near((value[1] / se[1]) ** 2)
    assert (value[0], value.sum()) == near(want["compliance_z0"], want["compliance_z1"])
    (itt,) = inference.compare(read(frame), Y, **ASSIGNED, days=28, pre_days=28)
    assert (itt.diff, itt.se) == near(want["itt"]["est"], want["itt"]["se_HC2"])
    assert got.p == pytest.approx(itt.p, rel=EXACT)


def test_the_vouchers_equal_r():
    frame, want = case("itt_cace__colombia_vouchers_2sls")
    frame = frame[(frame["TAB3SMPL"] == 1) & (frame["BOG95SMP"] == 1)]
    frame = named(frame, y="SCYFNSH", taken="USNGSCH", arm="VOUCH0").dropna(subset=["y", "taken", "arm"])
    assert len(frame) == want["n"]
    got = complier(frame)
    assert (got.diff, got.uptake, got.diff * got.uptake) == near(want["cace"], want["first_stage"], want["itt"])
    _, classical, robust = two_stage(frame)
    equal = complier(frame, errors="classic")  # R's error takes equal variances for granted
    assert (equal.se, got.se) == near(want["se"], robust)
    assert equal.se == pytest.approx(classical, rel=EXACT)
    assert equal.method.endswith("Anderson-Rubin interval, classic errors")


def test_the_ratio_equals_two_stage_least_squares_and_its_limits_the_test_that_they_invert():
    frame = rows()
    got = complier(frame)
    beta, _, robust = two_stage(frame)
    assert (got.diff, got.se) == pytest.approx((beta, robust), rel=EXACT)
    arms = [part for _, part in frame.groupby("arm")]
    itt = stats.ttest_ind(arms[1]["y"], arms[0]["y"], equal_var=False)
    q = stats.t.isf(0.025, itt.df)
    for limit, sign in ((got.low, 1), (got.high, -1)):
        t = stats.ttest_ind(*((a["y"] - limit * a["taken"]) for a in reversed(arms)), equal_var=False).statistic
        assert t == pytest.approx(sign * q, rel=1e-9)


def test_a_covariate_and_post_strata_sharpen_it():
    frame = rows().assign(half=lambda f: np.where(f["before"] > 0, "high", "low"))
    plain, sharp = complier(frame), complier(frame, metric("y", covariates=["before"]))
    theta = (plain.diff - sharp.diff) * plain.uptake / frame.groupby("arm")["before"].mean().diff().iloc[-1]
    beta, _, robust = two_stage(frame.assign(y=frame["y"] - theta * frame["before"]))
    assert (sharp.diff, sharp.se) == pytest.approx((beta, robust), rel=1e-9)
    assert sharp.se < 0.7 * plain.se
    (by_half,) = causal.complier(read(frame, by=["arm", "half"]), Y, TAKEN, **ASSIGNED, poststrata=["half"], days=28)
    itt, first = (
        inference.compare(read(frame, by=["arm", "half"]), m, **ASSIGNED, poststrata=["half"], days=28, pre_days=28)[0]
        for m in (Y, metric("taken"))
    )
    assert by_half.diff == pytest.approx(itt.diff / first.diff, rel=EXACT)
    assert (by_half.p, by_half.f) == pytest.approx((itt.p, (first.diff / first.se) ** 2), rel=EXACT)


# Properties


@given(seed=st.integers(0, 10_000), effect=st.floats(-2, 2), scale=st.floats(0.1, 10))
@settings(max_examples=6, deadline=None)
def test_the_interval_contains_zero_exactly_if_that_of_the_assignment_does(seed, effect, scale):
    frame = rows(300, seed, effect=effect)
    got = complier(frame)
    (itt,) = inference.compare(read(frame), Y, **ASSIGNED, days=28, pre_days=28)
    assert (got.low <= 0 <= got.high) == (itt.low <= 0 <= itt.high)
    scaled = complier(frame.assign(y=scale * frame["y"]))
    assert (scaled.low, scaled.high) == pytest.approx((scale * got.low, scale * got.high), rel=1e-6)


def test_slices_are_those_of_their_own_accounts():
    frame = rows().assign(half=lambda f: np.where(f["before"] > 0, "high", "low"))
    for got in causal.complier(read(frame, by=["arm", "half"]), Y, TAKEN, **ASSIGNED, days=28):
        alone = complier(frame[frame["half"] == got.slice["half"]])
        assert (got.diff, got.low, got.high) == pytest.approx((alone.diff, alone.low, alone.high), rel=EXACT)


def test_full_compliance_gives_the_effect_of_assignment():
    frame = rows().assign(taken=lambda f: (f["arm"] == "early").astype(float))
    got = complier(frame)
    (itt,) = inference.compare(read(frame), Y, **ASSIGNED, days=28, pre_days=28)
    assert (got.diff, got.se, got.low, got.high) == pytest.approx((itt.diff, itt.se, itt.low, itt.high), rel=EXACT)
    assert got.f == np.inf


def test_an_amount_that_was_taken_gives_the_effect_of_each_unit_as_two_stage_least_squares_does():
    frame = rows()
    dose = frame.assign(taken=frame["taken"] * np.random.default_rng(2).gamma(2, 1, len(frame)))
    (got,) = causal.complier(read(dose), Y, replace(TAKEN, kind="mean"), **ASSIGNED, days=28)
    beta, _, robust = two_stage(dose)
    assert (got.diff, got.se) == pytest.approx((beta, robust), rel=EXACT)
    nothing = dose.assign(taken=np.random.default_rng(3).gamma(2, 1, len(frame)))
    (told,) = causal.complier(read(nothing), Y, replace(TAKEN, kind="mean"), **ASSIGNED, days=28)
    assert "changed how much they took part by" in told.reason


def test_where_nobody_is_moved_the_interval_has_no_end_and_the_words_say_so():
    got = complier(rows(moved=0.0))
    assert isinstance(got, NotEstimable)
    assert "cannot be told from 0" in got.reason
    assert "no end" in got.reason
    nobody = complier(rows().assign(taken=0.0))
    assert isinstance(nobody, NotEstimable)
    assert nobody.reason == "nobody took part in either arm"
    ratio = Metric(
        name="r", title="", kind="ratio", numerator=Y.numerator, denominator=TAKEN.numerator, better="higher", unit=""
    )
    assert "no mean over accounts" in causal.complier(read(rows()), ratio, TAKEN, **ASSIGNED, days=28)[0].reason
    with pytest.raises(ParameterError, match="r is a ratio; what was taken must be a mean"):
        causal.complier(read(rows()), Y, ratio, **ASSIGNED, days=28)
    with pytest.raises(ParameterError, match="did you mean 'HC1'"):
        complier(rows(), errors="HC11")
    with pytest.raises(ParameterError, match="classic errors are defined without weights and strata"):
        complier(rows(), errors="classic", poststrata=["arm"])


# Simulation


@pytest.mark.parametrize(("moved", "n"), [(0.3, 400), (0.04, 400)], ids=["strong", "weak"])
def test_intervals_cover_the_effect_of_those_who_are_moved(moved, n):
    """The keen take part in both arms and watch 3 hours more anyway; the truth is 2. Weak: F is about 1 on average."""
    replicates = 600
    frame = rows(n, seed=19490101, moved=moved, replicates=replicates)
    found = causal.complier(read(frame, by=["arm", "replicate"]), Y, TAKEN, **ASSIGNED, days=28)
    assert len(found) == replicates
    bounded = [c for c in found if isinstance(c, causal.Complier)]
    missed = sum(not c.low <= 2 <= c.high for c in bounded) / replicates  # an interval without end misses nothing
    # two standard errors of a share of 5 % among 600: 1.8 points
    assert missed <= 0.068
    if moved == 0.3:
        assert len(bounded) == replicates
        assert missed >= 0.032
    else:
        assert len(bounded) < 0.5 * replicates
        assert all("the interval holds" in c.note for c in bounded if c.f < causal.WEAK)


# The launch


FLAGGED = """\
name: flagged
data: {units: players.csv, account: user, arm: arm}
arms: {control: control, treatment: early}
metrics:
  north_star: {name: y, kind: mean, column: y, better: higher, unit: points, covariates: [before]}
"""


@pytest.fixture
def flagged(tmp_path):
    """Write a table in which the logs of both arms hold who came to the point where the arms part."""
    rng = np.random.default_rng(8)
    frame = rows(6_000, seed=8).assign(user=lambda f: "u" + f.index.astype(str))
    frame["would"] = (rng.random(len(frame)) < 0.4).astype(float)
    early = frame["arm"] == "early"
    frame["seen"] = frame["would"] * early
    frame["y"] += frame["seen"]
    frame["differs"] = np.where(early, frame["would"], (rng.random(len(frame)) < 0.3).astype(float))
    frame["nobody"] = 0.0
    frame.to_csv(tmp_path / "players.csv", index=False)
    (tmp_path / "flagged.yaml").write_text(FLAGGED)
    return frame, study.open(launch.load(tmp_path / "flagged.yaml"))


def test_four_readings_side_by_side(flagged):
    frame, data = flagged
    y, flag = data.launch.plan[0].metric, {n: metric(n, "proportion") for n in ("taken", "seen", "would", "differs")}
    found = causal.readings(data, y, taken=flag["taken"], seen=flag["seen"], trigger=flag["would"])
    assigned, exposed, part, fallacy = (r.answer for r in found)
    sharp = metric("y", covariates=["before"])
    asked = ASSIGNED | {"days": 28, "pre_days": 28}

    def plain(part, what=sharp):
        names, _ = inference.needed(what, adjust=bool(what.covariates))
        m = moments.from_rows(part, columns=names, by=["arm"])
        return inference.compare(m, what, **asked, adjust=bool(what.covariates), small_groups=True)[0]

    for got, want in (
        (assigned, plain(frame)),
        (exposed, plain(frame[frame["would"] > 0])),
        (fallacy, plain(frame[(frame["arm"] == "control") | (frame["taken"] > 0)], Y)),
    ):
        assert (got.diff, got.low, got.high) == pytest.approx((want.diff, want.low, want.high), rel=1e-8)
    want = complier(frame, sharp)
    assert (part.diff, part.low, part.high) == pytest.approx((want.diff, want.low, want.high), rel=1e-8)
    assert exposed.se < assigned.se / 0.4  # sharper for the exposed than the whole effect divided by their share
    shown = causal.readings(data, y, taken=flag["taken"], seen=flag["seen"])[1].answer
    assert shown.diff == pytest.approx(assigned.diff / frame.groupby("arm")["seen"].mean()["early"], rel=1e-8)
    table = causal.table(found)
    assert list(table["comparison"]) == ["assigned", "exposed", "took part", "fallacy: watchers against control"]
    assert table["diff"].notna().all()
    assert "No effect" not in " ".join(table["words"])
    assert "no effect of anything" in table["words"].iloc[-1]


@pytest.mark.parametrize("policy", ["zero", "drop"])
def test_missing_values_are_treated_as_the_launch_says(flagged, tmp_path, policy):
    frame, _ = flagged
    frame.loc[::50, "y"], frame.loc[7::300, "seen"] = np.nan, np.nan
    frame.to_csv(tmp_path / "players.csv", index=False)
    (tmp_path / "gaps.yaml").write_text(FLAGGED.replace("arm: arm}", f"arm: arm, missing: {policy}}}"))
    data = study.open(launch.load(tmp_path / "gaps.yaml"))
    sharp, taken, seen = metric("y", covariates=["before"]), metric("taken", "proportion"), metric("seen", "proportion")
    found = causal.readings(data, data.launch.plan[0].metric, taken=taken, seen=seen)
    treated = frame.fillna(0.0) if policy == "zero" else frame.dropna()  # by pandas
    want = complier(treated, sharp)
    assert (found[2].answer.diff, found[2].answer.low) == pytest.approx((want.diff, want.low), rel=1e-8)
    assert not isinstance(found[1].answer, NotEstimable)


def test_a_trigger_that_the_assignment_moves_or_control_does_not_log_is_refused(flagged):
    _, data = flagged
    y, flag = data.launch.plan[0].metric, {n: metric(n, "proportion") for n in ("taken", "seen", "differs")}
    for trigger, words in (("differs", "are not alike"), ("seen", "do not hold who would have been exposed")):
        found = causal.readings(data, y, taken=flag["taken"], seen=flag["seen"], trigger=flag[trigger])
        assert isinstance(found[1].answer, NotEstimable)
        assert words in found[1].words
        assert np.isnan(causal.table(found)["diff"].iloc[1])
    found = causal.readings(data, y)  # event tables are what "show_start_rate" needs
    assert [isinstance(r.answer, NotEstimable) for r in found] == [False, True, True, True]
    with pytest.raises(ParameterError, match="y is a mean; it must be a proportion"):
        causal.readings(data, y, taken=metric("y"))


def test_what_cannot_be_read_says_so_and_leaves_the_rest(flagged):
    _, data = flagged
    y, taken = data.launch.plan[0].metric, metric("taken", "proportion")
    broken = Check(name="Arm counts", passed=False, detail="")
    for what, checks, words in (
        (metrics.get("hours_per_account_week"), [], "it needs the event table"),
        (metrics.get("play_delay_ms_p95"), [], "it needs the event table"),
        (replace(y, kind="quantile", quantile=0.5), [], "a quantile is no mean over accounts"),
        (y, [broken], "the check 'Arm counts' failed"),
    ):
        found = causal.readings(data, what, taken=taken, seen=taken, checks=checks)
        assert all(isinstance(r.answer, NotEstimable) and words in r.words for r in found)
        assert causal.table(found)[["diff", "low", "high"]].isna().all(axis=None)
    nobody = replace(taken, numerator=replace(taken.numerator, column="nobody"))
    found = causal.readings(data, y, taken=nobody, seen=taken)
    assert [isinstance(r.answer, NotEstimable) for r in found] == [False, False, True, True]
    assert "nobody took part in either arm" in found[2].words
    assert "nobody in early took part" in found[3].words


def test_a_simulated_launch_shows_the_planted_effects_and_the_fallacy_misses(tmp_path):
    """Only starters of the show watch more: planted hours over planted starters are the effect on those who start."""
    text = (cli.NOTEBOOKS.parent / "launches" / "show_premiere.yaml").read_text()
    text = text.replace("accounts: 400_000", "accounts: 40_000").replace("control: 30_000", "control: 3_000")
    text = text.replace("early_access: 10_000", "early_access: 3_000")
    path = tmp_path / "show.yaml"
    path.write_text(text.replace("  alpha:", "  poststratify: [device, tenur]\n  alpha:"))
    with pytest.raises(DataError, match="post-stratum 'tenur' is not a column of 'accounts'; did you mean 'tenure'"):
        causal.readings(study.open(launch.load(path)), metrics.get("hours_per_account_week"))
    path.write_text(text.replace("  alpha:", "  poststratify: [device, tenure]\n  alpha:"))
    data = study.open(launch.load(path))
    truth = data.reveal().query("segment == 'all' and week == 0").set_index("metric")["diff"]
    star = data.launch.plan[0].metric
    found = causal.readings(data, star)
    assigned, exposed, part, fallacy = (r.answer for r in found)
    planted = truth[star.name]
    assert assigned.method.endswith("within strata, post-stratified by device and tenure")
    for got, want in (
        (assigned, planted),
        (exposed, planted / truth["show_reach"]),
        (part, planted / truth["show_start_rate"]),
    ):
        assert abs(got.diff - want) < 4 * got.se
    assert part.uptake == pytest.approx(truth["show_start_rate"], abs=0.03)
    beside = causal.planted(found, truth).set_index("comparison")
    want = [planted, planted / truth["show_reach"], planted / truth["show_start_rate"]]
    assert list(beside.index) == ["assigned", "exposed", "took part"]  # the fallacy has no truth
    assert beside["truth"].tolist() == pytest.approx(want, rel=1e-12)
    assert causal.planted(found, {}).empty
    assert fallacy.low > planted / truth["show_start_rate"]  # the keen start, and watch more anyway

    hours = causal.displaced(data)
    show, others, net, each = (r.answer for r in hours)
    beside = causal.planted(hours, truth)
    assert show.low > 0
    assert all(abs(r.answer.diff - t) < 4 * r.answer.se for r, t in zip(hours, beside["truth"], strict=True))
    assert beside["truth"].tolist()[-1] == pytest.approx(0.25, abs=0.03)  # planted: Show.incremental
    assert each.diff == pytest.approx(net.diff / show.diff, rel=1e-9)
    assert net.diff - show.diff == pytest.approx(others.diff, abs=others.se)  # each is adjusted by its own past
    failed = [Check(name="Arm counts", passed=False, detail="")]
    assert {type(r.answer) for r in causal.displaced(data, checks=failed)} == {NotEstimable}


def test_the_planted_net_hours_of_a_title_are_recovered_where_there_are_accounts_enough():
    """A quarter of its hours is planted as extra; benchmarks/net_hours.py tells what each size can tell."""
    pool = simulate.pool(simulate.Simulation(scenario="show_premiere", accounts=30_000, seed=3), what="title")
    change = dict(zip(pool.columns, (pool.treatment - pool.control).astype(float).mean(axis=0), strict=True))
    truth = change["hours"] / change["title_hours"]
    assert truth == pytest.approx(0.25, abs=0.03)  # planted: Show.incremental
    net, title = metric("hours", covariates=["hours_before"]), metric("title_hours")
    rng = np.random.default_rng(20261128)

    def launches(n, replicates):
        asked = {"columns": pool.columns, "n": n, "replicates": replicates, "rng": rng}
        read = moments.from_draws(pool.control, arm="c", **asked) + moments.from_draws(pool.treatment, arm="t", **asked)
        return causal.complier(read, net, title, control="c", treatment="t", days=28, adjust=True)

    many = launches(20_000, 400)
    share = np.mean([e.low <= truth <= e.high for e in many])
    low, high = stats.binom.ppf([0.0005, 0.9995], 400, 0.95) / 400
    assert low <= share <= high
    (large,) = launches(1_000_000, 1)
    assert 0.1 < large.low < truth < large.high < 0.4


def test_nothing_is_laid_to_a_title_that_nobody_watched(tmp_path):
    rng, start = np.random.default_rng(1), pd.Timestamp("2026-09-07", tz="UTC")
    arm = np.where(np.arange(200) % 2 == 0, "early", "control")
    plays = pd.DataFrame({"account": rng.integers(0, 200, 2_000), "title": "other", "watch_minutes": 30.0})
    plays["session"], plays["started_at"] = (
        np.arange(2_000),
        start + pd.to_timedelta(rng.uniform(0, 7, 2_000), unit="D"),
    )
    titles = pd.DataFrame({"title": ["other", "new"], "is_launch_title": [False, True]})
    (tmp_path / "tables").mkdir()
    for name, rows in {"assignments": pd.DataFrame({"account": np.arange(200), "arm": arm}), "plays": plays, "titles": titles}.items():  # fmt: skip
        rows.to_parquet(tmp_path / "tables" / f"{name}.parquet")
    (tmp_path / "hand.yaml").write_text(
        "name: hand\ndata: {source: tables}\narms: {control: control, treatment: early}\n"
        "dates: {start: 2026-09-07, days: 7, pre_days: 0}\nmetrics: {north_star: other_hours_per_account}\n",
        encoding="utf-8",
    )
    title, others, net, _ = causal.displaced(study.open(launch.load(tmp_path / "hand.yaml")))
    assert isinstance(title.answer, NotEstimable)
    for reading in (others, net):  # "is what the title displaced", "is what the title added", was said of these
        assert reading.words.endswith("No hours of the title are told beside them, so that this is not laid to it.")
