"""The brief: what a launch asks and what its data can show, said before anybody looks at an effect."""

from __future__ import annotations

import ibis
import numpy as np
import pandas as pd
from ibis import _
from scipy import stats

from helpers import inference, prospect, scorecard, units
from helpers.launch.entry import Planned
from helpers.metrics import Condition, Measure
from helpers.power.design import arm_count_shift
from helpers.prospect import words
from helpers.report.readout import ROLES, percent
from helpers.results import Check
from helpers.study import Study


def facts(data: Study) -> pd.DataFrame:
    """Lay out what was asked, of whom, when and by whom, and what the plan does at each verdict."""
    launch, sizes, read = data.launch, _sizes(data), _read(data)
    rows = {
        "Launch": launch.title or launch.name,
        "Question": launch.question or "not stated",
        "Decided by": launch.decision_owner or "not stated",
        "Accounts": ", ".join(
            f"{arm} {n:,}" + (f" of {everyone:,}" if n < everyone else "")
            for (arm, everyone), n in zip(sizes.items(), read, strict=True)
        ),
        "Left out": _left_out(data),
        "Judged": _judged(data),
        "Window": f"{launch.days} days from {launch.dates.start}" if launch.dates else "one window, dates not stated",
        "Before": f"{launch.pre_days} days" if launch.pre_days else "no history in these data",
        "Error rates": f"{launch.decision.alpha}; {launch.decision.power:.0%} power",
        "Split": _noticed(data, sizes),
    }
    rows |= {f"Planned for {verdict}": text for verdict, text in launch.decision.actions.items()}
    return pd.DataFrame({"what": rows.keys(), "this launch": rows.values()})


def plan(data: Study) -> pd.DataFrame:
    """List every metric of the plan: role, formula, what was asked of it, and whether these data can measure it."""
    return pd.DataFrame(
        {
            "metric": p.metric.title,
            "role": ROLES.get(p.role, p.role),
            "formula": formula(p),
            "better": p.metric.better,
            "asked": p.asked,
            "measured": f"no: {reason}" if (reason := units.why_not(data, p.metric)) else "yes",
        }
        for p in data.launch.plan
    )


def formula(p: Planned) -> str:
    """Write a metric as a formula in the words of its tables."""
    words = [_words(m) for m in p.metric.measures]
    if not p.metric.averaged or p.metric.kind == "time_to_event":
        kind = f"{p.metric.quantile:g} quantile" if p.metric.quantile else p.metric.kind.replace("_", " ")
        more = f" by {p.metric.over}" if p.metric.over else f", {words[1]} = 1" if p.metric.event else ""
        return f"{kind}: {words[0]}{more}"
    return " / ".join(words) + (" / accounts" if len(words) == 1 else "") + (" / weeks" if p.metric.per_week else "")


def sensitivity(data: Study) -> pd.DataFrame:
    """Say for each metric how small a true change these accounts would show, beside what was asked.

    It is a property of the design, with the spread that the metric has without the launch: see `prospect`.
    """
    return words.table(prospect.measure(data)).drop(columns=["without the launch", "measured on", "alpha", "power"])


def arm_counts(data: Study) -> Check:
    """Ask whether the arms are as large as planned."""
    return scorecard.arm_counts(data, scorecard.pooled(data))


def accounts(data: Study) -> pd.DataFrame:
    """Count the assigned accounts of each arm, those in the units table, and those whose north star is zero.

    The last is missing where these data do not hold the north star, or not by account.
    """
    table, metric = units.load(data), data.launch.plan[0].metric
    column = metric.column(metric.numerator)
    zero = (table[column] == 0).sum() if column in table.columns else ibis.null("int64")
    kept = table.aggregate(by="arm", kept=table.count(), zero=zero).execute()
    assigned = _sizes(data).rename_axis("arm").reset_index(name="assigned")
    result = assigned.merge(kept, on="arm", how="left")
    return result.assign(lost=result["assigned"] - result["kept"]).rename(columns={"zero": "with a north star of 0"})


