"""What must not break: people stay, find help, meet a service that works, and small creators are seen."""

from __future__ import annotations

from helpers.metrics.viewing import MINUTES, PLAYS, SESSIONS
from helpers.metrics.words import Measure, Metric, Operator, Scalar, where

_TAIL = where(creator_tier="tail")


def _cancelled(**kind: Scalar | tuple[Operator, Scalar]) -> Measure:
    return Measure(table="cancellations", agg="any", where=where(**kind))


def _quantiles(name: str, title: str, table: str, column: str, unit: str, *shares: float) -> tuple[Metric, ...]:
    """Describe quantiles of a column over all sessions that have a value."""
    return tuple(
        Metric(
            name=f"{name}_p{100 * q:.0f}",
            title=f"{title}, {'median' if q == 0.5 else f'{100 * q:.0f}th percentile'}",
            kind="quantile",
            quantile=q,
            numerator=Measure(table=table, agg="each", column=column),
            better="lower",
            unit=unit,
            covariates=(),
            definition=f"The value that {100 * q:.0f} % of an arm's {table} stay below, among those with a value.",
        )
        for q in shares
    )


GUARDRAILS = (
    Metric(
        name="churn_28d",
        title="Accounts that cancelled within 28 days",
        kind="proportion",
        numerator=_cancelled(),
        better="lower",
        unit="share",
        window_days=28,
        covariates=(),
        definition="Accounts with a cancellation, of their own will or for want of payment, in the 28 days from "
        "assignment, over all assigned accounts.",
    ),
    Metric(
        name="voluntary_churn_28d",
        title="Accounts that chose to leave within 28 days",
        kind="proportion",
        numerator=_cancelled(kind="voluntary"),
        better="lower",
        unit="share",
        window_days=28,
        covariates=(),
        definition="Accounts that cancelled of their own will in the 28 days from assignment, over all assigned "
        "accounts.",
    ),
    Metric(
        name="payment_churn_28d",
        title="Accounts lost for want of payment within 28 days",
        kind="proportion",
        numerator=_cancelled(kind="payment"),
        better="lower",
        unit="share",
        window_days=28,
        covariates=(),
        definition="Accounts that ended because a payment failed in the 28 days from assignment, over all assigned "
        "accounts. A launch hardly moves it; where it does, look at the arms before the effect.",
    ),
    Metric(
        name="net_churn_28d",
        title="Accounts that cancelled within 28 days and stayed away",
        kind="proportion",
        numerator=_cancelled(resubscribed_at=("missing", True)),
        better="lower",
        unit="share",
        window_days=28,
        covariates=(),
        definition="Accounts with a cancellation in the 28 days from assignment that the data do not show coming back, "
        "over all assigned accounts.",
    ),
    Metric(
        name="time_to_cancel",
        title="Days until cancellation",
        kind="time_to_event",
        numerator=Measure(table="cancellations", agg="until"),
        better="higher",
        unit="days",
        covariates=(),
        definition="Days from assignment to the first cancellation, and the whole window where none came: the "
        "restricted mean survival time. It sees when people leave, not only that they do; read it beside the rate.",
    ),
    Metric(
        name="tickets_per_account",
        title="Support tickets per account",
        kind="count",
        numerator=Measure(table="tickets", agg="count"),
        better="lower",
        unit="tickets",
        definition="Tickets over all assigned accounts; accounts without one count as zero.",
    ),
    Metric(
        name="finding_tickets_per_1000",
        title="Tickets about finding titles, per 1,000 accounts",
        kind="count",
        numerator=Measure(table="tickets", agg="count", where=where(topic="finding titles"), scale=1000),
        better="lower",
        unit="tickets",
        covariates=(),
        definition="Tickets with the topic 'finding titles' over all assigned accounts, times 1,000: are people lost?",
    ),
    Metric(
        name="crash_rate",
        title="Sessions with a crash",
        kind="ratio",
        numerator=Measure(table="sessions", agg="count", where=where(crashed=True)),
        denominator=SESSIONS,
        better="lower",
        unit="share",
        definition="Sessions in which the app crashed over all sessions.",
    ),
    Metric(
        name="crashed_account_share",
        title="Accounts with a crash",
        kind="proportion",
        numerator=Measure(table="sessions", agg="any", where=where(crashed=True)),
        better="lower",
        unit="share",
        covariates=(),
        definition="Accounts with at least one crash over all assigned accounts. It rises with the sessions too.",
    ),
    *_quantiles(
        "seconds_to_first_play",
        "Time to the first play",
        "sessions",
        "seconds_to_first_play",
        "s",
        0.5,
        0.75,
        0.95,
        0.99,
    ),
    Metric(
        name="never_played_share",
        title="Sessions without a play",
        kind="ratio",
        numerator=Measure(table="sessions", agg="count", where=where(seconds_to_first_play=("missing", True))),
        denominator=SESSIONS,
        better="lower",
        unit="share",
        definition="Sessions that ended before anything was played, over all sessions. The times to the first play are "
        "those of the others: read them together.",
    ),
    Metric(
        name="tail_creator_share",
        title="Viewing that small creators get",
        kind="ratio",
        numerator=Measure(table="plays", agg="sum", column="watch_minutes", where=_TAIL),
        denominator=MINUTES,
        better="higher",
        unit="share",
        definition="Minutes played of titles by creators of the tail, over all minutes played.",
    ),
    Metric(
        name="tail_impression_share",
        title="Visibility that small creators get",
        kind="ratio",
        numerator=Measure(table="impressions", agg="count", where=_TAIL),
        denominator=Measure(table="impressions", agg="count"),
        better="higher",
        unit="share",
        definition="Impressions of titles by creators of the tail, over all impressions.",
    ),
    Metric(
        name="creator_gini",
        title="Inequality of viewing among creators",
        kind="gini",
        numerator=MINUTES,
        over="creator",
        better="lower",
        unit="",
        covariates=(),
        definition="Gini coefficient of the minutes that an arm's accounts played of each creator of the catalogue: 0 "
        "where all get the same, near 1 where one gets everything. Both arms are read at as many accounts as the "
        "smaller has, because with fewer accounts chance makes creators look less equal.",
    ),
    Metric(
        name="catalogue_coverage",
        title="Titles that were watched at all",
        kind="coverage",
        numerator=PLAYS,
        over="title",
        better="higher",
        unit="share",
        covariates=(),
        definition="Share of all titles that a quarter of the smaller arm's accounts play on average. The number "
        "of accounts is the same for both arms, because more of them reach more titles.",
    ),
)

