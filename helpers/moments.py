"""Sufficient statistics that add up: n, mean and cross-deviations per group, from one query or from rows."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations_with_replacement
from operator import or_
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import ibis
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.integer]

LARGEST = 1e150  # the square of a larger number overflows
MOST_GROUPS = 10_000  # of one query; more take longer than another query does
MOST_NUMBERS = 8_000_000  # covariances held at a time in each arm, 64 MB
FEW = 40  # clusters of both arms together, below which errors over clusters are too small for a t interval
WEIGHT = "sampling_weight"  # the column of weights: its presence says that all others were multiplied by it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moments:
    """Means and covariances of `k` columns over the rows of each of `g` groups; the leading axis is the group.

    `groups` (g rows) labels them, for instance by arm and device. `scatter` (g, k, k) holds the sums of
    cross-deviations from the group's own means: 0 where n = 1, NaN for pairs that nobody asked for. All are exactly
    additive, so slices, days and batches need no second pass over the data.

    Where several accounts were drawn together, a row is a cluster with the sums of its accounts, and `held` (g,) says
    how many accounts the rows of each group hold; else it is None.

    >>> week = from_rows(pd.DataFrame({"arm": ["a", "a", "b"], "x": [1.0, 3.0, 5.0]}), columns=["x"], by=["arm"])
    >>> (week + week).n
    array([4., 2.])
    >>> week.pool().mean, week.cov[:, 0, 0]
    (array([[3.]]), array([ 2., nan]))
    """

    groups: pd.DataFrame
    columns: tuple[str, ...]
    n: Floats
    mean: Floats
    scatter: Floats
    held: Floats | None = None

    @property
    def accounts(self) -> Floats:
        """Count the accounts of each group (g,): its rows, or what its clusters hold."""
        return self.n if self.held is None else self.held

    @property
    def cov(self) -> Floats:
        """Give the sample covariances (g, k, k), ddof = 1; NaN where n < 2."""
        return self.scatter / np.where(self.n > 1, self.n - 1, np.nan)[:, None, None]

    def __add__(self, other: Moments) -> Moments:
        """Merge two disjoint sets of rows; groups are matched by their labels, and either side may lack some."""
        if (self.held is None) != (other.held is None):
            raise DataError("moments of accounts and of clusters cannot be added")
        if self.columns != other.columns or list(self.groups) != list(other.groups):
            raise DataError(
                "only moments of the same columns and group columns can be added: "
                f"{[*self.groups, *self.columns]} is not {[*other.groups, *other.columns]}"
            )
        return _merge(
            pd.concat([self.groups, other.groups]),
            self.columns,
            np.concatenate([self.n, other.n]),
            np.concatenate([self.mean, other.mean]),
            np.concatenate([self.scatter, other.scatter]),
            None if self.held is None or other.held is None else np.concatenate([self.held, other.held]),
        )

    def pool(self, by: Sequence[str] = ()) -> Moments:
        """Sum out every group column that `by` does not name; without `by`, all rows become one group."""
        _known(by, self.groups, "group column")
        return _merge(self.groups[list(by)], self.columns, self.n, self.mean, self.scatter, self.held)

    def of_accounts(self) -> Moments:
        """Say of accounts what was read of clusters: n counts accounts, and cov / n stays the variance of a mean.

        Only for what asks for the spread of one account, such as a design; the result does not add up.
        """
        if self.held is None:
            return self
        with np.errstate(invalid="ignore"):  # of a group without clusters nothing is known
            scatter = self.cov * (self.held / self.n * (self.held - 1))[:, None, None]
        return replace(self, n=self.held, scatter=scatter, held=None)

    def within(self, stratum: str, *, sampled_share: Floats | None = None) -> Moments:
        """Sum a stratum column out as the design demands: only what varies within strata counts as chance.

        The accounts of each stratum were drawn separately, so differences between strata are not luck. Over the
        remaining groups, `cov` becomes (1 / n) sum_h n_h cov_h, and cov / n the variance of the mean of a stratified
        sample (Cochran 1977, eq. 5.7; with weights, the linearised one of R's `survey`). A stratum with one account
        tells nothing of its spread and counts with its distance from the group's mean.

        Args:
            stratum: the group column to sum out.
            sampled_share: per group (g,), the share of the stratum's population that was drawn, from 0 to 1, where
                the number is meant for this very population (Cochran 1977, eq. 5.9); None where it is not, as in a
                comparison of arms.

        >>> rows = pd.DataFrame({"arm": "a", "stratum": ["x", "x", "y", "y"], "hours": [1.0, 3.0, 11.0, 13.0]})
        >>> by_stratum = from_rows(rows, columns=["hours"], by=["arm", "stratum"])
        >>> by_stratum.pool(["arm"]).cov.item(), by_stratum.within("stratum").cov.item()
        (34.666666666666664, 2.0)
        """
        _known([stratum], self.groups, "group column")
        by = [str(c) for c in self.groups if c != stratum]
        whole = self.pool(by)
        code, _ = _codes(self.groups[by])
        off = self.mean - whole.mean[code]
        alone = np.einsum("gi,gj->gij", off, off)
        share = np.where(self.n > 1, self.n / np.maximum(self.n - 1, 1), np.nan)[:, None, None]
        spread = np.where(self.n[:, None, None] > 1, share * self.scatter, alone + 0 * self.scatter)
        if sampled_share is not None:
            spread = spread * (1 - np.asarray(sampled_share))[:, None, None]
        n = whole.n[:, None, None]
        return replace(whole, scatter=_total(code, spread) * (n - 1) / n)

    def only(self, columns: Sequence[str]) -> Moments:
        """Keep these columns, in this order."""
        _known(columns, self.columns, "column")
        k = [self.columns.index(c) for c in columns]
        return replace(self, columns=tuple(columns), mean=self.mean[:, k], scatter=self.scatter[:, k][:, :, k])

    def select(self, **labels: object) -> Moments:
        """Keep the groups that carry all these labels.

        Raises:
            DataError: a group column does not exist, or no group carries the labels.
        """
        _known(labels, self.groups, "group column")
        keep = np.ones(len(self.groups), dtype=bool)
        for column, label in labels.items():
            if label not in set(self.groups[column]):
                hint = did_you_mean(str(label), self.groups[column].unique())
                raise DataError(f"{column} {label!r} does not occur in the data; {hint}")
            keep &= (self.groups[column] == label).to_numpy()
        if not keep.any():
            raise DataError(f"no group has {', '.join(f'{c} {v!r}' for c, v in labels.items())} at once")
        return Moments(
            groups=self.groups[keep].reset_index(drop=True),
            columns=self.columns,
            n=self.n[keep],
            mean=self.mean[keep],
            scatter=self.scatter[keep],
            held=None if self.held is None else self.held[keep],
        )

    def split(self, column: str, labels: Iterable[object]) -> tuple[Moments, ...]:
        """Give one Moments for each label of a group column, all with the same other groups in the same order.

        Where a label has no rows in a group, n is 0 and the moments are NaN.

        Raises:
            DataError: the group column does not exist, or a label does not occur in it.
        """
        _known([column], self.groups, "group column")
        code, groups = _codes(self.groups[[c for c in self.groups if c != column]])
        labelled = self.groups[column].to_numpy()

        def aligned(label: object) -> Moments:
            mine = np.flatnonzero(labelled == label)
            if not mine.size:
                self.select(**{column: label})  # says what does occur
            parts = (self.n, self.accounts, self.mean, self.scatter)
            n, held, mean, scatter = (np.full((len(groups), *a.shape[1:]), np.nan) for a in parts)
            n[:] = held[:] = 0
            for whole, part in zip((n, held, mean, scatter), parts, strict=True):
                whole[code[mine]] = part[mine]
            return replace(
                self, groups=groups, n=n, mean=mean, scatter=scatter, held=self.held if self.held is None else held
            )

        return tuple(map(aligned, labels))


def from_table(
    table: ibis.Table,
    *,
    columns: Sequence[str],
    pairs: Collection[tuple[str, str]],
    by: Sequence[str],
    weighted: bool = False,
    cluster: str | None = None,
) -> Moments:
    """Read the moments of a table with one row per account in a single aggregate query on the table's own engine.

    Args:
        table: an Ibis table of any back end; numbers and booleans (as 0 and 1) can be read.
        columns: k columns whose means are wanted.
        pairs: which covariances are wanted; a column paired with itself means its variance.
        by: group columns, several at once if need be; none makes a single group.
        weighted: multiply every column by the account's `sampling_weight`, which must itself be among the columns. The
            ratio of two weighted means is then a weighted mean, and its linearised variance follows from `cov`.
        cluster: the column of what was drawn, where several accounts were drawn together: a row then is a cluster with
            the sums of its accounts, and `sampling_weight`, which must be among the columns, the sum of their weights
            (their number, where they have none). The ratio of two means over clusters is one over accounts, and its
            linearised variance that of a sample of whole clusters (Cochran 1977, eq. 9A.6; Liang and Zeger 1986).

    Raises:
        DataError: a column is missing or no number; the table is empty; a value is missing, NaN or beyond 1e150 (so
            infinite ones too); a group label is missing. Rows are never left out silently.
    """
    import ibis

    counted = cluster is not None and not weighted  # every account has the weight 1
    _known([*by, *(c for c in columns if not (counted and c == WEIGHT))], table.columns, "column")
    where = {c: i for i, c in enumerate(columns)}
    if weighted or cluster is not None:
        _known([WEIGHT], where, "column among those asked for:")
    _known((c for pair in pairs for c in pair), where, "column among those asked for:")
    # In order: engines read neighbours faster.
    wanted = sorted({(min(where[a], where[b]), max(where[a], where[b])) for a, b in pairs})

    x = {}
    for c, i in where.items():
        if counted and c == WEIGHT:
            x[f"x{i}"] = ibis.literal(1.0)
            continue
        kind = table[c].type()
        if not (kind.is_numeric() or kind.is_boolean()):
            raise DataError(f"column {c!r} holds {kind}, expected numbers or true and false")
        number = (table[c].cast("int64") if kind.is_boolean() else table[c]).cast("float64")
        x[f"x{i}"] = number * table[WEIGHT] if weighted and c != WEIGHT else number
    labels = {f"g{i}": table[c] for i, c in enumerate(by)}
    single = rows = (
        table.select(**labels, **x) if cluster is None else table.select(**labels, cluster=table[cluster], **x)
    )
    if cluster is not None:
        sums = {c: single[c].isnull().any().ifelse(ibis.null("float64"), single[c].sum()) for c in x}
        rows = single.aggregate(by=[*labels, "cluster"], held=single.count(), **sums)
    asked = {f"mean{i}": rows[f"x{i}"].mean() for i in where.values()}
    asked |= {} if cluster is None else {"held": rows["held"].sum()}
    nulls = [rows[c].isnull() for c in x]
    missing = {f"missing{i}": reduce(or_, nulls[i : i + 16]).any() for i in range(0, len(nulls), 16)}
    asked |= missing  # where the engine knows that there are none, these cost nothing; a count would
    for i, j in wanted:
        one, other = rows[f"x{i}"], rows[f"x{j}"]
        asked[f"cov{i}_{j}"] = one.var(how="pop") if i == j else one.cov(other, how="pop")
    try:
        frame = rows.aggregate(by=[f"g{i}" for i in range(len(by))], n=rows.count(), **asked).to_pandas()
    except Exception:
        _refuse_values(single, where)  # infinite values overflow in some engines; if it is not that, say what it is
        raise

    frame = frame.sort_values([f"g{i}" for i in range(len(by))], ignore_index=True) if by else frame
    n = frame["n"].to_numpy(np.float64)
    if not n.sum():
        raise DataError("the table has no rows, so there is nothing to measure")
    for i, c in enumerate(by):
        if unlabelled := n[frame[f"g{i}"].isna()].sum():
            raise DataError(f"group column {c!r} is missing in {unlabelled:,.0f} rows; fill it or drop them first")
    told = frame[list(asked)].to_numpy(np.float64)
    if not np.isfinite(told).all() or frame[list(missing)].to_numpy(bool).any():
        _refuse_values(single, where)
    k = len(where)
    scatter = np.full((len(n), k, k), np.nan)
    for i, j in wanted:
        scatter[:, i, j] = scatter[:, j, i] = n * frame[f"cov{i}_{j}"].to_numpy(np.float64)
    return Moments(
        groups=frame[[f"g{i}" for i in range(len(by))]].set_axis(list(by), axis="columns"),
        columns=tuple(where),
        n=n,
        mean=frame[[f"mean{i}" for i in range(k)]].to_numpy(np.float64),
        scatter=scatter,
        held=None if cluster is None else frame["held"].to_numpy(np.float64),
    )


def by_each(
    table: ibis.Table,
    *,
    each: Sequence[str],
    columns: Sequence[str],
    pairs: Collection[tuple[str, str]],
    by: Sequence[str],
    weighted: bool = False,
    cluster: str | None = None,
) -> dict[str, Moments]:
    """Read the moments by `by` and one attribute, for each of several attributes, in as few queries as will do.

    Attributes are grouped by together and pooled afterwards: five of five levels take one query, not five. Where their
    levels would make too many combinations, they are parted into several queries. The rest is as in `from_table`;
    with clusters each attribute takes a query, because a cluster may have accounts in several levels.

    >>> rows = pd.DataFrame({"arm": "a", "device": ["tv", "web"], "region": ["n", "n"], "x": [1.0, 2.0]})
    >>> import ibis
    >>> read = by_each(ibis.memtable(rows), each=["device", "region"], columns=["x"], pairs=[("x", "x")], by=["arm"])
    >>> read["device"].mean.T, read["region"].mean
    (array([[1., 2.]]), array([[1.5]]))
    """
    _known(each, table.columns, "column")
    if not each:
        return {}
    if cluster is not None:
        asked = {"columns": columns, "pairs": pairs, "weighted": weighted, "cluster": cluster}
        return {name: from_table(table, by=[*by, name], **asked) for name in each}  # type: ignore[arg-type]
    levels = table.aggregate(**{name: table[name].nunique() for name in each}).to_pandas().iloc[0]
    most = min(MOST_GROUPS, MOST_NUMBERS // max(len(columns), 1) ** 2)
    found: dict[str, Moments] = {}
    for together in _packed({name: int(levels[name]) for name in each}, most):
        read = from_table(table, columns=columns, pairs=pairs, by=[*by, *together], weighted=weighted)
        found |= {name: read.pool([*by, name]) for name in together}
    return {name: found[name] for name in each}


def _packed(levels: Mapping[str, int], most: int) -> list[list[str]]:
    """Share attributes out so that the levels of those together multiply to at most so many (first fit decreasing).

    >>> _packed({"device": 5, "country": 200, "region": 4}, most=1_000)
    [['country', 'device'], ['region']]
    """
    packs: list[list[str]] = []
    for name in sorted(levels, key=lambda name: -levels[name]):
        fits = (p for p in packs if math.prod(levels[other] for other in p) * levels[name] <= most)
        if (pack := next(fits, None)) is None:
            packs.append([name])
        else:
            pack.append(name)
    return packs


def _refuse_values(rows: ibis.Table, where: Mapping[str, int]) -> None:
    """Name the first column with values that are missing, NaN or too large to square, and count them."""
    for c, i in where.items():
        sound = rows[f"x{i}"].between(-LARGEST, LARGEST).fill_null(False)  # NaN lies between nothing, or above all
        bad, n = rows.aggregate(bad=(~sound).sum(), n=rows.count()).to_pandas().iloc[0]
        if bad:
            raise DataError(
                f"column {c!r} has {bad:,.0f} missing, NaN or infinite values in {n:,.0f} rows; "
                "say how to treat them, or drop them first"
            )


def from_rows(
    frame: pd.DataFrame,
    *,
    columns: Sequence[str],
    by: Sequence[str] = (),
    weighted: bool = False,
    cluster: str | None = None,
) -> Moments:
    """Read the moments of a pandas table, every covariance included; raises what `from_table` raises."""
    import ibis

    own = [c for c in columns if not (cluster is not None and not weighted and c == WEIGHT)]
    own = list(dict.fromkeys([*by, *own, *([] if cluster is None else [cluster])]))
    _known(own, frame, "column")
    pairs = list(combinations_with_replacement(columns, 2))
    table = ibis.memtable(frame[own])
    return from_table(table, columns=columns, pairs=pairs, by=by, weighted=weighted, cluster=cluster)


def from_samples(batches: Iterable[Floats], *, columns: Sequence[str], **labels: str) -> Moments:
    """Reduce simulated samples to one group each, so that thousands of experiments are compared at once.

    Args:
        batches: some samples at a time, (r, n, k) each, so that memory stays small; n accounts of k columns.
        columns: the k names.
        labels: what all of them are called, such as `arm="control"`; beside it, `replay` numbers the samples.

    >>> from_samples([np.ones((2, 5, 1)), np.ones((1, 5, 1))], columns=["hours"], arm="a").groups["replay"].tolist()
    [0, 1, 2]
    """
    sizes, means, scatters = [], [], []
    for rows in batches:
        sizes.append(np.full(len(rows), float(rows.shape[1])))
        means.append(rows.mean(axis=1))
        off = rows - means[-1][:, None]
        scatters.append(np.matmul(off.transpose(0, 2, 1), off))
    n = np.concatenate(sizes)
    return Moments(
        groups=pd.DataFrame({**labels, "replay": np.arange(len(n))}),
        columns=tuple(columns),
        n=n,
        mean=np.concatenate(means),
        scatter=np.concatenate(scatters),
    )


def from_draws(
    rows: Floats, *, columns: Sequence[str], n: int, replicates: int, rng: np.random.Generator, **labels: str
) -> Moments:
    """Draw arms with replacement from the accounts that there are, one group each, however large an arm is.

    Args:
        rows: (N, k) of all accounts: they are the law, and their means the truth.
        columns: the k names.
        n: accounts of an arm, at least 2; may be more than N.
        replicates: how many arms.
        rng: where chance comes from.
        labels: what all of them are called, as in `from_samples`.

    >>> rng = np.random.default_rng(1)
    >>> rows, rng = np.array([[0.0], [1.0]]), np.random.default_rng(1)
    >>> read = from_draws(rows, columns=["x"], n=10_000, replicates=2, rng=rng, arm="a")
    >>> read.groups["replay"].tolist(), (abs(read.mean - 0.5) < 0.02).all()
    ([0, 1], np.True_)
    """
    centre = rows.mean(axis=0, dtype=np.float64)
    x = rows - centre
    means, scatters = np.empty((replicates, len(columns))), np.empty((replicates, len(columns), len(columns)))
    for i in range(replicates):
        count = np.bincount(rng.integers(len(x), size=n), minlength=len(x))
        means[i] = count @ x / n
        scatters[i] = (x * count[:, None]).T @ x - n * np.outer(means[i], means[i])
    groups = pd.DataFrame({**labels, "replay": np.arange(replicates)})
    size = np.full(replicates, float(n))
    return Moments(groups=groups, columns=tuple(columns), n=size, mean=means + centre, scatter=scatters)


def _known(names: Iterable[str], valid: Collection[object], what: str) -> None:
    """Refuse a name that does not exist."""
    for name in names:
        if name not in valid:
            raise DataError(f"no {what} {name!r}; {did_you_mean(name, map(str, valid))}")


def _codes(labels: pd.DataFrame) -> tuple[Integers, pd.DataFrame]:
    """Number the distinct rows of labels in sorted order; without columns all rows are the same."""
    if labels.columns.empty:
        return np.zeros(len(labels), dtype=np.intp), pd.DataFrame(index=range(1), columns=labels.columns)
    code: Integers
    if labels.shape[1] == 1:  # the usual case, ten times as fast
        code, distinct = pd.factorize(labels.iloc[:, 0], sort=True, use_na_sentinel=False)
        return code, pd.DataFrame({labels.columns[0]: distinct})
    code = labels.groupby(list(labels), observed=True, dropna=False).ngroup().to_numpy()
    _, first = np.unique(code, return_index=True)
    return code, labels.iloc[first].reset_index(drop=True)


def _total(code: Integers, parts: Floats) -> Floats:
    """Sum the parts of each group; every code up to the highest occurs."""
    order = np.argsort(code, kind="stable")
    return np.add.reduceat(parts[order], np.flatnonzero(np.diff(code[order], prepend=-1)))


def _merge(
    labels: pd.DataFrame, columns: tuple[str, ...], n: Floats, mean: Floats, scatter: Floats, held: Floats | None = None
) -> Moments:
    """Merge the groups that share labels: the update of Chan, Golub and LeVeque (1983), for any number of parts."""
    code, groups = _codes(labels)
    n_all = _total(code, n)
    mean_all = _total(code, n[:, None] * mean) / n_all[:, None]
    off = mean - mean_all[code]
    scatter_all = _total(code, scatter + np.einsum("g,gi,gj->gij", n, off, off))
    held = None if held is None else _total(code, held)
    return Moments(groups=groups, columns=columns, n=n_all, mean=mean_all, scatter=scatter_all, held=held)
