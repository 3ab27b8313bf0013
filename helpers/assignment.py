"""The assignment: the accounts that a launch draws from a frame, in which arm, with which weight."""

from __future__ import annotations

from dataclasses import replace

import ibis
import pandas as pd
from ibis import _

from helpers import sampling
from helpers.errors import DataError, LaunchError, did_you_mean
from helpers.launch import Launch
from helpers.launch.sampling import Sampling
from helpers.metrics import Condition

HOUSEHOLD = "household"


def wanted(launch: Launch) -> Sampling:
    """Read what the launch says about its draw.

    Raises:
        LaunchError: it says nothing.
    """
    if launch.sampling is None:
        raise LaunchError(f"{launch.name}: has no 'sampling', so there is nothing to draw")
    return launch.sampling


def exclusions(launch: Launch, frame: ibis.Table) -> tuple[str | Condition, ...]:
    """List the rules of eligibility: the launch's own, or the flags of the contract that the frame holds."""
    asked = launch.sampling.exclude if launch.sampling else None
    return tuple(f for f in sampling.FLAGS if f in frame.columns) if asked is None else asked


def eligible(launch: Launch, frame: ibis.Table) -> ibis.Table:
    """Keep the accounts that the launch may draw."""
    return sampling.eligible(frame, exclusions(launch, frame))


def household(launch: Launch, frame: ibis.Table) -> str | None:
    """Name the column of households: the launch's, or the one of that name if the frame has it."""
    return wanted(launch).household or (HOUSEHOLD if HOUSEHOLD in frame.columns else None)


def design(launch: Launch) -> sampling.Design:
    """Read the design of the draw from the launch."""
    asked = wanted(launch)
    return sampling.Design(
        rule=asked.rule,
        past=asked.past or "",
        minimum=asked.minimum,
        oversample=asked.factors,
        fixed=asked.numbers,
    )


def plan(launch: Launch, frame: ibis.Table, *, salt: str = "") -> sampling.Plan:
    """Settle strata and quotas of the launch's draw: treatments first, then control, then later stages.

    The salt is the one given, else the launch's choice. A matched control is no part of the plan: it is not drawn.
    """
    asked = wanted(launch)
    arms = (*launch.arms.treatment, *(() if asked.match else (launch.arms.control,)))
    return sampling.plan(
        eligible(launch, frame),
        n={arm: asked.n[arm] for arm in arms},
        strata=asked.strata,
        design=design(launch),
        salt=salt or chosen_salt(launch, frame),
        household=household(launch, frame),
        holdout=asked.holdout,
        later=asked.later,
    )


def draw(launch: Launch, frame: ibis.Table, *, salt: str = "", later: bool = False) -> ibis.Table:
    """Draw the launch's arms from a population frame, and its later stages too if asked.

    Args:
        launch: says how.
        frame: one row per account, with the columns that the launch names.
        salt: another one than the launch's own.
        later: also give the accounts of later stages.

    Returns:
        account, arm, stratum, inclusion_probability, weight. A matched control has the probability of the treated
        account it stands beside.
    """
    if wanted(launch).match:
        return _with_matched(launch, frame, salt)[0]
    drawn = plan(launch, frame, salt=salt).draw()
    return drawn if later else drawn.filter(_.arm.isin(launch.arms.names))


def salts(launch: Launch, frame: ibis.Table) -> pd.DataFrame:
    """List the salts that the launch may choose from, with the imbalance of each draw: the largest chi-square.

    Choosing the best of several random draws is rerandomisation (Morgan and Rubin 2012, Annals of Statistics 40:1263):
    estimates stay unbiased, ordinary intervals become wider than they need to be, never narrower, as long as the
    attributes say something about the outcome and estimates are not adjusted for them.
    """
    asked, accounts = wanted(launch), eligible(launch, frame)
    first = asked.salt or launch.name
    rows = []
    for salt in [first, *(f"{first}#{k}" for k in range(2, asked.salts + 1))]:
        settled = plan(launch, frame, salt=salt)
        drawn = settled.draw().filter(_.arm.isin(launch.arms.names)).cache()
        tests = sampling.joint(accounts, drawn, asked.balance, strata=settled.strata)
        rows.append({"salt": salt, "imbalance": float(tests["chi2"].max()) if len(tests) else 0.0})
    return pd.DataFrame(rows)


def chosen_salt(launch: Launch, frame: ibis.Table) -> str:
    """Name the salt of the launch's draw: its own or its name, or the one whose draw is best balanced."""
    asked = wanted(launch)
    if asked.salts == 1:
        return asked.salt or launch.name
    for column in asked.balance:
        if column not in frame.columns:
            raise DataError(f"the frame has no column {column!r} to balance; {did_you_mean(column, frame.columns)}")
    table = salts(launch, frame)
    return str(table["salt"].iloc[int(table["imbalance"].to_numpy().argmin())])


def matched(launch: Launch, frame: ibis.Table) -> sampling.Match:
    """Match the launch's control and say how well that went.

    Raises:
        LaunchError: the launch asks for no matched control.
    """
    return _with_matched(launch, frame, "")[1]


def _with_matched(launch: Launch, frame: ibis.Table, salt: str) -> tuple[ibis.Table, sampling.Match]:
    """Put beside the drawn treatment the accounts most like it, from other households that are not held out."""
    asked = wanted(launch)
    how = asked.match
    if how is None:
        raise LaunchError(f"{launch.name}: its control is drawn at random; 'sampling.match' asks for a matched one")
    by = list(how.by)
    for column in by:
        if column not in frame.columns:
            raise DataError(f"the frame has no column {column!r} to match by; {did_you_mean(column, frame.columns)}")
    settled = plan(launch, frame, salt=salt)
    treated = settled.draw().execute().set_index("account")
    numbers = frame.select(account=frame["account"].cast("string"), **{c: frame[c].cast("float64") for c in by})
    table = numbers.semi_join(settled.units, "account").execute().set_index("account").dropna()
    inside = table.index.isin(treated.index)
    match = sampling.nearest(
        table[inside],
        table[~inside],
        caliper=how.caliper,
        ratio=asked.n[launch.arms.control] // asked.n[launch.arms.treatment[0]],
        spread=table.std(),
    )
    unknown = tuple(str(account) for account in treated.index.difference(table.index))
    match = replace(match, unmatched=(*match.unmatched, *unknown))
    beside = treated.loc[match.pairs["treated"]].reset_index(drop=True)
    control = beside.assign(account=match.pairs["control"].to_numpy(), arm=launch.arms.control)
    return ibis.memtable(pd.concat([treated.reset_index(), control], ignore_index=True)), match
