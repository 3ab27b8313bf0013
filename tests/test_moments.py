"""Moments equal what numpy computes from the rows, however the rows are cut, shuffled or shifted."""

from __future__ import annotations

from itertools import combinations_with_replacement

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import moments
from helpers.errors import DataError
from helpers.moments import Moments

COLUMNS = ["hours", "sessions", "opened"]
EXACT = 1e-9  # relative; float64 sums of a few hundred rows keep about 1e-13


def rows(n: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    hours = rng.lognormal(1, 1.5, n)
    return pd.DataFrame(
        {
            "arm": rng.choice(["control", "early"], n),
            "device": rng.choice(["tv", "phone", "web"], n),
            "week": rng.integers(0, 3, n),
            "hours": hours + shift,
            "sessions": rng.poisson(hours),
            "opened": rng.random(n) < 0.3,
        }
    )


def numpy_moments(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = frame[COLUMNS].to_numpy(np.float64)
    off = x - x.mean(axis=0)
    return np.array(len(x)), x.mean(axis=0), off.T @ off


def assert_same(a: Moments, b: Moments, rel: float = EXACT) -> None:
    pd.testing.assert_frame_equal(a.groups, b.groups, check_column_type=False)
    assert a.columns == b.columns
    for left, right in ((a.n, b.n), (a.mean, b.mean), (a.scatter, b.scatter)):
        size = np.abs(right).max()
        np.testing.assert_allclose(left, right, rtol=rel, atol=rel * size)


def test_every_group_equals_numpy_on_its_rows():
    frame = rows(500, seed=1)
    by = ["arm", "device"]
    m = moments.from_rows(frame, columns=COLUMNS, by=by)
    assert len(m.groups) == 6
    for i, labels in enumerate(m.groups.itertuples(index=False)):
        part = frame[(frame["arm"] == labels.arm) & (frame["device"] == labels.device)]
        n, mean, scatter = numpy_moments(part)
        assert m.n[i] == n
        np.testing.assert_allclose(m.mean[i], mean, rtol=EXACT)
        np.testing.assert_allclose(m.scatter[i], scatter, rtol=EXACT)
        np.testing.assert_allclose(m.cov[i], np.cov(part[COLUMNS].to_numpy(np.float64).T), rtol=EXACT)


@settings(max_examples=15, deadline=None)
@given(n=st.integers(2, 120), parts=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def test_merged_parts_equal_the_whole(n, parts, seed):
    frame = rows(n, seed)
    cut = np.random.default_rng(seed).integers(0, parts, n)
    pieces = [moments.from_rows(p, columns=COLUMNS, by=["arm", "device"]) for _, p in frame.groupby(cut)]
    merged = pieces[0]
    for piece in pieces[1:]:
        merged = merged + piece
    assert_same(merged, moments.from_rows(frame, columns=COLUMNS, by=["arm", "device"]))


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 200),
    seed=st.integers(0, 2**32 - 1),
    by=st.lists(st.sampled_from(["arm", "device", "week"]), unique=True),
)
def test_pooled_slices_equal_the_query_without_them(n, seed, by):
    frame = rows(n, seed)
    fine = moments.from_rows(frame, columns=COLUMNS, by=["arm", "device", "week"])
    assert_same(fine.pool(by), moments.from_rows(frame, columns=COLUMNS, by=by))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_rows_and_of_parts_does_not_matter(seed):
    frame = rows(80, seed)
    a, b = (moments.from_rows(p, columns=COLUMNS, by=["arm", "device"]) for p in (frame[:30], frame[30:]))
    assert_same(a + b, b + a)
    assert_same(
        moments.from_rows(frame.sample(frac=1, random_state=seed), columns=COLUMNS, by=["arm", "device"]), a + b
    )


def test_a_shift_by_a_million_leaves_the_covariances_alone():
    plain, shifted = rows(100_000, seed=3), rows(100_000, seed=3, shift=1e6)
    a = moments.from_rows(plain, columns=COLUMNS, by=["arm", "device"])
    b = moments.from_rows(shifted, columns=COLUMNS, by=["arm", "device"])
    np.testing.assert_allclose(b.scatter, a.scatter, rtol=1e-8)  # the shifted values themselves carry only 1e-10
    np.testing.assert_allclose(b.pool().scatter, a.pool().scatter, rtol=1e-8)
    np.testing.assert_allclose(b.mean[:, 0] - 1e6, a.mean[:, 0], rtol=1e-7)


def test_only_the_covariances_asked_for_are_computed():
    m = moments.from_table(
        ibis.memtable(rows(50, seed=4)),
        columns=COLUMNS,
        pairs=[("hours", "hours"), ("sessions", "hours")],
        by=["arm"],
    )
    known = np.array([[True, True, False], [True, False, False], [False, False, False]])
    assert (np.isfinite(m.scatter) == known).all()
    assert (np.isfinite((m + m).pool().scatter) == known).all()


def test_the_table_is_read_by_one_query(monkeypatch):
    backend = ibis.duckdb.connect()
    table = backend.create_table("units", rows(50, seed=5))
    asked = []
    execute = backend.execute
    monkeypatch.setattr(backend, "execute", lambda query, **options: asked.append(query) or execute(query, **options))
    both = [("hours", "sessions"), ("sessions", "hours")]
    m = moments.from_table(table, columns=COLUMNS, pairs=both, by=["arm", "device"])
    assert m.n.sum() == 50
    assert len(asked) == 1
    assert [c for c in asked[0].columns if c.startswith("cov")] == ["cov0_1"]


def test_a_single_row_scatters_by_zero_and_has_no_covariance():
    m = moments.from_rows(pd.DataFrame({"arm": ["a", "b", "b"], "x": [1.0, 2.0, 4.0]}), columns=["x"], by=["arm"])
    assert m.scatter[:, 0, 0].tolist() == [0, 2]
    assert np.isnan(m.cov[0, 0, 0])
    assert m.cov[1, 0, 0] == 2


def test_groups_that_only_one_side_has_are_kept_when_added():
    a = moments.from_rows(pd.DataFrame({"arm": ["a", "b"], "x": [1.0, 2.0]}), columns=["x"], by=["arm"])
    b = moments.from_rows(pd.DataFrame({"arm": ["b", "c"], "x": [4.0, 5.0]}), columns=["x"], by=["arm"])
    both = a + b
    assert both.groups["arm"].tolist() == ["a", "b", "c"]
    assert both.n.tolist() == [1, 2, 1]
    assert both.mean[:, 0].tolist() == [1, 3, 5]


def test_select_only_and_split_pick_without_changing_numbers():
    m = moments.from_rows(rows(300, seed=6), columns=COLUMNS, by=["arm", "device"])
    tv = m.select(device="tv")
    assert tv.groups["arm"].tolist() == ["control", "early"]
    narrow = tv.only(["opened", "hours"])
    np.testing.assert_array_equal(narrow.scatter[:, 0, 1], tv.scatter[:, 0, 2])
    np.testing.assert_array_equal(narrow.mean, tv.mean[:, [2, 0]])
    control, early = m.split("arm", ["control", "early"])
    assert_same(control + early, m.pool(["device"]))


def test_split_marks_a_group_without_rows():
    frame = pd.DataFrame({"arm": ["a", "b", "b"], "device": ["tv", "tv", "web"], "x": [1.0, 2.0, 3.0]})
    a, b = moments.from_rows(frame, columns=["x"], by=["arm", "device"]).split("arm", ["a", "b"])
    assert a.groups["device"].tolist() == b.groups["device"].tolist() == ["tv", "web"]
    assert a.n.tolist() == [1, 0]
    assert np.isnan(a.mean[1, 0])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hours": [1.0, np.nan, np.inf, -np.inf]}, "column 'hours' has 3 missing, NaN or infinite values in 4 rows"),
        ({"hours": [1.0, None, 3.0, 1e200]}, "column 'hours' has 2 missing"),
        ({"hours": ["a", "b", "c", "d"]}, "column 'hours' holds string, expected numbers"),
        ({"arm": ["a", None, "b", "b"]}, "group column 'arm' is missing in 1 rows"),
    ],
)
def test_bad_values_are_named_and_counted(change, sentence):
    frame = pd.DataFrame({"arm": ["a", "a", "b", "b"], "hours": [1.0, 2.0, 3.0, 4.0]}).assign(**change)
    with pytest.raises(DataError, match=sentence):
        moments.from_rows(frame, columns=["hours"], by=["arm"])


