"""Metrics on columns of a table with a row per account, as several tests need them."""

from helpers.metrics import UNITS_TABLE, Measure, Metric


def column(name):
    """Measure a column as it stands."""
    return Measure(table=UNITS_TABLE, agg="value", column=name)


def metric(kind="mean", *, numerator="y", denominator=None, covariates=(), **more):
    """Describe a metric by the names of its columns."""
    return Metric(
        name="m",
        title="M",
        kind=kind,
        numerator=column(numerator),
        denominator=None if denominator is None else column(denominator),
        better="higher",
        unit="h",
        covariates=tuple(column(c) for c in covariates),
        **more,
    )
