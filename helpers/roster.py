"""The roster: which accounts take part, whether they are those that the launch draws, and how alike they are."""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import pandas as pd
from ibis import _

from helpers import assignment, sampling, schema, units
from helpers.errors import PremiereError
from helpers.metrics import UNITS_TABLE
from helpers.results import Check
from helpers.study import Study

PAST = "past_weekly_hours"  # the frame's number that is closest to the outcome
_SMALL_FRAME, _SMALL_DRAW = 2_000, 500  # accounts that redraws are tried on, and at least drawn each time


def frame(data: Study) -> ibis.Table:
    """Open the population: the accounts that could have been drawn; on an own table, those that are there."""
    if "accounts" not in data.tables:
        return data.everyone.mutate(account=_.account.cast("string"))
    accounts = data.tables["accounts"]
    chosen = assignment.eligible(data.launch, accounts) if data.launch.sampling else accounts
    return chosen.mutate(account=_.account.cast("string"))


def assigned(data: Study) -> ibis.Table:
    """Open account, arm and, where the data say it, inclusion probability of the accounts in the launch's arms."""
    rows = data.assignments
    known = ["inclusion_probability"] if "inclusion_probability" in rows.columns else []
    return rows.select("arm", *known, account=_.account.cast("string"))


def attributes(data: Study) -> list[str]:
    """List what arms and population can be compared in: strata, segments, and numbers from before the launch."""
    launch, there = data.launch, frame(data).columns
    before = [m.column for p in launch.plan for m in units.covariates(data, p.metric) if m.table == UNITS_TABLE]
    wanted = [*(launch.sampling.strata if launch.sampling else ()), *launch.segments, PAST, *before]
    return [str(a) for a in dict.fromkeys(wanted) if a in there]


def funnel(data: Study) -> pd.DataFrame:
    """Count whom each rule of eligibility takes out, in its order; then who shares a household, and who is held out."""
    columns = ["rule", "excluded", "left"]
    launch = data.launch
    if not _has_frame(data):
        return pd.DataFrame(columns=columns)
    accounts = data.tables["accounts"]
    table = sampling.funnel(accounts, assignment.exclusions(launch, accounts))
    home, held = assignment.household(launch, accounts), assignment.wanted(launch).holdout
    steps = {"shares a household with one that stands for it": 0.0} if home else {}
    steps |= {"held out": held} if held else {}
    rows = [table]
    for step, holdout in steps.items():
        left = sampling.drawable(
            assignment.eligible(launch, accounts),
            salt=assignment.chosen_salt(launch, accounts),
            household=home,
            holdout=holdout,
        )
        before = int(rows[-1]["left"].iloc[-1])
        rows.append(pd.DataFrame({"rule": [step], "excluded": [before - left], "left": [left]}))
    return pd.concat(rows, ignore_index=True)


def _has_frame(data: Study) -> bool:
    return data.launch.sampling is not None and "accounts" in data.tables


def why_no_redraw(data: Study) -> str:
    """Say why the launch's draw cannot be made from these data; empty when it can."""
    if not _has_frame(data):
        lacking = "launch has no 'sampling'" if data.launch.sampling is None else "data hold no population frame"
        return f"The {lacking}, so the draw cannot be repeated."
    try:
        assignment.plan(data.launch, data.tables["accounts"])
    except PremiereError as error:
        return f"The launch's draw cannot be made from these data: {error}."
    return ""


def verify(data: Study) -> Check:
    """Draw again from the frame and compare with the assignments, account by account."""
    name = "The draw repeats"
    if why_not := why_no_redraw(data):
        return Check(name=name, passed=None, detail=why_not)
    again = assignment.draw(data.launch, data.tables["accounts"]).select("account", redrawn="arm")
    both = assigned(data).outer_join(ibis.memtable(again.execute()), "account")
    differ = int(both.filter((_.arm != _.redrawn).fill_null(True)).count().execute())
    if differ:
        detail = f"{differ:,} accounts are not in the arm that the launch's own draw gives them; ask who assigned them."
        return Check(name=name, passed=False, detail=detail)
    n = int(assigned(data).count().execute())
    return Check(
        name=name, passed=True, detail=f"Drawing again from the frame gives the same {n:,} accounts in the same arms."
    )


def summary(data: Study) -> pd.DataFrame:
    """Count each arm's accounts and strata, what they count for once weighted, and the range of the weights."""
    rows = data.assignments
    asked = {"accounts": _.count()}
    if "stratum" in rows.columns:
        asked["strata"] = _.stratum.nunique()
    if weighted := "inclusion_probability" in rows.columns:
        rows = rows.mutate(weight=1 / _.inclusion_probability)
        asked |= {"stand for": _.weight.sum(), "lightest": _.weight.min(), "heaviest": _.weight.max()}
        asked["effective"] = _.weight.sum() ** 2 / (_.weight**2).sum()
    table: pd.DataFrame = rows.aggregate(by="arm", **asked).order_by("arm").execute()
    if weighted:
        table["design effect"] = (table["accounts"] / table["effective"]).round(3)
        table[["stand for", "effective"]] = table[["stand for", "effective"]].round().astype(int)
    return table


