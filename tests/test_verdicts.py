"""The same chapter 04 on launches of which it is known what was planted: sizes decide beforehand what it must say.

Levels and deviations are the planning numbers of the files under `launches/`, effects those that `scenarios` documents;
none is taken from the runs below.
"""

import itertools
import json
import math
import re
from datetime import UTC, datetime

import pytest
from scipy import stats

from helpers import cli, decision, launch, schema, scorecard, study
from helpers.results import Claim, Estimate, More

GUARDRAILS = "[{metric: browse_to_play, margin: -2%}, {metric: play_delay_ms, margin: +5%}]"
HOURS, PRESSED, DELAY = (10.7, 7.2), (0.78, 0.08), (2350, 390)  # level, and deviation between accounts
SHARE = {name: (p, math.sqrt(p * (1 - p))) for name, p in {"left": 0.02, "started": 0.31, "came": 0.98}.items()}
TICKETS, CRASHES = (0.015, 0.123), (0.0005, 0.0043)
LAUNCHES = {  # scenario: accounts of each arm, days before and after, metrics
    "show_premiere": (3_000, 28, """
      north_star: hours_per_account_week
      supporting: [{metric: show_start_rate, target: +25pp}]
      guardrails: [{metric: browse_to_play, margin: -2%}, {metric: intentional_start_share, margin: -3%}]"""),
    "homepage": (3_000, 28, """
      north_star: hours_per_account_week
      supporting: [{metric: discovery_rate, target: +15%}, {metric: browse_to_play, target: +8%}]
      guardrails: [{metric: churn_28d, margin: +20%}, {metric: tickets_per_account, margin: +30%},
                   {metric: crash_rate, margin: +50%}]"""),
    "hollow_engagement": (5_000, 28, f"""
      north_star: hours_per_account_week
      guardrails: {GUARDRAILS}
      satisfaction: [intentional_start_share, regret_rate]"""),
    "activation": (4_000, 28, f"""
      north_star: active_account_share
      supporting: [{{metric: hours_per_account_week, detect: +1%}}]
      guardrails: {GUARDRAILS}
      operational:
        - {{name: hours_per_active_day, kind: ratio, better: higher, covariates: [],
           numerator: {{table: plays, agg: sum, column: watch_minutes}}, denominator: {{table: sessions, agg: days}}}}"""),
    "srm": (15_000, 14, f"""
      north_star: hours_per_account_week
      guardrails: {GUARDRAILS}"""),
    "aa": (3_000, 14, f"""
      north_star: hours_per_account_week
      supporting: [opens_per_account_week, session_minutes]
      guardrails: {GUARDRAILS}"""),
    "bad_show": (1_500, 28, """
      north_star: {metric: hours_per_account_week, detect: +10%}
      supporting: [{metric: show_episode_8_rate, detect: +16pp}]"""),
}  # fmt: skip
PAGES = [scenario for scenario in LAUNCHES if scenario != "bad_show"]

EARLY = "aa_after_a_week"
SEEDS = {"homepage": 20261122}  # with that of the others, one draw in 2,300: twice the leavers in one arm by luck alone


def write(folder, scenario):
    n, days, metrics = LAUNCHES[scenario]
    path, seed = folder / f"{scenario}.yaml", SEEDS.get(scenario, 20261128)
    path.write_text(f"""\
    name: {scenario}
    data: {{source: simulate, scenario: {scenario}, accounts: {int(2.3 * n)}, seed: {seed}}}
    arms: {{control: before, treatment: after}}
    dates: {{start: 2026-09-07, days: {days}, pre_days: {days}}}
    sampling: {{n: {{before: {n}, after: {n}}}}}
    metrics:{metrics}
""")
    return str(path)


