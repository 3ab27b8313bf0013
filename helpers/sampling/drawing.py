"""The draw: who is eligible, and which accounts each arm gets, as expressions of the frame's own engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
from ibis import _
from scipy import stats

from helpers import schema
from helpers.errors import DataError, ParameterError, did_you_mean
from helpers.metrics import Condition
from helpers.sampling.allocation import Design, quotas

FLAGS = ("employee", "bot_suspect", "kids_only", "test_account", "opted_out")
COUNTED = 1_000_000  # rows up to which all are searched for repeats before the draw; beyond, the candidates are
_RARE = 1e-9  # how often a stratum may have too few candidates, which costs a second pass and changes nothing
_AT_LEAST = 1 / 128  # of a stratum's keys are candidates
_HEX = 13  # digits of a key that a cut looks at: as many bits as a float holds
_END = "g"  # comes after every hexadecimal text


def funnel(frame: ibis.Table, exclude: Sequence[str | Condition]) -> pd.DataFrame:
    """Count what each rule takes out, in the order of the rules: an account that two would take counts at the first.

    Args:
        frame: one row per account.
        exclude: rules for `eligible`.

    Returns:
        rule, excluded, left; the first row is the whole frame.
    """
    left, alive = {"all accounts": _.count()}, ibis.literal(value=True)
    for rule in exclude:
        alive = alive & ~_out(frame, rule)
        left[describe(rule)] = alive.sum()
    asked = {f"c{i}": value for i, value in enumerate(left.values())}
    counts = frame.aggregate(**asked).execute().iloc[0].to_numpy(int)
    return pd.DataFrame({"rule": list(left), "excluded": -np.diff(counts, prepend=counts[0]), "left": counts})


def eligible(frame: ibis.Table, exclude: Sequence[str | Condition]) -> ibis.Table:
    """Keep the accounts that no rule takes out.

    Args:
        frame: one row per account.
        exclude: a column alone (out is who has true there, a number other than 0, or any text: a flag, or the
            experiment an account is already in), or a condition (out is who meets it). A missing value leaves it in.

    Raises:
        DataError: a rule names a column that the frame does not have.
    """
    for rule in exclude:
        frame = frame.filter(~_out(frame, rule))
    return frame


def describe(rule: str | Condition) -> str:
    """Write an exclusion in words.

    >>> describe(Condition(column="region", op="in", value=("APAC", "LATAM")))
    'region in APAC, LATAM'
    """
    if isinstance(rule, str):
        return rule
    signs = {"eq": "=", "ne": "≠", "lt": "<", "le": "≤", "gt": ">", "ge": "≥", "in": "in", "not_in": "not in"}
    value = ", ".join(map(str, rule.value)) if isinstance(rule.value, tuple) else rule.value
    return f"{rule.column} {signs[rule.op]} {value}"


def _out(frame: ibis.Table, rule: str | Condition) -> ibis.ir.BooleanValue:
    """Say who is taken out, never missing."""
    name = rule if isinstance(rule, str) else rule.column
    if name not in frame.columns:
        raise DataError(f"the frame has no column {name!r}, which 'exclude' names; {did_you_mean(name, frame.columns)}")
    column = frame[name]
    if isinstance(rule, str):
        kind = column.type()
        out = column if kind.is_boolean() else column != 0 if kind.is_numeric() else column.cast("string").strip() != ""
        return out.fill_null(False)
    value = rule.value
    if column.type().is_string():
        value = tuple(map(str, value)) if isinstance(value, tuple) else str(value)
    compare = {
        "eq": lambda: column == value,
        "ne": lambda: column != value,
        "lt": lambda: column < value,
        "le": lambda: column <= value,
        "gt": lambda: column > value,
        "ge": lambda: column >= value,
        "in": lambda: column.isin(value),
        "not_in": lambda: column.notin(value),
    }
    return compare[rule.op]().fill_null(False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A draw before it is made: the strata, and every arm's range of ranks in each.

    `units` has a row per account that can be drawn: account, key, members (accounts of its household that could have
    stood for it) and the stratum columns. `cells` gives each combination of these its stratum, `cuts` holds
    stratum, arm, size, n, first, last (ranks by key, the last not included) and inclusion_probability.
    """

    units: ibis.Table
    columns: tuple[str, ...]
    cells: pd.DataFrame
    cuts: pd.DataFrame

    @property
    def strata(self) -> ibis.Table:
        """Open account and stratum of every account that can be drawn."""
        return self._labelled(self.units).select("account", "stratum")

    def _labelled(self, units: ibis.Table) -> ibis.Table:
        ends = self.cells.assign(before=self.cells["stratum"].map(self._before()))
        kept = ibis.memtable(ends[[*self.columns, "stratum", "before"]])
        return units.join(kept, list(self.columns)) if self.columns else units.cross_join(kept)

    def _before(self) -> pd.Series:
        """Find for each stratum the key before which its accounts lie, but for one draw in a billion."""
        strata = self.cuts.groupby("stratum").agg(size=("size", "first"), need=("last", "max"))
        rest = (strata["size"] - strata["need"]).to_numpy()
        # The need-th smallest of `size` uniform keys follows a Beta(need, size - need + 1) distribution.
        ends = stats.beta.isf(_RARE / len(strata), np.maximum(strata["need"].to_numpy(), 1), rest + 1)
        return pd.Series([_key_before(max(end, _AT_LEAST)) for end in ends], index=strata.index)

    def redraw(self, times: int, *, salt: str) -> ibis.Table:
        """Draw again and again in one query.

        The draws are those of the salts "salt#1", "salt#2", … with these strata and quotas; for frames small enough to
        be ranked `times` over. A household's representative stays the one of the plan.

        Returns:
            nth (from 1), account, arm, stratum, inclusion_probability: a row for each account of each draw.
        """
        many = self.strata.cross_join(ibis.range(1, times + 1).unnest().name("nth").as_table())
        salted = ibis.literal(f"{salt}#") + many["nth"].cast("string") + ":" + many["account"]
        many = many.mutate(key=salted.hexdigest("sha256"))
        rank = ibis.row_number().over(group_by=["nth", "stratum"], order_by=["key", "account"])
        drawn = many.mutate(rank=rank).join(ibis.memtable(self.cuts[self.cuts["n"] > 0]), "stratum")
        drawn = drawn.filter((_["rank"] >= _["first"]) & (_["rank"] < _["last"]))
        return drawn.select("nth", "account", "arm", "stratum", "inclusion_probability")

    def draw(self) -> ibis.Table:
        """Rank the accounts that can matter, and give every arm its range of ranks.

        Only accounts whose key lies before their stratum's limit are ranked. Should a stratum have fewer of them than
        it needs, all of its accounts are; the accounts drawn are those of a ranking of everybody, always.
        """
        last = max(self._before())
        candidates = hold(self._labelled(self.units.filter(_.key < last)).filter(_.key < _.before))
        found = candidates.aggregate(by="stratum", n=_.count()).execute().set_index("stratum")["n"]
        need = self.cuts.groupby("stratum")["last"].max()
        if (found.reindex(need.index, fill_value=0) < need).any():
            candidates = hold(self._labelled(self.units))
        _refuse_repeats(candidates)
        ranked = candidates.mutate(rank=ibis.row_number().over(group_by="stratum", order_by=["key", "account"]))
        drawn = ranked.join(ibis.memtable(self.cuts[self.cuts["n"] > 0]), "stratum")
        drawn = drawn.filter((_["rank"] >= _["first"]) & (_["rank"] < _["last"]))
        probability = drawn["inclusion_probability"] / drawn["members"]
        return drawn.select("account", "arm", "stratum", inclusion_probability=probability, weight=1 / probability)


