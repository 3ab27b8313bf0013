"""Trust: what could keep a gain from coming back is asked once, in one place, and closed where a check failed."""

from dataclasses import replace

import numpy as np

from helpers import decision, detectors, launch, scorecard, study, trust
from helpers.results import Check


def opened(path):
    data = study.open(launch.load(path))
    return data, scorecard.measure(data)


def test_an_own_table_is_asked_what_it_can_answer(players):
    data, card = opened(players[0])
    found = {c.name: c for c in trust.questions(data, card)}
    assert found["Novelty: Hours"].passed is None  # no times
    assert all(c.passed is not False for c in found.values())


def test_a_few_accounts_that_carry_the_gain_are_named(players):
    path, table = players
    heavy = np.zeros(len(table))
    heavy[np.flatnonzero(table["version"] == "new")[:12]] = 900.0
    table.assign(hours=table["hours"] + heavy).to_csv(path.parent / "players.csv", index=False)
    data, card = opened(path)
    carried = next(c for c in trust.carried(data, card) if c.name == "Concentration: Hours")
    assert carried.passed is False
    assert carried.detail.startswith("Hours: concentrated")
    caps = next(c for c in trust.questions(data, card) if c.name == "Choice of cap: Hours")
    assert caps.passed is False
    assert len(caps.detail) < 200  # so that a verdict can quote it


def test_a_failed_check_closes_the_questions(players):
    data, card = opened(players[0])
    broken = replace(card, checks=(Check(name="Arm counts", passed=False, detail="Lost."),))
    (only,) = trust.questions(data, broken)
    assert only.passed is None


def test_a_plan_without_amounts_is_not_asked_who_carries_it(players):
    path, _ = players
    text = path.read_text().replace("{name: hours, kind: mean, column: hours, better: higher, covariates: [history]}",
                                    "{name: kept, kind: proportion, column: kept, better: higher}")  # fmt: skip
    path.write_text("\n".join(line for line in text.splitlines() if "guardrails" not in line and "margin" not in line))
    data, card = opened(path)
    (carried,) = trust.carried(data, card)
    assert "no amount" in carried.detail


def test_each_gain_is_asked_and_not_the_north_star_in_its_place(players):
    path, table = players
    new = table["version"] == "new"
    visits = table["sessions"].to_numpy(float, copy=True)
    visits[np.flatnonzero(new)[:12]] += 900  # a handful; of sessions, everybody has one more
    table = table.assign(flat=table["history"] % 1, sessions=table["sessions"] + new, visits=visits, one=1.0)
    table.to_csv(path.parent / "players.csv", index=False)
    path.write_text("""\
name: gate
data: {units: players.csv, account: user, arm: version}
arms: {control: old, treatment: new}
metrics:
  north_star: {name: hours, kind: mean, column: flat, better: higher}
  supporting:
    - {name: broad, kind: mean, column: sessions, better: higher}
    - {name: narrow, kind: ratio, numerator: visits, denominator: one, better: higher}
""")
    data, card = opened(path)
    assert [c.metric for c in decision.won(card.claims)] == ["broad", "narrow"]
    found = {c.name: c.passed for c in trust.carried(data, card) if c.name.startswith("Concentration")}
    assert found == {"Concentration: Broad": True, "Concentration: Narrow": False}
    assert [c.name for c in trust.lasting(data, card)] == ["Novelty: Broad", "Novelty: Narrow"]


def test_what_informs_is_asked_too_and_decides_nothing(players):
    data, card = opened(players[0])
    found = trust.questions(data, card)
    names = {c.name for c in found}
    assert {"What is likely to be left of a win", "Ratios that moved by their denominator", "Looks and plans"} < names
    weighed = {*detectors.of_trust(found), *detectors.of_harm(found)}
    assert {c.name for c in set(found) - weighed} == set(detectors.INFORMING)
