"""Who can use the launch: the able, the others and everybody, against the planted truth; what was not tested is said."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers import capability, decision, detectors, launch, metrics, scorecard, study, trust
from helpers.errors import DataError, LaunchError
from helpers.results import Estimate, NotEstimable

SIMULATED = """\
name: feature
data: {source: simulate, scenario: interactive_feature, accounts: 17_000, seed: 5}
arms: {control: old, treatment: new}
dates: {start: 2026-09-07, days: 14, pre_days: 14}
sampling: {n: {old: 8_000, new: 8_000}, exclude: []}
metrics: {north_star: hours_per_account_week}
frame: {recruited: random, needs: new_tv}
"""


def opened(folder, text):
    (folder / "feature.yaml").write_text(text)
    return study.open(launch.load(folder / "feature.yaml"))


@pytest.fixture
def written(tmp_path):
    """Write a table beside its launch file, and open it."""

    def write(table, frame="frame: {recruited: random, needs: fits}"):
        table.to_parquet(tmp_path / "feature.parquet")
        text = "name: feature\ndata: {units: feature.parquet}\narms: {control: old, treatment: new}\n"
        text += "metrics: {north_star: {name: hours, kind: mean, column: hours, better: higher}}\n"
        return opened(tmp_path, text + frame + "\n")

    return write


@pytest.fixture
def own(written):
    """Give a table in which the launch adds 2 for the able and takes 1 from the others; write it and measure."""
    rng = np.random.default_rng(8)
    n = 4_000
    able, arm = rng.random(n) < 0.3, rng.permutation(np.repeat(["old", "new"], n // 2))
    hours = rng.gamma(2, 2, n) + 3 * able + (arm == "new") * np.where(able, 2.0, -1.0) + 2
    table = pd.DataFrame({"account": np.arange(n), "arm": arm, "fits": able, "hours": hours})

    def read(table=table, **frame):
        data = written(table, **frame)
        return capability.measure(data, data.launch.plan[0].metric)

    return table, read


def test_the_effects_apart_are_those_of_the_accounts_apart(own):
    table, read = own
    found = read()
    assert found.share == pytest.approx(table["fits"].mean())
    for estimate, rows in (
        (found.able, table["fits"]),
        (found.unable, ~table["fits"]),
        (found.everybody, table["fits"] | True),
    ):
        by_arm = [table.loc[rows & (table["arm"] == arm), "hours"] for arm in ("new", "old")]
        expected = stats.ttest_ind(*by_arm, equal_var=False)
        assert estimate.diff == pytest.approx(by_arm[0].mean() - by_arm[1].mean(), rel=1e-9)
        assert [estimate.low, estimate.high] == pytest.approx(list(expected.confidence_interval()), rel=1e-9)
    assert found.able.low > 0 > found.unable.high  # as planted
    check = capability.check(found)
    assert check.passed is False  # whoever opens it to all takes one from seven of ten
    assert "they lose" in check.detail


def test_of_a_metric_that_the_data_lack_it_cannot_be_told(own, written):
    data = written(own[0])
    lacking = metrics.get("show_reach")
    found = capability.check(capability.measure(data, lacking))
    assert found.passed is None
    assert "nothing can be estimated: it needs the event table 'impressions'" in found.detail


def test_the_others_pass_only_where_enough_of_them_took_part_and_do_not_lose(own):
    table, read = own
    able = table["fits"] | (table["arm"] == "old")
    spared = table.assign(hours=table["hours"] + ~able * 1.0)  # what the launch takes from the others is given back
    check = capability.check(read(spared))
    assert check.passed
    assert "overstates it" in check.detail
    few = pd.concat([spared[spared["fits"]], spared[~spared["fits"]].groupby("arm").head(5)])
    check = capability.check(read(few))
    assert check.passed is None
    assert "too few of them took part (5 treated)" in check.detail
    fewer_is_better = replace(read(), better="lower")  # the others' -1 is a gain then
    assert capability.check(fewer_is_better).passed


def test_at_the_last_stage_a_launch_that_was_not_tried_on_the_others_waits(own, written):
    table, _ = own
    last = "decision: {stage: last}\nframe: {recruited: random, needs: fits}"
    spared = table.assign(hours=table["hours"] + (~table["fits"] & (table["arm"] == "new")))
    few = pd.concat([spared[spared["fits"]], spared[~spared["fits"]].groupby("arm").head(5)])
    for rows, frame, found in (
        (table[table["fits"]], last, "HOLD"),
        (few, last, "HOLD"),
        (spared, last, "SHIP"),
        (table[table["fits"]], last.replace("last", "early"), "PROCEED"),
    ):
        data = written(rows, frame)
        card, stage = scorecard.measure(data), data.launch.decision.stage
        weighed = detectors.of_trust(trust.usable(data, card))
        verdict = decision.decide(card.checks, card.claims, trust=weighed, last_stage=stage == "last")
        assert verdict.decision == found
        assert ("have fits" in verdict.sentence) is (found == "HOLD")


def test_where_nobody_without_it_took_part_a_test_on_them_is_asked_for(own):
    table, read = own
    found = read(table[table["fits"]])
    assert isinstance(found.unable, NotEstimable)
    check = capability.check(found)
    assert check.passed is False
    assert "Test on the others before everybody gets it" in check.detail
    assert capability.check(read(frame="")).passed is None


def test_a_flag_that_is_none_or_not_there_is_refused(own):
    table, read = own
    with pytest.raises(DataError, match="'fits' holds 'maybe'; a flag is true or false"):
        read(table.assign(fits=np.where(table["fits"], "true", "maybe")))
    with pytest.raises(DataError, match="has no column 'fit'; did you mean 'fits'"):
        read(frame="frame: {recruited: random, needs: fit}")
    with pytest.raises(LaunchError, match="needs"):
        read(frame="frame: {recruited: random, needs: ''}")


def test_the_planted_effect_is_that_of_new_sets_alone_and_to_quote_it_for_all_overstates(tmp_path):
    data = opened(tmp_path, SIMULATED)
    found = capability.measure(data, data.launch.plan[0].metric)
    known = data.reveal().query("metric == 'hours_per_account_week'")
    truth = dict(zip(known["segment"] + known["level"].str.lower(), known["diff"], strict=True))
    everybody = known.query("segment == 'all'")["diff"].item()
    for estimate, planted in ((found.able, truth["new_tvtrue"]), (found.everybody, everybody)):
        assert isinstance(estimate, Estimate)
        assert abs(estimate.diff - planted) < 4 * estimate.se
    assert truth["new_tvfalse"] == pytest.approx(0, abs=0.02)  # the launch changes nothing for the others
    assert truth["new_tvtrue"] > 2 * everybody
    assert 0.25 < found.share < 0.4
