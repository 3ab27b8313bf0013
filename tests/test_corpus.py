"""The archive of past launches: agreement of true effects, told apart from agreement of noise and of people."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import corpus
from helpers.errors import ParameterError


@pytest.fixture(scope="module")
def archive():
    return corpus.past()


def drawn(rng, launches, agreement, shared):
    """Draw effects of two metrics that agree by so much, and errors that agree by `shared`."""
    true = rng.multivariate_normal([0, 0], [[1, agreement], [agreement, 1]], launches)
    error = np.array([[1.0, shared], [shared, 1.0]])
    return true + rng.multivariate_normal([0, 0], error, launches), np.broadcast_to(error, (launches, 2, 2))


@pytest.mark.parametrize(("agreement", "shared"), [(0.8, 0.0), (0.0, 0.9), (-0.5, 0.9), (0.9, -0.9)])
def test_agreement_of_true_effects_is_found_under_noise_that_agrees_otherwise(agreement, shared):
    effects, errors = drawn(np.random.default_rng(1), 40_000, agreement, shared)
    assert corpus.correlation(effects, errors)[0] == pytest.approx(agreement, abs=0.03)
    plain = np.corrcoef(effects.T)[0, 1]
    assert plain == pytest.approx((agreement + shared) / 2, abs=0.02)  # half the variance is noise


@given(scale=st.floats(0.01, 100), sign=st.sampled_from([-1, 1]), seed=st.integers(0, 1000))
def test_agreement_does_not_depend_on_units(scale, sign, seed):
    effects, errors = drawn(np.random.default_rng(seed), 200, 0.6, 0.2)
    d = np.array([scale * sign, 1.0])
    again = corpus.correlation(effects * d, errors * np.outer(d, d))
    assert again[0] == pytest.approx(sign * corpus.correlation(effects, errors)[0], abs=1e-9)


def test_where_nothing_is_left_but_noise_there_is_no_agreement_to_tell():
    effects, errors = drawn(np.random.default_rng(2), 500, 0.0, 0.0)
    assert np.isnan(corpus.correlation(effects, 5 * errors)).all()


def test_the_interval_contains_what_the_launches_really_did(archive):
    found = corpus.validity(archive)
    truth = np.corrcoef(archive.truth.T)[-1, :-1]
    inside = found["low"].le(truth + 1e-9) & found["high"].ge(truth - 1e-9)
    assert inside.sum() >= len(truth) - 1  # seven intervals at 95 %
    assert (found["low"] <= found["validity"]).all()


def test_a_large_archive_finds_the_truth_and_keeping_the_noise_does_not():
    large = corpus.past(launches=3_000, seed=5)
    truth = np.corrcoef(large.truth.T)[-1, :-1]
    assert corpus.correlation(large.effects, large.errors) == pytest.approx(truth, abs=0.15)
    i = large.names.index("Hours per account, four weeks")
    assert corpus.validity(large)["plain"][i] < truth[i] - 0.2


def test_people_who_watch_more_stay_more_than_added_hours_make_them(archive):
    among_users, _ = corpus.slopes(archive)
    _, among_launches = corpus.slopes(corpus.past(launches=3_000, seed=5))
    assert among_users < among_launches < 0  # planted: part of the link is keenness (Churn.causal)
    assert np.diff(archive.fifths[:, 1]).max() < 0


def test_equal_seeds_give_equal_archives_and_the_cache_is_used(archive):
    again = corpus.past()
    assert np.array_equal(again.effects, archive.effects)


def test_an_archive_too_small_to_read_is_refused():
    with pytest.raises(ParameterError, match="at least 10"):
        corpus.past(launches=3)
