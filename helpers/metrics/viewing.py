"""How much is watched, how it is found, and what a new title adds."""

from __future__ import annotations

from helpers.metrics.words import Measure, Metric, where

HOURS = Measure(table="plays", agg="sum", column="watch_minutes", scale=1 / 60)
MINUTES = Measure(table="plays", agg="sum", column="watch_minutes")
PLAYS = Measure(table="plays", agg="count")
SESSIONS = Measure(table="sessions", agg="count")
ACTIVE = Measure(table="sessions", agg="any")
_SHOW = where(is_launch_title=True)

NORTH_STAR = (
    Metric(
        name="hours_per_account_week",
        title="Hours watched per account and week",
        kind="mean",
        numerator=HOURS,
        better="higher",
        unit="h/week",
        per_week=True,
        definition="All hours played, over all assigned accounts and the weeks of the window. Accounts and weeks "
        "without viewing count as zero, so that the denominator cannot move with the treatment.",
    ),
    Metric(
        name="hours_per_active_account_week",
        title="Hours watched per active account and week",
        kind="ratio",
        numerator=HOURS,
        denominator=ACTIVE,
        better="higher",
        unit="h/week",
        per_week=True,
        definition="All hours played, over the accounts with a session in the window and its weeks. A part of the "
        "north star, not a substitute: whoever the launch wakes enters the denominator.",
    ),
    Metric(
        name="active_account_share",
        title="Accounts that came at all",
        kind="proportion",
        numerator=ACTIVE,
        better="higher",
        unit="share",
        definition="Accounts with at least one session in the window, over all assigned accounts.",
    ),
    Metric(
        name="sessions_per_active_account_week",
        title="Sessions per active account and week",
        kind="ratio",
        numerator=SESSIONS,
        denominator=ACTIVE,
        better="higher",
        unit="per week",
        per_week=True,
        definition="Sessions over the accounts with at least one, and the weeks of the window.",
    ),
)

SUPPORTING = (
    Metric(
        name="discovery_rate",
        title="Plays of titles that the new ranking recommends",
        kind="ratio",
        numerator=Measure(table="plays", agg="count", where=where(shadow_recommended=True)),
        denominator=PLAYS,
        better="higher",
        unit="share",
        definition="Plays of titles that the new ranking puts before the account, over all plays. The control arm "
        "is scored by the same ranking in the shadow, so that the metric means the same in both arms.",
    ),
    Metric(
        name="browse_to_play",
        title="Sessions in which playing starts within five minutes",
        kind="ratio",
        numerator=Measure(table="sessions", agg="count", where=where(seconds_to_first_play=("le", 300))),
        denominator=SESSIONS,
        better="higher",
        unit="share",
        definition="Sessions with a first play within 300 seconds, over all sessions. A session that never "
        "starts playing counts as one that did not.",
    ),
    Metric(
        name="session_minutes",
        title="Minutes watched per session",
        kind="ratio",
        numerator=MINUTES,
        denominator=SESSIONS,
        better="higher",
        unit="min",
        definition="Minutes played over all sessions, those without a play included. Heavy viewers, who have most of "
        "the sessions, weigh most.",
    ),
    Metric(
        name="session_minutes_by_account",
        title="Minutes watched per session of the average account",
        kind="ratio",
        numerator=Measure(table="plays", agg="sum", column="watch_minutes", per=SESSIONS),
        denominator=ACTIVE,
        better="higher",
        unit="min",
        definition="Each account's own minutes per session, averaged over the accounts with a session: every one of "
        "them weighs the same.",
    ),
    Metric(
        name="opens_per_account_week",
        title="Sessions per account and week",
        kind="count",
        numerator=SESSIONS,
        better="higher",
        unit="per week",
        per_week=True,
        definition="Sessions over all assigned accounts and the weeks of the window; accounts without one count "
        "as zero. A session is one opening of the app: the log joins openings that no pause separates.",
    ),
    Metric(
        name="app_opens_per_account_week",
        title="Visits to the app per account and week",
        kind="count",
        numerator=Measure(table="app_opens", agg="count", where=where(background=False), gap_minutes=30),
        better="higher",
        unit="per week",
        per_week=True,
        definition="Openings of the app by a person, at least 30 minutes after the account's previous one, over all "
        "assigned accounts and the weeks of the window. What the app does unseen in the background is left out.",
    ),
    Metric(
        name="distinct_titles_per_account",
        title="Different titles per account",
        kind="count",
        numerator=Measure(table="plays", agg="nunique", column="title", where=where(watch_minutes=("ge", 5))),
        better="higher",
        unit="titles",
        definition="Different titles played for at least five minutes, over all assigned accounts; those without any "
        "count as zero. It grows with the hours alone: read it beside titles per ten hours.",
    ),
    Metric(
        name="titles_per_ten_hours",
        title="Different titles per ten hours watched",
        kind="ratio",
        numerator=Measure(table="plays", agg="nunique", column="title", where=where(watch_minutes=("ge", 5)), scale=10),
        denominator=HOURS,
        better="higher",
        unit="titles",
        definition="Different titles of each account, summed, over ten hours watched: diversity apart from volume. "
        "It falls when the same people watch longer, because they return to what they know.",
    ),
)