def design_effects(data: Study) -> pd.DataFrame:
    """Compare the error of event shares when events pass for independent people with the right one, over accounts.

    The false-alarm rate is that of a 5 % test which uses the naive error while nothing has changed.
    """
    control = scorecard.pooled(data).pool(by=["arm"]).select(arm=data.launch.arms.control)
    rows = []
    for p in units.measurable(data):
        top, bottom = p.metric.numerator, p.metric.denominator
        if bottom is None or (top.agg, bottom.agg) != ("count", "count") or top.table != bottom.table:
            continue
        (share,), (weights,) = inference.form(p.metric, 7).read(control)
        events = control.n[0] * control.mean[0, control.columns.index(p.metric.column(bottom))]
        naive = np.sqrt(share * (1 - share) / events)
        used = weights != 0
        right = np.sqrt(weights[used] @ control.cov[0][np.ix_(used, used)] @ weights[used] / control.n[0])
        rows.append(
            {
                "metric": p.metric.title,
                "naive error": float(f"{naive:.3g}"),
                "error over accounts": float(f"{right:.3g}"),
                "design effect": round((right / naive) ** 2, 2),
                "false alarms at 5%": percent(2 * stats.norm.sf(stats.norm.isf(0.025) * naive / right)),
            }
        )
    return pd.DataFrame(
        rows, columns=["metric", "naive error", "error over accounts", "design effect", "false alarms at 5%"]
    )


def headline(data: Study) -> str:
    """Say in one sentence what was launched and what will be measured."""
    return f"{data.launch.title or data.launch.name}: {_extent(data)}"


def answer(data: Study) -> tuple[str, ...]:
    """Say in three sentences what was launched, what its size can show of the north star, and what that makes of it."""
    first, _guardrails, last = words.conclude(prospect.measure(data))
    return headline(data), first, last


def verdict(data: Study) -> str:
    """Say in one sentence how many targets and margins of the plan these accounts can show."""
    asked = [p for p in prospect.measure(data) if p.bound and not p.assumed]
    if not asked:
        return "The plan sets no target and no margin, so nothing says which change would matter."
    visible = sum(p.reached is True for p in asked)
    return f"{visible} of {len(asked)} targets and margins of the plan are large enough for these accounts to show."


def describe(data: Study) -> str:
    """Write the brief as a few lines for the terminal."""
    units.load(data)
    launch, seen = data.launch, prospect.measure(data)
    check = arm_counts(data)
    lines = [
        f"{launch.name} ({launch.content_hash}): {_extent(data)}",
        f"  {'FAILED' if check.passed is False else 'ok' if check.passed else '?'}  {check.detail}",
        f"  judged       {_judged(data)}",
        *([f"  left out     {left}"] if (left := _left_out(data)) != "nobody" else []),
    ]
    for one, row in zip(seen, words.table(seen).to_dict("records"), strict=True):
        p = one.planned
        reason = units.why_not(data, p.metric)
        change, can = row["relative"] or row["smallest visible change"], row["can it be seen?"]
        tail = f"cannot: {reason}" if reason else f"would show a change of {change}" if change else can
        asked = (
            f", asked {p.asked}{words.of_level(one)}{f': {can}' if change else ''}" if p.asked and not reason else ""
        )
        lines.append(f"  {ROLES.get(p.role, p.role):<12} {p.metric.name:<28} {tail}{asked}")
    return "\n".join(lines)


def _extent(data: Study) -> str:
    measured, asked = len(units.measurable(data)), len(data.launch.plan)
    arms, n, read = len(data.launch.arms.names), sum(_sizes(data)), sum(_read(data))
    without = f", {n - read:,} of them left out" if read < n else ""
    return f"{n:,} accounts in {arms} arms{without}; {measured} of {asked} metrics can be measured."


def _left_out(data: Study) -> str:
    """Count the accounts in arms that the launch does not name, or in none, and those whom it leaves out of its own."""
    named = list(data.launch.arms.names)
    others = data.everyone.filter(_.arm.isnull() | _.arm.notin(named)).aggregate(by="arm", n=_.count()).execute()
    found = [f"{n:,} in {'no arm' if arm is None or arm != arm else arm}" for arm, n in others.itertuples(index=False)]
    flags, drawn = units.flagged(data), int(units.drawn(data).count().execute())
    flagged = 0 if flags is None else int(flags.filter(~_.late).account.nunique().execute())
    lost = {
        "removed by a flag": flagged,
        "with more than is possible": sum(_sizes(data)) - flagged - drawn,
        "with a missing value, from every metric": drawn - sum(_read(data)),
    }
    found += [f"{n:,} {why}" for why, n in lost.items() if n]
    return f"accounts: {', '.join(found)}" if found else "nobody"