def test_nan_in_a_parquet_file_does_not_pass(tmp_path):
    pd.DataFrame({"arm": ["a", "b"], "hours": [1.0, 2.0]}).to_parquet(tmp_path / "u.parquet")
    backend = ibis.duckdb.connect()
    table = backend.read_parquet(tmp_path / "u.parquet")
    table = table.mutate(hours=ibis.ifelse(table["arm"] == "b", ibis.literal(float("nan")), table["hours"]))
    with pytest.raises(DataError, match="1 missing, NaN or infinite"):
        moments.from_table(table, columns=["hours"], pairs=[("hours", "hours")], by=["arm"])


def test_wrong_names_and_empty_tables_are_refused():
    frame = rows(20, seed=7)
    m = moments.from_rows(frame, columns=COLUMNS, by=["arm"])
    with pytest.raises(DataError, match="did you mean 'hours'"):
        moments.from_rows(frame, columns=["hour"], by=["arm"])
    with pytest.raises(DataError, match="'clicks'"):
        moments.from_table(ibis.memtable(frame), columns=["hours"], pairs=[("hours", "clicks")], by=[])
    with pytest.raises(DataError, match="did you mean 'early'"):
        m.select(arm="erly")
    with pytest.raises(DataError, match="no group column 'device'"):
        m.pool(["device"])
    with pytest.raises(DataError, match="no column"):
        m.only(["clicks"])
    with pytest.raises(DataError, match="same columns"):
        m + m.only(["hours"])
    with pytest.raises(DataError, match="no rows"):
        moments.from_rows(frame[:0], columns=COLUMNS, by=["arm"])