def until_a_look(folder, path):
    """Write the logs of a simulated launch as they stood after a week of two, and the launch that reads them."""
    simulated = study.open(launch.load(path))
    (folder / "logs").mkdir()
    for name, table in simulated.tables.items():
        times = [c.name for c in schema.table(name).columns if c.type == "time" and name != "assignments"]
        kept = table.filter(table[times[0]] < datetime(2026, 9, 14, tzinfo=UTC)) if times else table
        kept.to_parquet(folder / "logs" / f"{name}.parquet")
    text = re.sub(r"data: .*", "data: {source: logs}", (folder / "aa.yaml").read_text())
    text = text.replace("name: aa", f"name: {EARLY}") + "    decision: {looks: [7, 14]}\n"
    (folder / f"{EARLY}.yaml").write_text(text)
    return str(folder / f"{EARLY}.yaml")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Publish chapter 04 of every launch in one run; give what the page of each says, in words and as data."""
    folder = tmp_path_factory.mktemp("verdicts")
    paths = [write(folder, scenario) for scenario in PAGES]
    paths.append(until_a_look(folder, paths[PAGES.index("aa")]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(["report", *paths, "--only", "04", "--date", "2026-11-28", "--jobs", "2"]) == 0
    found = {}
    for scenario in (*PAGES, EARLY):
        page = folder / "reports" / "2026-11-28" / scenario / "04_analysis.html"
        text = re.sub(r"<style.*?</style>|<[^>]+>", " ", page.read_text(), flags=re.DOTALL)
        found[scenario] = json.loads(page.with_suffix(".json").read_text()), " ".join(text.split())
        found[f"{scenario} html"] = page.read_text()
    return found


def estimate(read, metric):
    return next(e for e in read["estimates"] if e["metric"] == metric)


def effects(html):
    """List what a page's tables hold where effects stand; the comparison before the launch, which has a p, is none."""
    for table in re.findall(r'<table class="dataframe">.*?</table>', html, flags=re.DOTALL):
        heads, cells = (re.findall(rf"<{tag}>(.*?)</{tag}>", table) for tag in ("th", "td"))
        if "p" not in heads:
            named = zip(itertools.cycle(heads), cells, strict=False)
            yield from (v for h, v in named if h in ("diff", "low", "high", "se", "mde", "change") and v != "–")


def chance(scenario, known, change, alpha=0.05):
    """Give the power of a two-sided test for a change in the unit of the level, or of ruling it out if it is not so."""
    se = known[1] * math.sqrt(2 / LAUNCHES[scenario][0])
    return stats.norm.cdf(change / se - stats.norm.isf(alpha / 2))


def test_the_launches_are_large_enough_for_what_they_must_show():
    holds = [chance("hollow_engagement", PRESSED, 0.02 * 0.78), chance("hollow_engagement", DELAY, 0.05 * 2350)]
    assert math.prod([chance("hollow_engagement", HOURS, 0.06 * 10.7), *holds]) > 0.98
    started = chance("show_premiere", SHARE["started"], 0.31 - 0.25)  # both arms' error, though control has none
    assert started * chance("show_premiere", PRESSED, 0.02 * 0.78) > 0.98
    # A quarter of the sleepers wake: 0.978 to 0.991 of accounts come at all (seed 1), hours rise by 1 %.
    assert chance("activation", SHARE["came"], 0.013, alpha=0.025) > 0.94
    assert chance("activation", HOURS, 0.01 * 10.7, alpha=0.025) < 0.1  # so that of hours nothing can be told
    # If the new home page does no harm, all three guardrails pass in one run of twenty: nothing else is read then.
    margins = ((SHARE["left"], 0.2 * 0.02), (TICKETS, 0.3 * 0.015), (CRASHES, 0.5 * 0.0005))
    assert math.prod(chance("homepage", known, margin) for known, margin in margins) < 0.06
    # Median of the comparables of `show_premiere`: 51 % of those who start finish; of a poor show at most 32 % (1899).
    median, poor = (SHARE["started"][0] * share for share in (0.51, 0.32))
    assert median == pytest.approx(0.16, abs=0.005)
    assert chance("bad_show", (poor, math.sqrt(poor * (1 - poor))), median - poor) > 0.99
    assert chance("bad_show", HOURS, 0.10 * 10.7) > 0.98  # to rule it out, should hours not move
    # Three per cent of an arm are lost, all of them from the heaviest third; some 20 slices share a threshold of 0.001.
    n, lost = LAUNCHES["srm"][0] / 3, 0.03 * LAUNCHES["srm"][0]
    assert stats.norm.sf(lost / math.sqrt(2 * n - lost)) * 2 < 0.001 / 20 / 5


def test_a_show_that_finds_its_audience_proceeds(pages):
    read, text = pages["show_premiere"]
    assert read["verdict"]["decision"] == "PROCEED"
    assert "Accounts that started the launch title" in read["verdict"]["sentence"]
    assert "Still open: Hours watched per account and week" in read["verdict"]["sentence"]
    assert "fallacy: watchers against control" in text
    assert "This is no effect of anything" in text


def test_a_home_page_with_too_few_accounts_is_held_until_harm_is_ruled_out(pages):
    read, text = pages["homepage"]
    assert read["verdict"]["decision"] == "HOLD"
    assert "harm beyond the margin cannot be ruled out yet" in read["verdict"]["sentence"]
    assert "nobody took part in either arm" in text  # a feature has no title that somebody could start


def test_more_hours_against_the_wish_are_held_and_called_by_their_name(pages):
    read, _ = pages["hollow_engagement"]
    assert read["verdict"]["decision"] in ("HOLD", "ROLL BACK")
    assert "Plays that somebody chose" in read["verdict"]["sentence"]
    assert "hollow engagement" in read["verdict"]["sentence"]
    assert estimate(read, "hours_per_account_week")["low"] > 0


