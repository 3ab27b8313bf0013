"""Metrics as data: what is counted, in which table, over which window, and which direction is good.

`words` is the vocabulary, `catalogue` the streaming metrics written in it. A launch file uses the same words.
"""

from helpers.metrics.catalogue import CATALOGUE, FACTORS, get
from helpers.metrics.words import (
    UNITS_TABLE,
    After,
    Aggregation,
    Bound,
    Condition,
    Kind,
    Measure,
    Metric,
    Operator,
    Scalar,
    Window,
)

__all__ = [
    "CATALOGUE",
    "FACTORS",
    "UNITS_TABLE",
    "After",
    "Aggregation",
    "Bound",
    "Condition",
    "Kind",
    "Measure",
    "Metric",
    "Operator",
    "Scalar",
    "Window",
    "get",
]