def plan(
    frame: ibis.Table,
    *,
    n: Mapping[str, int],
    strata: Sequence[str] = (),
    design: Design | None = None,
    salt: str,
    account: str = "account",
    household: str | None = None,
    holdout: float = 0.0,
    later: Mapping[str, int] | None = None,
) -> Plan:
    """Settle strata and quotas of a draw; the arguments are those of `draw`."""
    design, later = design or Design(), later or {}
    columns = design.strata(strata)
    for column in (account, *columns, *([household] if household else []), *([design.past] if design.past else [])):
        if column not in frame.columns:
            raise DataError(f"the frame has no column {column!r}; {did_you_mean(column, frame.columns)}")
    if not salt.isprintable():
        raise ParameterError(f"the salt {salt!r} holds characters that cannot be printed; write plain text")
    if not 0 <= holdout < 1:
        raise ParameterError(f"holdout is {holdout}, must be a share from 0 to below 1")
    units = _units(frame, columns, design, salt, account, household)
    if holdout:
        units = units.filter(_.key < _key_before(1 - holdout))
    asked = {"size": _.count()}
    if design.past:
        asked |= {"known": _.past.count(), "mean": _.past.mean(), "variance": _.past.var(how="pop")}
    cells = units.aggregate(by=columns, **asked).execute()
    cells = cells.sort_values(columns, ignore_index=True) if columns else cells
    population, wanted = int(cells["size"].sum()), sum(n.values()) + sum(later.values())
    if wanted > population:
        raise ParameterError(f"the arms ask for {wanted:,} accounts, the frame has {population:,}")
    if population <= COUNTED and household is None:
        _refuse_repeats(units)
    cells, cuts = quotas(cells, columns, n, design, later)
    return Plan(units=units, columns=tuple(columns), cells=cells, cuts=cuts)