def quotas(data: Study) -> pd.DataFrame:
    """List every stratum with its accounts, and how many of them each arm gets; empty where nothing can be drawn."""
    if why_no_redraw(data):
        return pd.DataFrame(columns=["stratum", "accounts"])
    cuts = assignment.plan(data.launch, data.tables["accounts"]).cuts
    wide = (
        cuts.pivot_table(index=["stratum", "size"], columns="arm", values="n", aggfunc="sum")
        .reset_index()
        .rename_axis(columns=None)
    )
    return wide.rename(columns={"size": "accounts"}).sort_values("accounts", ascending=False, ignore_index=True)


def control(data: Study) -> str:
    """Say how the control came about, in words that these data bear out."""
    launch = data.launch
    if launch.sampling is None or "accounts" not in data.tables:
        return "How the control was chosen is not in these data; the comparison below shows how alike it is."
    if launch.sampling.match is None:
        later = ", ".join(f"{n:,} for {arm}" for arm, n in launch.sampling.later.items())
        return "The control is random: it was drawn by the same rule as the treatment, and no account is in both." + (
            f" Set aside for later stages: {later}." if later else ""
        )
    try:
        return assignment.matched(launch, data.tables["accounts"]).words
    except PremiereError as error:
        return f"A matched control was asked for, and none could be made: {error}."


def control_sizes(data: Study, *, sizes: Sequence[int] = (10_000, 20_000, 30_000, 50_000, 100_000)) -> pd.DataFrame:
    """Say what a larger control is worth: the error of a difference against a control as large as the treatment."""
    treated = int(data.assignments.filter(_.arm == data.launch.arms.treatment[0]).count().execute())
    own = int(data.assignments.filter(_.arm == data.launch.arms.control).count().execute())
    asked = sorted({*sizes, treated, own} - {0}) if treated else []
    rows = [{"control": n, "standard error ×": round(sampling.control_gain(treated, n), 3)} for n in asked]
    return pd.DataFrame(rows, columns=["control", "standard error ×"])


def past(data: Study, *, points: int = 101) -> pd.DataFrame:
    """Describe what population and arms watched before, by quantiles; empty where the frame has no such number."""
    accounts = frame(data)
    if PAST not in accounts.columns:
        return pd.DataFrame(
            {"arm": pd.Series(dtype=str), "share": pd.Series(dtype=float), "value": pd.Series(dtype=float)}
        )
    population = accounts.select(arm=ibis.literal("population"), value=accounts[PAST].cast("float64"))
    drawn = assigned(data).join(accounts.select("account", PAST), "account")
    arms = drawn.select("arm", value=drawn[PAST].cast("float64"))
    return units.distribution(population.union(arms), "value", points=points)


def chance(data: Study, attributes: Sequence[str]) -> Check:
    """Test all attributes of each arm together against the population, within strata where the draw had some."""
    arms = assigned(data).select("account", "arm")
    if why_no_redraw(data):
        whole = "the population" if "accounts" in data.tables else "the accounts at hand"
        return sampling.by_chance(sampling.joint(frame(data), arms, attributes), whole=whole)
    plan = assignment.plan(data.launch, data.tables["accounts"])
    free = [a for a in attributes if a not in plan.columns]  # the strata hold the others where they are
    return sampling.by_chance(sampling.joint(frame(data), arms, free, strata=plan.strata))


def before(data: Study) -> tuple[pd.DataFrame, Check]:
    """Compare the arms, with all of them together, in what the metrics were before the launch, one by one and jointly.

    The first is empty and the second not passed where the data have no past.
    """
    name = "Alike before the launch"
    found: dict[str, str] = {}
    for p in data.launch.plan:
        measures = units.covariates(data, p.metric) if units.why_not(data, p.metric) is None else ()
        for i, m in enumerate(measures):
            part = ("", " (above)", " (below)")[(i + 1) * (len(measures) > 1)]
            found.setdefault(units.Cell(m, "pre", None).name, f"{p.metric.title}{part}")
    if not found:
        detail = "The data hold nothing from before the launch that its metrics measure."
        return sampling.balance(frame(data), assigned(data), []), Check(name=name, passed=None, detail=detail)
    table = units.load(data)
    read = table.select(account=table.account.cast("string"), **{t: table[c].cast("float64") for c, t in found.items()})
    arms = assigned(data).select("account", "arm")
    strata = None
    if "stratum" in data.assignments.columns:
        strata = data.assignments.select("stratum", account=_.account.cast("string"))
        strata = strata.mutate(stratum=_.stratum.fill_null(schema.UNKNOWN))
    names = list(found.values())
    tests = sampling.joint(read, arms, names, strata=strata)
    return sampling.balance(read, arms, names), sampling.by_chance(tests, name=name, whole="the accounts of all arms")