OF_A_TITLE = (
    Metric(
        name="show_reach",
        title="Accounts that were shown the launch title",
        kind="proportion",
        numerator=Measure(table="impressions", agg="any", where=_SHOW),
        better="higher",
        unit="share",
        covariates=(),  # the control has none; adjusting would give it some
        definition="Assigned accounts with an impression of the launch title, over all assigned accounts.",
    ),
    Metric(
        name="show_start_rate",
        title="Accounts that started the launch title",
        kind="proportion",
        numerator=Measure(table="plays", agg="any", where=_SHOW),
        better="higher",
        unit="share",
        covariates=(),
        definition="Assigned accounts with at least one play of the launch title, over all assigned accounts.",
    ),
    Metric(
        name="show_pilot_completion",
        title="Accounts that finished the first episode",
        kind="proportion",
        numerator=Measure(table="plays", agg="any", where=(*_SHOW, *where(episode=1, completed_share=("ge", 0.9)))),
        better="higher",
        unit="share",
        covariates=(),
        definition="Assigned accounts that played at least 90 % of the launch title's first episode, over all assigned "
        "accounts.",
    ),
    *(
        Metric(
            name=f"show_episode_{n}_rate",
            title=f"Accounts that reached episode {n}",
            kind="proportion",
            numerator=Measure(table="plays", agg="any", where=(*_SHOW, *where(episode=("ge", n)))),
            better="higher",
            unit="share",
            covariates=(),
            definition=f"Assigned accounts that played episode {n} of the launch title or a later one, over all "
            "assigned accounts.",
        )
        for n in (2, 4, 8)
    ),
    Metric(
        name="show_completion",
        title="Plays of the launch title that reached the end",
        kind="ratio",
        numerator=Measure(table="plays", agg="count", where=(*_SHOW, *where(completed_share=("ge", 0.9)))),
        denominator=Measure(table="plays", agg="count", where=_SHOW),
        better="higher",
        unit="share",
        covariates=(),
        definition="Plays of the launch title that cover at least 90 % of the episode, over all its plays. An arm that "
        "cannot watch the title has no such share.",
    ),
    Metric(
        name="show_repeat_rate",
        title="Accounts that came back to the launch title",
        kind="proportion",
        numerator=Measure(table="plays", agg="days", where=_SHOW, at_least=2),
        better="higher",
        unit="share",
        covariates=(),
        definition="Assigned accounts that played the launch title on at least two days, over all assigned accounts.",
    ),
    Metric(
        name="show_hours_per_account",
        title="Hours of the launch title per account",
        kind="mean",
        numerator=Measure(table="plays", agg="sum", column="watch_minutes", where=_SHOW, scale=1 / 60),
        better="higher",
        unit="h",
        covariates=(),
        definition="Hours played of the launch title over all assigned accounts. They are not extra hours: most "
        "of them replace other viewing.",
    ),
    Metric(
        name="other_hours_per_account",
        title="Hours of other titles per account",
        kind="mean",
        numerator=Measure(
            table="plays", agg="sum", column="watch_minutes", where=where(is_launch_title=False), scale=1 / 60
        ),
        better="higher",
        unit="h",
        definition="Hours played of all titles but the launch title over all assigned accounts. By how much they fall "
        "is what the launch title displaces.",
    ),
    Metric(
        name="net_hours_per_account",
        title="Hours of all titles per account",
        kind="mean",
        numerator=HOURS,
        better="higher",
        unit="h",
        definition="Hours played over all assigned accounts. Its change is what the launch title adds net of what it "
        "displaces.",
    ),
)
