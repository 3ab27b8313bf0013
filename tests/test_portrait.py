"""The portrait of the simulated service: one offline page with its figures beside the published ones."""

import numpy as np
import pandas as pd
import pytest

from helpers import cli, portrait
from helpers.errors import ParameterError
from helpers.simulate import Simulation, anchors, observed, parameters


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("portrait") / "new" / "portrait.html"
    found = portrait.write(path, accounts=20_000)
    return path.read_text(encoding="utf-8"), found


def test_the_page_shows_every_figure_and_three_pictures(page):
    text, found = page
    assert len(found) == len(anchors.ANCHORS)
    assert text.count("<figure") == 3
    for row in found.itertuples():
        assert row.anchor in text
        assert row.source.split("'")[0] in text
    assert text.count('class="data"') == 3  # each with its numbers
    assert " src=" not in text
    assert "://" not in text.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    "nth", range(len(anchors.ANCHORS)), ids=[f"{a.about}: {a.name}, {a.stated}" for a in anchors.ANCHORS]
)
def test_every_anchor_holds(page, nth):
    """Within what the statement allows and four standard errors of this simulation, and nothing else."""
    found = page[1].iloc[nth]
    assert found["low"] <= found["high"]
    assert found["holds"], f"{found['anchor']}: stated {found['stated']}, realised {found['realised']:.5g}"


def test_a_service_that_is_not_like_that_is_found_out():
    """A service with a quarter more sessions, twice the churn and all starts in the first days."""
    wrong = Simulation(
        accounts=6_000,
        viewing=parameters.Viewing(sessions=9.4),
        churn=parameters.Churn(level=2.0),
        show=parameters.Show(start_weeks=(0.97, 0.01, 0.01, 0.01)),
    )
    missed = anchors.realised(observed.live(wrong)).query("~holds")["anchor"].tolist()
    assert {"hours per account and week", "accounts that cancel in 28 days", "starts in week 1"} <= set(missed)


def test_measures_agree_with_their_definitions():
    """Gini as mean absolute difference over twice the mean; tail index of a Pareto sample; analysis of variance."""
    rng = np.random.default_rng(1)
    hours = rng.gamma(1.0, 10.0, 2_000)
    frame = pd.DataFrame({"before_0": hours, "before_1": 0.0, "before_2": 0.0, "before_3": 0.0})
    lived = observed.Lived(accounts=frame, sessions=pd.DataFrame(), asked=pd.DataFrame())
    differences = np.abs(hours[:, None] - hours).mean()
    assert anchors.gini(lived) == pytest.approx(differences / (2 * hours.mean()), rel=1e-9)
    pareto = (1 - rng.random(200_000)) ** (-1 / 4)
    heavy = observed.Lived(
        accounts=frame.iloc[:1].loc[[0] * 200_000].assign(before_0=pareto), sessions=frame, asked=frame
    )
    assert anchors.hill(heavy) == pytest.approx(4, abs=0.3)
    minutes = [10 + rng.normal(0, 2) + rng.normal(0, 3, rng.integers(2, 9)) for _ in range(4_000)]
    groups = pd.DataFrame(
        {"visits": map(len, minutes), "minutes": map(sum, minutes), "squares": [(m**2).sum() for m in minutes]}
    )
    sessions = observed.Lived(accounts=groups, sessions=frame, asked=frame)
    assert anchors.intraclass(sessions) == pytest.approx(4 / 13, abs=0.03)


def test_values_are_written_like_the_statement():
    assert portrait._like("18 %", 0.18123) == "18.1 %"
    assert portrait._like("10.8", 10.8312) == "10.83"
    assert portrait._like("10.9 to 16", 10.8312) == "10.83"


def test_too_few_accounts_are_refused_and_nothing_is_written(tmp_path, capsys):
    with pytest.raises(ParameterError, match="accounts is 100, must be at least 20,000 for a portrait"):
        portrait.write(tmp_path / "p.html", accounts=100)
    assert cli.main(["portrait", "--accounts", "100", "--out", str(tmp_path / "p.html")]) == 2
    assert "must be at least 20,000" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("holds", "code"), [(True, 0), (False, 1)])
def test_the_command_says_which_figures_are_missed(tmp_path, capsys, monkeypatch, page, holds, code):
    found = page[1].assign(holds=True)
    found.loc[3, "holds"] = holds
    monkeypatch.setattr(portrait, "write", lambda *_, **__: found)
    assert cli.main(["portrait", "--out", str(tmp_path / "p.html")]) == code
    assert ("missed: " + found["anchor"][3] in capsys.readouterr().out) is not holds