def _noticed(data: Study, sizes: pd.Series) -> str:
    """Say from which loss of accounts on the arm-count check raises the alarm."""
    if data.launch.sampling is None:
        return "not planned"
    arm = data.launch.arms.treatment[0]
    n, planned = int(sizes.sum()), data.launch.sampling.n
    share = planned[arm] / sum(planned.values())
    off = arm_count_shift(n, planned=share, power=data.launch.decision.power)
    return f"{arm} {share:.1%} as planned; {100 * off:.2g} percentage points more or fewer would be noticed"


def _judged(data: Study) -> str:
    """Say which treatment is compared, and how to ask for another."""
    first, *others = data.launch.arms.treatment
    more = f"; for {', '.join(others)} run with -p treatment=…, one at a time, uncorrected" if others else ""
    return f"{first} against {data.launch.arms.control}{more}"


def _sizes(data: Study) -> pd.Series:
    """Count the assigned accounts of each arm."""
    return _by_arm(data, data.assignments)


def _read(data: Study) -> pd.Series:
    """Count the accounts of each arm that are read: those that the launch does not leave out."""
    return _by_arm(data, units.load(data))


def _by_arm(data: Study, rows: ibis.Table) -> pd.Series:
    counted = rows.aggregate(by="arm", n=_.count()).execute().set_index("arm")["n"]
    return counted.reindex(list(data.launch.arms.names), fill_value=0).astype(int)


def _words(measure: Measure) -> str:
    """Write a measure in words: sum of watch_minutes in plays where is_launch_title is true."""
    if measure.agg == "value":
        return str(measure.column)
    said = _where(measure.where)
    said += [f"{measure.gap_minutes:g} min after the previous"] if measure.gap_minutes else []
    if measure.calendar_days:
        said += ["on calendar days {} to {} after the assignment (UTC)".format(*measure.calendar_days)]
    if after := measure.after:
        earlier = " and ".join(
            [f"{after.table} of the same {' and '.join(after.on or ('account',))}", *_where(after.where)]
        )
        said += [f"at most {after.hours:g} h after {earlier}"]
    what = _AGGREGATES.get(measure.agg, "{agg} of {column}").format(
        table=measure.table, agg=measure.agg, column=measure.column
    )
    what += f" with {measure.column}" if measure.agg == "count" and measure.column else ""
    words = what + (f" where {' and '.join(said)}" if said else "")
    sign = " or " if measure.agg in {"any", "until"} else " + "
    words += "".join(f"{sign}{'' if m.scale == 1 else f'{m.scale:g} × '}{_words(m)}" for m in measure.also)
    words += f" / the account's {_words(measure.per)}" if measure.per else ""
    return words + (f" ≥ {measure.at_least:g}" if measure.at_least is not None else "")


_AGGREGATES = {
    "count": "{table}",
    "nunique": "different {column}s of {table}",
    "any": "any {table}",
    "days": "days with {table}",
    "days_but_last": "days but the last with {table}",
    "returns": "days with {table} followed by another",
    "until": "days until the first of {table}",
    "each": "{column} of {table}",
}
_SIGNS = {"eq": "=", "ne": "≠", "lt": "<", "le": "≤", "gt": ">", "ge": "≥", "in": "in", "not_in": "not in"}


def _where(conditions: tuple[Condition, ...]) -> list[str]:
    """Write conditions as formulas, and what is true or false in words."""
    return [
        f"{c.column} is {'' if c.value else 'not '}missing"
        if c.op == "missing"
        else f"{c.column} is {'not ' * (c.op == 'ne')}{str(c.value).lower()}"
        if isinstance(c.value, bool)
        else f"{c.column} {_SIGNS[c.op]} {', '.join(map(str, c.value)) if isinstance(c.value, tuple) else c.value}"
        for c in conditions
    ]