def second_draw(data: Study, *, salt: str, attributes: Sequence[str]) -> pd.DataFrame:
    """Compare the launch's draw with one of another salt: accounts shared, and the largest imbalance of each."""
    if why_no_redraw(data):
        return pd.DataFrame(columns=["draw", "accounts", "shared", "by chance", "largest difference"])
    accounts, own = frame(data), assigned(data)
    other = ibis.memtable(assignment.draw(data.launch, data.tables["accounts"], salt=salt).execute())
    shared = int(own.join(other, "account").count().execute())
    n, population = int(own.count().execute()), int(accounts.count().execute())
    rows = []
    for name, drawn in (("the launch's", own), (f"salt {salt!r}", other)):
        gap = sampling.balance(accounts, drawn, attributes)["std_diff"].abs().max()
        rows.append(
            {
                "draw": name,
                "accounts": int(drawn.count().execute()),
                "shared": shared,
                "by chance": n * n // population,
                "largest difference": gap,
            }
        )
    return pd.DataFrame(rows)


def redraws(data: Study, *, times: int = 500) -> tuple[Check, pd.DataFrame]:
    """Draw again and again from two thousand accounts, without strata and as the launch does, and see what comes of it.

    The outcome is what they watched before. The table is empty, and the check not passed, where that or a frame lacks.
    """
    name, empty = "Chances are as stated", pd.DataFrame(columns=["design", "bias", "error", "stated", "covered"])
    if why_not := why_no_redraw(data):
        return Check(name=name, passed=None, detail=why_not), empty
    launch, accounts = data.launch, frame(data)
    if PAST not in accounts.columns:
        return Check(name=name, passed=None, detail=f"The frame has no {PAST}, so no mean could be drawn."), empty
    small = accounts.filter(~_[PAST].isnull()).order_by("account").limit(_SMALL_FRAME)
    outcome = small.select("account", y=small[PAST].cast("float64"))
    asked, arm = assignment.wanted(launch), launch.arms.treatment[0]
    n = {arm: max(_SMALL_DRAW, round(asked.n[arm] * _SMALL_FRAME / int(accounts.count().execute())))}
    designs = {"simple random": ([], sampling.Design()), "as planned": (asked.strata, assignment.design(launch))}
    found: dict[str, sampling.Repeats] = {}
    for label, (strata, how) in designs.items():
        try:
            settled = sampling.plan(small, n=n, strata=strata, design=how, salt="redraws")
        except PremiereError as error:
            detail = f"Two thousand accounts are too few for this design: {error}."
            return Check(name=name, passed=None, detail=detail), empty
        found[label] = sampling.repeat(settled, outcome, times=times, salt="redraws")
    planned = found["as planned"]
    detail = (
        f"In {times:,} redraws of {n[arm]:,} from {_SMALL_FRAME:,} accounts the total was "
        f"{'exact in every one' if planned.exact else 'not exact'}, and {planned.inside:.1%} of the accounts came as "
        "often as their probability says, within the limits that hold for 95%."
    )
    table = pd.concat([r.means.assign(design=label) for label, r in found.items()], ignore_index=True)
    check = Check(name=name, passed=planned.exact and planned.inside > 0.9, detail=detail)
    return check, table[list(empty)]


def recommended(data: Study, audience: str) -> sampling.Recommendation:
    """Choose the design that the launch's objective asks for, with the audience's share of the eligible accounts."""
    objective = data.launch.sampling.objective if data.launch.sampling else "population"
    n = int(data.assignments.filter(_.arm == data.launch.arms.treatment[0]).count().execute())
    accounts = frame(data)
    column, _sign, level = audience.partition("=")
    if column not in accounts.columns:
        return sampling.recommend(objective, n=n)
    mine = accounts[column].cast("string").fill_null(schema.UNKNOWN) == level
    share = float(accounts.aggregate(share=mine.cast("float64").mean()).execute()["share"][0] or 0)
    return sampling.recommend(objective, n=n, audience=audience, share=share if 0 < share < 1 else None)


