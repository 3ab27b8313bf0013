"""Whether people are glad of it: what they choose, say and regret, and what it costs them."""

from __future__ import annotations

from helpers.metrics.viewing import MINUTES, PLAYS, SESSIONS
from helpers.metrics.words import After, Measure, Metric, where

_VIEWED = where(watch_minutes=("ge", 5))
_VIEWS = Measure(table="plays", agg="count", where=_VIEWED)
_AFTER_A_VIEW = After(table="plays", hours=168, on=("title",), where=_VIEWED)
_DELIBERATE = where(initiation=("not_in", ("autoplay_next", "autoplay_preview")))
_TO_VALUE = Measure(
    table="plays",
    agg="until",
    where=where(completed_share=("ge", 0.9)),
    also=(Measure(table="feedback", agg="until", where=where(thumb="up")),),
)

SATISFACTION = (
    Metric(
        name="intentional_start_share",
        title="Plays that somebody chose",
        kind="ratio",
        numerator=Measure(table="plays", agg="count", where=_DELIBERATE),
        denominator=PLAYS,
        better="higher",
        unit="share",
        definition="Plays not begun by autoplay, over all plays.",
    ),
    Metric(
        name="intentional_hours_share",
        title="Hours that somebody chose",
        kind="ratio",
        numerator=Measure(table="plays", agg="sum", column="watch_minutes", where=_DELIBERATE),
        denominator=MINUTES,
        better="higher",
        unit="share",
        definition="Hours of plays not begun by autoplay, over all hours. The rest is what autoplay brought.",
    ),
    Metric(
        name="survey_score",
        title="Survey score of those who answered",
        kind="ratio",
        numerator=Measure(table="surveys", agg="sum", column="score"),
        denominator=Measure(table="surveys", agg="count", column="score"),
        better="higher",
        unit="points",
        covariates=(),
        definition="Mean score over the answers. It speaks for those who answered, not for those who were silent.",
    ),
    Metric(
        name="survey_top_box",
        title="Answers with the best score",
        kind="ratio",
        numerator=Measure(table="surveys", agg="count", where=where(score=5)),
        denominator=Measure(table="surveys", agg="count", column="score"),
        better="higher",
        unit="share",
        covariates=(),
        definition="Answers with the score 5 over all answers.",
    ),
    Metric(
        name="survey_response_rate",
        title="Surveys that were answered",
        kind="ratio",
        numerator=Measure(table="surveys", agg="count", column="score"),
        denominator=Measure(table="surveys", agg="count"),
        better="higher",
        unit="share",
        covariates=(),
        definition="Answers over surveys shown. Where the arms differ here, their scores come from different people.",
    ),
    Metric(
        name="net_promoter_score",
        title="Net promoter score",
        kind="ratio",
        numerator=Measure(
            table="surveys",
            agg="count",
            where=where(nps=("ge", 9)),
            scale=100,
            also=(Measure(table="surveys", agg="count", where=where(nps=("le", 6)), scale=-1),),
        ),
        denominator=Measure(table="surveys", agg="count", column="nps"),
        better="higher",
        unit="points",
        covariates=(),
        definition="Answers of 9 and 10 less those of 0 to 6, in per cent of the answers to how likely one is to "
        "recommend the service.",
    ),
    Metric(
        name="regret_rate",
        title="Views rated down afterwards",
        kind="ratio",
        numerator=Measure(
            table="feedback",
            agg="count",
            where=where(thumb="down"),
            after=_AFTER_A_VIEW,
        ),
        denominator=_VIEWS,
        better="lower",
        unit="share",
        covariates=(),
        definition="Thumbs down at most seven days after the account played the title for at least five minutes, over "
        "all plays of at least five minutes. Titles rated down unseen are not regretted.",
    ),
    Metric(
        name="hidden_after_view_rate",
        title="Views hidden afterwards",
        kind="ratio",
        numerator=Measure(
            table="feedback",
            agg="count",
            where=where(hide=True),
            after=_AFTER_A_VIEW,
        ),
        denominator=_VIEWS,
        better="lower",
        unit="share",
        covariates=(),
        definition="Titles hidden at most seven days after the account played them for at least five minutes, over all "
        "plays of at least five minutes. Hiding what one has not seen is tidying up, not regret.",
    ),
    Metric(
        name="next_day_return",
        title="Active days that were followed by another",
        kind="ratio",
        numerator=Measure(table="sessions", agg="returns"),
        denominator=Measure(table="sessions", agg="days_but_last"),
        better="higher",
        unit="share",
        definition="Days on which an account had a session and had one on the next day too, over its days with a "
        "session whose next day lies in the window. A day is 24 hours from the account's assignment, not a date.",
    ),
)

OF_THE_CUSTOMER = (
    Metric(
        name="effort_score",
        title="Effort that customers report",
        kind="ratio",
        numerator=Measure(table="surveys", agg="sum", column="effort"),
        denominator=Measure(table="surveys", agg="count", column="effort"),
        better="lower",
        unit="points",
        covariates=(),
        definition="Mean answer, from 1 (none) to 7, to how much effort it took to find something to watch.",
    ),
    Metric(
        name="effort_index",
        title="Seconds of effort per session",
        kind="ratio",
        numerator=Measure(
            table="sessions",
            agg="sum",
            column="seconds_to_first_play",
            also=(
                Measure(table="sessions", agg="count", where=where(seconds_to_first_play=("missing", True)), scale=300),
                Measure(table="plays", agg="count", where=where(initiation="search"), scale=30),
            ),
        ),
        denominator=SESSIONS,
        better="lower",
        unit="s",
        definition="Seconds before the first play, 300 for a session that was given up without one, and 30 for each "
        "play that had to be searched for, over all sessions. The three prices are a convention; set your own.",
    ),
    Metric(
        name="time_to_value",
        title="Days until the first title that was liked or finished",
        kind="time_to_event",
        numerator=_TO_VALUE,
        better="lower",
        unit="days",
        covariates=(),
        definition="Days from assignment to the first play that covers at least 90 % of its title, or the first thumb "
        "up, whichever is earlier; accounts without either are still waiting at the end of the window.",
    ),
    Metric(
        name="days_to_value",
        title="Days without a title that was liked or finished",
        kind="mean",
        numerator=_TO_VALUE,
        better="lower",
        unit="days",
        covariates=(),
        definition="Days from assignment to the first play that covers at least 90 % of its title, or the first thumb "
        "up, and the whole window where neither came: the mean wait within the window, over all assigned accounts.",
    ),
    Metric(
        name="feature_repeat_use",
        title="Accounts that came back for recommended titles",
        kind="proportion",
        numerator=Measure(table="plays", agg="days", where=where(shadow_recommended=True), at_least=2),
        better="higher",
        unit="share",
        definition="Accounts that played titles of the new ranking on at least two days, over all assigned accounts. "
        "The control arm is scored by the same ranking, so that returning is not counted in one arm alone.",
    ),
)
