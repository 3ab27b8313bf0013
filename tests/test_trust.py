"""Trust: what could keep a gain from coming back is asked once, in one place, and closed where a check failed."""

from dataclasses import replace

import numpy as np

from helpers import launch, scorecard, study, trust
from helpers.results import Check


def opened(path):
    data = study.open(launch.load(path))
    return data, scorecard.measure(data)


def test_an_own_table_is_asked_what_it_can_answer(players):
    data, card = opened(players[0])
    found = {c.name: c for c in trust.questions(data, card)}
    assert found["Novelty"].passed is None  # no times
    assert all(c.passed is not False for c in found.values())


def test_a_few_accounts_that_carry_the_gain_are_named(players):
    path, table = players
    heavy = np.zeros(len(table))
    heavy[np.flatnonzero(table["version"] == "new")[:12]] = 900.0
    table.assign(hours=table["hours"] + heavy).to_csv(path.parent / "players.csv", index=False)
    data, card = opened(path)
    carried = trust.carried(data, card)
    assert carried.passed is False
    assert "oncentrated" in carried.detail


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
    assert "no amount" in trust.carried(data, card).detail