OPERATIONAL = (
    Metric(
        name="start_failure_rate",
        title="Sessions in which playing failed to start",
        kind="ratio",
        numerator=Measure(table="sessions", agg="count", where=where(start_failed=True)),
        denominator=SESSIONS,
        better="lower",
        unit="share",
        definition="Sessions with a failed start over all sessions.",
    ),
    Metric(
        name="play_delay_ms",
        title="Delay between pressing play and the first picture",
        kind="ratio",
        numerator=Measure(table="sessions", agg="sum", column="play_delay_ms"),
        denominator=Measure(table="sessions", agg="count", column="play_delay_ms"),
        better="lower",
        unit="ms",
        definition="Mean play delay over the sessions that have one. A mean hides a slow tail.",
    ),
    *_quantiles("play_delay_ms", "Play delay", "sessions", "play_delay_ms", "ms", 0.5, 0.95, 0.99),
    Metric(
        name="rebuffer_ratio",
        title="Share of playing time spent waiting",
        kind="ratio",
        numerator=Measure(table="sessions", agg="sum", column="rebuffer_ratio"),
        denominator=Measure(table="sessions", agg="count", column="rebuffer_ratio"),
        better="lower",
        unit="share",
        definition="Mean over the sessions with a play of the share of time in which the picture stood still.",
    ),
    *_quantiles(
        "rebuffer_ratio", "Share of playing time spent waiting", "sessions", "rebuffer_ratio", "share", 0.95, 0.99
    ),
    *_quantiles("recommendation_ms", "Time to recommendations", "sessions", "recommendation_ms", "ms", 0.5, 0.95, 0.99),
    Metric(
        name="recommendation_coverage",
        title="Titles that were recommended at all",
        kind="coverage",
        numerator=Measure(table="impressions", agg="count"),
        over="title",
        better="higher",
        unit="share",
        covariates=(),
        definition="Share of all titles that a quarter of the smaller arm's accounts are shown on average. The "
        "number of accounts is the same for both arms, because more of them reach more titles.",
    ),
)
