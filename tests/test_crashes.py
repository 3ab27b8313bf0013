"""Crashes by device and app version: counted as by hand, and with intervals that hold where crashes are rare."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.stats.proportion import confint_proportions_2indep

from helpers import crashes, launch, study
from helpers.results import Check

START = pd.Timestamp("2026-09-07", tz="UTC")
LAUNCH = """\
name: app
data: {source: tables}
arms: {control: control, treatment: early}
dates: {start: 2026-09-07, days: 7, pre_days: 7}
metrics: {north_star: hours_per_account_week}
"""


@pytest.fixture
def opened(tmp_path):
    """Write 3,000 accounts with about five sessions each, half of them before the launch; give study and sessions."""

    def write(*dropped, chance=None):
        rng, n = np.random.default_rng(4), 3_000
        (tmp_path / "tables").mkdir(exist_ok=True)
        accounts = pd.DataFrame({"account": np.arange(n), "arm": np.where(np.arange(n) % 2, "early", "control")})
        if chance is not None:
            accounts["inclusion_probability"] = chance(np.arange(n))
        s = pd.DataFrame({"account": rng.integers(0, n, 5 * n), "session": np.arange(5 * n)})
        s["started_at"] = START + pd.to_timedelta(rng.uniform(-7, 6.9, len(s)), unit="D")
        s["device"] = rng.choice(["tv", "phone", None], len(s), p=[0.7, 0.2, 0.1])
        s["app_version"] = np.where(s["started_at"] < START + pd.Timedelta(days=3), "9.1", "9.2")
        bad = (s["account"] % 2 == 1) & (s["app_version"] == "9.2") & (s["device"] == "phone")
        s["crashed"] = rng.random(len(s)) < np.where(bad, 0.2, 0.01)
        s["seconds_to_first_play"] = 60.0
        plays = s[["account", "session", "started_at"]].assign(title="x", watch_minutes=9.0)
        titles = pd.DataFrame({"title": ["x"], "is_launch_title": [False]})
        s = s.drop(columns=list(dropped))
        for name, table in {"assignments": accounts, "sessions": s, "plays": plays, "titles": titles}.items():
            table.to_parquet(tmp_path / "tables" / f"{name}.parquet")
        (tmp_path / "app.yaml").write_text(LAUNCH)
        return study.open(launch.load(tmp_path / "app.yaml")), s[s["started_at"] >= START]

    return write


def test_crashes_are_split_by_device_and_version_and_counted_as_by_hand(opened):
    data, sessions = opened()
    got = crashes.split(data).set_index(["by", "where", "per"])
    by_hand = {("everything", "all sessions"): sessions}
    by_hand |= {("device", d): sessions[sessions["device"] == d] for d in ("tv", "phone")}
    by_hand |= {("app_version", v): sessions[sessions["app_version"] == v] for v in ("9.1", "9.2")}
    assert list(dict.fromkeys(key[:2] for key in got.index)) == [
        ("everything", "all sessions"), ("device", "tv"), ("device", "phone"), ("app_version", "9.1"), ("app_version", "9.2"),
    ]  # fmt: skip
    for key, rows in by_hand.items():
        for arm, name in enumerate(("control", "treatment")):
            mine = rows[rows["account"] % 2 == arm]
            assert got.loc[(*key, "session"), name] == pytest.approx(mine["crashed"].mean())
            ever = mine[mine["crashed"]]["account"].nunique() / 1_500
            assert got.loc[(*key, "account"), name] == pytest.approx(ever)
        assert got.loc[(*key, "session"), ["n", "crashed"]].tolist() == [len(rows), rows["crashed"].sum()]
    # Where each session is nearly an account of its own, the interval is Newcombe's over sessions.
    row, tv = got.loc[("device", "tv", "session")], by_hand["device", "tv"]
    n, x = (tv.groupby(tv["account"] % 2)["crashed"].agg(how) for how in ("size", "sum"))
    low, high = confint_proportions_2indep(x[1], n[1], x[0], n[0], method="newcomb")
    assert (row["low"], row["high"]) == pytest.approx((low, high), rel=0.05)
    assert got.loc[("device", "phone", "session"), "low"] > 0 < got.loc[("app_version", "9.2", "account"), "low"]


def test_shares_are_those_of_the_population_where_accounts_were_drawn_unequally(opened):
    data, sessions = opened(chance=lambda i: np.where(i % 6 < 2, 0.5, 0.1))
    got = crashes.split(data).set_index(["by", "where", "per"])
    w, arm = 1 / np.where(np.arange(3_000) % 6 < 2, 0.5, 0.1), np.arange(3_000) % 2
    phone = sessions[sessions["device"] == "phone"]
    total, bad = (
        rows.groupby("account").size().reindex(range(3_000), fill_value=0).to_numpy()
        for rows in (phone, phone[phone["crashed"]])
    )
    for mine, name in ((arm == 0, "control"), (arm == 1, "treatment")):
        share = np.average(bad[mine] / np.maximum(total[mine], 1), weights=w[mine] * total[mine])
        assert got.loc[("device", "phone", "session"), name] == pytest.approx(share)
        ever = np.average(bad[mine] > 0, weights=w[mine])
        assert got.loc[("device", "phone", "account"), name] == pytest.approx(ever)
    assert got.loc[("device", "phone", "session"), ["n", "crashed"]].tolist() == [total.sum(), bad.sum()]
    # The errors are those of weighted least squares with robust (HC1) errors: for a share, of 0 and 1 on the arm; for
    # one of sessions, of an account's share, weighted by its sessions. With 100 crashes the score interval is close.
    for per, y, weight in (("account", bad > 0, w), ("session", bad / np.maximum(total, 1), w * total)):
        fit = sm.WLS(y.astype(float), sm.add_constant(arm), weights=weight).fit(cov_type="HC1")
        row = got.loc[("device", "phone", per)]
        assert row["change"] == pytest.approx(fit.params[1])
        assert (row["high"] - row["low"]) / (2 * 1.96) == pytest.approx(fit.bse[1], rel=0.03)


def test_equal_weights_change_nothing(opened):
    plain, equal = (crashes.split(opened(chance=chance)[0]) for chance in (None, lambda i: np.full(len(i), 0.2)))
    sessions = plain["per"] == "session"
    pd.testing.assert_frame_equal(plain[sessions], equal[sessions])
    pd.testing.assert_frame_equal(plain, equal, rtol=5e-3)  # of accounts: an error over n - 1, not n


def test_what_the_data_lack_is_said(opened):
    data, _ = opened("app_version", "device")
    assert crashes.split(data)["where"].tolist() == ["all sessions"] * 2 + ["not in the data"] * 2
    data, _ = opened("crashed")
    assert crashes.split(data)["where"].item().startswith("not shown: the data have no column 'crashed'")
    failed = [Check(name="Arm counts", passed=False, detail="")]
    said = crashes.split(data, checks=failed)["where"].item()
    assert said == "not shown, because the check 'Arm counts' failed"
    failed = Check(name="Arm counts", passed=False, detail="")
    assert "because the check 'Arm counts' failed" in crashes.split(opened()[0], checks=[failed])["where"].item()


def test_the_interval_holds_at_one_crash_in_two_thousand_sessions_that_go_together():
    """4,000 launches of 2 × 1,500 accounts, 20 sessions each, 0.05 %: 15 crashes in an arm, often fewer than 10.

    The chance of a crash varies between accounts like a beta of shape 0.5, so that crashes of an account come together.
    """
    rng, n, each, rate, launches = np.random.default_rng(12), 1_500, 20, 0.0005, 4_000
    covered = []
    for _ in range(launches):
        x = rng.binomial(each, rng.beta(0.5, 0.5 / rate - 0.5, (2, n)))
        share, sessions = x.mean(axis=1) / each, np.full(2, float(n * each))
        variance = x.var(axis=1, ddof=1) / each**2 / n
        low, high = crashes.difference(share, sessions=sessions, accounts=np.full(2, float(n)), variance=variance)
        covered.append(low <= 0 <= high)
    assert 0.95 - 3 * np.sqrt(0.05 * 0.95 / launches) <= np.mean(covered) <= 0.98