def design(data: Study, audience: str) -> pd.DataFrame:
    """Lay the design that the objective asks for beside the launch's own, with the reason."""
    asked, advice = data.launch.sampling, recommended(data, audience)
    rows = {"Objective": (asked.objective if asked else "not stated, read as population").replace("_", " ")}
    rows |= {"Recommended": advice.name, "Why": advice.reason}
    if asked is None:
        return pd.DataFrame({"what": rows.keys(), "this launch": rows.values()})
    drawn = {"proportional": "in proportion", "neyman": f"Neyman, by {asked.past}", "equal": "equal shares"}[asked.rule]
    strata = f", within strata of {', '.join(asked.strata)}" if asked.strata else ", without strata"
    more = [f"{level} × {by:g}" for level, by in asked.factors.items()]
    more += [f"{n:,} accounts of {level} in every arm" for level, n in asked.numbers.items()]
    more += [f"at least {asked.minimum:,} in each stratum"] if asked.minimum else []
    rows["Planned"] = "; ".join([drawn + strata, *more])
    rows["Hold-out"] = f"{asked.holdout:.1%} of the households, for good" if asked.holdout else "none"
    if asked.salts > 1:
        rows["Chosen"] = (
            f"the best balanced of {asked.salts} draws, by {', '.join(asked.balance)}; ordinary intervals are then "
            "wider than they need be, never narrower (Morgan and Rubin 2012)"
        )
    return pd.DataFrame({"what": rows.keys(), "this launch": rows.values()})


def designs(data: Study, audience: str, *, factor: float = 5.0) -> pd.DataFrame:
    """Compare designs for a show made for an audience; empty where it is not in the frame, or nobody's past is."""
    empty = pd.DataFrame(columns=["design", "audience", "population_width", "audience_width", "n_eff"])
    accounts = frame(data)
    column, _sign, level = audience.partition("=")
    if column not in accounts.columns or PAST not in accounts.columns:
        return empty
    strata = [s for s in (data.launch.sampling.strata if data.launch.sampling else ()) if s in accounts.columns]
    by = list(dict.fromkeys([*strata, column]))
    rows = accounts.select(
        **{c: accounts[c].cast("string").fill_null(schema.UNKNOWN) for c in by}, past=accounts[PAST].cast("float64")
    ).filter(~_.past.isnull())
    cells = rows.aggregate(by=by, size=_.count(), mean=_.past.mean(), variance=_.past.var(how="pop")).execute()
    cells["audience"] = cells[column] == level
    n = int(data.assignments.filter(_.arm == data.launch.arms.treatment[0]).count().execute())
    cells = cells[cells["size"] * n >= 2 * cells["size"].sum()].reset_index(drop=True)
    if not cells["audience"].any() or cells["audience"].all() or n > cells["size"].sum():
        return empty
    return sampling.compare(cells, n, factor=factor)


def niche(table: pd.DataFrame, audience: str) -> str:
    """Say in a sentence what oversampling the audience would buy and cost."""
    if table.empty:
        return "The frame does not hold this audience or anybody's past, so designs for it cannot be compared."
    one, more = table.iloc[1], table.iloc[-1]
    narrower = 1 - more["audience_width"] / one["audience_width"]
    wider = more["population_width"] / one["population_width"] - 1
    return (
        f"{more['design'].capitalize()} would find {more['audience']:,.0f} accounts of {audience} instead of "
        f"{one['audience']:,.0f}: its interval would be {narrower:.0%} narrower, that of everybody {wider:.0%} wider, "
        f"with {more['n_eff']:,.0f} accounts in effect."
    )


def likeness(data: Study, balance: pd.DataFrame, chance: Check | None = None) -> Check:
    """Say in one sentence whether every arm looks like the population, or the accounts at hand, in every attribute.

    A difference beyond the limit that chance alone leaves to so few accounts, by the joint test, is neither a pass nor
    a failure: adjust for it.
    """
    whole = "population" if "accounts" in data.tables else "accounts at hand, all arms together"
    name = f"Like the {whole.partition(',')[0]}"
    known = balance[balance["std_diff"].notna()]
    if known.empty:
        return Check(
            name=name, passed=None, detail="The data hold no attributes, so nothing says whom these accounts stand for."
        )
    worst = known.iloc[int(known["std_diff"].abs().to_numpy().argmax())]
    level = "" if worst["level"] == "mean" else f" {worst['level']}"
    most = f"the largest difference is {abs(worst['std_diff']):.3f} ({worst['attribute']}{level}, arm {worst['arm']})"
    passed: bool | None = bool(abs(worst["std_diff"]) <= sampling.BALANCE_LIMIT)
    lead = (
        f"In every measured attribute the arms look like the {whole}" if passed else f"The arms differ from the {whole}"
    )
    tail = f"standardised, where {sampling.BALANCE_LIMIT} is the limit."
    if not passed and chance is not None and chance.passed:
        passed, tail = None, f"{tail[:-1]}; so few accounts differ as much by chance, so adjust for it."
    return Check(name=name, passed=passed, detail=f"{lead}: {most}, {tail}")