def draw(
    frame: ibis.Table,
    *,
    n: Mapping[str, int],
    strata: Sequence[str] = (),
    design: Design | None = None,
    salt: str,
    account: str = "account",
    household: str | None = None,
    holdout: float = 0.0,
    later: Mapping[str, int] | None = None,
) -> ibis.Table:
    """Draw disjoint arms from a population, stratified, the same accounts every time.

    Accounts are ranked within their stratum by SHA-256 of salt and account id; the first arm takes the first ranks, the
    next arm the next. The draw therefore does not depend on row order, day or engine, and an account that is added to
    the frame moves at most the accounts at the cut. Arms added to `later` leave those before them as they are.

    Households are not split: the key is that of the household, and one account, that with the smallest key of its own,
    stands for all of it. Totals stay exact, no household is in two arms, and the weight counts its other accounts in.

    Args:
        frame: one row per eligible account.
        n: arm name to accounts wanted, of the whole population in the first arm's allocation as in the next's.
        strata: attribute columns whose combinations are the strata; a missing value is the level "unknown".
        design: how an arm's accounts are shared among strata; in proportion, unless given.
        salt: a text that belongs to this launch alone; another salt gives an independent draw.
        account: the id column.
        household: the column that says which accounts share a household; one that is missing is a household alone.
        holdout: share of the households set aside for good, those with the last keys; no arm gets them, now or later.
        later: arm name to accounts of later stages, drawn now so that they are disjoint from everything else.

    Returns:
        account, arm, stratum, inclusion_probability (of being drawn into this arm, not of taking part) and weight, its
        inverse: how many accounts of the frame this one stands for. One row per drawn account.

    Raises:
        DataError: a column or a level is missing, or an account stands in the frame twice. Beyond a million rows,
            repeats are looked for among the candidates, of which there are at least 1 in 128: no account is ever drawn
            twice, and a frame in which hundreds repeat is refused.
        ParameterError: the arms ask for more accounts than there are, or the salt is no plain text.
    """
    return plan(
        frame,
        n=n,
        strata=strata,
        design=design,
        salt=salt,
        account=account,
        household=household,
        holdout=holdout,
        later=later,
    ).draw()


def drawable(
    frame: ibis.Table, *, salt: str, account: str = "account", household: str | None = None, holdout: float = 0.0
) -> int:
    """Count the accounts that a draw can give: one of each household, without those held out."""
    units = _units(frame, [], Design(), salt, account, household)
    return int((units.filter(_.key < _key_before(1 - holdout)) if holdout else units).count().execute())


def _units(
    frame: ibis.Table, columns: Sequence[str], design: Design, salt: str, account: str, household: str | None
) -> ibis.Table:
    """Give every account, or the one that stands for its household, its key."""
    own = frame[account].cast("string")
    unit = frame[household].cast("string").fill_null(own) if household else own
    levels = {column: frame[column].cast("string").fill_null(schema.UNKNOWN) for column in columns}
    past = {"past": frame[design.past].cast("float64")} if design.past else {}
    units = frame.select(account=own, unit=unit, **levels, **past)
    units = _one_each(units, salt) if household else units.mutate(members=ibis.literal(1))
    return units.mutate(key=(ibis.literal(f"{salt}:") + units["unit"]).hexdigest("sha256")).drop("unit")


def _one_each(units: ibis.Table, salt: str) -> ibis.Table:
    """Keep one account of each household; only those of several accounts are looked at one by one."""
    shared = units.aggregate(by="unit", members=_.count()).filter(_.members > 1)
    crowd = hold(units.join(shared, "unit").select("account", "unit", "members"))
    _refuse_repeats(crowd)
    own_key = (ibis.literal(f"{salt}:") + crowd["account"]).hexdigest("sha256")
    nth = ibis.row_number().over(group_by="unit", order_by=[own_key, "account"])
    crowd = hold(crowd.mutate(nth=nth).select("account", "members", "nth"))
    kept = units.anti_join(crowd.filter(_.nth > 0), "account")
    kept = kept.left_join(crowd.filter(_.nth == 0).select("account", "members"), "account")
    return kept.select(*units.columns, members=_.members.fill_null(1))


def hold(table: ibis.Table) -> ibis.Table:
    """Keep a result in the engine, so that several queries read it and none works it out again."""
    if table.get_backend().name == "pyspark":
        table.limit(0).execute()  # which learns of tables held in memory when a query runs, not when one is kept
    return table.cache()


def _refuse_repeats(rows: ibis.Table) -> None:
    """Refuse a frame in which an account stands twice."""
    counts = rows.aggregate(rows=_.count(), accounts=_.account.nunique(), missing=_.account.isnull().sum()).execute()
    total, distinct, missing = counts.fillna(0).iloc[0].astype(int)
    if missing:
        raise DataError(f"{missing:,} rows of the frame have no account; a draw needs one row per account")
    if total > distinct:
        raise DataError(f"{total - distinct:,} rows of the frame repeat an account; a draw needs one row per account")


def _key_before(share: float) -> str:
    """Write the text before which this share of all keys lies.

    >>> _key_before(0.5)
    '8000000000000'
    """
    return _END if share >= 1 else f"{int(np.ceil(share * 16**_HEX)):0{_HEX}x}"