def test_labels_that_never_meet_are_refused():
    frame = pd.DataFrame({"arm": ["a", "b"], "device": ["tv", "web"], "x": [1.0, 2.0]})
    with pytest.raises(DataError, match="at once"):
        moments.from_rows(frame, columns=["x"], by=["arm", "device"]).select(arm="a", device="web")


def test_columns_named_like_the_querys_own_aliases_are_safe():
    frame = pd.DataFrame({"n": ["a", "b", "b"], "g0": [1.0, 2.0, 4.0], "mean0": [1.0, 0.0, 1.0]})
    m = moments.from_rows(frame, columns=["g0", "mean0"], by=["n"])
    assert m.groups["n"].tolist() == ["a", "b"]
    assert m.mean.tolist() == [[1, 1], [3, 0.5]]


def test_simulated_samples_are_groups_like_those_of_rows():
    rng = np.random.default_rng(5)
    x = rng.lognormal(0, 1, (3, 40, 2))
    batch = moments.from_samples([x[:2], x[2:]], columns=["hours", "sessions"], arm="early")
    frame = pd.DataFrame(x.reshape(-1, 2), columns=["hours", "sessions"])
    frame = frame.assign(arm="early", replay=np.repeat(np.arange(3), 40))
    assert_same(batch, moments.from_rows(frame, columns=["hours", "sessions"], by=["arm", "replay"]))


@pytest.mark.parametrize(("most", "queries"), [(10_000, 1), (12, 2), (9, 2), (1, 3)])
def test_each_attribute_is_read_as_if_alone_in_as_few_queries_as_will_do(monkeypatch, most, queries):
    frame, asked = rows(900, seed=6), []  # device 3 levels, week 3, land 4
    frame["land"] = np.random.default_rng(6).choice(["NO", "SE", "DK", "FI"], len(frame))
    once = moments.from_table
    monkeypatch.setattr(moments, "MOST_GROUPS", most)
    monkeypatch.setattr(moments, "from_table", lambda *a, **k: asked.append(k["by"]) or once(*a, **k))
    told = {"columns": COLUMNS, "pairs": list(combinations_with_replacement(COLUMNS, 2))}
    read = moments.by_each(ibis.memtable(frame), each=["week", "device", "land"], by=["arm"], **told)
    assert (list(read), len(asked)) == (["week", "device", "land"], queries)
    for name, found in read.items():
        assert_same(found, once(ibis.memtable(frame), by=["arm", name], **told))
    assert moments.by_each(ibis.memtable(frame), each=[], by=["arm"], **told) == {}


def test_many_columns_leave_room_for_fewer_groups(monkeypatch):
    asked = []
    once = moments.from_table
    monkeypatch.setattr(moments, "MOST_NUMBERS", 9 * 3**2)
    monkeypatch.setattr(moments, "from_table", lambda *a, **k: asked.append(k["by"]) or once(*a, **k))
    table = ibis.memtable(rows(300, seed=7))
    for columns in (COLUMNS, [*COLUMNS, "weeks"]):
        table = table.mutate(weeks=table.week)
        moments.by_each(table, each=["week", "device"], by=["arm"], columns=columns, pairs=[])
    assert asked == [["arm", "week", "device"], ["arm", "week"], ["arm", "device"]]


def test_an_attribute_that_is_not_there_or_lacks_labels_is_refused():
    frame = rows(50, seed=8)
    frame.loc[3, "device"] = None
    told = {"columns": ["hours"], "pairs": [], "by": ["arm"]}
    with pytest.raises(DataError, match="no column 'devise'; did you mean 'device'"):
        moments.by_each(ibis.memtable(frame), each=["devise"], **told)
    with pytest.raises(DataError, match="group column 'device' is missing in 1 rows"):
        moments.by_each(ibis.memtable(frame), each=["week", "device"], **told)


def test_arms_drawn_as_counts_have_the_moments_of_the_accounts_drawn():
    x = np.random.default_rng(3).gamma(2, 5, (40, 2))
    drawn = moments.from_draws(x, columns=["a", "b"], n=90, replicates=3, rng=np.random.default_rng(4), arm="t")
    rng = np.random.default_rng(4)
    for i in range(3):
        rows = x[rng.integers(40, size=90)]
        np.testing.assert_allclose(drawn.mean[i], rows.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(drawn.cov[i], np.cov(rows.T), rtol=1e-12)
    assert drawn.groups.to_dict("list") == {"arm": ["t"] * 3, "replay": [0, 1, 2]}
    assert (drawn.n == 90).all()