def test_waking_sleepers_is_judged_by_all_accounts_and_not_by_the_active(pages):
    read, _ = pages["activation"]
    active = estimate(read, "hours_per_active_day")
    assert active["diff"] < 0
    assert read["verdict"]["decision"] == "PROCEED"
    assert "Accounts that came at all" in read["verdict"]["sentence"]
    assert "Still open: Hours watched per account and week" in read["verdict"]["sentence"]
    # What was planted in the hours, +1 %, takes 86,000 accounts an arm (half of 5 %, power 80 %): too many for a test. Of
    # the hours alone the same page makes a launch that waits, and says how many more would show it.
    hours, *guardrails = (as_claim(c) for c in read["claims"] if c["role"] in ("supporting", "guardrail"))
    waits = decision.decide([], [hours, *guardrails]).sentence
    assert waits.startswith("Hold: a gain is neither shown nor ruled out for Hours watched per account and week.")
    (more,) = re.findall("If it is as large as asked, about ([0-9,]+) more accounts in each arm", waits)
    needed = 2 * (stats.norm.isf(0.0125) + stats.norm.isf(0.2)) ** 2 * (HOURS[1] / (0.01 * HOURS[0])) ** 2
    assert needed / 2 < int(more.replace(",", "")) < 2 * needed  # what was found so far counts, for or against


def as_claim(values):
    """Read a claim of a page's JSON."""
    more = values["more"] and More(**values["more"])
    return Claim(**(values | {"estimate": Estimate(**values["estimate"]), "more": more}))


def test_lost_logs_are_invalid_and_show_no_effect(pages):
    read, text, html = *pages["srm"], pages["srm html"]
    assert read["verdict"]["decision"] == "INVALID"
    assert read["estimates"] == []
    assert "Not estimable: not shown, because the check 'Arm counts by slice' failed" in text
    assert "is established" not in text
    assert not re.findall(r"\([−+-]?[\d.,]+ ?%? to [−+-]?[\d.,]+", text)  # as every interval is written in a sentence
    assert not list(effects(html))
    assert list(effects(pages["aa html"]))
    assert sum(map(text.count, ("Nothing to draw", "Nothing to show", "Left out"))) >= 5


def test_a_launch_that_does_nothing_does_not_proceed(pages):
    read, _ = pages["aa"]  # by chance it would in at most 2.5 of 100: one more reason for a single seed
    assert read["verdict"]["decision"] not in ("PROCEED", "SHIP", "INVALID")


def test_a_launch_whose_logs_reach_its_first_look_is_read_there_and_told_to_go_on(pages):
    read, text = pages[EARLY]
    assert read["verdict"]["decision"] == "HOLD"  # a first look at half the information stops 3 in 1,000 sound launches
    go_on = "Hold: go on to the next look, after day 14. At look 1 of 2, after day 7, no bound is crossed."
    assert read["verdict"]["sentence"] == go_on
    assert "over 7 days from 2026-09-07, look 1 of 2." in text
    hours = estimate(read, "hours_per_account_week")
    bound = (hours["high"] - hours["diff"]) / hours["se"]
    planned = (
        2.963  # Lan and DeMets' bound in the manner of O'Brien and Fleming at half the information: R's rpact, asOF
    )
    assert bound == pytest.approx(planned, abs=0.002)
    assert "Day 7, look 1 of 2: go on; neither gain nor loss is established yet" in text


def test_a_show_that_is_not_liked_is_delayed_because_what_was_asked_is_ruled_out(tmp_path):
    """Without pages, which add nothing here. It is started as often as any; of other titles half finish."""
    plan = launch.load(write(tmp_path, "bad_show"))
    card = scorecard.measure(study.open(plan))
    verdict = decision.decide(card.checks, card.claims)
    assert verdict.decision == "DELAY/REWORK"
    titles = "Hours watched per account and week, Accounts that reached episode 8"
    assert verdict.sentence == f"Delay and rework: the gain that was asked for is ruled out for {titles}."
    hours, state, basis = decision.answer(verdict, card.claims, card.basis)
    assert hours.endswith("neither a gain nor a loss can be told from chance, and a gain of 10% is ruled out.")
    assert state == "Harm was not looked for, because the launch names no guardrail."
    assert basis.startswith("Measured on 1,500 accounts of after against 1,500 of before")


@pytest.mark.parametrize("scenario", PAGES)
def test_tables_name_metrics_by_their_titles(pages, scenario):
    read, text = pages[scenario]
    names = [a["metric"] for a in (*read["estimates"], *read["not_estimable"])]
    assert names
    assert not [n for n in names if re.search(rf"\b{n}\b", text) and n != "hours_per_active_day"]
